//! One upstream session: the client core, a connection, and the loop between them.
//!
//! Owns [`UpstreamSession`]. Invariant: nothing but EHLO and STARTTLS is ever written before TLS
//! with a verified name.

use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::ServerName;
use tokio::time::timeout;

use crate::base::{Secret, limits};
use crate::config::{SmtpEndpoint, UpstreamTls};
use crate::mail::{Class, Outcome, Phase, Status};
use crate::net::{Arrival, Wire, dial};
use crate::outbound::catalogue::classify;
use crate::smtp::client::{
    ClientEvent, ClientSession, ClientSettings, ClientTls, Fault, FaultKind, Report, Transaction,
};
use crate::smtp::{Reply, Step};
use crate::store::BodyReader;
use crate::token::AccessToken;

/// Where sessions lead and how they are secured.
pub(crate) struct Endpoint {
    pub(crate) smtp: SmtpEndpoint,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) ehlo_name: String,
}

/// An open dialog with upstream.
pub(crate) struct UpstreamSession {
    core: ClientSession,
    wire: Wire,
    endpoint: Arc<Endpoint>,
    /// The token that it authenticated with; none before.
    pub(crate) token: Option<AccessToken>,
    /// When it was last of use.
    pub(crate) last_used: Instant,
    is_over: bool,
}

/// How AUTH ended when it did not succeed.
pub(crate) enum AuthenticationFault {
    /// Upstream refused the token. The session stays usable unless it says otherwise.
    Refused {
        reply: Reply,
        /// What a provider said before the reply, as Gmail does in JSON.
        challenge: Option<String>,
    },
    /// The session broke.
    Broken(Outcome),
}

impl UpstreamSession {
    /// Connects and gets to the point where AUTH is next.
    pub(crate) async fn open(endpoint: Arc<Endpoint>) -> Result<Self, Outcome> {
        let SmtpEndpoint { host, port, tls } = &endpoint.smtp;
        let mut wire = dial(host, *port).await.map_err(|error| {
            Outcome::new(Class::Defer, Status::event(Phase::Connect, error.to_string()))
        })?;
        let tls = match tls {
            UpstreamTls::StartTls => ClientTls::StartTls,
            UpstreamTls::Implicit => {
                start_tls(&mut wire, &endpoint).await?;
                ClientTls::Active
            }
        };
        let settings = ClientSettings { ehlo_name: endpoint.ehlo_name.clone(), tls };
        let now = Instant::now();
        let core = ClientSession::new(settings, now);
        let mut session =
            Self { core, wire, endpoint, token: None, last_used: now, is_over: false };
        match session.next_event().await {
            Ok(ClientEvent::Ready) => Ok(session),
            Ok(other) => Err(unexpected(Phase::Ehlo, &other)),
            Err(fault) => Err(fault),
        }
    }

    /// Presents the token.
    pub(crate) async fn authenticate(
        &mut self,
        initial_response: Secret,
        mechanism: &str,
    ) -> Result<(), AuthenticationFault> {
        self.core.authenticate(initial_response, mechanism, Instant::now());
        match self.next_event().await {
            Ok(ClientEvent::Authenticated) => Ok(()),
            Ok(ClientEvent::AuthenticationRefused { reply, challenge }) => {
                Err(AuthenticationFault::Refused { reply, challenge })
            }
            Ok(other) => Err(AuthenticationFault::Broken(unexpected(Phase::Auth, &other))),
            Err(fault) => Err(AuthenticationFault::Broken(fault)),
        }
    }

    /// Runs one transaction to its end; there is a verdict for every recipient.
    pub(crate) async fn transact(
        &mut self,
        transaction: Transaction,
        prologue: &[u8],
        mut body: BodyReader,
    ) -> Result<Report, Outcome> {
        self.core.begin(transaction, Instant::now());
        let mut is_body_started = false;
        loop {
            let now = Instant::now();
            match self.core.next(now) {
                Step::Event(ClientEvent::Finished(report)) => {
                    self.last_used = now;
                    return Ok(report);
                }
                Step::Event(ClientEvent::WantBody) => {}
                Step::Event(ClientEvent::Broken(fault)) => return Err(outcome_of(fault)),
                Step::Event(other) => return Err(unexpected(Phase::Data, &other)),
                Step::Read if self.core.wants_body() => {
                    // Upstream may refuse in the middle; then it is no use to send the rest.
                    if let Some(arrival) = self.wire.arrival_now().await {
                        self.feed(arrival);
                        continue;
                    }
                    if !is_body_started {
                        is_body_started = true;
                        self.core.body(prologue, now);
                        continue;
                    }
                    match body.next().await {
                        Ok(Some(chunk)) => self.core.body(&chunk, now),
                        Ok(None) => self.core.end_of_body(now),
                        Err(error) => {
                            tracing::error!(event = "body_unreadable", %error);
                            self.core.abandon_body(now);
                        }
                    }
                }
                step => self.obey(step).await?,
            }
        }
    }

    /// True if the session can take another transaction, as far as can be told without waiting.
    pub(crate) async fn is_usable(&mut self) -> bool {
        self.is_idle() && self.wire.arrival_now().await.is_none()
    }

    /// True if nothing is going on and nothing is wrong.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_over && self.core.is_idle()
    }

    /// Says QUIT and closes, within [`limits::CLOSE`].
    pub(crate) async fn quit(mut self) {
        let farewell = async {
            if !self.is_over {
                self.core.quit(Instant::now());
                while !self.is_over {
                    let step = self.core.next(Instant::now());
                    if self.obey(step).await.is_err() {
                        break;
                    }
                }
            }
            self.wire.close().await;
        };
        let _ = timeout(limits::CLOSE, farewell).await;
    }

    async fn next_event(&mut self) -> Result<ClientEvent, Outcome> {
        loop {
            match self.core.next(Instant::now()) {
                Step::Event(ClientEvent::Broken(fault)) => {
                    self.is_over = true;
                    return Err(outcome_of(fault));
                }
                Step::Event(event) => return Ok(event),
                step => self.obey(step).await?,
            }
        }
    }

    /// Does what the core asks for, events aside.
    async fn obey(&mut self, step: Step<ClientEvent>) -> Result<(), Outcome> {
        match step {
            Step::Event(_) => {}
            Step::Write(bytes) => {
                if self.wire.write(&bytes, limits::CLIENT_BODY).await.is_err() {
                    // The last words of a peer that stopped listening are the diagnosis.
                    let soon = Instant::now() + limits::LAST_WORDS;
                    let arrival = self.wire.arrival(Some(soon)).await;
                    if arrival == Arrival::Bytes {
                        self.feed(arrival);
                    }
                    self.core.receive_end(Instant::now());
                }
            }
            Step::Read => {
                let arrival = self.wire.arrival(self.core.deadline()).await;
                self.feed(arrival);
            }
            Step::StartTls => {
                start_tls(&mut self.wire, &self.endpoint).await?;
                self.core.tls_started(Instant::now());
            }
            Step::Close => {
                self.is_over = true;
                return Err(Outcome::new(
                    Class::Defer,
                    Status::event(Phase::Local, "the session is over"),
                ));
            }
        }
        Ok(())
    }

    fn feed(&mut self, arrival: Arrival) {
        let now = Instant::now();
        match arrival {
            Arrival::Bytes => self.core.receive(&self.wire.take(), now),
            Arrival::End => self.core.receive_end(now),
            Arrival::Late => self.core.tick(now),
        }
    }
}

async fn start_tls(wire: &mut Wire, endpoint: &Endpoint) -> Result<(), Outcome> {
    let handshake = wire.connect_tls(endpoint.tls.clone(), endpoint.server_name.clone());
    handshake.await.map_err(|error| {
        let host = &endpoint.smtp.host;
        let text = format!("no verified TLS with {host}: {error}");
        Outcome::new(Class::Defer, Status::event(Phase::Tls, text))
    })
}

/// What a broken session means for the account; no message was in it.
fn outcome_of(fault: Fault) -> Outcome {
    match &fault.kind {
        FaultKind::Refused(reply) => {
            Outcome::new(classify(fault.phase, reply), reply.to_status(fault.phase))
        }
        FaultKind::Closed
        | FaultKind::TimedOut
        | FaultKind::Protocol(_)
        | FaultKind::Injected
        | FaultKind::NoStartTls
        | FaultKind::NoMechanism => {
            Outcome::new(Class::Defer, Status::event(fault.phase, fault.kind.to_string()))
        }
    }
}

fn unexpected(phase: Phase, event: &ClientEvent) -> Outcome {
    let text = format!("a session event that does not belong here: {event:?}");
    Outcome::new(Class::Defer, Status::event(phase, text))
}
