//! The thread that reads: bodies, due messages, books. It never waits for a commit.

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;
use crate::store::sqlite::connection::{Opening, Trouble};

/// Something to be read: answers by itself and says whether the connection can still be used.
pub(super) type Question =
    Box<dyn FnOnce(Result<&Connection, StoreError>, &Opening) -> Health + Send>;

/// What a question found of its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Fine,
    Broken,
}

/// The reading side of the engine.
pub(super) struct Reader {
    opening: Opening,
    connection: Option<Connection>,
}

impl Reader {
    pub(super) fn open(opening: Opening) -> Result<Self, StoreError> {
        let connection = Some(opening.reader()?);
        Ok(Self { opening, connection })
    }

    /// Answers until nobody can ask any more.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Question>) {
        while let Some(question) = inbox.blocking_recv() {
            let connection = match self.connection.take() {
                Some(connection) => Ok(connection),
                None => self.opening.reader(),
            };
            match connection {
                Ok(connection) => {
                    let health = question(Ok(&connection), &self.opening);
                    self.connection = (health == Health::Fine).then_some(connection);
                }
                Err(error) => {
                    question(Err(error), &self.opening);
                }
            }
        }
    }
}

/// Makes a question that runs in a transaction of its own and answers `waiter`.
pub(super) fn question<T, Q>(
    question: Q,
    waiter: oneshot::Sender<Result<T, StoreError>>,
) -> Question
where
    T: Send + 'static,
    Q: FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
{
    Box::new(move |connection, opening| {
        if waiter.is_closed() {
            return Health::Fine;
        }
        let answer = connection.map_err(Trouble::Store).and_then(|connection| {
            let transaction =
                rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
            let answer = question(&transaction)?;
            transaction.finish()?;
            Ok(answer)
        });
        let health = match &answer {
            Err(trouble) if trouble.is_fatal() => Health::Broken,
            _ => Health::Fine,
        };
        // Whoever asked may have gone.
        let _ = waiter.send(answer.map_err(|trouble| trouble.into_store_error(opening.path())));
        health
    })
}
