//! What an enrolment leaves in the state directory besides the identity: who this host was enrolled as.

use echelon_core::id::HostId;
use echelon_core::name::{DomainPath, FrameworkName, HostName};
use echelon_daemon::{SecretError, secret};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The identity's directory in the state directory.
pub(crate) const IDENTITY: &str = "identity";

/// The record's file.
const FILE: &str = "enrolled.json";

/// Longest record that is read: names at their limits take under 3 KiB.
const MAX_BYTES: u64 = 16 * 1024;

/// Who this host was enrolled as. Names may have changed since; the replica knows better.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnrolledAs {
    /// The framework.
    pub framework: FrameworkName,
    /// The host's id.
    pub host_id: HostId,
    /// The host's name.
    pub host: HostName,
    /// The domain it was in.
    pub domain: DomainPath,
    /// Which enrolment of the host this is.
    pub enrolment: u32,
}

/// Why a small file of the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretError),
    /// It does not hold what it should.
    #[error("{} cannot be read; nothing was changed: restore it from a backup, or remove it and enrol anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl EnrolledAs {
    /// The record in a state directory; none where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(state: &Path) -> Result<Option<Self>, RecordError> {
        load(&state.join(FILE), MAX_BYTES)
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// It cannot be written; the former one is as it was.
    pub(crate) fn save(&self, state: &Path) -> Result<(), RecordError> {
        save(&state.join(FILE), self)
    }
}

/// Reads a JSON document of at most `max` bytes that only its owner can read; none where there is none.
pub(crate) fn load<T: serde::de::DeserializeOwned>(path: &Path, max: u64) -> Result<Option<T>, RecordError> {
    let bytes = match secret::read(path, max) {
        Err(SecretError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        read => read?,
    };
    let content = serde_json::from_slice(&bytes);
    content.map(Some).map_err(|source| RecordError::Content { path: path.to_owned(), source })
}

/// Replaces a JSON document in one step.
pub(crate) fn save<T: Serialize>(path: &Path, content: &T) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec(content);
    let bytes = bytes.map_err(|source| RecordError::Content { path: path.to_owned(), source })?;
    Ok(secret::write(path, &bytes)?)
}
