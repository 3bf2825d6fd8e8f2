//! Names for the ids in rows: what an operator knows is paths and names.

use crate::id::{DomainId, HostId};
use crate::limits::MAX_DEPTH;
use crate::name::{DomainName, DomainPath};
use crate::registry::Registry;
use crate::row::{Host, Row, RowChange, RowKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which side of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Before it.
    Before,
    /// After it.
    After,
}

impl Side {
    /// The row on this side.
    pub fn of(self, change: &RowChange) -> Option<&Row> {
        match self {
            Self::Before => change.before.as_ref(),
            Self::After => change.after.as_ref(),
        }
    }
}

/// Where a domain is: its parent, and its name there; none for the root.
pub type DomainPlace = Option<(DomainId, DomainName)>;

/// Whoever can say what an id is called.
pub trait Known {
    /// Where a domain is; none for one that is not known.
    fn place(&self, id: DomainId) -> Option<&DomainPlace>;
    /// A host; none for one that is not known.
    fn host(&self, id: HostId) -> Option<&Host>;
}

impl Known for Registry {
    fn place(&self, id: DomainId) -> Option<&DomainPlace> {
        self.hierarchy().get(id).map(|domain| &domain.place)
    }

    fn host(&self, id: HostId) -> Option<&Host> {
        Self::host(self, id).map(AsRef::as_ref)
    }
}

/// What ids were called at some time before a registry: its names, but for what was different then.
#[derive(Clone, Debug)]
pub struct Past {
    registry: Arc<Registry>,
    /// What was not as in the registry; none for what there was not.
    places: BTreeMap<DomainId, Option<DomainPlace>>,
    hosts: BTreeMap<HostId, Option<Host>>,
}

impl Past {
    /// The present of this registry.
    pub fn of(registry: Arc<Registry>) -> Self {
        Self { registry, places: BTreeMap::new(), hosts: BTreeMap::new() }
    }

    /// Goes to one side of a commit, which is the one right before, or right after, where it is now.
    pub fn go(&mut self, changes: &[RowChange], side: Side) {
        for change in changes {
            match (&change.key, side.of(change)) {
                (RowKey::Domain(id), Some(Row::Domain(d))) => {
                    drop(self.places.insert(*id, Some(d.place.clone())))
                }
                (RowKey::Domain(id), _) => drop(self.places.insert(*id, None)),
                (RowKey::Host(id), Some(Row::Host(h))) => drop(self.hosts.insert(*id, Some(h.clone()))),
                (RowKey::Host(id), _) => drop(self.hosts.insert(*id, None)),
                _ => {}
            }
        }
    }
}

impl Known for Past {
    fn place(&self, id: DomainId) -> Option<&DomainPlace> {
        match self.places.get(&id) {
            Some(then) => then.as_ref(),
            None => self.registry.place(id),
        }
    }

    fn host(&self, id: HostId) -> Option<&Host> {
        match self.hosts.get(&id) {
            Some(then) => then.as_ref(),
            None => Known::host(self.registry.as_ref(), id),
        }
    }
}

/// The names on one side of an edit: those in its own rows, and behind them those known right before or
/// after it.
pub struct Names<'a> {
    places: BTreeMap<DomainId, &'a DomainPlace>,
    hosts: BTreeMap<HostId, &'a Host>,
    known: Option<&'a dyn Known>,
}

impl<'a> Names<'a> {
    /// The names on this side of these changes.
    pub fn new(changes: &'a [RowChange], side: Side, known: Option<&'a dyn Known>) -> Self {
        let (mut places, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for row in changes.iter().filter_map(|change| side.of(change)) {
            match row {
                Row::Domain(d) => drop(places.insert(d.id, &d.place)),
                Row::Host(h) => drop(hosts.insert(h.id, h)),
                _ => {}
            }
        }
        Self { places, hosts, known }
    }

    /// A domain's path; its number, where it is not known.
    pub fn path(&self, id: DomainId) -> String {
        self.domain_path(id).map_or_else(|| format!("domain number {}", id.0), |path| path.to_string())
    }

    /// A domain's path, where it is known.
    pub fn domain_path(&self, mut id: DomainId) -> Option<DomainPath> {
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
            None => self.known?.place(id)?.as_ref(),
        }
    }

    /// A host, where it is known.
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(&id).copied().or_else(|| self.known?.host(id))
    }

    /// A host's name; its id, where it is not known.
    pub fn host_name(&self, id: HostId) -> String {
        self.host(id).map_or_else(|| id.to_string(), |host| host.name.to_string())
    }
}

/// Whether these changes name all they speak of, so that no registry need be read to show them.
pub fn are_complete(changes: &[RowChange]) -> bool {
    [Side::Before, Side::After].into_iter().all(|side| {
        let names = Names::new(changes, side, None);
        changes.iter().filter_map(|change| side.of(change)).all(|row| names.knows(row))
    })
}

impl Names<'_> {
    fn knows(&self, row: &Row) -> bool {
        let domain = |id| self.domain_path(id).is_some();
        match row.key() {
            RowKey::Domain(id) => domain(id),
            RowKey::Package(host, _) => self.host(host).is_some(),
            RowKey::Policy(id, _) => domain(id),
            RowKey::Host(_) | RowKey::Token(_) => match row {
                Row::Host(h) => domain(h.domain),
                Row::Token(t) => domain(t.domain),
                _ => true,
            },
            RowKey::Meta | RowKey::Identity(_) | RowKey::Denial(_) | RowKey::Issuer(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::SyncRule;
    use crate::id::Lineage;
    use crate::position::Position;
    use crate::row::{Domain, Meta};
    use uuid::Uuid;

    fn host(name: &str, domain: u64) -> Row {
        let id = HostId(Uuid::from_u128(7));
        Row::Host(Host {
            id,
            name: name.parse().unwrap(),
            domain: DomainId(domain),
            address: None,
            drained: None,
        })
    }

    fn domain(id: u64, name: &str) -> Row {
        Row::Domain(Domain { id: DomainId(id), place: Some((DomainId::ROOT, name.parse().unwrap())) })
    }

    fn change(before: Option<Row>, after: Option<Row>) -> RowChange {
        let key = after.as_ref().or(before.as_ref()).unwrap().key();
        RowChange { key, before, after }
    }

    #[test]
    fn what_was_renamed_or_removed_since_has_its_name_of_then() {
        let framework = "acme".parse().unwrap();
        let meta = Row::Meta(Meta {
            framework,
            next_domain: DomainId(2),
            trust: vec![vec![1]],
            emptied: None,
            sync: SyncRule::alone(),
        });
        let root = Row::Domain(Domain { id: DomainId::ROOT, place: None });
        let position = Position { lineage: Lineage(Uuid::nil()), epoch: 1, revision: 3 };
        let now = Registry::from_rows(position, vec![meta, root, domain(1, "new")]).unwrap();
        let renamed = [change(Some(domain(1, "old")), Some(domain(1, "new")))];
        let removed = [change(Some(host("h", 1)), None)];
        let mut past = Past::of(Arc::new(now));
        let names = |past: &Past| {
            let names = Names::new(&[], Side::After, Some(past));
            (names.path(DomainId(1)), names.host_name(HostId(Uuid::from_u128(7))))
        };
        assert_eq!(names(&past).0, "/new");
        past.go(&removed, Side::Before);
        assert_eq!(names(&past), ("/new".into(), "h".into()));
        past.go(&renamed, Side::Before);
        assert_eq!(names(&past), ("/old".into(), "h".into()));
        past.go(&renamed, Side::After);
        past.go(&removed, Side::After);
        assert_eq!(names(&past), ("/new".into(), Uuid::from_u128(7).to_string()));
    }
}
