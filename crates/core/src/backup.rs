//! A backup of the registry on its way from a manager to a console.

use crate::grant::Hash;
use crate::name::FrameworkName;
use crate::position::Position;

/// Most bytes of a backup, and of what is in it: the largest member of a tar archive as every program reads it. A registry of a million hosts
/// has a tenth of it.
pub const MAX_BACKUP: u64 = (1 << 33) - 1;

/// What a backup will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupHead {
    /// The framework whose registry it is.
    pub framework: FrameworkName,
    /// The last entry of its journal.
    pub position: Position,
    /// The revision up to which its entries are known to be committed.
    pub committed: u64,
    /// How many bytes follow.
    pub size: u64,
    /// Whether there are keys in it, sealed.
    pub keys: bool,
}

/// Part of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupPart {
    /// First of all.
    Head(BackupHead),
    /// The next bytes.
    Bytes(Vec<u8>),
    /// All bytes have come; BLAKE3 of them.
    End(Hash),
}

/// Why what came is no whole backup. What was kept of it is of no use; asking again is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not begin with its head, or has two.
    #[error("the backup does not begin with what it is, or does so twice")]
    Head,
    /// It says that it is too large.
    #[error("the backup would have {0} bytes; at most {MAX_BACKUP} are taken")]
    TooLarge(u64),
    /// More or fewer bytes than were announced.
    #[error("the backup has {found} bytes, and was to have {size}")]
    Size {
        /// As announced.
        size: u64,
        /// As they came.
        found: u64,
    },
    /// The bytes are not those that were sent.
    #[error("the backup's bytes are not those that were sent")]
    Hash,
}

/// A backup that is coming in: whoever keeps its bytes learns from this whether they are whole.
#[derive(Clone, Debug)]
pub struct Incoming {
    head: BackupHead,
    received: u64,
    hasher: blake3::Hasher,
}

/// What a part of a backup was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Bytes to keep.
    Bytes(Vec<u8>),
    /// The backup is whole; BLAKE3 of its bytes.
    Whole(Hash),
}

impl Incoming {
    /// A backup that begins with this part.
    ///
    /// # Errors
    /// It is no head, or that of a backup that is too large.
    pub fn begin(first: BackupPart) -> Result<Self, BackupError> {
        match first {
            BackupPart::Head(head) if head.size > MAX_BACKUP => Err(BackupError::TooLarge(head.size)),
            BackupPart::Head(head) => Ok(Self { head, received: 0, hasher: blake3::Hasher::new() }),
            BackupPart::Bytes(_) | BackupPart::End(_) => Err(BackupError::Head),
        }
    }

    /// What it is.
    pub fn head(&self) -> &BackupHead {
        &self.head
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn take(&mut self, part: BackupPart) -> Result<Taken, BackupError> {
        match part {
            BackupPart::Head(_) => Err(BackupError::Head),
            BackupPart::Bytes(bytes) => {
                self.received = self.received.saturating_add(bytes.len() as u64);
                if self.received > self.head.size {
                    return Err(self.wrong_size());
                }
                self.hasher.update(&bytes);
                Ok(Taken::Bytes(bytes))
            }
            BackupPart::End(_) if self.received != self.head.size => Err(self.wrong_size()),
            BackupPart::End(hash) if hash != *self.hasher.finalize().as_bytes() => Err(BackupError::Hash),
            BackupPart::End(hash) => Ok(Taken::Whole(hash)),
        }
    }

    fn wrong_size(&self) -> BackupError {
        BackupError::Size { size: self.head.size, found: self.received }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Lineage;
    use uuid::Uuid;

    fn head(size: u64) -> BackupPart {
        let position = Position { lineage: Lineage(Uuid::from_u128(1)), epoch: 1, revision: 3 };
        let framework = "acme".parse().unwrap();
        BackupPart::Head(BackupHead { framework, position, committed: 3, size, keys: false })
    }

    fn bytes(text: &str) -> BackupPart {
        BackupPart::Bytes(text.into())
    }

    fn end(text: &str) -> BackupPart {
        BackupPart::End(*blake3::hash(text.as_bytes()).as_bytes())
    }

    /// What becomes of a backup of these parts.
    fn backup(parts: impl IntoIterator<Item = BackupPart>) -> Result<Vec<u8>, BackupError> {
        let mut parts = parts.into_iter();
        let (mut backup, mut kept) = (Incoming::begin(parts.next().unwrap())?, Vec::new());
        for part in parts {
            match backup.take(part)? {
                Taken::Bytes(bytes) => kept.extend(bytes),
                Taken::Whole(_) => return Ok(kept),
            }
        }
        panic!("no end: {backup:?}");
    }

    #[test]
    fn a_whole_backup_is_told_from_all_others() {
        assert_eq!(backup([head(6), bytes("abc"), bytes("def"), end("abcdef")]).unwrap(), b"abcdef");
        assert_eq!(backup([head(0), end("")]).unwrap(), b"");
        assert_eq!(backup([bytes("abc")]), Err(BackupError::Head));
        assert_eq!(backup([head(3), head(3)]), Err(BackupError::Head));
        assert_eq!(backup([head(MAX_BACKUP + 1)]), Err(BackupError::TooLarge(MAX_BACKUP + 1)));
        assert_eq!(backup([head(3), bytes("ab"), end("ab")]), Err(BackupError::Size { size: 3, found: 2 }));
        assert_eq!(backup([head(3), bytes("abcd")]), Err(BackupError::Size { size: 3, found: 4 }));
        assert_eq!(backup([head(3), bytes("abd"), end("abc")]), Err(BackupError::Hash));
    }
}
