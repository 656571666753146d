//! A scripted token endpoint on loopback, and a home for the store beside it.

#![allow(dead_code, reason = "each test uses its part of this")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::any;
use mailbearer::base::{Clock, Secret, Timestamp};
use mailbearer::config::{
    Account, AccountName, Delivery, Provider, ProviderLimits, SenderPolicy, SmtpEndpoint,
    UpstreamTls,
};
use mailbearer::mail::Mailbox;
use mailbearer::net::HttpPatience;
use mailbearer::oauth::{ClientRegistration, Grant, Mechanism};
use mailbearer::store::{NewGrant, Store};
use mailbearer::token::{TokenManager, TokenPace};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::Url;

pub const START: Timestamp = Timestamp::from_millis(1_795_436_435_000);
pub const MAILBOX: &str = "Scanner@contoso.com";

/// What the endpoint does with one request.
#[derive(Clone)]
pub enum Reply {
    /// A fresh token and a fresh refresh token, an hour long.
    Token,
    /// A fresh token once the semaphore lets it.
    Held(Arc<Semaphore>),
    /// `invalid_grant` once the semaphore lets it.
    HeldError(Arc<Semaphore>),
    Json(u16, Value),
    Full {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    Hang,
}

/// A token endpoint that does what the test says and remembers what it was asked.
pub struct Endpoint {
    address: SocketAddr,
    inner: Arc<Inner>,
    _server: tokio::task::JoinHandle<()>,
}

struct Inner {
    script: Mutex<VecDeque<Reply>>,
    always: Mutex<Reply>,
    asked: Mutex<Vec<BTreeMap<String, String>>>,
    issued: AtomicUsize,
}

impl Endpoint {
    pub async fn start() -> Self {
        let inner = Arc::new(Inner {
            script: Mutex::default(),
            always: Mutex::new(Reply::Token),
            asked: Mutex::default(),
            issued: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(any(answer)).with_state(inner.clone());
        let server = async move { axum::serve(listener, router).await.unwrap() };
        Self { address, inner, _server: tokio::spawn(server) }
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}/token", self.address)).unwrap()
    }

    /// The next request gets this.
    pub fn next(&self, reply: Reply) -> &Self {
        self.inner.script.lock().unwrap().push_back(reply);
        self
    }

    /// Every request without a script gets this.
    pub fn always(&self, reply: Reply) {
        *self.inner.always.lock().unwrap() = reply;
    }

    pub fn count(&self) -> usize {
        self.inner.asked.lock().unwrap().len()
    }

    pub fn asked(&self) -> Vec<BTreeMap<String, String>> {
        self.inner.asked.lock().unwrap().clone()
    }
}

/// The n-th tokens that an endpoint issues, from 1.
pub fn access(n: usize) -> Secret {
    Secret::new(format!("marked-access-{n}"))
}

pub fn refresh(n: usize) -> Secret {
    Secret::new(format!("marked+refresh/{n}"))
}

pub fn error(error: &str) -> Reply {
    Reply::Json(400, json!({ "error": error, "error_description": "said so" }))
}

async fn answer(State(inner): State<Arc<Inner>>, body: Bytes) -> Response<Body> {
    let form = url::form_urlencoded::parse(&body).into_owned().collect();
    inner.asked.lock().unwrap().push(form);
    let scripted = inner.script.lock().unwrap().pop_front();
    let reply = scripted.unwrap_or_else(|| inner.always.lock().unwrap().clone());
    let json = |status: u16, value: Value| full(status, &[], value.to_string());
    match reply {
        Reply::Token => json(200, inner.issue()),
        Reply::Held(gate) => {
            gate.acquire().await.unwrap().forget();
            json(200, inner.issue())
        }
        Reply::HeldError(gate) => {
            gate.acquire().await.unwrap().forget();
            json(400, json!({"error": "invalid_grant"}))
        }
        Reply::Json(status, value) => json(status, value),
        Reply::Full { status, headers, body } => full(status, &headers, body),
        Reply::Hang => std::future::pending().await,
    }
}

impl Inner {
    fn issue(&self) -> Value {
        let n = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        json!({
            "token_type": "Bearer",
            "access_token": access(n).expose(),
            "refresh_token": refresh(n).expose(),
            "expires_in": 3_600,
        })
    }
}

fn full(status: u16, headers: &[(&'static str, String)], body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        fields.insert(*name, value.parse().unwrap());
    }
    response.headers_mut().extend(fields);
    response
}

/// A server that reads a request, writes these bytes so many times, and then closes or hangs.
pub async fn raw_server(head: &'static [u8], piece: Vec<u8>, times: usize, hangs: bool) -> Url {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let piece = piece.clone();
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head).await;
                for _ in 0..times {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                }
                if hangs {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Url::parse(&format!("http://{address}/token")).unwrap()
}

/// Where a store lives, and the time there.
pub struct Home {
    root: tempfile::TempDir,
    pub clock: Clock,
}

impl Home {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), clock: Clock::manual(START) }
    }

    pub fn data_dir(&self) -> std::path::PathBuf {
        self.root.path().join("data")
    }

    /// As another process would.
    pub fn open(&self) -> Store {
        Store::open(&self.data_dir(), self.clock.clone()).unwrap()
    }

    /// A manager as another process would have it.
    pub fn manager(&self, account: &Arc<Account>) -> TokenManager {
        self.manager_with(account, pace())
    }

    pub fn manager_with(&self, account: &Arc<Account>, pace: TokenPace) -> TokenManager {
        let accounts = std::slice::from_ref(account);
        TokenManager::with_pace(accounts, self.open(), self.clock.clone(), pace).unwrap()
    }

    /// Somebody has signed in: refresh token `refresh(0)`, access token `access(0)`, which lives
    /// as long as said.
    pub async fn signed_in(&self, life: Duration) -> Store {
        let store = self.open();
        let version = store.grant(name().as_str()).await.unwrap().map_or(0, |grant| grant.version);
        store.put_grant(name().as_str(), version, self.grant(life)).await.unwrap();
        store
    }

    pub fn grant(&self, life: Duration) -> NewGrant {
        NewGrant {
            refresh_token: Some(refresh(0)),
            access_token: Some(access(0)),
            expires_at: Some(self.clock.now() + life),
            obtained_at: self.clock.now(),
            obtained_by: Some("admin@contoso.com".to_owned()),
            retired: None,
            origin: None,
        }
    }
}

pub const HOUR: Duration = Duration::from_secs(3_600);

/// In a hurry with the endpoint, in none to try again.
pub fn pace() -> TokenPace {
    TokenPace {
        patience: HttpPatience { connect: Duration::from_secs(5), total: Duration::from_secs(20) },
        back_off_first: HOUR,
        back_off_max: HOUR,
        misconfigured_first: HOUR,
        misconfigured_max: HOUR,
        poll: Duration::from_millis(5),
        ..TokenPace::default()
    }
}

pub fn name() -> AccountName {
    AccountName::of(&Mailbox::parse(MAILBOX).unwrap())
}

pub fn account(grant: Grant, token_url: Url) -> Arc<Account> {
    let mailbox = Mailbox::parse(MAILBOX).unwrap();
    Arc::new(Account {
        name: AccountName::of(&mailbox),
        mailbox,
        provider: Provider {
            name: "lab".to_owned(),
            smtp: SmtpEndpoint {
                host: "localhost".to_owned(),
                port: 587,
                tls: UpstreamTls::StartTls,
            },
            mechanism: Mechanism::Xoauth2,
            authorize_url: Some(Url::parse("https://login.example/authorize").unwrap()),
            token_url,
            device_url: None,
            revoke_url: None,
            issuer: None,
            scopes: vec!["mail.send".to_owned(), "offline_access".to_owned()],
            ca_file: None,
            limits: ProviderLimits {
                sessions: 3,
                messages_per_minute: 30,
                recipients_per_day: 10_000,
                max_message_octets: None,
            },
        },
        signs_in_as: None,
        grant,
        client: ClientRegistration {
            id: "the client".to_owned(),
            secret: Some(Secret::new("marked-client-secret")),
        },
        sender: SenderPolicy::Keep,
        delivery: Delivery::Confirm,
    })
}

/// Waits until a condition holds; fails after ten seconds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
