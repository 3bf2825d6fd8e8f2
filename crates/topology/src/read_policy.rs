//! Policies.

use crate::document::{Entry, Node, Value};
use crate::fault::Fault;
use crate::read::{Reader, first_at};
use crate::topology::PolicyEntry;
use echelon_core::check::Check;
use echelon_core::name::DomainPath;
use echelon_core::policy::{Failback, PolicySettings, Probe, TypeSelector, Walk};
use std::time::Duration;

const POLICY_KEYS: &[&str] = &[
    "domain",
    "type",
    "walk",
    "boundary",
    "failback",
    "failback_hold",
    "failback_jitter",
    "connect_hedge",
    "connect_timeout",
    "drain_timeout",
    "evidence_ttl",
    "probe",
];
const WALKS: (&[&str], &[Walk]) = (&["chain", "subtree", "hops"], &[Walk::Chain, Walk::Subtree, Walk::Hops]);
const FAILBACKS: (&[&str], &[Failback]) =
    (&["auto", "dormant", "off"], &[Failback::Auto, Failback::Dormant, Failback::Off]);

/// The words for probes, and whether they are a check.
const PROBES: (&[&str], &[bool]) = (&["off", "tcp"], &[false, true]);

impl Reader<'_> {
    /// `[[policy]]`.
    pub(crate) fn policy(&mut self, node: &Node<'_>) -> Option<PolicyEntry> {
        let entries = self.problems.table("policy", node, "a table")?;
        let (mut domain, mut ty) = (Some(DomainPath::root()), Some(TypeSelector::All));
        let mut settings = PolicySettings::default();
        for entry in entries {
            match &*entry.key {
                "domain" => domain = self.problems.name("domain", &entry.node),
                "type" => ty = self.problems.name("type", &entry.node),
                _ => settings = self.setting(entry).over(&settings),
            }
        }
        let (domain, ty) = (domain?, ty?);
        if entries.iter().all(|e| matches!(&*e.key, "domain" | "type")) {
            return self.problems.note(node.at, Fault::EmptyPolicy);
        }
        match first_at(&mut self.policies, (domain.clone(), ty.clone()), node.at) {
            None => Some(PolicyEntry { domain, ty, settings }),
            Some(earlier) => {
                self.problems.duplicate(node.at, format!("policy of {domain} for {ty}"), earlier)
            }
        }
    }

    /// One setting, alone; none where the entry is none.
    fn setting(&mut self, entry: &Entry<'_>) -> PolicySettings {
        let (node, problems) = (&entry.node, &mut self.problems);
        let mut one = PolicySettings::default();
        match &*entry.key {
            "walk" => one.walk = problems.word("walk", node, WALKS),
            "boundary" => one.boundary = problems.flag("boundary", node),
            "failback" => one.failback = problems.word("failback", node, FAILBACKS),
            "failback_hold" => one = self.time("failback_hold", node, |s| &mut s.failback_hold),
            "failback_jitter" => one = self.time("failback_jitter", node, |s| &mut s.failback_jitter),
            "connect_hedge" => one = self.time("connect_hedge", node, |s| &mut s.connect_hedge),
            "connect_timeout" => one = self.time("connect_timeout", node, |s| &mut s.connect_timeout),
            "drain_timeout" => one = self.time("drain_timeout", node, |s| &mut s.drain_timeout),
            "evidence_ttl" => one = self.time("evidence_ttl", node, |s| &mut s.evidence_ttl),
            "probe" => one.probe = self.probe(node),
            _ => problems.unknown_key(entry, "policy", POLICY_KEYS),
        }
        one
    }

    /// `"off"`, `"tcp"`, or a check as that of a package.
    fn probe(&mut self, node: &Node<'_>) -> Option<Probe> {
        match &node.value {
            Value::Text(_) => self.problems.word("probe", node, PROBES).map(|check| match check {
                true => Probe::By(Check::default()),
                false => Probe::Off,
            }),
            _ => self.check(node).map(Probe::By),
        }
    }

    /// One duration, alone, so that the core can say whether it is within the range of this setting.
    fn time(
        &mut self,
        key: &'static str,
        node: &Node<'_>,
        field: fn(&mut PolicySettings) -> &mut Option<Duration>,
    ) -> PolicySettings {
        let alone = |value| {
            let mut one = PolicySettings::default();
            *field(&mut one) = value;
            one
        };
        alone(self.problems.duration(key, node, |d| alone(Some(d)).validate()))
    }
}
