//! Names for the ids in rows: what an operator knows is paths and names.

use echelon_core::hierarchy::Hierarchy;
use echelon_core::id::{DomainId, HostId};
use echelon_core::limits::MAX_DEPTH;
use echelon_core::name::{DomainName, DomainPath};
use echelon_core::registry::Registry;
use echelon_core::row::{Host, Row, RowChange, RowKey};
use std::collections::BTreeMap;

/// Which side of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Before it.
    Before,
    /// After it.
    After,
}

impl Side {
    /// The row on this side.
    pub(crate) fn of(self, change: &RowChange) -> Option<&Row> {
        match self {
            Self::Before => change.before.as_ref(),
            Self::After => change.after.as_ref(),
        }
    }
}

/// The names on one side of an edit: those in its own rows, and behind them a registry read either before
/// or after it.
pub(crate) struct Names<'a> {
    places: BTreeMap<DomainId, &'a Option<(DomainId, DomainName)>>,
    hosts: BTreeMap<HostId, &'a Host>,
    registry: Option<&'a Registry>,
}

impl<'a> Names<'a> {
    /// The names on this side of these changes.
    pub(crate) fn new(changes: &'a [RowChange], side: Side, registry: Option<&'a Registry>) -> Self {
        let (mut places, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for row in changes.iter().filter_map(|change| side.of(change)) {
            match row {
                Row::Domain(d) => drop(places.insert(d.id, &d.place)),
                Row::Host(h) => drop(hosts.insert(h.id, h)),
                _ => {}
            }
        }
        Self { places, hosts, registry }
    }

    /// A domain's path; its number, where it is not known.
    pub(crate) fn path(&self, id: DomainId) -> String {
        self.known_path(id).map_or_else(|| format!("domain number {}", id.0), |path| path.to_string())
    }

    fn known_path(&self, mut id: DomainId) -> Option<DomainPath> {
        let mut steps = Vec::new();
        // Rows come from another machine: a cycle in them must end too.
        while id != DomainId::ROOT && steps.len() <= MAX_DEPTH {
            let (parent, name) = self.place(id)?;
            steps.push(name.clone());
            id = *parent;
        }
        steps.reverse();
        DomainPath::from_steps(steps).ok()
    }

    fn place(&self, id: DomainId) -> Option<&(DomainId, DomainName)> {
        match self.places.get(&id) {
            Some(place) => place.as_ref(),
            None => self.hierarchy()?.get(id)?.place.as_ref(),
        }
    }

    fn hierarchy(&self) -> Option<&Hierarchy> {
        self.registry.map(Registry::hierarchy)
    }

    /// A host, where it is known.
    pub(crate) fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(&id).copied().or_else(|| self.registry?.host(id).map(AsRef::as_ref))
    }

    /// A host's name; its id, where it is not known.
    pub(crate) fn host_name(&self, id: HostId) -> String {
        self.host(id).map_or_else(|| id.to_string(), |host| host.name.to_string())
    }
}

/// Whether these changes name all they speak of, so that no registry need be read to show them.
pub(crate) fn are_complete(changes: &[RowChange]) -> bool {
    [Side::Before, Side::After].into_iter().all(|side| {
        let names = Names::new(changes, side, None);
        changes.iter().filter_map(|change| side.of(change)).all(|row| names.knows(row))
    })
}

impl Names<'_> {
    fn knows(&self, row: &Row) -> bool {
        let domain = |id| self.known_path(id).is_some();
        match row.key() {
            RowKey::Domain(id) => domain(id),
            RowKey::Package(host, _) => self.host(host).is_some(),
            RowKey::Policy(id, _) => domain(id),
            RowKey::Host(_) | RowKey::Token(_) => match row {
                Row::Host(h) => domain(h.domain),
                Row::Token(t) => domain(t.domain),
                _ => true,
            },
            RowKey::Meta | RowKey::Identity(_) | RowKey::Denial(_) => true,
        }
    }
}
