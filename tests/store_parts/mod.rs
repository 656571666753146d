//! What the tests of the store share: messages that can be told apart, and a folder to put them in.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;

use bytes::Bytes;
use mailbearer::base::{Clock, QueueId, Timestamp};
use mailbearer::mail::{
    BodyType, Class, Envelope, ForwardPath, Outcome, Phase, ReversePath, Status,
};
use mailbearer::store::{Body, BodyReader, Store, StoreError, Submission};

pub const ACCOUNT: &str = "scanner@contoso.com";

pub const START: Timestamp = Timestamp::from_millis(1_795_436_435_000);

pub struct Home {
    pub root: tempfile::TempDir,
    pub clock: Clock,
}

impl Home {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), clock: Clock::manual(START) }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn open(&self) -> Store {
        Store::open(&self.data_dir(), self.clock.clone()).unwrap()
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START.as_millis() + seconds * 1_000)
}

pub fn envelope(recipients: usize) -> Envelope {
    let recipient = |n| ForwardPath::parse(&format!("to{n}@example.net")).unwrap();
    Envelope {
        reverse_path: ReversePath::parse("from@example.com").unwrap(),
        forward_paths: (0..recipients).map(recipient).collect(),
        body: BodyType::EightBitMime,
        smtputf8: false,
    }
}

/// Bytes that follow from the id; no two blocks of them are the same.
pub fn content(id: QueueId, length: usize) -> Vec<u8> {
    const BLOCK: usize = 4_096;
    let mut bytes = id.as_str().as_bytes().repeat(length.next_multiple_of(BLOCK) / 16);
    for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
        block[..8].copy_from_slice(&(number as u64).to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn submission(id: QueueId, body: Vec<u8>) -> Submission {
    Submission {
        id,
        account: ACCOUNT.to_owned(),
        credential: Some("printer".to_owned()),
        received_at: START,
        next_attempt_at: START,
        envelope: envelope(1),
        prologue: b"Received: from printer\r\n".to_vec(),
        body: Body::from(Bytes::from(body)),
        first_outcomes: Vec::new(),
        attempts: 0,
    }
}

pub fn fresh_id() -> QueueId {
    QueueId::generate(START)
}

pub fn outcome(class: Class) -> Outcome {
    let text = format!("the test says {class}");
    let status = Status { phase: Phase::Final, code: Some(250), enhanced: None, text };
    Outcome::new(class, status)
}

pub async fn read(mut reader: BodyReader) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}
