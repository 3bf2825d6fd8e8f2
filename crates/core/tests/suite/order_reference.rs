//! `order` against the plainest reading of routing.md: paths are vectors of names, nothing is shared with
//! the crate but its hash function.

use crate::support::*;
use echelon_core::access::{Denial, Subject};
use echelon_core::change::PackageSpec;
use echelon_core::choice::{Memory, Situation, choose};
use echelon_core::evidence::Verdict;
use echelon_core::order::order;
use echelon_core::policy::{PolicySettings, Walk};
use echelon_core::report::{CandidateState, Down};
use echelon_core::settled::{Room, Settled};
use echelon_core::view::{ViewChange, ViewRow};
use proptest::prelude::*;

type Path = Vec<String>;

#[derive(Clone, Debug)]
struct Manager {
    host: String,
    domain: Path,
    priority: u32,
    weight: u32,
    denied: bool,
}

#[derive(Clone, Debug)]
struct Policy {
    domain: Path,
    all_types: bool,
    walk: Option<Walk>,
    boundary: Option<bool>,
}

#[derive(Clone, Debug)]
struct Case {
    domains: Vec<Path>,
    managers: Vec<Manager>,
    policies: Vec<Policy>,
    /// Hosts without managers.
    plain: Vec<Path>,
}

/// The last policy set for a domain and selector counts.
fn said<T: Copy>(case: &Case, at: &[String], get: impl Fn(&Policy) -> Option<T>) -> Option<T> {
    let of = |all_types| {
        let here = |p: &&Policy| p.domain == at && p.all_types == all_types;
        case.policies.iter().filter(here).filter_map(&get).next_back()
    };
    of(false).or_else(|| of(true))
}

fn nearest<T: Copy>(case: &Case, of: &Path, get: impl Fn(&Policy) -> Option<T>) -> Option<(usize, T)> {
    (0..=of.len()).rev().find_map(|depth| Some((depth, said(case, &of[..depth], &get)?)))
}

fn score(asker: &str, manager: &Manager) -> f64 {
    let text = [asker, CC, &manager.host].join("\0");
    let hash = blake3::hash(text.as_bytes());
    let high = u64::from_be_bytes(hash.as_bytes()[0..8].try_into().unwrap()) >> 11;
    -f64::from(manager.weight) / ((high as f64 + 0.5) / 9_007_199_254_740_992.0).ln()
}

#[derive(Debug, PartialEq)]
struct Expected {
    host: String,
    up: usize,
    down: usize,
    excluded: bool,
}

fn reference(case: &Case, asker: &str, of: &Path) -> Vec<Expected> {
    let walk = nearest(case, of, |p| p.walk).map_or(Walk::Chain, |(_, walk)| walk);
    let fence =
        nearest(case, of, |p| p.boundary).filter(|(_, fenced)| *fenced).map(|(depth, _)| &of[..depth]);
    let mut rows: Vec<_> = case
        .managers
        .iter()
        .map(|m| {
            let common = m.domain.iter().zip(of).take_while(|(a, b)| a == b).count();
            let (up, down) = (of.len() - common, m.domain.len() - common);
            let excluded = m.denied || fence.is_some_and(|fence| !m.domain.starts_with(fence));
            let tier = match walk {
                Walk::Chain => [usize::from(down > 0), up, down],
                Walk::Subtree => [up, down, 0],
                Walk::Hops => [up + down, down, 0],
            };
            let key = (excluded, m.host != asker, tier, m.priority, m.weight == 0);
            (key, -score(asker, m), Expected { host: m.host.clone(), up, down, excluded })
        })
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.host.cmp(&b.2.host)));
    rows.into_iter().map(|(_, _, expected)| expected).collect()
}

fn domains() -> impl Strategy<Value = Vec<Path>> {
    prop::collection::vec((any::<prop::sample::Index>(), "[abc]"), 0..12).prop_map(|steps| {
        let mut domains = vec![Path::new()];
        for (parent, name) in steps {
            let mut path = domains[parent.index(domains.len())].clone();
            path.push(name);
            if !domains.contains(&path) {
                domains.push(path);
            }
        }
        domains
    })
}

fn case() -> impl Strategy<Value = Case> {
    let walk = prop::sample::select(vec![Walk::Chain, Walk::Subtree, Walk::Hops]);
    domains().prop_flat_map(move |domains| {
        let domain = prop::sample::select(domains.clone());
        let few = prop::sample::select(vec![0_u32, 1, 3]);
        let manager = (domain.clone(), few.clone(), few, prop::bool::weighted(0.1));
        let policy = (domain.clone(), any::<bool>(), prop::option::of(walk.clone()), any::<Option<bool>>());
        let policies = prop::collection::vec(policy, 0..5);
        let managers = prop::collection::vec(manager, 0..10);
        (managers, policies, prop::collection::vec(domain, 1..4)).prop_map(
            move |(managers, policies, plain)| {
                let manager = |(i, (domain, priority, weight, denied))| Manager {
                    host: format!("m{i}"),
                    domain,
                    priority,
                    weight,
                    denied,
                };
                let policy =
                    |(domain, all_types, walk, boundary)| Policy { domain, all_types, walk, boundary };
                Case {
                    domains: domains.clone(),
                    managers: managers.into_iter().enumerate().map(manager).collect(),
                    policies: policies.into_iter().map(policy).collect(),
                    plain,
                }
            },
        )
    })
}

fn text(path: &[String]) -> String {
    format!("/{}", path.join("/"))
}

fn build(case: &Case) -> World {
    let mut world = World::with([add_host("h0", "/")]);
    world.edit(case.domains.iter().skip(1).map(|d| add_domain(&text(d))).chain([remove_host("h0")]));
    for (i, domain) in case.plain.iter().enumerate() {
        world.edit([add_host(&format!("h{i}"), &text(domain))]);
    }
    for m in &case.managers {
        let spec = PackageSpec { priority: m.priority, weight: m.weight, ..manager_spec() };
        world.edit([add_host(&m.host, &text(&m.domain)), add_package(&m.host, CC, spec)]);
    }
    for p in &case.policies {
        let settings = PolicySettings { walk: p.walk, boundary: p.boundary, ..PolicySettings::default() };
        world.edit([set_policy(&text(&p.domain), if p.all_types { "*" } else { CC }, settings)]);
    }
    world
}

proptest! {
    #[test]
    fn order_is_what_routing_md_says(case in case()) {
        let world = build(&case);
        let denied = case.managers.iter().filter(|m| m.denied).map(|m| {
            let subject = Subject::Host(world.host_id(&m.host));
            let row = ViewRow::Denial(Denial { subject, up_to: 1, until: START });
            ViewChange { key: row.key(), row: Some(row) }
        });
        let view = world.view().with(denied).unwrap();
        let plain = case.plain.iter().enumerate().map(|(i, domain)| (format!("h{i}"), domain));
        let managers = case.managers.iter().map(|m| (m.host.clone(), &m.domain));
        for (asker, domain) in plain.chain(managers) {
            let order = order(&view, (&world.place(&asker)).into(), &ty(CC));
            let found = order.candidates.iter().map(|c| Expected {
                host: c.manager.name.to_string(),
                up: c.up as usize,
                down: c.down as usize,
                excluded: c.excluded.is_some(),
            });
            prop_assert_eq!(found.collect::<Vec<_>>(), reference(&case, &asker, domain), "for {}", asker);
        }
    }
}

/// A route among few candidates is the beginning of the route among all, whatever is down, and what order and
/// choice say.
fn check_settled(world: &World, down: &[Down], most: usize) {
    let view = world.view();
    let live = |_, _: &_| (CandidateState::Live, String::new());
    let settled = Settled { registry: &world.registry, view: &view, state_of: &live, down };
    let routes = settled.of_type(&ty(CC));
    for host in world.registry.hosts() {
        let order = order(&view, (&world.place(host.name.as_str())).into(), &ty(CC));
        let states = order.candidates.iter().map(|c| match () {
            () if c.excluded.is_some() => CandidateState::Excluded,
            () if down.iter().any(|d| d.covers(&c.manager.name, &c.manager.ty)) => CandidateState::Down,
            () => CandidateState::Live,
        });
        let states: Vec<Verdict> = states.map(|state| Verdict::new(state, "")).collect();
        let choice = choose(&order, &states, &mut Memory::default(), &Situation::settled(&host.name));
        let mut room = Room::default();
        let domain = routes.of_domain(host.domain, most);
        let route = domain.route(host, &mut room);
        let chosen = choice.chosen.map(|i| &order.candidates[i].manager.name);
        assert_eq!(route.chosen().map(|m| &m.name), chosen);
        assert_eq!(route.outcome(), choice.outcome);
        let names: Vec<_> = order.candidates.iter().map(|c| &c.manager.name).take(most).collect();
        assert_eq!(route.candidates().map(|(m, _)| &m.name).collect::<Vec<_>>(), names);
        let (mut all, few) = (settled.route(host, &ty(CC)), route.report());
        assert_eq!(all.candidates.len(), order.candidates.len());
        all.candidates.truncate(most);
        assert_eq!(few, all);
    }
}

proptest! {
    #[test]
    fn settled_routes_are_what_order_and_choice_say(
        case in case(),
        down in prop::collection::btree_set(0_usize..10, 0..10),
        most in 0_usize..8,
    ) {
        let down: Vec<_> = down.into_iter().map(|i| parse(&format!("m{i}"))).collect();
        check_settled(&build(&case), &down, most);
    }
}

/// More managers than a domain keeps, the nearest ones down.
#[test]
fn a_choice_among_all_is_found_though_a_domain_keeps_only_some() {
    let domains = (0..20).map(|i| add_domain(&format!("/d{i}")));
    let hosts = (0..200).map(|i| add_host(&format!("m{i}"), &format!("/d{}", i % 20)));
    let packages = (0..200).map(|i| add_package(&format!("m{i}"), CC, manager_spec()));
    let world = World::with(domains.chain(hosts).chain(packages));
    for dead in [0, 10, 195, 200] {
        // One domain after the other.
        let down: Vec<_> = (0..dead).map(|i| parse(&format!("m{}", i * 20 % 200 + i * 20 / 200))).collect();
        check_settled(&world, &down, 3);
    }
}
