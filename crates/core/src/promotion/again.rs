//! Edits that were given up, as edits of the registry of today.

use crate::change::{Change, PackageSpec};
use crate::describe::subject;
use crate::id::{DomainId, HostId, RequestId};
use crate::names::{Known, Names, Side};
use crate::package::{Package, Role};
use crate::policy::{Policy, PolicySettings};
use crate::position::Position;
use crate::row::{Domain, Host, Row, RowChange};
use crate::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

/// What would make once more what an edit changed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Again {
    /// The changes, in an order in which they can be made.
    pub changes: Vec<Change>,
    /// What it changed that no edit of an operator makes, each with the reason.
    pub left_out: Vec<String>,
}

/// Tells edits apart by what is not their time, in the id of a request.
pub type Mark = [u8; 10];

/// Bytes of the time, at the beginning of an id.
const TIME: usize = 6;

/// Under which id an edit that was given up is made once more: the same one for a day, so that doing so twice has
/// one effect; and at any time one with the same [`again_mark`].
pub fn again_id(position: &Position, request: RequestId, now: UnixMillis) -> RequestId {
    const DAY: u64 = 24 * 3600 * 1000;
    let day = now.0 - now.0 % DAY;
    RequestId(uuid::Builder::from_unix_timestamp_millis(day, &drawn(position, request)).into_uuid())
}

/// What stays the same in the id under which an edit is made once more, whenever that is. Whether a request of the
/// registry's journal is it, this tells; or it is the request itself, which whoever asked for it has repeated.
pub fn again_mark(made: RequestId) -> Mark {
    let mut mark = Mark::default();
    mark.copy_from_slice(&made.0.as_bytes()[TIME..]);
    mark
}

fn drawn(position: &Position, request: RequestId) -> Mark {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"echelon edit made once more");
    hasher.update(position.lineage.0.as_bytes());
    hasher.update(&position.epoch.to_be_bytes()).update(&position.revision.to_be_bytes());
    hasher.update(request.0.as_bytes());
    let mut mark = Mark::default();
    hasher.finalize_xof().fill(&mut mark);
    mark
}

/// What would make these changes of rows once more. Objects are named as they were then; `known` names those that
/// the rows say nothing of. `now` is for drains, of which only what is left is wanted.
pub fn again(rows: &[RowChange], known: Option<&dyn Known>, now: UnixMillis) -> Again {
    let names = [Side::Before, Side::After].map(|side| Names::new(rows, side, known));
    let [before, after] = &names;
    let removed = rows.iter().filter_map(|row| match (&row.before, &row.after) {
        (Some(Row::Host(host)), None) => Some(host.id),
        _ => None,
    });
    let hosts_gone = removed.collect();
    let mut work = Work { before, after, now, hosts_gone, done: Again::default(), gone: Vec::new() };
    rows.iter().for_each(|row| work.row(row));
    work.in_order()
}

struct Work<'a> {
    before: &'a Names<'a>,
    after: &'a Names<'a>,
    now: UnixMillis,
    hosts_gone: BTreeSet<HostId>,
    done: Again,
    /// What takes objects away, which comes after what makes and moves some.
    gone: Vec<Change>,
}

impl Work<'_> {
    fn row(&mut self, change: &RowChange) {
        match (&change.before, &change.after) {
            (before, Some(Row::Domain(is))) => {
                self.domain(before.as_ref().and_then(as_domain), is);
            }
            (Some(Row::Domain(was)), None) => {
                let path = self.before.domain_path(was.id);
                self.gone.extend(path.map(|path| Change::RemoveDomain { path, recursive: false }));
            }
            (before, Some(Row::Host(is))) => self.host(before.as_ref().and_then(as_host), is),
            (Some(Row::Host(was)), None) => {
                self.gone.push(Change::RemoveHost { host: was.name.clone(), with_packages: true });
            }
            (before, Some(Row::Package(is))) => self.package(before.as_ref().and_then(as_package), is),
            (Some(Row::Package(was)), None) => self.removed(was),
            (_, Some(Row::Policy(is))) => self.policy(is, is.settings.clone()),
            (Some(Row::Policy(was)), None) => self.policy(was, PolicySettings::default()),
            (was, is) => self.other(was.as_ref().or(is.as_ref())),
        }
    }

    fn domain(&mut self, was: Option<&Domain>, is: &Domain) {
        let Some(path) = self.after.domain_path(is.id) else { return };
        let Some(was) = was else { return self.add(Change::AddDomain { path }) };
        let (Some((old_parent, old_name)), Some((parent, name))) = (&was.place, &is.place) else { return };
        let Some(mut at) = self.before.domain_path(was.id) else { return };
        if old_name != name {
            self.add(Change::RenameDomain { path: at.clone(), name: name.clone() });
            at = at.parent().and_then(|parent| parent.join(name.clone()).ok()).unwrap_or(at);
        }
        if let Some(parent) = self.after.domain_path(*parent).filter(|_| old_parent != parent_of(is)) {
            self.add(Change::MoveDomain { path: at, parent });
        }
    }

    fn host(&mut self, was: Option<&Host>, is: &Host) {
        let Some(domain) = self.after.domain_path(is.domain) else {
            let why = format!("host {}: the domain it was in is not known", is.name);
            return self.done.left_out.push(why);
        };
        let name = is.name.clone();
        let Some(was) = was else {
            let (id, address) = (is.id, is.address.clone());
            return self.add(Change::AddHost { id, name, domain, address });
        };
        if was.name != name {
            self.add(Change::RenameHost { host: was.name.clone(), name: name.clone() });
        }
        if was.domain != is.domain {
            self.add(Change::MoveHost { host: name.clone(), domain });
        }
        if was.address != is.address {
            self.add(Change::SetAddress { host: name.clone(), address: is.address.clone() });
        }
        if was.drained != is.drained {
            self.drain(is);
        }
    }

    fn drain(&mut self, is: &Host) {
        let host = is.name.clone();
        let Some(drain) = &is.drained else { return self.add(Change::ResumeHost { host }) };
        let left = drain.until.map(|until| Duration::from_millis(until.0.saturating_sub(self.now.0)));
        match left.is_some_and(|left| left < crate::limits::MIN_DRAIN) {
            true => self.done.left_out.push(format!("drain of host {host}: its time is over")),
            false => self.add(Change::DrainHost { host, lasting: left, reason: drain.reason.clone() }),
        }
    }

    fn package(&mut self, was: Option<&Package>, is: &Package) {
        let (host, ty) = (self.after.host(is.host).map(|host| host.name.clone()), is.ty.clone());
        let Some(host) = host else {
            let why = format!("package {ty}: the host it was on is not known");
            return self.done.left_out.push(why);
        };
        if ty.is_registry() {
            let why = format!("registry manager on {host}: those come and go with join and leave");
            return self.done.left_out.push(why);
        }
        match was {
            None if is.is_announced() => {
                let why = format!("package {host}:{ty}: the host announces it again by itself");
                return self.done.left_out.push(why);
            }
            None => {
                let (host, ty) = (host.clone(), ty.clone());
                self.add(Change::AddPackage { host, ty, spec: PackageSpec::of(is) });
            }
            Some(was) if PackageSpec::of(was) != PackageSpec::of(is) => {
                let (host, ty) = (host.clone(), ty.clone());
                self.add(Change::SetPackage { host, ty, spec: PackageSpec::of(is) });
            }
            Some(_) => {}
        }
        if was.and_then(|was| was.withdrawn.as_ref()) != is.withdrawn.as_ref() {
            let (host, ty) = (host.clone(), ty.clone());
            self.add(match &is.withdrawn {
                Some(w) => Change::WithdrawPackage { host, ty, reason: w.reason.clone() },
                None => Change::RestorePackage { host, ty },
            });
        }
        let became = is.role == Some(Role::Primary) && was.is_some_and(|was| was.role != is.role);
        if became {
            self.add(Change::Promote { host, ty });
        }
    }

    fn removed(&mut self, was: &Package) {
        let host = self.before.host(was.host).map(|host| host.name.clone());
        let kept = !self.hosts_gone.contains(&was.host) && !was.ty.is_registry();
        // With its host it goes anyway.
        if let Some(host) = host.filter(|_| kept) {
            self.gone.push(Change::RemovePackage { host, ty: was.ty.clone(), successor: None });
        }
    }

    fn policy(&mut self, policy: &Policy, settings: PolicySettings) {
        if let Some(domain) = self.after.domain_path(policy.domain) {
            self.add(Change::ReplacePolicy { domain, ty: policy.ty.clone(), settings });
        }
    }

    fn other(&mut self, row: Option<&Row>) {
        let why = match row {
            Some(Row::Token(token)) => format!("join token {}: make a new one", token.id),
            Some(Row::Identity(identity)) => {
                let whose = subject(&identity.subject, self.after);
                format!("identity of {whose}: enrol it again")
            }
            Some(Row::Denial(denial)) => {
                let whose = subject(&denial.subject, self.after);
                format!(
                    "denial of {whose}: an identity that is denied comes from removing or replacing a host"
                )
            }
            // Counters of the registry, and what follows from its managers.
            _ => return,
        };
        self.done.left_out.push(why);
    }

    fn add(&mut self, change: Change) {
        self.done.changes.push(change);
    }

    /// Parents before what is in them; what goes last goes from the inside out.
    fn in_order(mut self) -> Again {
        self.done.changes.sort_by_key(made);
        self.gone.sort_by_key(|change| std::cmp::Reverse(made(change)));
        self.done.changes.append(&mut self.gone);
        self.done
    }
}

/// When a change that makes or alters something is made: by kind, and domains from the root down.
fn made(change: &Change) -> (u8, usize) {
    match change {
        Change::AddDomain { path } | Change::RemoveDomain { path, .. } => (0, path.steps().len()),
        Change::RenameDomain { .. } | Change::MoveDomain { .. } => (1, 0),
        Change::AddHost { .. } | Change::RenameHost { .. } | Change::RemoveHost { .. } => (2, 0),
        Change::MoveHost { .. } | Change::SetAddress { .. } => (3, 0),
        Change::AddPackage { .. } | Change::SetPackage { .. } | Change::RemovePackage { .. } => (4, 0),
        _ => (5, 0),
    }
}

fn parent_of(domain: &Domain) -> &DomainId {
    domain.place.as_ref().map_or(&DomainId::ROOT, |(parent, _)| parent)
}

fn as_domain(row: &Row) -> Option<&Domain> {
    match row {
        Row::Domain(domain) => Some(domain),
        _ => None,
    }
}

fn as_host(row: &Row) -> Option<&Host> {
    match row {
        Row::Host(host) => Some(host),
        _ => None,
    }
}

fn as_package(row: &Row) -> Option<&Package> {
    match row {
        Row::Package(package) => Some(package),
        _ => None,
    }
}
