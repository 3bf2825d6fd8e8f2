//! Grants and their chain.

use crate::Wire;
use crate::error::DecodeError;
use crate::field::Field;
use crate::frame::GRANTS_PART;
use crate::row::Position;
use echelon_core::grant::{self, MAX_GRANTS};
use echelon_core::signed_mark;

/// [`grant::SyncRule`]. That of a registry without standbys is left out, as it is in rows of builds that knew none.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SyncRule {
    #[prost(bytes = "vec", repeated, tag = "1")]
    members: Vec<Vec<u8>>,
    #[prost(uint32, tag = "2")]
    min_sync: u32,
}

impl Field<Option<SyncRule>> for grant::SyncRule {
    fn pack(&self) -> Option<SyncRule> {
        (*self != Self::alone()).then(|| SyncRule { members: self.members.pack(), min_sync: self.min_sync })
    }

    fn unpack(packed: Option<SyncRule>, _: &'static str) -> Result<Self, DecodeError> {
        let Some(SyncRule { members, min_sync }) = packed else { return Ok(Self::alone()) };
        Ok(Self { members: Field::unpack(members, "SyncRule.members")?, min_sync })
    }
}

message! { grant::GrantId => GrantId {
    #[prost(bytes = "vec", tag = "1")] lineage: Vec<u8>,
    #[prost(uint64, tag = "2")] epoch: u64,
} }

message! { grant::Mark => Mark {
    #[prost(message, optional, tag = "1")] position: Option<Position>,
    #[prost(bytes = "vec", tag = "2")] hash: Vec<u8>,
} }

message! { grant::Parent => Parent {
    #[prost(message, optional, tag = "1")] grant: Option<GrantId>,
    #[prost(message, optional, tag = "2")] mark: Option<Mark>,
} }

words! { grant::Basis { 1 Init, 2 Handover, 3 Force, 4 Restore, 5 Choice, 6 Majority } }

choice! { grant::Grantor => Grantor, GrantorKind ("GrantorKind", "1, 2")
    unit {}
    value {
        #[prost(string, tag = "1")] Console(String),
        #[prost(string, tag = "2")] Manager(String),
    }
    record {}
}

message! { grant::Proof => Proof {
    #[prost(bytes = "vec", repeated, tag = "1")] certificates: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "2")] signature: Vec<u8>,
} }

message! { grant::Grant => Grant {
    #[prost(message, optional, tag = "1")] id: Option<GrantId>,
    #[prost(bytes = "vec", tag = "2")] holder: Vec<u8>,
    #[prost(message, optional, tag = "3")] parent: Option<Parent>,
    #[prost(int32, tag = "4")] basis: i32,
    #[prost(message, optional, tag = "5")] sync: Option<SyncRule>,
    #[prost(uint64, tag = "6")] at: u64,
    #[prost(message, optional, tag = "7")] grantor: Option<Grantor>,
    #[prost(string, optional, tag = "8")] reason: Option<String>,
    #[prost(message, repeated, tag = "9")] rejects: Vec<GrantId>,
    #[prost(message, optional, tag = "10")] proof: Option<Proof>,
} }

message! { signed_mark::SignedMark => SignedMark {
    #[prost(message, optional, tag = "1")] mark: Option<Mark>,
    #[prost(uint64, tag = "2")] at: u64,
    #[prost(message, optional, tag = "3")] proof: Option<Proof>,
} }

/// [`grant::Chain`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Chain {
    #[prost(message, repeated, tag = "1")]
    grants: Vec<Grant>,
}

impl Field<Chain> for grant::Chain {
    fn pack(&self) -> Chain {
        Chain { grants: self.grants().map(Field::pack).collect() }
    }

    fn unpack(packed: Chain, at: &'static str) -> Result<Self, DecodeError> {
        if packed.grants.len() > MAX_GRANTS {
            return Err(DecodeError::Chain {
                at,
                source: grant::ChainError::Count { count: packed.grants.len() },
            });
        }
        let grants: Vec<grant::Grant> = Field::unpack(packed.grants, "Chain.grants")?;
        Self::new(grants).map_err(|source| DecodeError::Chain { at, source })
    }
}

required!(grant::Chain, Chain);

// A chain of a build that tells it whole is a part that follows on nothing.
message! { grant::Part => Part {
    #[prost(message, repeated, tag = "1")] grants: Vec<Grant>,
    #[prost(bytes = "vec", optional, tag = "2")] after: Option<Vec<u8>>,
    #[prost(bool, tag = "3")] more: bool,
} check |part| DecodeError::check_count("Part.grants", part.grants.len(), MAX_GRANTS) }

/// What is to be told of a chain now, in parts that fit any frame and hold up nothing behind them for long.
pub fn chain_parts(outgoing: &mut grant::Outgoing, chain: &grant::Chain) -> Vec<grant::Part> {
    outgoing.tell(chain, GRANTS_PART, Wire::encoded_len)
}
