//! Restoring a backup, while no manager runs.

use crate::backup::{Backup, Keys, KeysError, Manifest, ReadError};
use crate::config::Recorded;
use crate::left;
use crate::lineage::{self, LineageError, Me, registry_in, renewed, trust_in};
use crate::paths::Paths;
use echelon_core::grant::{Chain, GrantId, Relation};
use echelon_core::name::{FrameworkName, HostName, ManagerType, Text};
use echelon_core::passphrase::Passphrase;
use echelon_core::position::Position;
use echelon_core::registry::Registry;
use echelon_identity::directory::DirectoryError;
use echelon_identity::file::{self, FileError};
use echelon_identity::{Credentials, IdentityDirectory, Issuer, check_chain};
use echelon_store::{Problem, RegistryStore, StoreError};
use std::io;
use std::path::{Path, PathBuf};

/// Most registries that were replaced are kept beside the one in use: nobody restores more often by hand.
const MAX_REPLACED: u32 = 1_000;

/// What is to be restored.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// The state directory, which must exist and be locked by the caller.
    pub state: PathBuf,
    /// Opens the keys in the backup.
    pub passphrase: Option<Passphrase>,
    /// Why, for the grant.
    pub reason: Option<Text>,
}

/// What was restored, or what a backup holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Whose registry.
    pub framework: FrameworkName,
    /// When the backup was made.
    pub made: String,
    /// By the manager on which host.
    pub made_on: HostName,
    /// Its last entry.
    pub position: Position,
    /// How many of the last entries were not known to be committed when it was made.
    pub uncommitted: u64,
    /// How many hosts are in it.
    pub hosts: usize,
    /// Whether it holds sealed keys.
    pub keys: bool,
}

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// What was restored.
    pub restored: Restored,
    /// The host of the manager that is the primary now.
    pub host: HostName,
    /// The grant by which it is.
    pub grant: GrantId,
    /// Whether keys came from the backup.
    pub keys_taken: bool,
    /// Where the registry is that was there before.
    pub set_aside: Option<PathBuf>,
    /// The newest entry that was there before and is not in the backup.
    pub lost: Option<Position>,
    /// Grants that this directory knew and on which the new one could not be built: whoever goes by them has to be told
    /// which lineage counts.
    pub conflict: Option<GrantId>,
    /// The other registry managers, as the backup knows them.
    pub others: Vec<HostName>,
}

/// Why nothing was restored. The state directory is as it was, but for keys that the next try replaces.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error("the backup cannot be used; nothing was changed")]
    Backup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says one thing of its registry, and that another.
    #[error("the backup was tampered with: what it says of its registry is not so; nothing was changed")]
    Contradiction,
    /// There are no keys to go on with.
    #[error(
        "{} holds no manager's identity, and the backup no keys; nothing was changed. Restore it where a registry \
         manager of this framework was set up or has joined, or take a backup with --passphrase-file", .0.display()
    )]
    NoKeys(PathBuf),
    /// The keys need a passphrase.
    #[error(
        "{} holds no manager's identity; the backup has the keys, sealed: give --passphrase-file; nothing was changed", .0.display()
    )]
    NoPassphrase(PathBuf),
    /// The keys do not open.
    #[error("the keys cannot be used; nothing was changed")]
    Keys(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The directory is another framework's.
    #[error("{} belongs to the framework {found}, and the backup to {wanted}; nothing was changed", state.display())]
    OtherFramework {
        /// The directory.
        state: PathBuf,
        /// Whose it is.
        found: FrameworkName,
        /// Whose the backup is.
        wanted: FrameworkName,
    },
    /// The directory holds another registry.
    #[error("{} holds a registry that was made by another init; nothing was changed: restore into another directory", .0.display())]
    OtherRegistry(PathBuf),
    /// The new lineage could not be begun.
    #[error("the registry in the backup cannot be made the newest; nothing was changed")]
    Lineage(#[from] LineageError),
    /// The registry could not be written.
    #[error("the registry could not be put in place")]
    Store(#[from] StoreError),
    /// A key or an identity could not be written.
    #[error("the keys could not be put in place")]
    Identity(#[from] DirectoryError),
    /// The same of other files.
    #[error("the keys could not be put in place")]
    File(#[from] FileError),
    /// A file could not be moved.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        Self::Backup(Box::new(error))
    }
}

impl From<KeysError> for RestoreError {
    fn from(error: KeysError) -> Self {
        Self::Keys(Box::new(error))
    }
}

/// A backup that was looked at from end to end, with its database in a file of its own.
struct Opened {
    backup: Backup,
    store: RegistryStore,
    registry: Registry,
}

/// Looks at everything in a backup, with its database put into the directory `scratch` for the time.
///
/// # Errors
/// It cannot be restored; see [`RestoreError`].
pub fn check(file: &Path, scratch: &Path, passphrase: Option<&Passphrase>) -> Result<Restored, RestoreError> {
    let opened = Opened::read(file, &scratch.join("registry.db"))?;
    if let (Some(keys), Some(passphrase)) = (&opened.backup.keys, passphrase) {
        Keys::unsealed(keys, passphrase)?;
    }
    Ok(opened.restored())
}

/// Restores a backup: what it holds is the newest lineage of the registry from now on, and this manager its primary.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(wish: &Restore) -> Result<Done, RestoreError> {
    let paths = Paths::of(&wish.state);
    remove_database(&paths.restoring())?;
    let restored = restore_from(wish, &paths);
    if restored.is_err() {
        // It is as large as the registry, and of no use; what cannot be removed is removed by the next try.
        let _ = remove_database(&paths.restoring());
    }
    restored
}

fn restore_from(wish: &Restore, paths: &Paths) -> Result<Done, RestoreError> {
    let unfinished = paths.restoring();
    let Opened { backup, mut store, registry } = Opened::read(&wish.file, &unfinished)?;
    let restored = restored(&backup, &store, &registry);
    let keys = keys(wish, paths, &backup)?;
    let me = me(paths, keys.as_ref())?;
    same_framework(wish, &me, &registry)?;
    let old = Old::open(paths)?;
    let known = old.known();
    let (chain, grant) = lineage::begin(&store, &registry, known, &me, wish.reason.clone())?;
    let conflict = known.filter(|known| !matches!(known.compare(&chain), Relation::Newer(_)));
    let conflict = conflict.map(|known| known.head().id);
    store.adopt(&chain, None)?;
    let lost = match &old {
        Old::Sound(old) => store.keep_surplus_of(old).map_err(|e| other_registry(wish, e))?,
        Old::None | Old::Damaged => None,
    };
    store.close()?;
    old.close()?;
    if let Some(keys) = &keys {
        put_keys(paths, keys, &me, &backup, &registry)?;
    }
    // In what it goes on with, it has not left; until all is done, whoever starts it is told what to repeat.
    if left::mark_of(paths)?.is_some() {
        left::mark(
            paths,
            "it had left, and a restore over that was broken off: repeat registry-manager restore",
        )?;
    }
    let set_aside = put_in_place(paths)?;
    left::forget(paths).map_err(|source| RestoreError::Io {
        action: "remove",
        path: paths.left(),
        source,
    })?;
    let name = registry.host(me.host).map(|host| host.name.clone());
    Ok(Done {
        restored,
        host: name.ok_or(LineageError::Unknown(me.host))?,
        grant,
        keys_taken: keys.is_some(),
        set_aside,
        lost,
        conflict,
        others: others(&registry, &me),
    })
}

impl Opened {
    fn read(file: &Path, database: &Path) -> Result<Self, RestoreError> {
        let backup = Backup::read(file, database)?;
        let damaged = |e: StoreError| RestoreError::Backup(Box::new(e));
        let store = RegistryStore::open_copy(database).map_err(damaged)?;
        let registry = registry_in(&store)?;
        let Manifest { framework, lineage, epoch, revision, committed, .. } = &backup.manifest;
        let says = Position { lineage: *lineage, epoch: *epoch, revision: *revision };
        let of = &registry.meta().framework;
        let possible = (store.committed()..=store.head().revision()).contains(committed);
        if says != store.head().position || !possible || framework != of {
            return Err(RestoreError::Contradiction);
        }
        check_chain(&trust_in(&registry)?, None, store.grants()).map_err(LineageError::from)?;
        Ok(Self { backup, store, registry })
    }

    fn restored(&self) -> Restored {
        restored(&self.backup, &self.store, &self.registry)
    }
}

fn restored(backup: &Backup, store: &RegistryStore, registry: &Registry) -> Restored {
    let Manifest { framework, host, made, committed, .. } = backup.manifest.clone();
    let position = store.head().position;
    Restored {
        framework,
        made,
        made_on: host,
        position,
        uncommitted: position.revision.saturating_sub(committed),
        hosts: registry.host_count(),
        keys: backup.keys.is_some(),
    }
}

/// The registry that is in the state directory.
enum Old {
    None,
    /// It cannot be opened, and is set aside as it is.
    Damaged,
    Sound(Box<RegistryStore>),
}

impl Old {
    fn open(paths: &Paths) -> Result<Self, StoreError> {
        if !paths.registry().exists() {
            return Ok(Self::None);
        }
        match RegistryStore::open(&paths.registry()) {
            Ok(store) => Ok(Self::Sound(Box::new(store))),
            Err(error) if error.is_damage() => Ok(Self::Damaged),
            Err(error) => Err(error),
        }
    }

    /// The grants that it knows.
    fn known(&self) -> Option<&Chain> {
        match self {
            Self::Sound(store) => Some(store.grants()),
            Self::None | Self::Damaged => None,
        }
    }

    fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sound(store) => store.close(),
            Self::None | Self::Damaged => Ok(()),
        }
    }
}

/// The keys to go on with, where the directory has none.
fn keys(wish: &Restore, paths: &Paths, backup: &Backup) -> Result<Option<Keys>, RestoreError> {
    // The issuer comes last when keys are put in place.
    if paths.issuer().exists() {
        return Ok(None);
    }
    let sealed = backup.keys.as_ref().ok_or_else(|| RestoreError::NoKeys(wish.state.clone()))?;
    let passphrase = wish.passphrase.as_ref();
    let passphrase = passphrase.ok_or_else(|| RestoreError::NoPassphrase(wish.state.clone()))?;
    Ok(Some(Keys::unsealed(sealed, passphrase)?))
}

fn me(paths: &Paths, keys: Option<&Keys>) -> Result<Me, RestoreError> {
    let Some(keys) = keys else { return Ok(Me::load(paths)?) };
    let unusable = |e: Box<dyn std::error::Error + Send + Sync>| RestoreError::Keys(e);
    let issuer = Credentials::from_pem(&keys.issuer).map_err(|e| unusable(e.into()))?;
    let issuer = Issuer::from_credentials(issuer).map_err(|e| unusable(e.into()))?;
    let identity = Credentials::from_pem(&keys.identity).map_err(|e| unusable(e.into()))?;
    Ok(Me::of(identity, issuer)?)
}

fn same_framework(wish: &Restore, me: &Me, registry: &Registry) -> Result<(), RestoreError> {
    let (found, wanted) = (me.issuer.framework(), &registry.meta().framework);
    match found == wanted {
        true => Ok(()),
        false => {
            let (found, wanted) = (found.clone(), wanted.clone());
            Err(RestoreError::OtherFramework { state: wish.state.clone(), found, wanted })
        }
    }
}

fn other_registry(wish: &Restore, error: StoreError) -> RestoreError {
    match error.problem {
        Problem::OtherRegistry => RestoreError::OtherRegistry(wish.state.clone()),
        _ => error.into(),
    }
}

/// Writes what a manager needs beside its registry. The issuer comes last: where it is, everything else is.
fn put_keys(
    paths: &Paths,
    keys: &Keys,
    me: &Me,
    backup: &Backup,
    registry: &Registry,
) -> Result<(), RestoreError> {
    let trust = trust_in(registry)?;
    if let Some(root) = &keys.root {
        file::write(&paths.root(), root, file::SECRET)?;
    }
    let identity = IdentityDirectory::create(&paths.identity())?;
    identity.save_credentials(&me.credentials)?;
    identity.save_trust(&trust)?;
    if let Some(console) = &keys.console {
        let console = Credentials::from_pem(console).map_err(|e| RestoreError::Keys(Box::new(e)))?;
        let console = renewed(console, &me.issuer).map_err(RestoreError::Keys)?;
        let directory = IdentityDirectory::create(&paths.console())?;
        directory.save_credentials(&console)?;
        directory.save_trust(&trust)?;
        let recorded: Result<Recorded, _> = toml::from_str(&backup.settings);
        let recorded = recorded.map_err(|e| RestoreError::Backup(Box::new(e)))?;
        directory.save_managers(&[recorded.advertise])?;
    }
    file::write(&paths.settings(), &backup.settings, file::SECRET)?;
    file::write(&paths.issuer(), &me.issuer.credentials().to_pem(), file::SECRET)?;
    Ok(())
}

/// Moves the restored registry to where the manager looks for it, in the place of one that is there, which is kept
/// beside it. Until the last step that one stays where it is: what it knows is wanted for another try.
fn put_in_place(paths: &Paths) -> Result<Option<PathBuf>, RestoreError> {
    let (new, registry) = (paths.restoring(), paths.registry());
    let moved = |action, path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { action, path, source }
    };
    let aside = match registry.exists() {
        true => Some(free_name(&registry)?),
        false => None,
    };
    if let Some(aside) = &aside {
        std::fs::hard_link(&registry, aside).map_err(moved("set aside", &registry))?;
        // A sound one was closed, after which it is one file. The log of a damaged one goes with it.
        for suffix in ["-wal", "-shm"] {
            absent_is_fine(std::fs::rename(beside(&registry, suffix), beside(aside, suffix)))
                .map_err(moved("set aside", &registry))?;
        }
    }
    std::fs::rename(&new, &registry).map_err(moved("put in place", &new))?;
    let directory = registry.parent().unwrap_or(Path::new("."));
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(moved("make durable", directory))?;
    Ok(aside)
}

fn free_name(registry: &Path) -> Result<PathBuf, RestoreError> {
    let names = (1..=MAX_REPLACED).map(|n| beside(registry, &format!(".replaced-{n}")));
    let full = || io::Error::other("there are too many registries that were set aside; remove old ones");
    let free = names.into_iter().find(|name| !name.exists());
    free.ok_or_else(|| RestoreError::Io { action: "set aside", path: registry.to_owned(), source: full() })
}

fn remove_database(path: &Path) -> Result<(), RestoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let path = beside(path, suffix);
        absent_is_fine(std::fs::remove_file(&path)).map_err(|source| RestoreError::Io {
            action: "remove",
            path,
            source,
        })?;
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The hosts of all other registry managers.
fn others(registry: &Registry, me: &Me) -> Vec<HostName> {
    let registries = ManagerType::registry();
    let managers = registry.packages_of(&registries).filter(|p| p.host != me.host);
    managers.filter_map(|p| registry.host(p.host)).map(|host| host.name.clone()).collect()
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
