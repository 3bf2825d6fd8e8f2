//! What an agent and a manager say to each other on a session.

use crate::error::DecodeError;
use crate::field::Field;
use crate::grant::{Part, SignedMark};
use crate::row::Position;
use crate::view::{Place, ViewChange, ViewMark, ViewRow};
use echelon_core::grant::MAX_TRAIL;
use echelon_core::limits::{MAX_ALARMS, MAX_PACKAGES_PER_HOST, MAX_WANTED_TYPES};
use echelon_core::{alarm, board, message, report};
use std::collections::BTreeMap;

choice! { message::FromAgent => FromAgent, FromAgentKind ("FromAgentKind", "1, 2, 3, 4")
    unit { "3" Repair }
    value {
        #[prost(message, tag = "1")] Hello(Hello),
        #[prost(message, tag = "2")] Heartbeat(AgentHeartbeat),
        #[prost(message, tag = "4")] Grants(Part),
    }
    record {}
}

message! { message::Hello => Hello {
    #[prost(message, optional, tag = "1")] protocol: Option<Protocols>,
    #[prost(string, tag = "2")] build: String,
    #[prost(uint64, tag = "3")] incarnation: u64,
    #[prost(message, optional, tag = "4")] holds: Option<Holding>,
    #[prost(bytes = "vec", repeated, tag = "5")] grants: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "6")] signed: Option<SignedMark>,
    #[prost(bool, tag = "7")] keeps_signed: bool,
} check |hello| DecodeError::check_count("Hello.grants", hello.grants.len(), MAX_TRAIL) }

/// Lowest and highest protocol spoken.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Protocols {
    #[prost(uint32, tag = "1")]
    lowest: u32,
    #[prost(uint32, tag = "2")]
    highest: u32,
}

impl Field<Protocols> for (u32, u32) {
    fn pack(&self) -> Protocols {
        Protocols { lowest: self.0, highest: self.1 }
    }

    fn unpack(packed: Protocols, _: &'static str) -> Result<Self, DecodeError> {
        Ok((packed.lowest, packed.highest))
    }
}

required!((u32, u32), Protocols);

// Field 5 of [`message::Holding`] was a hash that proved nothing.
message! { message::Holding => Holding {
    #[prost(message, optional, tag = "1")] position: Option<Position>,
    #[prost(uint64, tag = "2")] view_revision: u64,
    #[prost(bytes = "vec", tag = "3")] digest: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")] place: Vec<u8>,
} }

message! { message::AgentHeartbeat => AgentHeartbeat {
    #[prost(message, optional, tag = "1")] holds: Option<Holding>,
    #[prost(uint64, tag = "2")] sequence: u64,
    #[prost(btree_map = "string, message", tag = "3")] packages: BTreeMap<String, Health>,
    #[prost(message, repeated, tag = "4")] using: Vec<Using>,
    #[prost(message, repeated, tag = "5")] alarms: Vec<Raised>,
    #[prost(bool, tag = "6")] isolated: bool,
} check |beat| {
    DecodeError::check_count("AgentHeartbeat.packages", beat.packages.len(), MAX_PACKAGES_PER_HOST)?;
    DecodeError::check_count("AgentHeartbeat.using", beat.using.len(), MAX_WANTED_TYPES)?;
    DecodeError::check_count("AgentHeartbeat.alarms", beat.alarms.len(), MAX_ALARMS)
} }

message! { message::Using => Using {
    #[prost(string, tag = "1")] ty: String,
    #[prost(string, optional, tag = "2")] manager: Option<String>,
    #[prost(uint64, tag = "3")] since: u64,
    #[prost(string, tag = "4")] cause: String,
    #[prost(int32, tag = "5")] outcome: i32,
} }

words! { report::Outcome { 1 Home, 2 Failover, 3 LastResort, 4 Unserved } }
words! { alarm::Severity { 1 Info, 2 Warning, 3 Critical } }

message! { alarm::Notice => Notice {
    #[prost(string, tag = "1")] name: String,
    #[prost(int32, tag = "2")] severity: i32,
    #[prost(string, tag = "3")] message: String,
    #[prost(string, tag = "4")] remedy: String,
} }

message! { alarm::Raised => Raised {
    #[prost(message, optional, tag = "1")] notice: Option<Notice>,
    #[prost(uint64, tag = "2")] since: u64,
} }

choice! { message::Health => Health, HealthKind ("HealthKind", "1, 2, 3, 4")
    unit { "1" Unchecked, "2" Passing, "4" Withdrawn }
    value {}
    record {
        "3" Failing {
            #[prost(bool, tag = "1")] demands_answer: bool,
            #[prost(string, tag = "2")] reason: String,
        },
    }
}

choice! { message::ToAgent => ToAgent, ToAgentKind ("ToAgentKind", "1, 2, 3, 4, 5, 6, 7, 8")
    unit {}
    value {
        #[prost(message, tag = "1")] Welcome(Welcome),
        #[prost(message, tag = "2")] Snapshot(SnapshotPart),
        #[prost(message, tag = "3")] Delta(Delta),
        #[prost(message, tag = "4")] Place(Box<Place>),
        #[prost(message, tag = "5")] Heartbeat(ManagerHeartbeat),
        #[prost(message, tag = "6")] Liveness(Liveness),
        #[prost(message, tag = "7")] Grants(Part),
        #[prost(message, tag = "8")] Signed(SignedMark),
    }
    record {}
}

message! { message::Welcome => Welcome {
    #[prost(uint32, tag = "1")] protocol: u32,
    #[prost(string, tag = "2")] build: String,
    #[prost(string, tag = "3")] manager: String,
    #[prost(uint64, tag = "4")] heartbeat: u64,
} }

message! { message::SnapshotPart => SnapshotPart {
    #[prost(bool, tag = "1")] first: bool,
    #[prost(message, repeated, tag = "2")] rows: Vec<ViewRow>,
    #[prost(message, optional, tag = "3")] last: Option<ViewMark>,
    #[prost(uint64, optional, tag = "4")] emptied: Option<u64>,
} }

message! { message::Delta => Delta {
    #[prost(uint64, tag = "1")] from_view_revision: u64,
    #[prost(message, optional, tag = "2")] mark: Option<ViewMark>,
    #[prost(message, repeated, tag = "3")] changes: Vec<ViewChange>,
} }

message! { message::ManagerHeartbeat => ManagerHeartbeat {
    #[prost(message, optional, tag = "1")] mark: Option<ViewMark>,
    #[prost(bytes = "vec", tag = "2")] place: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")] journal: Option<Vec<u8>>,
} }

message! { board::Told => Told {
    #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")] by: Vec<u8>,
    #[prost(bool, tag = "3")] connected: bool,
    #[prost(bool, tag = "4")] silent: bool,
    #[prost(uint64, tag = "5")] word: u64,
    #[prost(uint64, tag = "6")] ago: u64,
    #[prost(uint64, tag = "7")] incarnation: u64,
    #[prost(uint64, tag = "8")] sequence: u64,
    #[prost(btree_map = "string, message", tag = "9")] packages: BTreeMap<String, Health>,
    #[prost(message, repeated, tag = "10")] using: Vec<Using>,
    #[prost(message, optional, tag = "11")] holds: Option<Holding>,
    #[prost(message, repeated, tag = "12")] alarms: Vec<Raised>,
    #[prost(string, optional, tag = "13")] build: Option<String>,
    #[prost(bool, tag = "14")] isolated: bool,
    #[prost(btree_map = "string, uint64", tag = "15")] failing: BTreeMap<String, u64>,
    #[prost(uint64, optional, tag = "16")] behind: Option<u64>,
} check |told| {
    DecodeError::check_count("Told.packages", told.packages.len(), MAX_PACKAGES_PER_HOST)?;
    DecodeError::check_count("Told.using", told.using.len(), MAX_WANTED_TYPES)?;
    DecodeError::check_count("Told.alarms", told.alarms.len(), MAX_ALARMS)?;
    DecodeError::check_count("Told.failing", told.failing.len(), MAX_PACKAGES_PER_HOST)
} }

message! { message::BoardNews => BoardNews {
    #[prost(message, repeated, tag = "1")] agents: Vec<Told>,
    #[prost(message, optional, tag = "2")] proved: Option<SignedMark>,
} }

message! { message::Liveness => Liveness {
    #[prost(bool, tag = "1")] complete: bool,
    #[prost(message, repeated, tag = "2")] entries: Vec<LivenessEntry>,
} }

message! { message::LivenessEntry => LivenessEntry {
    #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
    #[prost(uint64, tag = "2")] incarnation: u64,
    #[prost(uint64, tag = "3")] sequence: u64,
    #[prost(bool, tag = "4")] silent: bool,
    #[prost(btree_map = "string, message", tag = "5")] packages: BTreeMap<String, Health>,
} check |entry| DecodeError::check_count("LivenessEntry.packages", entry.packages.len(), MAX_PACKAGES_PER_HOST) }
