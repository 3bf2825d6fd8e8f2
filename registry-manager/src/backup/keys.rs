//! The keys of a manager, as they lie in a backup.

use crate::paths::Paths;
use echelon_core::passphrase::Passphrase;
use echelon_identity::directory::DirectoryError;
use echelon_identity::file;
use echelon_identity::sealed::{Purpose, SealError, UnsealError, seal, unseal};
use echelon_identity::{Credentials, IdentityDirectory};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything secret in a state directory but the registry: credentials in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    /// What it signs certificates with.
    pub(crate) issuer: String,
    /// Its own identity.
    pub(crate) identity: String,
    /// The first console's identity; none where it was taken elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<String>,
    /// The root; none where it was taken elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<String>,
}

/// Why sealed keys are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// They do not open.
    #[error("the keys in the backup do not open")]
    Sealed(#[from] UnsealError),
    /// They are none.
    #[error("the keys in the backup are none that this build knows")]
    Form(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Keys {
    /// Those of this state directory.
    pub(crate) fn gather(paths: &Paths) -> Result<Self, DirectoryError> {
        let identity = |path: &Path| -> Result<String, DirectoryError> {
            Ok(IdentityDirectory::open(path)?.load_credentials()?.to_pem())
        };
        Ok(Self {
            issuer: file::read_secret(&paths.issuer())?,
            identity: identity(&paths.identity())?,
            console: if_there(identity(&paths.console()))?,
            root: if_there(file::read_secret(&paths.root()).map_err(DirectoryError::from))?,
        })
    }

    /// As a text that only the passphrase opens.
    pub(crate) fn sealed(&self, passphrase: &Passphrase) -> Result<String, SealError> {
        // Texts and nothing else: that cannot fail.
        let text = serde_json::to_vec(self).unwrap_or_default();
        seal(Purpose::Backup, passphrase, &text)
    }

    /// What [`Self::sealed`] made. All of them are credentials.
    pub(crate) fn unsealed(text: &str, passphrase: &Passphrase) -> Result<Self, KeysError> {
        let text = unseal(Purpose::Backup, passphrase, text)?;
        let keys: Self = serde_json::from_slice(&text).map_err(|e| KeysError::Form(Box::new(e)))?;
        for pem in [&keys.issuer, &keys.identity].into_iter().chain(&keys.console).chain(&keys.root) {
            Credentials::from_pem(pem).map_err(|e| KeysError::Form(Box::new(e)))?;
        }
        Ok(keys)
    }
}

fn if_there(read: Result<String, DirectoryError>) -> Result<Option<String>, DirectoryError> {
    match read {
        Err(error) if error.is_not_found() => Ok(None),
        read => read.map(Some),
    }
}
