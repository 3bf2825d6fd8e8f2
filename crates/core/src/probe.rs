//! When a candidate is probed in the background.

use crate::id::HostId;
use crate::name::HostName;
use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time from a failure to the first probe.
const FIRST: Duration = Duration::from_secs(1);

/// Longest time between two probes.
const LONGEST: Duration = Duration::from_secs(30);

/// The probes of one host for one type.
#[derive(Clone, Debug, Default)]
pub struct Probes(BTreeMap<HostId, Probe>);

#[derive(Clone, Copy, Debug)]
struct Probe {
    at: Monotonic,
    made: u32,
    from: Option<Monotonic>,
}

/// A candidate that is to be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The manager's host.
    pub host: HostId,
    /// When the first probe is to start, where that does not follow from a failure.
    pub from: Option<Monotonic>,
}

impl Probes {
    /// Keeps probes for exactly the `wanted` candidates and says which of them are to be probed now. The
    /// time between two probes doubles from 1 s to 30 s and is jittered by up to a quarter either way,
    /// differently for each host.
    pub fn due(&mut self, now: Monotonic, host: &HostName, wanted: &[Wanted]) -> Vec<HostId> {
        let mut before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for Wanted { host: id, from } in wanted {
            let first = || from.unwrap_or_else(|| now + jittered(FIRST, host, *id, 0));
            let known = before.remove(id).filter(|p| p.from == *from);
            let mut probe = known.unwrap_or_else(|| Probe { at: first(), made: 0, from: *from });
            if probe.at <= now {
                probe.made = probe.made.saturating_add(1);
                let wait = FIRST.saturating_mul(1 << probe.made.min(5)).min(LONGEST);
                probe.at = now + jittered(wait, host, *id, probe.made);
                due.push(*id);
            }
            self.0.insert(*id, probe);
        }
        due
    }

    /// When the next probe is to start.
    pub fn next(&self) -> Option<Monotonic> {
        self.0.values().map(|p| p.at).min()
    }

    /// When this candidate is probed next.
    pub fn at(&self, host: HostId) -> Option<Monotonic> {
        self.0.get(&host).map(|p| p.at)
    }

    /// Forgets a candidate: if it is wanted still, it begins anew.
    pub fn forget(&mut self, host: HostId) {
        self.0.remove(&host);
    }

    /// Probes a candidate at once and starts its doubling anew.
    pub fn hurry(&mut self, host: HostId, now: Monotonic) {
        self.0.insert(host, Probe { at: now, made: 0, from: None });
    }
}

fn jittered(wait: Duration, host: &HostName, candidate: HostId, made: u32) -> Duration {
    let mut hasher = blake3::Hasher::new();
    hasher.update(host.as_str().as_bytes()).update(candidate.0.as_bytes()).update(&made.to_le_bytes());
    let byte = hasher.finalize().as_bytes()[0];
    wait.mul_f64(0.75 + f64::from(byte) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_back_off_to_half_a_minute_and_stop_when_nobody_wants_them() {
        let (host, id) = ("h".parse().unwrap(), HostId(uuid::Uuid::from_u128(1)));
        let (mut probes, mut now, mut gaps) = (Probes::default(), Monotonic(0), Vec::new());
        let wanted = [Wanted { host: id, from: None }];
        assert_eq!(probes.due(now, &host, &wanted), []);
        for _ in 0..10 {
            let next = probes.next().unwrap();
            gaps.push(next.since(now).as_secs_f64());
            now = next;
            assert_eq!(probes.due(now, &host, &wanted), [id]);
            assert_eq!(probes.due(now, &host, &wanted), []);
        }
        assert!((0.75..=1.25).contains(&gaps[0]), "{gaps:?}");
        assert!(gaps[6..].iter().all(|g| (22.0..=38.0).contains(g)), "{gaps:?}");
        probes.hurry(id, now);
        assert_eq!(probes.due(now, &host, &wanted), [id]);
        assert_eq!(probes.due(now, &host, &[]), []);
        assert_eq!(probes.next(), None);
    }

    #[test]
    fn a_time_to_begin_at_counts_until_another_one_is_given() {
        let (host, id) = ("h".parse().unwrap(), HostId(uuid::Uuid::from_u128(1)));
        let mut probes = Probes::default();
        let mut due = |now, from| probes.due(Monotonic(now), &host, &[Wanted { host: id, from }]);
        let from = |at| Some(Monotonic(at));
        assert_eq!(due(0, from(100)), []);
        assert_eq!(due(100, from(100)), [id]);
        assert_eq!(due(101, from(100)), [], "the next one follows from the first");
        assert_eq!(due(200, from(200)), [id]);
        assert_eq!(due(201, None), []);
    }
}
