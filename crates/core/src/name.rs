//! Names, parsed once and valid for ever after.
//!
//! All names are lower-case ASCII: letters, digits, `-`, `_` and `.`, beginning with a letter or a digit.
//! That is what DNS, file names, URIs and terminals all carry unchanged.

use crate::limits::{MAX_CHECK_BYTES, MAX_DEPTH, MAX_HOST_NAME, MAX_LABEL, MAX_QUOTED, MAX_TEXT};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a name of the kind that was asked for. Nothing was changed; a retry is pointless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {} {problem}", quoted(.value))]
pub struct NameError {
    /// What the text was meant to be, such as `host name`.
    pub what: &'static str,
    /// The text, unescaped; Display shows at most its beginning, with control characters escaped.
    pub value: String,
    /// What is wrong and what would be right.
    pub problem: NameProblem,
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Nothing there.
    #[error("is empty: give at least one character")]
    Empty,
    /// Longer than the limit, in bytes.
    #[error("has {length} bytes: use at most {most}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// A character no name may have.
    #[error("has {:?} at position {}: use lower-case letters, digits, '-', '_' and '.'", .found, .at + 1)]
    Character {
        /// The character.
        found: char,
        /// Its byte offset, from 0.
        at: usize,
    },
    /// A character that does not belong into something of another syntax than a name.
    #[error("has {:?} at position {}: use {}", .found, .at + 1, .syntax.allowed())]
    Foreign {
        /// The character.
        found: char,
        /// Its byte offset, from 0.
        at: usize,
        /// That syntax.
        syntax: Syntax,
    },
    /// A path of a URL that does not begin with `/`.
    #[error("is not the path of a URL: begin with '/', as in /healthz")]
    NotUrlPath,
    /// Begins with `-`, `_` or `.`.
    #[error("begins with {0:?}: begin with a letter or a digit")]
    Start(char),
    /// A domain path that does not begin with `/`.
    #[error("is not a path: begin with '/', as in /emea/de")]
    NotAbsolute,
    /// A domain path with an empty step.
    #[error("has an empty step: write it without '//' and without '/' at the end")]
    EmptyStep,
    /// A domain path with too many steps.
    #[error("is {depth} levels deep: use at most {MAX_DEPTH}")]
    TooDeep {
        /// Its depth.
        depth: usize,
    },
    /// A control character in a free text.
    #[error("has a control character at position {}: use printable text", .0 + 1)]
    Control(usize),
    /// Not `ADDRESS:PORT`.
    #[error("is not an endpoint: write ADDRESS:PORT, as in 10.0.0.1:7000, [::1]:7000 or db.example:7000")]
    Endpoint,
    /// A port of 0, or no number.
    #[error("has no usable port: use 1 to 65535")]
    Port,
    /// Not a UUID.
    #[error("is not a UUID")]
    Uuid,
    /// None of the words that are allowed.
    #[error("is not one of {0}")]
    Choice(&'static str),
}

/// What a text that goes into a request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// A URL, after its host (RFC 3986).
    UrlPath,
    /// A URL's host and port.
    UrlHost,
    /// The name of a gRPC service.
    Service,
}

impl Syntax {
    /// The characters that it has besides letters and digits.
    fn others(self) -> &'static str {
        match self {
            Self::UrlPath => "-._~%!$&'()*+,;=:@/?",
            Self::UrlHost => "-._~:[]",
            Self::Service => "-._/",
        }
    }

    /// What it is made of, for people.
    fn allowed(self) -> &'static str {
        match self {
            Self::UrlPath => "the characters of a URL, others as %XX",
            Self::UrlHost => "a host as in a URL, such as web.example:8080",
            Self::Service => "letters, digits, '-', '_', '.' and '/'",
        }
    }
}

impl NameError {
    /// An error about `value`, which was meant to be a `what`.
    pub fn new(what: &'static str, value: &str, problem: NameProblem) -> Self {
        // Only what can be shown is kept, so that an error never holds megabytes of bad input.
        let end = floor_char_boundary(value, MAX_QUOTED * 4);
        Self { what, value: value[..end].to_owned(), problem }
    }
}

/// `value` in quotes, control characters escaped, cut to a length fit for an error.
pub fn quoted(value: &str) -> String {
    let end = floor_char_boundary(value, MAX_QUOTED);
    let more = if end < value.len() { "…" } else { "" };
    format!("\"{}{more}\"", value[..end].escape_debug())
}

fn floor_char_boundary(value: &str, at_most: usize) -> usize {
    (0..=at_most.min(value.len())).rev().find(|&i| value.is_char_boundary(i)).unwrap_or(0)
}

fn check_label(value: &str, most: usize) -> Result<(), NameProblem> {
    if value.len() > most {
        return Err(NameProblem::TooLong { length: value.len(), most });
    }
    let bad = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    if let Some((at, found)) = value.char_indices().find(|&(_, c)| bad(c)) {
        return Err(NameProblem::Character { found, at });
    }
    match value.chars().next() {
        None => Err(NameProblem::Empty),
        Some(c) if !c.is_ascii_alphanumeric() => Err(NameProblem::Start(c)),
        Some(_) => Ok(()),
    }
}

fn check_text(value: &str) -> Result<(), NameProblem> {
    if value.len() > MAX_TEXT {
        return Err(NameProblem::TooLong { length: value.len(), most: MAX_TEXT });
    }
    match value.char_indices().find(|(_, c)| steers(*c)) {
        Some((at, _)) => Err(NameProblem::Control(at)),
        None => Ok(()),
    }
}

/// Refuses an empty text, one of more than `most` bytes, and every character that the syntax does not have.
fn check_syntax(value: &str, most: usize, syntax: Syntax) -> Result<(), NameProblem> {
    match value.len() {
        0 => return Err(NameProblem::Empty),
        length if length > most => return Err(NameProblem::TooLong { length, most }),
        _ => {}
    }
    let bad = |c: char| !(c.is_ascii_alphanumeric() || syntax.others().contains(c));
    match value.char_indices().find(|&(_, c)| bad(c)) {
        Some((at, found)) => Err(NameProblem::Foreign { found, at, syntax }),
        None => Ok(()),
    }
}

/// Path and query.
fn check_url_path(value: &str) -> Result<(), NameProblem> {
    if !value.is_empty() && !value.starts_with('/') {
        return Err(NameProblem::NotUrlPath);
    }
    check_syntax(value, MAX_CHECK_BYTES, Syntax::UrlPath)
}

/// Whether a character steers a terminal instead of being shown: control characters, separators of lines
/// and paragraphs, and those that turn the direction of writing (Unicode's Bidi_Control), with which a
/// text can pose as another.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A validated, cheaply cloned string type whose constructor is the only door.
macro_rules! string_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// What this is called in errors.
            pub const WHAT: &'static str = $what;

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameProblem> = $check;
                match check(value) {
                    Ok(()) => Ok(Self(value.into())),
                    Err(problem) => Err(NameError::new($what, value, problem)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.as_str().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

string_type!(
    /// A host's unique name, at most [`MAX_HOST_NAME`] bytes. A label, not an identity: it can change.
    HostName, "host name", |v| check_label(v, MAX_HOST_NAME)
);
string_type!(
    /// One step of a domain path, at most [`MAX_LABEL`] bytes.
    DomainName, "domain name", |v| check_label(v, MAX_LABEL)
);
string_type!(
    /// The type of a package, such as `command-control`, at most [`MAX_LABEL`] bytes.
    ManagerType, "manager type", |v| check_label(v, MAX_LABEL)
);
string_type!(
    /// The name of the agent framework whose hosts these are, at most [`MAX_LABEL`] bytes.
    FrameworkName, "framework name", |v| check_label(v, MAX_LABEL)
);
string_type!(
    /// The name of a console identity, at most [`MAX_LABEL`] bytes.
    ConsoleName, "console name", |v| check_label(v, MAX_LABEL)
);
string_type!(
    /// The kind of an alarm, such as `certificate-expiring`, at most [`MAX_LABEL`] bytes.
    AlarmName, "alarm name", |v| check_label(v, MAX_LABEL)
);
string_type!(
    /// Printable text of at most [`MAX_TEXT`] bytes: a reason, a version.
    Text, "text", check_text
);

string_type!(
    /// What an HTTP check asks for: path and perhaps query of a URL, at most [`MAX_CHECK_BYTES`] bytes.
    UrlPath, "path", check_url_path
);
string_type!(
    /// The `Host` of an HTTP check: a name or an address, perhaps with a port; at most [`MAX_TEXT`] bytes.
    HttpHost, "host", |v| check_syntax(v, MAX_TEXT, Syntax::UrlHost)
);
string_type!(
    /// The name of a gRPC service, such as `acme.Control`, at most [`MAX_TEXT`] bytes.
    ServiceName, "service", |v| check_syntax(v, MAX_TEXT, Syntax::Service)
);

impl ManagerType {
    /// The type under which registry managers are found.
    pub const REGISTRY: &'static str = "registry";

    /// The type `registry`.
    pub fn registry() -> Self {
        Self(Self::REGISTRY.into())
    }

    /// Whether this is the type of registry managers.
    pub fn is_registry(&self) -> bool {
        self.as_str() == Self::REGISTRY
    }
}

impl Text {
    /// The nearest text to `value`: control characters become spaces, the end is cut at the limit.
    pub fn lossy(value: &str) -> Self {
        let clean: String = value.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
        Self(clean[..floor_char_boundary(&clean, MAX_TEXT)].into())
    }
}

/// The place of a domain in the hierarchy: `/` for the root, `/emea/de` for others; at most
/// [`MAX_DEPTH`] levels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainPath(Vec<DomainName>);

impl DomainPath {
    /// `/`.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of these steps from the root.
    ///
    /// # Errors
    /// More than [`MAX_DEPTH`] steps.
    pub fn from_steps(steps: Vec<DomainName>) -> Result<Self, NameError> {
        let path = Self(steps);
        match path.0.len() {
            0..=MAX_DEPTH => Ok(path),
            depth => Err(NameError::new("domain path", &path.to_string(), NameProblem::TooDeep { depth })),
        }
    }

    /// The steps from the root; none for the root itself.
    pub fn steps(&self) -> &[DomainName] {
        &self.0
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parent's path; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }

    /// The last step; none for the root.
    pub fn name(&self) -> Option<&DomainName> {
        self.0.last()
    }

    /// This domain's subdomain `name`.
    ///
    /// # Errors
    /// It would lie deeper than [`MAX_DEPTH`].
    pub fn join(&self, name: DomainName) -> Result<Self, NameError> {
        Self::from_steps(self.0.iter().cloned().chain([name]).collect())
    }

    /// Whether this domain is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl FromStr for DomainPath {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        let fail = |problem| NameError::new("domain path", value, problem);
        let Some(rest) = value.strip_prefix('/') else {
            return Err(fail(if value.is_empty() { NameProblem::Empty } else { NameProblem::NotAbsolute }));
        };
        if rest.is_empty() {
            return Ok(Self::root());
        }
        let depth = rest.split('/').count();
        if depth > MAX_DEPTH {
            return Err(fail(NameProblem::TooDeep { depth }));
        }
        let step = |s: &str| if s.is_empty() { Err(fail(NameProblem::EmptyStep)) } else { s.parse() };
        Ok(Self(rest.split('/').map(step).collect::<Result<_, _>>()?))
    }
}

impl TryFrom<String> for DomainPath {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<DomainPath> for String {
    fn from(value: DomainPath) -> String {
        value.to_string()
    }
}

impl fmt::Display for DomainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("/");
        }
        let joined: String = self.0.iter().flat_map(|s| ["/", s.as_str()]).collect();
        f.pad(&joined)
    }
}

impl fmt::Debug for DomainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_names_the_character_its_place_and_what_is_allowed() {
        let error = "Web1".parse::<HostName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "host name \"Web1\" has 'W' at position 1: use lower-case letters, digits, '-', '_' and '.'"
        );
    }

    #[test]
    fn a_name_of_300_bytes_is_refused_and_not_repeated_whole() {
        let error = "a".repeat(300).parse::<HostName>().unwrap_err().to_string();
        assert!(error.contains("has 300 bytes: use at most 253") && error.len() < 200, "{error}");
    }

    #[test]
    fn control_characters_are_refused_and_shown_escaped() {
        for bad in ["web\u{1b}[31m", "web\n1", "web\u{202e}"] {
            let error = bad.parse::<HostName>().unwrap_err().to_string();
            assert!(!error.chars().any(|c| c.is_control() || c == '\u{202e}'), "{error:?}");
        }
        for bad in ["a\u{7}b", "a\u{202e}b", "a\u{2028}b"] {
            assert!(bad.parse::<Text>().is_err(), "{bad:?} was taken");
            assert_eq!(Text::lossy(bad).as_str(), "a b");
        }
    }

    #[test]
    fn what_a_check_asks_for_is_a_path_of_a_url() {
        for good in ["/", "/healthz", "/a/b?c=d&e=%20", "/~x:1@2"] {
            assert_eq!(good.parse::<UrlPath>().unwrap().as_str(), good);
        }
        for bad in ["", "healthz", "/a b", "/a#b", "/a\r\nX: y", "/é", "/a\"b", &"/a".repeat(MAX_CHECK_BYTES)]
        {
            assert!(bad.parse::<UrlPath>().is_err(), "{bad:?} was taken");
        }
        for bad in ["", "a b", "a/b", "a\r\n", "a@b"] {
            assert!(bad.parse::<HttpHost>().is_err(), "{bad:?} was taken");
        }
        assert!("[::1]:80".parse::<HttpHost>().is_ok() && "acme.v1.Control".parse::<ServiceName>().is_ok());
        let error = "/a b".parse::<UrlPath>().unwrap_err().to_string();
        assert_eq!(error, "path \"/a b\" has ' ' at position 3: use the characters of a URL, others as %XX");
    }

    #[test]
    fn paths_know_their_parents_and_refuse_what_is_no_path() {
        let path: DomainPath = "/emea/de".parse().unwrap();
        assert_eq!(path.parent().unwrap().to_string(), "/emea");
        assert!(path.is_within(&"/emea".parse().unwrap()) && !path.is_within(&"/em".parse().unwrap()));
        for bad in ["", "emea", "/emea/", "//", "/a//b", "/A", "/ "] {
            assert!(bad.parse::<DomainPath>().is_err(), "{bad:?} was taken");
        }
        assert!("/a".repeat(MAX_DEPTH).parse::<DomainPath>().is_ok());
        assert!("/a".repeat(MAX_DEPTH + 1).parse::<DomainPath>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_is_taken_prints_as_it_was(value in ".{0,300}") {
            if let Ok(name) = value.parse::<HostName>() {
                prop_assert_eq!(name.to_string(), value.clone());
            }
            if let Ok(path) = value.parse::<DomainPath>() {
                prop_assert_eq!(path.to_string(), value.clone());
            }
            let _ = value.parse::<Text>();
        }
    }
}
