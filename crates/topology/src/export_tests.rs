//! Files made of registries, and registries made of files.

use crate::testing::{KEEP, PRUNE, apply, fresh, ids, plan, registry, topology};
use crate::topology::{HostEntry, PackageEntry, PackageState, PolicyEntry, Topology, Written};
use crate::{DiffError, diff, export, parse, to_registry};
use echelon_core::change::PackageSpec;
use echelon_core::check::{Check, CheckKind, CheckText};
use echelon_core::name::{DomainPath, FrameworkName};
use echelon_core::package::{Listens, Role};
use echelon_core::policy::{Failback, PolicySettings, Probe, TypeSelector, Walk};
use echelon_core::refusal::Refusal;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn the_order_is_canonical_and_defaults_are_left_out() {
    let file = registry(
        r#"
        [[host]]
        name = "z"
        domain = "/b"
        packages = ["m:1", "tool"]
        [[host.package]]
        type = "far"
        endpoint = "10.0.0.1:7"
        check = { expect = "+PONG" }
        [[host]]
        name = "a"
        domain = "/b"
        address = "::1"
        packages = ["m:1"]
        [[host]]
        name = "y"
        domain = "/a/x"
        packages = ["other"]
        [[host.package]]
        type = "m"
        port = 1
        priority = 100
        weight = 0
        state = "withdrawn"
        version = "a \"b\" \\ é"
        [[policy]]
        domain = "/p"
        type = "m"
        walk = "chain"
        [[policy]]
        domain = "/p"
        connect_hedge = "1500ms"
        [[policy]]
        boundary = false
        [[domain]]
        path = "/idle/deep"
        [[domain]]
        path = "/idle"
        [[domain]]
        path = "/b"
        "#,
    );
    let expected = r#"format = 1
framework = "acme"

[[domain]]
path = "/idle/deep"

[[policy]]
boundary = false

[[policy]]
domain = "/p"
connect_hedge = "1500ms"

[[policy]]
domain = "/p"
type = "m"
walk = "chain"

[[host]]
name = "y"
domain = "/a/x"
packages = ["other"]

[[host.package]]
type = "m"
port = 1
weight = 0
state = "withdrawn"
version = "a \"b\" \\ é"

[[host]]
name = "a"
domain = "/b"
address = "::1"
packages = ["m:1"]

[[host]]
name = "z"
domain = "/b"
packages = ["tool"]

[[host.package]]
type = "far"
endpoint = "10.0.0.1:7"
check = { tcp = true, expect = "+PONG" }

[[host.package]]
type = "m"
port = 1
role = "primary"
"#;
    assert_eq!(export(&file), expected);
}

#[test]
fn texts_with_control_characters_come_back_as_they_were() {
    let text = "\u{0}\u{1b}[2J\u{7f}\u{85}\u{202e}\u{feff}\"\\\r\n\té";
    let mut file = topology("[[host]]\nname = \"a\"\npackages = [\"m:1\"]\n");
    let kind = CheckKind::Exchange {
        send: CheckText::try_from(text.to_owned()).unwrap(),
        expect: CheckText::try_from("x".to_owned()).unwrap(),
    };
    file.hosts[0].packages[0].spec.check = Check::of(kind);
    let written = export(&to_registry(&file));
    assert!(written.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{written:?}");
    assert_eq!(
        parse("x", written.as_bytes()).unwrap().hosts[0].packages[0].spec,
        file.hosts[0].packages[0].spec
    );
}

#[test]
fn a_file_alone_gives_the_same_ids_every_time_and_others_for_other_names() {
    let file = topology("[[host]]\nname = \"a\"\n[[host]]\nname = \"b\"\n");
    let ids = |t: &Topology| to_registry(t).hosts_by_name().map(|h| h.id).collect::<Vec<_>>();
    assert_eq!(ids(&file), ids(&file));
    assert_ne!(ids(&file)[0], ids(&file)[1]);
    assert_eq!(ids(&file)[0].0.get_version_num(), 8);
}

#[test]
fn the_examples_export_to_themselves() {
    for (name, text) in [
        ("reference", include_str!("../../../examples/reference/topology.toml")),
        ("debian-mirrors", include_str!("../../../examples/debian-mirrors/topology.toml")),
    ] {
        let file = parse(name, text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        let registry = to_registry(&file);
        let again = to_registry(&parse(name, export(&registry).as_bytes()).unwrap());
        assert!(registry.rows().eq(again.rows()), "{name}");
    }
}

#[test]
fn the_reference_example_is_the_worked_example() {
    let file = include_str!("../../../examples/reference/topology.toml");
    let registry = to_registry(&parse("reference", file.as_bytes()).unwrap());
    let hosts: Vec<_> =
        registry.hosts_by_name().map(|h| (h.name.to_string(), registry.path(h.domain).to_string())).collect();
    let expected = [
        ("agent1", "/sub1"),
        ("agent2", "/sub1"),
        ("agent3", "/sub1/sub1a"),
        ("agent4", "/sub1/sub1a"),
        ("framework-manager", "/"),
    ];
    assert!(hosts.iter().map(|(h, d)| (h.as_str(), d.as_str())).eq(expected), "{hosts:?}");
    let ty = "command-control".parse().unwrap();
    let mut managers: Vec<_> =
        registry.packages_of(&ty).map(|p| registry.host(p.host).unwrap().name.to_string()).collect();
    managers.sort();
    assert_eq!(managers, ["agent1", "agent3", "framework-manager"]);
}

fn any_listens() -> impl Strategy<Value = Listens> {
    let port = (1u16..4).prop_map(|p| Listens::Port(p.try_into().unwrap()));
    let at = prop::sample::select(vec!["10.0.0.1:7", "[::1]:7", "db.example:7"]);
    prop_oneof![Just(Listens::Nowhere), port, at.prop_map(|e| Listens::At(e.parse().unwrap()))]
}

fn millis(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn any_check() -> impl Strategy<Value = Check> {
    let text = || ".{0,6}".prop_map(|t| CheckText::try_from(t).unwrap());
    let exchange = (text(), text()).prop_map(|(send, expect)| CheckKind::Exchange { send, expect });
    let status = prop::option::of((200u32..600).prop_map(|s| s.try_into().unwrap()));
    let host = prop::option::of("[a-z]{1,3}(:[0-9]{1,3})?".prop_map(|h| h.parse().unwrap()));
    let http = ("/[a-z?=%&]{0,6}".prop_map(|p| p.parse().unwrap()), status, host);
    let http = http.prop_map(|(path, status, host)| CheckKind::Http { path, status, host });
    let grpc = prop::option::of("[a-zA-Z.]{1,6}".prop_map(|s| s.parse().unwrap()));
    let grpc = grpc.prop_map(|service| CheckKind::Grpc { service });
    let kind = prop_oneof![Just(CheckKind::Connect), exchange, http, grpc];
    let any = (kind, millis(50..=3_600_000), millis(10..=60_000), 1u32..=10)
        .prop_map(|(kind, interval, timeout, misses)| Check { kind, interval, timeout, misses });
    prop_oneof![2 => Just(Check::default()), 1 => any]
}

fn any_spec() -> impl Strategy<Value = PackageSpec> {
    let numbers = (prop_oneof![Just(100), 0u32..=65_535], prop_oneof![Just(1), 0u32..=65_535]);
    let version = prop::option::of("[ -~é]{0,5}".prop_map(|v| v.parse().unwrap()));
    (any_listens(), numbers, version, any_check()).prop_map(
        |(listens, (priority, weight), version, check)| PackageSpec {
            listens,
            priority,
            weight,
            version,
            check,
        },
    )
}

fn any_package() -> impl Strategy<Value = PackageEntry> {
    let states = [PackageState::Active, PackageState::Withdrawn];
    // Mostly plain packages, so that files often agree.
    let spec = prop_oneof![2 => any_listens().prop_map(|listens| PackageSpec { listens, ..PackageSpec::default() }), 1 => any_spec()];
    (spec, prop::sample::select(states.to_vec()), prop::option::weighted(0.2, Just(Role::Primary))).prop_map(
        |(spec, state, role)| PackageEntry {
            ty: "later".parse().unwrap(),
            role: role.filter(|_| spec.listens != Listens::Nowhere),
            spec,
            state: Some(state),
            written: Written::default(),
        },
    )
}

fn any_path() -> impl Strategy<Value = DomainPath> {
    prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/d", "/d/e"]).prop_map(|p| p.parse().unwrap())
}

fn any_settings() -> impl Strategy<Value = PolicySettings> {
    let words = (
        prop::option::of(prop::sample::select(vec![Walk::Chain, Walk::Subtree, Walk::Hops])),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::sample::select(vec![Failback::Auto, Failback::Dormant, Failback::Off])),
    );
    let times = (
        prop::option::of(millis(0..=3_600_000)),
        prop::option::of(millis(0..=3_600_000)),
        prop::option::of(millis(1..=10_000)),
        prop::option::of(millis(10..=60_000)),
        prop::option::of(millis(0..=3_600_000)),
        prop::option::of(millis(1_000..=3_600_000)),
        prop::option::of(prop_oneof![Just(Probe::Off), any_check().prop_map(Probe::By)]),
    );
    (words, times).prop_map(|((walk, boundary, failback), times)| PolicySettings {
        walk,
        boundary,
        failback,
        failback_hold: times.0,
        failback_jitter: times.1,
        connect_hedge: times.2,
        connect_timeout: times.3,
        drain_timeout: times.4,
        evidence_ttl: times.5,
        probe: times.6,
    })
}

/// Any topology over few names, so that two of them have much in common; with `registry` packages or
/// without.
fn any_topology(types: &'static [&'static str]) -> impl Strategy<Value = Topology> {
    let packages = prop::collection::btree_map(prop::sample::select(types), any_package(), 0..=types.len());
    let address = prop::sample::select(vec!["127.0.0.1", "::1", "h.example"]);
    let host = (any_path(), address, packages);
    let hosts = prop::collection::btree_map("h[0-5]", host, 0..6).prop_shuffle_by_name();
    let selector = prop::sample::select(vec!["*", "m", "n"]);
    let policies = prop::collection::btree_map((any_path(), selector), any_settings(), 0..4);
    let domains = prop::collection::btree_set(any_path(), 0..3);
    (domains, policies, hosts).prop_map(|(domains, policies, hosts)| {
        let policies = policies.into_iter().filter(|(_, settings)| !settings.is_empty());
        let policies = policies.map(|((domain, ty), settings)| {
            let ty: TypeSelector = ty.parse().unwrap();
            PolicyEntry { domain, ty, settings }
        });
        let mut file = Topology {
            framework: "acme".parse::<FrameworkName>().unwrap(),
            domains: domains.into_iter().collect(),
            policies: policies.collect(),
            hosts,
        };
        keep_one_primary(&mut file);
        file
    })
}

type Parts = (DomainPath, &'static str, BTreeMap<&'static str, PackageEntry>);

trait ShuffleByName {
    fn prop_shuffle_by_name(self) -> impl Strategy<Value = Vec<HostEntry>>;
}

impl<S: Strategy<Value = BTreeMap<String, Parts>>> ShuffleByName for S {
    fn prop_shuffle_by_name(self) -> impl Strategy<Value = Vec<HostEntry>> {
        let entry = |(name, (domain, address, packages)): (String, Parts)| HostEntry {
            name: name.parse().unwrap(),
            domain: Some(domain),
            address: Some(address.parse().unwrap()),
            packages: packages
                .into_iter()
                .map(|(ty, package)| PackageEntry { ty: ty.parse().unwrap(), ..package })
                .collect(),
        };
        self.prop_map(move |hosts| hosts.into_iter().map(entry).collect::<Vec<_>>()).prop_shuffle()
    }
}

/// What the parser would refuse: a second written primary of a type.
fn keep_one_primary(file: &mut Topology) {
    let mut seen = std::collections::BTreeSet::new();
    for package in file.hosts.iter_mut().flat_map(|h| &mut h.packages) {
        if package.role == Some(Role::Primary) && !seen.insert(package.ty.clone()) {
            package.role = None;
        }
    }
}

proptest! {
    #[test]
    fn an_export_is_a_fixed_point_and_changes_nothing_where_it_came_from(
        file in any_topology(&["m", "n", "registry"])
    ) {
        let registry = to_registry(&file);
        let written = export(&registry);
        let read = parse("export", written.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}\n{written}")))?;
        let again = to_registry(&read);
        prop_assert_eq!(export(&again), written.clone());
        prop_assert!(again.rows().eq(registry.rows()), "{written}");
        let plan = plan(&read, &registry, PRUNE);
        prop_assert!(plan.is_empty(), "{written}\n{:?}", plan.lines);
    }

    #[test]
    fn an_export_applied_to_a_fresh_registry_gives_the_same_export(file in any_topology(&["m", "n"])) {
        let written = export(&to_registry(&file));
        let read = parse("export", written.as_bytes()).unwrap();
        let after = apply(&fresh(), &plan(&read, &fresh(), KEEP)).unwrap();
        prop_assert_eq!(export(&after), written);
    }

    /// Whatever the registry was before: applied once, there is nothing left to do.
    #[test]
    fn a_plan_is_carried_out_whole_and_leaves_nothing_to_do(
        old in any_topology(&["m", "n"]), new in any_topology(&["m", "n"]), prune: bool
    ) {
        let options = if prune { PRUNE } else { KEEP };
        let before = apply(&fresh(), &plan(&old, &fresh(), KEEP)).unwrap();
        let planned = match diff(&new, &before, options, &mut ids(99)) {
            Ok(planned) => planned,
            Err(DiffError::Roles(conflicts)) => {
                // The conflict is real: both sides have the type, and different primaries.
                prop_assert!(conflicts.iter().all(|c| c.primary != c.host));
                return Ok(());
            }
            Err(e) => return Err(TestCaseError::fail(e.to_string())),
        };
        match apply(&before, &planned) {
            Ok(after) => {
                let again = plan(&new, &after, options);
                prop_assert!(again.is_empty(), "{:?}", again.lines);
                if prune {
                    let hosts: Vec<_> = after.hosts_by_name().map(|h| h.name.clone()).collect();
                    let mut wanted: Vec<_> = new.hosts.iter().map(|h| h.name.clone()).collect();
                    wanted.sort();
                    prop_assert_eq!(hosts, wanted);
                    prop_assert_eq!(after.hierarchy().len(), to_registry(&new).hierarchy().len());
                }
            }
            // Only an operator can say which backup follows a primary that stops listening.
            Err(Refusal::PrimaryHasBackups { .. }) => {
                prop_assert!(new.hosts.iter().flat_map(|h| &h.packages).any(|p| !p.is_manager()));
            }
            Err(e) => return Err(TestCaseError::fail(e.to_string())),
        }
    }
}
