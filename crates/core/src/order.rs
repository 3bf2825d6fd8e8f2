//! The candidates of a host for a type, in order, from configuration alone.

use crate::id::{DomainId, HostId};
use crate::name::{HostName, ManagerType};
use crate::policy::Effective;
use crate::spread::{Equals, Scorer};
use crate::tiers::{Ranking, Seat, Tiers};
use crate::view::{Manager, View};
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
    let managers: Vec<_> = view.managers_of(ty).collect();
    let tiers = Tiers::new(view, asker.domains, ty, &managers);
    let mut scorer = Scorer::new(asker.name, ty);
    let mut ranking = Ranking::default();
    let weigh = |tier: &[Seat], equals: &mut Equals| {
        equals.have_scores(tier.iter().map(|seat| scorer.score(managers[seat.at as usize])));
    };
    tiers.rank(asker.host, &managers, usize::MAX, weigh, &mut ranking);
    tiers.order(asker.host, &managers, ranking.seats())
}

/// How much `host` prefers `manager` among equals: weighted rendezvous hashing (Schindelhauer and
/// Schomaker, "Weighted Distributed Hash Tables", 2005).
///
/// `u = (first 53 bits of BLAKE3(host ‖ 0x00 ‖ type ‖ 0x00 ‖ manager) + 0.5) / 2^53`,
/// `score = -weight / ln(u)`, highest first; `ln` from the libm crate, so that every platform agrees.
/// 53 bits are what a 64-bit float holds exactly. The result is 0 for weight 0, else above 0.
pub fn rendezvous_score(host: &HostName, ty: &ManagerType, manager: &HostName, weight: u32) -> f64 {
    Scorer::new(host, ty).score_of(manager, weight)
}
