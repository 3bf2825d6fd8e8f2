//! What goes wrong, and what an admin does meanwhile.

use super::disk::Disk;
use super::{Event, World};

impl World {
    pub(crate) fn fault(&mut self) {
        self.schedule_between(self.profile.pace / 4, self.profile.pace * 2, Event::Fault);
        let at = self.random.below(self.nodes.len());
        let leading = self.those(|n| n.is_awake() && n.is_leading());
        let primary = self.random.pick(&leading).unwrap_or(at);
        match self.random.between(0, 100) {
            0..8 => self.crash_for_a_while(at),
            8..16 => self.crash_for_a_while(primary),
            16..22 => self.cut_any(at),
            22..28 => self.isolate(at),
            28..34 => self.isolate(primary),
            34..46 => self.network.heal(),
            46..50 => self.pause(at),
            50..55 => self.pause(primary),
            55..64 => self.hand_over(primary),
            64..70 => self.force(at),
            70..84 => self.replace(primary),
            84..88 => self.change_min_sync(primary),
            88..90 => self.remove_now_and_then(primary),
            90..94 => self.choose_any(),
            94..97 if self.profile.damage => self.roll_back(at),
            97..99 if self.profile.damage => self.lose(at),
            _ => {}
        }
    }

    fn crash_for_a_while(&mut self, at: usize) {
        self.crash(at);
        self.schedule_between(10_000, 8_000_000, Event::Start { at });
    }

    fn cut_any(&mut self, at: usize) {
        let peer = self.random.below(self.nodes.len());
        let both = self.random.chance(500);
        if peer != at {
            self.note(|| format!("{at} no longer reaches {peer}, both ways: {both}"));
            self.cut(at, peer, both);
        }
    }

    fn pause(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_awake() {
            return;
        }
        node.paused = Some(vec![]);
        let incarnation = node.incarnation;
        self.note(|| format!("{at} is paused"));
        self.schedule_between(100_000, 8_000_000, Event::Resume { at, incarnation });
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            if self.random.chance(300) {
                self.schedule_between(1_000_000, 6_000_000, Event::Silence { at: peer, peer: at });
            }
        }
    }

    /// The primary is gone, in one way or another, and an admin promotes somebody else.
    fn replace(&mut self, primary: usize) {
        match self.random.between(0, 4) {
            0 => self.crash_for_a_while(primary),
            1 => self.pause(primary),
            _ => self.isolate(primary),
        }
        let others = self.those(|n| n.is_awake() && !n.is_leading());
        let Some(at) = self.random.pick(&others) else { return };
        self.schedule_between(10_000, 5_000_000, Event::Force { at });
        if self.random.chance(300) {
            let other = self.random.pick(&others).unwrap_or(at);
            self.schedule_between(10_000, 5_000_000, Event::Force { at: other });
        }
        self.schedule_between(1_000_000, 12_000_000, Event::Mend);
    }

    fn remove_now_and_then(&mut self, primary: usize) {
        if self.nodes[primary].is_leading() {
            self.remove(primary);
        }
    }

    fn choose_any(&mut self) {
        let torn =
            self.those(|n| n.is_leading() && n.member.as_ref().is_some_and(|m| !m.rivals().is_empty()));
        if let Some(at) = self.random.pick(&torn) {
            self.choose(at);
        }
    }

    /// The disk is an older one than it was.
    fn roll_back(&mut self, at: usize) {
        let older = &self.nodes[at].older;
        if self.nodes[at].gone || older.is_empty() {
            return;
        }
        let older = older[self.random.below(older.len())].clone();
        self.crash(at);
        self.note(|| format!("{at} has the disk of {}", older.last().position));
        self.damaged();
        self.nodes[at].disk = older;
        self.schedule_between(10_000, 2_000_000, Event::Start { at });
    }

    /// The disk is gone.
    fn lose(&mut self, at: usize) {
        if self.nodes.iter().filter(|n| !n.gone).count() < 3 || self.nodes[at].gone {
            return;
        }
        self.crash(at);
        self.note(|| format!("{at} has lost its disk"));
        self.damaged();
        let node = &mut self.nodes[at];
        let first = node.disk.chain.grants()[0].clone();
        let empty = echelon_core::grant::Chain::begin(first).expect("a first grant");
        (node.disk, node.gone, node.older) = (Disk::new(empty), true, vec![]);
        self.schedule_between(500_000, 3_000_000, Event::Rejoin { at });
    }

    fn damaged(&mut self) {
        self.saw(&super::Seen::Damaged);
    }
}
