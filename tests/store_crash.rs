//! What was said to be stored is stored: after kill -9 at any moment, and on a disk that fails at
//! any place.
//!
//! A child process (this test binary, started again for one test) submits, delivers and fails
//! messages from several tasks, and writes a line for each only after the store has answered. The
//! parent ends it, opens the store and compares. What such a test cannot show is a cut of the power:
//! the page cache outlives the process. That needs a block device that forgets.

#[path = "store_parts/mod.rs"]
mod parts;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use mailbearer::base::{Clock, QueueId};
use mailbearer::mail::Class;
use mailbearer::store::{Store, StoreError};

use parts::{ACCOUNT, Home, START, content, fresh_id, outcome, read, submission};

/// Names the data directory to the child.
const DATA_DIR: &str = "MAILBEARER_STORE_CRASH_DATA_DIR";

/// How many messages each task of the child submits; it is killed long before the largest number.
const MESSAGES: &str = "MAILBEARER_STORE_CRASH_MESSAGES";

/// Tasks of the child.
const TASKS: usize = 6;

/// What the child has been told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Submitted { length: usize },
    Settling,
    Delivered,
    Failed { length: usize },
}

/// Not a test of its own: the child. Without its environment it does nothing.
#[test]
fn child_works_until_it_is_stopped() {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else { return };
    let messages: usize = std::env::var(MESSAGES).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async move {
        let store = match Store::open(Path::new(&data_dir), Clock::manual(START)) {
            Ok(store) => store,
            Err(error) => return say(&format!("E open {error}")),
        };
        say("O");
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let store = store.clone();
            tasks.spawn(async move {
                for n in 0..messages {
                    if let Err(error) = one_message(&store, task * 1_000 + n).await {
                        say(&format!("E {error}"));
                    }
                }
            });
        }
        tasks.join_all().await;
        // Whatever failed, the store still answers or says why not.
        match store.audit().await {
            Ok(()) => say("A"),
            Err(error @ StoreError::Unaccounted { .. }) => say(&format!("BUG {error}")),
            Err(error) => say(&format!("E audit {error}")),
        }
    });
}

async fn one_message(store: &Store, n: usize) -> Result<(), StoreError> {
    let id = fresh_id();
    // Most are small, some have several chunks.
    let length = match n % 11 {
        10 => 600_000,
        small => small * 1_000,
    };
    store.submit(submission(id, content(id, length))).await?;
    say(&format!("S {id} {length}"));
    let class = match n % 4 {
        0 | 1 => return Ok(()),
        2 => Class::Delivered,
        _ => Class::Fail,
    };
    say(&format!("T {id}"));
    store.settle(id, vec![(0, outcome(class))], None).await?;
    match class {
        Class::Delivered => say(&format!("D {id}")),
        _ => say(&format!("F {id} {length}")),
    }
    Ok(())
}

/// One line in one write, so that no line is torn.
fn say(line: &str) {
    let _ = std::io::stdout().lock().write_all(format!("\n@{line}\n").as_bytes());
}

fn child(data_dir: &Path, messages: usize, shell: Option<&str>) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match shell {
        None => Command::new(program),
        Some(script) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]).arg(program);
            shell
        }
    };
    command
        .args(["--exact", "child_works_until_it_is_stopped", "--nocapture", "--test-threads=1"])
        .env(DATA_DIR, data_dir)
        .env(MESSAGES, messages.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Notes what a line of the child says; true if it is about a message.
fn note(line: &str, told: &mut BTreeMap<QueueId, Told>) -> bool {
    let Some(line) = line.strip_prefix('@') else { return false };
    assert!(!line.starts_with("BUG"), "{line}");
    let mut words = line.split(' ');
    let kind = words.next().unwrap();
    if !matches!(kind, "S" | "T" | "D" | "F") {
        return false;
    }
    let id: QueueId = words.next().unwrap().parse().unwrap();
    let length = words.next().map(|length| length.parse().unwrap());
    let now = match kind {
        "S" => Told::Submitted { length: length.unwrap() },
        "T" => Told::Settling,
        "D" => Told::Delivered,
        _ => Told::Failed { length: length.unwrap() },
    };
    told.insert(id, now);
    true
}

/// Opens the store and checks everything that was ever told.
async fn check(home: &Home, told: &BTreeMap<QueueId, Told>) {
    let store = home.open();
    store.audit().await.unwrap();
    let due = store.due(ACCOUNT, START, &[], usize::MAX).await.unwrap();
    assert_eq!(store.set_aside().await.unwrap(), []);
    for message in &due {
        // Also what nobody was told of is whole.
        let body = read(store.stored_body(message.id)).await.unwrap();
        assert_eq!(body.len() as u64, message.size);
        let prologue = submission(message.id, Vec::new()).prologue;
        assert!(body[prologue.len()..] == content(message.id, body.len() - prologue.len()));
    }
    for (id, told) in told {
        let is_due = due.iter().any(|message| message.id == *id);
        match told {
            Told::Submitted { length } => {
                assert!(is_due, "{id} was acknowledged and is lost");
                let body = read(store.stored_body(*id)).await.unwrap();
                assert!(body.ends_with(&content(*id, *length)), "{id} is not what was sent");
            }
            // It was under way: either is right, and what is due was found to be whole.
            Told::Settling => {}
            Told::Delivered => {
                assert!(!is_due, "{id} was delivered and is there again");
                let gone = store.recipients(*id).await.unwrap_err();
                assert_eq!(gone, StoreError::NoSuchMessage(*id));
            }
            Told::Failed { length } => {
                assert!(!is_due, "{id} has failed and is there again");
                let body = read(store.stored_body(*id)).await.unwrap();
                assert!(body.ends_with(&content(*id, *length)), "{id} is not what was sent");
            }
        }
    }
    let books = store.totals().await.unwrap();
    let books = books.first().cloned().unwrap_or_default();
    assert_eq!(books.accepted, books.delivered + books.queued + books.failed);
    assert_eq!(books.queued, due.len() as u64);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_kill_9() {
    const ROUNDS: u64 = 24;
    let home = Home::new();
    drop(home.open());
    let mut told = BTreeMap::new();
    for round in 0..ROUNDS {
        // Where the child is stopped differs by round and by whatever the machine does meanwhile.
        let lines_before_the_end = (round * 37) % 113;
        let mut child = child(&home.data_dir(), 1_000_000, None).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen <= lines_before_the_end {
            let line = lines.next().expect("the child ends only when it is killed").unwrap();
            seen += u64::from(note(&line, &mut told));
        }
        child.kill().unwrap();
        // What it had said before it died counts as well.
        for line in lines {
            note(&line.unwrap(), &mut told);
        }
        child.wait().unwrap();
        check(&home, &told).await;
    }
    assert!(told.len() as u64 > ROUNDS * 10, "the child has done too little: {}", told.len());
}

#[tokio::test]
async fn a_disk_that_fails_at_any_place_loses_nothing_that_was_acknowledged() {
    // A limit on the size of files stands in for a broken disk: the write that would pass it is
    // cut short or fails (EFBIG), in the database, in its log, wherever it is first. Up to 200 KiB
    // the steps are smaller than a page, so that each page is hit; behind that they are samples.
    let (mut failures, mut successes) = (0, 0);
    let mut blocks = 0;
    loop {
        let home = Home::new();
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}");
        let output = child(&home.data_dir(), 4, Some(&limit)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut told = BTreeMap::new();
        for line in text.lines() {
            note(line, &mut told);
        }
        assert!(output.status.success(), "the child failed at {blocks} blocks:\n{text}");
        check(&home, &told).await;
        match text.contains("\n@E ") {
            true => failures += 1,
            false => {
                assert!(text.contains("\n@A"), "{text}");
                assert_eq!(told.len(), TASKS * 4);
                successes += 1;
            }
        }
        if successes == 3 {
            break;
        }
        blocks += if blocks < 400 { 7 } else { blocks / 8 };
        assert!(blocks < 1_000_000, "the limit never stops to matter");
    }
    assert!(failures > 40, "the limit has hit {failures} times only");
}
