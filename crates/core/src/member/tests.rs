//! A few managers by hand; whole schedules are explored by the simulation.

mod changes;
mod entries;
mod promises;

use super::*;
use crate::grant::{Basis, Grantor, Mark, SyncRule};
use crate::id::Lineage;
use crate::time::UnixMillis;
use std::collections::VecDeque;
use std::time::Duration;
use uuid::Uuid;

fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

fn request(n: u128) -> RequestId {
    RequestId(Uuid::from_u128(n))
}

fn admin() -> Grantor {
    Grantor::Console("admin".parse().unwrap())
}

/// The entry with this content after another one.
fn entry(after: Mark, grant: GrantId, content: u8) -> Entry {
    let bytes: std::sync::Arc<[u8]> = vec![content].into();
    let mark = Mark { position: grant.at(after.revision() + 1), hash: link(&after.hash, &bytes) };
    Entry { mark, sync: None, bytes }
}

/// The grant by which the manager on this host follows on the head of a chain.
fn grant(chain: &Chain, basis: Basis, holder: u128, mark: Mark) -> Grant {
    let head = chain.head();
    let lineage =
        if basis.begins_lineage() { Lineage(Uuid::from_u128(900 + holder)) } else { head.id.lineage };
    Grant {
        id: GrantId { lineage, epoch: head.id.epoch + 1 },
        holder: host(holder),
        parent: Some(Parent { grant: head.id, mark }),
        basis,
        ..head.clone()
    }
}

fn prepare(id: RequestId, accept_loss: bool) -> Prepare {
    let (lineage, promise) = (Lineage(Uuid::from_u128(1000 + id.0.as_u128())), promise(id));
    let (trial, grantor, reason, at) = (false, admin(), None, UnixMillis(1));
    Prepare { id, promise, lineage, trial, accept_loss, grantor, reason, at }
}

/// Under which name a promotion asks for promises, at its first try.
fn promise(id: RequestId) -> RequestId {
    RequestId(Uuid::from_u128(id.0.as_u128() << 32))
}

fn hand_over(to: u128) -> Input {
    let (id, until) = (request(5), Monotonic(0));
    let wish =
        HandOver { id, to: host(to), grantor: admin(), reason: None, at: UnixMillis(1), until, grant: None };
    Input::HandOver(wish)
}

fn choose() -> Input {
    Input::Choose(Choose { id: request(9), grantor: admin(), reason: None, at: UnixMillis(2) })
}

fn counting(members: &[u128], min_sync: u32) -> SyncRule {
    SyncRule { members: members.iter().copied().map(host).collect(), min_sync }
}

/// A manager by itself, with a link to each of these.
fn alone(me: u128, stored: Stored, peers: &[u128]) -> Member {
    let mut member = Member::new(host(me), Monotonic(0), stored);
    for peer in peers {
        handle(&mut member, 0, Input::Met(host(*peer)));
    }
    member
}

/// What a manager starts from that goes by a chain and has these entries, none of them known to be committed.
fn stored(chain: Chain, rule: SyncRule, entries: &[Entry]) -> Stored {
    let (_, genesis) = genesis();
    let last = entries.last().map_or(genesis, |e| e.mark);
    let log = Log::new(last, 0, rule, entries.iter().map(Pending::from).collect());
    Stored { chain, log, seals: Seals::default(), rolled_back: None }
}

/// What a manager wants done about this, so many milliseconds after it began.
fn handle(member: &mut Member, millis: u64, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    member.handle(Monotonic(millis * 1000), input, &mut out);
    out
}

fn standing(grant: GrantId, last: Mark, rule: SyncRule) -> Standing {
    Standing { grant, chain: None, last, committed: 0, rule, seals: Seals::default(), leads: false }
}

fn sent(effects: &[Effect], is: impl Fn(&MemberMessage) -> bool) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Send(_, message) if is(message)))
}

fn appends(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Append(_)))
}

/// Managers joined by links that lose nothing, each with its journal in memory.
struct Net {
    now: Monotonic,
    nodes: BTreeMap<HostId, Node>,
    wire: VecDeque<(HostId, HostId, MemberMessage)>,
    cut: Vec<(HostId, HostId)>,
    /// How many messages of this kind are lost, those to this manager.
    lose: (usize, HostId, fn(&MemberMessage) -> bool),
}

struct Node {
    member: Member,
    entries: Vec<Entry>,
    committed: u64,
    lead: u32,
    fenced: u32,
    surplus: Vec<Entry>,
    told: Vec<Told>,
}

fn genesis() -> (Chain, Mark) {
    let lineage = Lineage(Uuid::from_u128(77));
    let chain = Chain::begin(Grant::first(lineage, host(1), "a".parse().unwrap(), UnixMillis(0))).unwrap();
    let mark = Mark { position: chain.head().id.at(0), hash: [0; 32] };
    (chain, mark)
}

impl Net {
    /// So many managers, of which the first is the primary, the others count, and `min_sync` is needed.
    fn new(count: u128, min_sync: u32) -> Self {
        let (chain, mark) = genesis();
        let rule = SyncRule { members: (2..=count).map(host).collect(), min_sync };
        let node = |n| {
            let log = Log::new(mark, 0, rule.clone(), vec![]);
            let stored = Stored { chain: chain.clone(), log, seals: Seals::default(), rolled_back: None };
            let member = Member::new(host(n), Monotonic(0), stored);
            let node = Node {
                member,
                entries: vec![],
                committed: 0,
                lead: 0,
                fenced: 0,
                surplus: vec![],
                told: vec![],
            };
            (host(n), node)
        };
        let nodes = (1..=count).map(node).collect();
        let lose: (_, _, fn(&MemberMessage) -> bool) = (0, host(0), |_| false);
        let mut net = Self { now: Monotonic(0), nodes, wire: VecDeque::new(), cut: vec![], lose };
        let hosts: Vec<_> = net.nodes.keys().copied().collect();
        for a in &hosts {
            for b in hosts.iter().filter(|b| *b != a) {
                net.input(*a, Input::Met(*b));
            }
        }
        net.run(Duration::from_secs(2));
        net
    }

    fn node(&self, n: u128) -> &Node {
        &self.nodes[&host(n)]
    }

    fn input(&mut self, at: HostId, input: Input) {
        let mut out = Vec::new();
        let now = self.now;
        self.nodes.get_mut(&at).unwrap().member.handle(now, input, &mut out);
        out.into_iter().for_each(|effect| self.carry_out(at, effect));
    }

    fn carry_out(&mut self, at: HostId, effect: Effect) {
        let node = self.nodes.get_mut(&at).unwrap();
        match effect {
            Effect::Append(entries) => node.entries.extend(entries),
            Effect::Commit(revision) => node.committed = revision,
            Effect::Lead => node.lead += 1,
            Effect::Fenced => node.fenced += 1,
            Effect::Told(_, told) => node.told.push(told),
            Effect::Prove(grant) => self.input(at, Input::Promote(grant)),
            Effect::Send(to, message) => self.wire.push_back((at, to, message)),
            Effect::Seal(_) | Effect::RolledBack(_) | Effect::Admit(_) | Effect::Adopt { cut: None, .. } => {}
            Effect::Adopt { chain, cut: Some(parent) } => {
                let kept = node.entries.partition_point(|e| e.mark.revision() <= parent.mark.revision());
                node.surplus.extend(node.entries.split_off(kept));
                node.committed = node.committed.min(parent.mark.revision());
                let log = Log::new(parent.mark, node.committed, chain.head().sync.clone(), vec![]);
                let stored = Stored { chain, log, seals: Seals::default(), rolled_back: None };
                self.input(at, Input::Loaded(stored));
            }
            Effect::Feed { to, after } => {
                let first = node.entries.partition_point(|e| e.mark.revision() <= after.revision());
                let known = after.revision() == 0
                    || node.entries.get(first.wrapping_sub(1)).map(|e| e.mark) == Some(after);
                if !known {
                    return self.input(at, Input::NoSuchMark(to));
                }
                let (grant, committed) = (node.member.chain().head().id, node.committed);
                let entries = node.entries[first..].to_vec();
                self.wire.push_back((
                    at,
                    to,
                    MemberMessage::Append(Append { grant, after, entries, committed }),
                ));
            }
            Effect::Copy(_) => panic!("nobody here has another journal"),
        }
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            let (left, whose, kind) = self.lose;
            if left > 0 && to == whose && kind(&message) {
                self.lose.0 -= 1;
            } else if !self.cut.contains(&(from, to)) {
                self.input(to, Input::Said(from, message));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while self.now < end {
            self.now = self.now + Duration::from_millis(100);
            let hosts: Vec<_> = self.nodes.keys().copied().collect();
            hosts.into_iter().for_each(|at| self.input(at, Input::Tick));
            self.settle();
        }
    }

    /// Cuts a manager off from all others.
    fn kill(&mut self, n: u128) {
        let others: Vec<_> = self.nodes.keys().copied().filter(|h| *h != host(n)).collect();
        for other in others {
            self.cut.extend([(host(n), other), (other, host(n))]);
            self.input(other, Input::Lost(host(n)));
            self.input(host(n), Input::Lost(other));
        }
    }

    /// Lets two managers no longer reach each other.
    fn part(&mut self, a: u128, b: u128) {
        let (a, b) = (host(a), host(b));
        self.cut.extend([(a, b), (b, a)]);
        self.input(a, Input::Lost(b));
        self.input(b, Input::Lost(a));
    }

    /// Lets two managers reach each other again.
    fn join(&mut self, a: u128, b: u128) {
        let (a, b) = (host(a), host(b));
        self.cut.retain(|pair| *pair != (a, b) && *pair != (b, a));
        self.input(a, Input::Met(b));
        self.input(b, Input::Met(a));
    }

    fn heal(&mut self) {
        self.cut.clear();
        let hosts: Vec<_> = self.nodes.keys().copied().collect();
        for a in &hosts {
            for b in hosts.iter().filter(|b| *b != a) {
                self.input(*a, Input::Met(*b));
            }
        }
        self.run(Duration::from_secs(3));
    }

    /// Writes one entry, where this manager may.
    fn write(&mut self, n: u128) -> Result<u64, CannotWrite> {
        let member = &self.node(n).member;
        member.may_write()?;
        let (last, grant) = (member.log().last(), member.chain().head().id);
        let bytes: std::sync::Arc<[u8]> = vec![n as u8, self.now.0 as u8].into();
        let mark = Mark { position: grant.at(last.revision() + 1), hash: link(&last.hash, &bytes) };
        self.input(host(n), Input::Write(vec![Entry { mark, sync: None, bytes }]));
        Ok(mark.revision())
    }

    fn force(&mut self, n: u128, accept_loss: bool) -> Option<Told> {
        if let Some(grant) = self.propose(n, accept_loss) {
            self.input(host(n), Input::Promote(grant));
            self.run(Duration::from_secs(1));
        }
        self.node(n).told.last().cloned()
    }

    /// What a manager would be granted, after three seconds.
    fn propose(&mut self, n: u128, accept_loss: bool) -> Option<Grant> {
        let id = request(u128::from(self.now.0) * 100 + n);
        self.input(host(n), Input::Prepare(prepare(id, accept_loss)));
        self.run(Duration::from_secs(3));
        match self.node(n).told.last().cloned() {
            Some(Told::Proposed(proposal)) => Some(proposal.grant),
            _ => None,
        }
    }

    /// What a manager wants done about this; nothing of it is done.
    fn ask(&mut self, n: u128, input: Input) -> Vec<Effect> {
        let (mut out, now) = (Vec::new(), self.now);
        self.nodes.get_mut(&host(n)).unwrap().member.handle(now, input, &mut out);
        out
    }

    /// Writes a change of who counts.
    fn change(&mut self, n: u128, rule: SyncRule) {
        let member = &self.node(n).member;
        let entry = entry(member.log().last(), member.chain().head().id, 7);
        let sync = Some(SyncChange { rule, alone: false });
        self.input(host(n), Input::Write(vec![Entry { sync, ..entry }]));
    }

    fn last(&self, n: u128) -> Mark {
        self.node(n).member.log().last()
    }
}

#[test]
fn an_edit_is_committed_once_a_standby_that_counts_has_it() {
    let mut net = Net::new(3, 1);
    assert_eq!(net.node(1).lead, 1);
    net.kill(2);
    assert_eq!(net.write(1), Ok(1));
    assert_eq!(net.node(1).committed, 0, "nobody has it yet");
    net.run(Duration::from_secs(1));
    assert_eq!((net.node(1).committed, net.node(3).committed), (1, 1));
    net.kill(3);
    let refused = CannotWrite::TooFew { needed: 1, connected: 0, silent: vec![host(2), host(3)] };
    assert_eq!(net.write(1), Err(refused));
    let refused =
        CannotWrite::NotPrimary { holder: host(1), heard: net.node(2).member.peers[&host(1)].heard };
    assert_eq!(net.write(2), Err(refused));
}

/// Protects: a standby that is linked and can write nothing, as with a full disk, is no reason to write what nobody will
/// hold; once it can, everything goes on.
#[test]
fn a_standby_that_is_there_and_takes_nothing_counts_as_missing_after_a_while() {
    let mut net = Net::new(2, 1);
    net.cut.push((host(2), host(1)));
    net.write(1).unwrap();
    net.run(Duration::from_secs(3));
    net.write(1).unwrap();
    net.run(Duration::from_secs(2));
    let refused = CannotWrite::TooFew { needed: 1, connected: 0, silent: vec![host(2)] };
    assert_eq!((net.write(1), net.node(1).committed), (Err(refused), 0));
    net.cut.clear();
    net.run(Duration::from_secs(3));
    assert_eq!((net.write(1), net.node(1).committed), (Ok(3), 2));
}

#[test]
fn a_hand_over_loses_nothing_and_the_old_primary_follows() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.input(host(1), hand_over(2));
    assert_eq!(net.write(1), Err(CannotWrite::Handing));
    net.run(Duration::from_secs(1));
    assert_eq!((net.node(1).fenced, net.node(2).lead), (1, 1));
    assert!(matches!(net.node(1).told[..], [Told::Done(GrantId { epoch: 2, .. })]));
    assert_eq!(net.write(2), Ok(2));
    net.run(Duration::from_secs(1));
    assert_eq!((net.node(2).committed, net.node(1).committed), (2, 2));
    assert_eq!(net.last(1), net.last(2));
}

#[test]
fn a_forced_promotion_brings_the_new_primary_up_to_what_any_member_has() {
    let mut net = Net::new(3, 1);
    net.kill(2);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(1).committed, 1, "only the third has it, and it is acknowledged");
    net.kill(1);
    net.join(2, 3);
    assert_eq!(net.last(2).revision(), 0);
    let told = net.force(2, false);
    assert!(matches!(told, Some(Told::Done(GrantId { epoch: 2, .. }))), "{told:?}");
    assert_eq!(net.last(2).revision(), 1);
    assert_eq!(net.write(2), Ok(2));
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(2).committed, 2);
    // The old primary comes back: it is fenced, and follows.
    net.heal();
    assert_eq!(net.node(1).fenced, 1);
    assert_eq!(net.last(1), net.last(2));
    assert!(net.node(1).surplus.is_empty());
}

#[test]
fn too_few_members_refuse_and_with_accept_loss_the_old_primary_keeps_what_only_it_had() {
    let mut net = Net::new(3, 1);
    net.kill(2);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    net.kill(1);
    net.kill(3);
    let told = net.force(2, false);
    let silent = vec![host(3)];
    assert_eq!(told, Some(Told::Refused(Refused::TooFewHeard { needed: 2, heard: 1, silent })));
    assert!(net.node(2).member.seals().is_empty());
    let told = net.force(2, true);
    assert!(matches!(told, Some(Told::Done(_))), "{told:?}");
    net.heal();
    assert_eq!(net.node(1).surplus.len(), 1);
    assert_eq!(net.node(3).surplus.len(), 1);
    assert_eq!(net.write(2), Ok(1));
    net.run(Duration::from_secs(1));
    assert_eq!((net.last(1), net.last(3)), (net.last(2), net.last(2)));
}

#[test]
fn a_living_primary_is_not_replaced_by_force_and_nobody_stays_sealed() {
    let mut net = Net::new(3, 1);
    assert_eq!(net.force(2, true), Some(Told::Refused(Refused::PrimaryAnswers)));
    assert_eq!(net.write(1), Ok(1));
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(1).committed, 1);
    assert!(net.nodes.values().all(|n| n.member.seals().is_empty()));
}

#[test]
fn two_forced_promotions_are_a_conflict_until_one_is_chosen() {
    let mut net = Net::new(3, 1);
    for n in 1..=3 {
        net.kill(n);
    }
    for n in [2, 3] {
        assert!(matches!(net.force(n, true), Some(Told::Done(_))));
    }
    net.heal();
    assert!(!net.node(2).member.rivals().is_empty() && !net.node(3).member.rivals().is_empty());
    assert!(net.node(2).member.is_leading() && net.node(3).member.is_leading());
    net.input(host(3), choose());
    let Some(Told::Proposed(proposal)) = net.node(3).told.last().cloned() else { panic!("no proposal") };
    net.input(host(3), Input::Promote(proposal.grant));
    net.run(Duration::from_secs(3));
    let chains: Vec<_> = net.nodes.values().map(|n| n.member.chain().clone()).collect();
    assert!(chains.iter().all(|c| *c == chains[0]));
    assert!(net.node(3).member.is_leading() && !net.node(2).member.is_leading());
    assert!(net.node(2).member.rivals().is_empty());
}

/// A trial fetches nothing, and says what would come of fetching.
#[test]
fn a_trial_goes_by_what_the_manager_would_get_from_those_that_were_heard() {
    let mut net = Net::new(3, 1);
    net.kill(3);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    net.input(host(1), hand_over(2));
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(2).lead, 1);
    // The third hears of the hand-over, and gets none of the edits before it.
    let chain = net.node(2).member.chain().clone();
    net.input(host(3), Input::Heard(chain));
    net.kill(2);
    net.join(3, 1);
    assert_eq!((net.last(3).revision(), net.last(1).revision()), (0, 1));
    net.input(host(3), Input::Prepare(Prepare { trial: true, ..prepare(request(6), false) }));
    net.run(Duration::from_secs(1));
    let Some(Told::Proposed(proposal)) = net.node(3).told.last().cloned() else { panic!("no proposal") };
    assert_eq!((&proposal.doubt, net.last(3).revision()), (&None, 0));
    assert_eq!(proposal.grant.parent.unwrap().mark, net.last(1));
    assert!(matches!(net.force(3, false), Some(Told::Done(_))), "and so it comes about");
}

/// A manager that was removed has restored a backup: its grant follows on all that there is.
#[test]
fn a_contested_chain_fences_nobody_and_can_be_chosen_against() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    let chain = net.node(1).member.chain().clone();
    let restored = Grant {
        id: GrantId { lineage: Lineage(Uuid::from_u128(9)), epoch: 2 },
        holder: host(9),
        parent: Some(Parent { grant: chain.head().id, mark: net.last(1) }),
        basis: crate::grant::Basis::Restore,
        ..chain.head().clone()
    };
    let contested = chain.extended(restored).unwrap();
    for _ in 0..2 {
        net.input(host(1), Input::Contested(contested.clone()));
    }
    assert_eq!((net.node(1).fenced, net.node(1).member.rivals()), (0, &[contested.clone()][..]));
    assert_eq!(net.write(1), Ok(2));
    net.input(host(1), Input::Contested(chain));
    assert_eq!(net.node(1).member.rivals().len(), 1, "one's own is no rival");
    let grantor = Grantor::Console("admin".parse().unwrap());
    net.input(host(1), Input::Choose(Choose { id: request(9), grantor, reason: None, at: UnixMillis(2) }));
    let Some(Told::Proposed(proposal)) = net.node(1).told.last().cloned() else { panic!("no proposal") };
    net.input(host(1), Input::Promote(proposal.grant));
    net.run(Duration::from_secs(1));
    assert!(net.node(1).member.rivals().is_empty() && net.node(1).member.is_leading());
    // Whoever had gone by it follows the choice.
    assert!(matches!(contested.compare(net.node(2).member.chain()), Relation::Newer(_)));
}

#[test]
fn a_primary_that_lost_what_others_have_seen_writes_no_more() {
    let mut net = Net::new(1, 1);
    let ahead = net.last(1).position.next();
    net.input(host(1), Input::Witnessed(ahead));
    assert!(matches!(net.write(1), Err(CannotWrite::RolledBack { .. })));
    assert_eq!(net.node(1).fenced, 1);
    // An admin goes on from what is there.
    assert!(matches!(net.force(1, true), Some(Told::Done(_))));
    assert_eq!(net.write(1), Ok(1));
}
