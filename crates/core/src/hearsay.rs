//! What is reported of managers, by registry managers and by this host's own checks.

use crate::id::HostId;
use crate::message::{Health, LivenessEntry};
use crate::name::ManagerType;
use crate::replication::MAX_SNAPSHOT_ROWS;
use std::collections::{BTreeMap, BTreeSet};

/// The newest report of every host.
#[derive(Debug, Default)]
pub(crate) struct Hearsay {
    heard: BTreeMap<HostId, LivenessEntry>,
    /// This host's own packages, once its checks have said something.
    own: Option<BTreeMap<ManagerType, Health>>,
}

impl Hearsay {
    /// What is reported of a package: whether its host's agent is silent, and its health. `here` is the host
    /// that asks, for whose own packages its own checks speak.
    pub(crate) fn of(&self, here: HostId, host: HostId, ty: &ManagerType) -> Option<(bool, Health)> {
        let health = |packages: &BTreeMap<_, _>| packages.get(ty).cloned().unwrap_or(Health::Unchecked);
        match host == here {
            true => self.own.as_ref().map(|own| (false, health(own))),
            false => self.heard.get(&host).map(|e| (e.silent, health(&e.packages))),
        }
    }

    /// Takes in what this host's own checks say.
    pub(crate) fn hear_own(&mut self, packages: BTreeMap<ManagerType, Health>) {
        self.own = Some(packages);
    }

    /// Takes in a report and says of which hosts it told something.
    ///
    /// The newest report of an agent wins. What a complete one does not name stays as last known, but for
    /// its silence: only the manager that had an agent's last session judges that, and a complete report is
    /// of a session that has just begun.
    pub(crate) fn hear(&mut self, complete: bool, entries: Vec<LivenessEntry>) -> BTreeSet<HostId> {
        let mut told = BTreeSet::new();
        if complete {
            let named: BTreeSet<_> = entries.iter().map(|e| e.host).collect();
            for (host, entry) in self.heard.iter_mut().filter(|(host, e)| e.silent && !named.contains(host)) {
                entry.silent = false;
                told.insert(*host);
            }
        }
        for entry in entries {
            told.extend(self.hear_of(entry));
        }
        told
    }

    fn hear_of(&mut self, entry: LivenessEntry) -> Option<HostId> {
        let number = |e: &LivenessEntry| (e.incarnation, e.sequence);
        let (host, full) = (entry.host, self.heard.len() >= MAX_SNAPSHOT_ROWS);
        match self.heard.get_mut(&host) {
            // Never heard by that manager: it can speak of silence only.
            Some(known) if entry.incarnation == 0 => known.silent = entry.silent,
            Some(known) if number(known) > number(&entry) => return None,
            Some(known) => *known = entry,
            None if full => return None,
            None => {
                self.heard.insert(host, entry);
            }
        }
        Some(host)
    }

    /// Forgets these hosts.
    pub(crate) fn forget(&mut self, hosts: impl IntoIterator<Item = HostId>) {
        for host in hosts {
            self.heard.remove(&host);
        }
    }
}
