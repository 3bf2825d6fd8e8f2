//! Packages, and how they are checked.

use crate::error::DecodeError;
use echelon_core::announce;
use echelon_core::change::PackageSpec as CoreSpec;
use echelon_core::check;
use echelon_core::package::{self, check_priority, check_weight};

words! { package::Role { 1 Primary, 2 Backup } }

choice! { package::Listens => Listens, ListensKind ("ListensKind", "1, 2, 3")
    unit { "1" Nowhere }
    value {
        #[prost(uint32, tag = "2")] Port(u32),
        #[prost(string, tag = "3")] At(String),
    }
    record {}
}

choice! { check::CheckKind => CheckKind, CheckKindKind ("CheckKindKind", "1, 2, 3, 4")
    unit { "1" Connect }
    value {}
    record {
        "2" Exchange {
            #[prost(string, tag = "1")] send: String,
            #[prost(string, tag = "2")] expect: String,
        },
        "3" Http {
            #[prost(string, tag = "1")] path: String,
            #[prost(uint32, optional, tag = "2")] status: Option<u32>,
            #[prost(string, optional, tag = "3")] host: Option<String>,
        },
        "4" Grpc {
            #[prost(string, optional, tag = "1")] service: Option<String>,
        },
    }
}

message! { check::Check => Check {
    #[prost(message, optional, tag = "1")] kind: Option<CheckKind>,
    #[prost(uint64, tag = "2")] interval: u64,
    #[prost(uint64, tag = "3")] timeout: u64,
    #[prost(uint32, tag = "4")] misses: u32,
} check |check| check.validate().map_err(|source| DecodeError::Number { at: "Check", source }) }

message! { package::Withdrawal => Withdrawal {
    #[prost(string, optional, tag = "1")] reason: Option<String>,
} }

message! { package::HostSide => HostSide {
    #[prost(bytes = "vec", tag = "1")] number: Vec<u8>,
    #[prost(bool, tag = "2")] announced: bool,
    #[prost(bool, tag = "3")] withdrawn: bool,
} }

message! { package::Package => Package {
    #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
    #[prost(string, tag = "2")] ty: String,
    #[prost(message, optional, tag = "3")] listens: Option<Listens>,
    #[prost(uint32, tag = "4")] priority: u32,
    #[prost(uint32, tag = "5")] weight: u32,
    #[prost(message, optional, tag = "6")] withdrawn: Option<Withdrawal>,
    #[prost(int32, optional, tag = "7")] role: Option<i32>,
    #[prost(string, optional, tag = "8")] version: Option<String>,
    #[prost(message, optional, tag = "9")] check: Option<Check>,
    #[prost(message, optional, tag = "10")] host_side: Option<HostSide>,
    #[prost(uint64, optional, tag = "11")] fencing: Option<u64>,
} check |package| check_rank("Package", package.priority, package.weight) }

message! { CoreSpec => PackageSpec {
    #[prost(message, optional, tag = "1")] listens: Option<Listens>,
    #[prost(uint32, tag = "2")] priority: u32,
    #[prost(uint32, tag = "3")] weight: u32,
    #[prost(string, optional, tag = "4")] version: Option<String>,
    #[prost(message, optional, tag = "5")] check: Option<Check>,
} check |spec| check_rank("PackageSpec", spec.priority, spec.weight) }

message! { announce::AnnouncedSpec => AnnouncedSpec {
    #[prost(uint32, optional, tag = "1")] port: Option<u32>,
    #[prost(string, optional, tag = "2")] version: Option<String>,
    #[prost(message, optional, tag = "3")] check: Option<Check>,
} }

choice! { announce::HostWord => HostWord, HostWordKind ("HostWordKind", "1, 2")
    unit { "2" Withdraws }
    value {
        #[prost(message, tag = "1")] Runs(AnnouncedSpec),
    }
    record {}
}

message! { announce::Announcement => Announcement {
    #[prost(bytes = "vec", tag = "1")] number: Vec<u8>,
    #[prost(string, tag = "2")] ty: String,
    #[prost(message, optional, tag = "3")] word: Option<HostWord>,
} }

/// Refuses a priority or a weight out of range.
pub(crate) fn check_rank(at: &'static str, priority: u32, weight: u32) -> Result<(), DecodeError> {
    check_priority(priority)
        .and_then(|_| check_weight(weight))
        .map(|_| ())
        .map_err(|source| DecodeError::Number { at, source })
}
