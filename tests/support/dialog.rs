//! Dialog files: one quirk of SMTP a file, readable by anyone, run against the core and over TCP.
//!
//! A file begins with lines `# why`, goes on with lines `setting: value`, and then holds a script:
//!
//! ```text
//! C: text         the client sends this line; CRLF is added
//! C! text         the client sends exactly this; escapes \r \n \t \0 \\ \xNN, \{text*count} repeats
//! C* count text   the client sends this line so many times
//! EOF             the client closes its half of the connection
//! W seconds       so much time passes (core only)
//! S: text         the server answers exactly this line
//! S~ text         the server answers a line that starts like this
//! S* count text   the server answers exactly this line so many times
//! E: event        the server tells this to its application (core only)
//! TLS             the TLS handshake takes place here
//! X               the server closes the connection
//! ```
//!
//! Client lines that follow each other are sent together, as one flight; then everything that the
//! server says and does is compared with what is expected before the next flight. A file without
//! any `E:` does not look at events.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One file.
#[derive(Debug)]
pub struct Dialog {
    /// Where it is.
    pub path: PathBuf,
    /// The settings, in their order.
    pub settings: Vec<(String, String)>,
    /// What happens, in its order. The first turn is the connection itself.
    pub turns: Vec<Turn>,
    /// There is at least one `E:` line, or the file says `events: all`.
    pub checks_events: bool,
}

/// One act, and what has to follow from it before the next.
#[derive(Debug)]
pub struct Turn {
    /// The line of the file with which it begins.
    pub line: usize,
    /// What the client does.
    pub act: Act,
    /// What the server answers.
    pub replies: Vec<Expected>,
    /// What the application is told.
    pub events: Vec<String>,
    /// The server closes the connection.
    pub closes: bool,
}

/// What a client does.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// It connects.
    Connect,
    /// It sends these bytes.
    Send(Vec<u8>),
    /// It runs the TLS handshake that the server waits for.
    StartTls,
    /// It does nothing for so long.
    Wait(Duration),
    /// It will send nothing more.
    Close,
}

/// A line of a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this.
    Exact(String),
    /// Something that starts like this.
    Prefix(String),
}

impl Expected {
    /// True if `line` is what was expected.
    pub fn accepts(&self, line: &str) -> bool {
        match self {
            Self::Exact(text) => line == text,
            Self::Prefix(text) => line.starts_with(text),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "S: {text}"),
            Self::Prefix(text) => write!(f, "S~ {text}"),
        }
    }
}

impl Dialog {
    /// Reads all files `*.smtp` of a folder, by name.
    pub fn read_all(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{folder:?}: {why}"));
        let mut paths: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "smtp"))
            .collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Reads one file. A file that is not understood is a failure of the test.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Self {
        let mut dialog = Self {
            path: path.to_owned(),
            settings: Vec::new(),
            turns: vec![Turn::new(1, Act::Connect)],
            checks_events: false,
        };
        let mut has_script = false;
        let mut follows_client = false;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let understood = if let Some(bytes) = sent_bytes(line) {
                match dialog.turns.last_mut() {
                    Some(Turn { act: Act::Send(sent), .. }) if follows_client => sent.extend(bytes),
                    _ => dialog.turns.push(Turn::new(number, Act::Send(bytes))),
                }
                follows_client = true;
                has_script = true;
                continue;
            } else {
                follows_client = false;
                dialog.read_other(number, line, has_script)
            };
            assert!(understood, "{}:{number}: not understood: {line}", path.display());
            has_script |= !is_setting(line);
        }
        assert!(text.starts_with("# "), "{}: the first line has to say why", path.display());
        dialog
    }

    fn read_other(&mut self, number: usize, line: &str, has_script: bool) -> bool {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let turn = self.turns.last_mut().expect("there is the turn that connects");
        match word {
            "S:" => turn.replies.push(Expected::Exact(rest.to_owned())),
            "S~" => turn.replies.push(Expected::Prefix(rest.to_owned())),
            "S*" => {
                let Some((count, text)) = counted(rest) else { return false };
                turn.replies.extend((0..count).map(|_| Expected::Exact(text.to_owned())));
            }
            "E:" => {
                turn.events.push(rest.to_owned());
                self.checks_events = true;
            }
            "X" => turn.closes = true,
            "EOF" => self.turns.push(Turn::new(number, Act::Close)),
            "TLS" => self.turns.push(Turn::new(number, Act::StartTls)),
            "W" => {
                let Ok(seconds) = rest.parse() else { return false };
                self.turns.push(Turn::new(number, Act::Wait(Duration::from_secs(seconds))));
            }
            _ if is_setting(line) && !has_script => {
                let (key, value) = (word.trim_end_matches(':'), rest.trim());
                self.settings.push((key.to_owned(), value.to_owned()));
                self.checks_events |= (key, value) == ("events", "all");
            }
            _ => return false,
        }
        true
    }

    /// The name of the file without its ending.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Turn {
    fn new(line: usize, act: Act) -> Self {
        Self { line, act, replies: Vec::new(), events: Vec::new(), closes: false }
    }
}

fn is_setting(line: &str) -> bool {
    line.split_once(':').is_some_and(|(key, _)| {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

/// What a line of the client sends, if it is one.
fn sent_bytes(line: &str) -> Option<Vec<u8>> {
    if line == "C:" {
        return Some(b"\r\n".to_vec());
    }
    if let Some(text) = line.strip_prefix("C: ") {
        return Some(format!("{text}\r\n").into_bytes());
    }
    if let Some(text) = line.strip_prefix("C* ") {
        let (count, text) = counted(text)?;
        return Some(format!("{text}\r\n").repeat(count).into_bytes());
    }
    line.strip_prefix("C! ").map(unescape)
}

fn counted(text: &str) -> Option<(usize, &str)> {
    let (count, text) = text.split_once(' ')?;
    Some((count.parse().ok()?, text))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let used = match after.as_bytes().first() {
            Some(b'r') => (b"\r".to_vec(), 1),
            Some(b'n') => (b"\n".to_vec(), 1),
            Some(b't') => (b"\t".to_vec(), 1),
            Some(b'0') => (b"\0".to_vec(), 1),
            Some(b'\\') => (b"\\".to_vec(), 1),
            Some(b'x') => (vec![u8::from_str_radix(&after[1..3], 16).expect("two hex digits")], 3),
            Some(b'{') => {
                let end = after.find('}').expect("a repetition ends with }");
                let (piece, count) = after[1..end].rsplit_once('*').expect("text*count");
                (unescape(piece).repeat(count.parse().expect("a count")), end + 1)
            }
            _ => panic!("unknown escape in {text:?}"),
        };
        bytes.extend(used.0);
        rest = &after[used.1..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
