//! The store as the floors above use it: messages go in, wait, are settled and leave, and the books
//! add up at every moment.

#[path = "store_parts/mod.rs"]
mod parts;

use std::collections::BTreeMap;

use bytes::Bytes;
use mailbearer::base::{QueueId, limits};
use mailbearer::mail::{Class, ReversePath};
use mailbearer::store::{AccountTotals, RecipientState, Settled, Store, StoreError, Submission};
use proptest::prelude::*;

use parts::{ACCOUNT, Home, START, at, content, envelope, fresh_id, outcome, read, submission};

async fn totals(store: &Store) -> AccountTotals {
    let all = store.totals().await.unwrap();
    store.audit().await.unwrap();
    all.into_iter().find(|totals| totals.account == ACCOUNT).unwrap_or_default()
}

fn counted(totals: &AccountTotals) -> (u64, u64, u64, u64) {
    (totals.accepted, totals.delivered, totals.queued, totals.failed)
}

#[tokio::test]
async fn a_message_comes_back_as_it_went_in() {
    let home = Home::new();
    let chunk = limits::STORED_CHUNK_BYTES;
    let prologue = submission(fresh_id(), Vec::new()).prologue.len();
    let mut stored = Vec::new();
    {
        let store = home.open();
        let lengths = [
            0,
            1,
            4_096,
            chunk - prologue - 1,
            chunk - prologue,
            chunk - prologue + 1,
            chunk,
            900_000,
        ];
        for length in lengths {
            let id = fresh_id();
            let mut writer = store.body_writer();
            for part in content(id, length).chunks(50_000) {
                writer.write(Bytes::copy_from_slice(part)).await.unwrap();
            }
            let body = writer.finish().await.unwrap();
            let submission = Submission { body, ..submission(id, Vec::new()) };
            store.submit(submission.clone()).await.unwrap();
            stored.push((submission, length));
        }
    }
    // Another process would see the same.
    let store = home.open();
    let mut due = store.due(ACCOUNT, START, &[], 100).await.unwrap();
    assert!(due.is_sorted_by_key(|message| message.id));
    for (submission, length) in stored {
        let at = due.iter().position(|message| message.id == submission.id).unwrap();
        let message = due.remove(at);
        assert_eq!(message.envelope, submission.envelope);
        assert_eq!(message.account, submission.account);
        assert_eq!(message.credential, submission.credential);
        assert_eq!(message.received_at, submission.received_at);
        assert_eq!(message.recipient_indices, [0]);
        assert_eq!(message.size, (prologue + length) as u64);
        let expected = [submission.prologue, content(submission.id, length)].concat();
        assert!(read(store.stored_body(submission.id)).await.unwrap() == expected, "{length}");
        let pieces = expected.len().div_ceil(chunk) as u32;
        for index in 0..pieces {
            let piece = store.body_chunk(submission.id, index).await.unwrap().unwrap();
            let is_last = index + 1 == pieces;
            assert!(piece.len() == chunk || is_last);
        }
        assert_eq!(store.body_chunk(submission.id, pieces).await.unwrap(), None);
    }
    assert!(due.is_empty());
}

#[tokio::test]
async fn prologues_longer_than_a_chunk_are_cut_like_everything_else() {
    let home = Home::new();
    let store = home.open();
    for length in [limits::STORED_CHUNK_BYTES, limits::STORED_CHUNK_BYTES + 7, 700_001] {
        let id = fresh_id();
        let prologue = content(id, length);
        let submission =
            Submission { prologue: prologue.clone(), ..submission(id, b"body".to_vec()) };
        store.submit(submission).await.unwrap();
        assert!(
            read(store.stored_body(id)).await.unwrap() == [prologue, b"body".to_vec()].concat()
        );
    }
}

#[tokio::test]
async fn the_null_reverse_path_and_wide_addresses_survive() {
    let home = Home::new();
    let store = home.open();
    let mut envelope = envelope(2);
    envelope.reverse_path = ReversePath::Null;
    envelope.forward_paths = ["Postmaster", "grüße@bücher.example"]
        .map(|path| mailbearer::mail::ForwardPath::parse(path).unwrap())
        .to_vec();
    envelope.smtputf8 = true;
    envelope.body = mailbearer::mail::BodyType::SevenBit;
    let submission = Submission {
        envelope: envelope.clone(),
        credential: None,
        ..submission(fresh_id(), vec![])
    };
    store.submit(submission).await.unwrap();
    let due = store.due(ACCOUNT, START, &[], 1).await.unwrap();
    assert_eq!((&due[0].envelope, &due[0].credential), (&envelope, &None));
}

#[tokio::test]
async fn due_is_by_time_then_id_and_honours_account_window_and_limit() {
    let home = Home::new();
    let store = home.open();
    let mut ids: Vec<QueueId> = (0..6).map(|_| fresh_id()).collect();
    ids.sort();
    // Later ids are due first; two share a time; one is due later; one belongs to somebody else.
    for (id, due_at) in ids.iter().zip([30, 20, 10, 10, 99, 0]) {
        let mut submission =
            Submission { next_attempt_at: at(due_at), ..submission(*id, b"x".to_vec()) };
        if due_at == 0 {
            submission.account = "other@contoso.com".to_owned();
        }
        store.submit(submission).await.unwrap();
    }
    let due = |now, except: Vec<QueueId>, limit| {
        let store = store.clone();
        async move {
            let due = store.due(ACCOUNT, at(now), &except, limit).await.unwrap();
            due.into_iter().map(|message| message.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(due(50, vec![], 10).await, [ids[2], ids[3], ids[1], ids[0]]);
    assert_eq!(due(20, vec![], 10).await, [ids[2], ids[3], ids[1]]);
    assert_eq!(due(50, vec![], 2).await, [ids[2], ids[3]]);
    assert_eq!(due(50, vec![ids[2], ids[3]], 2).await, [ids[1], ids[0]]);
    assert_eq!(due(9, vec![], 10).await, []);
    assert_eq!(due(50, vec![], 0).await, []);
    assert_eq!(
        store
            .next_due_at(ACCOUNT, mailbearer::base::Timestamp::from_millis(i64::MIN))
            .await
            .unwrap(),
        Some(at(10))
    );
    assert_eq!(
        store
            .next_due_at("other@contoso.com", mailbearer::base::Timestamp::from_millis(i64::MIN))
            .await
            .unwrap(),
        Some(at(0))
    );
    assert_eq!(
        store
            .next_due_at("nobody@contoso.com", mailbearer::base::Timestamp::from_millis(i64::MIN))
            .await
            .unwrap(),
        None
    );

    store.postpone(ids[2], at(60)).await.unwrap();
    assert_eq!(due(50, vec![], 10).await, [ids[3], ids[1], ids[0]]);
    let unknown = fresh_id();
    assert_eq!(
        store.postpone(unknown, at(60)).await.unwrap_err(),
        StoreError::NoSuchMessage(unknown)
    );
}

#[tokio::test]
async fn each_class_does_to_a_recipient_what_it_means() {
    let home = Home::new();
    let store = home.open();
    let id = fresh_id();
    let submission = Submission { envelope: envelope(6), ..submission(id, b"body".to_vec()) };
    store.submit(submission).await.unwrap();
    let classes = [
        Class::Delivered,
        Class::Defer,
        Class::Hold,
        Class::Suspend,
        Class::Fail,
        Class::Uncertain,
    ];
    let outcomes = (0..).zip(classes.map(outcome)).collect();
    let settled = store.settle(id, outcomes, Some(at(60))).await.unwrap();
    assert_eq!(settled, Settled { remaining: 4, delivered: 1, failed: 1 });
    let books = totals(&store).await;
    assert_eq!(counted(&books), (6, 1, 4, 1));
    assert_eq!(books.uncertain, 1);

    let rest = store.recipients(id).await.unwrap();
    let shown: Vec<_> =
        rest.iter().map(|r| (r.index, r.state, r.last.as_ref().unwrap().0, r.uncertain)).collect();
    assert_eq!(
        shown,
        [
            (1, RecipientState::Queued, Class::Defer, 0),
            (2, RecipientState::Queued, Class::Hold, 0),
            (3, RecipientState::Queued, Class::Suspend, 0),
            (4, RecipientState::Failed, Class::Fail, 0),
            (5, RecipientState::Queued, Class::Uncertain, 1),
        ]
    );
    assert_eq!(rest[3].last.as_ref().unwrap().1, outcome(Class::Fail).status);

    assert_eq!(store.due(ACCOUNT, at(59), &[], 9).await.unwrap(), []);
    let due = store.due(ACCOUNT, at(60), &[], 9).await.unwrap();
    assert_eq!(due[0].recipient_indices, [1, 2, 3, 5]);
    assert_eq!(due[0].envelope.forward_paths[3].as_str(), "to5@example.net");
    assert_eq!(due[0].attempts, 1);

    // Waiting for a quota or a person burns no attempt and leaves the time as it was.
    let waits = vec![(1, outcome(Class::Hold)), (2, outcome(Class::Suspend))];
    store.settle(id, waits, None).await.unwrap();
    let due = store.due(ACCOUNT, at(60), &[], 9).await.unwrap();
    assert_eq!((due[0].attempts, due[0].next_attempt_at), (1, at(60)));

    // The rest goes; the failed recipient and the body stay for reading, and nothing is due.
    let rest = [1, 2, 3, 5].map(|index| (index, outcome(Class::Delivered))).to_vec();
    let settled = store.settle(id, rest, None).await.unwrap();
    assert_eq!(settled, Settled { remaining: 0, delivered: 4, failed: 0 });
    assert_eq!(counted(&totals(&store).await), (6, 5, 0, 1));
    assert_eq!(store.due(ACCOUNT, at(999), &[], 9).await.unwrap(), []);
    assert_eq!(
        store
            .next_due_at(ACCOUNT, mailbearer::base::Timestamp::from_millis(i64::MIN))
            .await
            .unwrap(),
        None
    );
    assert_eq!(store.recipients(id).await.unwrap().len(), 1);
    assert!(read(store.stored_body(id)).await.unwrap().ends_with(b"body"));
}

#[tokio::test]
async fn a_message_leaves_with_its_last_recipient() {
    let home = Home::new();
    let store = home.open();
    let id = fresh_id();
    store.submit(submission(id, vec![b'x'; 600_000])).await.unwrap();
    store.settle(id, vec![(0, outcome(Class::Delivered))], None).await.unwrap();
    assert_eq!(counted(&totals(&store).await), (1, 1, 0, 0));
    assert_eq!(store.recipients(id).await.unwrap_err(), StoreError::NoSuchMessage(id));
    assert_eq!(store.body_chunk(id, 0).await.unwrap_err(), StoreError::NoSuchMessage(id));
    assert_eq!(read(store.stored_body(id)).await.unwrap_err(), StoreError::NoSuchMessage(id));
    let again = store.settle(id, vec![(0, outcome(Class::Delivered))], None).await;
    assert_eq!(again.unwrap_err(), StoreError::NoSuchMessage(id));
}

#[tokio::test]
async fn a_first_attempt_may_have_settled_some_or_all() {
    let home = Home::new();
    let store = home.open();
    let id = fresh_id();
    let first_outcomes = vec![
        (2, outcome(Class::Delivered)),
        (0, outcome(Class::Fail)),
        (1, outcome(Class::Uncertain)),
    ];
    let submission = Submission {
        envelope: envelope(4),
        first_outcomes,
        attempts: 1,
        ..submission(id, b"body".to_vec())
    };
    store.submit(submission.clone()).await.unwrap();
    let books = totals(&store).await;
    assert_eq!((counted(&books), books.uncertain), ((4, 1, 2, 1), 1));
    let due = store.due(ACCOUNT, START, &[], 9).await.unwrap();
    assert_eq!((&due[0].recipient_indices[..], due[0].attempts), (&[1, 3][..], 1));

    // Nobody is left: there is a count and nothing else.
    let all = fresh_id();
    let outcomes = (0..4).map(|index| (index, outcome(Class::Delivered))).collect();
    let delivered = Submission { id: all, first_outcomes: outcomes, ..submission.clone() };
    store.submit(delivered).await.unwrap();
    assert_eq!(counted(&totals(&store).await), (8, 5, 2, 1));
    assert_eq!(store.recipients(all).await.unwrap_err(), StoreError::NoSuchMessage(all));

    // Nobody is left, and one was refused: kept, and not due.
    let failed = fresh_id();
    let outcomes = (0..4)
        .map(|index| (index, outcome(if index == 3 { Class::Fail } else { Class::Delivered })))
        .collect();
    let refused = Submission { id: failed, first_outcomes: outcomes, ..submission };
    store.submit(refused).await.unwrap();
    assert_eq!(counted(&totals(&store).await), (12, 8, 2, 2));
    assert_eq!(store.due(ACCOUNT, START, &[], 9).await.unwrap().len(), 1);
    assert_eq!(store.recipients(failed).await.unwrap()[0].index, 3);
}

#[tokio::test]
async fn outcomes_that_do_not_add_up_change_nothing() {
    let home = Home::new();
    let store = home.open();
    let id = fresh_id();
    let two = Submission { envelope: envelope(2), ..submission(id, b"body".to_vec()) };
    store.submit(two.clone()).await.unwrap();
    let delivered = || outcome(Class::Delivered);
    for outcomes in [
        vec![(0, delivered()), (0, delivered())],
        vec![(0, delivered()), (2, delivered())],
        vec![(0, outcome(Class::Fail)), (0, outcome(Class::Defer))],
        vec![(0, outcome(Class::Fail)), (u32::MAX, outcome(Class::Uncertain))],
    ] {
        let error = store.settle(id, outcomes.clone(), Some(at(60))).await.unwrap_err();
        assert!(matches!(error, StoreError::Unaccounted { .. }), "{error}");
        let first = Submission { id: fresh_id(), first_outcomes: outcomes, ..two.clone() };
        let error = store.submit(first).await.unwrap_err();
        assert!(matches!(error, StoreError::Unaccounted { .. }), "{error}");
        assert_eq!(counted(&totals(&store).await), (2, 0, 2, 0));
        let due = store.due(ACCOUNT, START, &[], 9).await.unwrap();
        assert_eq!((due.len(), &due[0].recipient_indices[..]), (1, &[0, 1][..]));
    }
    let nobody = Submission { envelope: envelope(0), ..submission(fresh_id(), vec![]) };
    assert!(matches!(store.submit(nobody).await, Err(StoreError::Misuse { .. })));
    assert!(matches!(store.submit(two).await, Err(StoreError::Exists { .. })));
    assert_eq!(counted(&totals(&store).await), (2, 0, 2, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Submit { recipients: usize, first: Vec<Class> },
    Settle { message: usize, classes: Vec<Class> },
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(vec![
        Class::Delivered,
        Class::Defer,
        Class::Hold,
        Class::Suspend,
        Class::Fail,
        Class::Uncertain,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..5, prop::collection::vec(class(), 0..5))
            .prop_map(|(recipients, first)| Step::Submit { recipients, first }),
        (any::<prop::sample::Index>(), prop::collection::vec(class(), 0..5))
            .prop_map(|(message, classes)| Step::Settle { message: message.index(1_000), classes }),
    ]
}

/// What a message should be: the recipients that wait and those that failed.
#[derive(Clone, Debug, Default)]
struct Model {
    queued: Vec<u32>,
    failed: Vec<u32>,
}

impl Model {
    /// Applies a class to each waiting recipient, as far as there are any.
    fn settle(&mut self, classes: &[Class], books: &mut AccountTotals) -> Vec<(u32, Class)> {
        let outcomes: Vec<_> = self.queued.iter().copied().zip(classes.iter().copied()).collect();
        for (index, class) in &outcomes {
            let leave = |queued: &mut Vec<u32>| queued.retain(|queued| queued != index);
            match class {
                Class::Delivered => {
                    leave(&mut self.queued);
                    books.delivered += 1;
                }
                Class::Fail => {
                    leave(&mut self.queued);
                    self.failed.push(*index);
                    books.failed += 1;
                }
                Class::Uncertain => books.uncertain += 1,
                Class::Defer | Class::Hold | Class::Suspend => {}
            }
        }
        outcomes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_agrees_with_a_simple_model(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new();
            let store = home.open();
            let mut messages: BTreeMap<QueueId, Model> = BTreeMap::new();
            let mut books = AccountTotals { account: ACCOUNT.to_owned(), ..Default::default() };
            for step in steps {
                match step {
                    Step::Submit { recipients, first } => {
                        let id = fresh_id();
                        let mut model =
                            Model { queued: (0..recipients as u32).collect(), failed: vec![] };
                        books.accepted += recipients as u64;
                        let outcomes = model.settle(&first, &mut books);
                        let first_outcomes =
                            outcomes.into_iter().map(|(at, class)| (at, outcome(class))).collect();
                        let submission = Submission {
                            envelope: envelope(recipients),
                            first_outcomes,
                            ..submission(id, content(id, 100))
                        };
                        store.submit(submission).await.unwrap();
                        messages.insert(id, model);
                    }
                    Step::Settle { message, classes } => {
                        let waiting: Vec<_> =
                            messages.iter().filter(|(_, m)| !m.queued.is_empty()).collect();
                        if waiting.is_empty() {
                            continue;
                        }
                        let id = *waiting[message % waiting.len()].0;
                        let model = messages.get_mut(&id).unwrap();
                        let outcomes: Vec<_> = model
                            .settle(&classes, &mut books)
                            .into_iter()
                            .map(|(at, class)| (at, outcome(class)))
                            .collect();
                        let settled = store.settle(id, outcomes, Some(START)).await.unwrap();
                        assert_eq!(settled.remaining as usize, model.queued.len());
                    }
                }
                books.queued = messages.values().map(|m| m.queued.len() as u64).sum();
                let found = store.totals().await.unwrap();
                assert!(found.is_empty() && books.accepted == 0 || found == [books.clone()]);
                store.audit().await.unwrap();
            }
            let due = store.due(ACCOUNT, START, &[], 1_000).await.unwrap();
            for (id, model) in &messages {
                let found = due.iter().find(|message| message.id == *id);
                assert_eq!(
                    found.map_or(&[][..], |message| &message.recipient_indices),
                    model.queued
                );
                match model.queued.is_empty() && model.failed.is_empty() {
                    true => assert!(store.recipients(*id).await.is_err()),
                    false => {
                        let kept = store.recipients(*id).await.unwrap();
                        assert_eq!(kept.len(), model.queued.len() + model.failed.len());
                        let body = read(store.stored_body(*id)).await.unwrap();
                        assert!(body.ends_with(&content(*id, 100)));
                    }
                }
            }
        });
    }
}
