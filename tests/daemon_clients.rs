//! What clients meet at the listeners: TLS in its three forms, credentials, networks, limits.

mod support {
    pub mod relay;
}

use std::net::SocketAddr;
use std::sync::Arc;

use mailbearer::base::{Clock, Secret};
use mailbearer::config::PasswordHash;
use mailbearer::sim::SimOptions;
use mailbearer::store::StoredCredential;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use support::relay::{Client, MAILBOX, PASSWORD, RECIPIENT, Relay, Setup, USER};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

fn listener(lines: &str) -> Setup {
    Setup { listener: format!("{lines}\n"), ..Setup::default() }
}

/// The handshake of a client that trusts exactly the generated certificate.
async fn start_tls(relay: &Relay, stream: TcpStream) -> Client<TlsStream<TcpStream>> {
    let file = relay.config.server.data_dir.join("tls/certificate.pem");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    Client::new(stream)
}

async fn connect_from(source: &str, to: SocketAddr) -> Client<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    Client::new(socket.connect(to).await.unwrap())
}

#[tokio::test]
async fn starttls_is_offered_and_forgets_what_was_said_before() {
    let relay = Relay::start(Setup::default()).await;
    let mut plain = relay.client().await;
    let extensions = plain.say("EHLO printer.example").await;
    assert!(extensions.contains("\n250-STARTTLS"), "{extensions}");
    assert!(extensions.contains("AUTH PLAIN LOGIN") || extensions.contains("AUTH LOGIN PLAIN"));
    assert!(plain.login(USER, PASSWORD).await.starts_with("235"));
    assert!(plain.say("STARTTLS").await.starts_with("220"));
    let mut client = start_tls(&relay, plain.into_inner()).await;
    let extensions = client.say("EHLO printer.example").await;
    assert!(!extensions.contains("STARTTLS"), "{extensions}");
    let reply = client.say("MAIL FROM:<scanner@contoso.com>").await;
    assert!(reply.starts_with("530"), "the login before TLS is forgotten: {reply}");
    assert!(client.login(USER, PASSWORD).await.starts_with("235"));
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    let received = relay.sim.received(1).await.unwrap();
    let text = String::from_utf8_lossy(&received[0].bytes);
    assert!(text.contains("with ESMTPSA id"), "{text}");
    relay.stop().await;
}

#[tokio::test]
async fn implicit_tls_starts_with_the_handshake() {
    let relay = Relay::start(listener("tls = \"implicit\"\nauth = \"required\"")).await;
    let stream = TcpStream::connect(relay.daemon.addresses()[0]).await.unwrap();
    let mut client = start_tls(&relay, stream).await;
    client.expect("220").await;
    client.say("EHLO printer.example").await;
    assert!(client.login(USER, PASSWORD).await.starts_with("235"));
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn a_listener_that_requires_tls_takes_nothing_before_it() {
    let relay = Relay::start(listener("tls = \"require\"\nauth = \"required\"")).await;
    let mut client = relay.client().await;
    for command in ["AUTH LOGIN", "MAIL FROM:<scanner@contoso.com>"] {
        let reply = client.say(command).await;
        let is_refused = reply.starts_with("530 5.7.0") || reply.starts_with("538 5.7.11");
        assert!(is_refused, "{command}: {reply}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn wrong_passwords_and_unknown_users_look_the_same() {
    let relay = Relay::start(Setup::default()).await;
    let mut replies = Vec::new();
    for (user, password) in [(USER, "wrong"), ("nobody", PASSWORD), (USER, "")] {
        replies.push(relay.client().await.login(user, password).await);
    }
    assert!(replies[0].starts_with("535 5.7.8"), "{}", replies[0]);
    assert_eq!(replies[0], replies[1]);
    assert_eq!(replies[0], replies[2]);
    assert!(relay.client().await.login("PRINTER", PASSWORD).await.starts_with("235"), "any case");
    let reply = relay.client().await.login(USER, "wrong").await;
    assert!(reply.starts_with("535"), "a remembered password does not help a wrong one: {reply}");
    relay.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_wrong_whatever_the_state_of_the_token() {
    let options =
        SimOptions { access_token_lifetime: std::time::Duration::ZERO, ..Default::default() };
    for has_grant in [true, false] {
        let relay =
            Relay::start(Setup { options: options.clone(), has_grant, ..Setup::default() }).await;
        assert!(relay.client().await.login(USER, "wrong").await.starts_with("535"));
        assert!(relay.client().await.login(USER, PASSWORD).await.starts_with("235"));
        assert!(relay.client().await.login(USER, "wrong").await.starts_with("535"));
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_second_login_costs_no_hash() {
    let relay = Relay::start(Setup::default()).await;
    let time = async || {
        let mut client = relay.client().await;
        let started = std::time::Instant::now();
        assert!(client.login(USER, PASSWORD).await.starts_with("235"));
        started.elapsed()
    };
    let first = time().await;
    let mut next = Vec::new();
    for _ in 0..10 {
        next.push(time().await);
    }
    let best = next.iter().min().unwrap();
    assert!(*best * 3 < first, "first login {first:?}, best of the next {best:?}");
    relay.stop().await;
}

#[tokio::test]
async fn credentials_of_the_store_are_noticed_and_forgotten_within_a_second() {
    let relay = Relay::start(Setup::default()).await;
    // Another process's view of the same store.
    let store =
        mailbearer::store::Store::open(&relay.config.server.data_dir, Clock::system()).unwrap();
    let credential = StoredCredential {
        name: "scanner".to_owned(),
        password_hash: PasswordHash::hash(&Secret::new("one")).unwrap().to_string(),
        account: MAILBOX.to_owned(),
        may_send_as: vec!["*@contoso.com".to_owned()],
        may_send_to: vec!["*@contoso.com".to_owned()],
        created_at: Clock::system().now(),
    };
    let until = async |password: &'static str, wanted: &str| {
        let started = std::time::Instant::now();
        while !relay.client().await.login("scanner", password).await.starts_with(wanted) {
            assert!(started.elapsed().as_secs() < 20, "{password} never became {wanted}");
        }
        started.elapsed()
    };
    assert!(relay.client().await.login("scanner", "one").await.starts_with("535"));
    store.add_credential(credential.clone()).await.unwrap();
    until("one", "235").await;
    let mut client = relay.client().await;
    client.login("scanner", "one").await;
    let reply = client.say("MAIL FROM:<ceo@evil.example>").await;
    assert!(reply.starts_with("553 5.7.1"), "{reply}");
    client.say("MAIL FROM:<scanner@contoso.com>").await;
    let reply = client.say("RCPT TO:<a@evil.example>").await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    let password_hash = PasswordHash::hash(&Secret::new("two")).unwrap().to_string();
    assert!(store.remove_credential("scanner").await.unwrap());
    store.add_credential(StoredCredential { password_hash, ..credential }).await.unwrap();
    until("two", "235").await;
    assert!(relay.client().await.login("scanner", "one").await.starts_with("535"), "changed");
    assert!(store.remove_credential("scanner").await.unwrap());
    until("two", "535").await;
    relay.stop().await;
}

#[tokio::test]
async fn a_network_is_served_without_authentication_and_others_are_not() {
    let network =
        format!("[[listener.network]]\nfrom = [\"127.0.0.7/32\"]\naccount = \"{MAILBOX}\"");
    let setup = listener(&format!("tls = \"off\"\nauth = \"off\"\n{network}"));
    let relay = Relay::start(Setup { has_credential: false, ..setup }).await;
    let address = relay.daemon.addresses()[0];
    let mut known = connect_from("127.0.0.7", address).await;
    known.expect("220").await;
    let reply = known.say("HELO scanner").await;
    assert!(reply.starts_with("250"), "{reply}");
    let reply = known.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    let mut stranger = connect_from("127.0.0.8", address).await;
    stranger.expect("554 5.7.1").await;
    assert_eq!(stranger.reply().await, "", "and the connection is closed");
    relay.stop().await;
}

#[tokio::test]
async fn a_stranger_to_an_optional_listener_has_to_log_in() {
    let network =
        format!("[[listener.network]]\nfrom = [\"127.0.0.7/32\"]\naccount = \"{MAILBOX}\"");
    let relay = Relay::start(listener(&format!("auth = \"optional\"\n{network}"))).await;
    let mut stranger = connect_from("127.0.0.8", relay.daemon.addresses()[0]).await;
    stranger.expect("220").await;
    stranger.say("EHLO x").await;
    let reply = stranger.say("MAIL FROM:<scanner@contoso.com>").await;
    assert!(reply.starts_with("530 5.7.0"), "{reply}");
    assert!(stranger.login(USER, PASSWORD).await.starts_with("235"));
    let reply = stranger.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn the_senders_of_an_account_can_be_limited_to_its_mailbox() {
    let account = "sender = \"refuse\"\n".to_owned();
    let relay = Relay::start(Setup { account, ..Setup::default() }).await;
    let mut client = relay.logged_in().await;
    let reply = client.say("MAIL FROM:<erp@contoso.com>").await;
    assert!(reply.starts_with("553 5.7.1"), "{reply}");
    let reply = client.say("MAIL FROM:<Scanner@Contoso.com>").await;
    assert!(reply.starts_with("250"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_and_after() {
    let server = "max_message_size = \"64 KB\"\n".to_owned();
    let relay = Relay::start(Setup { server, ..Setup::default() }).await;
    let mut client = relay.logged_in().await;
    let extensions = client.say("EHLO printer.example").await;
    assert!(extensions.contains("SIZE 65536"), "{extensions}");
    let reply = client.say("MAIL FROM:<scanner@contoso.com> SIZE=65537").await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    let long = format!("Subject: x\r\n\r\n{}", "0123456789abcdef\r\n".repeat(4_000));
    let reply = client.send(MAILBOX, &[RECIPIENT], &long).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "the session goes on: {reply}");
    assert_eq!(relay.sim.counts().messages, 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_message_in_a_loop_is_refused() {
    let relay = Relay::start(Setup::default()).await;
    let looping = format!("{}\r\nbody\r\n", "Received: from x by y\r\n".repeat(100));
    let reply = relay.send(&looping).await;
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn missing_date_and_message_id_are_added_and_nothing_else() {
    let relay = Relay::start(Setup::default()).await;
    relay.send(MESSAGE).await;
    let received = relay.sim.received(1).await.unwrap();
    let text = String::from_utf8(received[0].bytes.to_vec()).unwrap();
    let added = text.strip_suffix(MESSAGE).expect("the message as it was sent");
    let names: Vec<_> = added
        .lines()
        .filter(|line| !line.starts_with('\t'))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["Received", "Date", "Message-ID"], "{added}");
    relay.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let relay = Relay::start(Setup::delivery("queue")).await;
    let mut client = relay.logged_in().await;
    client.say("MAIL FROM:<scanner@contoso.com>").await;
    client.say("RCPT TO:<office@contoso.com>").await;
    client.say("DATA").await;
    client.write(b"Subject: half\r\n\r\nhalf a mess").await;
    drop(client);
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    let received = relay.sim.received(1).await.unwrap();
    assert!(!String::from_utf8_lossy(&received[0].bytes).contains("half"));
    relay.until_totals(0, 0).await;
    relay.stop().await;
}
