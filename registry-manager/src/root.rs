//! The root key on its way out of a state directory, sealed, and back.

use crate::clock::unix_now;
use crate::paths::Paths;
use echelon_core::passphrase::Passphrase;
use echelon_daemon::shell_word;
use echelon_identity::file::{self, FileError};
use echelon_identity::sealed::{Purpose, SealError, UnsealError, seal, unseal};
use echelon_identity::{Authority, Credentials, IdentityDirectory};
use std::path::{Path, PathBuf};

/// Why the root key was not exported or imported. The state directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is no root key.
    #[error("{} is missing: export the root key where it is, or import it first: registry-manager root import", .0.display())]
    None(PathBuf),
    /// Something else is where the export is to be.
    #[error("{} exists already, and was left as it is; name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It does not open.
    #[error("the root key in {} does not open", file.display())]
    Unseal {
        /// The export.
        file: PathBuf,
        /// Why.
        #[source]
        source: UnsealError,
    },
    /// What is there is no root key.
    #[error("{} holds no root key", file.display())]
    NoRoot {
        /// Where.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What this manager trusts cannot be read.
    #[error("the state directory does not say what it trusts; name that of a registry manager with --state")]
    Trust(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The root of somebody else.
    #[error("{} holds the root key of {framework}, which is none that this registry trusts; import the one of this registry", file.display())]
    Foreign {
        /// The export.
        file: PathBuf,
        /// Its framework.
        framework: String,
    },
    /// There is another root key.
    #[error("{} is another root key, and was left as it is; move it away first", .0.display())]
    Another(PathBuf),
}

/// What an import has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The root key is there now.
    Done,
    /// It was there.
    WasThere,
}

/// Whether there is a root key of which no copy was ever made: it is lost with the disk.
pub fn is_unexported(paths: &Paths) -> bool {
    paths.root().exists() && !paths.root_exported().exists()
}

/// The words with which one is told to export the root key of this directory.
pub fn export_command(paths: &Paths) -> String {
    let state = paths.state().to_string_lossy();
    format!("registry-manager root export FILE --passphrase-file PASSPHRASE --state {}", shell_word(&state))
}

/// Writes the root key to a file that only the passphrase opens, and notes that there is one.
///
/// # Errors
/// See [`RootError`].
pub fn export(paths: &Paths, to: &Path, passphrase: &Passphrase, force: bool) -> Result<(), RootError> {
    let text = match file::read_secret(&paths.root()) {
        Err(e) if e.is_not_found() => return Err(RootError::None(paths.root())),
        text => text?,
    };
    let root = authority(&paths.root(), &text)?;
    if !force && to.symlink_metadata().is_ok() {
        return Err(RootError::Exists(to.to_owned()));
    }
    file::write(to, &seal(Purpose::Root, passphrase, text.as_bytes())?, file::SECRET)?;
    // What cannot be read back is no copy.
    open(to, passphrase)?;
    note(paths, &root)
}

/// Puts an exported root key into the state directory of a manager, which may run.
///
/// # Errors
/// See [`RootError`].
pub fn import(paths: &Paths, from: &Path, passphrase: &Passphrase) -> Result<Imported, RootError> {
    let root = open(from, passphrase)?;
    let trusted = |e| RootError::Trust(Box::new(e));
    let identity = IdentityDirectory::open(&paths.identity()).map_err(trusted)?;
    if !identity.load_trust().map_err(trusted)?.contains(root.certificate()) {
        let (file, framework) = (from.to_owned(), root.framework().to_string());
        return Err(RootError::Foreign { file, framework });
    }
    let imported = match file::read_secret(&paths.root()) {
        Err(e) if e.is_not_found() => {
            file::write(&paths.root(), &root.credentials().to_pem(), file::SECRET)?;
            Imported::Done
        }
        text => match authority(&paths.root(), &text?)?.certificate() == root.certificate() {
            true => Imported::WasThere,
            false => return Err(RootError::Another(paths.root())),
        },
    };
    note(paths, &root)?;
    Ok(imported)
}

fn open(file: &Path, passphrase: &Passphrase) -> Result<Authority, RootError> {
    let text = unseal(Purpose::Root, passphrase, &file::read(file)?);
    let text = text.map_err(|source| RootError::Unseal { file: file.to_owned(), source })?;
    authority(file, &String::from_utf8_lossy(&text))
}

fn authority(file: &Path, text: &str) -> Result<Authority, RootError> {
    let none = |source| RootError::NoRoot { file: file.to_owned(), source };
    let credentials = Credentials::from_pem(text).map_err(|e| none(Box::new(e)))?;
    Authority::from_credentials(credentials).map_err(|e| none(Box::new(e)))
}

fn note(paths: &Paths, root: &Authority) -> Result<(), RootError> {
    let text = format!("The root key of {} was exported or imported at {}.\n", root.framework(), unix_now());
    Ok(file::write(&paths.root_exported(), &text, file::SECRET)?)
}
