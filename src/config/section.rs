//! Reading a table of the file key by key, without ever stopping at a mistake.
//!
//! Owns [`Reader`], where mistakes are collected, and [`Section`], one table with its known keys.
//! A key that is not known is a mistake the moment its table is opened, so nothing that was written
//! is ever passed over in silence.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::keys;
use crate::config::mistake::{Mistake, Position};
use crate::config::nearest::nearest;
use crate::config::source::{Source, quoted};
use crate::config::surroundings::Surroundings;

/// One value of the file and where it stands.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// What is wrong with a value, and what would be right.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// A key of a table, read.
#[derive(Debug)]
pub(super) enum Field<T> {
    /// It is not there.
    Absent,
    /// It is there and wrong; that has been reported.
    Wrong,
    /// It is there and right.
    Given(T),
}

impl<T> Field<T> {
    /// What was given.
    pub(super) fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// What was given, or the default. `None` if it is wrong.
    pub(super) fn or(self, default: T) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent => Some(default),
            Self::Wrong => None,
        }
    }

    /// What was given, or the result of a call. `None` if it is wrong.
    pub(super) fn or_else(self, default: impl FnOnce() -> T) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent => Some(default()),
            Self::Wrong => None,
        }
    }

    /// What was given, or the type's default. `None` if it is wrong.
    pub(super) fn or_default(self) -> Option<T>
    where
        T: Default,
    {
        self.or_else(T::default)
    }

    /// What was given, if anything. The outer `None` says that it is wrong.
    pub(super) fn optional(self) -> Option<Option<T>> {
        match self {
            Self::Given(value) => Some(Some(value)),
            Self::Absent => Some(None),
            Self::Wrong => None,
        }
    }
}

/// Collects the mistakes of one file.
pub(super) struct Reader<'t> {
    source: Source<'t>,
    folder: PathBuf,
    pub(super) surroundings: &'t Surroundings<'t>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, file: &Path, surroundings: &'t Surroundings<'t>) -> Self {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let mistakes = RefCell::default();
        Self { source: Source::new(text), folder, surroundings, mistakes }
    }

    /// How many mistakes there are so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.borrow().len()
    }

    /// Line and column of an offset.
    pub(super) fn position(&self, offset: usize) -> Position {
        self.source.position(offset)
    }

    /// The character at an offset.
    pub(super) fn character(&self, offset: usize) -> Option<char> {
        self.source.character(offset)
    }

    /// All mistakes.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    /// A path of the file, which begins in the file's folder.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// Records a mistake.
    pub(super) fn mistake(&self, at: Option<&Range<usize>>, key: &str, wrong: Wrong) {
        self.mistakes.borrow_mut().push(Mistake {
            position: at.map(|range| self.source.position(range.start)),
            key: key.to_owned(),
            what: wrong.what,
            remedy: wrong.remedy,
            excerpt: None,
        });
    }

    /// Records that the text is not TOML.
    pub(super) fn syntax_mistake(&self, at: Option<Range<usize>>, wrong: Wrong) {
        self.mistakes.borrow_mut().push(Mistake {
            position: at.as_ref().map(|range| self.source.position(range.start)),
            key: String::new(),
            what: wrong.what,
            remedy: wrong.remedy,
            excerpt: at.map(|range| self.source.excerpt(range)),
        });
    }
}

/// One table of the file.
pub(super) struct Section<'r, 't> {
    pub(super) reader: &'r Reader<'t>,
    /// `listener.network`; empty for the file itself.
    name: String,
    at: Option<Range<usize>>,
    table: Option<&'r DeTable<'t>>,
}

impl<'r, 't> Section<'r, 't> {
    /// The file itself.
    pub(super) fn root(reader: &'r Reader<'t>, table: &'r DeTable<'t>) -> Self {
        let root = Self { reader, name: String::new(), at: None, table: Some(table) };
        root.refuse_unknown_keys();
        root
    }

    fn open(&self, key: &str, value: &'r Value<'t>) -> Option<Self> {
        let name = self.key(key);
        let Some(table) = value.get_ref().as_table() else {
            let wrong = keys::how_to_write(&name);
            self.reader.mistake(Some(&value.span()), &name, wrong);
            return None;
        };
        let at = Some(value.span());
        let section = Self { reader: self.reader, name, at, table: Some(table) };
        section.refuse_unknown_keys();
        Some(section)
    }

    fn refuse_unknown_keys(&self) {
        let known = keys::of(&self.name);
        for (key, _) in self.table.into_iter().flatten() {
            let written: &str = key.get_ref();
            if known.contains(&written) {
                continue;
            }
            let remedy = keys::home_of(written, &self.name).unwrap_or_else(|| {
                match nearest(written, known.iter().copied()) {
                    Some(near) => format!("did you mean {}?", quoted(near)),
                    None => format!("known here: {}", known.join(", ")),
                }
            });
            let wrong = Wrong::new("there is no such key", remedy);
            self.reader.mistake(Some(&key.span()), &self.key(&quoted_key(written)), wrong);
        }
    }

    /// `listener.tls`.
    fn key(&self, key: &str) -> String {
        match self.name.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.name),
        }
    }

    fn value(&self, key: &str) -> Option<&'r Value<'t>> {
        debug_assert!(keys::of(&self.name).contains(&key), "{}.{key} is not in keys.rs", self.name);
        self.table.and_then(|table| table.get(key))
    }

    /// Records a mistake of one key: at its value, or at the table if it is not there.
    pub(super) fn mistake(&self, key: &str, wrong: Wrong) {
        let at = self.value(key).map(|value| value.span()).or(self.at.clone());
        self.reader.mistake(at.as_ref(), &self.key(key), wrong);
    }

    /// Records a mistake of the table as a whole.
    pub(super) fn mistake_here(&self, wrong: Wrong) {
        self.reader.mistake(self.at.as_ref(), &self.name, wrong);
    }

    /// True if the key was written, rightly or wrongly.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The text of a key that is read, and judged, elsewhere.
    pub(super) fn peek(&self, key: &str) -> Option<&'r str> {
        self.value(key).and_then(|value| value.get_ref().as_str())
    }

    /// True if the key is not there, or is a list of nothing.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.value(key)
            .is_none_or(|value| value.get_ref().as_array().is_some_and(|list| list.len() == 0))
    }

    /// The value if it has to be there; its lack is a mistake.
    pub(super) fn required<T>(&self, key: &str, field: Field<T>, remedy: &str) -> Option<T> {
        if matches!(field, Field::Absent) {
            self.mistake(key, Wrong::new("is missing", remedy));
        }
        field.given()
    }

    /// A value of any type, as `read` understands it.
    pub(super) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'r DeValue<'t>) -> Result<T, Wrong>,
    ) -> Field<T> {
        let Some(value) = self.value(key) else {
            return Field::Absent;
        };
        match read(value.get_ref()) {
            Ok(read) => Field::Given(read),
            Err(wrong) => {
                self.mistake(key, wrong);
                Field::Wrong
            }
        }
    }

    /// A text, as `read` understands it.
    pub(super) fn text<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'r str) -> Result<T, Wrong>,
    ) -> Field<T> {
        self.read(key, |value| read(as_text(value)?))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Field<bool> {
        self.read(key, |value| {
            value.as_bool().ok_or_else(|| {
                Wrong::new(format!("is {}", kind(value)), "write true or false, without quotes")
            })
        })
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Field<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let list = || words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.read(key, |value| {
            let text = as_text(value)
                .map_err(|wrong| Wrong::new(wrong.what, format!("write one of {}", list())))?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(
                || {
                    let what = format!("{} is not known", quoted(text));
                    Wrong::new(
                        what,
                        match nearest(text, words()) {
                            Some(near) => {
                                format!("did you mean \"{near}\"? It has to be one of {}", list())
                            }
                            None => format!("write one of {}", list()),
                        },
                    )
                },
            )
        })
    }

    /// A whole number between two others.
    pub(super) fn number(&self, key: &str, low: u64, high: u64) -> Field<u64> {
        self.read(key, |value| {
            let remedy = format!("write a number from {low} to {high}, without quotes");
            let number = as_number(value)
                .ok_or_else(|| Wrong::new(format!("is {}", kind(value)), remedy.as_str()))?;
            match (low..=high).contains(&number) {
                true => Ok(number),
                false => Err(Wrong::new(format!("{number} is out of bounds"), remedy)),
            }
        })
    }

    /// A list of texts, each as `read` understands it. Every wrong element is a mistake of its own.
    pub(super) fn list<T>(
        &self,
        key: &str,
        example: &str,
        mut read: impl FnMut(&'r str) -> Result<T, Wrong>,
    ) -> Field<Vec<T>> {
        let Some(value) = self.value(key) else {
            return Field::Absent;
        };
        let remedy = || format!("write a list: {key} = {example}");
        let Some(array) = value.get_ref().as_array() else {
            self.mistake(key, Wrong::new(format!("is {}", kind(value.get_ref())), remedy()));
            return Field::Wrong;
        };
        let mut elements = Vec::with_capacity(array.len());
        for element in array {
            let read = as_text(element.get_ref())
                .map_err(|wrong| Wrong::new(wrong.what, remedy()))
                .and_then(&mut read);
            match read {
                Ok(read) => elements.push(read),
                Err(wrong) => self.reader.mistake(Some(&element.span()), &self.key(key), wrong),
            }
        }
        match elements.len() == array.len() {
            true => Field::Given(elements),
            false => Field::Wrong,
        }
    }

    /// The table of that name, if it is there.
    pub(super) fn table(&self, key: &str) -> Field<Section<'r, 't>> {
        match self.value(key).map(|value| self.open(key, value)) {
            None => Field::Absent,
            Some(None) => Field::Wrong,
            Some(Some(section)) => Field::Given(section),
        }
    }

    /// The table of that name, or one without keys.
    pub(super) fn table_or_empty(&self, key: &str) -> Option<Section<'r, 't>> {
        self.table(key).or_else(|| Section {
            reader: self.reader,
            name: self.key(key),
            at: self.at.clone(),
            table: None,
        })
    }

    /// The tables of that name, `[[key]]`.
    pub(super) fn tables(&self, key: &str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(array) => {
                array.iter().filter_map(|element| self.open(key, element)).collect()
            }
            other => {
                self.mistake(key, keys::how_to_write(&self.key(key)));
                match other.is_table() {
                    true => self.open(key, value).into_iter().collect(),
                    false => Vec::new(),
                }
            }
        }
    }
}

/// The text of a value.
pub(super) fn as_text<'r>(value: &'r DeValue<'_>) -> Result<&'r str, Wrong> {
    value
        .as_str()
        .ok_or_else(|| Wrong::new(format!("is {}", kind(value)), "write a text in double quotes"))
}

/// The number of a value.
pub(super) fn as_number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(number) if number.as_str().starts_with('-') => "a negative number",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A key that nobody knows, so that it can be shown.
fn quoted_key(key: &str) -> String {
    let is_bare = key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    match is_bare && !key.is_empty() && key.len() <= 60 {
        true => key.to_owned(),
        false => format!("{:?}", key.chars().take(60).collect::<String>()),
    }
}
