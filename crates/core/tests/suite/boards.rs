//! The boards of several managers: one of them judges each agent, and all agree on what it says.

use crate::support::*;
use echelon_core::board::{Agent, Board, MAX_EARLY, Report, Told, WARMING};
use echelon_core::id::HostId;
use echelon_core::message::{Health, Using};
use echelon_core::report::Outcome;
use echelon_core::time::Monotonic;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

const MANAGERS: usize = 3;
const AGENTS: u128 = 4;

fn manager(n: usize) -> HostId {
    host_id(1_000 + n as u128)
}

fn report(sequence: u64, health: &Health) -> Report {
    Report { incarnation: 1, sequence, packages: [(ty(CC), health.clone())].into(), ..Report::default() }
}

/// Managers with a board each, and the links between them.
struct Site {
    now: Monotonic,
    boards: Vec<Board>,
    /// What is on its way from one to another, where there is a link.
    links: Vec<Vec<Option<VecDeque<Told>>>>,
    sequence: u64,
}

impl Site {
    fn new() -> Self {
        let now = at(100.0);
        let boards = (0..MANAGERS).map(|_| Board::new(now)).collect();
        let links = vec![vec![None; MANAGERS]; MANAGERS];
        Self { now, boards, links, sequence: 0 }
    }

    fn linked() -> Self {
        let mut site = Self::new();
        site.link_all();
        site
    }

    fn pairs() -> impl Iterator<Item = (usize, usize)> {
        (0..MANAGERS).flat_map(|a| (0..a).map(move |b| (a, b)))
    }

    fn link(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if self.links[from][to].is_none() {
                self.links[from][to] = Some(VecDeque::new());
                self.boards[from].link_up(manager(to));
            }
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if self.links[from][to].take().is_some() {
                self.boards[from].link_down(self.now, manager(to));
            }
        }
    }

    fn link_all(&mut self) {
        Self::pairs().for_each(|(a, b)| self.link(a, b));
    }

    fn hear(&mut self, at: usize, agent: u128, health: &Health) {
        self.sequence += 1;
        let report = report(self.sequence, health);
        self.boards[at].heard(self.now, host_id(agent), report);
    }

    /// Says what is due, two agents at a time, and delivers what is on its way, at most so many words of each link.
    fn deliver(&mut self, most: usize, twice: bool) {
        for (from, to) in (0..MANAGERS).flat_map(|a| (0..MANAGERS).map(move |b| (a, b))) {
            let Some(way) = &mut self.links[from][to] else { continue };
            way.extend(self.boards[from].tell(self.now, manager(from), manager(to), 2));
            for _ in 0..most {
                let Some(told) = way.pop_front() else { break };
                let (own, from) = (manager(to), manager(from));
                if twice {
                    self.boards[to].learn(self.now, own, from, told.clone());
                }
                self.boards[to].learn(self.now, own, from, told);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            self.deliver(10, false);
        }
        let idle = |board: &Board| (0..MANAGERS).all(|to| !board.owes(manager(to)));
        assert!(self.boards.iter().all(idle), "there is something left to tell");
    }

    fn judge(&mut self) {
        let now = self.now;
        self.boards.iter_mut().for_each(|board| drop(board.judge(now)));
    }

    fn agent(&self, at: usize, agent: u128) -> &Agent {
        self.boards[at].agent(host_id(agent)).unwrap()
    }

    /// What a board says of an agent, whoever asks.
    fn said(&self, at: usize, agent: u128) -> Option<(HostId, bool, bool, Health)> {
        let agent = self.boards[at].agent(host_id(agent)).filter(|agent| agent.is_heard())?;
        let health = agent.report().packages[&ty(CC)].clone();
        let by = agent.elsewhere().unwrap_or(manager(at));
        Some((by, agent.is_connected(), agent.is_silent(), health))
    }
}

#[derive(Clone, Debug)]
enum Event {
    Hear { at: usize, agent: u128, failing: bool },
    End { at: usize, agent: u128 },
    Link(usize, usize),
    Cut(usize, usize),
    Deliver { most: usize, twice: bool },
    Wait(u64),
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let which = || 0..MANAGERS;
    prop_oneof![
        6 => (which(), 0..AGENTS, any::<bool>()).prop_map(|(at, agent, failing)| Event::Hear { at, agent, failing }),
        2 => (which(), 0..AGENTS).prop_map(|(at, agent)| Event::End { at, agent }),
        2 => (which(), which()).prop_map(|(a, b)| Event::Link(a, b)),
        1 => (which(), which()).prop_map(|(a, b)| Event::Cut(a, b)),
        6 => (0..4_usize, any::<bool>()).prop_map(|(most, twice)| Event::Deliver { most, twice }),
        2 => (1..40_u64).prop_map(Event::Wait),
        1 => which().prop_map(Event::Restart),
    ]
}

fn happen(site: &mut Site, event: &Event) {
    match *event {
        Event::Hear { at, agent, failing } => {
            let failed = Health::Failing { demands_answer: true, reason: parse("no answer") };
            site.hear(at, agent, if failing { &failed } else { &Health::Passing });
        }
        Event::End { at, agent } => site.boards[at].session_ended(host_id(agent)),
        Event::Link(a, b) if a != b => site.link(a, b),
        Event::Cut(a, b) if a != b => site.cut(a, b),
        Event::Link(..) | Event::Cut(..) => {}
        Event::Deliver { most, twice } => site.deliver(most, twice),
        Event::Wait(seconds) => {
            site.now = site.now + secs(seconds);
            site.judge();
        }
        Event::Restart(n) => {
            (0..MANAGERS).filter(|other| *other != n).for_each(|other| site.cut(n, other));
            site.boards[n] = Board::new(site.now);
        }
    }
}

proptest! {
    /// Protects: whatever is lost, late, doubled or started again, all managers say the same of every agent once they
    /// have links to each other.
    #[test]
    fn boards_agree_once_the_links_are_up(events in prop::collection::vec(event(), 1..80)) {
        let mut site = Site::new();
        events.iter().for_each(|event| happen(&mut site, event));
        site.link_all();
        site.settle();
        // Long enough for every judgement, and for what it says to get around.
        for _ in 0..5 {
            site.now = site.now + WARMING;
            site.judge();
            site.settle();
        }
        for agent in 0..AGENTS {
            let said: Vec<_> = (0..MANAGERS).map(|at| site.said(at, agent)).collect();
            prop_assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "of agent {agent}: {said:?}");
        }
    }
}

/// Protects: ten thousand agents that say the same every two seconds cost nothing between managers.
#[test]
fn a_heartbeat_that_says_nothing_new_is_told_to_nobody() {
    let mut site = Site::linked();
    let using = |seconds| Using {
        ty: ty(CC),
        manager: Some(name("agent1")),
        since: secs(seconds),
        cause: parse("agent3: connection refused"),
        outcome: Outcome::Failover,
    };
    let hear = |site: &mut Site, using: Vec<Using>| {
        site.sequence += 1;
        let report = Report { using, ..report(site.sequence, &Health::Passing) };
        site.boards[0].heard(site.now, host_id(0), report);
        site.boards[0].note_level(host_id(0));
    };
    hear(&mut site, vec![using(10)]);
    site.settle();
    for beat in 1..100 {
        site.now = site.now + secs(2);
        hear(&mut site, vec![using(10 + beat * 2)]);
        assert!(!site.boards[0].owes(manager(1)), "beat {beat}");
        site.judge();
    }
    let agent = site.agent(1, 0);
    assert!(agent.is_connected() && !agent.is_silent(), "the link stands for what is not told");
    assert!(agent.heard_ago(site.now) <= secs(2));
    hear(&mut site, vec![]);
    assert!(site.boards[0].owes(manager(1)));
    site.settle();
    assert!(site.agent(1, 0).report().using.is_empty());
}

/// Protects: only the manager that had the last session judges silence, and a session elsewhere ends that.
#[test]
fn silence_is_for_the_manager_of_the_last_session_to_judge() {
    let mut site = Site::linked();
    site.hear(0, 0, &Health::Passing);
    site.hear(1, 1, &Health::Passing);
    site.settle();
    site.now = site.now + secs(7);
    assert!(site.boards[1].judge(site.now).iter().all(|entry| entry.host != host_id(0)));
    assert_eq!(site.boards[0].judge(site.now).len(), 1);
    site.settle();
    assert!(site.agent(2, 0).is_silent() && site.agent(1, 0).is_silent());
    let entry = site.boards[2].entries().find(|entry| entry.host == host_id(0)).unwrap();
    assert!(entry.silent && entry.incarnation == 1, "told by who knows");
    // It turns up at another manager.
    site.hear(2, 0, &Health::Passing);
    site.settle();
    assert!(!site.agent(0, 0).is_silent() && site.agent(0, 0).elsewhere() == Some(manager(2)));
    site.boards[0].session_ended(host_id(0));
    site.now = site.now + WARMING * 2;
    assert!(site.boards[0].judge(site.now).is_empty());
}

/// Protects: agents whose manager died stay as last known and are judged after 30 s, by whoever is left; those that
/// have turned up elsewhere are not.
#[test]
fn agents_of_a_dead_manager_are_judged_after_30_s() {
    let mut site = Site::linked();
    site.hear(0, 0, &Health::Passing);
    site.hear(0, 1, &Health::Passing);
    site.settle();
    site.cut(0, 1);
    site.cut(0, 2);
    site.hear(2, 1, &Health::Passing);
    let micro = Duration::from_micros(1);
    let lost = site.now;
    site.now = lost + WARMING;
    site.hear(2, 1, &Health::Passing);
    site.settle();
    assert!(site.boards[1].judge(lost + WARMING).is_empty());
    assert!(site.agent(1, 0).is_connected(), "as it was last known");
    let entries = site.boards[1].judge(lost + WARMING + micro);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].host, entries[0].silent), (host_id(0), true));
    assert_eq!(entries[0].incarnation, 0, "whoever never heard it can speak of its silence only");
    // The dead one was only cut off: what it says of its agents holds again.
    site.hear(0, 0, &Health::Passing);
    site.link(0, 1);
    site.settle();
    assert!(!site.agent(1, 0).is_silent());
}

/// Protects: the mass of agents that others judge does not hide that all of one's own have fallen silent.
#[test]
fn a_manager_doubts_itself_by_the_agents_that_it_judges() {
    let mut site = Site::linked();
    (0..6).for_each(|agent| site.hear(0, agent, &Health::Passing));
    (6..60).for_each(|agent| site.hear(1, agent, &Health::Passing));
    site.settle();
    site.now = site.now + secs(7);
    assert!(site.boards[0].judge(site.now).is_empty());
    assert!(site.boards[0].is_doubting());
}

/// Protects: a manager that was killed and is back learns what only others remember that it said, also where a third
/// one tells it to somebody who is linked to it already.
#[test]
fn what_a_restarted_manager_said_comes_back_by_way_of_others() {
    let mut site = Site::new();
    site.link(0, 1);
    site.hear(0, 0, &Health::Passing);
    site.settle();
    happen(&mut site, &Event::Restart(0));
    site.link(0, 2);
    site.settle();
    site.link(1, 2);
    site.settle();
    assert_eq!(site.said(0, 0), site.said(2, 0));
    assert_eq!(site.said(0, 0), Some((manager(0), false, false, Health::Passing)));
}

/// Protects: what is told of a host that a standby's registry does not have yet is there once it has it.
#[test]
fn what_is_told_early_is_kept_within_bounds() {
    let mut site = Site::linked();
    site.hear(0, 0, &Health::Passing);
    let told = site.boards[0].tell(site.now, manager(0), manager(1), 10).remove(0);
    let board = &mut site.boards[1];
    for n in 0..2 * MAX_EARLY as u128 {
        board.keep_early(manager(0), Told { host: host_id(n), ..told.clone() });
    }
    assert_eq!(board.take_ripe(|host| host == host_id(0)), [(manager(0), told)]);
    assert_eq!(board.take_ripe(|_| true).len(), MAX_EARLY - 1);
}

/// Protects: every manager can say whom each of the others serves.
#[test]
fn who_serves_whom_is_known_to_all() {
    let mut site = Site::linked();
    site.hear(0, 0, &Health::Passing);
    site.hear(1, 1, &Health::Passing);
    site.hear(1, 2, &Health::Passing);
    site.settle();
    let served = site.boards[2].served_elsewhere();
    assert_eq!(served, [(manager(0), 1), (manager(1), 2)].into());
    assert!(!site.agent(2, 0).is_here() && site.agent(0, 0).is_here());
}

/// What another manager counts is input.
#[test]
fn counting_ends_where_numbers_do() {
    let (now, mut board) = (at(100.0), Board::new(at(100.0)));
    let agent = {
        let mut other = Board::new(now);
        other.link_up(manager(0));
        other.heard(now, host_id(1), report(1, &Health::Passing));
        other.tell(now, manager(1), manager(0), 9).remove(0)
    };
    board.link_up(manager(1));
    board.learn(now, manager(0), manager(1), Told { word: u64::MAX, ..agent.clone() });
    board.heard(now, host_id(1), report(1, &Health::Passing));
    board.session_ended(host_id(1));
    board.learn(now, manager(0), manager(1), Told { by: manager(0), word: u64::MAX, sequence: 2, ..agent });
    board.judge(now + WARMING * 2);
    assert!(board.agent(host_id(1)).is_some_and(Agent::is_silent));
}
