//! The text of a configuration and where things stand in it.
//!
//! Owns [`Source`]: offsets become lines and columns, and a line can be shown with a mark below it.
//! What could be a secret is cut from a shown line.

use std::ops::Range;

use crate::base::Printable;
use crate::config::Position;

/// The text of one file.
pub(super) struct Source<'t> {
    text: &'t str,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text }
    }

    /// Line and column of an offset; offsets behind the end are the end.
    pub(super) fn position(&self, offset: usize) -> Position {
        let before = self.before(offset);
        let line = before.matches('\n').count() + 1;
        let column = before[self.line_start(offset)..].chars().count() + 1;
        Position { line, column }
    }

    /// The character at an offset.
    pub(super) fn character(&self, offset: usize) -> Option<char> {
        self.text.get(offset..)?.chars().next()
    }

    /// The line of the range's start with a mark below the range:
    ///
    /// ```text
    /// 12 | tls = starttls
    ///    |       ^^^^^^^^
    /// ```
    pub(super) fn excerpt(&self, range: Range<usize>) -> String {
        let position = self.position(range.start);
        let start = self.line_start(range.start);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let shown = without_secret(line);
        let length = self
            .text
            .get(range)
            .map_or(1, |marked| marked.lines().next().unwrap_or_default().chars().count().max(1));
        // The mark may stand right behind the line, where something is missing.
        let shown_length = shown.chars().count();
        let column = (position.column - 1).min(shown_length);
        let length = length.min((shown_length - column).max(1));
        let number = position.line.to_string();
        let indent: String =
            shown.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!(
            "{number} | {}\n{} | {indent}{}",
            shown.replace(|c: char| c.is_control() && c != '\t', "?"),
            " ".repeat(number.len()),
            "^".repeat(length)
        )
    }

    fn before(&self, offset: usize) -> &'t str {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text[..end]
    }

    fn line_start(&self, offset: usize) -> usize {
        self.before(offset).rfind('\n').map_or(0, |newline| newline + 1)
    }
}

/// The line without what could be a secret: the value of a key that speaks of one, and any value
/// in a line that is not clearly a key with its value.
fn without_secret(line: &str) -> String {
    let line = line.trim_end();
    let start = line.trim_start();
    if start.is_empty() || start.starts_with(['[', '#']) {
        return line.to_owned();
    }
    let Some(at) = line.find(['=', ':']) else {
        return "…".to_owned();
    };
    let (key, value) = line.split_at(at + 1);
    let lower = line.to_lowercase();
    let names_a_secret =
        ["secret", "passw", "token", "key"].iter().any(|word| lower.contains(word));
    match names_a_secret || key.ends_with(':') {
        true => format!("{key} …"),
        false => format!("{key}{value}"),
    }
}

/// A text of the file inside a message: printable, and in the marks that code has there.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", Printable::text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns_in_characters() {
        let source = Source::new("a = 1\ngrüße = 2\r\n\nend");
        for (offset, line, column) in
            [(0, 1, 1), (4, 1, 5), (6, 2, 1), (12, 2, 5), (13, 2, 6), (20, 4, 1), (999, 4, 4)]
        {
            assert_eq!(source.position(offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn an_excerpt_marks_its_place_and_shows_no_secret() {
        for (text, range, expected) in [
            ("x\ntls = starttls", 8..16, "2 | tls = starttls\n  |       ^^^^^^^^"),
            ("\ttls = off", 7..10, "1 | \ttls = off\n  | \t      ^^^"),
            ("tls =", 5..5, "1 | tls =\n  |      ^"),
            ("client_secret = hunter2", 16..23, "1 | client_secret = …\n  |                 ^"),
            ("hunter2", 0..7, "1 | …\n  | ^"),
            ("hostname: \"relay\"", 10..15, "1 | hostname: …\n  |           ^"),
            ("[listener", 9..9, "1 | [listener\n  |          ^"),
            ("", 0..0, "1 | \n  | ^"),
        ] {
            assert_eq!(Source::new(text).excerpt(range), expected, "{text:?}");
        }
    }
}
