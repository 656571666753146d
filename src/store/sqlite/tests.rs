//! The engine under trouble: full disks at every size, work that fails beside work that does not,
//! commits that fail, damaged records, older databases.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use rusqlite::Connection;

use crate::base::{QueueId, Timestamp};
use crate::mail::{BodyType, Class, Envelope, ForwardPath, Outcome, Phase, ReversePath, Status};
use crate::store::directory::DataDir;
use crate::store::record::Submission;
use crate::store::sqlite::connection::Opening;
use crate::store::sqlite::{Engine, MessageRows, Trouble, schema};
use crate::store::{Body, StoreError};

const START: Timestamp = Timestamp::from_millis(1_795_436_435_000);

struct Home {
    _root: tempfile::TempDir,
    directory: DataDir,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::open(&root.path().join("data")).unwrap();
        directory.prepare_database().unwrap();
        Self { _root: root, directory }
    }

    fn database(&self) -> PathBuf {
        self.directory.database()
    }

    fn open(&self) -> Engine {
        Engine::open(&self.directory).unwrap()
    }
}

fn submission(length: usize) -> Submission {
    Submission {
        id: QueueId::generate(START),
        account: "a@example.com".to_owned(),
        credential: None,
        received_at: START,
        next_attempt_at: START,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            forward_paths: vec![
                ForwardPath::parse("b@example.com").unwrap(),
                ForwardPath::parse("c@example.com").unwrap(),
            ],
            body: BodyType::SevenBit,
            smtputf8: false,
        },
        prologue: Vec::new(),
        body: Body::from(Bytes::from(vec![b'x'; length])),
        first_outcomes: Vec::new(),
        attempts: 0,
    }
}

async fn submit(engine: &Engine, submission: Submission) -> Result<(), StoreError> {
    let weight = submission.body.len();
    engine.write(weight, move |c| MessageRows(c).submit(&submission)).await
}

/// The ids of all messages that are due; every one of them is read to its end.
async fn whole_messages(engine: &Engine) -> Vec<QueueId> {
    engine
        .read(|c| {
            let rows = MessageRows(c);
            rows.audit()?;
            let (due, damaged) = rows.due("a@example.com", START, &[], usize::MAX)?;
            assert!(damaged.is_empty());
            for message in &due {
                let (mut position, mut read) = (0, 0);
                while let (Some(chunk), _) = rows.chunk(message.id, position)? {
                    position += 1;
                    read += chunk.len() as u64;
                }
                assert_eq!(read, message.size);
            }
            Ok(due.into_iter().map(|message| message.id).collect())
        })
        .await
        .unwrap()
}

/// Keeps the writer busy until told otherwise, so that what follows waits together.
struct Stopper(std::sync::mpsc::Sender<()>);

impl Stopper {
    async fn stop(engine: &Arc<Engine>) -> Self {
        let (go, wait) = std::sync::mpsc::channel();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let engine = Arc::clone(engine);
        let mut started = Some(started);
        tokio::spawn(async move {
            engine
                .write(0, move |_| {
                    if let Some(started) = started.take() {
                        started.send(()).unwrap();
                    }
                    wait.recv().unwrap();
                    // Nothing to commit: the writer rolls back.
                    Err::<(), _>(StoreError::Closed.into())
                })
                .await
        });
        has_started.await.unwrap();
        Self(go)
    }

    fn go(self) {
        self.0.send(()).unwrap();
    }
}

/// Runs the futures until each waits for its answer, then lets the writer go on and collects.
async fn together<T: Send + 'static>(
    engine: &Arc<Engine>,
    futures: Vec<impl Future<Output = Result<T, StoreError>> + Send + 'static>,
) -> Vec<Result<T, StoreError>> {
    let stopper = Stopper::stop(engine).await;
    let count = futures.len();
    let tasks: Vec<_> = futures.into_iter().map(|future| tokio::spawn(future)).collect();
    while engine.writer_backlog() < count {
        tokio::task::yield_now().await;
    }
    stopper.go();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// A future that does `work` in the engine's next transaction.
fn write<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnMut(&Connection) -> Result<T, Trouble> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>> {
    let engine = Arc::clone(engine);
    Box::pin(async move { engine.write(0, work).await })
}

fn write_submission(
    engine: &Arc<Engine>,
    submission: Submission,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>> {
    write(engine, move |c| MessageRows(c).submit(&submission))
}

#[tokio::test]
async fn all_that_wait_share_one_commit() {
    let home = Home::new();
    let engine = Arc::new(home.open());
    let before = engine.commits();
    let all = (0..64).map(|_| write_submission(&engine, submission(4_096))).collect();
    let answers = together(&engine, all).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(engine.commits() - before, 1);
    assert_eq!(whole_messages(&engine).await.len(), 64);
}

#[tokio::test]
async fn one_bad_piece_of_work_does_not_fail_the_others() {
    let home = Home::new();
    let engine = Arc::new(home.open());
    let (first, last) = (submission(10), submission(300_000));
    let twice = first.clone();
    let answers = together(
        &engine,
        vec![
            write_submission(&engine, first.clone()),
            write_submission(&engine, twice),
            write(&engine, |c| {
                c.execute("UPDATE totals SET accepted = accepted + 1", [])?;
                Ok(())
            }),
            write(&engine, |c| {
                c.execute("UPDATE totals SET account = 'x'", [])?;
                panic!("a bug in one piece of work");
            }),
            write_submission(&engine, last.clone()),
        ],
    )
    .await;
    assert_eq!(answers[0], Ok(()));
    assert!(matches!(answers[1], Err(StoreError::Exists { .. })), "{:?}", answers[1]);
    assert!(answers[2].is_err());
    assert!(matches!(answers[3], Err(StoreError::Misuse { .. })), "{:?}", answers[3]);
    assert_eq!(answers[4], Ok(()));
    let mut expected = [first.id, last.id];
    expected.sort();
    assert_eq!(whole_messages(&engine).await, expected);
}

#[tokio::test]
async fn work_that_loses_the_transaction_fails_alone() {
    let home = Home::new();
    let engine = Arc::new(home.open());
    let (first, last) = (submission(10), submission(10));
    let answers = together(
        &engine,
        vec![
            write_submission(&engine, first.clone()),
            // SQLite does the same when it finds the disk full in the middle of a statement.
            write(&engine, |c| {
                c.execute_batch("ROLLBACK")?;
                Err(StoreError::Exists { what: "it".to_owned() }.into())
            }),
            write(&engine, |c| {
                c.execute_batch("ROLLBACK")?;
                Ok(())
            }),
            write_submission(&engine, last.clone()),
        ],
    )
    .await;
    assert_eq!(answers[0], Ok(()));
    assert!(matches!(answers[1], Err(StoreError::Exists { .. })), "{:?}", answers[1]);
    assert!(answers[2].is_err());
    assert_eq!(answers[3], Ok(()));
    assert_eq!(whole_messages(&engine).await.len(), 2);
}

#[tokio::test]
async fn a_failed_commit_is_an_error_for_all_and_the_next_one_works() {
    let home = Home::new();
    let engine = Arc::new(home.open());
    let before = engine.commits();
    let answers = together(
        &engine,
        vec![
            write_submission(&engine, submission(10)),
            // Fails when it is committed and not before.
            write(&engine, |c| {
                c.execute_batch(
                    "PRAGMA defer_foreign_keys = ON;
                     INSERT INTO chunk (message, position, digest, bytes)
                     VALUES (999, 0, x'', x'')",
                )?;
                Ok(())
            }),
            write_submission(&engine, submission(10)),
        ],
    )
    .await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!(engine.commits(), before, "it was not tried again");
    assert_eq!(whole_messages(&engine).await, []);
    let next = submission(10);
    submit(&engine, next.clone()).await.unwrap();
    assert_eq!(whole_messages(&engine).await, [next.id]);
}

#[tokio::test]
async fn a_disk_that_is_full_at_any_size_keeps_what_it_has_said_to_keep() {
    let (mut fulls, mut fulls_at_last) = (0, 0);
    let empty = Home::new();
    drop(empty.open());
    let empty_pages = Connection::open(empty.database())
        .unwrap()
        .pragma_query_value(None, "page_count", |row| row.get::<_, u32>(0))
        .unwrap();
    for more_pages in 0..110 {
        let home = Home::new();
        std::fs::copy(empty.database(), home.database()).unwrap();
        let max_pages = Arc::new(AtomicU32::new(empty_pages + more_pages));
        let opening = Opening::new(home.database()).with_max_pages(Arc::clone(&max_pages));
        let engine = Arc::new(Engine::open_with(opening).unwrap());
        let fulls_before = fulls;
        let mut kept = Vec::new();
        // The second round waits together, so that a full disk meets it in one transaction.
        for lengths in [[10, 9_000, 300_000, 4_000], [20, 70_000, 20_000, 10]] {
            let batch: Vec<_> = lengths.map(submission).to_vec();
            let answers = match kept.is_empty() {
                true => {
                    let mut answers = Vec::new();
                    for submission in &batch {
                        answers.push(submit(&engine, submission.clone()).await);
                    }
                    answers
                }
                false => {
                    let all = batch.iter().map(|s| write_submission(&engine, s.clone())).collect();
                    together(&engine, all).await
                }
            };
            for (submission, answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(()) => kept.push(submission.id),
                    Err(StoreError::Full { .. }) => fulls += 1,
                    Err(other) => panic!("{more_pages} more pages: {other}"),
                }
            }
        }
        fulls_at_last = fulls - fulls_before;
        kept.sort();
        assert_eq!(whole_messages(&engine).await, kept, "{more_pages} more pages");
        // Settling needs next to no room, so that a full disk drains.
        if let Some(&id) = kept.first() {
            let delivered =
                Outcome::new(Class::Delivered, Status::event(Phase::Final, "250 taken"));
            let outcomes = vec![(0, delivered.clone()), (1, delivered)];
            engine.write(0, move |c| MessageRows(c).settle(id, &outcomes, None)).await.unwrap();
            kept.remove(0);
        }
        // There is room again.
        max_pages.store(0, Ordering::SeqCst);
        let late = submission(50_000);
        submit(&engine, late.clone()).await.unwrap();
        kept.push(late.id);
        kept.sort();
        assert_eq!(whole_messages(&engine).await, kept, "{more_pages} more pages");
        drop(engine);
        assert_eq!(whole_messages(&home.open()).await, kept, "{more_pages} more pages");
    }
    assert!(fulls > 110, "the disk was full {fulls} times only");
    assert_eq!(fulls_at_last, 0, "sizes up to one that holds everything were tried");
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle_and_leaves_no_log() {
    let home = Home::new();
    let engine = home.open();
    submit(&engine, submission(10)).await.unwrap();
    let log = home.database().with_extension("db-wal");
    assert!(log.exists());
    drop(engine);
    assert!(!log.exists());
}

#[tokio::test]
async fn a_file_that_was_full_once_becomes_small_again() {
    let home = Home::new();
    let engine = home.open();
    let mut ids = Vec::new();
    for _ in 0..10 {
        let large = submission(5_000_000);
        ids.push(large.id);
        submit(&engine, large).await.unwrap();
    }
    let pages = async || {
        let count = |c: &Connection| Ok(c.pragma_query_value(None, "page_count", |r| r.get(0))?);
        engine.read::<u32, _>(count).await.unwrap()
    };
    let full = pages().await;
    let delivered = Outcome::new(Class::Delivered, Status::event(Phase::Final, "250"));
    for id in ids {
        let outcomes = vec![(0, delivered.clone()), (1, delivered.clone())];
        engine.write(0, move |c| MessageRows(c).settle(id, &outcomes, None)).await.unwrap();
    }
    let kept = submission(300_000);
    submit(&engine, kept.clone()).await.unwrap();
    for _ in 0..80 {
        let id = kept.id;
        engine.write(0, move |c| MessageRows(c).postpone(id, START)).await.unwrap();
    }
    let left = pages().await;
    assert!(full > 12_000 && left < 5_000, "{full} pages became {left}");
    assert_eq!(whole_messages(&engine).await, [kept.id]);
}

#[tokio::test]
async fn every_damaged_record_is_recognised_and_set_aside_alone() {
    for (sql, is_seen_when_due) in [
        ("UPDATE message SET reverse_path = 'x@example.com'", true),
        ("UPDATE message SET account = 'a@example.com', size = size - 1", true),
        ("UPDATE message SET received_at = 0", true),
        ("UPDATE message SET digest = x'00'", true),
        ("UPDATE message SET chunks = 0", true),
        ("UPDATE recipient SET forward_path = 'evil@example.com'", true),
        ("UPDATE recipient SET position = 7 WHERE position = 1", true),
        ("DELETE FROM recipient WHERE position = 1", true),
        ("UPDATE recipient SET state = 'failed'", true),
        ("UPDATE chunk SET bytes = CAST(x'00' || substr(bytes, 2) AS BLOB)", false),
        ("UPDATE chunk SET bytes = substr(bytes, 2) WHERE position = 1", false),
        ("UPDATE chunk SET position = 9 WHERE position = 0", false),
        ("DELETE FROM chunk WHERE position = 1", false),
    ] {
        let home = Home::new();
        let engine = home.open();
        let bad = submission(300_000);
        let good = submission(10);
        submit(&engine, bad.clone()).await.unwrap();
        Connection::open(home.database()).unwrap().execute_batch(sql).unwrap();
        submit(&engine, good.clone()).await.unwrap();
        let id = bad.id;
        let (due, damaged) =
            engine.read(move |c| MessageRows(c).due("a@example.com", START, &[], 9)).await.unwrap();
        let due: Vec<_> = due.into_iter().map(|message| message.id).collect();
        let (mut position, mut seen) = (0, None);
        while seen.is_none() {
            let chunk = engine.read(move |c| MessageRows(c).chunk(id, position)).await;
            match chunk {
                Ok((Some(_), _)) => position += 1,
                Ok((None, _)) => seen = Some(false),
                Err(StoreError::Damaged { .. }) => seen = Some(true),
                Err(other) => panic!("{sql}: {other}"),
            }
        }
        match is_seen_when_due {
            true => {
                assert_eq!(due, [good.id], "{sql}");
                assert_eq!(damaged[0].id, bad.id.to_string(), "{sql}");
                engine.write(0, move |c| MessageRows(c).set_aside(&damaged)).await.unwrap();
                let aside = engine.read(|c| MessageRows(c).all_set_aside()).await.unwrap();
                assert_eq!((aside.len(), &aside[0].id), (1, &bad.id.to_string()), "{sql}");
                let next = engine
                    .read(move |c| MessageRows(c).due("a@example.com", START, &[], 9))
                    .await
                    .unwrap();
                assert!(next.1.is_empty() && next.0.len() == 1, "{sql}");
            }
            false => assert_eq!((due.len(), seen), (2, Some(true)), "{sql}"),
        }
    }
}

#[tokio::test]
async fn books_that_do_not_add_up_stop_the_change() {
    for sql in [
        "UPDATE totals SET accepted = 1, queued = 1",
        "DELETE FROM totals",
        "DELETE FROM recipient WHERE position = 1",
        "UPDATE message SET delivered = 1",
    ] {
        let home = Home::new();
        let engine = home.open();
        let submission = submission(10);
        let id = submission.id;
        submit(&engine, submission).await.unwrap();
        Connection::open(home.database()).unwrap().execute_batch(sql).unwrap();
        let before = recipient_rows(&engine).await;
        let delivered = Outcome::new(Class::Delivered, Status::event(Phase::Final, "250"));
        let failed = Outcome::new(Class::Fail, Status::event(Phase::Rcpt, "550"));
        let outcomes = match before {
            2 => vec![(0, delivered), (1, failed)],
            _ => vec![(0, delivered)],
        };
        let settled =
            engine.write(0, move |c| MessageRows(c).settle(id, &outcomes, None)).await.unwrap_err();
        assert!(matches!(settled, StoreError::Unaccounted { .. }), "{sql}: {settled}");
        assert_eq!(recipient_rows(&engine).await, before, "{sql}: nothing was kept");
    }
}

async fn recipient_rows(engine: &Engine) -> u32 {
    let count = "SELECT count(*) FROM recipient";
    engine.read(move |c| Ok(c.query_row(count, [], |row| row.get(0))?)).await.unwrap()
}

#[tokio::test]
async fn due_messages_are_found_with_the_index_alone() {
    let home = Home::new();
    drop(home.open());
    let connection = Connection::open(home.database()).unwrap();
    for sql in [
        "SELECT id FROM message WHERE account = 'a' AND state = 'queued' AND next_attempt_at <= 5
         ORDER BY next_attempt_at, id LIMIT 9",
        "SELECT next_attempt_at FROM message WHERE account = 'a' AND state = 'queued'
         ORDER BY next_attempt_at LIMIT 1",
    ] {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            explain.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        assert_eq!(plan.len(), 1, "no sorting: {plan:?}");
        assert!(plan[0].contains("INDEX message_due (account=? AND state=?"), "{plan:?}");
    }
}

fn tables(connection: &Connection) -> Vec<(String, Option<String>)> {
    let mut select =
        connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_database_of_any_age_becomes_the_newest() {
    let newest = {
        let home = Home::new();
        drop(home.open());
        tables(&Connection::open(home.database()).unwrap())
    };
    for age in 0..=schema::MIGRATIONS.len() {
        let home = Home::new();
        let mut connection = Connection::open(home.database()).unwrap();
        if age > 0 {
            schema::prepare(&connection).unwrap();
            schema::migrate(&mut connection, &schema::MIGRATIONS[..age]).unwrap();
        }
        drop(connection);
        drop(home.open());
        assert_eq!(tables(&Connection::open(home.database()).unwrap()), newest, "age {age}");
    }
}

#[test]
fn later_migrations_run_once_in_order_and_all_or_nothing() {
    let home = Home::new();
    drop(home.open());
    let mut connection = Connection::open(home.database()).unwrap();
    let version = |connection: &Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap()
    };
    let released = schema::MIGRATIONS.len() as u32;
    let mut migrations = schema::MIGRATIONS.to_vec();
    migrations.extend(["CREATE TABLE one (a)", "INSERT INTO one VALUES (1); SELECT broken"]);
    assert!(schema::migrate(&mut connection, &migrations).is_err());
    assert_eq!(version(&connection), released);
    assert!(!connection.table_exists(None, "one").unwrap(), "nothing of it is kept");
    *migrations.last_mut().unwrap() = "INSERT INTO one VALUES (1)";
    for _ in 0..2 {
        schema::migrate(&mut connection, &migrations).unwrap();
        assert_eq!(version(&connection), released + 2);
        let rows: u32 =
            connection.query_row("SELECT count(*) FROM one", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }
    // And now our version is the older one.
    drop(connection);
    let error = Engine::open(&home.directory).err().unwrap();
    let known = u64::from(released);
    assert_eq!(
        error,
        StoreError::TooNew { path: home.database(), found: known + 2, known },
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_our_database_is_refused_and_left_alone() {
    let text = "this is a shopping list and not a database, however long it may be. ".repeat(20);
    for (name, sql) in [
        ("text", None),
        ("foreign tables", Some("CREATE TABLE shopping (item)")),
        ("foreign version", Some("CREATE TABLE shopping (item); PRAGMA user_version = 1")),
    ] {
        let home = Home::new();
        match sql {
            Some(sql) => Connection::open(home.database()).unwrap().execute_batch(sql).unwrap(),
            None => std::fs::write(home.database(), &text).unwrap(),
        }
        let before = std::fs::read(home.database()).unwrap();
        let error = Engine::open(&home.directory).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
        if sql.is_none() {
            assert_eq!(std::fs::read(home.database()).unwrap(), before);
        }
    }
}
