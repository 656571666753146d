//! Grants, leases, suspensions and credentials, from one handle and from two. Handles that were
//! opened separately share nothing but the files, as two processes would.

#[path = "store_parts/mod.rs"]
mod parts;

use std::time::Duration;

use mailbearer::base::Secret;
use mailbearer::store::{NewGrant, Origin, Store, StoreError, StoredCredential, StoredGrant};

use parts::{ACCOUNT, Home, START, at, fresh_id, submission};

fn new_grant(token: &str) -> NewGrant {
    NewGrant {
        refresh_token: Some(Secret::new(format!("refresh-{token}"))),
        access_token: Some(Secret::new(format!("access-{token}"))),
        expires_at: Some(at(3_600)),
        obtained_at: START,
        obtained_by: Some("admin@contoso.com".to_owned()),
        retired: Some("invalid_grant: revoked".to_owned()),
        origin: Some(Origin {
            how: "authorization_code".to_owned(),
            at: START,
            bound_to: "{}".to_owned(),
        }),
    }
}

fn credential(name: &str) -> StoredCredential {
    StoredCredential {
        name: name.to_owned(),
        password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned(),
        account: ACCOUNT.to_owned(),
        may_send_as: vec!["*@contoso.com".to_owned()],
        may_send_to: vec!["*".to_owned(), "\"odd\"@x".to_owned()],
        created_at: START,
    }
}

#[tokio::test]
async fn a_grant_survives_and_its_secrets_are_not_in_any_file() {
    let home = Home::new();
    let store = home.open();
    assert_eq!(store.grant(ACCOUNT).await.unwrap(), None);
    assert_eq!(store.put_grant(ACCOUNT, 0, new_grant("one")).await.unwrap(), 1);
    // Look while the log is still there, and again when it has been emptied.
    for round in 0..2 {
        for entry in std::fs::read_dir(home.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
                assert!(!has(b"refresh-one") && !has(b"access-one"), "{round} {}", path.display());
            }
        }
        if round == 0 {
            let found = store.grant(ACCOUNT).await.unwrap().unwrap();
            let NewGrant {
                refresh_token,
                access_token,
                expires_at,
                obtained_at,
                obtained_by,
                retired,
                origin,
            } = new_grant("one");
            let expected = StoredGrant {
                refresh_token,
                access_token,
                expires_at,
                obtained_at,
                obtained_by,
                retired,
                origin,
                version: 1,
            };
            assert_eq!(found, expected);
            assert!(!format!("{found:?}").contains("one"));
            drop(home.open());
        }
    }
    drop(store);
    let store = home.open();
    assert_eq!(store.grant(ACCOUNT).await.unwrap().unwrap().version, 1);
    let empty = NewGrant {
        refresh_token: None,
        access_token: None,
        expires_at: None,
        obtained_at: START,
        obtained_by: None,
        retired: None,
        origin: None,
    };
    assert_eq!(store.put_grant(ACCOUNT, 1, empty).await.unwrap(), 2);
    let found = store.grant(ACCOUNT).await.unwrap().unwrap();
    assert_eq!((found.refresh_token, found.access_token, found.version), (None, None, 2));
}

#[tokio::test]
async fn of_two_that_renew_at_a_time_one_gets_a_conflict() {
    let home = Home::new();
    let (one, two) = (home.open(), home.open());
    one.put_grant(ACCOUNT, 0, new_grant("first")).await.unwrap();
    let (a, b) = tokio::join!(
        one.put_grant(ACCOUNT, 1, new_grant("a")),
        two.put_grant(ACCOUNT, 1, new_grant("b")),
    );
    let conflict = StoreError::Conflict { account: ACCOUNT.to_owned(), expected: 1, found: 2 };
    assert!(
        (a == Ok(2) && b == Err(conflict.clone())) || (b == Ok(2) && a == Err(conflict)),
        "{a:?} {b:?}"
    );
    let winner = if a.is_ok() { "refresh-a" } else { "refresh-b" };
    for store in [&one, &two] {
        let grant = store.grant(ACCOUNT).await.unwrap().unwrap();
        assert_eq!(grant.refresh_token.unwrap().expose(), winner);
    }
}

#[tokio::test]
async fn a_version_is_never_used_twice() {
    let home = Home::new();
    let store = home.open();
    store.put_grant(ACCOUNT, 0, new_grant("one")).await.unwrap();
    assert!(store.remove_grant(ACCOUNT).await.unwrap());
    assert!(!store.remove_grant(ACCOUNT).await.unwrap());
    assert_eq!(store.grant(ACCOUNT).await.unwrap(), None);
    // Whoever still holds version 1 must not overwrite what comes next.
    let late = store.put_grant(ACCOUNT, 1, new_grant("late")).await;
    let conflict = StoreError::Conflict { account: ACCOUNT.to_owned(), expected: 1, found: 0 };
    assert_eq!(late, Err(conflict));
    assert_eq!(store.put_grant(ACCOUNT, 0, new_grant("two")).await, Ok(2));
}

#[tokio::test]
async fn another_key_is_an_error_and_never_no_grant() {
    let home = Home::new();
    let key = home.data_dir().join("seal.key");
    {
        let store = home.open();
        store.put_grant(ACCOUNT, 0, new_grant("one")).await.unwrap();
    }
    let right = std::fs::read(&key).unwrap();
    // A wrong key, and a lost one that was made anew.
    for wrong in [Some(vec![7; 32]), None] {
        match wrong {
            Some(bytes) => std::fs::write(&key, bytes).unwrap(),
            None => std::fs::remove_file(&key).unwrap(),
        }
        let store = home.open();
        let error = store.grant(ACCOUNT).await.unwrap_err();
        assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
    }
    std::fs::write(&key, right).unwrap();
    let store = home.open();
    assert_eq!(store.grant(ACCOUNT).await.unwrap().unwrap().version, 1);

    // A person can consent again without the key.
    std::fs::write(&key, [9; 32]).unwrap();
    let store = home.open();
    assert!(store.remove_grant(ACCOUNT).await.unwrap());
    store.put_grant(ACCOUNT, 0, new_grant("new")).await.unwrap();
    assert!(store.grant(ACCOUNT).await.unwrap().is_some());
}

#[tokio::test]
async fn a_sealed_value_that_was_changed_or_moved_is_an_error() {
    let home = Home::new();
    let database = home.data_dir().join("mailbearer.db");
    let store = home.open();
    for account in ["a@x.example", "b@x.example"] {
        store.put_grant(account, 0, new_grant(account)).await.unwrap();
    }
    let outside = rusqlite::Connection::open(&database).unwrap();
    for sql in [
        "UPDATE account_grant SET refresh_token = substr(refresh_token, 1, 40)",
        "UPDATE account_grant SET refresh_token = x''",
        "UPDATE account_grant SET refresh_token =
             (SELECT refresh_token FROM account_grant WHERE account = 'b@x.example')",
        "UPDATE account_grant SET refresh_token = access_token",
        "UPDATE account_grant SET version = version + 1",
    ] {
        outside.execute(&format!("{sql} WHERE account = 'a@x.example'"), []).unwrap();
        let error = store.grant("a@x.example").await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{sql}: {error}");
        assert!(error.to_string().contains("mailbearer login a@x.example"), "{error}");
        let version = store.grant("b@x.example").await.unwrap().unwrap().version;
        assert_eq!(version, 1, "the other account is untouched");
        store.remove_grant("a@x.example").await.unwrap();
        store.put_grant("a@x.example", 0, new_grant("again")).await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_ends() {
    let home = Home::new();
    let (one, two) = (home.open(), home.open());
    assert!(one.lease(ACCOUNT, "one", at(30)).await.unwrap());
    assert!(!two.lease(ACCOUNT, "two", at(30)).await.unwrap());
    assert!(one.lease(ACCOUNT, "one", at(60)).await.unwrap(), "the holder may prolong it");
    assert!(!two.release_lease(ACCOUNT, "two").await.unwrap());
    home.clock.advance(Duration::from_secs(59));
    assert!(!two.lease(ACCOUNT, "two", at(90)).await.unwrap());
    home.clock.advance(Duration::from_secs(1));
    assert!(two.lease(ACCOUNT, "two", at(90)).await.unwrap(), "it has run out");
    assert!(!one.release_lease(ACCOUNT, "one").await.unwrap());
    assert!(two.release_lease(ACCOUNT, "two").await.unwrap());
    assert!(one.lease(ACCOUNT, "one", at(90)).await.unwrap());
}

#[tokio::test]
async fn a_suspension_keeps_its_beginning() {
    let home = Home::new();
    let store = home.open();
    assert_eq!(store.suspension(ACCOUNT).await.unwrap(), None);
    store.suspend(ACCOUNT, "consent revoked").await.unwrap();
    home.clock.advance(Duration::from_secs(60));
    store.suspend(ACCOUNT, "still revoked").await.unwrap();
    let suspension = store.suspension(ACCOUNT).await.unwrap().unwrap();
    assert_eq!((suspension.reason.as_str(), suspension.since), ("still revoked", START));
    assert!(store.resume(ACCOUNT).await.unwrap());
    assert!(!store.resume(ACCOUNT).await.unwrap());
    assert_eq!(store.suspension(ACCOUNT).await.unwrap(), None);
}

#[tokio::test]
async fn credentials_are_listed_by_name_and_never_replaced_in_silence() {
    let home = Home::new();
    let store = home.open();
    for name in ["scanner", "printer"] {
        store.add_credential(credential(name)).await.unwrap();
    }
    let twice = StoredCredential { account: "other".to_owned(), ..credential("printer") };
    let error = store.add_credential(twice).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the credential printer exists already: remove it first to replace it"
    );
    let all = store.credentials().await.unwrap();
    assert_eq!(all, [credential("printer"), credential("scanner")]);
    assert!(store.remove_credential("printer").await.unwrap());
    assert!(!store.remove_credential("printer").await.unwrap());
    assert_eq!(store.credentials().await.unwrap(), [credential("scanner")]);
}

async fn moved(store: &Store, before: &mut u64) -> bool {
    let now = store.version().await.unwrap();
    std::mem::replace(before, now) != now
}

#[tokio::test]
async fn the_version_moves_with_what_somebody_else_should_notice() {
    let home = Home::new();
    let (daemon, command) = (home.open(), home.open());
    let mut version = daemon.version().await.unwrap();
    assert!(!moved(&daemon, &mut version).await, "nothing has happened");

    command.add_credential(credential("printer")).await.unwrap();
    assert!(moved(&daemon, &mut version).await, "another process added a credential");
    command.submit(submission(fresh_id(), b"x".to_vec())).await.unwrap();
    assert!(moved(&daemon, &mut version).await, "another process submitted a message");
    assert!(!moved(&daemon, &mut version).await);

    daemon.submit(submission(fresh_id(), b"x".to_vec())).await.unwrap();
    assert!(!moved(&daemon, &mut version).await, "its own mail is no news to it");
    daemon.suspend(ACCOUNT, "x").await.unwrap();
    assert!(moved(&daemon, &mut version).await);
    daemon.put_grant(ACCOUNT, 0, new_grant("x")).await.unwrap();
    assert!(moved(&daemon, &mut version).await);
    assert!(!moved(&daemon, &mut version).await);
}

#[tokio::test]
async fn two_handles_write_side_by_side() {
    let home = Home::new();
    let stores = [home.open(), home.open()];
    let mut tasks = tokio::task::JoinSet::new();
    for store in &stores {
        for _ in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..8 {
                    let id = fresh_id();
                    store.submit(submission(id, vec![b'x'; 4_096])).await.unwrap();
                    ids.push(id);
                }
                ids
            });
        }
    }
    let mut ids: Vec<_> = tasks.join_all().await.concat();
    ids.sort();
    for store in stores {
        let due = store.due(ACCOUNT, START, &[], 1_000).await.unwrap();
        assert_eq!(due.into_iter().map(|message| message.id).collect::<Vec<_>>(), ids);
        store.audit().await.unwrap();
    }
}

#[tokio::test]
async fn one_daemon_holds_the_lock_and_commands_need_none() {
    let home = Home::new();
    let daemon = home.open();
    let lock = daemon.lock_for_daemon().unwrap();
    let second = home.open();
    let error = second.lock_for_daemon().unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert_eq!(second.credentials().await.unwrap(), []);
    drop(lock);
    let _lock = second.lock_for_daemon().unwrap();
}
