//! What registry managers say to each other about the journal.

use crate::Wire;
use crate::error::DecodeError;
use crate::field::Field;
use crate::grant::{GrantId, Mark, Part, SyncRule};
use echelon_core::member::{self, Entry, MAX_SEALS, Seals};
use echelon_core::row::Commit;

/// Most entries in one message; see [`crate::MAX_ENTRIES`].
const MOST: usize = crate::MAX_ENTRIES;

message! { member::Seal => Promise {
    #[prost(bytes = "vec", tag = "1")] proposal: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")] by: Vec<u8>,
    #[prost(message, optional, tag = "3")] grant: Option<GrantId>,
} }

/// Promises by themselves. Field 1 to 3 were those of the one promise that there was.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Promises {
    #[prost(message, repeated, tag = "4")]
    promises: Vec<Promise>,
}

impl Field<Promises> for Seals {
    fn pack(&self) -> Promises {
        Promises { promises: self.pack() }
    }

    fn unpack(packed: Promises, at: &'static str) -> Result<Self, DecodeError> {
        Self::unpack(packed.promises, at)
    }
}

impl Field<Vec<Promise>> for Seals {
    fn pack(&self) -> Vec<Promise> {
        self.iter().map(Field::pack).collect()
    }

    fn unpack(packed: Vec<Promise>, at: &'static str) -> Result<Self, DecodeError> {
        // Those to others, and its own.
        DecodeError::check_count(at, packed.len(), MAX_SEALS + 1)?;
        packed.into_iter().map(|promise| Field::unpack(promise, at)).collect()
    }
}

message! { member::Standing => Standing {
    #[prost(message, optional, tag = "1")] grant: Option<GrantId>,
    #[prost(message, optional, tag = "2")] last: Option<Mark>,
    #[prost(uint64, tag = "3")] committed: u64,
    #[prost(message, optional, tag = "4")] rule: Option<SyncRule>,
    #[prost(message, repeated, tag = "5")] seals: Vec<Promise>,
    #[prost(bool, tag = "6")] leads: bool,
    #[prost(bytes = "vec", optional, tag = "7")] chain: Option<Vec<u8>>,
} }

/// [`member::Append`]. Only the commits travel: place and hash of an entry follow from the one before it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Append {
    #[prost(message, optional, tag = "1")]
    grant: Option<GrantId>,
    #[prost(message, optional, tag = "2")]
    after: Option<Mark>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    entries: Vec<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    committed: u64,
}

impl Field<Append> for member::Append {
    fn pack(&self) -> Append {
        Append {
            grant: self.grant.pack(),
            after: self.after.pack(),
            entries: self.entries.iter().map(|e| e.bytes.to_vec()).collect(),
            committed: self.committed,
        }
    }

    fn unpack(packed: Append, _: &'static str) -> Result<Self, DecodeError> {
        DecodeError::check_count("Append.entries", packed.entries.len(), MOST)?;
        let (grant, after) =
            (Field::unpack(packed.grant, "Append.grant")?, Field::unpack(packed.after, "Append.after")?);
        let (mut entries, mut before) = (Vec::with_capacity(packed.entries.len()), after);
        for bytes in packed.entries {
            let commit = Commit::decode(&bytes)?;
            let entry = Entry::after(&before, &commit, bytes.into());
            before = entry.mark;
            entries.push(entry);
        }
        Ok(Self { grant, after, entries, committed: packed.committed })
    }
}

choice! { crate::MemberMessage => MemberMessage,
    MemberMessageKind ("MemberMessageKind", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")
    unit { "2" Ask }
    value {
        #[prost(message, tag = "1")] Standing(Box<Standing>),
        #[prost(message, tag = "3")] Grants(Part),
        #[prost(message, tag = "4")] Append(Box<Append>),
    }
    record {
        "5" Appended {
            #[prost(message, optional, tag = "1")] grant: Option<GrantId>,
            #[prost(message, optional, tag = "2")] last: Option<Mark>,
            #[prost(bool, tag = "3")] accepted: bool,
        },
        "6" Committed {
            #[prost(message, optional, tag = "1")] grant: Option<GrantId>,
            #[prost(uint64, tag = "2")] revision: u64,
        },
        "7" Missing {
            #[prost(message, optional, tag = "1")] grant: Option<GrantId>,
            #[prost(message, optional, tag = "2")] after: Option<Mark>,
        },
        "8" Fetch {
            #[prost(message, optional, tag = "1")] grant: Option<GrantId>,
            #[prost(message, optional, tag = "2")] after: Option<Mark>,
        },
        "9" Seal {
            #[prost(message, optional, tag = "1")] chain: Option<Part>,
            #[prost(message, optional, tag = "2")] seal: Option<Promise>,
        },
        "10" Sealed {
            #[prost(message, optional, tag = "1")] seal: Option<Promise>,
            #[prost(message, optional, tag = "2")] standing: Option<Standing>,
        },
        "11" Unseal {
            #[prost(bytes = "vec", tag = "1")] proposal: Vec<u8>,
        },
    }
}
