//! What is taken from a primary, and what counts for it.

use super::*;

#[test]
fn entries_under_another_grant_are_not_taken() {
    let (chain, before) = genesis();
    let mut member = alone(2, stored(chain.clone(), counting(&[2], 1), &[]), &[1]);
    let first = entry(before, chain.head().id, 1);
    // The primary goes by a newer grant of its own, of which this manager has not heard.
    let newer = grant(&chain, Basis::Handover, 1, first.mark).id;
    let entries = vec![first.clone()];
    let told = |grant| {
        MemberMessage::Append(Append { grant, after: before, entries: entries.clone(), committed: 1 })
    };
    let out = handle(&mut member, 10, Input::Said(host(1), told(newer)));
    assert!(!appends(&out) && !sent(&out, |m| matches!(m, MemberMessage::Appended { .. })), "{out:?}");
    assert!(sent(&out, |m| matches!(m, MemberMessage::Grants(_))), "{out:?}");
    let out = handle(&mut member, 20, Input::Said(host(1), told(chain.head().id)));
    assert!(appends(&out) && out.contains(&Effect::Commit(1)), "{out:?}");
}

#[test]
fn entries_that_do_not_follow_on_the_last_one_are_not_taken() {
    let (chain, before) = genesis();
    let grant = chain.head().id;
    let (ours, theirs) = (entry(before, grant, 1), entry(before, grant, 2));
    let mut member = alone(2, stored(chain, counting(&[2], 1), std::slice::from_ref(&ours)), &[1]);
    let entries = vec![entry(theirs.mark, grant, 3)];
    let append = Append { grant, after: theirs.mark, entries, committed: 2 };
    let out = handle(&mut member, 10, Input::Said(host(1), MemberMessage::Append(append)));
    let refused = MemberMessage::Appended { grant, last: ours.mark, accepted: false };
    assert!(!appends(&out) && out.contains(&Effect::Send(host(1), refused)), "{out:?}");
}

#[test]
fn nothing_is_committed_before_the_journals_are_known_to_agree() {
    let (chain, before) = genesis();
    let grant = chain.head().id;
    let ours = entry(before, grant, 1);
    let mut member = alone(2, stored(chain, counting(&[2], 0), std::slice::from_ref(&ours)), &[1]);
    // It may be another first entry that is committed: that of a primary whose disk was put back.
    let out = handle(&mut member, 10, Input::Said(host(1), MemberMessage::Committed { grant, revision: 1 }));
    assert!(!out.contains(&Effect::Commit(1)), "{out:?}");
    let append = Append { grant, after: ours.mark, entries: vec![], committed: 1 };
    let out = handle(&mut member, 20, Input::Said(host(1), MemberMessage::Append(append)));
    assert!(out.contains(&Effect::Commit(1)), "{out:?}");
}

#[test]
fn an_answer_under_an_older_grant_does_not_make_a_standby_one_that_is_there() {
    let mut net = Net::new(2, 1);
    let (grant, last) = (net.node(1).member.chain().head().id, net.last(1));
    net.input(host(1), hand_over(1));
    net.wire.clear();
    assert!(net.node(1).member.is_leading());
    let late = MemberMessage::Appended { grant, last, accepted: true };
    net.input(host(1), Input::Said(host(2), late));
    let refused = CannotWrite::TooFew { needed: 1, connected: 0, silent: vec![host(2)] };
    assert_eq!(net.write(1), Err(refused));
    net.run(Duration::from_secs(3));
    assert_eq!(net.write(1), Ok(1));
}

#[test]
fn what_this_journal_has_not_got_counts_for_nothing() {
    let mut net = Net::new(2, 1);
    net.lose = (usize::MAX, host(2), |m| matches!(m, MemberMessage::Append(_)));
    net.write(1).unwrap();
    let grant = net.node(1).member.chain().head().id;
    let (_, before) = genesis();
    let other = entry(entry(before, grant, 90).mark, grant, 91).mark;
    let ack = MemberMessage::Appended { grant, last: other, accepted: true };
    let out = net.ask(1, Input::Said(host(2), ack));
    assert!(!out.iter().any(|e| matches!(e, Effect::Commit(_))), "{out:?}");
}

#[test]
fn entries_of_a_history_that_the_grants_do_not_speak_of_are_not_taken() {
    let (chain, before) = genesis();
    let grant = chain.head().id;
    let mut member = alone(2, stored(chain, counting(&[2], 1), &[]), &[1]);
    let other = GrantId { lineage: Lineage(Uuid::from_u128(66)), ..grant };
    let append = Append { grant, after: before, entries: vec![entry(before, other, 1)], committed: 0 };
    let out = handle(&mut member, 10, Input::Said(host(1), MemberMessage::Append(append)));
    assert!(!appends(&out), "{out:?}");
}

#[test]
fn a_standby_with_another_journal_is_not_one_that_is_there() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(1).committed, 2);
    let (chain, before) = genesis();
    let (grant, other) = (chain.head().id, entry(before, chain.head().id, 90).mark);
    net.input(host(1), Input::Lost(host(2)));
    net.ask(1, Input::Met(host(2)));
    net.ask(1, Input::Said(host(2), MemberMessage::Appended { grant, last: other, accepted: false }));
    assert!(matches!(net.node(1).member.may_write(), Err(CannotWrite::TooFew { .. })));
}

/// Protects: two managers dial each other, and one of the two links comes a moment later: no edit is refused for that, and
/// what was on its way is sent again.
#[test]
fn a_second_link_to_a_standby_takes_nothing_away_from_what_it_has_said() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.settle();
    net.lose = (usize::MAX, host(2), |m| matches!(m, MemberMessage::Append(_)));
    net.write(1).unwrap();
    net.settle();
    net.lose.0 = 0;
    net.input(host(1), Input::Met(host(2)));
    assert_eq!(net.write(1), Ok(3));
    net.input(host(2), Input::Met(host(1)));
    net.settle();
    assert_eq!(net.node(1).committed, 3);
}

/// Protects: a standby that is back before its end was noticed hears what is committed, also where it has all of it: it
/// believes nobody before.
#[test]
fn a_new_process_of_a_standby_is_told_what_is_committed_though_nothing_is_new() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!((net.node(1).committed, net.node(2).committed), (1, 1));
    let entries = net.node(2).entries.clone();
    let stored = stored(net.node(1).member.chain().clone(), counting(&[2], 1), &entries);
    assert_eq!((stored.log.last().revision(), stored.log.committed()), (1, 0));
    net.nodes.get_mut(&host(2)).unwrap().member = Member::new(host(2), net.now, stored);
    net.input(host(2), Input::Met(host(1)));
    net.input(host(1), Input::Met(host(2)));
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(2).member.log().committed(), 1);
}

#[test]
fn a_standby_that_lost_what_it_had_does_not_count_until_it_has_it_again() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(1).committed, 1);
    let (chain, before) = genesis();
    let standing = standing(chain.head().id, before, counting(&[2], 1));
    let out = net.ask(1, Input::Said(host(2), MemberMessage::Standing(standing)));
    assert!(out.contains(&Effect::Feed { to: host(2), after: before }), "{out:?}");
    assert!(matches!(net.node(1).member.may_write(), Err(CannotWrite::TooFew { connected: 0, .. })));
}

/// It has gone over to grants of somebody who was put out, of which it had not heard; here they are contested.
#[test]
fn a_standby_that_goes_by_another_grant_does_not_count_as_connected() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    let (chain, _) = genesis();
    let contested = grant(&chain, Basis::Restore, 9, net.last(1));
    let elsewhere = standing(contested.id, net.last(2), counting(&[], 1));
    net.ask(1, Input::Said(host(2), MemberMessage::Standing(elsewhere)));
    let refused = CannotWrite::TooFew { needed: 1, connected: 0, silent: vec![host(2)] };
    assert_eq!(net.write(1), Err(refused));
}

#[test]
fn a_primary_that_was_put_back_is_told_by_a_standby_that_takes_nothing_from_it() {
    let (chain, before) = genesis();
    let grant = chain.head().id;
    let rule = counting(&[2, 3], 1);
    let mut member = alone(1, stored(chain, rule.clone(), &[]), &[2]);
    handle(&mut member, 0, Input::Tick);
    assert!(member.is_leading());
    // It has promised a third one to take nothing from the primary: it is not fed, and answers nothing.
    let lost = entry(before, grant, 1).mark;
    let seal = Seal { proposal: request(1), by: host(3), grant };
    let seals = [seal].into_iter().collect();
    let standing = Standing { seals, ..standing(grant, lost, rule) };
    let out = handle(&mut member, 10, Input::Said(host(2), MemberMessage::Standing(standing)));
    assert!(out.contains(&Effect::RolledBack(lost.position)) && out.contains(&Effect::Fenced), "{out:?}");
}
