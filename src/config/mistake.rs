//! What is wrong with a configuration, for the person who wrote it.
//!
//! Owns [`Mistake`] and [`ConfigMistakes`]. No text of theirs ever holds a value that could be a
//! secret: a secret in the wrong place must not go from there to a terminal or a log.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters, from 1.
    pub column: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is, unless the file as a whole is meant.
    pub position: Option<Position>,
    /// The key with its table: `listener.tls`. Empty if it is not about a key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
    /// The line and a mark below it, where seeing it helps.
    pub excerpt: Option<String>,
}

/// Every mistake of one file, in the order of their lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMistakes {
    file: PathBuf,
    mistakes: Vec<Mistake>,
}

impl ConfigMistakes {
    pub(super) fn new(file: &Path, mut mistakes: Vec<Mistake>) -> Self {
        debug_assert!(!mistakes.is_empty(), "a refusal has a reason");
        mistakes.sort_by_key(|mistake| mistake.position);
        Self { file: file.to_owned(), mistakes }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The mistakes.
    pub fn all(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigMistakes {
    /// Each mistake as `file:line:column: key: what is wrong`, and what would be right below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.mistakes.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(Position { line, column }) = mistake.position {
                write!(f, "{line}:{column}:")?;
            }
            if !mistake.key.is_empty() {
                write!(f, " {}:", mistake.key)?;
            }
            write!(f, " {}", mistake.what)?;
            for line in mistake.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
                write!(f, "\n  {line}")?;
            }
            for line in mistake.remedy.lines() {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigMistakes {}
