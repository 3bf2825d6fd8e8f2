//! Secrets that an operator gives to a command: never as arguments, which every user of the machine can read.

use crate::bounded::read_at_most;
use crate::secret::{self, SecretError};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A secret that is taken from a file or, where none is named, from the environment. The variable is not the business
/// of the command line's own library, which shows the values of variables in its help.
#[derive(Clone, Copy, Debug)]
pub struct GivenSecret {
    /// What it is, for people.
    pub what: &'static str,
    /// The variable.
    pub variable: &'static str,
    /// The option that names a file.
    pub option: &'static str,
    /// Most bytes that are read.
    pub max: u64,
}

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum GivenError {
    /// Neither file nor variable.
    #[error("there is no {what}: set {variable}, or name a file with {option}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// The variable.
        variable: &'static str,
        /// The option.
        option: &'static str,
    },
    /// Standard input.
    #[error("the {0} cannot be read from standard input")]
    Input(&'static str, #[source] io::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The file holds something else, or too much of it.
    #[error("{} is not the text of a {what}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it was to be.
        what: &'static str,
    },
}

impl GivenSecret {
    /// Reads it from this file, `-` for standard input, else from the environment.
    ///
    /// # Errors
    /// See [`GivenError`].
    pub fn read(&self, file: Option<&Path>) -> Result<String, GivenError> {
        let Self { what, variable, option, max } = *self;
        let (path, bytes) = match file {
            None => {
                let missing = |_| GivenError::Missing { what, variable, option };
                return std::env::var(variable).map_err(missing);
            }
            Some(path) if path == Path::new("-") => {
                let read = read_at_most(io::stdin().lock(), max);
                (path, read.map_err(|e| GivenError::Input(what, e))?.unwrap_or_default())
            }
            Some(path) => (path, secret::read(path, max)?),
        };
        String::from_utf8(bytes).map_err(|_| GivenError::NotText { path: path.to_owned(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TOKEN: GivenSecret = GivenSecret {
        what: "join token",
        variable: "A_VARIABLE_THAT_NOBODY_SETS",
        option: "--token-file",
        max: 16,
    };

    #[test]
    fn a_secret_comes_from_a_file_of_its_owner_or_it_is_said_how_to_give_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        secret::write(&path, b"ech1.x\n").unwrap();
        assert_eq!(TOKEN.read(Some(&path)).unwrap(), "ech1.x\n");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(TOKEN.read(Some(&path)), Err(GivenError::NotText { .. })));
        fs::write(&path, "x".repeat(17)).unwrap();
        assert!(matches!(TOKEN.read(Some(&path)), Err(GivenError::File(SecretError::TooBig { .. }))));
        let missing = TOKEN.read(None).unwrap_err().to_string();
        assert_eq!(
            missing,
            "there is no join token: set A_VARIABLE_THAT_NOBODY_SETS, or name a file with --token-file"
        );
    }
}
