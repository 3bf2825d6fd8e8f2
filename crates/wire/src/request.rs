//! What can be asked of a manager, and its answers.

use crate::backup::BackupPart;
use crate::change::{CHANGES, ChangeSet};
use crate::error::DecodeError;
use crate::field::Field;
use crate::frame::occurrences;
use crate::grant::Part;
use crate::member::MemberMessage;
use crate::package::Announcement;
use crate::promotion::{Promoted, Promotion};
use crate::row::{Actor, Position, Row, RowChange};
use crate::session::{BoardNews, LivenessEntry, Protocols};
use echelon_core::grant::MAX_TRAIL;
use echelon_core::limits::MAX_CHANGES;
use echelon_core::message;
use prost::Message;

/// Most certificates in one chain: leaf, intermediate and root, with room for a longer one later.
const MAX_CHAIN: usize = 8;

choice! { message::Request => Request, RequestKind ("RequestKind", "1, 2, 3, 4, 5, 6, 7, 20, 21, 30, 31, 32, 40, 41, 42, 43, 50")
    unit { "1" Session, "5" Read, "41" Copy }
    value {
        #[prost(message, tag = "2")] Enrol(Enrol),
        #[prost(message, tag = "6")] Query(Query),
        #[prost(message, tag = "7")] Announce(Announcement),
        #[prost(message, tag = "20")] Join(Join),
        #[prost(message, tag = "30")] Promotion(Box<Promotion>),
        #[prost(message, tag = "40")] Link(Greeting),
        #[prost(message, tag = "42")] Relayed(Relayed),
    }
    record {
        "3" Renew {
            #[prost(bytes = "vec", tag = "1")] csr: Vec<u8>,
        },
        "4" Edit {
            #[prost(message, optional, tag = "1")] set: Option<ChangeSet>,
            #[prost(bool, tag = "2")] dry_run: bool,
        },
        "31" PromotionFor {
            #[prost(string, tag = "1")] console: String,
            #[prost(message, optional, tag = "2")] step: Option<Promotion>,
        },
        "32" DismissLost {
            #[prost(uint64, tag = "1")] through: u64,
        },
        "43" JoinFor {
            #[prost(message, optional, tag = "1")] wish: Option<Join>,
            #[prost(string, tag = "2")] from: String,
        },
        "21" Leave {
            #[prost(bytes = "vec", tag = "1")] request: Vec<u8>,
        },
        "50" Backup {
            #[prost(string, optional, tag = "1")] passphrase: Option<String>,
        },
    }
}

/// The numbers of [`Edit`] in [`Request`], of its set, and of that set's changes.
const EDIT_SET_CHANGES: [usize; 3] = [4, 1, CHANGES];

/// The same in [`Relayed`].
const RELAYED_SET_CHANGES: [usize; 3] = [42, 4, CHANGES];

/// As [`crate::change::check_change_count`], for the change set in an edit.
pub(crate) fn check_change_count(bytes: &[u8]) -> Result<(), DecodeError> {
    let count = occurrences(bytes, &EDIT_SET_CHANGES).max(occurrences(bytes, &RELAYED_SET_CHANGES));
    DecodeError::check_count("ChangeSet.changes", count, MAX_CHANGES)
}

message! { message::Greeting => Greeting {
    #[prost(message, optional, tag = "1")] protocol: Option<Protocols>,
    #[prost(string, tag = "2")] build: String,
    #[prost(bytes = "vec", repeated, tag = "3")] grants: Vec<Vec<u8>>,
} check |greeting| DecodeError::check_count("Greeting.grants", greeting.grants.len(), MAX_TRAIL) }

message! { message::Relayed => Relayed {
    #[prost(message, optional, tag = "1")] actor: Option<Actor>,
    #[prost(string, optional, tag = "2")] from: Option<String>,
    #[prost(bytes = "vec", tag = "3")] content: Vec<u8>,
    #[prost(message, optional, tag = "4")] set: Option<ChangeSet>,
    #[prost(bool, tag = "5")] dry_run: bool,
} }

choice! { message::ManagerMessage => ManagerMessage, ManagerMessageKind ("ManagerMessageKind", "1, 2, 3")
    unit {}
    value {
        #[prost(message, tag = "1")] Member(Box<MemberMessage>),
        #[prost(message, tag = "2")] Board(BoardNews),
        #[prost(message, tag = "3")] Grants(Part),
    }
    record {}
}

/// [`Request`] as it is read from a peer without a certificate. Any other kind is an unknown field to it.
#[derive(Clone, PartialEq, prost::Message)]
struct AnonymousRequest {
    #[prost(message, optional, tag = "2")]
    enrol: Option<Enrol>,
    #[prost(message, optional, tag = "20")]
    join: Option<Join>,
}

/// The request of a peer without a certificate, from the bytes of a [`message::Request`].
///
/// Takes no memory for any other kind of request: at most a small multiple of `bytes`.
///
/// # Errors
/// The bytes are another request, or none.
pub fn decode_anonymous(bytes: &[u8]) -> Result<message::Anonymous, DecodeError> {
    let packed = AnonymousRequest::decode(bytes)
        .map_err(|source| DecodeError::Malformed { message: "Request", source })?;
    match packed.join {
        Some(join) => Field::unpack(join, "Request.Join").map(message::Anonymous::Join),
        None => Field::unpack(packed.enrol, "Request.Enrol").map(message::Anonymous::Enrol),
    }
}

message! { message::Join => Join {
    #[prost(bytes = "vec", tag = "1")] token: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")] secret: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")] request: Vec<u8>,
    #[prost(string, tag = "4")] host: String,
    #[prost(string, optional, tag = "5")] domain: Option<String>,
    #[prost(string, tag = "6")] endpoint: String,
    #[prost(bytes = "vec", tag = "7")] csr: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")] issuer_csr: Vec<u8>,
    #[prost(message, optional, tag = "9")] greeting: Option<Greeting>,
} }

message! { message::Enrol => Enrol {
    #[prost(bytes = "vec", tag = "1")] token: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")] secret: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")] request: Vec<u8>,
    #[prost(string, tag = "4")] host: String,
    #[prost(string, optional, tag = "5")] domain: Option<String>,
    #[prost(bytes = "vec", tag = "6")] csr: Vec<u8>,
} }

choice! { message::Query => Query, QueryKind ("QueryKind", "1, 2, 3, 10, 11, 12, 13, 14, 20, 30, 31")
    unit { "1" Status, "3" Tokens, "11" Watch, "12" Alarms, "20" Managers, "30" Lineage, "31" Lost }
    value {}
    record {
        "10" History {
            #[prost(uint64, optional, tag = "1")] since: Option<u64>,
            #[prost(uint64, optional, tag = "2")] limit: Option<u64>,
            #[prost(bool, tag = "3")] follow: bool,
        },
        "13" Agents {
            #[prost(string, optional, tag = "1")] host: Option<String>,
        },
        "14" Actual {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
        },
        "2" Route {
            #[prost(string, optional, tag = "1")] host: Option<String>,
            #[prost(string, tag = "2")] ty: String,
            #[prost(string, repeated, tag = "3")] down: Vec<String>,
            #[prost(uint32, optional, tag = "4")] candidates: Option<u32>,
        },
    }
}

choice! { message::Response => Response, ResponseKind ("ResponseKind", "1, 2, 3, 4, 5, 6, 20, 30, 40, 41, 50")
    unit {}
    value {
        #[prost(message, tag = "1")] Failed(Failure),
        #[prost(message, tag = "2")] Enrolled(Enrolled),
        #[prost(message, tag = "3")] Renewed(Chain),
        #[prost(message, tag = "4")] Edited(EditAnswer),
        #[prost(message, tag = "5")] Rows(RowsPart),
        #[prost(message, tag = "20")] Joined(Joined),
        #[prost(message, tag = "30")] Promotion(Promoted),
        #[prost(message, tag = "40")] Linked(Greeting),
        #[prost(message, tag = "50")] Backup(Box<BackupPart>),
    }
    record {
        "41" Copied {
            #[prost(bytes = "vec", tag = "1")] part: Vec<u8>,
            #[prost(bool, tag = "2")] last: bool,
        },
        "6" Documents {
            #[prost(string, repeated, tag = "1")] documents: Vec<String>,
            #[prost(bool, tag = "2")] last: bool,
        },
    }
}

/// Certificates in DER, leaf first, root last.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Chain {
    #[prost(bytes = "vec", repeated, tag = "1")]
    certificates: Vec<Vec<u8>>,
}

impl Field<Chain> for Vec<Vec<u8>> {
    fn pack(&self) -> Chain {
        Chain { certificates: self.clone() }
    }

    fn unpack(packed: Chain, _: &'static str) -> Result<Self, DecodeError> {
        DecodeError::check_count("Chain.certificates", packed.certificates.len(), MAX_CHAIN)?;
        Ok(packed.certificates)
    }
}

required!(Vec<Vec<u8>>, Chain);

message! { message::Enrolled => Enrolled {
    #[prost(message, optional, tag = "1")] chain: Option<Chain>,
    #[prost(string, tag = "2")] framework: String,
    #[prost(bytes = "vec", tag = "3")] host: Vec<u8>,
    #[prost(uint32, tag = "4")] enrolment: u32,
    #[prost(int32, tag = "5")] access: i32,
    #[prost(string, tag = "6")] domain: String,
} }

message! { message::Joined => Joined {
    #[prost(message, optional, tag = "1")] issuer: Option<Chain>,
    #[prost(string, tag = "2")] framework: String,
    #[prost(bytes = "vec", tag = "3")] host: Vec<u8>,
    #[prost(uint32, tag = "4")] enrolment: u32,
    #[prost(string, tag = "5")] domain: String,
    #[prost(bool, tag = "6")] root_unexported: bool,
} }

message! { message::EditAnswer => EditAnswer {
    #[prost(message, optional, tag = "1")] position: Option<Position>,
    #[prost(bytes = "vec", tag = "2")] request: Vec<u8>,
    #[prost(message, repeated, tag = "3")] rows: Vec<RowChange>,
    #[prost(bool, tag = "4")] repeated: bool,
} }

message! { message::RowsPart => RowsPart {
    #[prost(message, optional, tag = "1")] position: Option<Position>,
    #[prost(message, repeated, tag = "2")] rows: Vec<Row>,
    #[prost(message, repeated, tag = "3")] liveness: Vec<LivenessEntry>,
    #[prost(bool, tag = "4")] last: bool,
} }

words! { message::FailureClass { 1 Failed, 2 Forbidden, 3 Unreachable, 4 NotAllowed, 5 Unknown } }
words! { message::Retry { 1 Safe, 2 Unsafe, 3 Pointless } }

message! { message::Failure => Failure {
    #[prost(string, tag = "1")] error: String,
    #[prost(int32, tag = "2")] class: i32,
    #[prost(string, tag = "3")] message: String,
    #[prost(string, tag = "4")] place: String,
    #[prost(string, tag = "5")] remedy: String,
    #[prost(int32, tag = "6")] retry: i32,
} }
