//! What hosts say of their own packages.
//!
//! A package has two owners. Port, version, check and the host's own withdrawal are the host's to announce;
//! priority, weight, role and the operator's withdrawal are the operator's. An announcement is one edit under
//! its own number, so that the same one sent again has no second effect.

use crate::check::Check;
use crate::endpoint::Endpoint;
use crate::id::{HostId, RequestId};
use crate::name::{ManagerType, Text};
use crate::package::{HostSide, Listens, Package, Role};
use crate::row::Domain;
use crate::view::{Manager, Place, View, ViewChange, ViewRow};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU16;
use uuid::Uuid;

/// One announcement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Its number, and the request id of the edit that it becomes. Later ones of a host have higher ones.
    pub number: RequestId,
    /// Of which package.
    pub ty: ManagerType,
    /// What is said.
    pub word: HostWord,
}

/// What a host says of a package.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostWord {
    /// It runs here, and the host does not want it withdrawn.
    Runs(AnnouncedSpec),
    /// The host wants it to serve nothing.
    Withdraws,
}

/// What a host announces. What it leaves out stays as it is recorded; a new package takes the defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AnnouncedSpec {
    /// On which port of the host's address it listens; of the operator's endpoint, where one is recorded.
    pub port: Option<NonZeroU16>,
    /// The installed version.
    pub version: Option<Text>,
    /// How the host's agent checks it.
    pub check: Option<Check>,
}

impl HostWord {
    /// Says this of a package, under a number. The package keeps all that is the operator's.
    pub fn apply(&self, package: &mut Package, number: RequestId) {
        let known = package.host_side.take();
        let announced = known.is_some_and(|side| side.announced);
        package.host_side = Some(match self {
            Self::Withdraws => HostSide { number, announced, withdrawn: true },
            Self::Runs(_) => HostSide { number, announced: true, withdrawn: false },
        });
        if let Self::Runs(spec) = self {
            spec.apply(package);
        }
    }
}

impl AnnouncedSpec {
    fn apply(&self, package: &mut Package) {
        if let Some(port) = self.port {
            package.listens = match &package.listens {
                Listens::At(Endpoint { address, .. }) => {
                    Listens::At(Endpoint { address: address.clone(), port })
                }
                _ => Listens::Port(port),
            };
        }
        if let Some(version) = &self.version {
            package.version = Some(version.clone());
        }
        if let Some(check) = &self.check {
            package.check = check.clone();
        }
    }
}

/// The number of a host's next announcement: `fresh`, or, where a clock was set back, the next one after
/// `last`.
pub fn next_number(fresh: RequestId, last: Option<RequestId>) -> RequestId {
    // The lowest 62 bits of a UUIDv7 count, or are random (RFC 9562): one more is a valid number of the same
    // time, short of an overflow that nobody lives to see.
    let after = last.map(|last| RequestId(Uuid::from_u128(last.0.as_u128().wrapping_add(1))));
    after.map_or(fresh, |after| after.max(fresh))
}

/// View and place as the host itself uses them while its announcements are on their way into the registry:
/// as if they had been taken in. Those of types that it may not announce count for nothing.
pub fn overlay(view: &View, place: &Place, said: impl IntoIterator<Item = Announcement>) -> (View, Place) {
    let (mut view, mut place) = (view.clone(), place.clone());
    for Announcement { number, ty, word } in said {
        let Some(package) = taken_in(&view, &place, number, &ty, &word) else { continue };
        let (name, domain, address) = (&place.name, place.domain(), &place.address);
        if let Some(row) = Manager::of(&package, name, domain, address, place.drained.as_ref()) {
            let rows = missing_domains(&view, &place).chain([ViewRow::Manager(row)]);
            let changes = rows.map(|row| ViewChange { key: row.key(), row: Some(row) });
            // Own domains always fit, unless the view contradicts the place; it is then left alone.
            view = view.with(changes).unwrap_or(view);
        }
        match place.packages.binary_search_by(|p| p.ty.cmp(&ty)) {
            Ok(at) => place.packages[at] = package,
            Err(at) => place.packages.insert(at, package),
        }
    }
    (view, place)
}

/// The package as the registry will have it; none where it will take no notice.
fn taken_in(
    view: &View,
    place: &Place,
    number: RequestId,
    ty: &ManagerType,
    word: &HostWord,
) -> Option<Package> {
    let old = place.package(ty);
    if !place.allow_types.contains(ty) || (old.is_none() && *word == HostWord::Withdraws) {
        return None;
    }
    let mut package = old.cloned().unwrap_or_else(|| Package::bare(place.host, ty.clone()));
    word.apply(&mut package, number);
    // The view may have come before the place that belongs to it, and show this very package.
    package.settle_role(view.managers_of(ty).any(|m| m.role == Role::Primary && m.host != place.host));
    Some(package)
}

/// The host's own domains that the view lacks, since nothing was in them so far.
fn missing_domains<'a>(view: &'a View, place: &'a Place) -> impl Iterator<Item = ViewRow> + 'a {
    let pairs = place.domains.iter().zip(place.domains.iter().skip(1)).zip(place.path.steps());
    let missing = pairs.filter(|((_, id), _)| view.hierarchy().get(**id).is_none());
    missing
        .map(|((parent, id), name)| ViewRow::Domain(Domain { id: *id, place: Some((*parent, name.clone())) }))
}

impl Package {
    /// A package of which nothing is recorded yet.
    pub fn bare(host: HostId, ty: ManagerType) -> Self {
        let spec = crate::change::PackageSpec::default();
        Self {
            host,
            ty,
            listens: spec.listens,
            priority: spec.priority,
            weight: spec.weight,
            withdrawn: None,
            role: None,
            fencing: None,
            version: spec.version,
            check: spec.check,
            host_side: None,
        }
    }

    /// Gives a manager without a role the one that is its due, the first of a type being primary, and takes
    /// it from what is no manager.
    pub fn settle_role(&mut self, has_primary: bool) {
        let first = if has_primary { Role::Backup } else { Role::Primary };
        self.role = self.is_manager().then(|| self.role.unwrap_or(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_even_where_the_clock_is_set_back() {
        let number = |n: u128| RequestId(Uuid::from_u128(n));
        assert_eq!(next_number(number(7), None), number(7));
        assert_eq!(next_number(number(7), Some(number(5))), number(7));
        assert_eq!(next_number(number(7), Some(number(7))), number(8));
        assert_eq!(next_number(number(7), Some(number(9))), number(10));
    }
}
