//! Weighted rendezvous hashing: golden vectors, proportions, minimal disruption.

use crate::support::*;
use echelon_core::order::{order, rendezvous_score};
use echelon_core::view::View;
use std::collections::BTreeMap;

/// Those of docs/routing.md, worked out by rendezvous.py beside this file: host, type, manager, weight, and
/// the score's bits.
const VECTORS: [(&str, &str, &str, u32, u64); 9] = [
    ("agent1", "command-control", "agent3", 1, 0x40209f2cb3cac312),
    ("agent2", "command-control", "agent3", 1, 0x3fe4bf79b1261232),
    ("agent1", "command-control", "framework-manager", 1, 0x401b44dec889e0cc),
    ("agent1", "audit", "agent3", 1, 0x3fe68ccbd23f7ca8),
    ("agent1", "command-control", "agent3", 7, 0x404d168e3aa2d560),
    ("agent1", "command-control", "agent3", 65535, 0x41209f1c149e0f48),
    ("agent1", "command-control", "agent3", 0, 0),
    ("a", "b", "c", 1, 0x3fe94c1073db1998),
    ("web-0.example.net", "mirror", "db.example.org", 3, 0x40126dbe76780865),
];

#[test]
fn scores_are_those_of_the_golden_vectors() {
    for (host, of, manager, weight, bits) in VECTORS {
        let score = rendezvous_score(&name(host), &ty(of), &name(manager), weight);
        assert_eq!(score.to_bits(), bits, "{host} {of} {manager} {weight}: {score:?}");
    }
    let longest = ["h", "m"].map(|c| name(&c.repeat(253)));
    let score = rendezvous_score(&longest[0], &ty(&"t".repeat(63)), &longest[1], 2);
    assert_eq!(score.to_bits(), 0x3ff028d49c2490a6);
}

#[test]
fn docs_routing_md_shows_the_same_vectors() {
    let docs = include_str!("../../../../docs/routing.md");
    for (host, of, manager, weight, bits) in VECTORS {
        let score = f64::from_bits(bits);
        let row = format!("| `{host}` | `{of}` | `{manager}` | {weight} | {score} | `{bits:016x}` |");
        assert!(docs.contains(&row), "missing: {row}");
    }
}

/// A domain with these managers, and 3,000 hosts that ask.
struct Domain {
    view: View,
    asking: World,
}

const ASKING: usize = 3_000;

fn domain(weights: &[(&str, u32)]) -> Domain {
    let mut world = World::with([add_domain("/d")]);
    for (host, weight) in weights {
        let spec = echelon_core::change::PackageSpec { weight: *weight, ..manager_spec() };
        world.edit([add_host(host, "/d"), add_package(host, CC, spec)]);
    }
    world.edit((0..ASKING).map(|i| add_host(&format!("h{i}"), "/d")));
    Domain { view: world.view(), asking: world }
}

/// Who each asking host's first candidate is.
fn firsts(domain: &Domain) -> BTreeMap<String, String> {
    let first = |i| {
        let host = format!("h{i}");
        let place = domain.asking.place(&host);
        let order = order(&domain.view, (&place).into(), &ty(CC));
        (host, order.home().unwrap().manager.name.to_string())
    };
    (0..ASKING).map(first).collect()
}

#[test]
fn hosts_spread_over_equal_managers_in_proportion_to_their_weights() {
    let weights = [("m1", 1), ("m2", 2), ("m3", 5), ("spare", 0)];
    let firsts = firsts(&domain(&weights));
    let count = |m: &str| firsts.values().filter(|f| *f == m).count() as f64;
    for (manager, weight) in weights {
        let expected = ASKING as f64 * f64::from(weight) / 8.0;
        // Three and a half standard deviations of a binomial distribution; the input is fixed.
        let slack = 3.5 * (expected * (1.0 - expected / ASKING as f64)).sqrt();
        assert!((count(manager) - expected).abs() <= slack, "{manager}: {} of {expected}", count(manager));
    }
}

#[test]
fn losing_one_manager_moves_only_its_hosts_and_spreads_them() {
    let all = ["m1", "m2", "m3", "m4"].map(|m| (m, 1));
    let mut domain = domain(&all);
    let before = firsts(&domain);
    domain.asking.edit([withdraw("m2", CC)]);
    domain.view = domain.asking.view();
    let after = firsts(&domain);
    let mut heirs = BTreeMap::<_, u32>::new();
    for (host, manager) in &before {
        match manager.as_str() {
            "m2" => *heirs.entry(after[host].clone()).or_default() += 1,
            _ => assert_eq!(&after[host], manager, "{host} moved without need"),
        }
    }
    assert_eq!(heirs.keys().map(String::as_str).collect::<Vec<_>>(), ["m1", "m3", "m4"]);
    assert!(heirs.values().all(|n| *n > 200), "{heirs:?}");
}
