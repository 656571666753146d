//! A thread with an inbox that ends when nobody can write to it any more.

use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::store::StoreError;
use crate::store::sqlite::channel;

/// The sending side. Dropping it lets the thread finish what it was told, and waits for that.
pub(super) struct Worker<M> {
    inbox: Option<mpsc::Sender<M>>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Send + 'static> Worker<M> {
    /// Starts the thread.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(mpsc::Receiver<M>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (inbox, received) = channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(received))
            .map_err(|error| StoreError::from_io("starting a thread for", name.as_ref(), &error))?;
        Ok(Self { inbox: Some(inbox), thread: Some(thread) })
    }

    /// Hands a message over; waits while the inbox is full.
    pub(super) async fn send(&self, message: M) -> Result<(), StoreError> {
        match &self.inbox {
            Some(inbox) => inbox.send(message).await.map_err(|_| StoreError::Closed),
            None => Err(StoreError::Closed),
        }
    }

    /// Messages that wait in the inbox.
    #[cfg(test)]
    pub(super) fn backlog(&self) -> usize {
        self.inbox.as_ref().map_or(0, |inbox| inbox.max_capacity() - inbox.capacity())
    }
}

impl<M> Drop for Worker<M> {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) =
            self.thread.take().filter(|t| t.thread().id() != thread::current().id())
        {
            // Its panic, if it had one, was reported when it happened.
            let _ = thread.join();
        }
    }
}
