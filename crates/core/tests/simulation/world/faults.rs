//! What goes wrong, and what an admin does meanwhile. Some of it takes several steps: see `campaigns`.

use super::disk::Disk;
use super::profile::Theme;
use super::{Event, World};
use echelon_core::member::Entry;

/// One thing that happens to a registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Crash,
    CrashPrimary,
    Cut,
    Isolate,
    IsolatePrimary,
    Mend,
    Pause,
    PausePrimary,
    HandOver,
    Force,
    Replace,
    Contend,
    Relay,
    HandOverUnheard,
    ChangeUnheard,
    Tear,
    ChangeMinSync,
    Remove,
    Choose,
    RollBack,
    Lose,
    Restore,
}

/// Acts, and how often they happen.
const ACTS: [(Act, u64); 22] = [
    (Act::Crash, 8),
    (Act::CrashPrimary, 8),
    (Act::Cut, 6),
    (Act::Isolate, 6),
    (Act::IsolatePrimary, 6),
    (Act::Mend, 12),
    (Act::Pause, 4),
    (Act::PausePrimary, 5),
    (Act::HandOver, 9),
    (Act::Force, 5),
    (Act::Replace, 10),
    (Act::Contend, 4),
    (Act::Relay, 3),
    (Act::HandOverUnheard, 3),
    (Act::ChangeUnheard, 3),
    (Act::Tear, 1),
    (Act::ChangeMinSync, 4),
    (Act::Remove, 2),
    (Act::Choose, 3),
    (Act::RollBack, 3),
    (Act::Lose, 2),
    (Act::Restore, 2),
];

/// How much more of what a schedule is about.
const FAVOUR: u64 = 8;

impl World {
    pub(crate) fn fault(&mut self) {
        self.schedule_between(self.profile.pace / 4, self.profile.pace * 2, Event::Fault);
        let at = self.random.below(self.nodes.len());
        let leading = self.those(|n| n.is_awake() && n.is_leading());
        let primary = self.random.pick(&leading).unwrap_or(at);
        match self.draw_act() {
            Act::Crash => self.crash_for_a_while(at),
            Act::CrashPrimary => self.crash_for_a_while(primary),
            Act::Cut => self.cut_any(at),
            Act::Isolate => self.isolate(at),
            Act::IsolatePrimary => self.isolate(primary),
            Act::Mend => self.network.heal(),
            Act::Pause => self.pause(at),
            Act::PausePrimary => self.pause(primary),
            Act::HandOver => self.hand_over_to_any(primary),
            Act::Force => self.force(at),
            Act::Replace => self.replace(primary),
            Act::Contend => self.contend(primary),
            Act::Relay => self.relay(primary),
            Act::HandOverUnheard => self.hand_over_unheard(primary),
            Act::ChangeUnheard => self.change_unheard(primary),
            Act::Tear => self.tear(),
            Act::ChangeMinSync => self.change_min_sync(primary),
            Act::Remove if self.nodes[primary].is_leading() => self.remove(primary),
            Act::Choose => self.choose_any(),
            Act::RollBack if self.profile.damage => {
                let at = if self.random.chance(500) { primary } else { at };
                self.roll_back(at);
            }
            Act::Lose if self.profile.damage => self.lose(at),
            Act::Restore if self.profile.theme == Theme::Restored => self.restore(),
            Act::Remove | Act::RollBack | Act::Lose | Act::Restore => {}
        }
    }

    fn draw_act(&mut self) -> Act {
        let favoured = self.profile.theme.favours();
        let weight = |(act, weight): &(Act, u64)| weight * if favoured.contains(act) { FAVOUR } else { 1 };
        let mut left = self.random.between(0, ACTS.iter().map(weight).sum());
        for act in &ACTS {
            match left.checked_sub(weight(act)) {
                Some(rest) => left = rest,
                None => return act.0,
            }
        }
        Act::Mend
    }

    pub(crate) fn crash_for_a_while(&mut self, at: usize) {
        self.crash(at);
        self.schedule_between(10_000, 8_000_000, Event::Start { at });
    }

    fn cut_any(&mut self, at: usize) {
        let peer = self.random.below(self.nodes.len());
        let both = self.random.chance(500);
        if peer != at {
            self.cut(at, peer, both);
        }
    }

    pub(crate) fn pause(&mut self, at: usize) {
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

    fn choose_any(&mut self) {
        let torn =
            self.those(|n| n.is_leading() && n.member.as_ref().is_some_and(|m| !m.rivals().is_empty()));
        if let Some(at) = self.random.pick(&torn) {
            if self.random.chance(200) {
                self.change_min_sync(at);
            }
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
        self.damaged(at);
        self.nodes[at].disk = older;
        self.schedule_between(10_000, 2_000_000, Event::Start { at });
    }

    /// The disk is gone.
    fn lose(&mut self, at: usize) {
        if self.nodes.iter().filter(|n| !n.gone).count() < 3 || self.nodes[at].gone {
            return;
        }
        self.damaged(at);
        self.empty(at, vec![]);
    }

    /// The disk is an empty one, beside which this is kept: the manager has to join again.
    pub(crate) fn empty(&mut self, at: usize, surplus: Vec<Entry>) {
        self.crash(at);
        self.note(|| format!("{at} has lost its disk"));
        let node = &mut self.nodes[at];
        let first = node.disk.chain.first().clone();
        let empty = echelon_core::grant::Chain::begin(first).expect("a first grant");
        (node.disk, node.gone, node.older) = (Disk { surplus, ..Disk::new(empty) }, true, vec![]);
        self.schedule_between(500_000, 3_000_000, Event::Rejoin { at });
    }

    fn damaged(&mut self, at: usize) {
        let at = self.nodes[at].host;
        self.saw(&super::Seen::Damaged { at });
    }
}
