//! Which requests are sent once more, and to whom.

use echelon_core::hedge::UNKNOWN_HEDGE;
use echelon_core::id::HostId;
use echelon_core::repeat::{Circumstances, Effect, End, MAX_TRIES, Next, Tries};
use echelon_core::route::Target;
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

fn targets(count: u8) -> Vec<Target> {
    let target = |n: u8| Target {
        host: HostId(Uuid::from_u128(n.into())),
        name: format!("m{n}").parse().unwrap(),
        endpoint: format!("127.0.0.{n}:7000").parse().unwrap(),
        hedge: UNKNOWN_HEDGE,
    };
    (1..=count).map(target).collect()
}

/// A try that could be repeated as far as everything but its end goes.
fn well(targets: &[Target], at: usize) -> Circumstances<'_> {
    Circumstances {
        host: targets[at].host,
        reused: false,
        held: true,
        in_time: true,
        targets,
        usable: targets.len(),
    }
}

#[test]
fn what_may_act_twice_is_repeated_only_if_nothing_was_sent() {
    let targets = targets(2);
    for (effect, end, next) in [
        (Effect::Same, End::Unsent, Next::Repeat),
        (Effect::Same, End::Broken, Next::Repeat),
        (Effect::Same, End::Overloaded, Next::Repeat),
        (Effect::Again, End::Unsent, Next::Repeat),
        (Effect::Again, End::Broken, Next::Tell),
        (Effect::Again, End::Overloaded, Next::Tell),
    ] {
        let mut tries = Tries::new(effect);
        assert_eq!(tries.ended(end, &well(&targets, 0)), next, "{effect:?} {end:?}");
    }
}

#[test]
fn nothing_is_repeated_without_its_body_or_too_late() {
    let targets = targets(2);
    for (held, in_time) in [(false, true), (true, false)] {
        let mut tries = Tries::new(Effect::Same);
        let now = Circumstances { held, in_time, ..well(&targets, 0) };
        assert_eq!(tries.ended(End::Unsent, &now), Next::Tell, "{held} {in_time}");
    }
}

#[test]
fn an_old_connection_that_ended_says_nothing_about_its_manager() {
    let targets = targets(1);
    let mut tries = Tries::new(Effect::Same);
    assert!(!tries.needs_fresh());
    let old = Circumstances { reused: true, ..well(&targets, 0) };
    assert_eq!(tries.ended(End::Broken, &old), Next::Repeat);
    assert_eq!(tries.first(&targets), targets.first(), "the same manager");
    assert!(tries.needs_fresh(), "over a new connection");
    assert_eq!(tries.ended(End::Broken, &well(&targets, 0)), Next::Tell, "nobody is left");
}

#[test]
fn a_word_of_overload_counts_on_any_connection() {
    let targets = targets(2);
    let mut tries = Tries::new(Effect::Same);
    let old = Circumstances { reused: true, ..well(&targets, 0) };
    assert_eq!(tries.ended(End::Overloaded, &old), Next::Repeat);
    assert_eq!(tries.first(&targets), targets.get(1));
    assert!(!tries.needs_fresh());
}

/// Where all have too much to do, each request is to add as little as it can.
#[test]
fn overload_leads_only_to_managers_that_nothing_speaks_against() {
    let targets = targets(3);
    for (end, usable, next) in [
        (End::Overloaded, 0, Next::Tell),
        (End::Overloaded, 1, Next::Tell),
        (End::Overloaded, 2, Next::Repeat),
        (End::Overloaded, 9, Next::Repeat),
        (End::Broken, 0, Next::Repeat),
        (End::Unsent, 1, Next::Repeat),
    ] {
        let mut tries = Tries::new(Effect::Same);
        let now = Circumstances { usable, ..well(&targets, 0) };
        assert_eq!(tries.ended(end, &now), next, "{end:?} {usable}");
    }
}

proptest! {
    #[test]
    fn nothing_acts_twice_and_what_may_be_repeated_is(
        again in any::<bool>(),
        managers in 1..=6_u8,
        course in prop::collection::vec((0..3_u8, any::<bool>(), prop::bool::weighted(0.9), prop::bool::weighted(0.9), 0..=6_u8, 0..=7_usize), 1..12),
    ) {
        let effect = if again { Effect::Again } else { Effect::Same };
        let all = targets(managers);
        let mut tries = Tries::new(effect);
        let (mut sent, mut may_have_acted, mut failed) = (0, 0, BTreeSet::new());
        for (end, reused, held, in_time, left, usable) in course {
            // The route may change between two tries.
            let now = &all[usize::from(left).min(all.len() - 1)..];
            let Some(target) = tries.first(now) else { break };
            prop_assert!(!failed.contains(&target.host), "a manager that failed is passed over");
            sent += 1;
            prop_assert!(sent <= MAX_TRIES);
            let reused = reused && !tries.needs_fresh();
            let end = [End::Unsent, End::Broken, End::Overloaded][usize::from(end)];
            may_have_acted += u32::from(end != End::Unsent);
            if !reused || end == End::Overloaded {
                failed.insert(target.host);
            }
            let host = target.host;
            let next = tries.ended(end, &Circumstances { host, reused, held, in_time, targets: now, usable });
            let harmless = effect == Effect::Same || end == End::Unsent;
            let worth = if end == End::Overloaded { usable } else { now.len() };
            let left = now.iter().take(worth).any(|t| !failed.contains(&t.host));
            let possible = held && in_time && sent < MAX_TRIES && left;
            prop_assert_eq!(next == Next::Repeat, harmless && possible);
            if next == Next::Tell {
                break;
            }
            prop_assert!(effect == Effect::Same || may_have_acted == 0);
        }
    }
}
