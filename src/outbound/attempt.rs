//! One attempt: token, session, transaction, and what it means for every recipient.
//!
//! Owns [`Upstream`], an account's way out. Invariant: an attempt that was made yields exactly one
//! outcome per recipient, in their order; an attempt that could not be made says why and touches no
//! recipient. A refused token is renewed once and tried once more, never in a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::ServerName;

use crate::base::QueueId;
use crate::config::{Account, Provider};
use crate::mail::{Class, EnhancedCode, Envelope, Outcome, Phase, Status};
use crate::net::{TlsSetupError, client_config};
use crate::outbound::Seat;
use crate::outbound::catalogue::classify;
use crate::outbound::pool::Pool;
use crate::outbound::session::{AuthenticationFault, Endpoint, UpstreamSession};
use crate::smtp::Reply;
use crate::smtp::client::{Report, Transaction, Verdict};
use crate::store::{Body, BodyReader, Store};
use crate::token::{AccessToken, TokenManager, TokenTrouble};

/// A message on its way out. Cheap to clone.
#[derive(Clone)]
pub struct Message {
    /// Its id here.
    pub id: QueueId,
    /// From whom and to whom; only recipients that are still to be tried.
    pub envelope: Envelope,
    /// Octets of everything that will be sent as its content, before dot-stuffing.
    pub size: u64,
    /// Where the content comes from.
    pub content: Content,
}

/// The content of a message.
#[derive(Clone)]
pub enum Content {
    /// Just received and in nobody's store.
    Fresh {
        /// The lines that go before it.
        prologue: Bytes,
        /// What the client sent.
        body: Body,
    },
    /// Committed.
    Stored(Store),
}

impl Message {
    fn open(&self) -> (Bytes, BodyReader) {
        match &self.content {
            Content::Fresh { prologue, body } => (prologue.clone(), body.reader()),
            Content::Stored(store) => (Bytes::new(), store.stored_body(self.id)),
        }
    }
}

/// Shows how far an attempt has come to somebody who may want to give up waiting for it.
#[derive(Debug, Default)]
pub struct Progress {
    has_begun: AtomicBool,
}

impl Progress {
    /// True once upstream has been told of the message: from then on only its answer is an answer.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Attempted {
    /// Upstream was asked: one outcome per recipient, in the envelope's order.
    Tried(Vec<Outcome>),
    /// It never came to the message: no token, no connection, no login. The whole account waits.
    Hindered {
        /// What it means: never `Delivered`, `Fail` or `Uncertain`.
        outcome: Outcome,
        /// When somebody said that trying again makes sense.
        retry_after: Option<Duration>,
    },
}

/// Why an account has no way out.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No certificate can carry the host's name.
    #[error("no certificate can be valid for the host `{host}`; check smtp.host of the provider")]
    HostName {
        /// The name.
        host: String,
    },
    /// There is nobody to vouch for the host.
    #[error(transparent)]
    Trust(#[from] TlsSetupError),
}

/// The way out of one account.
pub struct Upstream {
    account: Arc<Account>,
    endpoint: Arc<Endpoint>,
    pool: Arc<Pool>,
    tokens: TokenManager,
}

impl Upstream {
    /// Prepares the way; connects to nothing yet.
    pub fn new(
        account: Arc<Account>,
        ehlo_name: &str,
        tokens: TokenManager,
    ) -> Result<Self, UpstreamError> {
        let provider = &account.provider;
        let host = &provider.smtp.host;
        let server_name = ServerName::try_from(host.clone())
            .map_err(|_| UpstreamError::HostName { host: host.clone() })?;
        let endpoint = Arc::new(Endpoint {
            smtp: provider.smtp.clone(),
            server_name,
            tls: client_config(provider.ca_file.as_deref())?,
            ehlo_name: ehlo_name.to_owned(),
        });
        let pool = Pool::new(provider.limits.sessions);
        Ok(Self { account, endpoint, pool, tokens })
    }

    /// The account.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Waits for the right to a session.
    pub async fn seat(&self) -> Seat {
        self.pool.seat().await
    }

    /// Ends sessions that nobody needs any more, or all of them.
    pub async fn cool(&self, all: bool) {
        self.pool.cool(all).await;
    }

    /// Tries to deliver the message, and gives the seat back.
    pub async fn attempt(&self, seat: Seat, message: &Message, progress: &Progress) -> Attempted {
        let token = match self.tokens.token(&self.account.name).await {
            Ok(token) => token,
            Err(trouble) => return hindered_by(trouble),
        };
        if let Some(session) = seat.warm_session(token.generation).await {
            let (attempted, session) = self.transact(session, message, progress).await;
            if !is_stale_session(&attempted) {
                seat.give_back(session);
                return attempted;
            }
            session.quit().await;
        }
        match self.open(token).await {
            Ok(session) => {
                let (attempted, session) = self.transact(session, message, progress).await;
                seat.give_back(session);
                attempted
            }
            Err(hindered) => hindered,
        }
    }

    /// Connects and logs in. A token that is refused is renewed once.
    async fn open(&self, mut token: AccessToken) -> Result<UpstreamSession, Attempted> {
        let mut is_renewed = false;
        loop {
            let session = UpstreamSession::open(self.endpoint.clone()).await;
            let mut session = session.map_err(hindered)?;
            let user = self.account.user().as_str();
            let Provider { smtp, mechanism, .. } = &self.account.provider;
            let response = mechanism.response(user, &token.secret, &smtp.host, smtp.port);
            let response = response.map_err(|error| {
                hindered(Outcome::new(
                    Class::Suspend,
                    Status::event(Phase::Auth, format!("the token cannot be presented: {error}")),
                ))
            })?;
            let fault = match session.authenticate(response, mechanism.as_str()).await {
                Ok(()) => {
                    session.token = Some(token);
                    return Ok(session);
                }
                Err(fault) => fault,
            };
            let (reply, challenge) = match fault {
                AuthenticationFault::Broken(mut outcome) => {
                    outcome.status.text = token.secret.redact(&outcome.status.text);
                    return Err(hindered(outcome));
                }
                AuthenticationFault::Refused { reply, challenge } => (reply, challenge),
            };
            // It ends before the next one begins: there is one seat for both.
            session.quit().await;
            let mut status = reply.to_status(Phase::Auth);
            if let Some(challenge) = challenge {
                status.text = format!("{} {challenge}", status.text);
            }
            status.text = token.secret.redact(&status.text);
            let refusal = hindered(Outcome::new(classify(Phase::Auth, &reply), status));
            if !is_about_the_token(&reply) || is_renewed {
                return Err(refusal);
            }
            is_renewed = true;
            token = match self.tokens.refused(&self.account.name, token.generation).await {
                Ok(token) => token,
                // What upstream said is the better diagnosis when no other token can be had.
                Err(TokenTrouble::PersonNeeded { .. } | TokenTrouble::Misconfigured { .. }) => {
                    return Err(refusal);
                }
                Err(not_now @ TokenTrouble::NotNow { .. }) => return Err(hindered_by(not_now)),
            };
        }
    }

    async fn transact(
        &self,
        mut session: UpstreamSession,
        message: &Message,
        progress: &Progress,
    ) -> (Attempted, UpstreamSession) {
        progress.has_begun.store(true, Ordering::Release);
        let (prologue, body) = message.open();
        let transaction = Transaction { envelope: message.envelope.clone(), size: message.size };
        let attempted = match session.transact(transaction, &prologue, body).await {
            Ok(report) => {
                let mut outcomes = outcomes_of(report);
                debug_assert_eq!(outcomes.len(), message.envelope.forward_paths.len());
                if let Some(token) = &session.token {
                    for outcome in &mut outcomes {
                        outcome.status.text = token.secret.redact(&outcome.status.text);
                    }
                }
                Attempted::Tried(outcomes)
            }
            Err(outcome) => hindered(outcome),
        };
        (attempted, session)
    }
}

/// True if upstream may have refused this token and not the login as such. `5.7.139` is about the
/// tenant's or mailbox's settings, which no other token changes.
fn is_about_the_token(reply: &Reply) -> bool {
    reply.code() == 535 && reply.enhanced() != Some(EnhancedCode::new(5, 7, 139))
}

/// True if a warm session turned out to be dead, or no longer logged in, before upstream can have
/// taken anything of the message.
fn is_stale_session(attempted: &Attempted) -> bool {
    match attempted {
        Attempted::Hindered { .. } => true,
        Attempted::Tried(outcomes) => outcomes.iter().all(|Outcome { class, status }| {
            status.phase == Phase::Mail
                && match class {
                    Class::Defer => status.code.is_none_or(|code| code == 421),
                    Class::Suspend => true,
                    Class::Delivered | Class::Hold | Class::Fail | Class::Uncertain => false,
                }
        }),
    }
}

fn outcomes_of(report: Report) -> Vec<Outcome> {
    let outcome = |verdict| match verdict {
        Verdict::Accepted(reply) => {
            Outcome::new(Class::Delivered, Reply::to_status(&reply, Phase::Final))
        }
        Verdict::Refused { phase, reply } => {
            Outcome::new(classify(phase, &reply), reply.to_status(phase))
        }
        Verdict::Lost { phase, text } => Outcome::new(Class::Defer, Status::event(phase, text)),
        Verdict::Uncertain { text } => {
            Outcome::new(Class::Uncertain, Status::event(Phase::Final, text))
        }
    };
    report.verdicts.into_iter().map(outcome).collect()
}

fn hindered(outcome: Outcome) -> Attempted {
    Attempted::Hindered { outcome, retry_after: None }
}

fn hindered_by(trouble: TokenTrouble) -> Attempted {
    let (class, reason, retry_after) = match trouble {
        TokenTrouble::NotNow { reason, retry_after } => (Class::Defer, reason, retry_after),
        TokenTrouble::PersonNeeded { reason } | TokenTrouble::Misconfigured { reason } => {
            (Class::Suspend, reason, None)
        }
    };
    let outcome = Outcome::new(class, Status::event(Phase::Token, reason));
    Attempted::Hindered { outcome, retry_after }
}
