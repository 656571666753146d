//! Replays the fuzz corpora and a fixed amount of seeded random input through the fuzz targets.

use std::fs;
use std::path::Path;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// Inputs that are made for each target beside its corpus.
const RANDOM_INPUTS: u64 = 2_000;

/// The bytes that matter to a line-based protocol come often, the others now and then.
const ALPHABET: &[&[u8]] = &[
    b"\r\n",
    b"\r\n.\r\n",
    b".",
    b"\r",
    b"\n",
    b" ",
    b":",
    b"<",
    b">",
    b"@",
    b"=",
    b"\0",
    b"a@b",
    b"EHLO x\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH PLAIN ",
    b"AGEAYg==\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"250 ok\r\n",
    b"250-PIPELINING\r\n",
    b"220 hi\r\n",
    b"354 go\r\n",
    b"550 5.7.1 no\r\n",
    b"421 bye\r\n",
    b"SIZE=99999",
    b"SMTPUTF8",
    b"\xc3\xa9",
    b"\xff",
    b"[[account]]\n",
    b"tls = \"off\"\n",
    b"\"",
];

/// A small generator with a fixed seed: every run tries the same inputs (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn input(&mut self) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..self.next() % 40 {
            match self.next() % 4 {
                0 => input.push(self.next() as u8),
                _ => input.extend(ALPHABET[self.next() as usize % ALPHABET.len()]),
            }
        }
        input
    }
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        seeds += 1;
    }
    assert!(seeds > 0, "{} is empty", folder.display());
    let mut random = Random(0x6d61_696c_6265_6172);
    for _ in 0..RANDOM_INPUTS {
        run(&random.input());
    }
    println!("{target}: {seeds} seeds, {RANDOM_INPUTS} random inputs");
}

#[test]
fn body() {
    replay("body", bodies::body);
}

#[test]
fn command() {
    replay("command", bodies::command);
}

#[test]
fn server() {
    replay("server", bodies::server);
}

#[test]
fn client() {
    replay("client", bodies::client);
}

#[test]
fn config() {
    replay("config", bodies::config);
}
