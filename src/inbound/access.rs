//! Who a client is and what it may do.
//!
//! Owns the credentials in force and the check of passwords. A wrong password always costs the full
//! hash, whether its name is known or not; a right one is remembered as a keyed digest until its
//! credential changes, so that a busy client's next login costs microseconds. The check never looks
//! at tokens: whether upstream would take the mail is another question.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ring::hmac;

use crate::base::{Secret, limits};
use crate::config::{Account, AccountName, Config, Credential, Delivery, Network, PasswordHash};
use crate::inbound::hashing::Hashing;
use crate::mail::AddressPattern;
use crate::store::{Store, StoreError};

/// A client that may send.
#[derive(Clone, Debug)]
pub struct Client {
    /// The credential that it presented; none if its network vouches for it.
    pub credential: Option<String>,
    /// The account that its mail leaves through.
    pub account: Arc<Account>,
    /// Reverse-paths that it may use.
    pub may_send_as: Vec<AddressPattern>,
    /// Forward-paths that it may use.
    pub may_send_to: Vec<AddressPattern>,
    /// The way of delivery, if its credential says one.
    pub delivery: Option<Delivery>,
    /// Of the password that it presented.
    hash: Option<PasswordHash>,
}

/// The credentials in force: those of the configuration and those of the store.
pub struct Access {
    accounts: HashMap<AccountName, Arc<Account>>,
    configured: Vec<Credential>,
    entries: ArcSwap<HashMap<String, Entry>>,
    remembered: Mutex<HashMap<String, Remembered>>,
    key: hmac::Key,
    hashing: Hashing,
    /// Checked instead when nobody has the presented name, so that it takes the same time.
    decoy: PasswordHash,
}

struct Entry {
    hash: PasswordHash,
    client: Client,
}

/// A password that was right for this hash.
struct Remembered {
    hash: PasswordHash,
    digest: hmac::Tag,
}

impl Access {
    /// Reads the credentials of the configuration and of the store.
    pub async fn open(config: &Config, store: &Store) -> Result<Self, AccessError> {
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| AccessError::NoRandomNumbers)?;
        let access = Self {
            accounts: config.accounts.iter().map(|a| (a.name.clone(), a.clone())).collect(),
            configured: config.credentials.clone(),
            entries: ArcSwap::default(),
            remembered: Mutex::default(),
            key,
            hashing: Hashing::start(limits::CONCURRENT_PASSWORD_HASHES)?,
            decoy: PasswordHash::decoy(),
        };
        access.reload(store).await?;
        Ok(access)
    }

    /// Reads the store's credentials again. One of the configuration wins over one of the store; one
    /// whose account is gone is left out, and said so.
    pub async fn reload(&self, store: &Store) -> Result<(), AccessError> {
        let mut entries = HashMap::new();
        for stored in store.credentials().await? {
            let name = &stored.name;
            let patterns = |texts: &[String]| {
                texts.iter().map(|text| AddressPattern::parse(text)).collect::<Result<Vec<_>, _>>()
            };
            let (hash, as_, to) = (
                PasswordHash::parse(&stored.password_hash),
                patterns(&stored.may_send_as),
                patterns(&stored.may_send_to),
            );
            let account = stored.account.parse::<AccountName>().ok();
            let account = account.and_then(|account| self.accounts.get(&account));
            let (Ok(hash), Ok(may_send_as), Ok(may_send_to), Some(account)) =
                (hash, as_, to, account)
            else {
                tracing::warn!(
                    event = "credential_left_out",
                    credential = name,
                    account = stored.account,
                    "its account is not configured or its entry is damaged; remove and add it again"
                );
                continue;
            };
            let client = Client {
                credential: Some(name.clone()),
                account: account.clone(),
                may_send_as,
                may_send_to,
                delivery: None,
                hash: Some(hash.clone()),
            };
            entries.insert(name.to_lowercase(), Entry { hash, client });
        }
        for credential in &self.configured {
            let hash = credential.password_hash.clone();
            let client = Client {
                credential: Some(credential.name.clone()),
                account: self.accounts[&credential.account].clone(),
                may_send_as: credential.may_send_as.clone(),
                may_send_to: credential.may_send_to.clone(),
                delivery: credential.delivery,
                hash: Some(hash.clone()),
            };
            entries.insert(credential.name.to_lowercase(), Entry { hash, client });
        }
        self.entries.store(Arc::new(entries));
        Ok(())
    }

    /// The client with this name, if the password is its own. Names compare without regard to case.
    pub async fn verify(&self, name: &str, password: &Secret) -> Option<Client> {
        let name = name.to_lowercase();
        let entries = self.entries.load_full();
        let entry = entries.get(&name);
        let hash = entry.map_or(&self.decoy, |entry| &entry.hash).clone();
        if self.remembers(&name, &hash, password) {
            return entry.map(|entry| entry.client.clone());
        }
        let is_right = self.hashing.verify(hash.clone(), password.clone()).await;
        let entry = entry.filter(|_| is_right)?;
        self.remember(name, hash, password);
        Some(entry.client.clone())
    }

    /// The client that everybody in a network is.
    pub fn network_client(&self, network: &Network) -> Option<Client> {
        Some(Client {
            credential: None,
            account: self.accounts.get(&network.account)?.clone(),
            may_send_as: network.may_send_as.clone(),
            may_send_to: network.may_send_to.clone(),
            delivery: None,
            hash: None,
        })
    }

    /// The client as its credential is now; none if that was removed or has another password by now.
    /// A network's client stays what it is.
    pub fn renew(&self, client: &Client) -> Option<Client> {
        let Some(name) = &client.credential else { return Some(client.clone()) };
        let entries = self.entries.load();
        let entry = entries.get(&name.to_lowercase())?;
        (client.hash.as_ref() == Some(&entry.hash)).then(|| entry.client.clone())
    }

    fn remembers(&self, name: &str, hash: &PasswordHash, password: &Secret) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(name).is_some_and(|known| {
            let text = digest_input(name, password);
            known.hash == *hash && hmac::verify(&self.key, &text, known.digest.as_ref()).is_ok()
        })
    }

    fn remember(&self, name: String, hash: PasswordHash, password: &Secret) {
        let digest = hmac::sign(&self.key, &digest_input(&name, password));
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= limits::REMEMBERED_PASSWORDS && !remembered.contains_key(&name) {
            // Rare enough that forgetting all of them is the simplest thing that is right.
            remembered.clear();
        }
        remembered.insert(name, Remembered { hash, digest });
    }
}

/// Names hold no NUL, so the two parts cannot be shifted against each other.
fn digest_input(name: &str, password: &Secret) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new([name.as_bytes(), b"\0", password.expose().as_bytes()].concat())
}

/// Why the credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store did not answer.
    #[error("the stored credentials cannot be read: {0}")]
    Store(#[from] StoreError),
    /// There is no thread to hash them on.
    #[error("passwords cannot be checked: {0}")]
    Thread(#[from] std::io::Error),
    /// The operating system has no random numbers.
    #[error("passwords cannot be checked: the system gives no random numbers")]
    NoRandomNumbers,
}
