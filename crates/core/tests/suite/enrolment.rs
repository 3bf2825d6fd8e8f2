//! Join tokens and enrolment.

use crate::support::*;
use echelon_core::access::{Access, Identity, Subject, Token};
use echelon_core::change::Change;
use echelon_core::id::TokenId;
use echelon_core::refusal::{EnrolRefusal, Refusal};
use std::time::Duration;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn token(n: u128) -> Token {
    Token {
        id: TokenId(Uuid::from_u128(n)),
        secret_hash: [1; 32],
        access: Access::Agent,
        host: None,
        domain: echelon_core::id::DomainId::ROOT,
        allow_types: Default::default(),
        replace: false,
        expires: START + HOUR,
        uses_left: 3,
    }
}

pub(crate) fn create(token: Token) -> Change {
    create_in(token, "/")
}

fn create_in(token: Token, domain: &str) -> Change {
    Change::CreateToken { token, domain: path(domain) }
}

/// With /a, /a/b and /z, and token 1 after `change` to it.
pub(crate) fn world_with_token(change: impl FnOnce(&mut Token)) -> World {
    world_with_token_in("/", change)
}

fn world_with_token_in(domain: &str, change: impl FnOnce(&mut Token)) -> World {
    let mut token = token(1);
    change(&mut token);
    World::with([add_domain("/a"), add_domain("/a/b"), add_domain("/z"), create_in(token, domain)])
}

pub(crate) fn enrol(host: &str, domain: Option<&str>) -> Change {
    enrol_with(1, host, domain)
}

pub(crate) fn enrol_with(token: u128, host: &str, domain: Option<&str>) -> Change {
    let Change::AddHost { id, name, .. } = add_host(host, "/") else { unreachable!("it adds a host") };
    let address = Some(parse("10.0.0.9"));
    let token = TokenId(Uuid::from_u128(token));
    Change::Enrol { token, host: name, id, domain: domain.map(path), address, key_hash: [9; 32] }
}

fn identity(world: &World, host: &str) -> Identity {
    (**world.registry.identity(&Subject::Host(world.host_id(host))).unwrap()).clone()
}

fn refused(world: &mut World, change: Change) -> EnrolRefusal {
    match world.refuse([change]) {
        Refusal::Enrol(why) => why,
        other => panic!("refused for another reason: {other}"),
    }
}

#[test]
fn a_new_host_is_added_where_it_asks_to_be_inside_the_tokens_domain() {
    let mut world = world_with_token_in("/a", |t| {
        t.allow_types.insert(ty(CC));
    });
    world.edit([enrol("below", Some("/a/b")), enrol("at-the-tokens", None)]);
    assert_eq!(world.place("below").path, path("/a/b"));
    assert_eq!(world.place("at-the-tokens").path, path("/a"));
    let identity = identity(&world, "below");
    assert_eq!((identity.enrolment, identity.access, identity.key_hash), (1, Access::Agent, [9; 32]));
    assert_eq!((identity.enrolled, identity.allow_types), (START, [ty(CC)].into()));
    assert_eq!(world.registry.tokens().next().unwrap().uses_left, 1);
    for outside in ["/", "/z"] {
        assert_eq!(refused(&mut world, enrol("h", Some(outside))), EnrolRefusal::WrongDomain, "{outside}");
    }
    assert_eq!(world.refuse([enrol("h", Some("/a/none"))]), Refusal::UnknownDomain { path: path("/a/none") });
}

#[test]
fn a_known_host_that_was_never_enrolled_keeps_its_domain_and_its_id() {
    let mut world = world_with_token_in("/a", |_| {});
    world.edit([add_host("known", "/a/b"), add_host("outside", "/z")]);
    let id = world.host_id("known");
    let elsewhere = Refusal::HostElsewhere { host: name("known"), domain: path("/a/b") };
    assert_eq!(world.refuse([enrol("known", Some("/a"))]), elsewhere);
    assert_eq!(refused(&mut world, enrol("outside", None)), EnrolRefusal::WrongDomain);
    world.edit([enrol("known", Some("/a/b"))]);
    assert_eq!((world.host_id("known"), world.place("known").path), (id, path("/a/b")));
}

#[test]
fn a_token_enrols_nobody_when_it_is_unknown_expired_used_up_or_for_something_else() {
    let mut world = world_with_token(|t| t.uses_left = 1);
    assert_eq!(refused(&mut world, enrol_with(2, "h", None)), EnrolRefusal::UnknownToken);
    world.edit([enrol("h", None)]);
    assert_eq!(refused(&mut world, enrol("h2", None)), EnrolRefusal::UsedUp);
    world.now = START + HOUR;
    assert_eq!(refused(&mut world, enrol("h2", None)), EnrolRefusal::Expired);

    let mut world = world_with_token(|_| {});
    world.now = START + (HOUR - Duration::from_millis(1));
    world.edit([enrol("in-time", None)]);
    world.now = START + HOUR;
    assert_eq!(refused(&mut world, enrol("too-late", None)), EnrolRefusal::Expired);

    let mut world = world_with_token(|t| t.host = Some(name("only")));
    assert_eq!(refused(&mut world, enrol("other", None)), EnrolRefusal::WrongHost);
    world.edit([enrol("only", None)]);

    for access in [Access::Manager, Access::Viewer, Access::Operator, Access::Admin] {
        let mut world = world_with_token(|t| t.access = access);
        assert_eq!(refused(&mut world, enrol("h", None)), EnrolRefusal::WrongAccess);
    }
}

#[test]
fn an_enrolled_host_enrols_again_only_with_a_token_that_replaces_and_its_earlier_enrolment_is_denied() {
    let mut world = world_with_token(|_| {});
    world.edit([enrol("h", None)]);
    assert_eq!(refused(&mut world, enrol("h", None)), EnrolRefusal::AlreadyEnrolled);
    let bound = |n, replace| create(Token { host: Some(name("h")), replace, ..token(n) });
    world.edit([bound(2, false), bound(3, true)]);
    assert_eq!(refused(&mut world, enrol_with(2, "h", None)), EnrolRefusal::AlreadyEnrolled);
    let id = world.host_id("h");
    world.edit([enrol_with(3, "h", None)]);
    assert_eq!((world.host_id("h"), identity(&world, "h").enrolment), (id, 2));
    let subject = Subject::Host(id);
    assert_eq!(world.registry.denial(&subject).unwrap().up_to, 1);
    assert!(world.registry.denial_in_force(&subject).is_none(), "the new enrolment is not denied");
    assert_eq!(world.place("h").denial, None);
    world.edit([enrol_with(3, "h", None)]);
    assert_eq!(world.registry.denial(&subject).unwrap().up_to, 2);
    assert_eq!(identity(&world, "h").enrolment, 3);
}

#[test]
fn a_token_that_replaces_must_name_its_host_and_others_live_a_week_at_most() {
    let mut world = World::new();
    let mut refuse = |change: &dyn Fn(&mut Token)| {
        let mut token = token(1);
        change(&mut token);
        world.refuse([create(token)])
    };
    assert_eq!(refuse(&|t| t.replace = true), Refusal::ReplaceNeedsHost);
    for out_of_range in [0, 100_001] {
        assert_eq!(refuse(&|t| t.uses_left = out_of_range).name(), "out-of-range");
    }
    for expires in [START, START + 7 * DAY + Duration::from_secs(1)] {
        assert_eq!(refuse(&|t| t.expires = expires).name(), "out-of-range", "{expires:?}");
    }
    world.edit([create(Token { expires: START + 7 * DAY, ..token(1) })]);
}

#[test]
fn removing_a_host_denies_its_identity_for_as_long_as_a_certificate_could_be_renewed() {
    let mut world = world_with_token(|_| {});
    world.edit([enrol("h", None)]);
    let subject = Subject::Host(world.host_id("h"));
    world.edit([remove_host("h")]);
    assert!(world.registry.identity(&subject).is_none());
    let denial = world.registry.denial_in_force(&subject).unwrap().clone();
    assert_eq!((denial.up_to, denial.until), (1, START + 32 * DAY));
    world.now = START + 32 * DAY;
    world.edit([add_domain("/later")]);
    assert!(world.registry.denial(&subject).is_some());
    world.now = START + 32 * DAY + Duration::from_millis(1);
    world.edit([add_domain("/after")]);
    assert!(world.registry.denial(&subject).is_none(), "forgotten once it has no purpose");
}

#[test]
fn a_dead_token_is_remembered_for_a_day_so_that_the_log_can_say_why_it_was_refused() {
    let mut world = world_with_token(|t| t.uses_left = 1);
    world.edit([enrol("h", None)]);
    world.now = START + HOUR + DAY - Duration::from_millis(1);
    world.edit([add_domain("/x")]);
    assert_eq!(refused(&mut world, enrol("h2", None)), EnrolRefusal::Expired);
    world.now = START + HOUR + DAY;
    world.edit([add_domain("/y")]);
    assert_eq!(refused(&mut world, enrol("h2", None)), EnrolRefusal::UnknownToken);
}

#[test]
fn a_token_goes_with_its_domain_and_does_not_come_back_with_another_of_that_path() {
    let mut world = world_with_token_in("/z", |_| {});
    world.edit([create_in(token(2), "/a")]);
    world.edit([Change::RemoveDomain { path: path("/z"), recursive: false }, add_domain("/z")]);
    assert_eq!(refused(&mut world, enrol("h", None)), EnrolRefusal::UnknownToken);
    assert_eq!(refused(&mut world, enrol("h", Some("/z"))), EnrolRefusal::UnknownToken);
    world.edit([enrol_with(2, "h", None)]);
}

#[test]
fn a_revoked_token_is_unknown_and_its_hosts_stay() {
    let mut world = world_with_token(|_| {});
    world.edit([enrol("h", None)]);
    world.edit([Change::RevokeToken { id: token(1).id }]);
    assert_eq!(refused(&mut world, enrol("h2", None)), EnrolRefusal::UnknownToken);
    assert_eq!(identity(&world, "h").enrolment, 1);
}
