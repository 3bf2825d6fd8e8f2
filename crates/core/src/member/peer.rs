//! Another manager, as one manager sees it.

use super::{STANDING_INTERVAL, Standing};
use crate::grant::{GrantId, Mark};
use crate::time::Monotonic;
use std::time::Duration;

/// How long entries that were sent may stay without an answer before they are sent again: links lose nothing while
/// they are up, so that only a manager at its limits needs that long.
pub(super) const FEED_TIMEOUT: Duration = Duration::from_secs(2);

/// How long entries may stay without an answer before a manager counts as one that takes none, as with a full disk: a disk
/// that is busy writes within less, and edits are refused rather than written and then waited for.
pub(super) const STALLED: Duration = Duration::from_secs(4);

/// How often a manager that goes by other grants is told one's own.
const OFFER_INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Peer {
    /// Whether there is a link to it.
    pub connected: bool,
    /// When it was last heard.
    pub heard: Option<Monotonic>,
    /// Where it said that it stands.
    pub standing: Option<Standing>,
    /// What is durable there, of this manager's journal under its newest grant; none before that is known.
    pub acked: Option<Mark>,
    /// Since when it is not level with this manager, which leads; none while it is.
    pub behind_since: Option<Monotonic>,
    /// Whether it has answered entries, or none, since the link is up: a new process believes nothing is committed before.
    pub(super) answered: bool,
    /// Since when entries are on their way to it.
    pub(super) feeding: Option<Monotonic>,
    /// Since when it owes an answer to entries.
    pub(super) owes: Option<Monotonic>,
    /// Which grant it was told of, and when.
    offered: Option<(GrantId, Monotonic)>,
}

impl Peer {
    /// A link is up. Where there is one already, this is a second one to the same process, or one to a new process in its
    /// place: what was on its way may be lost, and what it said is durable is so, until it says otherwise.
    pub(super) fn met(&mut self, now: Monotonic) {
        if !self.connected {
            *self = Self { behind_since: self.behind_since, ..Self::default() };
        }
        (self.connected, self.heard) = (true, Some(now));
        (self.feeding, self.answered, self.offered) = (None, false, None);
    }

    pub(super) fn lost(&mut self) {
        self.forget_acks();
        self.connected = false;
    }

    /// The journal or the grant is another one than what it has said is durable.
    pub(super) fn forget_acks(&mut self) {
        (self.acked, self.feeding, self.owes, self.offered) = (None, None, None, None);
    }

    /// Whether it goes by this grant, as far as is known.
    pub fn goes_by(&self, grant: GrantId) -> bool {
        self.standing.as_ref().is_some_and(|s| s.grant == grant)
    }

    /// Whether it is held by a promise to take no entries under this grant.
    pub fn is_sealed(&self, grant: GrantId) -> bool {
        self.standing.as_ref().is_some_and(|s| s.seals.hold_under(grant))
    }

    /// Whether it takes what this manager writes under this grant. One that has gone over to another grant takes nothing
    /// any more, also where that one does not count here.
    pub fn is_synced(&self, grant: GrantId, now: Monotonic) -> bool {
        let stalled = self.owes.is_some_and(|since| now.since(since) >= STALLED);
        let follows = self.standing.as_ref().is_none_or(|s| s.grant == grant && !s.seals.hold_under(grant));
        self.connected && self.acked.is_some() && !stalled && follows
    }

    /// Whether entries may be sent to it now.
    pub(super) fn may_feed(&self, now: Monotonic) -> bool {
        self.connected && self.feeding.is_none_or(|since| now.since(since) >= FEED_TIMEOUT)
    }

    /// Whether grants are to be told to it again; notes that they are.
    pub(super) fn is_offer_due(&mut self, now: Monotonic, head: GrantId) -> bool {
        let again = |(told, at): (GrantId, Monotonic)| told != head || now.since(at) >= OFFER_INTERVAL;
        let due = self.connected && self.offered.is_none_or(again);
        if due {
            self.offered = Some((head, now));
        }
        due
    }

    /// Whether it has not been heard for longer than a manager that lives stays silent.
    pub fn is_silent(&self, now: Monotonic) -> bool {
        self.is_unheard_for(4 * STANDING_INTERVAL, now)
    }

    /// Whether a word of it is overdue: what is sent to it now may reach nobody.
    pub fn is_late(&self, now: Monotonic) -> bool {
        self.is_unheard_for(STANDING_INTERVAL * 3 / 2, now)
    }

    fn is_unheard_for(&self, time: Duration, now: Monotonic) -> bool {
        !self.connected || self.heard.is_none_or(|heard| now.since(heard) > time)
    }
}
