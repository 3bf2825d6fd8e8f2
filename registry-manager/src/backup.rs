//! Backups: what is in the archive, how it is made, and how it is read.
//!
//! A backup is an archive that every `tar` reads: `backup.json` says what it is, `manager.toml` is how its manager
//! listens, `keys.sealed` its keys under a passphrase, where there was one, and `registry.db` the registry with its
//! journal, an SQLite database.

mod keys;
mod read;
mod tar;

use crate::clock::unix_now;
use crate::paths::Paths;
use echelon_core::id::{HostId, Lineage};
use echelon_core::name::{FrameworkName, HostName};
use echelon_core::passphrase::Passphrase;
use echelon_core::time::UnixMillis;
use echelon_identity::directory::DirectoryError;
use echelon_identity::file::{self, FileError};
use echelon_identity::sealed::SealError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};

pub(crate) use keys::{Keys, KeysError};
pub(crate) use read::{Backup, ReadError};

/// The layout that this build writes and reads.
const FORMAT: u32 = 1;

const MANIFEST: &str = "backup.json";
const SETTINGS: &str = "manager.toml";
const KEYS: &str = "keys.sealed";
const DATABASE: &str = "registry.db";

/// What a backup says of itself. Readers skip keys that they do not know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Of the layout.
    pub(crate) format: u32,
    /// Whose registry.
    pub(crate) framework: FrameworkName,
    /// The lineage of the last entry of its journal.
    pub(crate) lineage: Lineage,
    /// The epoch of the last entry of its journal.
    pub(crate) epoch: u64,
    /// The last entry of its journal.
    pub(crate) revision: u64,
    /// Up to where entries were known to be committed.
    pub(crate) committed: u64,
    /// The host of the manager that made it.
    pub(crate) host: HostName,
    /// The id of that host.
    pub(crate) host_id: HostId,
    /// When.
    pub(crate) made: String,
    /// By which build.
    pub(crate) build: String,
    /// Bytes of the database.
    pub(crate) size: u64,
    /// BLAKE3 of the database.
    pub(crate) blake3: String,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// A file of the state directory, or the copy, could not be read.
    #[error("a file could not be read; no backup was made")]
    Io(#[from] io::Error),
    /// The settings could not be read.
    #[error("the manager's settings could not be read; no backup was made")]
    File(#[from] FileError),
    /// The keys could not be read.
    #[error("the manager's keys could not be read; no backup was made")]
    Keys(#[from] DirectoryError),
    /// The keys could not be sealed.
    #[error("the keys could not be sealed; no backup was made")]
    Seal(#[from] SealError),
}

/// An archive that is about to be read by whoever sends it.
pub(crate) struct Packed {
    /// All of its bytes.
    pub(crate) reader: Box<dyn Read + Send>,
    /// How many.
    pub(crate) size: u64,
}

impl Manifest {
    /// The manifest of a database that is read for its length and hash.
    pub(crate) fn of(database: &mut File, subject: Subject) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let size = io::copy(database, &mut hasher)?;
        database.rewind()?;
        let Subject { framework, lineage, epoch, revision, committed, host, host_id } = subject;
        Ok(Self {
            format: FORMAT,
            framework,
            lineage,
            epoch,
            revision,
            committed,
            host,
            host_id,
            made: unix_now().to_string(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            size,
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }
}

/// What a backup is of.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) framework: FrameworkName,
    pub(crate) lineage: Lineage,
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) committed: u64,
    pub(crate) host: HostName,
    pub(crate) host_id: HostId,
}

/// A backup of this database, and of the keys in the state directory where there is a passphrase to seal them with.
pub(crate) fn pack(
    mut database: File,
    subject: Subject,
    paths: &Paths,
    passphrase: Option<&Passphrase>,
) -> Result<Packed, PackError> {
    let manifest = Manifest::of(&mut database, subject)?;
    let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from)? + "\n";
    let mut packing = Packing::new(unix_now());
    packing.text(MANIFEST, text);
    packing.text(SETTINGS, file::read(&paths.settings())?);
    if let Some(passphrase) = passphrase {
        packing.text(KEYS, Keys::gather(paths)?.sealed(passphrase)?);
    }
    packing.add(DATABASE, manifest.size, database.take(manifest.size));
    Ok(packing.done())
}

/// An archive in the making.
struct Packing {
    made: UnixMillis,
    size: u64,
    reader: Box<dyn Read + Send>,
}

impl Packing {
    fn new(made: UnixMillis) -> Self {
        Self { made, size: 0, reader: Box::new(io::empty()) }
    }

    fn text(&mut self, name: &str, text: String) {
        self.add(name, text.len() as u64, Cursor::new(text));
    }

    fn add(&mut self, name: &str, size: u64, content: impl Read + Send + 'static) {
        let before = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        let header = Cursor::new(tar::header(name, size, self.made.0 / 1_000));
        let padding = io::repeat(0).take(tar::padding(size));
        self.reader = Box::new(before.chain(header).chain(content).chain(padding));
        self.size = self.size.saturating_add(tar::space(size));
    }

    fn done(self) -> Packed {
        let end = tar::end();
        let size = self.size.saturating_add(end.len() as u64);
        Packed { reader: Box::new(self.reader.chain(Cursor::new(end))), size }
    }
}
