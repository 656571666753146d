//! What a server offers, as its answer to EHLO said it (RFC 5321 §4.1.1.1).
//!
//! Owns [`Capabilities`]. Only the answer that came last counts, and only one that came inside TLS
//! may be believed; which one that is, is for the session to know. Lines that mean nothing to us
//! are passed over.

use crate::smtp::Reply;

/// The extensions of a server. All absent after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The server answered EHLO, not only HELO.
    pub is_extended: bool,
    /// `SIZE` (RFC 1870): 0 if it is offered without a number, or with one that is none.
    pub size: Option<u64>,
    /// `PIPELINING` (RFC 2920).
    pub pipelining: bool,
    /// `8BITMIME` (RFC 6152).
    pub eight_bit_mime: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `ENHANCEDSTATUSCODES` (RFC 2034).
    pub enhanced_status_codes: bool,
    /// `STARTTLS` (RFC 3207).
    pub starttls: bool,
    /// `DSN` (RFC 3461).
    pub dsn: bool,
    /// `CHUNKING` (RFC 3030); noted, not used.
    pub chunking: bool,
    /// Mechanisms of `AUTH` (RFC 4954) in upper case, each once, in the server's order.
    pub mechanisms: Vec<String>,
}

impl Capabilities {
    /// Reads a positive answer to EHLO. Its first line is the server's name and greeting.
    pub fn parse(reply: &Reply) -> Self {
        let mut capabilities = Self { is_extended: true, ..Self::default() };
        for line in reply.lines().iter().skip(1) {
            capabilities.take_line(line);
        }
        capabilities
    }

    /// The largest message that the server says it takes, in octets (RFC 1870 §4).
    pub fn max_message_octets(&self) -> Option<u64> {
        self.size.filter(|&octets| octets > 0)
    }

    /// True if the mechanism, in any case, is offered.
    pub fn offers_mechanism(&self, mechanism: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered.eq_ignore_ascii_case(mechanism))
    }

    fn take_line(&mut self, line: &str) {
        // `AUTH=LOGIN` is how servers of the last century wrote it, and some do to this day.
        let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => self.size = Some(words.next().and_then(octets).unwrap_or(0)),
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "STARTTLS" => self.starttls = true,
            "DSN" => self.dsn = true,
            "CHUNKING" => self.chunking = true,
            "AUTH" => words.for_each(|word| self.take_mechanism(word)),
            _ => {}
        }
    }

    fn take_mechanism(&mut self, word: &str) {
        let is_mechanism = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if word.chars().all(is_mechanism) && !self.offers_mechanism(word) {
            self.mechanisms.push(word.to_ascii_uppercase());
        }
    }
}

fn octets(word: &str) -> Option<u64> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Capabilities {
        let lines = std::iter::once(&"upstream.example at your service").chain(lines);
        Capabilities::parse(&Reply::from_lines(250, None, lines.map(|&l| l.to_owned()).collect()))
    }

    #[test]
    fn exchange_online_inside_tls() {
        let capabilities = parse(&[
            "SIZE 157286400",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "AUTH LOGIN XOAUTH2",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ]);
        let expected = Capabilities {
            is_extended: true,
            size: Some(157_286_400),
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            enhanced_status_codes: true,
            starttls: false,
            dsn: true,
            chunking: true,
            mechanisms: vec!["LOGIN".to_owned(), "XOAUTH2".to_owned()],
        };
        assert_eq!(capabilities, expected);
        assert_eq!(capabilities.max_message_octets(), Some(157_286_400));
    }

    #[test]
    fn keywords_in_any_case_and_shape() {
        let capabilities =
            parse(&["starttls", "Size", "auth=login PLAIN", "AUTH plain xoauth2", ""]);
        assert!(capabilities.starttls);
        assert_eq!((capabilities.size, capabilities.max_message_octets()), (Some(0), None));
        assert_eq!(capabilities.mechanisms, ["LOGIN", "PLAIN", "XOAUTH2"]);
        assert!(
            capabilities.offers_mechanism("xOAuth2") && !capabilities.offers_mechanism("OAUTH")
        );
    }

    #[test]
    fn sizes_that_say_nothing() {
        for (line, size) in [
            ("SIZE", Some(0)),
            ("SIZE 0", Some(0)),
            ("SIZE many", Some(0)),
            ("SIZE -5", Some(0)),
            ("SIZE +5", Some(0)),
            ("SIZE 99999999999999999999999", Some(0)),
            ("SIZE=1000", Some(1_000)),
            ("SIZES 1000", None),
            ("X-SIZE 1000", None),
        ] {
            assert_eq!(parse(&[line]).size, size, "{line}");
        }
    }

    #[test]
    fn nothing_but_a_name_offers_nothing() {
        let nothing = Capabilities { is_extended: true, ..Capabilities::default() };
        assert_eq!(parse(&[]), nothing);
        assert_eq!(parse(&["AUTH", "AUTH =", "?!", "AUTH a\u{e9}b"]), nothing);
        let first_line_only = Reply::plain(250, "STARTTLS");
        assert_eq!(Capabilities::parse(&first_line_only), nothing);
    }
}
