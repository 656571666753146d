//! One session: the server core, a connection, and the decisions between them.
//!
//! Owns the loop that drives the core, the policy on MAIL and RCPT, and taking a body in. It holds
//! at most one message, and of its body at most what the body writer keeps in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::base::{Printable, QueueId, SessionId, limits};
use crate::config::{AuthPolicy, ListenerTls, SenderPolicy};
use crate::inbound::listener::{Inbound, Listening};
use crate::inbound::{Client, verdict};
use crate::mail::{
    BodyType, EnhancedCode, Envelope, ForwardPath, HeaderScan, MailParameters, Prologue,
    ReceivedFrom, ReceivedLine, ReversePath,
};
use crate::net::{Arrival, Wire};
use crate::queue::Submission;
use crate::smtp::server::{AuthOffer, ServerEvent, ServerSession, ServerSettings, SessionEnd};
use crate::smtp::{Reply, Step};
use crate::store::{BodyWriter, StoreError};

/// Serves one connection to its end.
pub(crate) async fn serve(
    wire: Wire,
    peer: SocketAddr,
    inbound: Arc<Inbound>,
    listening: Arc<Listening>,
    stop: CancellationToken,
) {
    let mut session = Session::new(wire, peer, inbound, listening);
    let ending = session.run(stop).await;
    session.wire.close().await;
    session.log_end(ending);
}

struct Session {
    id: SessionId,
    started: Instant,
    peer: SocketAddr,
    inbound: Arc<Inbound>,
    listening: Arc<Listening>,
    wire: Wire,
    core: ServerSession,
    /// Who may send here and now, by credential or by network.
    client: Option<Client>,
    network_client: Option<Client>,
    helo: String,
    is_extended: bool,
    transaction: Option<Transaction>,
    accepted: u32,
    refused: u32,
}

/// A transaction from MAIL on.
struct Transaction {
    client: Client,
    reverse_path: ReversePath,
    parameters: MailParameters,
    forward_paths: Vec<ForwardPath>,
    intake: Option<Intake>,
}

/// A body that is coming in.
struct Intake {
    writer: BodyWriter,
    scan: HeaderScan,
    /// There is an octet above 127. Old clients send them without saying so; upstream is told.
    is_eight_bit: bool,
    /// The first fault; the rest of the body is read and dropped.
    fault: Option<StoreError>,
}

impl Session {
    fn new(wire: Wire, peer: SocketAddr, inbound: Arc<Inbound>, listening: Arc<Listening>) -> Self {
        let listener = &listening.listener;
        let network = listener.network_of(peer.ip());
        let network_client = network.and_then(|network| inbound.access.network_client(network));
        let max_message_octets = max_octets(&inbound, network_client.as_ref());
        let settings = ServerSettings {
            hostname: inbound.hostname.clone(),
            max_message_octets,
            starttls: matches!(listener.tls, ListenerTls::StartTls | ListenerTls::Require),
            tls_active: listener.tls == ListenerTls::Implicit,
            require_tls: listener.tls == ListenerTls::Require,
            auth: match (listener.auth, listener.plaintext_auth) {
                (AuthPolicy::Off, _) => AuthOffer::Never,
                (AuthPolicy::Required | AuthPolicy::Optional, true) => AuthOffer::Plaintext,
                (AuthPolicy::Required | AuthPolicy::Optional, false) => AuthOffer::OnlyTls,
            },
            require_auth: network_client.is_none(),
            bare_newline: listener.bare_newline,
        };
        let started = Instant::now();
        let core = ServerSession::new(settings, started);
        Self {
            id: SessionId::generate(),
            started,
            peer,
            inbound,
            listening,
            wire,
            core,
            client: network_client.clone(),
            network_client,
            helo: String::new(),
            is_extended: false,
            transaction: None,
            accepted: 0,
            refused: 0,
        }
    }

    /// Returns how the session ended, for the log.
    async fn run(&mut self, stop: CancellationToken) -> &'static str {
        let listener = &self.listening.listener;
        if listener.auth == AuthPolicy::Off && self.network_client.is_none() {
            let text = "no service for your address";
            let reply = Reply::new(554, EnhancedCode::new(5, 7, 1), text);
            self.core.close_with(reply, Instant::now());
        }
        if listener.tls == ListenerTls::Implicit && !self.start_tls().await {
            return "tls_failed";
        }
        let mut is_stopping = false;
        loop {
            match self.core.next(Instant::now()) {
                Step::Event(event) => self.on_event(event).await,
                Step::Write(bytes) => {
                    if self.wire.write(&bytes, limits::HANDSHAKE).await.is_err() {
                        return "lost";
                    }
                }
                Step::Read => {
                    self.wire.shrink();
                    let arrival = tokio::select! {
                        arrival = self.wire.arrival(self.core.deadline()) => arrival,
                        () = stop.cancelled(), if !is_stopping && self.transaction.is_none() => {
                            is_stopping = true;
                            let code = EnhancedCode::new(4, 3, 2);
                            let reply = Reply::new(421, code, "this relay is shutting down");
                            self.core.close_with(reply, Instant::now());
                            continue;
                        }
                    };
                    let now = Instant::now();
                    match arrival {
                        Arrival::Bytes => self.core.receive(&self.wire.take(), now),
                        Arrival::End => self.core.receive_end(now),
                        Arrival::Late => self.core.tick(now),
                    }
                }
                Step::StartTls => {
                    if !self.start_tls().await {
                        return "tls_failed";
                    }
                    self.client = self.network_client.clone();
                    self.core.tls_started(Instant::now());
                }
                Step::Close => return self.core.ended_by().map_or("closed", SessionEnd::as_str),
            }
        }
    }

    async fn start_tls(&mut self) -> bool {
        let Some(certificates) = &self.listening.certificates else { return false };
        match self.wire.accept_tls(certificates.current()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    event = "tls_failed", session_id = %self.id, peer = %self.peer, %error,
                    "the client could not agree on TLS 1.2 or 1.3 with us, or does not trust our \
                     certificate"
                );
                false
            }
        }
    }

    async fn on_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello { name, is_extended } => {
                self.helo = name;
                self.is_extended = is_extended;
            }
            ServerEvent::Authenticate { name, password } => {
                let client = self.inbound.access.verify(&name, &password).await;
                let reply = match client {
                    Some(client) => {
                        let octets = max_octets(&self.inbound, Some(&client));
                        self.core.set_max_message_octets(octets);
                        self.client = Some(client);
                        Reply::new(235, EnhancedCode::new(2, 7, 0), "you may send")
                    }
                    None => {
                        tracing::warn!(
                            event = "login_refused", session_id = %self.id, peer = %self.peer,
                            credential = Printable::text(&name).to_string(),
                        );
                        let text = "user name or password is wrong";
                        Reply::new(535, EnhancedCode::new(5, 7, 8), text)
                    }
                };
                self.answer(reply);
            }
            ServerEvent::Mail { reverse_path, parameters } => {
                let reply = self.on_mail(reverse_path, parameters);
                self.answer(reply);
            }
            ServerEvent::Recipient { forward_path } => {
                let reply = self.on_recipient(forward_path);
                self.answer(reply);
            }
            ServerEvent::Data => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.intake = Some(Intake {
                        writer: self.inbound.queue.store().body_writer(),
                        scan: HeaderScan::default(),
                        is_eight_bit: false,
                        fault: None,
                    });
                }
                self.answer(Reply::plain(354, "go on, and end with a dot on a line of its own"));
            }
            ServerEvent::Body(bytes) => self.on_body(bytes).await,
            ServerEvent::EndOfData => {
                let reply = self.on_end_of_data().await;
                match reply.is_positive() {
                    true => self.accepted += 1,
                    false => self.refused += 1,
                }
                self.answer(reply);
            }
            ServerEvent::Reset => self.transaction = None,
        }
    }

    fn answer(&mut self, reply: Reply) {
        self.core.answer(reply, Instant::now());
    }

    fn on_mail(&mut self, reverse_path: ReversePath, parameters: MailParameters) -> Reply {
        let Some(client) = &self.client else {
            return Reply::new(530, EnhancedCode::new(5, 7, 0), "authentication is required");
        };
        // A session may outlive the credential that opened it.
        let Some(client) = self.inbound.access.renew(client) else {
            let text = "your credential is no longer valid";
            return Reply::new(421, EnhancedCode::new(4, 7, 0), text);
        };
        let account = &client.account;
        // The null reverse-path names nobody: it is allowed to everybody (RFC 5321 §4.5.5).
        if let Some(mailbox) = reverse_path.mailbox() {
            let is_allowed =
                client.may_send_as.iter().any(|pattern| pattern.matches(mailbox.as_str()));
            let fits_account = match account.sender {
                SenderPolicy::Keep => true,
                SenderPolicy::Refuse => mailbox.is_same_as(&account.mailbox),
            };
            if !is_allowed || !fits_account {
                let text = format!("you may not send as {mailbox} here");
                return Reply::new(553, EnhancedCode::new(5, 7, 1), &text);
            }
        }
        self.transaction = Some(Transaction {
            client,
            reverse_path,
            parameters,
            forward_paths: Vec::new(),
            intake: None,
        });
        Reply::new(250, EnhancedCode::new(2, 1, 0), "sender ok")
    }

    fn on_recipient(&mut self, forward_path: ForwardPath) -> Reply {
        let Some(transaction) = &mut self.transaction else {
            return Reply::new(503, EnhancedCode::new(5, 5, 1), "MAIL first");
        };
        let client = &transaction.client;
        let address = forward_path.as_str();
        if !client.may_send_to.iter().any(|pattern| pattern.matches(address)) {
            let text = format!("you may not send to {address} here");
            return Reply::new(550, EnhancedCode::new(5, 7, 1), &text);
        }
        transaction.forward_paths.push(forward_path);
        Reply::new(250, EnhancedCode::new(2, 1, 5), "recipient ok")
    }

    async fn on_body(&mut self, bytes: Bytes) {
        let Some(transaction) = &mut self.transaction else { return };
        let Some(intake) = &mut transaction.intake else { return };
        intake.scan.feed(&bytes);
        intake.is_eight_bit |= !bytes.is_ascii();
        if intake.fault.is_none() {
            intake.fault = intake.writer.write(bytes).await.err();
        }
    }

    async fn on_end_of_data(&mut self) -> Reply {
        let taken = self.transaction.take().and_then(|mut transaction| {
            let intake = transaction.intake.take()?;
            Some((transaction, intake))
        });
        let Some((transaction, intake)) = taken else {
            return Reply::new(503, EnhancedCode::new(5, 5, 1), "DATA first");
        };
        let Intake { writer, scan, is_eight_bit, fault } = intake;
        let body = match fault {
            Some(error) => Err(error),
            None => writer.finish().await,
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return self.not_kept(&error),
        };
        if scan.received >= limits::RECEIVED_LINES {
            let text = "the message has passed too many relays: it is in a loop";
            return Reply::new(554, EnhancedCode::new(5, 4, 6), text);
        }
        let (at, inbound) = (self.inbound.clock.now(), self.inbound.clone());
        let Transaction { client, reverse_path, parameters, forward_paths, .. } = transaction;
        let id = QueueId::generate(at);
        let from = ReceivedFrom {
            helo: self.helo.clone(),
            address: self.peer.ip(),
            is_authenticated: client.credential.is_some(),
            is_encrypted: self.core.is_tls_active(),
            is_extended: self.is_extended,
            smtputf8: parameters.smtputf8,
        };
        let received = ReceivedLine { from: &from, by: &inbound.hostname, id, at };
        let prologue = Prologue::compose(&received, &scan);
        let delivery = client.delivery.or(self.listening.listener.delivery);
        let delivery = delivery.unwrap_or(client.account.delivery);
        let (size_bytes, recipients) = (body.len(), forward_paths.len());
        let reverse = Printable::text(reverse_path.as_str()).to_string();
        let submission = Submission {
            id,
            account: client.account.name.clone(),
            credential: client.credential.clone(),
            received_at: at,
            envelope: Envelope {
                reverse_path,
                forward_paths,
                body: if is_eight_bit { BodyType::EightBitMime } else { parameters.body },
                smtputf8: parameters.smtputf8,
            },
            prologue: Bytes::copy_from_slice(prologue.as_bytes()),
            body,
        };
        let started = Instant::now();
        let verdict = match inbound.queue.submit(submission, delivery).await {
            Ok(verdict) => verdict,
            Err(error) => return self.not_kept(&error),
        };
        let reply = verdict::reply_to(&verdict, id);
        tracing::info!(
            event = if reply.is_positive() { "message_accepted" } else { "message_refused" },
            queue_id = %id, session_id = %self.id, account = %client.account.name,
            credential = client.credential, reverse_path = reverse, recipients, size_bytes,
            reply = reply.to_string(), verdict_ms = started.elapsed().as_millis() as u64,
        );
        reply
    }

    fn not_kept(&self, error: &StoreError) -> Reply {
        tracing::error!(
            event = "message_not_kept", session_id = %self.id, peer = %self.peer, %error,
            "the client was told to come again"
        );
        verdict::reply_to_fault(error)
    }

    fn log_end(&self, ending: &'static str) {
        let client = self.client.as_ref();
        tracing::info!(
            event = "session_end", session_id = %self.id, peer = %self.peer,
            listener = %self.listening.listener.address,
            helo = Printable::text(&self.helo).to_string(), tls = self.wire.tls_version(),
            repaired_newlines = self.core.repaired_newlines(),
            credential = client.and_then(|client| client.credential.as_deref()),
            accepted = self.accepted, refused = self.refused, ending,
            session_ms = self.started.elapsed().as_millis() as u64,
        );
    }
}

/// The smallest of our limit and the account's.
fn max_octets(inbound: &Inbound, client: Option<&Client>) -> u64 {
    let accounts = client.and_then(|client| client.account.provider.limits.max_message_octets);
    accounts.map_or(inbound.max_message_octets, |limit| limit.min(inbound.max_message_octets))
}
