//! The end of a schedule: everything is mended, an admin does what is left to do, and all have to agree.

use super::World;
use super::disk::Disk;
use super::invariants::Seen;
use super::node::Node;
use super::profile::Theme;
use echelon_core::grant::{Chain, Relation, SyncRule};
use echelon_core::member::Member;

/// How long managers are given to agree before an admin looks, in microseconds; and how often one looks.
const LOOK: u64 = 4_000_000;
const LOOKS: usize = 25;

impl World {
    pub(crate) fn heal(&mut self) {
        self.healing = true;
        self.note(|| "everything is mended".into());
        self.network.heal();
        self.take_in_the_removed();
        for at in 0..self.nodes.len() {
            self.resume(at);
            self.start(at);
        }
        // What an admin began before comes to its end.
        self.run_until(self.now + 20_000_000);
        for look in 0..LOOKS {
            if self.failure.is_some() || self.is_settled() {
                break;
            }
            if self.is_hopeless() {
                self.tally.hopeless += 1;
                return;
            }
            self.look_after(look);
            self.run_until(self.now + LOOK);
        }
        self.quiet();
        let nodes = std::mem::take(&mut self.nodes);
        let agents = std::mem::take(&mut self.agents);
        self.saw(&Seen::Healed { nodes: &nodes, agents: &agents });
    }

    /// Managers that were removed join again. Where one may have gone on by itself, and others not even listen to it, it
    /// begins with an empty disk.
    fn take_in_the_removed(&mut self) {
        let others = self.those(|n| !n.removed && !n.gone);
        let anew = self.profile.theme == Theme::Restored && !others.is_empty();
        for at in self.those(|n| n.removed) {
            self.nodes[at].removed = false;
            self.nodes[at].enrolment += 1;
            if anew && !self.nodes[at].gone {
                let Disk { entries, surplus, .. } = self.nodes[at].disk.clone();
                // What only it had its operator keeps.
                self.empty(at, [surplus, entries].concat());
            }
        }
    }

    /// Choices are not heeded: each side has put out who began the other's lineage. The managers of all but this one's
    /// join anew.
    fn join_anew(&mut self, leader: usize) {
        let chain = self.nodes[leader].disk.chain.clone();
        for at in self.those(|n| n.disk.chain != chain && !n.gone) {
            let Disk { entries, surplus, .. } = self.nodes[at].disk.clone();
            self.empty(at, [surplus, entries].concat());
        }
    }

    /// Chooses between lineages; where nobody can lead, promotes whoever has most.
    fn look_after(&mut self, look: usize) {
        let leading = self.those(|n| n.is_leading());
        let torn = |m: &Member| m.is_leading() && !m.rivals().is_empty();
        let torn = self.those(|n| n.member.as_ref().is_some_and(torn));
        if let Some(at) = self.random.pick(&torn) {
            if look > LOOKS / 2 && leading.len() > 1 && self.profile.theme == Theme::Restored {
                return self.join_anew(at);
            }
            // Whoever counts may follow another lineage.
            let changing =
                self.nodes[at].member.as_ref().is_some_and(|m| m.log().is_changing(m.chain().head()));
            return if changing { self.count_those_there(at) } else { self.choose(at) };
        }
        // Nobody leads those that know of another lineage: only a primary can choose.
        let led = |chain: &Chain| leading.iter().any(|n| self.nodes[*n].disk.chain == *chain);
        let apart = |m: &Member| !m.rivals().is_empty() && !led(m.chain());
        let apart = self.those(|n| n.is_awake() && n.member.as_ref().is_some_and(apart));
        if let Some(at) = self.random.pick(&apart).filter(|_| !leading.is_empty()) {
            return self.force_with(at, true, false);
        }
        let able = |m: &Member| m.may_write().is_ok() && m.log().is_settled();
        let stuck = self.those(|n| n.is_leading() && !n.member.as_ref().is_some_and(able));
        if let Some(at) = self.random.pick(&stuck) {
            // Whoever counts may be held by a promise to one whose disk is gone.
            return if self.random.chance(300) { self.hand_over(at, at) } else { self.count_those_there(at) };
        }
        if leading.is_empty() {
            // The best may be refused, where the primary that it knows goes by another lineage: then another one.
            // Not one that was set back: another one has the edits that it lost.
            let set_back = |n: &Node| n.member.as_ref().is_some_and(|m| m.rolled_back().is_some());
            let all = self.those_to_promote();
            let (set_back, mut there): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|n| set_back(&self.nodes[*n]));
            if there.is_empty() {
                there = set_back;
            }
            let any = self.random.pick(&there).filter(|_| self.random.chance(300));
            let at = any.unwrap_or_else(|| self.best(there));
            self.force_with(at, true, false);
        }
    }

    /// Too few are there to commit anything: those that are gone no longer count, by the new rule alone.
    fn count_those_there(&mut self, at: usize) {
        let gone: Vec<_> = self.nodes.iter().filter(|n| n.gone).map(|n| n.host).collect();
        self.change_rule(at, true, |rule| gone.iter().fold(rule.clone(), |rule, host| rule.without(*host)));
        if self.nodes[at].member.as_ref().is_some_and(|m| !m.log().is_settled()) {
            self.change_rule(at, true, |rule| SyncRule { min_sync: 0, ..rule.clone() });
        }
    }

    /// Disks were lost and set back, and nobody is left with a journal that its grants speak of: what remains to be
    /// done is to restore a backup.
    fn is_hopeless(&self) -> bool {
        let apart = |n: &Node| n.gone || !n.disk.chain.contains(&n.disk.last().position);
        self.nodes.iter().all(apart)
    }

    fn those_to_promote(&self) -> Vec<usize> {
        self.those(|n| n.is_awake() && n.disk.chain.contains(&n.disk.last().position))
    }

    /// Of those that can be promoted whoever goes by the newest grants, and of these has most.
    fn best(&self, those: Vec<usize>) -> usize {
        let beats = |a: usize, b: usize| {
            let (a, b) = (&self.nodes[a].disk, &self.nodes[b].disk);
            match b.chain.compare(&a.chain) {
                Relation::Newer(_) => true,
                Relation::Same => a.last().revision() > b.last().revision(),
                _ => false,
            }
        };
        those.into_iter().reduce(|best, n| if beats(n, best) { n } else { best }).unwrap_or(0)
    }

    /// Whether nothing is left to be waited for but that edits come to an end.
    fn is_settled(&self) -> bool {
        let chain = &self.nodes[0].disk.chain;
        let one = self.those(|n| n.is_leading()).len() == 1;
        let able = self.nodes.iter().any(|n| n.member.as_ref().is_some_and(|m| m.may_write().is_ok()));
        let counted = self.nodes.iter().all(|n| {
            let leader = self.nodes.iter().find(|n| n.is_leading()).and_then(|n| n.member.as_ref());
            leader.is_some_and(|l| l.log().rule_under(l.chain().head()).members.contains(&n.host))
                || n.is_leading()
        });
        let torn = self.nodes.iter().any(|n| n.member.as_ref().is_some_and(|m| !m.rivals().is_empty()));
        one && able && counted && !torn && self.nodes.iter().all(|n| !n.gone && n.disk.chain == *chain)
    }

    /// One edit more, and then none.
    fn quiet(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.events.retain(|_, event| !matches!(event, super::Event::Edit));
        let leading = self.those(|n| n.is_leading());
        if let Some(at) = self.random.pick(&leading) {
            let request = self.number();
            self.write(at, request, None);
        }
        self.run_until(self.now + 6_000_000);
    }
}
