//! What an admin does: promotions, choices, and who counts.

use super::node::index;
use super::{Event, Input, World};
use echelon_core::grant::{Basis, Grantor, SyncRule};
use echelon_core::id::{HostId, Lineage, RequestId};
use echelon_core::member::{Choose, HandOver, Member, Prepare, Proposal, SyncChange};
use echelon_core::time::{Monotonic, UnixMillis};
use uuid::Uuid;

/// How often a manager without a disk tries to join, in microseconds.
const REJOIN: u64 = 200_000;

impl World {
    /// Hands over from a primary to any other manager, or to itself.
    pub(crate) fn hand_over_to_any(&mut self, at: usize) {
        let to = self.random.below(self.nodes.len());
        self.hand_over(at, to);
    }

    pub(crate) fn hand_over(&mut self, at: usize, to: usize) {
        let wish = HandOver {
            id: self.request_id(),
            to: self.nodes[to].host,
            grantor: admin(),
            reason: None,
            at: UnixMillis(self.now / 1000),
            until: Monotonic(0),
            grant: None,
        };
        self.interfere(at, wish.id);
        self.input(at, Input::HandOver(wish));
    }

    /// Promotes a manager by force.
    pub(crate) fn force(&mut self, at: usize) {
        let accept_loss = self.random.chance(400);
        let trial = self.random.chance(100);
        self.force_with(at, accept_loss, trial);
    }

    pub(crate) fn force_with(&mut self, at: usize, accept_loss: bool, trial: bool) {
        let (id, lineage) = self.command(at, accept_loss);
        if accept_loss {
            self.lossy.insert(lineage);
        }
        let at_time = UnixMillis(self.now / 1000);
        let wish = Prepare {
            id,
            promise: self.request_id(),
            lineage,
            trial,
            accept_loss,
            grantor: admin(),
            reason: None,
            at: at_time,
        };
        self.note(|| format!("an admin promotes {at} by force, accepting loss: {accept_loss}"));
        // What was proposed before under this id, nobody has signed.
        self.input(at, Input::Abort(id));
        self.interfere(at, id);
        self.input(at, Input::Prepare(wish));
    }

    /// The id of a command to promote a manager by force, and the lineage that goes with it. One that seems to have come
    /// to nothing may be repeated.
    fn command(&mut self, at: usize, accept_loss: bool) -> (RequestId, Lineage) {
        let new = (self.request_id(), Lineage(Uuid::from_u128(self.number().into())), accept_loss);
        let again = self.random.chance(400);
        let came_to_nothing =
            |(_, lineage, _): &(_, Lineage, _)| self.grants.iter().all(|grant| grant.lineage != *lineage);
        let tried = self.nodes[at].tried.filter(|tried| again && tried.2 == accept_loss);
        let (id, lineage, _) = tried.filter(came_to_nothing).unwrap_or(new);
        self.nodes[at].tried = Some((id, lineage, accept_loss));
        (id, lineage)
    }

    pub(crate) fn choose(&mut self, at: usize) {
        let id = self.request_id();
        let wish = Choose { id, grantor: admin(), reason: None, at: UnixMillis(self.now / 1000) };
        self.interfere(at, id);
        self.input(at, Input::Choose(wish));
    }

    /// Gives up, now and then, what was just begun.
    fn interfere(&mut self, at: usize, id: RequestId) {
        if self.random.chance(80) && !self.healing {
            self.schedule_between(0, 3_000_000, Event::Abort { at, id });
        }
    }

    /// An admin sees what would be granted.
    pub(crate) fn decide(&mut self, at: usize, id: RequestId, proposal: Proposal) {
        let incarnation = self.nodes[at].incarnation;
        let grant = Box::new(proposal.grant);
        let slow = self.profile.slow && !self.healing && self.random.chance(500);
        let most = if slow { 9_500_000 } else { 800_000 };
        if grant.basis == Basis::Force && self.is_put_out(at) {
            return self.input(at, Input::Abort(id));
        }
        match self.random.between(0, if self.healing { 1 } else { 20 }) {
            0..16 => self.schedule_between(1000, most, Event::Proved { at, incarnation, grant }),
            16 => self.schedule_between(1000, 800_000, Event::Abort { at, id }),
            17 => self.schedule_between(8_000_000, 12_000_000, Event::Proved { at, incarnation, grant }),
            _ => {}
        }
    }

    /// The shell's answer to a standby that is level.
    pub(crate) fn admit(&mut self, at: usize, standby: HostId) {
        if !self.nodes[index(standby)].removed {
            self.change_rule(at, false, |rule| rule.with(standby));
        }
    }

    pub(crate) fn change_rule(&mut self, at: usize, alone: bool, change: impl Fn(&SyncRule) -> SyncRule) {
        let Some(old) = self.nodes[at].member.as_ref().map(rule_of) else { return };
        if change(old) != *old {
            let request = self.number();
            self.change_rule_by(at, request, alone, change);
        }
    }

    /// The same under this number, also where it changes nothing of who counts.
    fn change_rule_by(
        &mut self,
        at: usize,
        request: u64,
        alone: bool,
        change: impl FnOnce(&SyncRule) -> SyncRule,
    ) {
        let Some(old) = self.nodes[at].member.as_ref().map(rule_of) else { return };
        let rule = change(old);
        let sync = (rule != *old).then_some(SyncChange { rule, alone });
        self.write(at, request, sync);
    }

    /// No manager takes `min_sync = 0` but with loss accepted, and then that is committed under the new rule alone.
    pub(crate) fn change_min_sync(&mut self, at: usize) {
        let min_sync = self.random.between(0, 4) as u32;
        let alone = self.profile.alone && self.random.chance(300);
        self.change_rule(at, alone || min_sync == 0, |rule| SyncRule { min_sync, ..rule.clone() });
    }

    /// Takes a manager out of the registry; it stays out until faults have ended.
    pub(crate) fn remove(&mut self, at: usize) {
        let member = self.random.below(self.nodes.len());
        self.remove_this(at, member);
    }

    pub(crate) fn remove_this(&mut self, at: usize, member: usize) {
        let alone = self.profile.alone && self.random.chance(500);
        if member == at || self.nodes[at].member.as_ref().is_none_or(|m| m.may_write().is_err() && !alone) {
            return;
        }
        let host = self.nodes[member].host;
        self.note(|| format!("an admin removes {member}, alone: {alone}"));
        let request = self.removal(host);
        self.change_rule_by(at, request, alone, |rule| rule.without(host));
        self.nodes[member].removed = true;
        for peer in (0..self.nodes.len()).filter(|peer| *peer != member) {
            self.network.unlink(member, peer);
            self.input(member, Input::Lost(self.nodes[peer].host));
            if self.network.unlink(peer, member) {
                self.input(peer, Input::Forgotten(host));
            }
        }
    }

    /// A manager whose disk is gone joins: where it counts, it is first taken out of those that count, since it has
    /// lost what it once said is durable there.
    pub(crate) fn rejoin(&mut self, at: usize) {
        if !self.nodes[at].gone {
            return;
        }
        let host = self.nodes[at].host;
        let leading = |n: &super::Node| n.is_awake() && n.is_leading();
        let leading = self.those(leading);
        let reached: Vec<_> = leading.into_iter().filter(|n| self.network.is_open(at, *n)).collect();
        let ready = self.random.pick(&reached).filter(|from| self.is_uncounted(*from, host));
        let Some(from) = ready else { return self.schedule(REJOIN, Event::Rejoin { at }) };
        let lender = &self.nodes[from].disk;
        let (chain, entries, committed) = (lender.chain.clone(), lender.entries.clone(), lender.committed);
        let node = &mut self.nodes[at];
        node.enrolment += 1;
        (node.gone, node.disk.chain, node.disk.entries, node.disk.committed) =
            (false, chain, entries, committed);
        self.note(|| format!("{at} joins with a copy from {from}"));
        let entries = self.nodes[at].disk.entries.clone();
        self.saw(&super::Seen::Durable { at: host, entries: &entries });
        self.start(at);
    }

    /// Whether a manager does not count, by what this primary has committed.
    fn is_uncounted(&mut self, at: usize, host: HostId) -> bool {
        self.change_rule(at, false, |rule| rule.without(host));
        let Some(member) = self.nodes[at].member.as_ref().filter(|m| m.is_leading()) else { return false };
        !member.log().is_changing(member.chain().head()) && !rule_of(member).members.contains(&host)
    }
}

fn rule_of(member: &Member) -> &SyncRule {
    member.log().rule_under(member.chain().head())
}

fn admin() -> Grantor {
    Grantor::Console("admin".parse().expect("a name"))
}
