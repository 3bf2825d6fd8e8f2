//! A manager's board: silence, self-doubt, and what newer reports do.

use crate::support::*;
use echelon_core::board::{Board, DOUBT_LASTS, Report, WARMING, state_of};
use echelon_core::id::HostId;
use echelon_core::message::{Health, Using};
use echelon_core::name::Text;
use echelon_core::report::{CandidateState, Outcome};
use std::time::Duration;

/// Three heartbeats of 2 s.
const SILENCE: Duration = Duration::from_secs(6);
const MICRO: Duration = Duration::from_micros(1);

fn report(incarnation: u64, sequence: u64, health: Health) -> Report {
    Report { incarnation, sequence, packages: [(ty(CC), health)].into(), ..Report::default() }
}

fn passing(sequence: u64) -> Report {
    report(1, sequence, Health::Passing)
}

/// A board and so many agents, all heard at its start.
fn board(agents: u128) -> Board {
    let mut board = Board::new(at(0.0));
    for n in 0..agents {
        board.heard(at(0.0), host_id(n), passing(1)).expect("an agent heard first is news");
    }
    board
}

/// Every agent but these is heard.
fn hear_all_but(board: &mut Board, now: f64, quiet: std::ops::Range<u128>) {
    let all: Vec<_> = board.agents().map(|(host, _)| host).collect();
    for host in all.into_iter().filter(|h| !quiet.contains(&h.0.as_u128())) {
        board.heard(at(now), host, passing(1 + now as u64));
    }
}

fn silent(board: &Board) -> Vec<HostId> {
    board.agents().filter(|(_, a)| a.is_silent()).map(|(host, _)| host).collect()
}

#[test]
fn an_agent_is_silent_after_three_heartbeats_which_makes_suspect_and_never_down() {
    let mut board = board(1);
    assert_eq!(board.state_of(host_id(0), &ty(CC)).0, CandidateState::Live);
    assert!(board.judge(at(0.0) + SILENCE).is_empty());
    let entries = board.judge(at(0.0) + SILENCE + MICRO);
    assert_eq!(entries.len(), 1);
    assert!(entries[0].silent && entries[0].packages[&ty(CC)] == Health::Passing);
    assert_eq!(board.state_of(host_id(0), &ty(CC)).0, CandidateState::Suspect);
    assert!(board.judge(at(7.0)).is_empty(), "it is told once");
    board.judge(at(1_000_000.0));
    assert_eq!(board.state_of(host_id(0), &ty(CC)).0, CandidateState::Suspect);
    let heard = board.heard(at(1_000_001.0), host_id(0), passing(2)).expect("it is back, which is news");
    assert!(!heard.silent && silent(&board).is_empty());
}

/// It is heard, and what it says of its own packages counts; what it uses is only its own failure.
#[test]
fn what_an_isolated_agent_uses_is_ignored() {
    let using = |outcome, seconds| Using {
        ty: ty(CC),
        manager: None,
        since: secs(seconds),
        cause: Text::lossy("no answer within 1s"),
        outcome,
    };
    let mut board = board(1);
    let said = Report { using: vec![using(Outcome::Failover, 3)], ..passing(2) };
    board.heard(at(1.0), host_id(0), said);
    let isolated = |sequence| {
        let using = vec![using(Outcome::LastResort, 1)];
        Report { using, isolated: true, ..report(1, sequence, Health::Unchecked) }
    };
    let told = board.heard(at(5.0), host_id(0), isolated(3)).expect("its package is news");
    assert!(!told.silent && told.packages[&ty(CC)] == Health::Unchecked);
    let agent = board.agent(host_id(0)).unwrap();
    assert_eq!(agent.report().using, [using(Outcome::Failover, 7)], "four seconds have passed");
    assert!(agent.report().isolated);
    board.heard(at(6.0), host_id(0), Report { isolated: false, ..isolated(4) });
    assert_eq!(board.agent(host_id(0)).unwrap().report().using, [using(Outcome::LastResort, 1)]);
    board.heard(at(7.0), host_id(9), isolated(1));
    assert!(board.agent(host_id(9)).unwrap().report().using.is_empty(), "it has said nothing before");
}

#[test]
fn a_session_that_ended_is_no_silence_yet() {
    let mut board = board(1);
    board.session_ended(host_id(0));
    assert!(!board.agent(host_id(0)).unwrap().is_connected());
    assert!(board.judge(at(5.0)).is_empty());
    assert_eq!(board.state_of(host_id(0), &ty(CC)).0, CandidateState::Live);
    assert_eq!(board.judge(at(6.1)).len(), 1);
}

#[test]
fn only_what_others_would_see_is_news_and_older_reports_are_ignored() {
    let mut board = board(1);
    let host = host_id(0);
    let failing = Health::Failing { demands_answer: true, reason: parse("no answer") };
    assert!(board.heard(at(1.0), host, passing(2)).is_none(), "nothing in it is new");
    let entry = board.heard(at(2.0), host, report(1, 3, failing.clone())).expect("a failed check is news");
    assert_eq!((entry.incarnation, entry.sequence), (1, 3));
    assert_eq!(board.state_of(host, &ty(CC)).0, CandidateState::Down);
    assert!(board.heard(at(3.0), host, passing(2)).is_none(), "an older sequence");
    assert_eq!(board.state_of(host, &ty(CC)).0, CandidateState::Down);
    assert!(board.heard(at(4.0), host, report(2, 1, Health::Passing)).is_some(), "a newer incarnation");
    assert!(board.heard(at(5.0), host, report(1, 99, failing)).is_none(), "an older incarnation");
    assert_eq!(board.state_of(host, &ty(CC)).0, CandidateState::Live);
    let late = board.judge(at(10.1));
    assert_eq!(late.len(), 1, "an older report is no sign of life");
}

#[test]
fn a_failed_check_is_not_forgotten_when_its_agent_falls_silent() {
    let mut board = Board::new(at(0.0));
    let failing = Health::Failing { demands_answer: false, reason: parse("refused") };
    board.heard(at(0.0), host_id(0), report(1, 1, failing));
    let entry = board.judge(at(10.0)).remove(0);
    assert_eq!(state_of(&entry, &ty(CC)).0, CandidateState::Down);
    assert_eq!(state_of(&entry, &ty("audit")).0, CandidateState::Suspect);
}

#[test]
fn an_expected_agent_that_is_not_heard_is_judged_when_the_board_is_warm() {
    let mut board = Board::new(at(100.0));
    board.expect(host_id(0));
    board.expect(host_id(1));
    assert_eq!(board.entries().count(), 0, "nothing is known of it");
    assert_eq!(board.state_of(host_id(0), &ty(CC)).0, CandidateState::Unknown);
    board.heard(at(110.0), host_id(1), passing(1));
    board.expect(host_id(1));
    assert_eq!(board.state_of(host_id(1), &ty(CC)).0, CandidateState::Live, "who was heard stays heard");
    let warm = at(100.0) + WARMING;
    assert!(board.is_warming(warm - MICRO) && !board.is_warming(warm));
    board.heard(warm, host_id(1), passing(2));
    assert!(board.judge(warm).is_empty());
    let entries = board.judge(warm + MICRO);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].host, entries[0].incarnation, entries[0].silent), (host_id(0), 0, true));
    assert_eq!(board.state_of(host_id(0), &ty(CC)).0, CandidateState::Suspect);
}

#[test]
fn a_host_enrolled_long_after_the_start_has_30_s_too() {
    let mut board = board(1);
    for now in 1..1000 {
        hear_all_but(&mut board, now as f64, 0..0);
        board.judge(at(now as f64));
    }
    board.expect(host_id(9));
    hear_all_but(&mut board, 1028.0, 9..10);
    assert!(board.judge(at(1028.9)).is_empty());
    assert_eq!(board.judge(at(1029.1)).len(), 1);
}

#[test]
fn if_a_third_falls_silent_at_once_the_board_doubts_itself_for_a_minute_at_most() {
    let mut board = board(16);
    hear_all_but(&mut board, 4.0, 0..5);
    assert!(board.judge(at(6.5)).is_empty(), "5 of 16 are over 30 %");
    assert!(board.is_doubting() && silent(&board).is_empty());
    let doubted = at(6.5);
    for now in 7..66 {
        hear_all_but(&mut board, now as f64, 0..5);
        assert!(board.judge(at(now as f64)).is_empty() && board.is_doubting(), "{now}");
    }
    hear_all_but(&mut board, 66.4, 0..5);
    let entries = board.judge(doubted + DOUBT_LASTS);
    assert_eq!((entries.len(), board.is_doubting()), (5, false), "then it judges all the same");
    assert!(board.judge(doubted + DOUBT_LASTS + MICRO).is_empty() && !board.is_doubting());
}

#[test]
fn doubt_ends_when_fewer_than_30_percent_are_silent_and_those_are_judged() {
    let mut board = board(16);
    hear_all_but(&mut board, 4.0, 0..6);
    board.judge(at(6.5));
    hear_all_but(&mut board, 8.0, 0..5);
    assert!(board.judge(at(8.5)).is_empty() && board.is_doubting(), "5 of 16 are still 30 %");
    hear_all_but(&mut board, 9.0, 0..4);
    assert_eq!(board.judge(at(9.5)).len(), 4);
    assert!(!board.is_doubting());
}

#[test]
fn fewer_than_five_or_at_most_30_percent_are_no_reason_to_doubt() {
    for (agents, quiet) in [(4, 4), (8, 4), (17, 5), (100, 30)] {
        let mut board = board(agents);
        hear_all_but(&mut board, 4.0, 0..quiet);
        assert_eq!(board.judge(at(6.5)).len(), quiet as usize, "{quiet} of {agents}");
        assert!(!board.is_doubting());
    }
}

#[test]
fn silence_that_comes_piece_by_piece_within_three_heartbeats_is_doubted_too() {
    let mut board = board(0);
    // Heartbeats are spread over 2 s; then the network of the manager breaks.
    for n in 0..100_u128 {
        board.heard(at(n as f64 * 0.02), host_id(n), passing(1));
    }
    for tenth in 0..40 {
        board.judge(at(6.0 + f64::from(tenth) * 0.1));
    }
    assert!(board.is_doubting());
    assert!(silent(&board).len() <= 35, "{} of 100 were suspected", silent(&board).len());
}

#[test]
fn those_who_fall_silent_one_after_another_over_a_long_time_are_judged() {
    let mut board = board(20);
    for n in 0..12_u128 {
        let now = 10.0 + 7.0 * n as f64;
        hear_all_but(&mut board, now, 0..n);
        board.judge(at(now));
        assert!(!board.is_doubting(), "{n}");
    }
    assert_eq!(silent(&board).len(), 11, "more than half, and nothing wrong with this board");
}

#[test]
fn hosts_that_are_gone_are_forgotten() {
    let mut board = board(3);
    board.forget(host_id(0));
    board.retain(|host| host != host_id(1));
    assert_eq!(board.agents().map(|(host, _)| host).collect::<Vec<_>>(), [host_id(2)]);
    assert_eq!(board.judge(at(100.0)).len(), 1);
}

#[test]
fn a_package_not_checked_yet_is_news_only_where_something_else_was_told_before() {
    let mut board = Board::new(at(0.0));
    let mut told = |now, report| board.heard(at(now), host_id(0), report).is_some();
    assert!(!told(0.0, report(1, 1, Health::Unchecked)));
    assert!(told(1.0, report(1, 2, Health::Passing)));
    assert!(told(2.0, report(2, 1, Health::Unchecked)), "the restarted agent takes back what was told");
    assert!(!told(3.0, report(2, 2, Health::Unchecked)));
}
