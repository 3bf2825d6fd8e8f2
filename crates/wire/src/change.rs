//! What can be asked of the registry.

use crate::access::Token;
use crate::error::DecodeError;
use crate::frame::occurrences;
use crate::grant::SyncRule;
use crate::package::{HostWord, PackageSpec};
use crate::policy::Settings;
use echelon_core::change;
use echelon_core::limits::MAX_CHANGES;

/// The number of [`ChangeSet::changes`].
pub(crate) const CHANGES: usize = 3;

message! { change::ChangeSet => ChangeSet {
    #[prost(bytes = "vec", tag = "1")] request: Vec<u8>,
    #[prost(uint64, optional, tag = "2")] if_revision: Option<u64>,
    #[prost(message, repeated, tag = "3")] changes: Vec<Change>,
    #[prost(bool, tag = "4")] allow_shrink: bool,
} }

/// Refuses too many changes before any is decoded: empty ones take two bytes each on the wire, but many
/// times that in memory.
pub(crate) fn check_change_count(bytes: &[u8]) -> Result<(), DecodeError> {
    DecodeError::check_count("ChangeSet.changes", occurrences(bytes, &[CHANGES]), MAX_CHANGES)
}

choice! { change::Change => Change,
    ChangeKind ("ChangeKind", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 30, 31, 32, 33, 34, 35")
    unit { "23" EndDrains }
    value {}
    record {
        "1" AddDomain {
            #[prost(string, tag = "1")] path: String,
        },
        "2" RenameDomain {
            #[prost(string, tag = "1")] path: String,
            #[prost(string, tag = "2")] name: String,
        },
        "3" MoveDomain {
            #[prost(string, tag = "1")] path: String,
            #[prost(string, tag = "2")] parent: String,
        },
        "4" RemoveDomain {
            #[prost(string, tag = "1")] path: String,
            #[prost(bool, tag = "2")] recursive: bool,
        },
        "5" AddHost {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
            #[prost(string, tag = "2")] name: String,
            #[prost(string, tag = "3")] domain: String,
            #[prost(string, optional, tag = "4")] address: Option<String>,
        },
        "6" MoveHost {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] domain: String,
        },
        "7" RenameHost {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] name: String,
        },
        "8" SetAddress {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, optional, tag = "2")] address: Option<String>,
        },
        "9" RemoveHost {
            #[prost(string, tag = "1")] host: String,
            #[prost(bool, tag = "2")] with_packages: bool,
        },
        "10" AddPackage {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(message, optional, tag = "3")] spec: Option<PackageSpec>,
        },
        "11" SetPackage {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(message, optional, tag = "3")] spec: Option<PackageSpec>,
        },
        "12" WithdrawPackage {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(string, optional, tag = "3")] reason: Option<String>,
        },
        "13" RestorePackage {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
        },
        "14" RemovePackage {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(string, optional, tag = "3")] successor: Option<String>,
        },
        "15" SetPolicy {
            #[prost(string, tag = "1")] domain: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(message, optional, tag = "3")] settings: Option<Settings>,
        },
        "16" ReplacePolicy {
            #[prost(string, tag = "1")] domain: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(message, optional, tag = "3")] settings: Option<Settings>,
        },
        "17" CreateToken {
            #[prost(message, optional, tag = "1")] token: Option<Token>,
            #[prost(string, tag = "2")] domain: String,
        },
        "18" RevokeToken {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
        },
        "19" Enrol {
            #[prost(bytes = "vec", tag = "1")] token: Vec<u8>,
            #[prost(string, tag = "2")] host: String,
            #[prost(bytes = "vec", tag = "3")] id: Vec<u8>,
            #[prost(string, optional, tag = "4")] domain: Option<String>,
            #[prost(string, optional, tag = "5")] address: Option<String>,
            #[prost(bytes = "vec", tag = "6")] key_hash: Vec<u8>,
        },
        "20" Announce {
            #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
            #[prost(string, tag = "2")] ty: String,
            #[prost(message, optional, tag = "3")] word: Option<HostWord>,
        },
        "21" DrainHost {
            #[prost(string, tag = "1")] host: String,
            #[prost(uint64, optional, tag = "2")] lasting: Option<u64>,
            #[prost(string, optional, tag = "3")] reason: Option<String>,
        },
        "22" ResumeHost {
            #[prost(string, tag = "1")] host: String,
        },
        "24" UnsetPolicy {
            #[prost(string, tag = "1")] domain: String,
            #[prost(string, tag = "2")] ty: String,
            #[prost(int32, repeated, tag = "3")] keys: Vec<i32>,
        },
        "25" Promote {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] ty: String,
        },
        "26" PromoteFrom {
            #[prost(string, tag = "1")] host: String,
            #[prost(string, tag = "2")] from: String,
        },
        "30" RecordManager {
            #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
            #[prost(uint32, tag = "2")] enrolment: u32,
            #[prost(bytes = "vec", tag = "3")] key_hash: Vec<u8>,
            #[prost(message, optional, tag = "4")] issuer: Option<NewIssuer>,
        },
        "31" JoinManager {
            #[prost(bytes = "vec", tag = "1")] token: Vec<u8>,
            #[prost(string, tag = "2")] host: String,
            #[prost(bytes = "vec", tag = "3")] id: Vec<u8>,
            #[prost(string, optional, tag = "4")] domain: Option<String>,
            #[prost(string, optional, tag = "5")] address: Option<String>,
            #[prost(string, tag = "6")] endpoint: String,
            #[prost(bytes = "vec", tag = "7")] key_hash: Vec<u8>,
            #[prost(message, optional, tag = "8")] issuer: Option<NewIssuer>,
        },
        "32" Admit {
            #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
        },
        "33" RemoveManager {
            #[prost(string, tag = "1")] host: String,
            #[prost(bool, tag = "2")] accept_loss: bool,
            #[prost(bool, tag = "3")] compromised: bool,
        },
        "34" SetMinSync {
            #[prost(uint32, tag = "1")] min_sync: u32,
            #[prost(bool, tag = "2")] accept_loss: bool,
        },
        "35" TakeOver {
            #[prost(bytes = "vec", tag = "1")] holder: Vec<u8>,
            #[prost(message, optional, tag = "2")] sync: Option<SyncRule>,
            #[prost(bool, tag = "3")] gives_up: bool,
        },
    }
}

message! { change::NewIssuer => NewIssuer {
    #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
    #[prost(uint64, tag = "2")] not_after: u64,
} }
