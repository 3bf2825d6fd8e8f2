//! How many managers serve, now and ten minutes ago: what an edit is held against that would leave few.
//!
//! Counted are managers that neither the operator nor their host has withdrawn, on hosts that are not drained;
//! those of type `registry`, which come and go with the registry managers themselves, are not.

use crate::limits::SHRINK_WINDOW;
use crate::name::ManagerType;
use crate::refusal::Refusal;
use crate::time::UnixMillis;
use rpds::RedBlackTreeMapSync;

/// Milliseconds in one step of the memory of the last minutes, so that it has some hundred entries at most,
/// however fast edits come.
const STEP: u64 = 1_000;

/// How many managers serve, and how many did.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// By type; none that is 0.
    of: RedBlackTreeMapSync<ManagerType, u64>,
    total: u64,
    /// By step of time, how many served before the first commit in it.
    past: RedBlackTreeMapSync<u64, u64>,
}

impl Serving {
    /// How many serve.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many of a type serve.
    pub fn of(&self, ty: &ManagerType) -> u64 {
        self.of.get(ty).copied().unwrap_or(0)
    }

    /// How many served ten minutes before `now`: as many as before the first commit since then.
    pub fn ten_minutes_before(&self, now: UnixMillis) -> u64 {
        self.past.range(step(now - SHRINK_WINDOW) + 1..).next().map_or(self.total, |(_, served)| *served)
    }

    /// Why an edit that leads to `next` is refused, unless its sender says that it is meant: it takes the last
    /// serving manager of a type, or takes some and leaves less than half of those of ten minutes ago.
    pub fn check_shrink(&self, next: &Self, now: UnixMillis) -> Result<(), Refusal> {
        let gone: Vec<_> = self.of.keys().filter(|ty| next.of(ty) == 0).cloned().collect();
        if !gone.is_empty() {
            return Err(Refusal::LastManager { types: gone });
        }
        let before = self.ten_minutes_before(now);
        match next.total < self.total && next.total.saturating_mul(2) < before {
            true => Err(Refusal::TooFewManagers { left: next.total, before }),
            false => Ok(()),
        }
    }

    pub(crate) fn add(&mut self, ty: &ManagerType) {
        self.of.insert_mut(ty.clone(), self.of(ty) + 1);
        self.total += 1;
    }

    pub(crate) fn take(&mut self, ty: &ManagerType) {
        match self.of(ty) {
            0 | 1 => self.of.remove_mut(ty),
            more => {
                self.of.insert_mut(ty.clone(), more - 1);
                true
            }
        };
        self.total = self.total.saturating_sub(1);
    }

    /// Remembers that `served` managers served before a commit at `at`, and forgets what is too old to matter.
    pub(crate) fn note(&mut self, at: UnixMillis, served: u64) {
        if self.past.get(&step(at)).is_none() {
            self.past.insert_mut(step(at), served);
        }
        let oldest = step(at - SHRINK_WINDOW);
        while let Some(old) = self.past.keys().next().copied().filter(|old| *old <= oldest) {
            self.past.remove_mut(&old);
        }
    }
}

fn step(at: UnixMillis) -> u64 {
    at.0 / STEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: UnixMillis = UnixMillis(1_780_000_000_000);

    fn serving(of: &[(&str, u64)]) -> Serving {
        let mut serving = Serving::default();
        for (ty, count) in of {
            (0..*count).for_each(|_| serving.add(&ty.parse().unwrap()));
        }
        serving
    }

    fn after(secs: u64) -> UnixMillis {
        START + Duration::from_secs(secs)
    }

    #[test]
    fn ten_minutes_ago_is_what_was_before_the_first_commit_since() {
        let mut s = serving(&[("a", 7)]);
        assert_eq!(s.ten_minutes_before(START), 7, "nothing has changed since");
        for (at, served) in [(0, 1), (300, 4), (301, 9), (599, 6)] {
            s.note(after(at), served);
        }
        for (now, expected) in [(599, 1), (600, 4), (900, 9), (901, 6), (1199, 7), (100_000, 7)] {
            assert_eq!(s.ten_minutes_before(after(now)), expected, "{now} s");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_however_fast_edits_come() {
        let mut s = Serving::default();
        for n in 0..100_000 {
            s.note(START + Duration::from_millis(n * 50), n);
        }
        let steps = SHRINK_WINDOW.as_millis() as u64 / STEP;
        assert!(s.past.size() as u64 <= steps + 1, "{}", s.past.size());
        assert_eq!(
            s.ten_minutes_before(START + Duration::from_millis(99_999 * 50)) % 20,
            0,
            "a step's first"
        );
    }

    #[test]
    fn the_last_of_a_type_and_less_than_half_are_refused_and_growth_never_is() {
        let then = |ago: u64, now: &[(&str, u64)]| {
            let mut s = serving(now);
            s.note(START, ago);
            s
        };
        let check = |s: &Serving, next: &[(&str, u64)]| s.check_shrink(&serving(next), after(1));
        let s = then(10, &[("a", 8), ("b", 2)]);
        assert_eq!(check(&s, &[("a", 4), ("b", 1)]), Ok(()), "half");
        let few = Refusal::TooFewManagers { left: 4, before: 10 };
        assert_eq!(check(&s, &[("a", 3), ("b", 1)]), Err(few), "less than half");
        let last = |ty: &str| Refusal::LastManager { types: vec![ty.parse().unwrap()] };
        assert_eq!(check(&s, &[("a", 8)]), Err(last("b")));
        let low = then(10, &[("a", 3), ("b", 1)]);
        assert_eq!(check(&low, &[("a", 3), ("b", 1)]), Ok(()), "an edit that takes none");
        assert_eq!(check(&low, &[("a", 3), ("b", 1), ("c", 1)]), Ok(()), "one that adds");
        let risen = then(2, &[("a", 8)]);
        assert_eq!(check(&risen, &[("a", 1)]), Ok(()), "there were no more ten minutes ago");
    }
}
