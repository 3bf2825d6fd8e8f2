//! Settings of domains.

use crate::error::DecodeError;
use crate::package::Check;
use echelon_core::policy;
use echelon_core::setting::Setting;

words! { policy::Walk { 1 Chain, 2 Subtree, 3 Hops } }
words! { policy::Failback { 1 Auto, 2 Dormant, 3 Off } }

words! { Setting {
    1 Walk, 2 Boundary, 3 Failback, 4 FailbackHold, 5 FailbackJitter, 6 ConnectHedge, 7 ConnectTimeout,
    8 DrainTimeout, 9 EvidenceTtl, 10 Probe,
} }

choice! { policy::Probe => Probe, ProbeKind ("ProbeKind", "1, 2")
    unit { "1" Off }
    value {
        #[prost(message, tag = "2")] By(Box<Check>),
    }
    record {}
}

message! { policy::PolicySettings => Settings {
    #[prost(int32, optional, tag = "1")] walk: Option<i32>,
    #[prost(bool, optional, tag = "2")] boundary: Option<bool>,
    #[prost(int32, optional, tag = "3")] failback: Option<i32>,
    #[prost(uint64, optional, tag = "4")] failback_hold: Option<u64>,
    #[prost(uint64, optional, tag = "5")] failback_jitter: Option<u64>,
    #[prost(uint64, optional, tag = "6")] connect_hedge: Option<u64>,
    #[prost(uint64, optional, tag = "7")] connect_timeout: Option<u64>,
    #[prost(uint64, optional, tag = "8")] drain_timeout: Option<u64>,
    #[prost(uint64, optional, tag = "9")] evidence_ttl: Option<u64>,
    #[prost(message, optional, tag = "10")] probe: Option<Probe>,
} check |settings| settings.validate().map_err(|source| DecodeError::Number { at: "Settings", source }) }

message! { policy::Policy => Policy {
    #[prost(uint64, tag = "1")] domain: u64,
    #[prost(string, tag = "2")] ty: String,
    #[prost(message, optional, tag = "3")] settings: Option<Settings>,
} }
