//! State directories in which a command was broken off, so that they hold no registry yet, or no longer.

use crate::join::PENDING;
use crate::paths::Paths;

/// What was begun in a state directory without a registry, and how it is gone on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfinished {
    /// What a manager that has left kept is not all set aside.
    #[error(
        "its registry manager has left, and a join there was broken off: repeat registry-manager join, with a token"
    )]
    SettingAside,
    /// There are keys, perhaps, and a registry that is not in its place.
    #[error("a restore was broken off there: repeat registry-manager restore, with the same backup")]
    Restore,
    /// The host is a registry manager, perhaps, and has no copy of the registry.
    #[error("a join was broken off there: repeat registry-manager join, with the same token")]
    Join,
}

impl Unfinished {
    /// What was begun below this directory; none where nothing was, and where there is a registry.
    pub(crate) fn of(paths: &Paths) -> Option<Self> {
        let begun = [
            (paths.left(), Self::SettingAside),
            (paths.restoring(), Self::Restore),
            (paths.beside(PENDING), Self::Join),
        ];
        let begun = begun.into_iter().find(|(file, _)| file.exists());
        begun.map(|(_, what)| what).filter(|_| !paths.registry().exists())
    }
}
