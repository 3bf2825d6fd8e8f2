//! What an admin asks of the registry managers when the primary is to change, and what they answer.
//!
//! A hand-over is one request. A promotion by force and a choice between lineages are three steps: a manager
//! proposes a grant and says on what evidence, the admin's console shows that and signs the grant, the manager
//! takes it up. [`crate::member`] decides.

mod again;
mod alarms;
mod evidence;
mod refused;
mod report;
mod ways_out;

pub use again::{Again, Mark, again, again_id, again_mark};
pub use evidence::{Asked, MAX_LISTED, Sight, Unproved};
pub use refused::refused;
pub use report::{
    AgentsReport, DismissedReport, EvidenceReport, GrantReport, GrantState, GrantorReport, LossReport,
    LostEditReport, LostToReport, MemberReport, PrimaryReport, PromotedReport, RefusedReport, StandingReport,
    SyncReport, Way,
};
pub use ways_out::ways_out;

use crate::grant::Grant;
use crate::id::{Lineage, RequestId};
use crate::name::{HostName, Text};

/// What ends a conflict of two lineages, for alarms: what each side holds comes first.
pub const HOW_TO_CHOOSE: &str = "see what each side holds: echelon lineage show; what is given up with a choice: echelon \
     lineage choose LINEAGE --reason TEXT --dry-run; then the same without --dry-run";

/// A step of a promotion. Only an admin may ask for one. All steps of one promotion have the same id.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "few are made, and each lives for one request")]
pub enum Promotion {
    /// The primary is to hand over. Nothing is lost. Goes to the primary, whoever is asked.
    HandOver {
        /// Names it.
        id: RequestId,
        /// The host of the manager that becomes the primary.
        to: HostName,
        /// Why.
        reason: Option<Text>,
        /// Only say what would happen.
        trial: bool,
    },
    /// This host's manager is to say what it would be granted, were it made the primary by force. Goes to that one.
    Force {
        /// Names it; the lineage that begins has the same id, so that a repetition finds what it did the first time.
        id: RequestId,
        /// The host of the manager that becomes the primary.
        to: HostName,
        /// Go on though committed edits may be lost.
        accept_loss: bool,
        /// Why.
        reason: Option<Text>,
        /// Only say what would happen: nothing is proposed, and nobody promises anything.
        trial: bool,
    },
    /// The primary of this lineage is to say what it would be granted, were the lineage chosen over those in
    /// conflict with it.
    Choose {
        /// Names it.
        id: RequestId,
        /// Which lineage.
        lineage: Lineage,
        /// Why.
        reason: Option<Text>,
        /// Only say what would happen.
        trial: bool,
    },
    /// What was proposed, signed.
    Signed {
        /// Of which promotion.
        id: RequestId,
        /// The host of the manager that proposed it.
        to: HostName,
        /// The grant with its proof.
        grant: Grant,
    },
    /// Nothing comes of it: what others have promised need not be kept.
    Abort {
        /// Of which promotion.
        id: RequestId,
        /// The host of the manager that proposed it.
        to: HostName,
    },
}

impl Promotion {
    /// Which promotion it is a step of.
    pub fn id(&self) -> RequestId {
        match self {
            Self::HandOver { id, .. }
            | Self::Force { id, .. }
            | Self::Choose { id, .. }
            | Self::Signed { id, .. }
            | Self::Abort { id, .. } => *id,
        }
    }

    /// Whether the primary may be another one after it.
    pub fn changes_the_primary(&self) -> bool {
        matches!(self, Self::HandOver { trial: false, .. } | Self::Signed { .. })
    }
}

/// What became of a step. The documents are JSON.
#[derive(Clone, PartialEq, Debug)]
pub enum Promoted {
    /// A trial: what would happen, an [`EvidenceReport`].
    Evidence(String),
    /// What would be granted, to be signed.
    Proposed {
        /// The bytes that are to be signed: those of a [`Grant`] without its proof.
        grant: Vec<u8>,
        /// On what evidence, an [`EvidenceReport`].
        evidence: String,
    },
    /// It is done: a [`PromotedReport`].
    Done(String),
    /// It was given up, or there was nothing to give up.
    Aborted,
}
