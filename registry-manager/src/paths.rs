//! What lies where in a manager's state directory.

use std::path::{Path, PathBuf};

/// The state directory's layout.
#[derive(Clone, Debug)]
pub struct Paths(PathBuf);

impl Paths {
    /// The layout below this directory.
    pub fn of(state: &Path) -> Self {
        Self(state.to_owned())
    }

    /// The registry and its journal.
    pub fn registry(&self) -> PathBuf {
        self.0.join("registry.db")
    }

    /// A registry that is about to take that one's place.
    pub(crate) fn restoring(&self) -> PathBuf {
        self.0.join("registry.db.restoring")
    }

    /// The root of trust: key and certificate. Needed only to add managers and to rotate.
    pub fn root(&self) -> PathBuf {
        self.0.join("root.pem")
    }

    /// This manager's issuer: key and chain.
    pub fn issuer(&self) -> PathBuf {
        self.0.join("issuer.pem")
    }

    /// This manager's own identity directory.
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }

    /// The identity directory of the first console.
    pub fn console(&self) -> PathBuf {
        self.0.join("console")
    }

    /// The note that the root key was exported, or came from an export.
    pub fn root_exported(&self) -> PathBuf {
        self.0.join("root-exported")
    }

    /// The directory itself.
    pub fn state(&self) -> &Path {
        &self.0
    }

    /// The note that this manager has left, which is there once it has.
    pub fn left(&self) -> PathBuf {
        self.0.join("left")
    }

    /// Another file of the directory, by its name.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The settings that `init` was given.
    pub fn settings(&self) -> PathBuf {
        self.0.join("manager.toml")
    }
}
