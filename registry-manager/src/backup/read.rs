//! Reading a backup.

use super::{DATABASE, FORMAT, KEYS, MANIFEST, Manifest, SETTINGS, tar};
use echelon_core::backup::MAX_BACKUP;
use echelon_identity::file::SECRET;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Most files in a backup: twice as many as this build writes, for those of later builds, which are skipped.
const MAX_FILES: usize = 8;

/// Most bytes of a file beside the database: manifest and settings have a few hundred, sealed keys some thousands.
const MAX_SMALL: u64 = 256 * 1024;

/// How much of the database is read at once.
const CHUNK: usize = 256 * 1024;

/// A backup that was read: its database is where it was to be put, and has the length and hash that the manifest says.
#[derive(Debug)]
pub(crate) struct Backup {
    pub(crate) manifest: Manifest,
    /// How its manager listened.
    pub(crate) settings: String,
    /// Its keys, sealed; none where it was made without a passphrase.
    pub(crate) keys: Option<String>,
}

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It cannot be read.
    #[error("{} cannot be read", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// It ends too early.
    #[error("{} is cut short; use another backup", .0.display())]
    Cut(PathBuf),
    /// It is none.
    #[error("{} is no backup as `echelon backup` makes them, or is damaged: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The database is not what the manifest says.
    #[error("the database in {} is damaged: its bytes are not those that were backed up; use another backup", .0.display())]
    Damaged(PathBuf),
    /// A later build has made it.
    #[error("a later build has made {} (format {found}, this build knows {FORMAT}); use that build", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The database could not be put where it was to be.
    #[error("the database cannot be put into {}; see that there is room for it", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What is found in an archive, one after the other.
#[derive(Default)]
struct Found {
    manifest: Option<Manifest>,
    settings: Option<String>,
    keys: Option<String>,
    /// Length and hash.
    database: Option<(u64, blake3::Hash)>,
}

impl Backup {
    /// Reads `file`, and puts its database at `database`, where nothing may be. After an error a part of it may be
    /// there, which is of no use.
    pub(crate) fn read(file: &Path, database: &Path) -> Result<Self, ReadError> {
        let mut archive = BufReader::new(File::open(file).map_err(|e| ReadError::Io(file.into(), e))?);
        let mut found = Found::default();
        for _ in 0..=MAX_FILES {
            match tar::next(&mut archive).map_err(|e| unreadable(file, e))? {
                None => return found.whole(file),
                Some(member) => found.take(file, database, &member, &mut archive)?,
            }
        }
        Err(form(file, "it has too many files"))
    }
}

impl Found {
    fn take(
        &mut self,
        file: &Path,
        database: &Path,
        member: &tar::Member,
        archive: &mut impl Read,
    ) -> Result<(), ReadError> {
        let tar::Member { name, size } = member;
        let twice = match name.as_str() {
            DATABASE => {
                let read = copy_out(file, archive, *size, database)?;
                self.database.replace((*size, read)).is_some()
            }
            MANIFEST => {
                let manifest = manifest(file, &small(file, archive, *size)?)?;
                self.manifest.replace(manifest).is_some()
            }
            SETTINGS => self.settings.replace(small(file, archive, *size)?).is_some(),
            KEYS => self.keys.replace(small(file, archive, *size)?).is_some(),
            // Of a later build.
            _ => small(file, archive, *size).map(|_| false)?,
        };
        tar::skip_padding(archive, *size).map_err(|e| unreadable(file, e))?;
        match twice {
            true => Err(form(file, &format!("it has {name} twice"))),
            false => Ok(()),
        }
    }

    fn whole(self, file: &Path) -> Result<Backup, ReadError> {
        let Self { manifest, settings, keys, database } = self;
        let missing = |name: &str| form(file, &format!("it has no {name}"));
        let manifest = manifest.ok_or_else(|| missing(MANIFEST))?;
        let settings = settings.ok_or_else(|| missing(SETTINGS))?;
        let (size, hash) = database.ok_or_else(|| missing(DATABASE))?;
        if size != manifest.size || hash.to_hex().as_str() != manifest.blake3 {
            return Err(ReadError::Damaged(file.into()));
        }
        Ok(Backup { manifest, settings, keys })
    }
}

fn manifest(file: &Path, text: &str) -> Result<Manifest, ReadError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let wrong = |e: serde_json::Error| form(file, &format!("{MANIFEST}: {e}"));
    let Format { format: found } = serde_json::from_str(text).map_err(wrong)?;
    match found == FORMAT {
        true => serde_json::from_str(text).map_err(wrong),
        false => Err(ReadError::Newer { path: file.into(), found }),
    }
}

/// A file that is small, as text.
fn small(file: &Path, archive: &mut impl Read, size: u64) -> Result<String, ReadError> {
    if size > MAX_SMALL {
        return Err(form(file, "one of its small files is too large"));
    }
    let mut text = String::new();
    let read = archive.take(size).read_to_string(&mut text).map_err(|e| unreadable(file, e))?;
    match read as u64 == size {
        true => Ok(text),
        false => Err(ReadError::Cut(file.into())),
    }
}

/// Puts a file of the archive where nothing is yet, safe from a power loss, and gives its hash.
fn copy_out(file: &Path, archive: &mut impl Read, size: u64, path: &Path) -> Result<blake3::Hash, ReadError> {
    let fail = |source| ReadError::Write { path: path.into(), source };
    if size > MAX_BACKUP {
        return Err(form(file, "its database is too large"));
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(path);
    let (mut to, mut hasher, mut left) = (made.map_err(fail)?, blake3::Hasher::new(), size);
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let part = chunk.get_mut(..most).unwrap_or_default();
        archive.read_exact(part).map_err(|e| unreadable(file, e))?;
        hasher.update(part);
        to.write_all(part).map_err(fail)?;
        left = left.saturating_sub(part.len() as u64);
    }
    to.sync_all().map_err(fail)?;
    Ok(hasher.finalize())
}

fn unreadable(file: &Path, error: io::Error) -> ReadError {
    match error.kind() {
        ErrorKind::UnexpectedEof => ReadError::Cut(file.into()),
        ErrorKind::InvalidData => form(file, &error.to_string()),
        _ => ReadError::Io(file.into(), error),
    }
}

fn form(file: &Path, why: &str) -> ReadError {
    ReadError::Form { path: file.into(), why: why.to_owned() }
}
