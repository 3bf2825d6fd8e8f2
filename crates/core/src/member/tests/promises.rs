//! What promises a promotion by force rests on, and what it makes of them.

use super::*;

#[test]
fn a_later_promise_does_not_take_the_place_of_one_before() {
    let mut net = Net::new(3, 1);
    // The third cannot see that the primary lives; it is to be promoted, on the second's word.
    net.part(1, 3);
    let grant = net.propose(3, false).expect("a proposal");
    // The second loses sight of both, and is to be promoted in its turn. Nothing comes of it.
    net.part(2, 3);
    net.part(1, 2);
    let told = net.force(2, false);
    let silent = vec![host(3)];
    assert_eq!(told, Some(Told::Refused(Refused::TooFewHeard { needed: 2, heard: 1, silent })));
    // Still it keeps its word: what the primary writes now, the third knows nothing of.
    net.join(1, 2);
    net.run(Duration::from_secs(1));
    assert_eq!(
        net.write(1),
        Err(CannotWrite::TooFew { needed: 1, connected: 0, silent: vec![host(2), host(3)] })
    );
    net.input(host(3), Input::Promote(grant));
    assert!(matches!(net.node(3).told.last(), Some(Told::Done(_))));
    net.heal();
    assert!(net.node(3).member.is_leading());
    assert!(net.nodes.values().all(|n| n.member.seals().is_empty()));
    assert!(net.write(3).is_ok());
}

#[test]
fn a_promise_to_somebody_who_is_there_is_given_to_nobody_else() {
    let mut net = Net::new(4, 1);
    net.kill(1);
    assert!(net.propose(3, false).is_some());
    assert_eq!(net.force(4, true), Some(Told::Refused(Refused::Busy)));
    assert_eq!(net.force(2, true), Some(Told::Refused(Refused::Busy)));
}

#[test]
fn a_promise_that_comes_late_is_not_counted() {
    let (chain, before) = genesis();
    let head = chain.head().id;
    let rule = counting(&[2, 3, 4], 1);
    let (first, id) = (entry(before, head, 1), request(8));
    let mut member = alone(2, stored(chain, rule.clone(), &[]), &[3, 4]);
    handle(&mut member, 10, Input::Prepare(prepare(id, false)));
    handle(&mut member, 400, Input::Tick);
    let seal = Seal { proposal: promise(id), by: host(2), grant: head };
    let sealed = |last| MemberMessage::Sealed { seal, standing: standing(head, last, rule.clone()) };
    handle(&mut member, 500, Input::Said(host(3), sealed(first.mark)));
    let out = handle(&mut member, 2500, Input::Tick);
    assert!(sent(&out, |m| matches!(m, MemberMessage::Fetch { .. })), "{out:?}");
    // It has one entry more, which nobody fetches any more.
    handle(&mut member, 2600, Input::Said(host(4), sealed(entry(first.mark, head, 2).mark)));
    let append = Append { grant: head, after: before, entries: vec![first], committed: 0 };
    let out = handle(&mut member, 2700, Input::Said(host(3), MemberMessage::Append(append)));
    let refused = Refused::TooFewHeard { needed: 3, heard: 2, silent: vec![host(4)] };
    assert!(out.contains(&Effect::Told(id, Told::Refused(refused))), "{out:?}");
}

#[test]
fn whoever_is_asked_for_a_promise_adopts_the_grants_first_and_tells_what_is_left_then() {
    let mut net = Net::new(3, 1);
    net.lose = (usize::MAX, host(2), |m| matches!(m, MemberMessage::Committed { .. }));
    let before = net.last(2);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.last(2).revision(), 1);
    // The third was made primary without that entry, and the fourth asks.
    let chain = net.node(2).member.chain();
    let chain = chain.extended(grant(chain, Basis::Force, 3, before)).unwrap();
    let seal = Seal { proposal: request(8), by: host(1), grant: chain.head().id };
    net.input(host(2), Input::Said(host(1), MemberMessage::Seal { chain: chain.clone(), seal }));
    assert_eq!((net.node(2).member.chain(), net.node(2).surplus.len()), (&chain, 1));
    let is_told = |(_, to, message): &(HostId, HostId, MemberMessage)| match message {
        MemberMessage::Sealed { seal: s, standing } => {
            *to == host(1) && *s == seal && standing.last == before
        }
        _ => false,
    };
    assert!(net.wire.iter().any(is_told), "{:?}", net.wire);
}

#[test]
fn one_that_is_to_be_promoted_takes_nothing_from_the_primary() {
    let mut net = Net::new(3, 1);
    net.lose = (usize::MAX, host(2), |m| matches!(m, MemberMessage::Standing(_) | MemberMessage::Append(_)));
    let grant = net.propose(2, true).expect("the primary is not heard");
    let (head, last) = (net.node(2).member.chain().head().id, net.last(2));
    assert!(net.node(2).member.standing().seals.hold_under(head));
    let entries = vec![entry(last, head, 1)];
    let append = Append { grant: head, after: last, entries, committed: 0 };
    let out = net.ask(2, Input::Said(host(1), MemberMessage::Append(append)));
    assert!(!appends(&out), "{out:?}");
    net.input(host(2), Input::Promote(grant));
    assert!(matches!(net.node(2).told.last(), Some(Told::Done(_))));
}

#[test]
fn nothing_comes_of_a_promotion_that_was_to_build_on_a_journal_that_is_replaced() {
    let (chain, before) = genesis();
    let head = chain.head().id;
    let rule = counting(&[2, 3], 1);
    let (ours, theirs) = (entry(before, head, 1), entry(before, head, 2));
    let mut member = alone(2, stored(chain.clone(), rule.clone(), std::slice::from_ref(&ours)), &[1]);
    let missing = MemberMessage::Missing { grant: head, after: ours.mark };
    let out = handle(&mut member, 10, Input::Said(host(1), missing));
    assert!(out.contains(&Effect::Copy(host(1))), "{out:?}");
    let id = request(8);
    handle(&mut member, 20, Input::Prepare(prepare(id, true)));
    let out = handle(&mut member, 400, Input::Tick);
    assert!(out.iter().any(|e| matches!(e, Effect::Told(_, Told::Proposed(_)))), "{out:?}");
    // The copy is by newer grants: those that have promised may be free to take entries under them.
    let newer = chain.extended(grant(&chain, Basis::Handover, 1, theirs.mark)).unwrap();
    let out = handle(&mut member, 2600, Input::Loaded(stored(newer, rule, &[theirs])));
    assert!(out.contains(&Effect::Told(id, Told::Refused(Refused::NotAsProposed))), "{out:?}");
}

#[test]
fn a_promise_that_has_led_to_a_grant_is_not_taken_back() {
    let mut net = Net::new(3, 1);
    net.kill(1);
    let head = net.node(2).member.chain().head().id;
    assert!(matches!(net.force(2, false), Some(Told::Done(_))));
    // The third has not heard of the grant yet, and is held by its promise.
    let seal = Seal { proposal: request(u128::from(20_000_u64)), by: host(2), grant: head };
    let seals = [seal].into_iter().collect();
    let standing = Standing { seals, ..standing(head, net.last(3), counting(&[2, 3], 1)) };
    let out = net.ask(2, Input::Said(host(3), MemberMessage::Standing(standing)));
    assert!(!sent(&out, |m| matches!(m, MemberMessage::Unseal { .. })), "{out:?}");
}

/// A console repeats its command under the same id; of the try before, a word is still on its way.
#[test]
fn what_ends_the_promises_of_one_try_ends_none_of_the_next() {
    let mut net = Net::new(3, 1);
    net.kill(1);
    let id = request(8);
    let mut attempt = |promise| {
        net.input(host(2), Input::Prepare(Prepare { promise: request(promise), ..prepare(id, false) }));
        net.run(Duration::from_secs(3));
        assert!(matches!(net.node(2).told.last(), Some(Told::Proposed(_))), "{:?}", net.node(2).told);
        assert!(!net.node(3).member.seals().is_empty());
        let given_up = net.ask(2, Input::Abort(id));
        given_up.into_iter().find_map(|e| match e {
            Effect::Send(to, word @ MemberMessage::Unseal { .. }) if to == host(3) => Some(word),
            _ => None,
        })
    };
    let late = attempt(801).expect("a word that ends the promise");
    attempt(802);
    net.input(host(3), Input::Said(host(2), late));
    assert!(!net.node(3).member.seals().is_empty());
}

#[test]
fn what_is_lost_on_its_way_is_fetched_again() {
    let mut net = Net::new(3, 1);
    net.kill(2);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    net.kill(1);
    net.join(2, 3);
    net.lose = (1, host(3), |m| matches!(m, MemberMessage::Fetch { .. }));
    let told = net.force(2, false);
    assert!(matches!(told, Some(Told::Done(_))), "{told:?}");
    assert_eq!((net.lose.0, net.last(2).revision()), (0, 1));
}

#[test]
fn a_primary_that_answers_but_cannot_lead_is_replaced() {
    let mut net = Net::new(3, 1);
    net.input(host(1), Input::Witnessed(net.last(1).position.next()));
    assert!(!net.node(1).member.is_leading());
    let told = net.force(2, false);
    assert!(matches!(told, Some(Told::Done(_))), "{told:?}");
}

#[test]
fn without_what_the_newest_grant_builds_on_there_are_never_enough() {
    let mut net = Net::new(3, 1);
    net.kill(3);
    net.write(1).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(1).committed, 1, "only the second has it, and it is acknowledged");
    net.kill(1);
    net.join(2, 3);
    // The second is promoted, and dies when the third has heard of it and of nothing else.
    net.lose = (usize::MAX, host(3), |m| matches!(m, MemberMessage::Append(_)));
    assert!(matches!(net.force(2, false), Some(Told::Done(_))));
    net.kill(2);
    assert_eq!((net.node(3).member.chain().head().id.epoch, net.last(3).revision()), (2, 0));
    assert_eq!(net.force(3, false), Some(Told::Refused(Refused::NotLevel { wanted: 1 })));
    assert!(matches!(net.force(3, true), Some(Told::Done(_))));
}

/// Protects: what agents were shown is not given up without a word, also where the only standby that held it was set
/// back and all that count were heard.
#[test]
fn what_agents_were_shown_is_lost_only_where_that_is_accepted() {
    let mut net = Net::new(3, 1);
    let shown = net.last(2).position.next();
    net.kill(1);
    net.input(host(2), Input::Witnessed(shown));
    assert_eq!(net.force(2, false), Some(Told::Refused(Refused::NotLevel { wanted: shown.revision })));
    assert!(matches!(net.force(2, true), Some(Told::Done(_))));
}

#[test]
fn whoever_lacks_what_its_grant_builds_on_fetches_it_before_it_leads() {
    let (chain, before) = genesis();
    let first = entry(before, chain.head().id, 1);
    let chain = chain.extended(grant(&chain, Basis::Handover, 2, first.mark)).unwrap();
    let (head, rule) = (chain.head().id, counting(&[1], 1));
    let mut member = alone(2, stored(chain, rule.clone(), &[]), &[1]);
    handle(&mut member, 10, Input::Tick);
    assert!(!member.is_leading() && member.may_write() == Err(CannotWrite::NotLevel));
    let told = MemberMessage::Standing(standing(head, first.mark, rule));
    let out = handle(&mut member, 20, Input::Said(host(1), told));
    assert!(sent(&out, |m| matches!(m, MemberMessage::Fetch { .. })), "{out:?}");
    let append = Append { grant: head, after: before, entries: vec![first], committed: 0 };
    let out = handle(&mut member, 30, Input::Said(host(1), MemberMessage::Append(append)));
    assert!(out.contains(&Effect::Lead), "{out:?}");
}

#[test]
fn a_change_of_who_counts_that_may_be_unknown_to_others_takes_accepted_loss() {
    let (chain, before) = genesis();
    // The second counted, and is about to be replaced by this one; it may be promoted without knowing of that.
    let sync = Some(SyncChange { rule: counting(&[3], 1), alone: false });
    let change = Entry { sync, ..entry(before, chain.head().id, 1) };
    let mut member = alone(3, stored(chain, counting(&[2], 1), &[change]), &[]);
    let id = request(8);
    let out = handle(&mut member, 10, Input::Prepare(prepare(id, false)));
    assert!(out.contains(&Effect::Told(id, Told::Refused(Refused::Changing))), "{out:?}");
}

#[test]
fn nobody_leads_with_a_journal_that_the_grants_do_not_speak_of() {
    let (chain, before) = genesis();
    let first = entry(before, chain.head().id, 1);
    let second = entry(first.mark, chain.head().id, 2);
    let newer =
        chain.extended(grant(&chain, Basis::Force, 1, entry(before, chain.head().id, 9).mark)).unwrap();
    let stored = stored(newer, counting(&[], 1), &[first, second]);
    let mut member = alone(2, stored, &[]);
    let id = request(8);
    // Nobody could follow it, so that not even accepted loss helps.
    let out = handle(&mut member, 10, Input::Prepare(prepare(id, true)));
    let refused = Refused::NotLevel { wanted: 1 };
    assert!(out.contains(&Effect::Told(id, Told::Refused(refused))), "{out:?}");
}

/// Two managers of which each knows the other as its primary, in lineages that are in conflict: nobody leads, and
/// without a primary nobody could choose.
#[test]
fn a_primary_that_has_gone_over_to_a_lineage_in_conflict_and_leads_nobody_may_be_replaced() {
    let (chain, before) = genesis();
    let ours = chain.extended(grant(&chain, Basis::Handover, 3, before)).unwrap();
    let theirs = chain.extended(grant(&chain, Basis::Force, 2, before)).unwrap();
    let rule = counting(&[2], 1);
    let mut member = alone(2, stored(ours, rule.clone(), &[]), &[3]);
    let idle = standing(theirs.head().id, before, rule);
    let prepared = |member: &mut Member, n: u128, standing: &Standing| {
        handle(member, 0, Input::Prepare(prepare(request(n), true)));
        let out = handle(member, 0, Input::Said(host(3), MemberMessage::Standing(standing.clone())));
        out.into_iter().find_map(|e| if let Effect::Told(_, told) = e { Some(told) } else { None })
    };
    let answers = Some(Told::Refused(Refused::PrimaryAnswers));
    assert_eq!(prepared(&mut member, 1, &idle), answers, "it may go by a newer grant of this lineage");
    handle(&mut member, 0, Input::Said(host(3), MemberMessage::Grants(theirs)));
    let leads = Standing { leads: true, ..idle.clone() };
    assert_eq!(prepared(&mut member, 2, &leads), answers, "it leads others");
    let told = prepared(&mut member, 3, &idle);
    assert!(matches!(told, Some(Told::Proposed(_))), "{told:?}");
}

/// A manager that was removed has restored a backup, and the primary, which did not know of the removal, has gone over.
#[test]
fn a_primary_that_has_gone_over_to_a_contested_lineage_may_be_replaced() {
    let (chain, before) = genesis();
    let contested = chain.extended(grant(&chain, Basis::Restore, 9, before)).unwrap();
    let rule = counting(&[2], 1);
    let mut member = alone(2, stored(chain, rule.clone(), &[]), &[1]);
    handle(&mut member, 0, Input::Contested(contested.clone()));
    handle(&mut member, 0, Input::Prepare(prepare(request(1), true)));
    let idle = MemberMessage::Standing(standing(contested.head().id, before, rule));
    let out = handle(&mut member, 0, Input::Said(host(1), idle));
    assert!(out.iter().any(|e| matches!(e, Effect::Told(_, Told::Proposed(_)))), "{out:?}");
}

/// Protects: a promotion that cannot come to anything ends at once, not after the time that entries may take; nothing is
/// copied, since a promise is given to build on what is here.
#[test]
fn a_promotion_ends_at_once_where_the_newest_entries_follow_on_another_journal() {
    let (chain, before) = genesis();
    let (head, rule) = (chain.head().id, counting(&[2, 3], 1));
    let ours = entry(before, head, 1);
    let theirs = entry(entry(before, head, 2).mark, head, 3).mark;
    let mut member = alone(2, stored(chain, rule.clone(), std::slice::from_ref(&ours)), &[1, 3]);
    let id = request(8);
    handle(&mut member, 20, Input::Prepare(prepare(id, true)));
    handle(&mut member, 400, Input::Tick);
    let seal = Seal { proposal: promise(id), by: host(2), grant: head };
    let sealed = MemberMessage::Sealed { seal, standing: standing(head, theirs, rule) };
    handle(&mut member, 500, Input::Said(host(3), sealed));
    let missing = |after| MemberMessage::Missing { grant: head, after };
    let out = handle(&mut member, 3_000, Input::Tick);
    assert!(sent(&out, |m| matches!(m, MemberMessage::Fetch { .. })), "{out:?}");
    for (from, nothing) in [(1, missing(ours.mark)), (3, missing(before))] {
        let out = handle(&mut member, 3_010, Input::Said(host(from), nothing));
        assert!(!out.iter().any(|e| matches!(e, Effect::Told(..) | Effect::Copy(_))), "{out:?}");
    }
    let out = handle(&mut member, 3_020, Input::Said(host(3), missing(ours.mark)));
    let refused = Told::Refused(Refused::Apart { from: host(3) });
    assert!(out.contains(&Effect::Told(id, refused)), "{out:?}");
    assert!(sent(&out, |m| matches!(m, MemberMessage::Unseal { .. })) && !member.is_copying(), "{out:?}");
}
