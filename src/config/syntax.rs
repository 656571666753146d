//! What is said where a text is not TOML.

use toml::de::Error;

use crate::config::section::{Reader, Wrong};

/// How a key and its value look.
const EXAMPLE: &str =
    "write key = value, and texts in double quotes: hostname = \"relay.example.com\"";

/// Reports the parser's errors, one for each line: what follows on the same line is a consequence.
pub(super) fn mistakes(reader: &Reader<'_>, errors: &[Error]) {
    let mut last_line = None;
    for error in errors {
        let line = error.span().map(|span| reader.position(span.start).line);
        if line.is_some() && line == last_line {
            continue;
        }
        last_line = line;
        let marked = error.span().and_then(|span| reader.character(span.start));
        reader.syntax_mistake(error.span(), in_words(error.message(), marked));
    }
}

/// The parser's message, without its grammar's names, and a remedy for what people do write.
fn in_words(message: &str, marked: Option<char>) -> Wrong {
    let what = match message.split_once(", expected ") {
        Some((what, "nothing" | "literal string")) => what,
        _ => message,
    };
    match marked {
        None | Some('\n' | '\r') if what == "string values must be quoted" => {
            Wrong::new("there is no value", EXAMPLE)
        }
        Some('“' | '”' | '„' | '‘' | '’' | '«') => {
            Wrong::new(what, "write straight quotes: hostname = \"relay.example.com\"")
        }
        _ if what.contains("duplicate key") => Wrong::new(
            what,
            "write each key once; a further entry of a list begins with its own [[header]]",
        ),
        _ if what.contains("escape") => {
            Wrong::new(what, "write a Windows path in single quotes: 'C:\\ProgramData\\mailbearer'")
        }
        _ => Wrong::new(what, EXAMPLE),
    }
}
