//! How registry managers come and go, which of them count, and what certificates are worth.

use crate::enrolment::{create, token, world_with_token};
use crate::support::*;
use echelon_core::access::{Access, Subject, Token};
use echelon_core::change::{Change, NewIssuer};
use echelon_core::grant::{GrantId, SyncRule};
use echelon_core::id::{HostId, Lineage, TokenId};
use echelon_core::issuer::{Certified, Doubt, RenewReason, Standing};
use echelon_core::limits::{MAX_REGISTRY_MANAGERS, RENEW_GRACE};
use echelon_core::name::ManagerType;
use echelon_core::package::Role;
use echelon_core::refusal::{EnrolRefusal, Refusal};
use echelon_core::row::Commit;
use echelon_core::time::UnixMillis;
use echelon_core::view::View;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn issuer(host: &str) -> NewIssuer {
    NewIssuer { id: *blake3::hash(host.as_bytes()).as_bytes(), not_after: START + YEAR }
}

fn join_with(token: u128, host: &str) -> Change {
    let Change::AddHost { id, name, .. } = add_host(host, "/") else { unreachable!("it adds a host") };
    Change::JoinManager {
        token: TokenId(Uuid::from_u128(token)),
        host: name,
        id,
        domain: None,
        address: None,
        endpoint: parse(&format!("{host}.example:29120")),
        key_hash: [4; 32],
        issuer: issuer(host),
    }
}

/// As [`join_with`], with an issuer that nobody has had.
fn join_anew(token: u128, host: &str) -> Change {
    let mut change = join_with(token, host);
    if let Change::JoinManager { issuer, .. } = &mut change {
        issuer.id = *blake3::hash(format!("{host} {token}").as_bytes()).as_bytes();
    }
    change
}

fn join(host: &str) -> Change {
    join_with(1, host)
}

fn admit(world: &World, host: &str) -> Change {
    Change::Admit { host: world.host_id(host) }
}

fn remove(host: &str) -> Change {
    Change::RemoveManager { host: name(host), accept_loss: false, compromised: false }
}

fn take_over(world: &World, host: &str, members: &[&str]) -> Change {
    let members = members.iter().map(|m| world.host_id(m)).collect();
    let sync = SyncRule { members, min_sync: 1 };
    Change::TakeOver { holder: world.host_id(host), sync, gives_up: false }
}

/// A registry whose first manager, on m1, has recorded itself, and a token for managers.
fn world() -> World {
    let mut world = world_with_token(|t| (t.access, t.uses_left) = (Access::Manager, 100));
    // As `init` makes it: the first manager joins nobody.
    world.edit([join("m1")]);
    let takes = take_over(&world, "m1", &[]);
    world.edit([takes]);
    world
}

fn role(world: &World, host: &str) -> Option<Role> {
    world.registry.package(world.host_id(host), &ManagerType::registry()).and_then(|p| p.role)
}

fn members(world: &World) -> BTreeSet<HostId> {
    world.registry.meta().sync.members.clone()
}

fn certified(world: &World, host: &str, by: &str) -> Certified {
    let subject = Subject::Host(world.host_id(host));
    Certified { subject, enrolment: 1, issuer: Some(issuer(by).id), not_after: world.now + DAY }
}

#[test]
fn a_manager_joins_as_a_backup_that_does_not_count_and_its_host_is_added_where_it_is_missing() {
    let mut world = world();
    world.edit([add_host("known", "/a")]);
    world.edit([join("known")]);
    world.edit([join("m2")]);
    for host in ["known", "m2"] {
        let id = world.host_id(host);
        assert_eq!(role(&world, host), Some(Role::Backup));
        let identity = world.registry.identity(&Subject::Manager(id)).unwrap();
        assert_eq!((identity.enrolment, identity.access, identity.key_hash), (1, Access::Manager, [4; 32]));
        let row = world.registry.issuer(&issuer(host).id).unwrap();
        assert_eq!((row.host, row.not_after, row.renew_only), (id, START + YEAR, None));
        assert!(world.view().counts_manager(id, 1, Some(issuer(host).id)));
    }
    assert_eq!(world.place("known").path, path("/a"));
    assert!(members(&world).is_empty());
    assert_eq!(world.registry.tokens().next().unwrap().uses_left, 97);
}

#[test]
fn two_managers_are_never_said_to_be_at_one_address() {
    let mut world = world();
    world.edit([join("m2")]);
    let Change::JoinManager { endpoint: taken, .. } = join("m2") else { unreachable!("it joins") };
    let mut third = join("m3");
    if let Change::JoinManager { endpoint, .. } = &mut third {
        *endpoint = taken.clone();
    }
    assert_eq!(world.refuse([third]), Refusal::EndpointTaken { host: name("m2"), endpoint: taken });
    world.edit([join("m3")]);
}

#[test]
fn a_manager_joins_with_a_managers_token_only_and_a_second_time_only_with_one_that_replaces() {
    let mut world = world();
    world.edit([create(Token { access: Access::Agent, ..token(2) })]);
    let refused = |world: &mut World, change| match world.refuse([change]) {
        Refusal::Enrol(why) => why,
        other => panic!("refused for another reason: {other}"),
    };
    assert_eq!(refused(&mut world, join_with(2, "m2")), EnrolRefusal::WrongAccess);
    assert_eq!(refused(&mut world, join_with(9, "m2")), EnrolRefusal::UnknownToken);
    world.edit([join("m2")]);
    assert_eq!(refused(&mut world, join("m2")), EnrolRefusal::AlreadyEnrolled);
    let replacing = |n, host| {
        create(Token { host: Some(name(host)), replace: true, access: Access::Manager, ..token(n) })
    };
    world.edit([replacing(3, "m2"), replacing(4, "m1")]);
    let old = world.registry.issuer(&issuer("m2").id).unwrap().id;
    let Change::JoinManager { token, host, id, domain, address, endpoint, .. } = join_with(3, "m2") else {
        unreachable!("it joins")
    };
    let fresh = NewIssuer { id: [77; 32], not_after: START + YEAR };
    let again =
        Change::JoinManager { token, host, id, domain, address, endpoint, key_hash: [5; 32], issuer: fresh };
    world.edit([again]);
    let subject = Subject::Manager(world.host_id("m2"));
    let identity = world.registry.identity(&subject).unwrap();
    assert_eq!((identity.enrolment, identity.key_hash), (2, [5; 32]));
    assert_eq!(world.registry.denial(&subject).unwrap().up_to, 1);
    assert!(world.registry.issuer(&old).unwrap().renew_only.is_some());
    assert!(world.registry.issuer(&[77; 32]).unwrap().renew_only.is_none());
    let view = world.view();
    assert!(!view.counts_manager(world.host_id("m2"), 1, Some([77; 32])), "the one that was replaced");
    assert!(view.counts_manager(world.host_id("m2"), 2, Some([77; 32])));
    world.edit([replacing(6, "m2")]);
    assert_eq!(world.refuse([join_with(6, "m2")]), Refusal::IssuerUsed);
    // One that counts, and the primary, are not replaced behind everybody's back.
    let counts = admit(&world, "m2");
    world.edit([counts]);
    world.edit([replacing(5, "m2")]);
    assert_eq!(world.refuse([join_with(5, "m2")]), Refusal::ManagerCounts { host: name("m2") });
    assert_eq!(world.refuse([join_with(4, "m1")]), Refusal::ManagerCounts { host: name("m1") });
}

#[test]
fn who_counts_changes_by_edits_of_their_own_that_say_under_which_rules() {
    let mut world = world();
    world.edit([join("m2")]);
    world.edit([join("m3")]);
    let (two, three) = (admit(&world, "m2"), admit(&world, "m3"));
    assert_eq!(world.refuse([two.clone(), three.clone()]), Refusal::ManagersApart);
    assert_eq!(world.refuse([add_domain("/x"), two.clone()]), Refusal::ManagersApart);
    assert!(!world.edit([two.clone()]).alone);
    assert!(world.edit([two]).rows.is_empty(), "it counts already");
    world.edit([three]);
    assert_eq!(members(&world), BTreeSet::from([world.host_id("m2"), world.host_id("m3")]));
    let primary = admit(&world, "m1");
    let is_primary =
        |standby: &str| Refusal::ManagerIsPrimary { host: name("m1"), standby: Some(name(standby)) };
    assert!(matches!(world.refuse([primary]), Refusal::ManagerIsPrimary { .. }));
    assert!([is_primary("m2"), is_primary("m3")].contains(&world.refuse([remove("m1")])));

    let set = |min_sync, accept_loss| Change::SetMinSync { min_sync, accept_loss };
    assert!(!world.edit([set(2, true)]).alone);
    assert_eq!(world.registry.meta().sync.needed(), 2);
    assert_eq!(world.refuse([set(0, false)]), Refusal::LossNotAccepted);
    assert!(world.edit([set(0, true)]).alone);
    assert!(!world.edit([set(0, true)]).alone, "nothing changes");
    assert!(!world.edit([set(1, false)]).alone);
    assert!(matches!(world.refuse([set(17, false)]), Refusal::Number(_)));

    assert!(!world.edit([remove("m2")]).alone);
    let lossy = Change::RemoveManager { host: name("m3"), accept_loss: true, compromised: false };
    assert!(world.edit([lossy]).alone);
    assert!(members(&world).is_empty());
    assert_eq!(world.refuse([remove("m3")]), Refusal::NoRegistryManager { host: name("m3") });
}

#[test]
fn a_take_over_makes_the_holder_primary_and_all_others_backups() {
    let mut world = world();
    world.edit([join("m2")]);
    world.edit([join("m3")]);
    let counts = admit(&world, "m2");
    world.edit([counts]);
    let takes = take_over(&world, "m2", &["m1"]);
    assert!(world.edit([takes]).alone);
    assert_eq!(
        ["m1", "m2", "m3"].map(|m| role(&world, m).unwrap()),
        [Role::Backup, Role::Primary, Role::Backup]
    );
    assert_eq!(members(&world), BTreeSet::from([world.host_id("m1")]));
    assert_eq!(world.registry.primary_of(&ManagerType::registry()).unwrap().host, world.host_id("m2"));
    world.edit([add_host("plain", "/")]);
    let nobody = take_over(&world, "plain", &[]);
    assert_eq!(world.refuse([nobody]), Refusal::NoRegistryManager { host: name("plain") });
    for change in [admit(&world, "m3"), join("m4"), take_over(&world, "m1", &[])] {
        assert_eq!(change.needs(), None, "{change:?}");
    }
    assert_eq!(remove("m1").needs(), Some(Access::Admin));
}

/// A promotion that was given up with a lineage has raised the number that a resource has seen: whoever is primary again
/// must not be refused there for ever.
#[test]
fn where_revisions_may_be_given_up_every_primary_gets_a_number_larger_than_any_that_was_seen() {
    let mut world = world();
    world.edit([add_host("a", "/"), add_host("b", "/"), add_manager("a", CC), add_manager("b", CC)]);
    let number = |world: &World, host| world.registry.package(world.host_id(host), &ty(CC)).unwrap().fencing;
    let (kept, before) = (world.registry.clone(), number(&world, "a"));
    world.edit([promote("b", CC)]);
    let seen = number(&world, "b");
    assert!(seen > before);
    let lineage = Lineage(Uuid::from_u128(99));
    for (epoch, gives_up) in [(2, true), (3, false)] {
        world.registry = kept.under(GrantId { lineage, epoch });
        let (holder, sync) = (world.host_id("m1"), SyncRule::alone());
        world.edit([Change::TakeOver { holder, sync, gives_up }]);
        let now = number(&world, "a");
        assert_eq!((now > seen, now == before), (gives_up, !gives_up), "{now:?}");
        assert_eq!(number(&world, "b"), None, "a backup has none");
    }
}

#[test]
fn one_who_leaves_is_denied_and_what_its_issuer_has_signed_can_be_renewed_for_a_while() {
    let mut world = world();
    world.edit([join("m2")]);
    let agents = create(Token { uses_left: 9, ..token(2) });
    world.edit([agents]);
    world.edit([crate::enrolment::enrol_with(2, "h", None)]);
    let (own, other) = (certified(&world, "h", "m2"), certified(&world, "h", "m1"));
    let standing = |world: &World, of: &Certified| world.registry.standing(of, world.now);
    assert_eq!(standing(&world, &own), Standing::Good(Access::Agent));
    let m2 = world.host_id("m2");
    let manager = Certified { subject: Subject::Manager(m2), ..own.clone() };
    assert_eq!(standing(&world, &manager), Standing::Good(Access::Manager));

    world.edit([remove("m2")]);
    assert_eq!(standing(&world, &own), Standing::RenewOnly(RenewReason::IssuerLeft));
    assert_eq!(standing(&world, &other), Standing::Good(Access::Agent));
    assert_eq!(standing(&world, &manager), Standing::Refused(Doubt::Denied));
    assert!(world.view().has_left(own.issuer) && !world.view().has_left(other.issuer));
    assert!(!world.view().counts_manager(m2, 1, own.issuer));
    assert!(world.registry.package(m2, &ManagerType::registry()).is_none());
    assert!(world.registry.host(m2).is_some(), "its agent stays");

    world.now = world.now + RENEW_GRACE + Duration::from_millis(1);
    let late = Certified { not_after: world.now + DAY, ..own };
    assert_eq!(standing(&world, &late), Standing::Refused(Doubt::Issuer));
    world.edit([add_domain("/later")]);
    assert!(world.view().has_left(late.issuer), "nobody is to believe it before its certificate ends");
    // Nor is it denied any more, for which it would be contested what it signs.
    world.now = world.now + 2 * DAY;
    world.edit([add_domain("/later-still")]);
    assert!(world.registry.denials().next().is_none());
    let against = |subject| world.registry.knows_against(&Certified { subject, ..late.clone() });
    assert_eq!(against(manager.subject.clone()), Some(Doubt::Issuer));
    assert_eq!(against(late.subject.clone()), None, "one that it has certified has not left");
    world.now = START + YEAR + Duration::from_millis(1);
    world.edit([add_domain("/much-later")]);
    assert!(world.registry.issuer(&issuer("m2").id).is_none(), "it is forgotten");
}

#[test]
fn what_a_compromised_issuer_has_signed_is_worth_nothing_also_where_that_comes_out_late() {
    for late in [false, true] {
        let mut world = world();
        world.edit([join("m2")]);
        world.edit([create(Token { uses_left: 9, ..token(2) })]);
        world.edit([crate::enrolment::enrol_with(2, "h", None)]);
        let own = certified(&world, "h", "m2");
        if late {
            world.edit([remove("m2")]);
        }
        world.edit([Change::RemoveManager { host: name("m2"), accept_loss: false, compromised: true }]);
        assert_eq!(world.registry.standing(&own, world.now), Standing::Refused(Doubt::Issuer));
        assert!(!world.view().counts_manager(world.host_id("m2"), 1, own.issuer));
        assert_eq!(world.refuse([remove("m2")]), Refusal::NoRegistryManager { host: name("m2") });
    }
}

#[test]
fn a_certificate_of_a_host_can_be_renewed_for_a_while_after_its_end_and_others_cannot() {
    let mut world = world();
    world.edit([create(Token { uses_left: 9, ..token(2) })]);
    world.edit([crate::enrolment::enrol_with(2, "h", None)]);
    let held = certified(&world, "h", "m1");
    let standing = |world: &World, of: &Certified, now| world.registry.standing(of, now);
    let end = held.not_after;
    assert_eq!(standing(&world, &held, end), Standing::Good(Access::Agent));
    let after = |by: Duration| end + by;
    let just = Duration::from_millis(1);
    assert_eq!(standing(&world, &held, after(just)), Standing::RenewOnly(RenewReason::Expired));
    assert_eq!(standing(&world, &held, after(RENEW_GRACE)), Standing::RenewOnly(RenewReason::Expired));
    assert_eq!(standing(&world, &held, after(RENEW_GRACE + just)), Standing::Refused(Doubt::Expired));
    let manager = Certified { subject: Subject::Manager(world.host_id("m1")), ..held.clone() };
    assert_eq!(standing(&world, &manager, end), Standing::Good(Access::Manager));
    assert_eq!(standing(&world, &manager, after(just)), Standing::Refused(Doubt::Expired));
    // A denial counts for renewals too.
    world.edit([remove_host("h")]);
    assert_eq!(standing(&world, &held, after(just)), Standing::Refused(Doubt::Denied));
}

#[test]
fn a_registry_that_knows_no_issuers_yet_goes_by_the_root_alone_until_its_manager_has_recorded_its_own() {
    let mut world = World::with([add_host("m1", "/"), add_host("h", "/")]);
    let host = world.host_id("m1");
    let record =
        |id| Change::RecordManager { host: id, enrolment: 1, key_hash: [3; 32], issuer: issuer("m1") };
    assert_eq!(world.refuse([record(host)]), Refusal::NoRegistryManager { host: name("m1") });
    assert!(world.view().counts_manager(host, 1, Some([9; 32])));
    let digest = world.view().digest();
    assert_eq!(View::from_rows(world.view().rows()).unwrap().digest(), digest);

    let mut world = world_of_old();
    let host = world.host_id("m1");
    let own = Certified {
        subject: Subject::Manager(host),
        enrolment: 1,
        issuer: Some(issuer("m1").id),
        not_after: UnixMillis(u64::MAX),
    };
    assert_eq!(world.registry.standing(&own, world.now), Standing::Refused(Doubt::Unknown));
    world.edit([record(host)]);
    assert_eq!(world.registry.standing(&own, world.now), Standing::Good(Access::Manager));
    let strange = Certified { issuer: Some([9; 32]), ..own };
    assert_eq!(world.registry.standing(&strange, world.now), Standing::Refused(Doubt::Issuer));
    let later = Some([9; 32]);
    assert!(world.view().counts_manager(host, 1, later), "the root has signed it after this view");
    assert!(world.edit([record(host)]).rows.is_empty(), "once is enough");
}

/// A registry with a manager of which it knows neither identity nor issuer.
fn world_of_old() -> World {
    use echelon_core::access::Identity;
    use echelon_core::registry::Registry;
    use echelon_core::row::Row;
    let known = world();
    let is_new = |row: &Row| {
        matches!(row, Row::Issuer(_) | Row::Identity(Identity { subject: Subject::Manager(_), .. }))
    };
    let rows: Vec<_> = known.registry.rows().filter(|row| !is_new(row)).collect();
    let registry = Registry::from_rows(known.registry.position(), rows).unwrap();
    let mut world = World::new();
    world.registry = registry;
    world.now = START + Duration::from_secs(1);
    world
}

#[test]
fn there_is_a_most_of_registry_managers() {
    let mut world = world();
    for n in 2..=MAX_REGISTRY_MANAGERS {
        world.edit([join(&format!("m{n}"))]);
    }
    assert_eq!(world.refuse([join("one-more")]), Refusal::TooManyRegistryManagers);
}

const MANAGERS: [&str; 4] = ["m1", "m2", "m3", "m4"];

/// Whatever is asked, in whatever order.
fn any_change() -> impl Strategy<Value = (u8, usize, bool, bool, BTreeSet<usize>)> {
    (0u8..5, 0..MANAGERS.len(), any::<bool>(), any::<bool>(), prop::collection::btree_set(0..4usize, 0..3))
}

fn check_managers(world: &World, commit: &Commit) -> Result<(), TestCaseError> {
    let (registry, of) = (&world.registry, ManagerType::registry());
    let managers: Vec<_> = registry.packages_of(&of).collect();
    let primaries = managers.iter().filter(|p| p.role == Some(Role::Primary)).count();
    prop_assert_eq!(primaries, 1);
    for package in &managers {
        let identity = registry.identity(&Subject::Manager(package.host));
        prop_assert!(identity.is_some(), "a manager has an identity");
        prop_assert!(registry.issuers_of(package.host).any(|i| i.is_in_force()));
    }
    for issuer in registry.issuers() {
        let there = registry.package(issuer.host, &of).is_some();
        prop_assert!(there || !issuer.is_in_force(), "who has left signs nothing new");
    }
    let touched = commit.rows.iter().any(|row| row.key == echelon_core::row::RowKey::Meta);
    prop_assert!(touched || !commit.alone, "alone is said of changes of the rule only");
    Ok(())
}

proptest! {
    #[test]
    fn managers_who_come_and_go_leave_one_primary_and_nobody_behind(
        asked in prop::collection::vec(any_change(), 1..40)
    ) {
        let (mut world, of) = (world(), ManagerType::registry());
        let (mut tokens, mut before) = (10, world.registry.clone());
        for (kind, at, flag, other, members) in asked {
            let manager = MANAGERS[at];
            let known = |m: &str| world.registry.host_named(&name(m)).map(|h| h.id);
            let change = match (kind, known(manager)) {
                (0, _) => {
                    tokens += 1;
                    let bound = Token { host: Some(name(manager)), replace: flag, ..token(tokens) };
                    world.edit([create(Token { access: Access::Manager, expires: world.now + DAY, ..bound })]);
                    before = world.registry.clone();
                    join_anew(tokens, manager)
                }
                (1, Some(host)) => Change::Admit { host },
                (2, _) => Change::RemoveManager { host: name(manager), accept_loss: flag, compromised: other },
                (3, _) => Change::SetMinSync { min_sync: at as u32, accept_loss: flag },
                (4, Some(holder)) => {
                    let members = members.into_iter().filter_map(|m| known(MANAGERS[m]));
                    let there = |m: &HostId| world.registry.package(*m, &of).is_some();
                    let members = members.filter(|m| *m != holder && there(m)).collect();
                    Change::TakeOver { holder, sync: SyncRule { members, min_sync: 1 }, gives_up: flag }
                }
                _ => continue,
            };
            let set = world.set([change]);
            if let Ok(echelon_core::edit::Edited::Done(next, commit)) =
                world.registry.edit(&set, &world.context())
            {
                world.registry = *next;
                crate::commits::check(&before, &world.registry, &commit)?;
                check_managers(&world, &commit)?;
                let primary = world.registry.primary_of(&of).unwrap().host;
                for member in &world.registry.meta().sync.members {
                    let there = world.registry.package(*member, &of);
                    prop_assert!(there.is_some() && *member != primary, "who counts is there, and no primary");
                }
                before = world.registry.clone();
            }
        }
    }
}
