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

/// A manager that is primary in one of two lineages, and the other one's chain.
fn torn(rival_epoch: u64) -> (Member, Chain) {
    let (chain, before) = genesis();
    let theirs = grant(&chain, Basis::Force, 3, before);
    let theirs = Grant { id: GrantId { epoch: rival_epoch, ..theirs.id }, ..theirs };
    let rival = chain.extended(theirs).unwrap();
    // What the registry takes note of first says once more who counts by the grant, which the rows do not say yet.
    let sync = Some(SyncChange { rule: counting(&[3], 1), alone: true });
    let ours = Grant { sync: counting(&[3], 1), ..grant(&chain, Basis::Force, 2, before) };
    let chain = chain.extended(ours).unwrap();
    let first = Entry { sync, ..entry(before, chain.head().id, 1) };
    let mut member = alone(2, stored(chain, counting(&[2, 3], 1), &[first]), &[]);
    handle(&mut member, 0, Input::Heard(rival.clone()));
    assert!(member.is_leading() && member.rivals() == [rival.clone()]);
    (member, rival)
}

fn proposed(effects: &[Effect]) -> Option<Grant> {
    effects.iter().find_map(|e| match e {
        Effect::Told(_, Told::Proposed(proposal)) => Some(proposal.grant.clone()),
        _ => None,
    })
}

/// Those that count may all have gone over to the other lineage: until somebody chooses nothing is committed.
#[test]
fn what_a_grant_says_of_who_counts_is_no_change_where_the_registry_takes_note_of_it() {
    let (mut member, rival) = torn(2);
    let out = handle(&mut member, 0, hand_over(2));
    assert!(out.iter().any(|e| matches!(e, Effect::Prove(_))), "{out:?}");
    handle(&mut member, 0, Input::Abort(request(5)));
    let grant = proposed(&handle(&mut member, 0, choose())).expect("a proposal");
    handle(&mut member, 0, Input::Promote(grant));
    assert!(matches!(rival.compare(member.chain()), Relation::Newer(_)) && member.is_leading());
}

#[test]
fn nothing_comes_of_the_choice_of_a_primary_that_turns_out_to_have_lost_edits() {
    let (mut member, _) = torn(2);
    let grant = proposed(&handle(&mut member, 0, choose())).expect("a proposal");
    let lost = member.log().last().position.next();
    let out = handle(&mut member, 0, Input::Witnessed(lost));
    assert!(out.contains(&Effect::Told(request(9), Told::Refused(Refused::RolledBack))), "{out:?}");
    handle(&mut member, 0, Input::Promote(grant));
    assert_eq!((member.rolled_back(), member.is_leading()), (Some(lost), false));
}

/// Fencing numbers rise with the epoch, and end at one that promotions never reach.
#[test]
fn a_choice_has_a_later_epoch_than_each_lineage_but_one_that_was_made_up() {
    for (rival, epoch) in [(2, 3), (40, 41), (u64::MAX, 3), (1 << 21, 3)] {
        let (mut member, _) = torn(rival);
        let grant = proposed(&handle(&mut member, 0, choose())).expect("a proposal");
        assert_eq!(grant.id.epoch, epoch);
        let out = handle(&mut member, 0, Input::Promote(grant));
        assert!(out.iter().any(|e| matches!(e, Effect::Told(_, Told::Done(_)))), "{out:?}");
    }
}

/// Protects: their journals may be of one length, so that by positions nobody sees it; what a grant says of itself tells.
#[test]
fn a_grant_that_was_given_twice_comes_to_light_where_the_journals_are_the_same() {
    let (chain, before) = genesis();
    let ours = chain.extended(grant(&chain, Basis::Handover, 1, before)).unwrap();
    let theirs = chain.extended(grant(&chain, Basis::Handover, 2, before)).unwrap();
    let rule = counting(&[], 1);
    let mut twin = alone(1, stored(ours.clone(), rule.clone(), &[]), &[2]);
    let mut primary = alone(2, stored(theirs, rule, &[]), &[1]);
    let standing = primary.standing();
    assert_eq!((standing.grant, standing.last), (twin.chain().head().id, twin.standing().last));
    let out = handle(&mut twin, 0, Input::Said(host(2), MemberMessage::Standing(standing.clone())));
    assert!(out.contains(&Effect::Send(host(2), MemberMessage::Grants(ours.clone()))), "{out:?}");
    handle(&mut primary, 0, Input::Said(host(1), MemberMessage::Grants(ours)));
    assert_eq!(primary.rivals(), [twin.chain().clone()]);
    let older_build = Standing { chain: None, ..standing };
    let out = handle(&mut twin, 9_000, Input::Said(host(2), MemberMessage::Standing(older_build)));
    assert!(!sent(&out, |m| matches!(m, MemberMessage::Grants(_))), "{out:?}");
}
