//! Identities, issuers, join tokens, denials.

use echelon_core::{access, issuer};

words! { access::Access { 1 Agent, 2 Manager, 3 Viewer, 4 Operator, 5 Admin } }

choice! { access::Subject => Subject, SubjectKind ("SubjectKind", "1, 2, 3")
    unit {}
    value {
        #[prost(bytes = "vec", tag = "1")] Host(Vec<u8>),
        #[prost(string, tag = "2")] Console(String),
        #[prost(bytes = "vec", tag = "3")] Manager(Vec<u8>),
    }
    record {}
}

message! { access::Identity => Identity {
    #[prost(message, optional, tag = "1")] subject: Option<Subject>,
    #[prost(uint32, tag = "2")] enrolment: u32,
    #[prost(int32, tag = "3")] access: i32,
    #[prost(string, repeated, tag = "4")] allow_types: Vec<String>,
    #[prost(bytes = "vec", tag = "5")] key_hash: Vec<u8>,
    #[prost(uint64, tag = "6")] enrolled: u64,
} }

message! { access::Denial => Denial {
    #[prost(message, optional, tag = "1")] subject: Option<Subject>,
    #[prost(uint32, tag = "2")] up_to: u32,
    #[prost(uint64, tag = "3")] until: u64,
} }

message! { access::Token => Token {
    #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")] secret_hash: Vec<u8>,
    #[prost(int32, tag = "3")] access: i32,
    #[prost(string, optional, tag = "4")] host: Option<String>,
    #[prost(uint64, tag = "5")] domain: u64,
    #[prost(string, repeated, tag = "6")] allow_types: Vec<String>,
    #[prost(bool, tag = "7")] replace: bool,
    #[prost(uint64, tag = "8")] expires: u64,
    #[prost(uint32, tag = "9")] uses_left: u32,
} }

message! { issuer::Issuer => Issuer {
    #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")] host: Vec<u8>,
    #[prost(uint64, tag = "3")] not_after: u64,
    #[prost(uint64, optional, tag = "4")] renew_only: Option<u64>,
    #[prost(bool, tag = "5")] dropped: bool,
} }
