//! Edits that are refused, and what edits do to roles, ids and names.

use crate::support::*;
use echelon_core::change::{Change, PackageSpec};
use echelon_core::check::Check;
use echelon_core::edit::Edited;
use echelon_core::hierarchy::TreeError;
use echelon_core::limits::{MAX_CHANGES, MAX_DEPTH, MAX_PACKAGES_PER_HOST, MAX_TOKENS};
use echelon_core::message::{Failure, FailureClass};
use echelon_core::name::ManagerType;
use echelon_core::package::{Listens, Role};
use echelon_core::policy::PolicySettings;
use echelon_core::refusal::Refusal;
use echelon_core::row::{Row, RowKey};
use echelon_core::setting::Setting;
use std::collections::BTreeSet;
use std::time::Duration;

/// Changes that are refused, and the name of the refusal. The registry is that of the worked example, with
/// an empty domain /empty/below and a host `plain` without packages.
fn refused() -> Vec<(&'static str, Vec<Change>)> {
    let policy = |settings| vec![set_policy("/", "*", settings)];
    let with = |of: &str, spec| vec![add_package("plain", of, spec)];
    let remove_domain = |domain, recursive| vec![Change::RemoveDomain { path: path(domain), recursive }];
    let succeed = |host, next| {
        let successor = Some(name(next));
        vec![Change::RemovePackage { host: name(host), ty: ty(CC), successor }]
    };
    let set = |spec| vec![Change::SetPackage { host: name("framework-manager"), ty: ty(CC), spec }];
    let deep: Vec<_> = (1..MAX_DEPTH).map(|n| add_domain(&"/d".repeat(n))).collect();
    let many: Vec<_> = (0..=MAX_PACKAGES_PER_HOST).map(|n| add_manager("plain", &format!("t{n}"))).collect();
    let slow = Check { timeout: Duration::from_secs(61), ..Check::default() };
    let settings = PolicySettings::default;
    let keep = |host| Change::RemoveHost { host: name(host), with_packages: false };
    vec![
        ("unknown-domain", vec![add_domain("/nowhere/x")]),
        ("unknown-domain", vec![add_host("new", "/nowhere")]),
        ("unknown-domain", vec![move_host("plain", "/nowhere")]),
        ("unknown-domain", vec![rename_domain("/nowhere", "x")]),
        ("unknown-domain", vec![move_domain("/sub1", "/nowhere")]),
        ("unknown-domain", remove_domain("/nowhere", true)),
        ("unknown-domain", vec![boundary("/nowhere", "*", true)]),
        ("unknown-host", vec![move_host("nobody", "/")]),
        ("unknown-host", vec![rename_host("nobody", "x")]),
        ("unknown-host", vec![remove_host("nobody")]),
        ("unknown-host", vec![add_manager("nobody", CC)]),
        ("unknown-host", succeed("framework-manager", "nobody")),
        ("unknown-host", vec![drain("nobody", None)]),
        ("unknown-host", vec![resume("nobody")]),
        ("unknown-domain", vec![unset("/nowhere", [Setting::Walk])]),
        ("unknown-package", vec![withdraw("plain", CC)]),
        ("unknown-package", vec![restore("plain", CC)]),
        ("unknown-package", vec![remove_package("plain", CC)]),
        ("unknown-package", succeed("framework-manager", "plain")),
        ("unknown-token", vec![Change::RevokeToken { id: parse("00000000-0000-0000-0000-000000000001") }]),
        ("domain-exists", vec![add_domain("/")]),
        ("domain-exists", vec![add_domain("/sub1")]),
        ("domain-exists", vec![rename_domain("/empty", "sub1")]),
        ("domain-exists", vec![add_domain("/empty/sub1"), move_domain("/sub1", "/empty")]),
        ("host-exists", vec![add_host("agent1", "/")]),
        ("host-exists", vec![rename_host("plain", "agent1")]),
        ("host-id-used", vec![rename_host("agent1", "other"), add_host("agent1", "/")]),
        ("package-exists", vec![add_manager("agent1", CC)]),
        ("domain-cycle", vec![move_domain("/sub1", "/sub1/sub1a")]),
        ("domain-cycle", vec![move_domain("/sub1", "/sub1")]),
        ("domain-is-root", vec![move_domain("/", "/sub1")]),
        ("domain-is-root", vec![rename_domain("/", "x")]),
        ("domain-too-deep", [deep, vec![move_domain("/empty", &"/d".repeat(MAX_DEPTH - 1))]].concat()),
        ("domain-not-empty", remove_domain("/sub1", true)),
        ("domain-not-empty", remove_domain("/sub1/sub1a", false)),
        ("domain-has-subdomains", remove_domain("/empty", false)),
        ("host-has-packages", vec![keep("agent1")]),
        ("registry-package", with("registry", manager_spec())),
        ("primary-has-backups", vec![remove_package("framework-manager", CC)]),
        ("primary-has-backups", vec![remove_host("framework-manager")]),
        ("primary-has-backups", set(PackageSpec { listens: Listens::Nowhere, ..manager_spec() })),
        ("no-backup", [with(CC, PackageSpec::default()), succeed("framework-manager", "plain")].concat()),
        ("not-primary", succeed("agent1", "agent3")),
        ("unknown-host", vec![promote("nobody", CC)]),
        ("unknown-host", vec![promote_from("agent1", "nobody")]),
        ("unknown-host", vec![promote_from("nobody", "agent1")]),
        ("unknown-package", vec![promote("plain", CC)]),
        ("no-backup", [with(CC, PackageSpec::default()), vec![promote("plain", CC)]].concat()),
        ("registry-role", vec![promote("agent1", "registry")]),
        ("nothing-to-promote", vec![promote_from("agent1", "agent3")]),
        ("nothing-to-promote", vec![promote_from("plain", "framework-manager")]),
        ("nothing-to-promote", vec![promote_from("framework-manager", "framework-manager")]),
        ("no-changes", vec![]),
        ("too-many-packages", many),
        ("out-of-range", with("x", PackageSpec { priority: 65_536, ..manager_spec() })),
        ("out-of-range", with("x", PackageSpec { weight: 65_536, ..manager_spec() })),
        ("out-of-range", with("x", PackageSpec { check: slow, ..manager_spec() })),
        (
            "out-of-range",
            policy(PolicySettings { connect_hedge: Some(Duration::from_micros(999)), ..settings() }),
        ),
        ("out-of-range", policy(PolicySettings { failback_hold: Some(secs(3601)), ..settings() })),
        ("out-of-range", vec![drain("plain", Some(secs(0)))]),
        ("out-of-range", vec![drain("plain", Some(secs(31 * 24 * 3600)))]),
    ]
}

fn fixture() -> World {
    let mut world = reference_case();
    world.edit([add_domain("/empty"), add_domain("/empty/below"), add_host("plain", "/")]);
    world
}

/// Every name a refusal of an edit can have; `internal` is what no edit brings about. Those of the guard, of
/// tokens, requests, announcements and registry managers are provoked in drains.rs, enrolment.rs, requests.rs,
/// announcing.rs and managers.rs.
const ELSEWHERE: [&str; 23] = [
    "issuer-used",
    "no-registry-manager",
    "manager-is-primary",
    "manager-counts",
    "loss-not-accepted",
    "managers-apart",
    "too-many-registry-managers",
    "last-manager",
    "too-few-managers",
    "token-exists",
    "too-many-tokens",
    "replace-needs-host",
    "registry-type",
    "host-elsewhere",
    "token-refused",
    "revision-moved",
    "request-reused",
    "request-not-timed",
    "request-too-old",
    "request-from-future",
    "not-enrolled",
    "type-not-allowed",
    "superseded",
];

#[test]
fn each_refusal_leaves_the_registry_as_it_was() {
    let mut world = fixture();
    let before: Vec<_> = world.registry.rows().collect();
    let mut provoked = BTreeSet::from(ELSEWHERE).len();
    let mut names = BTreeSet::new();
    for (expected, changes) in refused() {
        // What came before the refused change must leave no trace.
        let set = [vec![add_domain("/trace")], changes].concat();
        let what = format!("{:?}", set.last());
        if expected == "no-changes" {
            assert_eq!(world.refuse([]), Refusal::Empty);
        } else {
            let refusal = world.refuse(set);
            assert_eq!(refusal.name(), expected, "{what}: {refusal}");
            let failure = Failure::from(&refusal);
            assert!(!failure.message.is_empty() && failure.error == expected, "{failure:?}");
        }
        names.insert(expected);
        assert!(world.registry.rows().eq(before.iter().cloned()), "{what}");
    }
    provoked += names.len();
    // `too-many-changes` has a test of its own.
    assert_eq!(provoked + 1, every_name().len(), "{names:?}");
}

/// One name for each arm: a new variant does not compile until it is provoked somewhere.
fn every_name() -> BTreeSet<&'static str> {
    let all = |r: &Refusal| match r {
        Refusal::UnknownDomain { .. }
        | Refusal::UnknownHost { .. }
        | Refusal::UnknownPackage { .. }
        | Refusal::UnknownToken { .. }
        | Refusal::DomainExists { .. }
        | Refusal::HostExists { .. }
        | Refusal::HostIdUsed { .. }
        | Refusal::PackageExists { .. }
        | Refusal::TokenExists { .. }
        | Refusal::Tree { .. }
        | Refusal::DomainNotEmpty { .. }
        | Refusal::DomainHasSubdomains { .. }
        | Refusal::HostHasPackages { .. }
        | Refusal::RegistryPackage { .. }
        | Refusal::NotEnrolled { .. }
        | Refusal::TypeNotAllowed { .. }
        | Refusal::Superseded { .. }
        | Refusal::RegistryType
        | Refusal::PrimaryHasBackups { .. }
        | Refusal::NoBackup { .. }
        | Refusal::NotPrimary { .. }
        | Refusal::RegistryRole { .. }
        | Refusal::NothingToPromote { .. }
        | Refusal::LastManager { .. }
        | Refusal::TooFewManagers { .. }
        | Refusal::RevisionMoved { .. }
        | Refusal::RequestReused { .. }
        | Refusal::RequestNotTimed { .. }
        | Refusal::RequestTooOld { .. }
        | Refusal::RequestFromFuture { .. }
        | Refusal::Empty
        | Refusal::TooManyChanges { .. }
        | Refusal::TooManyPackages { .. }
        | Refusal::TooManyTokens
        | Refusal::ReplaceNeedsHost
        | Refusal::Number(_)
        | Refusal::HostElsewhere { .. }
        | Refusal::Enrol(_)
        | Refusal::NoRegistryManager { .. }
        | Refusal::ManagerIsPrimary { .. }
        | Refusal::ManagerCounts { .. }
        | Refusal::LossNotAccepted
        | Refusal::ManagersApart
        | Refusal::IssuerUsed
        | Refusal::EndpointTaken { .. }
        | Refusal::TooManyRegistryManagers
        | Refusal::Fault(_) => 46,
    };
    // 45 variants have a name; `Tree` has three of its own and shares one with DomainExists.
    assert_eq!(all(&Refusal::Empty), 46);
    let mut names: BTreeSet<_> = refused().into_iter().map(|(name, _)| name).chain(ELSEWHERE).collect();
    names.insert("too-many-changes");
    assert_eq!(names.len(), 46 - 2 + 3, "{names:?}");
    names
}

#[test]
fn more_changes_than_a_set_may_have_are_refused_unread() {
    let one = Change::RevokeToken { id: parse("00000000-0000-0000-0000-000000000001") };
    let changes = MAX_CHANGES + 1;
    assert_eq!(World::new().refuse(vec![one; changes]), Refusal::TooManyChanges { changes });
}

#[test]
fn a_refusal_tells_what_stands_in_the_way_and_what_would_help() {
    let mut world = fixture();
    let failure = |refusal: &Refusal| Failure::from(refusal);
    let not_empty = failure(&world.refuse([Change::RemoveDomain { path: path("/sub1"), recursive: true }]));
    assert_eq!(not_empty.class, FailureClass::Forbidden);
    assert!(not_empty.message.contains("/sub1 still holds 4 host(s)"), "{not_empty:?}");
    let primary = failure(&world.refuse([remove_package("framework-manager", CC)]));
    assert!(primary.remedy.contains("--successor agent"), "{primary:?}");
    let unknown = failure(&world.refuse([move_host("nobody", "/")]));
    assert_eq!(unknown.class, FailureClass::Failed);
    let cycle = world.refuse([move_domain("/sub1", "/sub1/sub1a")]);
    assert_eq!(cycle, Refusal::Tree { path: path("/sub1"), cause: TreeError::Cycle });
    assert_eq!(failure(&cycle).class, FailureClass::Forbidden);
}

#[test]
fn a_host_whose_identity_was_denied_never_gives_its_id_to_another() {
    let mut world = crate::enrolment::world_with_token(|_| {});
    world.edit([crate::enrolment::enrol("h1", None)]);
    let id = world.host_id("h1");
    world.edit([remove_host("h1")]);
    let again = Change::AddHost { id, name: name("other"), domain: path("/"), address: None };
    assert_eq!(world.refuse([again]), Refusal::HostIdUsed { id });
}

fn role(world: &World, host: &str) -> Option<Role> {
    world.registry.package(world.host_id(host), &ty(CC)).unwrap().role
}

#[test]
fn the_first_manager_of_a_type_is_primary_and_a_successor_takes_its_place() {
    let mut world = fixture();
    assert_eq!(role(&world, "framework-manager"), Some(Role::Primary));
    assert_eq!([role(&world, "agent1"), role(&world, "agent3")], [Some(Role::Backup); 2]);
    let successor = Some(name("agent3"));
    world.edit([Change::RemovePackage { host: name("framework-manager"), ty: ty(CC), successor }]);
    assert_eq!([role(&world, "agent1"), role(&world, "agent3")], [Some(Role::Backup), Some(Role::Primary)]);
    world.edit([remove_package("agent1", CC), remove_package("agent3", CC)]);
    world.edit([add_package("plain", CC, PackageSpec::default())]);
    assert_eq!(role(&world, "plain"), None, "inventory has no role");
    world.edit([add_manager("agent1", CC)]);
    assert_eq!(role(&world, "agent1"), Some(Role::Primary));
    let spec = manager_spec();
    world.edit([Change::SetPackage { host: name("plain"), ty: ty(CC), spec }]);
    assert_eq!(role(&world, "plain"), Some(Role::Backup));
}

#[test]
fn changing_a_package_keeps_its_role_and_its_withdrawal() {
    let mut world = fixture();
    let reason = Some(parse("maintenance"));
    let withdrawn = Change::WithdrawPackage { host: name("agent1"), ty: ty(CC), reason: reason.clone() };
    world.edit([withdrawn]);
    let spec = PackageSpec { priority: 7, ..manager_spec() };
    world.edit([Change::SetPackage { host: name("agent1"), ty: ty(CC), spec }]);
    // Withdrawing it again without a reason does not forget the reason.
    world.edit([withdraw("agent1", CC)]);
    let package = world.registry.package(world.host_id("agent1"), &ty(CC)).unwrap().clone();
    assert_eq!((package.priority, package.role), (7, Some(Role::Backup)));
    assert_eq!(package.withdrawn.clone().unwrap().reason, reason);
    assert!(world.edit([restore("agent1", CC)]).rows.len() == 1);
    assert!(world.edit([restore("agent1", CC)]).rows.is_empty(), "nothing to restore is recorded as nothing");
}

#[test]
fn ids_stay_while_names_and_places_change() {
    let mut world = fixture();
    let (host, sub) = (world.host_id("agent3"), world.registry.hierarchy().find(&path("/sub1/sub1a")));
    world.edit([
        rename_host("agent3", "renamed"),
        rename_domain("/sub1", "sub9"),
        move_domain("/sub9/sub1a", "/empty"),
    ]);
    assert_eq!(world.host_id("renamed"), host);
    assert_eq!(world.registry.hierarchy().find(&path("/empty/sub1a")), sub);
    assert!(world.registry.host_named(&name("agent3")).is_none());
    assert_eq!(world.place("renamed").path, path("/empty/sub1a"));
}

#[test]
fn ids_of_domains_are_never_given_out_twice() {
    let mut world = World::with([add_domain("/a")]);
    let first = world.registry.hierarchy().find(&path("/a")).unwrap();
    world.edit([Change::RemoveDomain { path: path("/a"), recursive: false }, add_domain("/a")]);
    assert_ne!(world.registry.hierarchy().find(&path("/a")).unwrap(), first);
}

#[test]
fn removing_a_domain_takes_its_policies_and_only_those() {
    let mut world = World::with([
        add_domain("/a"),
        add_domain("/a/b"),
        boundary("/a/b", "*", true),
        boundary("/", "*", false),
    ]);
    let commit = world.edit([Change::RemoveDomain { path: path("/a"), recursive: true }]);
    assert_eq!(commit.rows.len(), 3, "{:?}", commit.rows);
    assert_eq!(world.registry.policies().count(), 1);
}

#[test]
fn policies_are_merged_when_set_and_go_when_nothing_is_left() {
    let mut world = World::new();
    let hold = |s| PolicySettings { failback_hold: Some(secs(s)), ..PolicySettings::default() };
    world.edit([boundary("/", "*", true), set_policy("/", "*", hold(5))]);
    let policy = world.registry.policies().next().unwrap().settings.clone();
    assert_eq!((policy.boundary, policy.failback_hold), (Some(true), Some(secs(5))));
    let replace = |settings| Change::ReplacePolicy { domain: path("/"), ty: parse("*"), settings };
    world.edit([replace(hold(6))]);
    assert_eq!(world.registry.policies().next().unwrap().settings, hold(6));
    world.edit([replace(PolicySettings::default())]);
    assert_eq!(world.registry.policies().count(), 0);
}

#[test]
fn settings_are_taken_away_by_name_and_the_policy_goes_with_the_last() {
    let mut world = World::new();
    let settings = ["walk=hops", "failback_hold=5s"].map(parse::<PolicySettings>);
    world.edit(settings.map(|one| set_policy("/", "*", one)));
    world.edit([unset("/", [Setting::Walk, Setting::Boundary])]);
    let left: Vec<_> = world.registry.policies().flat_map(|p| p.settings.texts()).collect();
    assert_eq!(left, [(Setting::FailbackHold, "5s".to_owned())]);
    assert!(world.edit([unset("/", [Setting::Walk])]).rows.is_empty(), "nothing to take away");
    world.edit([unset("/", [Setting::FailbackHold])]);
    assert_eq!(world.registry.policies().count(), 0);
}

#[test]
fn the_rule_of_roles_holds_for_the_whole_edit_in_whatever_order_it_is_written() {
    let remove = |hosts: [&str; 3]| hosts.map(remove_host);
    for order in [["framework-manager", "agent1", "agent3"], ["agent1", "framework-manager", "agent3"]] {
        let mut world = fixture();
        world.edit(remove(order));
        assert_eq!(world.registry.packages_of(&ty(CC)).count(), 0);
    }
    let mut world = fixture();
    let kept = [remove_host("framework-manager"), remove_host("agent1")];
    let Refusal::PrimaryHasBackups { host, backup, .. } = world.refuse(kept) else { panic!() };
    assert_eq!([host, backup], ["framework-manager", "agent3"].map(name));
    // One that is added takes no turn before the backups there are.
    let added = [remove_package("framework-manager", CC), add_manager("plain", CC)];
    assert_eq!(world.refuse(added).name(), "primary-has-backups");
    let all = [remove(["framework-manager", "agent1", "agent3"]).to_vec(), vec![add_manager("plain", CC)]];
    world.edit(all.concat());
    assert_eq!(role(&world, "plain"), Some(Role::Primary));
}

#[test]
fn a_token_for_a_host_goes_on_being_for_it_under_its_new_name() {
    use crate::enrolment::{create, token};
    let mut world = World::with([add_host("old", "/"), add_host("other", "/")]);
    let mut bound = [token(10), token(11), token(12)];
    bound[0].host = Some(name("old"));
    bound[1].host = Some(name("other"));
    world.edit(bound.map(create));
    world.edit([rename_host("old", "new")]);
    let hosts: Vec<_> = world.registry.tokens().map(|t| t.host.clone()).collect();
    assert_eq!(hosts, [Some(name("new")), Some(name("other")), None]);
}

#[test]
fn a_commit_names_each_row_once_in_order_with_what_it_was_and_is() {
    let mut world = fixture();
    let before = world.registry.clone();
    let commit = world.edit([
        move_host("plain", "/sub1"),
        rename_host("plain", "simple"),
        add_host("passing", "/"),
        remove_host("passing"),
        move_host("simple", "/empty"),
    ]);
    assert_eq!(commit.rows.len(), 1, "{:?}", commit.rows);
    let change = &commit.rows[0];
    assert_eq!(change.key, RowKey::Host(before.host_named(&name("plain")).unwrap().id));
    assert_eq!(change.before, before.row(&change.key));
    assert_eq!(change.after, world.registry.row(&change.key));
    let Some(Row::Host(host)) = &change.after else { panic!("{change:?}") };
    assert_eq!(host.name, name("simple"));
    assert_eq!(commit.position, before.position().next());
}

#[test]
fn an_edit_is_not_carried_out_by_working_it_out() {
    let mut world = fixture();
    let before: Vec<_> = world.registry.rows().collect();
    let set = world.set([add_domain("/x"), move_domain("/sub1", "/x"), remove_host("plain")]);
    let Edited::Done(next, _) = world.registry.edit(&set, &world.context()).unwrap() else { panic!() };
    assert_eq!(next.host_count() + 1, world.registry.host_count());
    assert!(world.registry.rows().eq(before));
    assert_eq!(world.registry.answered(set.request), None);
}

#[test]
fn tokens_are_counted_and_their_types_checked() {
    use crate::enrolment::{create, token};
    let mut world = World::new();
    world.edit((0..MAX_TOKENS).map(|n| create(token(n as u128 + 10))));
    assert_eq!(world.refuse([create(token(1))]), Refusal::TooManyTokens);
    assert_eq!(world.refuse([create(token(10))]), Refusal::TokenExists { id: token(10).id });
    let mut types = token(1);
    types.allow_types.insert(ManagerType::registry());
    assert_eq!(World::new().refuse([create(types)]), Refusal::RegistryType);
}
