//! Where an agent, a manager or a console keeps its identity.

use crate::credentials::{Credentials, CredentialsError};
use crate::file::{self, FileError};
use crate::trust::{TrustBundle, TrustError};
use echelon_core::endpoint::Endpoint;
use echelon_core::name::NameError;
use std::path::{Path, PathBuf};

/// Key and chain in one file, so that no crash leaves a key without its certificate.
const IDENTITY: &str = "identity.pem";

/// The trusted roots.
const ROOTS: &str = "root.pem";

/// Where to find a manager first, one endpoint a line.
const MANAGERS: &str = "managers";

/// Most addresses of first contact: a replica set of seven and as many standbys fit.
pub const MAX_MANAGERS: usize = 16;

/// Why an identity could not be read or kept. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that holds no credentials.
    #[error("{} holds no usable identity", .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CredentialsError,
    },
    /// A file that holds no roots.
    #[error("{} holds no usable roots", .path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: TrustError,
    },
    /// A file that holds no addresses.
    #[error("line {line} of {} is no address of a manager", .path.display())]
    Address {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// More addresses than are ever tried.
    #[error("{} has more than {MAX_MANAGERS} addresses; keep the nearest", .0.display())]
    TooMany(PathBuf),
}

impl DirectoryError {
    /// Whether what was asked for is simply not there: not enrolled yet.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::File(e) if e.is_not_found())
    }
}

/// A directory with an identity, the roots it trusts and the managers it contacts first. Only its owner
/// can enter it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDirectory(PathBuf);

impl IdentityDirectory {
    /// Makes the directory, with mode 0700, where it is missing.
    ///
    /// # Errors
    /// It cannot be made, or others can enter the one that is there.
    pub fn create(path: &Path) -> Result<Self, DirectoryError> {
        file::create_private_directory(path)?;
        Ok(Self(path.to_owned()))
    }

    /// A directory that must be there.
    ///
    /// # Errors
    /// It is not, or others can enter it.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        file::check_private_directory(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces key and chain in one step, with mode 0600.
    ///
    /// # Errors
    /// The file cannot be written; the former identity is then as it was.
    pub fn save_credentials(&self, credentials: &Credentials) -> Result<(), DirectoryError> {
        Ok(file::write(&self.0.join(IDENTITY), &credentials.to_pem(), file::SECRET)?)
    }

    /// Key and chain.
    ///
    /// # Errors
    /// Not there ([`DirectoryError::is_not_found`]), readable by others, or damaged.
    pub fn load_credentials(&self) -> Result<Credentials, DirectoryError> {
        let path = self.0.join(IDENTITY);
        let text = file::read_secret(&path)?;
        Credentials::from_pem(&text).map_err(|source| DirectoryError::Credentials { path, source })
    }

    /// Replaces the trusted roots in one step.
    ///
    /// # Errors
    /// The file cannot be written; the former roots are then as they were.
    pub fn save_trust(&self, trust: &TrustBundle) -> Result<(), DirectoryError> {
        Ok(file::write(&self.0.join(ROOTS), &trust.to_pem(), file::PUBLIC)?)
    }

    /// The trusted roots.
    ///
    /// # Errors
    /// Not there ([`DirectoryError::is_not_found`]), or damaged.
    pub fn load_trust(&self) -> Result<TrustBundle, DirectoryError> {
        let path = self.0.join(ROOTS);
        let text = file::read(&path)?;
        TrustBundle::from_pem(&text).map_err(|source| DirectoryError::Trust { path, source })
    }

    /// Replaces the addresses of first contact in one step.
    ///
    /// # Errors
    /// Too many, or the file cannot be written; the former ones are then as they were.
    pub fn save_managers(&self, managers: &[Endpoint]) -> Result<(), DirectoryError> {
        let path = self.0.join(MANAGERS);
        if managers.len() > MAX_MANAGERS {
            return Err(DirectoryError::TooMany(path));
        }
        let lines: String = managers.iter().map(|m| format!("{m}\n")).collect();
        Ok(file::write(&path, &lines, file::PUBLIC)?)
    }

    /// The addresses of first contact, in the order in which they were saved. Empty lines are skipped.
    ///
    /// # Errors
    /// Not there ([`DirectoryError::is_not_found`]), too many, or a line that is no endpoint.
    pub fn load_managers(&self) -> Result<Vec<Endpoint>, DirectoryError> {
        let path = self.0.join(MANAGERS);
        let text = file::read(&path)?;
        let mut managers = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)).filter(|(_, text)| !text.is_empty()) {
            if managers.len() == MAX_MANAGERS {
                return Err(DirectoryError::TooMany(path));
            }
            let endpoint = text.parse().map_err(|source| DirectoryError::Address {
                path: path.clone(),
                line,
                source,
            })?;
            managers.push(endpoint);
        }
        Ok(managers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, KeyPair};
    use echelon_core::time::UnixMillis;
    use std::fs;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn directory() -> (tempfile::TempDir, IdentityDirectory) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = IdentityDirectory::create(&temporary.path().join("identity")).unwrap();
        (temporary, directory)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let (_keep, dir) = directory();
        assert!(dir.load_credentials().unwrap_err().is_not_found());
        assert!(dir.load_managers().unwrap_err().is_not_found());
        let authority = Authority::create(&"acme".parse().unwrap(), NOW).unwrap();
        dir.save_credentials(authority.credentials()).unwrap();
        dir.save_trust(&authority.trust()).unwrap();
        let managers = ["10.0.0.1:29120", "[::1]:29120"].map(|e| e.parse().unwrap());
        dir.save_managers(&managers).unwrap();
        let again = IdentityDirectory::open(dir.path()).unwrap();
        let loaded = again.load_credentials().unwrap();
        assert_eq!(loaded.chain(), authority.credentials().chain());
        assert_eq!(loaded.key().public_key(), authority.credentials().key().public_key());
        assert_eq!(again.load_trust().unwrap(), authority.trust());
        assert_eq!(again.load_managers().unwrap(), managers);
    }

    #[test]
    fn a_key_with_anothers_certificate_is_refused() {
        let (_keep, dir) = directory();
        let authority = Authority::create(&"acme".parse().unwrap(), NOW).unwrap();
        let stranger = KeyPair::generate().unwrap();
        let text = format!("{}{}", stranger.to_pem(), authority.credentials().chain().to_pem());
        file::write(&dir.path().join(IDENTITY), &text, file::SECRET).unwrap();
        let error = dir.load_credentials().unwrap_err();
        assert!(matches!(error, DirectoryError::Credentials { source: CredentialsError::Mismatch, .. }));
    }

    #[test]
    fn damaged_files_are_named_and_never_a_panic() {
        let (_keep, dir) = directory();
        for bad in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            file::write(&dir.path().join(IDENTITY), bad, file::SECRET).unwrap();
            fs::write(dir.path().join(ROOTS), bad).unwrap();
            assert!(dir.load_credentials().unwrap_err().to_string().contains(IDENTITY));
            assert!(dir.load_trust().unwrap_err().to_string().contains(ROOTS));
        }
        fs::write(dir.path().join(MANAGERS), "10.0.0.1:1\n\n10.0.0.1:0\n").unwrap();
        let error = dir.load_managers().unwrap_err().to_string();
        assert!(error.starts_with("line 3 of "), "{error}");
        fs::write(dir.path().join(MANAGERS), "10.0.0.1:1\n".repeat(MAX_MANAGERS + 1)).unwrap();
        assert!(matches!(dir.load_managers(), Err(DirectoryError::TooMany(_))));
    }
}
