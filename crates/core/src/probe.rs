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
    pace: Pace,
    /// How many in a row got no answer.
    misses: u32,
}

/// How often a candidate is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After 1 s, then ever more seldom, up to 30 s.
    BackingOff,
    /// The same, but first at this time.
    From(Monotonic),
    /// At this interval.
    Every(Duration),
}

/// A candidate that is to be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The manager's host.
    pub host: HostId,
    /// How often.
    pub pace: Pace,
}

impl Probes {
    /// Keeps probes for exactly the `wanted` candidates and says which of them are to be probed now. Times are
    /// jittered by up to a quarter either way, differently for each host, so that a thousand users of one manager
    /// do not ask it at once. Those of a host that is cut off are as `slow` as they get at once.
    pub fn due(&mut self, now: Monotonic, host: &HostName, wanted: &[Wanted], slow: bool) -> Vec<HostId> {
        let mut before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for Wanted { host: id, pace } in wanted {
            let known = before.remove(id);
            let anew = || Probe::begin(now, host, *id, *pace);
            let mut probe = match known {
                Some(probe) if probe.pace == *pace => probe,
                // One that was hurried is, whatever its pace from now on.
                Some(probe) if !matches!(pace, Pace::From(_)) => anew().no_later_than(probe.at),
                _ => anew(),
            };
            if probe.at <= now {
                probe.made = probe.made.saturating_add(1);
                let wait = if slow { LONGEST.max(probe.wait()) } else { probe.wait() };
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

    /// Begins anew with all candidates: each is probed within about a second, or at its interval where that is longer.
    pub fn restart(&mut self, now: Monotonic, host: &HostName) {
        for (id, probe) in &mut self.0 {
            let anew = Probe::begin(now, host, *id, probe.pace);
            *probe = Probe { made: 0, ..probe.no_later_than(anew.at) };
        }
    }

    /// Probes a candidate within this time at the latest, and starts its doubling anew. When exactly is different for
    /// each `host`, as everybody may have the same reason to hurry.
    pub fn hurry(&mut self, candidate: HostId, now: Monotonic, host: &HostName, within: Duration) {
        let at = now + within.mul_f64(share(host, candidate, 0));
        let at = self.at(candidate).map_or(at, |before| before.min(at));
        self.0.insert(candidate, Probe { at, made: 0, pace: Pace::BackingOff, misses: 0 });
    }

    /// Takes in that a probe got no answer. Says whether that is one miss among as many as are `allowed`, which proves
    /// nothing yet; then the candidate is probed again at `again`.
    pub fn missed(&mut self, host: HostId, allowed: u32, again: Monotonic) -> bool {
        let Some(probe) = self.0.get_mut(&host) else { return false };
        probe.misses = probe.misses.saturating_add(1);
        let mere = probe.misses < allowed;
        if mere {
            probe.at = again;
        }
        mere
    }

    /// Takes in that a probe was answered.
    pub fn answered(&mut self, host: HostId) {
        if let Some(probe) = self.0.get_mut(&host) {
            probe.misses = 0;
        }
    }
}

impl Probe {
    fn begin(now: Monotonic, host: &HostName, candidate: HostId, pace: Pace) -> Self {
        let at = match pace {
            Pace::BackingOff => now + jittered(FIRST, host, candidate, 0),
            Pace::From(at) => at,
            Pace::Every(interval) => now + jittered(interval, host, candidate, 0),
        };
        Self { at, made: 0, pace, misses: 0 }
    }

    fn no_later_than(self, at: Monotonic) -> Self {
        Self { at: self.at.min(at), ..self }
    }

    /// Time to the next probe, jitter apart.
    fn wait(&self) -> Duration {
        match self.pace {
            Pace::Every(interval) => interval,
            Pace::BackingOff | Pace::From(_) => FIRST.saturating_mul(1 << self.made.min(5)).min(LONGEST),
        }
    }
}

fn jittered(wait: Duration, host: &HostName, candidate: HostId, made: u32) -> Duration {
    wait.mul_f64(0.75 + share(host, candidate, made) / 2.0)
}

/// The part of a time that a host waits before the probe of this number, in `[0, 1)`.
fn share(host: &HostName, candidate: HostId, made: u32) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(host.as_str().as_bytes()).update(candidate.0.as_bytes()).update(&made.to_le_bytes());
    f64::from(hasher.finalize().as_bytes()[0]) / 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_back_off_to_half_a_minute_and_stop_when_nobody_wants_them() {
        let (host, id) = ("h".parse().unwrap(), HostId(uuid::Uuid::from_u128(1)));
        let (mut probes, mut now, mut gaps) = (Probes::default(), Monotonic(0), Vec::new());
        let wanted = [Wanted { host: id, pace: Pace::BackingOff }];
        assert_eq!(probes.due(now, &host, &wanted, false), []);
        for _ in 0..10 {
            let next = probes.next().unwrap();
            gaps.push(next.since(now).as_secs_f64());
            now = next;
            assert_eq!(probes.due(now, &host, &wanted, false), [id]);
            assert_eq!(probes.due(now, &host, &wanted, false), []);
        }
        assert!((0.75..=1.25).contains(&gaps[0]), "{gaps:?}");
        assert!(gaps[6..].iter().all(|g| (22.0..=38.0).contains(g)), "{gaps:?}");
        probes.hurry(id, now, &host, Duration::ZERO);
        assert_eq!(probes.due(now, &host, &wanted, false), [id]);
        assert_eq!(probes.due(now, &host, &[], false), []);
        assert_eq!(probes.next(), None);
    }

    #[test]
    fn hosts_that_hurry_for_the_same_reason_do_not_probe_in_the_same_instant() {
        let id = HostId(uuid::Uuid::from_u128(1));
        let second = Duration::from_secs(1);
        let mut eighths = [0; 8];
        for n in 0..800 {
            let mut probes = Probes::default();
            probes.hurry(id, Monotonic(0), &format!("h{n}").parse().unwrap(), second);
            let at = probes.next().unwrap();
            assert!(at < Monotonic(0) + second);
            eighths[(at.since(Monotonic(0)).as_secs_f64() * 8.0) as usize] += 1;
            probes.hurry(id, at, &"another".parse().unwrap(), second);
            assert_eq!(probes.next(), Some(at), "not later than it was to be already");
        }
        assert!(eighths.iter().all(|n| (50..150).contains(n)), "{eighths:?}");
    }

    #[test]
    fn a_time_to_begin_at_counts_until_another_one_is_given() {
        let (host, id) = ("h".parse().unwrap(), HostId(uuid::Uuid::from_u128(1)));
        let mut probes = Probes::default();
        let mut due = |now, pace| probes.due(Monotonic(now), &host, &[Wanted { host: id, pace }], false);
        let from = |at| Pace::From(Monotonic(at));
        assert_eq!(due(0, from(100)), []);
        assert_eq!(due(100, from(100)), [id]);
        assert_eq!(due(101, from(100)), [], "the next one follows from the first");
        assert_eq!(due(200, from(200)), [id]);
        assert_eq!(due(201, Pace::BackingOff), []);
    }

    #[test]
    fn what_is_in_use_is_probed_at_its_interval_and_a_miss_is_looked_into_at_once() {
        let (host, id) = ("h".parse().unwrap(), HostId(uuid::Uuid::from_u128(1)));
        let wanted = [Wanted { host: id, pace: Pace::Every(Duration::from_secs(1)) }];
        let (mut probes, mut now) = (Probes::default(), Monotonic(0));
        assert_eq!(probes.due(now, &host, &wanted, false), []);
        for _ in 0..20 {
            let next = probes.next().unwrap();
            assert!((0.75..=1.25).contains(&next.since(now).as_secs_f64()), "{next:?} after {now:?}");
            now = next;
            assert_eq!(probes.due(now, &host, &wanted, false), [id]);
        }
        assert!(probes.missed(id, 2, now) && probes.due(now, &host, &wanted, false) == [id]);
        probes.answered(id);
        assert!(probes.missed(id, 2, now), "an answer makes up for a miss");
        assert!(!probes.missed(id, 2, now) && !probes.missed(id, 2, now), "two in a row are enough");
        assert!(probes.next().unwrap() <= now, "the second look is still due");
        assert!(!probes.missed(HostId(uuid::Uuid::from_u128(2)), 2, now), "of what is not probed all counts");
    }
}
