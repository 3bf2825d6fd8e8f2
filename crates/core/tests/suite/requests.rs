//! Request ids: one effect each, however often they come.

use crate::support::*;
use echelon_core::change::ChangeSet;
use echelon_core::edit::{Context, Edited};
use echelon_core::id::RequestId;
use echelon_core::refusal::Refusal;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_repeated_request_has_one_effect_and_is_answered_before_anything_is_checked() {
    let mut world = World::new();
    let set = world.set([add_domain("/a")]);
    let context = world.context();
    let Edited::Done(next, commit) = world.registry.edit(&set, &context).unwrap() else { panic!() };
    world.registry = *next;
    world.edit([add_domain("/b")]);
    // The domain exists by now, the revision has moved on, and a week has passed: no matter.
    let again = ChangeSet { if_revision: Some(0), ..set.clone() };
    let later = Context { now: START + 6 * DAY, ..context.clone() };
    match world.registry.edit(&again, &later).unwrap() {
        Edited::Repeated(revision) => assert_eq!(revision, commit.position.revision),
        done => panic!("{done:?}"),
    }
    let other = Context { content: [99; 32], ..context };
    let refusal = world.registry.edit(&set, &other).unwrap_err();
    assert_eq!(refusal, Refusal::RequestReused { id: set.request, revision: 1 });
}

#[test]
fn a_refused_request_may_be_tried_again_under_its_id() {
    let mut world = World::new();
    let set = world.set([add_host("h", "/a")]);
    let context = world.context();
    world.registry.edit(&set, &context).unwrap_err();
    world.edit([add_domain("/a")]);
    assert!(matches!(world.registry.edit(&set, &context).unwrap(), Edited::Done(..)));
}

fn with_id(id: RequestId) -> Result<Edited, Refusal> {
    let mut world = World::new();
    let set = ChangeSet { request: id, ..world.set([add_domain("/a")]) };
    world.registry.edit(&set, &world.context())
}

#[test]
fn an_id_must_tell_when_it_was_made_and_that_was_within_a_week() {
    let random: RequestId = parse("c1f2b2a0-0000-4000-8000-000000000000");
    assert_eq!(with_id(random).unwrap_err(), Refusal::RequestNotTimed { id: random });
    let milli = Duration::from_millis(1);
    assert!(with_id(request(START - 7 * DAY, 1)).is_ok());
    let old = request(START - 7 * DAY - milli, 1);
    assert_eq!(with_id(old).unwrap_err(), Refusal::RequestTooOld { id: old });
    assert!(with_id(request(START + Duration::from_secs(3600), 1)).is_ok());
    let future = request(START + Duration::from_secs(3600) + milli, 1);
    assert_eq!(with_id(future).unwrap_err(), Refusal::RequestFromFuture { id: future });
}

#[test]
fn what_is_forgotten_is_too_old_to_be_carried_out_again() {
    let mut world = World::new();
    let set = world.set([add_domain("/a")]);
    let context = world.context();
    let Edited::Done(next, commit) = world.registry.edit(&set, &context).unwrap() else { panic!() };
    let (before, mut replayed) = (world.registry.clone(), world.registry.apply(&commit).unwrap());
    world.registry = *next;
    assert!(before.answered(set.request).is_none() && replayed.answered(set.request).is_some());
    for wait in [7 * DAY, 7 * DAY + Duration::from_millis(1)] {
        world.now = START + wait;
        let commit = world.edit([add_domain(&format!("/d{}", wait.as_millis()))]);
        replayed = replayed.apply(&commit).unwrap();
        let known = wait == 7 * DAY;
        assert_eq!(world.registry.answered(set.request).is_some(), known);
        assert_eq!(replayed.answered(set.request).is_some(), known, "whoever follows forgets as well");
        let again = world.registry.edit(&set, &Context { now: world.now, ..context.clone() });
        match known {
            true => assert!(matches!(again, Ok(Edited::Repeated(1)))),
            false => assert_eq!(again.unwrap_err(), Refusal::RequestTooOld { id: set.request }),
        }
    }
}

#[test]
fn if_revision_refuses_what_was_meant_for_another_state() {
    let mut world = World::with([add_domain("/a")]);
    let set = world.set([add_domain("/b")]);
    let refused = ChangeSet { if_revision: Some(0), ..set.clone() };
    let refusal = world.registry.edit(&refused, &world.context()).unwrap_err();
    assert_eq!(refusal, Refusal::RevisionMoved { expected: 0, actual: 1 });
    let taken = ChangeSet { if_revision: Some(1), ..set };
    assert!(matches!(world.registry.edit(&taken, &world.context()), Ok(Edited::Done(..))));
}
