//! Hand-overs and choices, and changes of who counts beside them.

use super::*;

#[test]
fn nobody_begins_anew_while_who_counts_is_being_changed() {
    let mut net = Net::new(2, 1);
    net.lose = (usize::MAX, host(2), |m| matches!(m, MemberMessage::Append(_)));
    // Its grant would bring the new rule, and with it commit what the second, by the old one, has to know of.
    net.change(1, counting(&[], 1));
    net.input(host(1), hand_over(1));
    assert_eq!(net.node(1).told, [Told::Refused(Refused::Changing)]);
    assert_eq!(net.node(1).committed, 0);
}

#[test]
fn nobody_is_chosen_while_who_counts_is_being_changed() {
    let mut net = Net::new(2, 1);
    let (chain, before) = genesis();
    let rival = chain.extended(grant(&chain, Basis::Force, 2, before)).unwrap();
    net.input(host(1), hand_over(1));
    net.run(Duration::from_secs(1));
    net.input(host(1), Input::Heard(rival));
    assert_eq!(net.node(1).member.rivals().len(), 1);
    net.lose = (usize::MAX, host(2), |m| matches!(m, MemberMessage::Append(_)));
    net.change(1, counting(&[], 1));
    net.input(host(1), choose());
    assert_eq!(net.node(1).told.last(), Some(&Told::Refused(Refused::Changing)));
}

#[test]
fn a_choice_names_a_grant_that_is_called_as_its_own() {
    let mut net = Net::new(2, 1);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    let (chain, before) = genesis();
    // Before it was put back to an older state, this manager had handed over to itself, too.
    let twin = chain.extended(grant(&chain, Basis::Handover, 1, before)).unwrap();
    net.input(host(1), hand_over(1));
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(1).member.chain().head().id, twin.head().id);
    net.input(host(1), Input::Heard(twin.clone()));
    net.input(host(1), choose());
    let Some(Told::Proposed(proposal)) = net.node(1).told.last().cloned() else { panic!("no proposal") };
    net.input(host(1), Input::Promote(proposal.grant));
    assert!(matches!(twin.compare(net.node(1).member.chain()), Relation::Newer(_)));
    assert!(net.node(1).member.rivals().is_empty());
}

#[test]
fn only_a_standby_that_counts_is_handed_over_to() {
    let mut net = Net::new(3, 1);
    net.change(1, counting(&[2], 1));
    net.run(Duration::from_secs(1));
    net.input(host(1), hand_over(3));
    assert_eq!(net.node(1).told, [Told::Refused(Refused::NotCounted)]);
}

#[test]
fn a_hand_over_waits_until_the_successor_has_everything() {
    let mut net = Net::new(3, 1);
    net.lose = (1, host(2), |m| matches!(m, MemberMessage::Append(_)));
    net.write(1).unwrap();
    net.settle();
    assert_eq!((net.node(1).committed, net.last(2).revision()), (1, 0));
    net.input(host(1), hand_over(2));
    assert_eq!((net.node(1).member.is_leading(), net.node(1).told.len()), (true, 0));
    net.run(Duration::from_secs(3));
    assert!(matches!(net.node(1).told[..], [Told::Done(_)]), "{:?}", net.node(1).told);
    assert!(net.node(2).member.is_leading() && net.last(2).revision() == 1);
}

#[test]
fn a_hand_over_waits_until_everything_is_committed() {
    let mut net = Net::new(3, 2);
    net.lose = (1, host(3), |m| matches!(m, MemberMessage::Append(_)));
    net.write(1).unwrap();
    net.settle();
    assert_eq!((net.node(1).committed, net.last(2).revision()), (0, 1));
    net.input(host(1), hand_over(2));
    assert_eq!((net.node(1).member.is_leading(), net.node(1).told.len()), (true, 0));
    net.run(Duration::from_secs(3));
    assert!(matches!(net.node(1).told[..], [Told::Done(_)]), "{:?}", net.node(1).told);
    assert_eq!(net.node(2).committed, 1);
}

#[test]
fn what_was_written_after_all_makes_a_hand_over_void() {
    let mut net = Net::new(2, 1);
    net.run(Duration::from_secs(1));
    let out = net.ask(1, hand_over(2));
    let grant = out.iter().find_map(|e| match e {
        Effect::Prove(grant) => Some(grant.clone()),
        _ => None,
    });
    // Whoever drives it had let this in before.
    net.input(host(1), Input::Write(vec![entry(net.last(1), net.node(1).member.chain().head().id, 1)]));
    net.input(host(1), Input::Promote(grant.expect("a grant to be proved")));
    assert_eq!(net.node(1).told, [Told::Refused(Refused::NotAsProposed)]);
    assert!(net.node(1).member.is_leading());
}

#[test]
fn what_was_written_after_all_makes_a_choice_void() {
    let mut net = Net::new(2, 1);
    let (chain, before) = genesis();
    let rival = chain.extended(grant(&chain, Basis::Force, 2, before)).unwrap();
    net.input(host(1), hand_over(1));
    net.run(Duration::from_secs(1));
    net.input(host(1), Input::Heard(rival));
    net.input(host(1), choose());
    let Some(Told::Proposed(proposal)) = net.node(1).told.last().cloned() else { panic!("no proposal") };
    assert_eq!(net.write(1), Err(CannotWrite::Handing));
    net.input(host(1), Input::Write(vec![entry(net.last(1), net.node(1).member.chain().head().id, 1)]));
    net.input(host(1), Input::Promote(proposal.grant));
    assert_eq!(net.node(1).told.last(), Some(&Told::Refused(Refused::NotAsProposed)));
}

/// A primary hands over, is set back to before that, and hands over to itself: both grants have one name.
#[test]
fn a_grant_that_was_given_twice_under_one_name_is_a_conflict_that_is_chosen_between() {
    let (chain, before) = genesis();
    let ours = chain.extended(grant(&chain, Basis::Handover, 1, before)).unwrap();
    let theirs = chain.extended(grant(&chain, Basis::Handover, 2, before)).unwrap();
    let head = theirs.head().id;
    assert_eq!(ours.head().id, head);
    let rule = counting(&[], 1);
    let mut twin = alone(1, stored(ours.clone(), rule.clone(), &[]), &[2]);
    let mut primary = alone(2, stored(theirs, rule, &[entry(before, head, 7)]), &[1]);
    handle(&mut twin, 0, Input::Tick);
    handle(&mut primary, 0, Input::Tick);
    let out = handle(&mut twin, 0, Input::Said(host(2), MemberMessage::Standing(primary.standing())));
    assert!(twin.rolled_back().is_some() && !twin.is_leading());
    assert!(out.contains(&Effect::Send(host(2), MemberMessage::Grants(ours.clone()))), "{out:?}");
    handle(&mut primary, 0, Input::Said(host(1), MemberMessage::Grants(ours.clone())));
    assert_eq!(primary.rivals(), [ours]);
    handle(&mut primary, 0, Input::Tick);
    let out = handle(&mut primary, 0, choose());
    let proposed = out.iter().find_map(|e| match e {
        Effect::Told(_, Told::Proposed(proposal)) => Some(proposal.grant.clone()),
        _ => None,
    });
    handle(&mut primary, 0, Input::Promote(proposed.expect("a proposal")));
    handle(&mut twin, 0, Input::Said(host(2), MemberMessage::Grants(primary.chain().clone())));
    assert_eq!((twin.chain(), twin.rolled_back()), (primary.chain(), None));
}
