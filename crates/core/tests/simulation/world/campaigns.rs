//! Faults and acts of admins in several steps, each at a moment when it matters to the one before.

use super::{Event, World};

impl World {
    /// The primary is gone, in one way or another, and an admin promotes somebody else.
    pub(crate) fn replace(&mut self, primary: usize) {
        match self.random.between(0, 4) {
            0 => self.crash_for_a_while(primary),
            1 => self.pause(primary),
            _ => self.isolate(primary),
        }
        let others = self.standbys();
        let Some(at) = self.random.pick(&others) else { return };
        let lossy = self.random.chance(400);
        self.schedule_between(10_000, 5_000_000, Event::Force { at, lossy });
        if self.random.chance(300) {
            let other = self.random.pick(&others).unwrap_or(at);
            self.schedule_between(10_000, 5_000_000, Event::Force { at: other, lossy });
        }
        self.schedule_between(1_000_000, 12_000_000, Event::Mend);
    }

    /// A standby that does not see that the primary lives is promoted. Others, that see both, are left to the one
    /// and lost to the other, and perhaps one of them is promoted, too, as if the first promotion were dead.
    pub(crate) fn contend(&mut self, primary: usize) {
        let (first, second) = self.two_standbys();
        let Some(first) = first else { return };
        self.cut(first, primary, true);
        self.schedule_between(10_000, 400_000, Event::Force { at: first, lossy: false });
        if self.random.chance(300) {
            // The command seems to have come to nothing, and is repeated.
            self.schedule_between(400_000, 3_000_000, Event::Force { at: first, lossy: false });
        }
        if let Some(second) = second {
            self.schedule_between(400_000, 1_500_000, Event::Cut { a: first, b: second });
            if self.random.chance(600) {
                self.cut(second, primary, true);
                self.schedule_between(1_000_000, 4_000_000, Event::Force { at: second, lossy: false });
                self.schedule_between(2_000_000, 7_000_000, Event::Reach { a: second, b: primary });
            }
        }
        self.schedule_between(4_000_000, 12_000_000, Event::Mend);
    }

    /// The primary is dead; so is the one that was promoted, as soon as it has been, and another one is.
    pub(crate) fn relay(&mut self, primary: usize) {
        let (Some(first), Some(second)) = self.two_standbys() else { return };
        // The second one lacks something, perhaps.
        self.cut(primary, second, false);
        self.schedule_between(10_000, 600_000, Event::Crash { at: primary });
        self.schedule_between(700_000, 900_000, Event::Force { at: first, lossy: false });
        self.schedule_between(1_000_000, 4_000_000, Event::Crash { at: first });
        self.schedule_between(2_000_000, 5_000_000, Event::Force { at: second, lossy: false });
        self.schedule_between(5_000_000, 10_000_000, Event::Mend);
    }

    /// The primary hands over; whoever does not hear of it is promoted.
    pub(crate) fn hand_over_unheard(&mut self, primary: usize) {
        let Some(unheard) = self.unheard() else { return };
        self.hand_over_to_any(primary);
        self.schedule_between(400_000, 2_000_000, Event::Force { at: unheard, lossy: false });
        self.schedule_between(4_000_000, 10_000_000, Event::Mend);
    }

    /// Who counts is changed, and perhaps the primary begins anew at once, while one that counts hears nothing of it
    /// and is promoted.
    pub(crate) fn change_unheard(&mut self, primary: usize) {
        let Some(unheard) = self.unheard() else { return };
        match self.random.chance(500) {
            true => self.change_min_sync(primary),
            false => self.remove_this(primary, unheard),
        }
        if self.random.chance(600) {
            self.hand_over(primary, primary);
        }
        self.schedule_between(400_000, 2_000_000, Event::Force { at: unheard, lossy: false });
        self.schedule_between(4_000_000, 10_000_000, Event::Mend);
    }

    /// Two managers are promoted by force, neither knowing of the other.
    pub(crate) fn tear(&mut self) {
        let (Some(first), Some(second)) = self.two_standbys() else { return };
        for at in [first, second] {
            self.isolate(at);
            self.schedule_between(10_000, 1_000_000, Event::Force { at, lossy: true });
        }
        self.schedule_between(4_000_000, 8_000_000, Event::Mend);
    }

    /// A standby that no other manager reaches from now on.
    fn unheard(&mut self) -> Option<usize> {
        let standbys = self.standbys();
        let unheard = self.random.pick(&standbys)?;
        self.isolate(unheard);
        Some(unheard)
    }

    fn standbys(&self) -> Vec<usize> {
        self.those(|n| n.is_awake() && !n.is_leading())
    }

    fn two_standbys(&mut self) -> (Option<usize>, Option<usize>) {
        let standbys = self.standbys();
        let first = self.random.pick(&standbys);
        let others: Vec<_> = standbys.into_iter().filter(|n| Some(*n) != first).collect();
        (first, self.random.pick(&others))
    }
}
