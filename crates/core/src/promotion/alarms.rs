//! What is wrong among the registry managers, as one of them sees it: worked out with nothing kept.

use super::{Sight, Unproved, ways_out};
use crate::alarm::Severity;
use crate::grant::GrantId;
use crate::id::HostId;
use crate::member::{Peer, STANDING_INTERVAL};
use crate::position::Position;
use crate::report::AlarmReport;
use crate::survey::alarm;
use crate::time::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A manager that was not heard for longer than this is lost: a restart takes less.
const LOST: Duration = Duration::from_secs(10);

/// For how long too few standbys are there before that is an alarm: links take a moment after a start.
const SHORT: Duration = STANDING_INTERVAL.saturating_mul(4);

/// For how long a linked standby may lack edits: a copy of a large registry takes seconds.
const BEHIND: Duration = Duration::from_secs(30);

impl Sight<'_> {
    /// The alarms that are up: at the primary of its standbys, at a standby of the primary; and of agents that say what
    /// they cannot prove.
    pub fn alarms(&self) -> Vec<AlarmReport> {
        let mut alarms: Vec<_> = match self.standing.leads {
            true => self.lost().chain(self.short()).chain(self.behind()).collect(),
            false => self.no_primary().into_iter().collect(),
        };
        alarms.extend(self.claims());
        alarms
    }

    /// The agents that say, or have shown without proof, what speaks against this manager's journal. Either they do not
    /// tell the truth, or this one was set back by so little that nobody can prove it.
    fn claims(&self) -> impl Iterator<Item = AlarmReport> {
        let agents = self.board.agents().filter(|(_, agent)| !agent.is_silent());
        let said = agents.filter_map(|(host, agent)| {
            let position = agent.report().holds?.position;
            self.is_mere_claim(&position).then_some((host, Unproved { position, since: agent.heard() }))
        });
        let mut claims: BTreeMap<_, _> = said.collect();
        claims.extend(self.unproved);
        let claims = claims.into_iter().filter(|(host, _)| self.registry.host(*host).is_some());
        claims.map(|(host, Unproved { position, since })| {
            let message = format!(
                "its agent speaks of another state at revision {} of epoch {} than this manager has, without proof: nothing is made of it",
                position.revision, position.epoch
            );
            let remedy = format!(
                "see what runs there; where it is in wrong hands: echelon host remove {} --with-packages",
                self.name(host)
            );
            self.alarm("claim-unproved", Severity::Warning, host, &message, &remedy, self.now.since(since))
        })
    }

    /// Whether nobody but this manager can have written what an agent says it holds, which is not here, nor proved.
    fn is_mere_claim(&self, position: &Position) -> bool {
        let grant = self.chain.head().id;
        let known = self.standing.last.revision().max(self.proved.map_or(0, |proved| proved.revision));
        self.chain.is_held_by(self.me) && GrantId::of(position) == grant && position.revision > known
    }

    /// The standbys that are silent. One that does not count has everybody's edits to catch up with, and nobody else's
    /// in its hands.
    fn lost(&self) -> impl Iterator<Item = AlarmReport> {
        let rule = &self.standing.rule;
        let standbys: BTreeSet<_> = rule.members.iter().copied().chain(self.managers()).collect();
        let others = standbys.into_iter().filter(|host| *host != self.me);
        let silent = others.map(|host| (host, self.silence(host))).filter(|(_, silence)| *silence > LOST);
        silent.map(|(host, silence)| {
            let (message, more) = match rule.members.contains(&host) {
                true => ("a standby that counts for commits is silent", " --accept-loss"),
                false => ("a standby is silent; it does not count for commits, so that nothing waits for it", ""),
            };
            let remedy = format!(
                "start the registry manager there; where it is gone for good: echelon manager remove {}{more}",
                self.name(host)
            );
            self.alarm("standby-lost", Severity::Warning, host, message, &remedy, silence)
        })
    }

    /// So few of those that count take edits that none is accepted.
    fn short(&self) -> Option<AlarmReport> {
        let rule = &self.standing.rule;
        let synced =
            |host: &HostId| self.of(*host).is_some_and(|p| p.is_synced(self.standing.grant, self.now));
        let missing: Vec<_> = rule.members.iter().filter(|host| !synced(host)).collect();
        let there = rule.members.len().saturating_sub(missing.len());
        // It is so since the last of them was lost.
        let since = missing.iter().map(|host| self.not_taking(**host)).min()?;
        if there >= rule.needed() || since < SHORT {
            return None;
        }
        let names: Vec<_> = missing.iter().map(|host| self.name(**host)).collect();
        let remedy = ways_out(rule.needed(), there, &names, rule.min_sync);
        let message = format!(
            "edits are refused: {} of the standbys that count have to hold each, and {there} can; missing: {}",
            rule.needed(),
            names.join(", ")
        );
        Some(self.alarm("sync-short", Severity::Critical, self.me, &message, &remedy, since))
    }

    /// The standbys that are linked and do not become level.
    fn behind(&self) -> impl Iterator<Item = AlarmReport> {
        let linked = self.peers.iter().filter(|(_, peer)| peer.connected);
        let behind = linked.filter_map(|(host, peer)| Some((*host, self.now.since(peer.behind_since?))));
        behind.filter(|(_, since)| *since > BEHIND).map(|(host, since)| {
            let message = "a standby lacks edits and does not become level";
            let remedy =
                "see its log, its disk and the network to it; echelon manager list shows how many it lacks";
            self.alarm("standby-behind", Severity::Warning, host, message, remedy, since)
        })
    }

    /// The primary is silent.
    fn no_primary(&self) -> Option<AlarmReport> {
        let holder = self.chain.head().holder;
        let silence = self.silence(holder);
        if holder == self.me || silence <= LOST {
            return None;
        }
        let remedy = format!(
            "start the registry manager there; where it is gone for good: echelon promote {} --force --reason TEXT, first with --dry-run",
            self.name(self.me)
        );
        let message = "the primary is silent: edits and enrolments are refused, routing goes on";
        Some(self.alarm("no-primary", Severity::Critical, holder, message, &remedy, silence))
    }

    /// How long it was not heard; of one that never was, since this manager's start.
    fn silence(&self, host: HostId) -> Duration {
        let heard = self.of(host).and_then(|peer| peer.heard);
        self.now.since(heard.unwrap_or(Monotonic(0)))
    }

    /// How long it has not taken edits.
    fn not_taking(&self, host: HostId) -> Duration {
        match self.of(host).filter(|peer| peer.connected) {
            Some(peer) if peer.is_sealed(self.standing.grant) => SHORT,
            Some(peer) => peer.behind_since.map_or(Duration::ZERO, |since| self.now.since(since)),
            None => self.silence(host),
        }
    }

    fn of(&self, host: HostId) -> Option<&Peer> {
        self.peers.get(&host)
    }

    fn name(&self, host: HostId) -> String {
        self.names().host_name(host)
    }

    fn alarm(
        &self,
        name: &'static str,
        severity: Severity,
        of: HostId,
        message: &str,
        remedy: &str,
        since: Duration,
    ) -> AlarmReport {
        alarm(name, severity, self.name(of), message, remedy, since)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::board::{Board, Report};
    use crate::grant::{Chain, Grant, Mark, SyncRule};
    use crate::id::{DomainId, Lineage};
    use crate::member::{Seals, Standing};
    use crate::message::Holding;
    use crate::name::ManagerType;
    use crate::package::Package;
    use crate::registry::Registry;
    use crate::row::{Domain, Host, Meta, Row};
    use crate::time::UnixMillis;
    use uuid::Uuid;

    pub(in crate::promotion) const HUB: HostId = HostId(Uuid::from_u128(1));
    pub(in crate::promotion) const SPARE: HostId = HostId(Uuid::from_u128(2));
    pub(in crate::promotion) const THIRD: HostId = HostId(Uuid::from_u128(3));

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000)
    }

    fn position() -> Position {
        Position { lineage: Lineage(Uuid::from_u128(9)), epoch: 1, revision: 4 }
    }

    pub(in crate::promotion) fn registry(rule: &SyncRule) -> Registry {
        let host = |(id, name): (HostId, &str)| {
            let name = name.parse().unwrap();
            Row::Host(Host { id, name, domain: DomainId::ROOT, address: None, drained: None })
        };
        let meta = Meta {
            framework: "test".parse().unwrap(),
            next_domain: DomainId(1),
            trust: Vec::new(),
            emptied: None,
            sync: rule.clone(),
        };
        let mut rows = vec![Row::Meta(meta), Row::Domain(Domain { id: DomainId::ROOT, place: None })];
        rows.extend([(HUB, "hub"), (SPARE, "spare"), (THIRD, "third")].map(host));
        Registry::from_rows(position(), rows).unwrap()
    }

    /// One that was heard at this second, and takes entries.
    fn peer(heard: u64) -> Peer {
        let mut peer = Peer::default();
        (peer.connected, peer.heard) = (true, Some(at(heard)));
        peer.acked = Some(Mark { position: position(), hash: [0; 32] });
        peer
    }

    /// What is up at second 100: name, severity, of whom, and for how many seconds.
    fn up(me: HostId, peers: [(HostId, Peer); 2]) -> Vec<(String, Severity, String, u64)> {
        up_with(me, peers, &Board::new(at(0)), None, &BTreeMap::new())
    }

    fn up_with(
        me: HostId,
        peers: [(HostId, Peer); 2],
        board: &Board,
        proved: Option<Position>,
        unproved: &BTreeMap<HostId, Unproved>,
    ) -> Vec<(String, Severity, String, u64)> {
        let rule = SyncRule { members: [SPARE, THIRD].into(), min_sync: 1 };
        up_under(&rule, &registry(&rule), me, peers, board, proved, unproved)
    }

    fn up_under(
        rule: &SyncRule,
        registry: &Registry,
        me: HostId,
        peers: [(HostId, Peer); 2],
        board: &Board,
        proved: Option<Position>,
        unproved: &BTreeMap<HostId, Unproved>,
    ) -> Vec<(String, Severity, String, u64)> {
        let rule = rule.clone();
        let first = Grant::first(position().lineage, HUB, "hub".parse().unwrap(), UnixMillis(0));
        let chain = Chain::begin(first).unwrap();
        let grant = chain.head().id;
        let last = Mark { position: position(), hash: [0; 32] };
        let standing = Standing {
            grant,
            chain: None,
            last,
            committed: 4,
            rule,
            seals: Seals::default(),
            leads: me == HUB,
        };
        let sight = Sight {
            registry,
            board,
            me,
            chain: &chain,
            standing: &standing,
            peers: &BTreeMap::from(peers),
            rivals: &[],
            copying: false,
            rolled_back: false,
            proved,
            unproved,
            now: at(100),
        };
        let brief = |a: AlarmReport| (a.name.to_string(), a.severity, a.subject, a.since_ms / 1000);
        sight.alarms().into_iter().map(brief).collect()
    }

    fn gone(heard: u64) -> Peer {
        let mut peer = peer(heard);
        (peer.connected, peer.acked) = (false, None);
        peer
    }

    #[test]
    fn a_primary_tells_of_silent_standbys_and_once_too_few_are_left_that_edits_are_refused() {
        let (warning, critical) = (Severity::Warning, Severity::Critical);
        let lost = |host: &str, since| ("standby-lost".to_owned(), warning, host.to_owned(), since);
        assert_eq!(up(HUB, [(SPARE, peer(100)), (THIRD, gone(91))]), []);
        assert_eq!(up(HUB, [(SPARE, peer(100)), (THIRD, gone(80))]), [lost("third", 20)]);
        let short = ("sync-short".to_owned(), critical, "hub".to_owned(), 5);
        assert_eq!(up(HUB, [(SPARE, gone(95)), (THIRD, gone(80))]), [lost("third", 20), short]);
        assert_eq!(
            up(HUB, [(SPARE, gone(99)), (THIRD, gone(80))]),
            [lost("third", 20)],
            "a moment is no alarm"
        );
    }

    /// Protects: of what an agent says of the journal, and nobody has proved, an operator hears; of what a standby has not
    /// got yet, nobody need.
    #[test]
    fn an_agent_that_says_more_than_the_primary_has_is_told_of() {
        let board = |revision| {
            let position = Position { revision, ..position() };
            let [digest, place] = Default::default();
            let holds = Some(Holding { position, view_revision: revision, digest, place });
            let mut board = Board::new(at(0));
            board.heard(at(97), THIRD, Report { incarnation: 1, holds, ..Report::default() });
            board
        };
        let there = || [(SPARE, peer(100)), (THIRD, peer(100))];
        let proved = |revision| Some(Position { revision, ..position() });
        let said = |revision, proved| up_with(HUB, there(), &board(revision), proved, &BTreeMap::new());
        let claim = |since| ("claim-unproved".to_owned(), Severity::Warning, "third".to_owned(), since);
        assert_eq!((said(4, None), said(5, None)), (vec![], vec![claim(3)]));
        assert_eq!((said(5, proved(5)), said(6, proved(5))), (vec![], vec![claim(3)]));
        let at_a_standby = [(HUB, peer(100)), (THIRD, peer(100))];
        assert_eq!(up_with(SPARE, at_a_standby, &board(5), None, &BTreeMap::new()), []);
        let gone = HostId(Uuid::from_u128(99));
        let shown = [THIRD, gone].map(|host| (host, Unproved { position: position(), since: at(40) }));
        assert_eq!(up_with(HUB, there(), &board(4), None, &shown.into()), [claim(60)]);
    }

    #[test]
    fn a_silent_standby_that_does_not_count_is_told_of_too() {
        let rule = SyncRule { members: [SPARE].into(), min_sync: 1 };
        let mut rows: Vec<_> = registry(&rule).rows().collect();
        rows.push(Row::Package(Package::bare(THIRD, ManagerType::registry())));
        let registry = Registry::from_rows(position(), rows).unwrap();
        let (board, peers) = (Board::new(at(0)), [(SPARE, peer(100)), (THIRD, gone(80))]);
        let told = up_under(&rule, &registry, HUB, peers, &board, None, &BTreeMap::new());
        assert_eq!(told, [("standby-lost".to_owned(), Severity::Warning, "third".to_owned(), 20)]);
    }

    #[test]
    fn a_linked_standby_that_does_not_become_level_is_an_alarm_of_its_own() {
        let mut slow = peer(100);
        slow.behind_since = Some(at(60));
        let behind = ("standby-behind".to_owned(), Severity::Warning, "spare".to_owned(), 40);
        assert_eq!(up(HUB, [(SPARE, slow.clone()), (THIRD, peer(100))]), [behind]);
        slow.behind_since = Some(at(80));
        assert_eq!(up(HUB, [(SPARE, slow), (THIRD, peer(100))]), []);
    }

    #[test]
    fn a_standby_tells_of_a_silent_primary_alone() {
        assert_eq!(up(SPARE, [(HUB, peer(91)), (THIRD, gone(1))]), []);
        let none = ("no-primary".to_owned(), Severity::Critical, "hub".to_owned(), 60);
        assert_eq!(up(SPARE, [(HUB, gone(40)), (THIRD, peer(100))]), [none]);
    }
}
