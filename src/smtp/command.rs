//! Commands of a client, read from a line (RFC 5321 §4.1.1, RFC 3207, RFC 4954).
//!
//! Owns [`Command`] and the parser. It is as lenient as old devices need where no harm can follow:
//! verbs and keywords in any case, spaces around paths, paths without brackets, any EHLO name, a
//! source route (ignored, RFC 5321 appendix C). It is strict about what could reach a wire again:
//! paths are parsed into [`ReversePath`] and [`ForwardPath`], and control characters are refused.

use std::fmt;

use crate::base::Secret;
use crate::mail::{AddressError, BodyType, ForwardPath, MailParameters, ReversePath};

/// A keyword that begins a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `AUTH`, RFC 4954.
    Auth,
    /// `DATA`.
    Data,
    /// `EHLO`.
    Ehlo,
    /// `EXPN`.
    Expn,
    /// `HELO`.
    Helo,
    /// `HELP`.
    Help,
    /// `MAIL`.
    Mail,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
    /// `RCPT`.
    Rcpt,
    /// `RSET`.
    Rset,
    /// `STARTTLS`, RFC 3207.
    StartTls,
    /// `VRFY`.
    Vrfy,
}

impl Verb {
    const ALL: [Self; 13] = [
        Self::Auth,
        Self::Data,
        Self::Ehlo,
        Self::Expn,
        Self::Helo,
        Self::Help,
        Self::Mail,
        Self::Noop,
        Self::Quit,
        Self::Rcpt,
        Self::Rset,
        Self::StartTls,
        Self::Vrfy,
    ];

    /// The keyword in upper case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::Data => "DATA",
            Self::Ehlo => "EHLO",
            Self::Expn => "EXPN",
            Self::Helo => "HELO",
            Self::Help => "HELP",
            Self::Mail => "MAIL",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Rcpt => "RCPT",
            Self::Rset => "RSET",
            Self::StartTls => "STARTTLS",
            Self::Vrfy => "VRFY",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str().eq_ignore_ascii_case(word))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One command, with its arguments checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `AUTH mechanism [initial-response]`.
    Auth {
        /// As it was written.
        mechanism: String,
        /// Still in base64; `=` stands for an empty one.
        initial_response: Option<Secret>,
    },
    /// `DATA`.
    Data,
    /// `EHLO name`.
    Ehlo {
        /// Whatever the client calls itself; without control characters.
        name: String,
    },
    /// `EXPN list`.
    Expn,
    /// `HELO name`.
    Helo {
        /// Whatever the client calls itself; without control characters.
        name: String,
    },
    /// `HELP [topic]`.
    Help,
    /// `MAIL FROM:<path> [parameters]`.
    Mail {
        /// Where notices go.
        reverse_path: ReversePath,
        /// What was declared of the message.
        parameters: MailParameters,
    },
    /// `NOOP [text]`.
    Noop,
    /// `QUIT`.
    Quit,
    /// `RCPT TO:<path>`.
    Rcpt {
        /// The recipient.
        forward_path: ForwardPath,
    },
    /// `RSET`.
    Rset,
    /// `STARTTLS`.
    StartTls,
    /// `VRFY text`.
    Vrfy,
}

/// Why a line is not a command that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The path of MAIL or RCPT is in the right place, but it is no mailbox.
    #[error("the address of {verb} is not valid: {why}")]
    Address {
        /// MAIL or RCPT.
        verb: Verb,
        /// What is wrong with it.
        why: AddressError,
    },
    /// The arguments do not fit the verb.
    #[error("{verb}: expected {expected}")]
    Argument {
        /// The verb.
        verb: Verb,
        /// What would have been right.
        expected: &'static str,
    },
    /// There is a NUL or another control character in the line.
    #[error("a command must not hold a control character")]
    ControlCharacter,
    /// Nothing but white space.
    #[error("the line is empty")]
    Empty,
    /// It is a request of HTTP: a browser or proxy was pointed at us, perhaps in bad faith.
    #[error("this is HTTP")]
    Http,
    /// The line is not UTF-8.
    #[error("a command must be ASCII or UTF-8")]
    NotUtf8,
    /// A parameter of MAIL or RCPT that nobody offered.
    #[error("{verb} has a parameter that is not known: {keyword}")]
    UnknownParameter {
        /// MAIL or RCPT.
        verb: Verb,
        /// The keyword, as it was written.
        keyword: String,
    },
    /// The verb is not one of ours.
    #[error("the command is not known: {word}")]
    UnknownVerb {
        /// The first word, as it was written.
        word: String,
    },
}

/// What stands at the start of a request line or a header of HTTP, and of no SMTP command.
const HTTP_WORDS: [&str; 11] = [
    "CONNECT", "DELETE", "GET", "HEAD", "HOST:", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE",
];

const MAIL_SYNTAX: &str = "MAIL FROM:<address> [parameters]";
const RCPT_SYNTAX: &str = "RCPT TO:<address>";

impl Command {
    /// Reads a line, given without its end.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        if line.iter().any(|&octet| octet.is_ascii_control() && octet != b'\t') {
            return Err(CommandError::ControlCharacter);
        }
        let line = std::str::from_utf8(line).map_err(|_| CommandError::NotUtf8)?;
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(CommandError::ControlCharacter);
        }
        let (word, argument) = split_word(line.trim_matches(is_space));
        let Some(verb) = Verb::parse(word) else {
            return Err(match word {
                "" => CommandError::Empty,
                _ if HTTP_WORDS.iter().any(|http| word.eq_ignore_ascii_case(http)) => {
                    CommandError::Http
                }
                _ => CommandError::UnknownVerb { word: word.to_owned() },
            });
        };
        let alone = |command| match argument.is_empty() {
            true => Ok(command),
            false => Err(CommandError::Argument { verb, expected: "no argument" }),
        };
        match verb {
            Verb::Auth => parse_auth(argument),
            Verb::Data => alone(Self::Data),
            Verb::Ehlo => parse_name(verb, argument).map(|name| Self::Ehlo { name }),
            Verb::Expn => Ok(Self::Expn),
            Verb::Helo => parse_name(verb, argument).map(|name| Self::Helo { name }),
            Verb::Help => Ok(Self::Help),
            Verb::Mail => parse_mail(argument),
            Verb::Noop => Ok(Self::Noop),
            Verb::Quit => alone(Self::Quit),
            Verb::Rcpt => parse_rcpt(argument),
            Verb::Rset => alone(Self::Rset),
            Verb::StartTls => alone(Self::StartTls),
            Verb::Vrfy => Ok(Self::Vrfy),
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// The first word, and what follows it without the white space between.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(is_space) {
        Some((word, rest)) => (word, rest.trim_start_matches(is_space)),
        None => (text, ""),
    }
}

fn parse_auth(argument: &str) -> Result<Command, CommandError> {
    let (mechanism, response) = split_word(argument);
    if mechanism.is_empty() || response.contains(is_space) {
        let expected = "AUTH mechanism [initial response in base64]";
        return Err(CommandError::Argument { verb: Verb::Auth, expected });
    }
    let initial_response = (!response.is_empty()).then(|| Secret::new(response));
    Ok(Command::Auth { mechanism: mechanism.to_owned(), initial_response })
}

fn parse_name(verb: Verb, argument: &str) -> Result<String, CommandError> {
    match argument.is_empty() {
        true => Err(CommandError::Argument { verb, expected: "your name behind it" }),
        false => Ok(argument.to_owned()),
    }
}

fn parse_mail(argument: &str) -> Result<Command, CommandError> {
    let verb = Verb::Mail;
    let syntax = CommandError::Argument { verb, expected: MAIL_SYNTAX };
    let (path, rest) =
        after_keyword(argument, "FROM").and_then(split_path).ok_or_else(|| syntax.clone())?;
    let path = without_source_route(path).ok_or(syntax)?;
    let reverse_path =
        ReversePath::parse(path).map_err(|why| CommandError::Address { verb, why })?;
    Ok(Command::Mail { reverse_path, parameters: parse_mail_parameters(rest)? })
}

fn parse_rcpt(argument: &str) -> Result<Command, CommandError> {
    let verb = Verb::Rcpt;
    let syntax = CommandError::Argument { verb, expected: RCPT_SYNTAX };
    let (path, rest) =
        after_keyword(argument, "TO").and_then(split_path).ok_or_else(|| syntax.clone())?;
    let path = without_source_route(path).ok_or(syntax)?;
    if let Some(parameter) = rest.split(is_space).find(|text| !text.is_empty()) {
        let keyword = parameter.split('=').next().unwrap_or_default().to_owned();
        return Err(CommandError::UnknownParameter { verb, keyword });
    }
    let forward_path =
        ForwardPath::parse(path).map_err(|why| CommandError::Address { verb, why })?;
    Ok(Command::Rcpt { forward_path })
}

/// What follows `keyword` and its colon; spaces may stand on both sides of the colon.
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (word, rest) = argument.split_once(':')?;
    word.trim_end_matches(is_space).eq_ignore_ascii_case(keyword).then_some(rest)
}

/// The text of a path without its brackets, and what follows it. A path without brackets ends at
/// the first space; `< >` is `<>`.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(is_space);
    let (has_brackets, text) = match text.strip_prefix('<') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let is_end = |c| if has_brackets { c == '>' } else { is_space(c) };
    let end = match find_unquoted(text, is_end) {
        Some(end) => end,
        None if has_brackets => return None,
        None => text.len(),
    };
    let path = text[..end].trim_matches(is_space);
    let rest = &text[end + usize::from(has_brackets)..];
    let is_apart = rest.is_empty() || rest.starts_with(is_space);
    (is_apart && (has_brackets || !path.is_empty())).then_some((path, rest))
}

/// Where a character outside of a quoted string is.
fn find_unquoted(text: &str, is_wanted: impl Fn(char) -> bool) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if !is_quoted && is_wanted(c) => return Some(at),
            _ => {}
        }
    }
    None
}

/// `@a,@b:mailbox` is `mailbox`: RFC 5321 §4.1.2 and appendix C.
fn without_source_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let (route, path) = path.split_once(':')?;
    let is_route = route.split(',').all(|hop| hop.len() > 1 && hop.starts_with('@'));
    (is_route && !path.is_empty()).then_some(path)
}

fn parse_mail_parameters(text: &str) -> Result<MailParameters, CommandError> {
    let verb = Verb::Mail;
    let wrong = |expected| CommandError::Argument { verb, expected };
    let mut parameters = MailParameters::default();
    let mut seen: Vec<String> = Vec::new();
    for parameter in text.split(is_space).filter(|text| !text.is_empty()) {
        let (keyword, value) = match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter, None),
        };
        let upper = keyword.to_ascii_uppercase();
        match (upper.as_str(), value) {
            ("SIZE", value) => {
                let digits = value.filter(|digits| {
                    (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
                });
                let digits = digits.ok_or(wrong("SIZE=octets, at most 20 digits"))?;
                // 20 digits may be more than fits: then it is too large for everybody.
                parameters.size = Some(digits.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {
                parameters.body = BodyType::SevenBit;
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                parameters.body = BodyType::EightBitMime;
            }
            ("BODY", _) => return Err(wrong("BODY=7BIT or BODY=8BITMIME")),
            ("SMTPUTF8", None) => parameters.smtputf8 = true,
            ("SMTPUTF8", Some(_)) => return Err(wrong("SMTPUTF8 without a value")),
            // RFC 4954 §5: who once submitted the message. We trust nobody's word for it.
            ("AUTH", Some(value)) if value == "<>" || is_xtext(value) => {}
            ("AUTH", _) => return Err(wrong("AUTH=<> or AUTH=xtext")),
            (_, _) => {
                let keyword = keyword.to_owned();
                return Err(CommandError::UnknownParameter { verb, keyword });
            }
        }
        if seen.contains(&upper) {
            return Err(wrong("each parameter once"));
        }
        seen.push(upper);
    }
    Ok(parameters)
}

/// RFC 3461 §4: printable ASCII, with `+`, `=` and everything else as `+XX`.
fn is_xtext(value: &str) -> bool {
    let mut octets = value.bytes();
    let mut is_good = !value.is_empty();
    while let Some(octet) = octets.next() {
        let is_hex = |octet: Option<u8>| matches!(octet, Some(b'0'..=b'9' | b'A'..=b'F'));
        is_good &= match octet {
            b'+' => is_hex(octets.next()) & is_hex(octets.next()),
            _ => octet.is_ascii_graphic() && octet != b'=',
        };
    }
    is_good
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::Mailbox;

    fn mail(path: &str, parameters: MailParameters) -> Command {
        Command::Mail { reverse_path: ReversePath::parse(path).unwrap(), parameters }
    }

    fn rcpt(path: &str) -> Command {
        Command::Rcpt { forward_path: ForwardPath::parse(path).unwrap() }
    }

    #[test]
    fn verbs_in_any_case_with_their_arguments() {
        let auth = |mechanism: &str, response: Option<&str>| Command::Auth {
            mechanism: mechanism.to_owned(),
            initial_response: response.map(Secret::new),
        };
        let cases = [
            ("DATA", Command::Data),
            ("data  ", Command::Data),
            ("RSET", Command::Rset),
            ("Quit", Command::Quit),
            ("starttls", Command::StartTls),
            ("NOOP whatever this is", Command::Noop),
            ("HELP MAIL", Command::Help),
            ("VRFY root", Command::Vrfy),
            ("EXPN staff", Command::Expn),
            ("EHLO XC-B8C463", Command::Ehlo { name: "XC-B8C463".to_owned() }),
            ("ehlo [192.168.1.7]", Command::Ehlo { name: "[192.168.1.7]".to_owned() }),
            ("HELO my printer ", Command::Helo { name: "my printer".to_owned() }),
            ("AUTH PLAIN", auth("PLAIN", None)),
            ("AUTH login dXNlcg==", auth("login", Some("dXNlcg=="))),
            ("AUTH  PLAIN  = ", auth("PLAIN", Some("="))),
        ];
        for (line, command) in cases {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn paths_as_clients_write_them() {
        let none = MailParameters::default();
        let cases = [
            ("MAIL FROM:<a@b>", mail("a@b", none.clone())),
            ("MAIL FROM: <a@b>", mail("a@b", none.clone())),
            ("mail from:a@b", mail("a@b", none.clone())),
            ("MAIL FROM: a@b  ", mail("a@b", none.clone())),
            ("MAIL FROM :\t< a@b >", mail("a@b", none.clone())),
            ("MAIL FROM:<>", mail("", none.clone())),
            ("MAIL FROM: < >", mail("", none.clone())),
            ("MAIL FROM:<\"a> b\"@c>", mail("\"a> b\"@c", none.clone())),
            ("MAIL FROM:<\"a\\\"> b\"@c>", mail("\"a\\\"> b\"@c", none.clone())),
            ("MAIL FROM:<@x,@y:a@b>", mail("a@b", none)),
            ("RCPT TO:<a@b>", rcpt("a@b")),
            ("rcpt to: a@b ", rcpt("a@b")),
            ("RCPT TO:<@x.example:a@b>", rcpt("a@b")),
            ("RCPT TO:<Postmaster>", Command::Rcpt { forward_path: ForwardPath::Postmaster }),
            ("RCPT TO:<grüße@bücher.example>", rcpt("grüße@bücher.example")),
        ];
        for (line, command) in cases {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn parameters_of_mail() {
        let cases = [
            ("SIZE=1000", Some(1_000), BodyType::SevenBit, false),
            ("size=0 body=8bitmime", Some(0), BodyType::EightBitMime, false),
            ("SMTPUTF8 BODY=7BIT", None, BodyType::SevenBit, true),
            ("SIZE=99999999999999999999", Some(u64::MAX), BodyType::SevenBit, false),
            ("AUTH=<> SIZE=5", Some(5), BodyType::SevenBit, false),
            ("AUTH=e+3Dmc2@example.com", None, BodyType::SevenBit, false),
        ];
        for (text, size, body, smtputf8) in cases {
            for line in [format!("MAIL FROM:<a@b> {text}"), format!("MAIL FROM: a@b  {text} ")] {
                let command = mail("a@b", MailParameters { size, body, smtputf8 });
                assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line:?}");
            }
        }
    }

    #[test]
    fn lines_that_are_refused() {
        let argument = |verb, expected| CommandError::Argument { verb, expected };
        let unknown = |verb, keyword: &str| {
            let keyword = keyword.to_owned();
            CommandError::UnknownParameter { verb, keyword }
        };
        let cases: [(&[u8], CommandError); 44] = [
            (b"", CommandError::Empty),
            (b"  ", CommandError::Empty),
            (b"NOOP\0", CommandError::ControlCharacter),
            (b"NO\rOP", CommandError::ControlCharacter),
            (b"NOOP\x1b[2J", CommandError::ControlCharacter),
            ("NOOP \u{85}".as_bytes(), CommandError::ControlCharacter),
            (b"EHLO \xff", CommandError::NotUtf8),
            (b"GET / HTTP/1.1", CommandError::Http),
            (b"Host: localhost:25", CommandError::Http),
            (b"XCLIENT x", CommandError::UnknownVerb { word: "XCLIENT".to_owned() }),
            (b"STARTTLSX", CommandError::UnknownVerb { word: "STARTTLSX".to_owned() }),
            (b"DATA now", argument(Verb::Data, "no argument")),
            (b"QUIT now", argument(Verb::Quit, "no argument")),
            (b"RSET now", argument(Verb::Rset, "no argument")),
            (b"STARTTLS now", argument(Verb::StartTls, "no argument")),
            (b"EHLO", argument(Verb::Ehlo, "your name behind it")),
            (b"HELO ", argument(Verb::Helo, "your name behind it")),
            (b"AUTH", argument(Verb::Auth, "AUTH mechanism [initial response in base64]")),
            (b"AUTH A b c", argument(Verb::Auth, "AUTH mechanism [initial response in base64]")),
            (b"MAIL", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL FROM", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL FROM:", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL TO:<a@b>", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL FROM:<a@b", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL FROM:<a@b>x", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL FROM:<@x>", argument(Verb::Mail, MAIL_SYNTAX)),
            (b"MAIL FROM:<@:a@b>", argument(Verb::Mail, MAIL_SYNTAX)),
            (
                b"MAIL FROM:<root>",
                CommandError::Address { verb: Verb::Mail, why: AddressError::NoDomain },
            ),
            (
                b"MAIL FROM:<a@b@c>",
                CommandError::Address { verb: Verb::Mail, why: AddressError::Domain },
            ),
            (b"MAIL FROM:<a@b> RET=HDRS", unknown(Verb::Mail, "RET")),
            (b"MAIL FROM:<a@b> XSIZE", unknown(Verb::Mail, "XSIZE")),
            (b"MAIL FROM:<a@b> SIZE", argument(Verb::Mail, "SIZE=octets, at most 20 digits")),
            (b"MAIL FROM:<a@b> SIZE=", argument(Verb::Mail, "SIZE=octets, at most 20 digits")),
            (b"MAIL FROM:<a@b> SIZE=+1", argument(Verb::Mail, "SIZE=octets, at most 20 digits")),
            (b"MAIL FROM:<a@b> SIZE=1 SIZE=1", argument(Verb::Mail, "each parameter once")),
            (
                b"MAIL FROM:<a@b> BODY=BINARYMIME",
                argument(Verb::Mail, "BODY=7BIT or BODY=8BITMIME"),
            ),
            (b"MAIL FROM:<a@b> SMTPUTF8=1", argument(Verb::Mail, "SMTPUTF8 without a value")),
            (b"MAIL FROM:<a@b> AUTH=a+b", argument(Verb::Mail, "AUTH=<> or AUTH=xtext")),
            (b"MAIL FROM:<a@b> AUTH=", argument(Verb::Mail, "AUTH=<> or AUTH=xtext")),
            (b"RCPT", argument(Verb::Rcpt, RCPT_SYNTAX)),
            (b"RCPT FROM:<a@b>", argument(Verb::Rcpt, RCPT_SYNTAX)),
            (
                b"RCPT TO:<>",
                CommandError::Address { verb: Verb::Rcpt, why: AddressError::NoDomain },
            ),
            (b"RCPT TO:<a@b>, <c@d>", argument(Verb::Rcpt, RCPT_SYNTAX)),
            (b"RCPT TO:<a@b> NOTIFY=NEVER", unknown(Verb::Rcpt, "NOTIFY")),
        ];
        for (line, error) in cases {
            assert_eq!(Command::parse(line), Err(error), "{:?}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn what_is_accepted_as_a_path_can_be_written_again(
            path in "[a\"\\\\<>@:, .b\r\n]{0,12}",
            verb in prop::sample::select(vec!["MAIL FROM:", "RCPT TO:"]),
        ) {
            let address = match Command::parse(format!("{verb}<{path}>").as_bytes()) {
                Ok(Command::Mail { reverse_path: ReversePath::Mailbox(mailbox), .. }) => mailbox,
                Ok(Command::Rcpt { forward_path: ForwardPath::Mailbox(mailbox) }) => mailbox,
                _ => return Ok(()),
            };
            prop_assert_eq!(Mailbox::parse(address.as_str()), Ok(address.clone()));
            let again = Command::parse(format!("RCPT TO:<{address}>").as_bytes());
            let forward_path = ForwardPath::Mailbox(address);
            prop_assert_eq!(again, Ok(Command::Rcpt { forward_path }));
        }
    }
}
