//! The managers of a type as all hosts of one domain see them, in order up to the hashing that is each host's
//! own.

use crate::id::{DomainId, HostId};
use crate::name::ManagerType;
use crate::order::{Candidate, Exclusion, Order};
use crate::policy::{Effective, Walk};
use crate::spread::Equals;
use crate::view::{Manager, View};
use std::borrow::Borrow;
use std::sync::Arc;

/// Candidates that are put in or taken out one by one where an order changes; where more are, the rest is made anew:
/// each moves all that come after it.
const MOST_MOVED: usize = 16;

/// What the hosts of one domain share of their orders.
///
/// It speaks of managers by their place in the list that it was made from, which callers hand in again: many
/// domains share one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tiers {
    policy: Effective,
    /// By key.
    seats: Vec<Seat>,
    /// How many of the seats have a rank; those after them are excluded.
    ranked: usize,
    /// Whether no manager was left out.
    complete: bool,
}

/// One manager as a domain sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    key: Key,
    /// Its place in the list.
    pub(crate) at: u32,
    up: u32,
    down: u32,
    pub(crate) excluded: Option<Exclusion>,
}

/// What orders candidates before hashing does, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    excluded: bool,
    /// The walk's key; candidates that are equal so far form a tier.
    tier: (u32, u32, u32),
    priority: u32,
}

/// The way from a host's domain to a manager's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    up: u32,
    down: u32,
    fenced: bool,
}

impl Tiers {
    /// The tiers for hosts whose domains are these (the root first). `managers` are those of the type in the
    /// view, by host id.
    pub(crate) fn new(
        view: &View,
        domains: &[DomainId],
        ty: &ManagerType,
        managers: &[impl Borrow<Arc<Manager>>],
    ) -> Self {
        let ancestry = |m: &Manager| view.hierarchy().ancestry(m.domain).map_or(&[][..], |a| a);
        let managers = managers.iter().map(|m| m.borrow().as_ref()).map(|m| (m, ancestry(m)));
        Self::nearest(view, domains, ty, managers, usize::MAX)
    }

    /// The nearest tiers, with `least` managers at least, or all. The ancestries of the managers' domains are at
    /// hand. The first tier, in which a host's own manager is, is always among them.
    pub(crate) fn nearest<'m>(
        view: &View,
        domains: &[DomainId],
        ty: &ManagerType,
        managers: impl Iterator<Item = (&'m Manager, &'m [DomainId])>,
        least: usize,
    ) -> Self {
        let policy = view.effective(domains, ty);
        let seat = |(at, (m, ancestry)): (u32, (&'m Manager, &[DomainId]))| {
            Seat::new(view, &policy, domains, at, m, ancestry)
        };
        let mut seats: Vec<_> = (0..).zip(managers).map(seat).collect();
        let all = seats.len();
        if least < all {
            let (_, last, _) = seats.select_nth_unstable_by_key(least, Seat::order);
            let last = last.key.tier();
            seats.retain(|seat| seat.key.tier() <= last);
            seats.shrink_to_fit();
        }
        seats.sort_unstable_by_key(Seat::order);
        let mut tiers = Self { policy, complete: seats.len() == all, seats, ranked: 0 };
        tiers.count_ranked();
        tiers
    }

    /// Seats anew those managers of the list that have `changed`, where nothing else has: the list has the same
    /// length, and domains, policies and denials are what they were.
    pub(crate) fn reseat(
        &mut self,
        view: &View,
        domains: &[DomainId],
        managers: &[impl Borrow<Arc<Manager>>],
        changed: &[usize],
    ) {
        self.seats.retain(|seat| !changed.contains(&(seat.at as usize)));
        for &at in changed {
            let manager = managers[at].borrow();
            let ancestry = view.hierarchy().ancestry(manager.domain).map_or(&[][..], |a| a);
            let seat = Seat::new(view, &self.policy, domains, at as u32, manager, ancestry);
            self.seats.insert(self.seats.partition_point(|s| s.key <= seat.key), seat);
        }
        self.count_ranked();
    }

    /// Keeps the seats of a key in the order of this ranking of all, so that the next one has little to sort.
    pub(crate) fn keep(&mut self, ranking: &Ranking) {
        self.seats.clone_from(&ranking.seats);
        // Stable, and nearly done: a host's own manager alone is out of place.
        self.seats.sort_by_key(|seat| seat.key);
    }

    fn count_ranked(&mut self) {
        self.ranked = self.seats.partition_point(|seat| !seat.key.excluded);
    }

    /// The order of one host, as far as its first `most` candidates. `weigh` says how much the host prefers the managers
    /// of these seats, which are equal otherwise.
    pub(crate) fn rank(
        &self,
        host: HostId,
        managers: &[impl Borrow<Arc<Manager>>],
        most: usize,
        mut weigh: impl FnMut(&[Seat], &mut Equals),
        ranking: &mut Ranking,
    ) {
        let own = managers.binary_search_by_key(&host, |m| m.borrow().host).ok();
        let is_own = |seat: &Seat| Some(seat.at as usize) == own;
        let Ranking { seats: ranked, equals } = ranking;
        ranked.clear();
        let (usable, excluded) = self.seats.split_at(self.ranked);
        for half in [usable, excluded] {
            if own.is_some() {
                ranked.extend(half.iter().find(|seat| is_own(seat)));
            }
            for tier in half.chunk_by(|a, b| a.key == b.key) {
                if ranked.len() >= most {
                    return ranked.truncate(most);
                }
                match tier {
                    [_] => ranked.extend(tier.iter().filter(|seat| !is_own(seat))),
                    _ => {
                        weigh(tier, equals);
                        if own.is_some() {
                            equals.retain(|place| !is_own(&tier[place]));
                        }
                        let name = |place: usize| &managers[tier[place].at as usize].borrow().name;
                        equals.spread(most - ranked.len(), name);
                        ranked.extend(equals.places().map(|place| tier[place]));
                    }
                }
            }
        }
        ranked.truncate(most);
    }

    /// These seats as the candidates of a host.
    pub(crate) fn order(
        &self,
        host: HostId,
        managers: &[impl Borrow<Arc<Manager>>],
        seats: &[Seat],
    ) -> Order {
        let candidates = seats.iter().map(|seat| seat.candidate(host, managers)).collect();
        Order { policy: self.policy.clone(), candidates }
    }

    /// Makes `order` what [`Self::order`] gives, and says whether it was anything else. What is the same stays: nearly
    /// all is, and counting who shares each manager would take longer than all else.
    pub(crate) fn reorder(
        &self,
        host: HostId,
        managers: &[impl Borrow<Arc<Manager>>],
        seats: &[Seat],
        order: &mut Order,
    ) -> bool {
        let Order { policy, candidates } = order;
        let mut changes = usize::from(*policy != self.policy);
        policy.clone_from(&self.policy);
        for (i, seat) in seats.iter().enumerate() {
            let is_next = |at: usize| candidates.get(at).is_some_and(|c| seat.is(c, host, managers));
            if is_next(i) {
                continue;
            }
            changes += 1;
            if changes > MOST_MOVED {
                candidates.truncate(i);
                candidates.extend(seats[i..].iter().map(|seat| seat.candidate(host, managers)));
                return true;
            }
            match is_next(i + 1) {
                true => drop(candidates.remove(i)),
                false => candidates.insert(i, seat.candidate(host, managers)),
            }
        }
        changes += usize::from(candidates.len() > seats.len());
        candidates.truncate(seats.len());
        changes > 0
    }

    /// Whether these are all managers, excluded ones too.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }
}

impl Seat {
    /// The seat of a manager whose domain and that domain's ancestors are `ancestry`.
    fn new(
        view: &View,
        policy: &Effective,
        domains: &[DomainId],
        at: u32,
        manager: &Manager,
        ancestry: &[DomainId],
    ) -> Self {
        let step = Step::between(domains, ancestry, policy.fence);
        let excluded = match () {
            () if view.is_denied(manager.host) => Some(Exclusion::Denied),
            () if step.fenced => Some(Exclusion::Boundary),
            () => None,
        };
        let tier = tier(policy.walk, step);
        let key = Key { excluded: excluded.is_some(), tier, priority: manager.priority };
        Self { key, at, up: step.up, down: step.down, excluded }
    }

    fn order(&self) -> (Key, u32) {
        (self.key, self.at)
    }

    /// As a candidate of a host. `managers` is the list that seats speak of.
    fn candidate(&self, host: HostId, managers: &[impl Borrow<Arc<Manager>>]) -> Candidate {
        let manager = Arc::clone(managers[self.at as usize].borrow());
        let same_host = manager.host == host;
        Candidate { manager, up: self.up, down: self.down, same_host, excluded: self.excluded }
    }

    /// Whether [`Self::candidate`] gives this one, the manager being the very same.
    fn is(&self, c: &Candidate, host: HostId, managers: &[impl Borrow<Arc<Manager>>]) -> bool {
        let manager = managers[self.at as usize].borrow();
        Arc::ptr_eq(&c.manager, manager)
            && (c.up, c.down, c.excluded) == (self.up, self.down, self.excluded)
            && c.same_host == (manager.host == host)
    }
}

impl Key {
    fn tier(&self) -> (bool, (u32, u32, u32)) {
        (self.excluded, self.tier)
    }
}

/// The order of one host, and room to work it out in, which is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    seats: Vec<Seat>,
    equals: Equals,
}

impl Ranking {
    /// The order.
    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }
}

/// The walk's key; candidates with an equal key form a tier.
fn tier(walk: Walk, Step { up, down, .. }: Step) -> (u32, u32, u32) {
    match walk {
        Walk::Chain => (u32::from(down > 0), up, down),
        Walk::Subtree => (up, down, 0),
        Walk::Hops => (up + down, down, 0),
    }
}

impl Step {
    /// From the lowest of `from` to the lowest of `to`, both the root first.
    fn between(from: &[DomainId], to: &[DomainId], fence: Option<DomainId>) -> Self {
        // Both begin with the root, so that there always is a common ancestor.
        let meet = |(down, domain): (usize, &DomainId)| Some((down, from.iter().position(|d| d == domain)?));
        let (down, depth) = to.iter().rev().enumerate().find_map(meet).unwrap_or_default();
        let up = from.len().saturating_sub(1 + depth);
        let fenced = fence.is_some_and(|fence| !to.contains(&fence));
        // Depths are at most 32; see `limits::MAX_DEPTH`.
        Self { up: up as u32, down: down as u32, fenced }
    }
}
