//! Settings in layers: flags over environment over a TOML file over the default.
//!
//! clap's `env` puts flags over the environment and leaves an `Option`; [`load_or_default`] reads the file, whose
//! struct the binary defines with `#[serde(default, deny_unknown_fields)]` and `Option` fields; [`layered`] merges.

use crate::{Exit, bounded::read_at_most, text::printable};
use clap::Args;
use serde::de::DeserializeOwned;
use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The largest configuration file that is read. Ten thousand times what a full one needs; keeps a wrong path (a
/// disk image, `/dev/zero`) from filling the memory.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Every key of the log with its comment and default.
const LOG_DEFAULTS: &str = r#"
[log]
# error, warn, info, debug or trace, or TARGET=LEVEL, separated by commas.
#filter = "info"
# text or json.
#format = "text"
"#;

/// The arguments of every binary's command `config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Print the defaults
    #[arg(long, required = true)]
    default: bool,
}

/// Why a configuration file could not be used. Nothing of the file has taken effect.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("cannot read the configuration file {}; check the path and that this user may read it", path.display())]
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`MAX_CONFIG_BYTES`].
    #[error(
        "{} is larger than {MAX_CONFIG_BYTES} bytes and was not read; check that it is the configuration file",
        path.display()
    )]
    TooBig {
        /// The file as it was named.
        path: PathBuf,
    },
    /// The file is no text.
    #[error("{}:{at}: not UTF-8; save the file as UTF-8 text", path.display())]
    NotUtf8 {
        /// The file as it was named.
        path: PathBuf,
        /// Where the first wrong byte is.
        at: Place,
    },
    /// The file is not TOML, or has a key or value that is not known.
    #[error(
        "{}:{at}: {message}{}; correct the file, `config --default` prints every key",
        path.display(), in_key(key.as_deref())
    )]
    Invalid {
        /// The file as it was named.
        path: PathBuf,
        /// Where the mistake is.
        at: Place,
        /// The key or table it is in, dotted, when it is known.
        key: Option<String>,
        /// What is wrong.
        message: String,
    },
}

/// A place in a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// The setting in force: what the flag or the environment says, else the file, else the default.
pub fn layered<T>(flag: Option<T>, file: Option<T>, default: T) -> T {
    flag.or(file).unwrap_or(default)
}

/// As [`layered`] for a flag that may be repeated: any flag replaces the whole list of the file.
pub fn layered_list<T>(flags: Vec<T>, file: Option<Vec<T>>, default: Vec<T>) -> Vec<T> {
    layered(Some(flags).filter(|flags| !flags.is_empty()), file, default)
}

/// Reads the file that was `named`, which must exist; without one the `usual` file, where absence means defaults.
pub fn load_or_default<T>(named: Option<&Path>, usual: &Path) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Default,
{
    match named {
        Some(path) => load(path),
        None => match load(usual) {
            Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(T::default())
            }
            answer => answer,
        },
    }
}

/// Reads the file at `path`. At most [`MAX_CONFIG_BYTES`] are taken in.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = File::open(path)
        .and_then(|file| read_at_most(file, MAX_CONFIG_BYTES))
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?
        .ok_or_else(|| ConfigError::TooBig { path: path.to_owned() })?;
    parse(path, &bytes)
}

/// Reads `bytes` as the file named `path`, which serves the errors only.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConfigError> {
    let text = str::from_utf8(bytes).map_err(|error| ConfigError::NotUtf8 {
        path: path.to_owned(),
        at: Place::of(bytes, error.valid_up_to()),
    })?;
    toml::from_str(text).map_err(|error| ConfigError::invalid(path, text, error))
}

impl ConfigArgs {
    /// Prints the defaults that it asks for; see [`printed_defaults`].
    pub fn print(&self, own: &str) -> Exit {
        if self.default {
            print!("{}", printed_defaults(own));
        }
        Exit::Done
    }
}

/// A whole settings file: a binary's `own` keys, each behind a `#`, and those of the log.
pub fn printed_defaults(own: &str) -> String {
    format!("{own}{LOG_DEFAULTS}")
}

/// Printed defaults without the `#` before each key, so that a test can hold them against the real ones. Comments
/// have a space behind it.
pub fn with_keys_in_force(printed: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    printed.lines().map(line).collect()
}

impl ConfigError {
    fn invalid(path: &Path, text: &str, error: toml::de::Error) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            at: Place::of(text.as_bytes(), error.span().map_or(0, |span| span.start)),
            key: key_of(&error).map(|key| printable(&key)),
            message: printable(&in_our_words(error.message())),
        }
    }
}

impl Place {
    /// The place of the byte at `offset`; past the end, the place just behind the last character.
    fn of(bytes: &[u8], offset: usize) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at.saturating_add(1));
        let in_line = before.get(line_start..).unwrap_or_default();
        Self {
            line: before.iter().filter(|&&byte| byte == b'\n').count().saturating_add(1),
            column: String::from_utf8_lossy(in_line).chars().count().saturating_add(1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

fn in_key(key: Option<&str>) -> String {
    key.map(|key| format!(" in `{key}`")).unwrap_or_default()
}

/// The key that toml knows the error to be in. It tells only in its text, and only while it has no input to quote.
fn key_of(error: &toml::de::Error) -> Option<String> {
    let mut bare = error.clone();
    bare.set_input(None);
    let text = bare.to_string();
    let key =
        text.strip_prefix(error.message())?.trim_matches('\n').strip_prefix("in `")?.strip_suffix('`')?;
    Some(key.to_owned())
}

/// serde speaks of fields; people who write a file know them as keys.
fn in_our_words(message: &str) -> String {
    for kind in ["unknown", "missing", "duplicate"] {
        if let Some(rest) = message.strip_prefix(kind).and_then(|rest| rest.strip_prefix(" field ")) {
            return format!("{kind} key {rest}");
        }
    }
    message.to_owned()
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
