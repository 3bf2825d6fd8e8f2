//! What registry managers say to each other about the journal.

use super::{Entry, Seals};
use crate::digest::Digest;
use crate::grant::{Chain, GrantId, Mark, SyncRule};
use crate::id::{HostId, RequestId};
use std::time::Duration;

/// What one manager tells another on the link between them. Any of these may be lost, doubled or late. Chains of grants
/// are told in parts ([`crate::grant::Part`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberMessage<C = Chain> {
    /// Where its journal stands: at first, every [`STANDING_INTERVAL`], and where it was asked.
    Standing(Standing),
    /// Asks for [`Self::Standing`].
    Ask,
    /// The chain of grants it goes by.
    Grants(C),
    /// Entries.
    Append(Append),
    /// What became of [`Self::Append`]: this is durable.
    Appended {
        /// Under which grant.
        grant: GrantId,
        /// Its last entry.
        last: Mark,
        /// Whether that is an entry of the sender's journal. If not, the entries were not taken.
        accepted: bool,
    },
    /// This revision is committed.
    Committed {
        /// Under which grant.
        grant: GrantId,
        /// The revision.
        revision: u64,
    },
    /// The sender's journal does not have the entry that is the receiver's last.
    Missing {
        /// Under which grant.
        grant: GrantId,
        /// The entry.
        after: Mark,
    },
    /// Asks for the entries after this one.
    Fetch {
        /// Under which grant.
        grant: GrantId,
        /// The asker's last entry.
        after: Mark,
    },
    /// Asks to take no more entries under the newest grant, for a promotion.
    Seal {
        /// The grants that the sender goes by, to be adopted first.
        chain: C,
        /// The promise that is asked for.
        seal: Seal,
    },
    /// The promise is made, and durable.
    Sealed {
        /// The one that was asked for; another one where that was made before, to somebody who is there.
        seal: Seal,
        /// Where the journal stands.
        standing: Standing,
    },
    /// The promotion came to nothing: the promise need not be kept.
    Unseal {
        /// Of which promotion.
        proposal: RequestId,
    },
}

impl<C> MemberMessage<C> {
    /// The same message with another form of the chain in it, where there is one.
    ///
    /// # Errors
    /// Those of `form`.
    pub fn try_map<D, E>(self, form: impl FnOnce(C) -> Result<D, E>) -> Result<MemberMessage<D>, E> {
        Ok(match self {
            Self::Grants(chain) => MemberMessage::Grants(form(chain)?),
            Self::Seal { chain, seal } => MemberMessage::Seal { chain: form(chain)?, seal },
            Self::Standing(standing) => MemberMessage::Standing(standing),
            Self::Ask => MemberMessage::Ask,
            Self::Append(append) => MemberMessage::Append(append),
            Self::Appended { grant, last, accepted } => MemberMessage::Appended { grant, last, accepted },
            Self::Committed { grant, revision } => MemberMessage::Committed { grant, revision },
            Self::Missing { grant, after } => MemberMessage::Missing { grant, after },
            Self::Fetch { grant, after } => MemberMessage::Fetch { grant, after },
            Self::Sealed { seal, standing } => MemberMessage::Sealed { seal, standing },
            Self::Unseal { proposal } => MemberMessage::Unseal { proposal },
        })
    }
}

/// Entries for a journal whose last one is `after`; none to find out whether it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// Under which grant they are told: the newest one of the sender.
    pub grant: GrantId,
    /// The entry before them.
    pub after: Mark,
    /// The entries.
    pub entries: Vec<Entry>,
    /// The newest committed revision.
    pub committed: u64,
}

/// How often managers tell each other where they stand.
pub const STANDING_INTERVAL: Duration = Duration::from_millis(500);

/// Where a manager's journal stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The newest grant it knows.
    pub grant: GrantId,
    /// The digest of the chain that this grant ends; nothing of a build that does not say. A manager that was set back
    /// may have given two grants of one name.
    pub chain: Option<Digest>,
    /// Its last entry, durable.
    pub last: Mark,
    /// The newest revision that it knows to be committed.
    pub committed: u64,
    /// The standbys that count after its last entry.
    pub rule: SyncRule,
    /// The promises it is held by.
    pub seals: Seals,
    /// Whether it leads: it holds that grant, and can write.
    pub leads: bool,
}

/// A durable promise to take no entries under a grant, given to one that is to be promoted. Only a newer grant,
/// or the one it was given to, ends it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Seal {
    /// Of which promotion.
    pub proposal: RequestId,
    /// To whom.
    pub by: HostId,
    /// Under which grant no entries are taken.
    pub grant: GrantId,
}
