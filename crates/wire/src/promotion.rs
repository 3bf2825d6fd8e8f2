//! What is said when the primary is to change.

use crate::grant::Grant;
use echelon_core::promotion;

choice! { promotion::Promotion => Promotion, PromotionKind ("PromotionKind", "1, 2, 3, 4, 5")
    unit {}
    value {}
    record {
        "1" HandOver {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
            #[prost(string, tag = "2")] to: String,
            #[prost(string, optional, tag = "3")] reason: Option<String>,
            #[prost(bool, tag = "4")] trial: bool,
        },
        "2" Force {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
            #[prost(string, tag = "2")] to: String,
            #[prost(bool, tag = "3")] accept_loss: bool,
            #[prost(string, optional, tag = "4")] reason: Option<String>,
            #[prost(bool, tag = "5")] trial: bool,
        },
        "3" Choose {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
            #[prost(bytes = "vec", tag = "2")] lineage: Vec<u8>,
            #[prost(string, optional, tag = "3")] reason: Option<String>,
            #[prost(bool, tag = "4")] trial: bool,
        },
        "4" Signed {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
            #[prost(string, tag = "2")] to: String,
            #[prost(message, optional, tag = "3")] grant: Option<Grant>,
        },
        "5" Abort {
            #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
            #[prost(string, tag = "2")] to: String,
        },
    }
}

choice! { promotion::Promoted => Promoted, PromotedKind ("PromotedKind", "1, 2, 3, 4")
    unit { "4" Aborted }
    value {
        #[prost(string, tag = "1")] Evidence(String),
        #[prost(string, tag = "3")] Done(String),
    }
    record {
        "2" Proposed {
            #[prost(bytes = "vec", tag = "1")] grant: Vec<u8>,
            #[prost(string, tag = "2")] evidence: String,
        },
    }
}
