//! The candidates of a host for a type, in order, from configuration alone.

use crate::hierarchy::Hierarchy;
use crate::id::{DomainId, HostId};
use crate::name::{HostName, ManagerType};
use crate::policy::{Effective, Walk};
use crate::view::{Manager, View};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who asks: what the order of candidates depends on besides the view.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The host's id.
    pub host: HostId,
    /// The host's name.
    pub name: &'a HostName,
    /// The host's domain and its ancestors, the root first. Lower ones may be missing in the view.
    pub domains: &'a [DomainId],
}

impl<'a> From<&'a crate::view::Place> for Asker<'a> {
    fn from(place: &'a crate::view::Place) -> Self {
        Self { host: place.host, name: &place.name, domains: &place.domains }
    }
}

/// All managers of a type in the order in which a host prefers them.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The settings in force.
    pub policy: Effective,
    /// The candidates, nearest first; excluded ones last.
    pub candidates: Vec<Candidate>,
}

/// One manager as one host sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The manager.
    pub manager: Arc<Manager>,
    /// Levels from the host's domain up to the lowest common ancestor.
    pub up: u32,
    /// Levels from there down to the manager's domain.
    pub down: u32,
    /// Whether it is on the asking host itself.
    pub same_host: bool,
    /// Why it may not be used at all.
    pub excluded: Option<Exclusion>,
}

/// Why configuration excludes a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// It lies outside the boundary of the asking host.
    Boundary,
    /// Its host's identity is denied.
    Denied,
}

impl Order {
    /// The candidates that have a rank, from 1, in order: all but the excluded ones.
    pub fn ranked(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|c| c.excluded.is_none())
    }

    /// The first candidate that is neither withdrawn nor excluded.
    pub fn home(&self) -> Option<&Candidate> {
        self.ranked().find(|c| !c.manager.is_withdrawn())
    }
}

/// The candidates of `asker` for `ty`. Liveness plays no part.
pub fn order(view: &View, asker: Asker<'_>, ty: &ManagerType) -> Order {
    let policy = view.effective(asker.domains, ty);
    let mut steps = Steps::new(view.hierarchy(), asker.domains, policy.fence);
    let mut keyed: Vec<_> = view
        .managers_of(ty)
        .map(|manager| {
            let step = steps.to(manager.domain);
            let same_host = manager.host == asker.host;
            let excluded = match () {
                () if view.is_denied(manager.host) => Some(Exclusion::Denied),
                () if step.fenced => Some(Exclusion::Boundary),
                () => None,
            };
            let key = Key {
                excluded: excluded.is_some(),
                elsewhere: !same_host,
                tier: tier(policy.walk, step.up, step.down),
                priority: manager.priority,
            };
            let manager = Arc::clone(manager);
            (key, Candidate { manager, up: step.up, down: step.down, same_host, excluded })
        })
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    for equals in keyed.chunk_by_mut(|a, b| a.0 == b.0).filter(|equals| equals.len() > 1) {
        spread(equals, asker.name, ty);
    }
    Order { policy, candidates: keyed.into_iter().map(|(_, candidate)| candidate).collect() }
}

/// What orders candidates before hashing does.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    excluded: bool,
    elsewhere: bool,
    tier: (u32, u32, u32),
    priority: u32,
}

/// The walk's key; candidates with an equal key form a tier.
fn tier(walk: Walk, up: u32, down: u32) -> (u32, u32, u32) {
    match walk {
        Walk::Chain => (u32::from(down > 0), up, down),
        Walk::Subtree => (up, down, 0),
        Walk::Hops => (up + down, down, 0),
    }
}

/// Orders candidates of an equal key by weighted rendezvous hashing; ties by name. Those of weight 0 score
/// lowest, and so come last.
fn spread(equals: &mut [(Key, Candidate)], host: &HostName, ty: &ManagerType) {
    equals.sort_by_cached_key(|(_, c)| {
        let score = rendezvous_score(host, ty, &c.manager.name, c.manager.weight);
        (Descending(score), c.manager.name.clone())
    });
}

#[derive(PartialEq)]
struct Descending(f64);

impl Eq for Descending {}

impl PartialOrd for Descending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Descending {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

/// How much `host` prefers `manager` among equals: weighted rendezvous hashing (Schindelhauer and
/// Schomaker, "Weighted Distributed Hash Tables", 2005).
///
/// `u = (first 53 bits of BLAKE3(host ‖ 0x00 ‖ type ‖ 0x00 ‖ manager) + 0.5) / 2^53`,
/// `score = -weight / ln(u)`, highest first; `ln` from the libm crate, so that every platform agrees.
/// 53 bits are what a 64-bit float holds exactly. The result is 0 for weight 0, else above 0.
pub fn rendezvous_score(host: &HostName, ty: &ManagerType, manager: &HostName, weight: u32) -> f64 {
    if weight == 0 {
        return 0.0;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(host.as_str().as_bytes()).update(&[0]);
    hasher.update(ty.as_str().as_bytes()).update(&[0]);
    hasher.update(manager.as_str().as_bytes());
    let hash = hasher.finalize();
    let first: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a BLAKE3 hash has 32 bytes");
    score(u64::from_be_bytes(first) >> 11, weight)
}

/// The score for the first 53 bits of a hash.
fn score(bits: u64, weight: u32) -> f64 {
    let u = (bits as f64 + 0.5) / (1u64 << 53) as f64;
    // Of all 2^53 values the highest alone is rounded up to 1, whose logarithm is no divisor.
    let u = u.min(1.0 - f64::EPSILON / 2.0);
    -f64::from(weight) / libm::log(u)
}

/// Steps from one host's domain to others, each domain worked out once.
struct Steps<'a> {
    hierarchy: &'a Hierarchy,
    domains: &'a [DomainId],
    fence: Option<DomainId>,
    known: BTreeMap<DomainId, Step>,
}

#[derive(Clone, Copy)]
struct Step {
    up: u32,
    down: u32,
    fenced: bool,
}

impl<'a> Steps<'a> {
    fn new(hierarchy: &'a Hierarchy, domains: &'a [DomainId], fence: Option<DomainId>) -> Self {
        Self { hierarchy, domains, fence, known: BTreeMap::new() }
    }

    fn to(&mut self, domain: DomainId) -> Step {
        if let Some(&step) = self.known.get(&domain) {
            return step;
        }
        let step = self.work_out(domain);
        self.known.insert(domain, step);
        step
    }

    fn work_out(&self, domain: DomainId) -> Step {
        // The root is in every lineage, so the search below always ends with a common ancestor.
        let mut down = 0;
        let mut depth = 0;
        for (steps, ancestor) in self.hierarchy.lineage(domain).enumerate() {
            if let Some(at) = self.domains.iter().position(|d| *d == ancestor.id) {
                (down, depth) = (steps, at);
                break;
            }
        }
        let up = self.domains.len().saturating_sub(1 + depth);
        let fenced = self.fence.is_some_and(|fence| !self.hierarchy.is_within(domain, fence));
        // Depths are at most 32; see `limits::MAX_DEPTH`.
        Step { up: up as u32, down: down as u32, fenced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_rises_with_the_hash_up_to_its_highest_value_and_is_never_infinite() {
        let top = (1 << 53) - 1;
        let scores = [0, 1, 1 << 30, 1 << 52, top - 4, top].map(|bits| score(bits, 1));
        assert!(scores.is_sorted() && scores[0] > 0.0 && scores[5].is_finite(), "{scores:?}");
        assert!(scores[5] > scores[4]);
        assert_eq!(score(top, 3), 3.0 * score(top, 1));
    }
}
