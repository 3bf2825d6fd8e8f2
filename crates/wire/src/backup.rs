//! Backups of the registry.

use crate::error::DecodeError;
use crate::field::Field;
use crate::row::Position;
use echelon_core::backup;
use echelon_core::passphrase::{MIN_PASSPHRASE, Passphrase};

message! { backup::BackupHead => BackupHead {
    #[prost(string, tag = "1")] framework: String,
    #[prost(message, optional, tag = "2")] position: Option<Position>,
    #[prost(uint64, tag = "3")] committed: u64,
    #[prost(uint64, tag = "4")] size: u64,
    #[prost(bool, tag = "5")] keys: bool,
} }

choice! { backup::BackupPart => BackupPart, BackupPartKind ("BackupPartKind", "1, 2, 3")
    unit {}
    value {
        #[prost(message, tag = "1")] Head(Box<BackupHead>),
        #[prost(bytes = "vec", tag = "2")] Bytes(Vec<u8>),
        #[prost(bytes = "vec", tag = "3")] End(Vec<u8>),
    }
    record {}
}

impl Field<String> for Passphrase {
    fn pack(&self) -> String {
        self.expose().to_owned()
    }

    fn unpack(packed: String, at: &'static str) -> Result<Self, DecodeError> {
        // What is wrong with it is not said: it is a secret.
        let (expected, found) = (MIN_PASSPHRASE, packed.len());
        Self::parse(&packed).map_err(|_| DecodeError::Length { at, expected, found })
    }
}
