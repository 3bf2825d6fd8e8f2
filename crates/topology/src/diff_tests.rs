//! Plans, and what becomes of a registry to which they are applied.

use crate::plan::{DiffError, Sign};
use crate::testing::{KEEP, PRUNE, apply, edit, fresh, ids, plan, registry, shown, topology};
use crate::{diff, export, parse, to_registry};
use echelon_core::access::{Access, Identity, Subject};
use echelon_core::announce::{AnnouncedSpec, HostWord};
use echelon_core::change::Change;
use echelon_core::check::Check;
use echelon_core::message::{Failure, FailureClass};
use echelon_core::name::HostName;
use echelon_core::package::Role;
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::row::Row;
use echelon_core::time::UnixMillis;
use std::num::NonZeroU16;

const THREE: &str = r#"
[[host]]
name = "a"
domain = "/x/y"
address = "127.0.0.1"
packages = ["m:1", "tool"]
[[host]]
name = "b"
domain = "/x"
packages = ["m:1"]
[[host]]
name = "c"
domain = "/"
packages = ["m:1"]
"#;

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn primary(registry: &Registry, ty: &str) -> String {
    let ty = ty.parse().unwrap();
    registry.primary_of(&ty).map(|p| registry.host(p.host).unwrap().name.to_string()).unwrap_or_default()
}

/// The error that a file gives against the registry of another.
fn refused(file: &str, against: &Registry) -> DiffError {
    diff(&topology(file), against, KEEP, &mut ids(9)).unwrap_err()
}

#[test]
fn a_fresh_registry_gets_domains_hosts_and_packages() {
    let plan = plan(&topology(THREE), &fresh(), KEEP);
    assert_eq!(
        shown(&plan),
        [
            "+ domain /x",
            "+ domain /x/y",
            "+ host a: in /x/y, at 127.0.0.1",
            "+ host b: in /x",
            "+ host c: in /",
            "+ package a m: port 1",
            "+ package a tool: inventory only",
            "+ package b m: port 1",
            "+ package c m: port 1",
        ]
    );
    assert_eq!(plan.created_domains, ["/x".parse().unwrap(), "/x/y".parse().unwrap()]);
    let after = apply(&fresh(), &plan).unwrap();
    assert_eq!(export(&after), export(&registry(THREE)));
    assert_eq!(primary(&after, "m"), "a");
}

#[test]
fn what_is_so_already_makes_no_change() {
    assert!(plan(&topology(THREE), &registry(THREE), PRUNE).is_empty());
}

#[test]
fn another_framework_is_refused() {
    let other = parse("x", b"framework = \"other\"").unwrap();
    let error = diff(&other, &fresh(), KEEP, &mut ids(1)).unwrap_err();
    assert_eq!(error.to_string(), "the file is of framework other, the registry of acme");
    let failure = Failure::from(&error);
    assert_eq!((failure.error.as_str(), failure.class), ("other-framework", FailureClass::Forbidden));
}

#[test]
fn hosts_move_and_change_address_only_where_the_file_says_so() {
    let before = registry(THREE);
    let file = "[[host]]\nname = \"a\"\npackages = [\"m:1\", \"tool\"]\n[[host]]\nname = \"b\"\ndomain = \"/z\"\n\
                address = \"b.example\"\npackages = [\"m:1\"]\n";
    let plan = plan(&topology(file), &before, KEEP);
    assert_eq!(
        shown(&plan),
        ["+ domain /z", "~ host b: domain /x → /z", "~ host b: address none → b.example"]
    );
    let after = apply(&before, &plan).unwrap();
    let a = after.host_named(&name("a")).unwrap();
    assert_eq!((after.path(a.domain).to_string(), a.address.is_some()), ("/x/y".into(), true));
    assert_eq!(after.host_named(&name("b")).unwrap().id, before.host_named(&name("b")).unwrap().id);
}

#[test]
fn keys_left_out_take_their_defaults_but_role_and_state_stay() {
    let long = "[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"m\"\nport = 1\npriority = 5\nweight = 0\n\
                state = \"withdrawn\"\nversion = \"2\"\ncheck = { interval = \"1s\" }\n";
    let before = registry(long);
    let after = |file: &str| {
        let plan = plan(&topology(file), &before, KEEP);
        (shown(&plan), apply(&before, &plan).unwrap())
    };
    let (lines, next) = after("[[host]]\nname = \"a\"\npackages = [\"m:2\"]\n");
    assert_eq!(
        lines,
        ["~ package a m: port 1 → port 2, priority 5 → 100, weight 0 → 1, version 2 → none, \
          check { tcp = true, interval = \"1s\" } → { tcp = true }"]
    );
    let package = next.packages().next().unwrap();
    assert!(package.withdrawn.is_some() && package.role == Some(Role::Primary));
    let (lines, next) = after(&long.replace("withdrawn", "active"));
    assert_eq!(lines, ["~ package a m: state withdrawn → active"]);
    assert!(next.packages().next().unwrap().withdrawn.is_none());
}

#[test]
fn a_new_package_can_be_withdrawn_from_the_start() {
    let file = "[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"m\"\nport = 1\nstate = \"withdrawn\"\n";
    let after = apply(&fresh(), &plan(&topology(file), &fresh(), KEEP)).unwrap();
    assert_eq!(export(&after), export(&registry(file)));
    assert!(after.packages().next().unwrap().withdrawn.is_some());
}

#[test]
fn a_policy_in_the_file_replaces_the_whole_policy_there() {
    let policy = |keys: &str| {
        format!("[[policy]]\ndomain = \"/x\"\ntype = \"m\"\n{keys}\n[[policy]]\nboundary = true\n")
    };
    let before = registry(&policy("walk = \"hops\"\nconnect_timeout = \"2s\""));
    let file = topology(
        "[[policy]]\ndomain = \"/x\"\ntype = \"m\"\nwalk = \"chain\"\n[[policy]]\ndomain = \"/x\"\nfailback = \"off\"\n",
    );
    let plan = plan(&file, &before, KEEP);
    assert_eq!(
        shown(&plan),
        [
            "~ policy /x m: walk = \"hops\", connect_timeout = \"2s\" → walk = \"chain\"",
            "+ policy /x *: failback = \"off\""
        ]
    );
    let after = apply(&before, &plan).unwrap();
    assert_eq!(after.policies().count(), 3);
    assert!(crate::testing::plan(&file, &after, KEEP).is_empty());
}

#[test]
fn the_written_primary_or_else_the_first_becomes_primary_of_a_type_without_one() {
    let host = |name: &str, role: &str| {
        format!("[[host]]\nname = \"{name}\"\n[[host.package]]\ntype = \"m\"\nport = 1\n{role}\n")
    };
    let cases =
        [(["", "", "role = \"primary\""], "c"), (["role = \"backup\"", "", ""], "b"), (["", "", ""], "a")];
    for (roles, expected) in cases {
        let file: String = ["a", "b", "c"].iter().zip(roles).map(|(name, role)| host(name, role)).collect();
        let after = apply(&fresh(), &plan(&topology(&file), &fresh(), KEEP)).unwrap();
        assert_eq!(primary(&after, "m"), expected);
        assert_eq!(primary(&registry(&file), "m"), expected);
        assert!(plan(&topology(&file), &after, PRUNE).is_empty());
    }
    let error = refused(&host("a", "role = \"backup\""), &fresh());
    assert!(matches!(&error, DiffError::NoPrimary { ty } if ty.as_str() == "m"));
}

#[test]
fn a_written_role_that_differs_is_refused_with_the_command_to_type() {
    let with_role = |host: &str, role: &str| {
        format!("[[host]]\nname = \"{host}\"\n[[host.package]]\ntype = \"m\"\nport = 1\nrole = \"{role}\"\n")
    };
    let before = registry(THREE);
    let error = refused(&with_role("b", "primary"), &before);
    assert_eq!(
        error.to_string(),
        "m on b has role = \"primary\" in the file, but a is the primary in the registry: echelon promote b --type m"
    );
    let failure = Failure::from(&error);
    assert_eq!(failure.class, FailureClass::Forbidden);
    assert_eq!(failure.remedy, "echelon promote b --type m");
    // A host that is new to the registry is told the same.
    let error = refused(&with_role("z", "primary"), &before).to_string();
    assert!(error.ends_with("echelon promote z --type m"), "{error}");
    // The primary written as a backup: any of the backups could be promoted.
    let DiffError::Roles(conflicts) = refused(&with_role("a", "backup"), &before) else { panic!() };
    assert!(["b", "c"].contains(&conflicts[0].heir.as_ref().unwrap().as_str()));
    // What agrees is no conflict.
    let agreeing = with_role("a", "primary") + &with_role("b", "backup") + &with_role("c", "backup");
    assert!(diff(&topology(&agreeing), &before, KEEP, &mut ids(9)).is_ok());
}

const WITH_REGISTRY: &str =
    "[[host]]\nname = \"m1\"\ndomain = \"/ops\"\npackages = [\"registry:29120\", \"audit:1\"]\n";

#[test]
fn registry_packages_are_never_added_changed_or_removed() {
    let added = plan(&topology(WITH_REGISTRY), &fresh(), KEEP);
    assert_eq!(added.warnings.len(), 1);
    assert!(added.warnings[0].contains("registry-manager join"), "{:?}", added.warnings);
    let after = apply(&fresh(), &added).unwrap();
    assert_eq!(after.package_count(), 1);

    let before = registry(WITH_REGISTRY);
    let moved = topology(&WITH_REGISTRY.replace("29120", "1"));
    let changed = plan(&moved, &before, KEEP);
    assert!(changed.is_empty() && changed.warnings[0].contains("stays as it is (port 1 → port 29120)"));

    let pruned = plan(&topology(""), &before, PRUNE);
    assert_eq!(shown(&pruned), ["- package m1 audit"]);
    assert!(pruned.warnings[0].contains("host m1 is not in the file and stays"), "{:?}", pruned.warnings);
    let after = apply(&before, &pruned).unwrap();
    assert_eq!((after.host_count(), after.package_count(), after.hierarchy().len()), (1, 1, 2));
}

#[test]
fn a_registry_package_s_role_changes_hands_by_its_own_command() {
    let two = "[[host]]\nname = \"a\"\npackages = [\"registry:1\"]\n[[host]]\nname = \"b\"\n[[host.package]]\n\
               type = \"registry\"\nport = 1\n";
    let error = refused(&format!("{two}role = \"primary\"\n"), &registry(two));
    assert!(error.to_string().ends_with(": echelon promote b"), "{error}");
}

#[test]
fn prune_removes_what_the_file_leaves_out_in_an_order_that_holds() {
    let before = registry(&format!(
        "{THREE}[[domain]]\npath = \"/idle/deep\"\n[[policy]]\ndomain = \"/x/y\"\nwalk = \"hops\"\n\
         [[policy]]\nboundary = true\n"
    ));
    let file = topology("[[host]]\nname = \"c\"\ndomain = \"/\"\npackages = [\"m:1\"]\n");
    assert!(plan(&file, &before, KEEP).is_empty());
    let pruned = plan(&file, &before, PRUNE);
    assert_eq!(
        shown(&pruned),
        [
            "- package a m: c becomes primary",
            "- host a: with m, tool",
            "- host b: with m",
            "- policy / *: boundary = true",
            "- policy /x/y *: walk = \"hops\"",
            "- domain /x/y",
            "- domain /x",
            "- domain /idle/deep",
            "- domain /idle",
        ]
    );
    assert!(pruned.lines.iter().all(|line| line.sign == Sign::Remove));
    let after = apply(&before, &pruned).unwrap();
    assert_eq!(primary(&after, "m"), "c");
    assert_eq!((after.host_count(), after.hierarchy().len(), after.policies().count()), (1, 1, 0));
}

#[test]
fn prune_can_end_types_whose_primaries_and_backups_cross() {
    let crossed = "[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"m\"\nport = 1\n[[host.package]]\ntype = \"n\"\nport = 2\n\
                   [[host]]\nname = \"b\"\n[[host.package]]\ntype = \"m\"\nport = 1\n[[host.package]]\ntype = \"n\"\nport = 2\nrole = \"primary\"\n";
    let before = registry(crossed);
    let after = apply(&before, &plan(&topology(""), &before, PRUNE)).unwrap();
    assert_eq!((after.host_count(), after.package_count()), (0, 0));
}

#[test]
fn prune_hands_the_role_to_the_primary_that_the_file_names() {
    let before = registry(THREE);
    let role = "[[host]]\nname = \"b\"\npackages = [\"m:1\"]\n[[host]]\nname = \"new\"\n[[host.package]]\ntype = \"m\"\n\
                port = 9\nrole = \"primary\"\n";
    let after = apply(&before, &plan(&topology(role), &before, PRUNE)).unwrap();
    assert_eq!(primary(&after, "m"), "new");
    assert!(plan(&topology(role), &after, PRUNE).is_empty());
}

#[test]
fn a_primary_that_becomes_inventory_goes_after_its_backups_and_before_its_heir() {
    let before = registry(THREE);
    let file = THREE.replace("\"m:1\"", "\"m\"")
        + "[[host]]\nname = \"d\"\n[[host.package]]\ntype = \"m\"\nport = 1\nrole = \"primary\"\n";
    let after = apply(&before, &plan(&topology(&file), &before, KEEP)).unwrap();
    assert_eq!((primary(&after, "m").as_str(), after.manager_count()), ("d", 1));
    // With a backup left, somebody has to decide who is primary; the core says so.
    let file = THREE.replacen("\"m:1\"", "\"m\"", 1);
    let refusal = apply(&before, &plan(&topology(&file), &before, KEEP)).unwrap_err();
    assert!(matches!(refusal, Refusal::PrimaryHasBackups { .. }), "{refusal}");
}

#[test]
fn a_host_that_stays_without_its_domain_in_the_file_keeps_the_domain() {
    let before = registry(THREE);
    let file = topology("[[host]]\nname = \"a\"\npackages = [\"m:1\", \"tool\"]\n");
    let after = apply(&before, &plan(&file, &before, PRUNE)).unwrap();
    assert_eq!((after.host_count(), after.hierarchy().len()), (1, 3));
    let again =
        edit(&after, vec![Change::RestorePackage { host: name("a"), ty: "m".parse().unwrap() }]).unwrap();
    assert!(plan(&file, &again, PRUNE).is_empty());
}

/// Protects: the size that a registry is made for. A search that is quadratic in it would not end while somebody waits.
#[test]
fn a_hundred_thousand_hosts_are_compared() {
    let mut text = String::from("framework = \"acme\"\n");
    for i in 0..100_000 {
        let domain = format!("/r{}/s{}", i % 20, i % 1000);
        text.push_str(&format!(
            "[[host]]\nname = \"h{i}\"\ndomain = \"{domain}\"\npackages = [\"t{}:1\"]\n",
            i % 50
        ));
    }
    let file = parse("big", text.as_bytes()).unwrap();
    let first = diff(&file, &fresh(), KEEP, &mut ids(1)).unwrap();
    assert_eq!(first.changes.len(), 100_000 * 2 + 20 + 1000);
    let whole = to_registry(&file);
    assert!(plan(&file, &whole, PRUNE).is_empty());
    assert!(parse("again", export(&whole).as_bytes()).is_ok());
}

/// A registry in which the host `a` has announced the package `m` itself, on port 7 with a check of its own.
fn announced(file: &str) -> Registry {
    let registry = registry(file);
    let host = registry.host_named(&name("a")).unwrap().id;
    let identity = Row::Identity(Identity {
        subject: Subject::Host(host),
        enrolment: 1,
        access: Access::Agent,
        allow_types: ["m".parse().unwrap()].into(),
        key_hash: [0; 32],
        enrolled: UnixMillis(0),
    });
    let registry =
        Registry::from_rows(registry.position(), registry.rows().chain([identity]).collect::<Vec<_>>())
            .unwrap();
    let check = Check { misses: 9, ..Check::default() };
    let spec =
        AnnouncedSpec { port: NonZeroU16::new(7), version: Some("2".parse().unwrap()), check: Some(check) };
    let word = HostWord::Runs(spec);
    edit(&registry, vec![Change::Announce { host, ty: "m".parse().unwrap(), word }]).unwrap()
}

#[test]
fn what_a_host_announced_stays_where_the_file_leaves_it_out() {
    let before = announced("[[host]]\nname = \"a\"\n");
    let lines = |file: &str| shown(&plan(&topology(file), &before, PRUNE));
    assert!(lines("[[host]]\nname = \"a\"\npackages = [\"m\"]\n").is_empty());
    assert!(plan(&parse("x", export(&before).as_bytes()).unwrap(), &before, PRUNE).is_empty());
    let weight = "[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"m\"\nweight = 5\n";
    assert_eq!(lines(weight), ["~ package a m: weight 1 → 5"]);
    let written = format!("{weight}port = 8\ncheck = {{}}\n");
    let check = "check { tcp = true, misses = 9 } → { tcp = true }";
    assert_eq!(lines(&written), [format!("~ package a m: port 7 → port 8, weight 1 → 5, {check}")]);
    let after = apply(&before, &plan(&topology(&written), &before, KEEP)).unwrap();
    let package = after.packages().next().unwrap();
    assert!(package.is_announced() && package.version.is_some(), "{package:?}");
}

#[test]
fn prune_removes_neither_what_a_host_announced_nor_that_host() {
    let operators = "[[host]]\nname = \"a\"\npackages = [\"other:1\"]\n";
    let before = announced(operators);
    for (file, lines) in [(operators, vec![]), ("", vec!["- package a other"])] {
        let pruned = plan(&topology(file), &before, PRUNE);
        assert_eq!(shown(&pruned), lines);
        assert!(
            pruned.warnings.iter().any(|w| w.contains("itself") || w.contains("announced")),
            "{pruned:?}"
        );
        let after = apply(&before, &pruned).unwrap();
        assert!(after.packages().any(|p| p.is_announced()));
    }
    let backup = "[[host]]\nname = \"b\"\n[[host.package]]\ntype = \"m\"\nport = 1\nrole = \"primary\"\n";
    let error = diff(&topology(backup), &before, PRUNE, &mut ids(1)).unwrap_err();
    assert!(matches!(error, DiffError::Roles(_)), "the announced one stays primary: {error}");
}
