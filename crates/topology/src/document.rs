//! A file as a tree of values that know where they stand, whichever language it was written in.

use crate::fault::Fault;
use std::borrow::Cow;

/// Deepest nesting of tables and lists that is looked at; a check in a package in a host needs five.
pub(crate) const MAX_NESTING: usize = 16;

/// A value and the byte where it begins.
#[derive(Debug)]
pub(crate) struct Node<'i> {
    pub(crate) at: usize,
    pub(crate) value: Value<'i>,
}

/// What a file can say.
#[derive(Debug)]
pub(crate) enum Value<'i> {
    Text(Cow<'i, str>),
    /// None for a whole number of more than 64 bits.
    Integer(Option<i64>),
    Flag(bool),
    List(Vec<Node<'i>>),
    /// In the order of the file, no key twice.
    Table(Vec<Entry<'i>>),
    /// Something no key takes, such as a date, in words.
    Other(&'static str),
}

/// A key, the byte where it begins, and its value.
#[derive(Debug)]
pub(crate) struct Entry<'i> {
    pub(crate) key: Cow<'i, str>,
    pub(crate) at: usize,
    pub(crate) node: Node<'i>,
}

impl Value<'_> {
    /// The kind of value, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(Some(_)) => "a number",
            Self::Integer(None) => "a number of too many digits",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Where reading a document failed, and why.
pub(crate) type Failed = (usize, Fault);

/// Reads a document: JSON where the file is called so or begins with `{`, which no TOML does.
///
/// # Errors
/// The first fault.
pub(crate) fn read<'i>(file: &str, text: &'i str) -> Result<Node<'i>, Failed> {
    if file.ends_with(".json") || text.trim_start().starts_with('{') {
        return crate::json::read(text);
    }
    crate::toml_file::read(text)
}
