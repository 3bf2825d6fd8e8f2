//! Packages of a host, in their short and their long form.

use crate::document::{Entry, Node, Value};
use crate::fault::Fault;
use crate::read::{Reader, first_at};
use crate::topology::{PackageEntry, PackageState, Written};
use echelon_core::change::PackageSpec;
use echelon_core::check::{Check, CheckFault, CheckForm, CheckText, GrpcForm, HttpStatus};
use echelon_core::limits::{MAX_PACKAGES_PER_HOST, MAX_PRIORITY, MAX_WEIGHT};
use echelon_core::name::{HostName, ManagerType, NameError, NameProblem};
use echelon_core::package::{Listens, Role};
use std::collections::BTreeMap;
use std::num::NonZeroU16;

const PACKAGE_KEYS: &[&str] =
    &["type", "port", "endpoint", "priority", "weight", "state", "role", "version", "check"];
const CHECK_KEYS: &[&str] =
    &["tcp", "send", "expect", "http", "status", "host", "grpc", "interval", "timeout", "misses"];
const STATES: (&[&str], &[PackageState]) =
    (&["active", "withdrawn"], &[PackageState::Active, PackageState::Withdrawn]);
const ROLES: (&[&str], &[Role]) = (&["primary", "backup"], &[Role::Primary, Role::Backup]);
const CHECK: &str = "a table, as in check = { tcp = true, interval = \"2s\" }";
const GRPC: &str = "true for the whole server, or the name of a service, as in \"acme.Control\"";
const SHORT: &str = "a list of texts, as in packages = [\"audit:7001\"]";

/// A package and the byte where it stands.
pub(crate) type Placed = (usize, PackageEntry);

impl Reader<'_> {
    /// `["audit:7001", "inventory-only"]`.
    pub(crate) fn short_packages(&mut self, node: &Node<'_>) -> Vec<Placed> {
        self.each("packages", SHORT, node, Self::short_package)
    }

    fn short_package(&mut self, node: &Node<'_>) -> Option<Placed> {
        let text = self.problems.text("packages", node)?;
        let (ty, port) = match text.split_once(':') {
            Some((ty, port)) => (ty, Some(port)),
            None => (text, None),
        };
        let ty = self.problems.taken(node.at, ty.parse())?;
        let listens = match port.map(|port| (port, parse_port(port))) {
            None => Listens::Nowhere,
            Some((_, Some(port))) => Listens::Port(port),
            Some((_, None)) => {
                let error = NameError::new("package", text, NameProblem::Port);
                return self.problems.note(node.at, error);
            }
        };
        let spec = PackageSpec { listens, ..PackageSpec::default() };
        let written = Written { listens: spec.listens != Listens::Nowhere, ..Written::default() };
        Some((node.at, PackageEntry { ty, spec, state: None, role: None, written }))
    }

    /// `[[host.package]]`.
    pub(crate) fn package(&mut self, node: &Node<'_>) -> Option<Placed> {
        let entries = self.problems.table("package", node, "a table with a type")?;
        self.problems.require(node.at, entries, ("package", "type", "\"command-control\""));
        let (mut ty, mut port, mut endpoint) = (None, None, None);
        let (mut state, mut role, mut spec) = (None, None, PackageSpec::default());
        for entry in entries {
            let (node, problems) = (&entry.node, &mut self.problems);
            match &*entry.key {
                "type" => ty = problems.name::<ManagerType>("type", node),
                "port" => port = problems.number("port", node, (1, u16::MAX.into())),
                "endpoint" => endpoint = problems.name("endpoint", node),
                "state" => state = problems.word("state", node, STATES),
                "role" => role = problems.word("role", node, ROLES).map(|role| (node.at, role)),
                _ => self.spec_key(&mut spec, entry),
            }
        }
        let ty = ty?;
        if port.is_some() && endpoint.is_some() {
            return self.problems.note(node.at, Fault::PortAndEndpoint { ty });
        }
        let port = port.and_then(|p| u16::try_from(p).ok()).and_then(NonZeroU16::new);
        spec.listens = port.map(Listens::Port).or(endpoint.map(Listens::At)).unwrap_or_default();
        let listens = entries.iter().any(|e| matches!(&*e.key, "port" | "endpoint"));
        match role {
            Some((at, _)) if !listens => self.problems.note(at, Fault::RoleOfInventory { ty }),
            role => {
                let is_written = |key: &str| entries.iter().any(|e| e.key == key);
                let written = Written { listens, version: is_written("version"), check: is_written("check") };
                let role = role.map(|(_, role)| role);
                Some((node.at, PackageEntry { ty, spec, state, role, written }))
            }
        }
    }

    fn spec_key(&mut self, spec: &mut PackageSpec, entry: &Entry<'_>) {
        let (node, problems) = (&entry.node, &mut self.problems);
        match &*entry.key {
            "priority" => set(&mut spec.priority, problems.number("priority", node, (0, MAX_PRIORITY))),
            "weight" => set(&mut spec.weight, problems.number("weight", node, (0, MAX_WEIGHT))),
            "version" => spec.version = problems.name("version", node),
            "check" => set(&mut spec.check, self.check(node)),
            _ => problems.unknown_key(entry, "package", PACKAGE_KEYS),
        }
    }

    /// A check, as a file or a host states it.
    pub(crate) fn check(&mut self, node: &Node<'_>) -> Option<Check> {
        let entries = self.problems.table("check", node, CHECK)?;
        let mut form = CheckForm::default();
        let before = self.problems.count();
        for entry in entries {
            self.check_key(&mut form, entry);
        }
        // What is wrong with a key may look like a fault of the whole.
        if self.problems.count() > before {
            return None;
        }
        form.check().map_err(|fault| self.check_fault(node, entries, fault)).ok()
    }

    fn check_key(&mut self, form: &mut CheckForm, entry: &Entry<'_>) {
        let (node, problems) = (&entry.node, &mut self.problems);
        let ranges = Check::default();
        match &*entry.key {
            "tcp" => form.tcp = problems.flag("tcp", node),
            "send" => form.send = self.check_text("send", node),
            "expect" => form.expect = self.check_text("expect", node),
            "http" => form.http = problems.name("http", node),
            "status" => {
                let status = problems.number("status", node, HttpStatus::RANGE);
                form.status = status.and_then(|s| s.try_into().ok());
            }
            "host" => form.host = problems.name("host", node),
            "grpc" => form.grpc = self.grpc(node),
            "interval" => {
                let check = |interval| Check { interval, ..ranges }.validate();
                form.interval = problems.duration("interval", node, check);
            }
            "timeout" => {
                let check = |timeout| Check { timeout, ..ranges }.validate();
                form.timeout = problems.duration("timeout", node, check);
            }
            "misses" => form.misses = problems.number("misses", node, (1, 10)),
            _ => problems.unknown_key(entry, "check", CHECK_KEYS),
        }
    }

    fn grpc(&mut self, node: &Node<'_>) -> Option<GrpcForm> {
        match &node.value {
            Value::Flag(flag) => Some(GrpcForm::Server(*flag)),
            Value::Text(_) => self.problems.name("grpc", node).map(GrpcForm::Service),
            _ => self.problems.wrong_type("grpc", node, GRPC),
        }
    }

    fn check_fault(&mut self, node: &Node<'_>, entries: &[Entry<'_>], fault: CheckFault) {
        let entry = fault.key().and_then(|key| entries.iter().find(|e| e.key == key));
        let at = entry.map_or(node.at, |e| e.node.at);
        let _: Option<()> = self.problems.note(at, fault);
    }

    fn check_text(&mut self, key: &'static str, node: &Node<'_>) -> Option<CheckText> {
        let text = self.problems.text(key, node)?;
        self.problems.taken(node.at, CheckText::try_from(text.to_owned()))
    }

    /// Refuses what packages of one host may not be together, and second primaries.
    pub(crate) fn packages_of(
        &mut self,
        host: &HostName,
        at: usize,
        packages: Vec<Placed>,
    ) -> Vec<PackageEntry> {
        let count = packages.len();
        if count > MAX_PACKAGES_PER_HOST {
            let fault =
                Fault::TooManyPackages { host: host.clone(), packages: count, most: MAX_PACKAGES_PER_HOST };
            let _: Option<()> = self.problems.note(at, fault);
        }
        let mut types = BTreeMap::new();
        let taken = packages.into_iter().filter_map(|(at, package)| {
            if let Some(earlier) = first_at(&mut types, package.ty.clone(), at) {
                let what = format!("package {} of host {host}", package.ty);
                return self.problems.duplicate(at, what, earlier);
            }
            self.check_primary(host, at, &package);
            Some(package)
        });
        taken.collect()
    }

    fn check_primary(&mut self, host: &HostName, at: usize, package: &PackageEntry) {
        if package.role != Some(Role::Primary) {
            return;
        }
        if let Some(earlier) = first_at(&mut self.primaries, package.ty.clone(), at) {
            let (host, ty) = (host.clone(), package.ty.clone());
            let line = self.problems.line(earlier);
            let _: Option<()> = self.problems.note(at, Fault::SecondPrimary { host, ty, line });
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A port in decimal digits, which `u16`'s own parser would let a `+` precede.
fn parse_port(text: &str) -> Option<NonZeroU16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
