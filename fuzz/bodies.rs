//! What every fuzz target does with its input: ordinary functions that panic if a promise breaks.
//!
//! `fuzz/targets/` calls them under libFuzzer (`cargo fuzz run body`), and `tests/fuzz_replay.rs`
//! calls them with the committed corpus and with seeded random input in the ordinary test run.

use std::path::Path;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mailbearer::mail::{EnhancedCode, Envelope, ForwardPath, Mailbox, ReversePath};
use mailbearer::smtp::client::{
    ClientEvent, ClientSession, ClientSettings, ClientTls, Transaction,
};
use mailbearer::smtp::command::Command;
use mailbearer::smtp::dot::{BareNewline, Decoded, Decoder, Encoder};
use mailbearer::smtp::server::{AuthOffer, ServerEvent, ServerSession, ServerSettings, SessionEnd};
use mailbearer::smtp::{Reply, Step};

/// Whatever arrives, what is passed on is canonical, the same for every split, and survives being
/// sent on and read again.
pub fn body(data: &[u8]) {
    let (whole, has_ended) = decode(&[data]);
    let split = data.len() / 2;
    assert_eq!(decode(&[&data[..split], &data[split..]]), (whole.clone(), has_ended));
    let bytes: Vec<_> = data.chunks(1).collect();
    assert_eq!(decode(&bytes), (whole.clone(), has_ended));
    assert_is_canonical(&whole);
    if !has_ended {
        return;
    }
    let mut sent = BytesMut::new();
    let mut encoder = Encoder::new();
    encoder.encode(&whole, &mut sent);
    encoder.finish(&mut sent);
    let (again, has_ended) = decode(&[&sent]);
    assert!(has_ended);
    let without_last_line_end = again.strip_suffix(b"\r\n").unwrap_or(&again);
    assert!(again == whole || without_last_line_end == whole);
}

fn decode(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut decoder = Decoder::new(BareNewline::Normalize);
    let (mut input, mut body) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Decoded::Chunk(chunk) => body.extend_from_slice(&chunk),
                Decoded::End => return (body, true),
                Decoded::More => break,
            }
        }
    }
    (body, false)
}

fn assert_is_canonical(body: &[u8]) {
    for (at, byte) in body.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(at.checked_sub(1).map(|at| body[at]), Some(b'\r')),
            b'\r' => assert!(body.get(at + 1).is_none_or(|next| *next == b'\n')),
            0 => panic!("a NUL was passed on"),
            _ => {}
        }
    }
}

/// A command is read or refused; an address that was read holds nothing that ends a line.
pub fn command(data: &[u8]) {
    let text = match Command::parse(data) {
        Ok(command) => format!("{command:?}"),
        Err(error) => error.to_string(),
    };
    assert!(!text.contains(['\r', '\n']));
    if let Ok(mailbox) = String::from_utf8_lossy(data).parse::<Mailbox>() {
        assert_eq!(Mailbox::parse(mailbox.as_str()), Ok(mailbox));
    }
}

/// The server core answers anything, in any split, with the same events and the same bytes.
pub fn server(data: &[u8]) {
    let whole = serve(&[data]);
    let pieces: Vec<_> = data.chunks(3).collect();
    let split = serve(&pieces);
    // Whether bytes came before their time (behind STARTTLS, DATA or a prompt) is a question of
    // time, not of bytes.
    if [&whole, &split].iter().all(|served| served.ended_by != Some(SessionEnd::NotWaiting)) {
        assert_eq!(split, whole);
    }
}

#[derive(Debug, PartialEq)]
struct Served {
    written: Vec<u8>,
    body: Vec<u8>,
    ended_by: Option<SessionEnd>,
}

fn serve(pieces: &[&[u8]]) -> Served {
    let now = Instant::now();
    let settings = ServerSettings {
        hostname: "fuzz.example".to_owned(),
        max_message_octets: 4_096,
        starttls: true,
        tls_active: false,
        require_tls: false,
        auth: AuthOffer::Plaintext,
        require_auth: false,
        bare_newline: BareNewline::Normalize,
    };
    let mut core = ServerSession::new(settings, now);
    let (mut written, mut body) = (Vec::new(), Vec::new());
    let mut pieces = pieces.iter();
    loop {
        match core.next(now) {
            Step::Write(bytes) => written.extend_from_slice(&bytes),
            Step::StartTls => core.tls_started(now),
            Step::Close => return Served { written, body, ended_by: core.ended_by() },
            Step::Read => match pieces.next() {
                Some(piece) => core.receive(piece, now),
                None => core.receive_end(now),
            },
            Step::Event(event) => match event {
                ServerEvent::Body(bytes) => body.extend_from_slice(&bytes),
                ServerEvent::Data => core.answer(Reply::plain(354, "go on"), now),
                ServerEvent::Authenticate { .. } => {
                    core.answer(Reply::new(535, EnhancedCode::new(5, 7, 8), "no"), now);
                }
                ServerEvent::Mail { .. }
                | ServerEvent::Recipient { .. }
                | ServerEvent::EndOfData => {
                    core.answer(Reply::new(250, EnhancedCode::new(2, 0, 0), "ok"), now);
                }
                ServerEvent::Hello { .. } | ServerEvent::Reset => {}
            },
        }
    }
}

/// The client core survives any server, writes no bare line end, and reports on every recipient.
pub fn client(data: &[u8]) {
    let now = Instant::now();
    let settings = ClientSettings { ehlo_name: "fuzz.example".to_owned(), tls: ClientTls::Active };
    let mut core = ClientSession::new(settings, now);
    let path = |text: &str| ForwardPath::parse(text).expect("a fixed address");
    let transaction = Transaction {
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            forward_paths: vec![path("a@fuzz.example"), path("b@fuzz.example")],
            body: mailbearer::mail::BodyType::SevenBit,
            smtputf8: false,
        },
        size: 7,
    };
    let mut pieces = data.chunks(7);
    let (mut transaction, mut is_body_sent) = (Some(transaction), false);
    let mut written = Vec::new();
    for _ in 0..data.len() + 64 {
        match core.next(now) {
            Step::Write(bytes) => written.extend_from_slice(&bytes),
            Step::StartTls => panic!("TLS is active already"),
            Step::Close => break,
            Step::Read if core.wants_body() && !is_body_sent => {
                is_body_sent = true;
                core.body(b".body\r\n", now);
                core.end_of_body(now);
            }
            Step::Read => match pieces.next() {
                Some(piece) => core.receive(&Bytes::copy_from_slice(piece), now),
                None => core.receive_end(now),
            },
            Step::Event(ClientEvent::Ready) => {
                if let Some(transaction) = transaction.take() {
                    core.begin(transaction, now);
                }
            }
            Step::Event(ClientEvent::Finished(report)) => {
                assert_eq!(report.verdicts.len(), 2);
                core.quit(now);
            }
            Step::Event(_) => {}
        }
    }
    assert_is_canonical(&written);
}

/// Any text is a configuration or a list of mistakes with something in it.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(mistakes) = mailbearer::config::parse(&text, Path::new("/nonexistent/fuzz.toml")) {
        assert!(!mistakes.to_string().is_empty());
    }
}
