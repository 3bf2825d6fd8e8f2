//! A router that follows one view after the other, changing what it has, against an order made anew from each.

use crate::rig::seen_of;
use crate::support::*;
use echelon_core::access::{Denial, Subject};
use echelon_core::evidence::Seen;
use echelon_core::id::{DomainId, HostId};
use echelon_core::name::Text;
use echelon_core::order::order;
use echelon_core::package::Role;
use echelon_core::policy::{Policy, PolicySettings, TypeSelector, Walk};
use echelon_core::report::CandidateState;
use echelon_core::router::{Input, Router};
use echelon_core::row::Domain;
use echelon_core::view::{Manager, Place, View, ViewChange, ViewKey, ViewRow};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Domains 1 to 6: 2 and 3 below 1, 4 and 5 below 2, 6 below the root.
const PARENTS: [u64; 6] = [0, 1, 1, 2, 2, 0];

/// More than are seated one by one.
const HOSTS: u128 = 24;

#[derive(Clone, Debug)]
enum Event {
    /// One delta.
    Delta(Vec<Row>),
    /// This host is somewhere else now.
    Move(u64),
    /// A connection to this manager fails.
    Fail(u128),
}

#[derive(Clone, Debug)]
enum Row {
    Manager { host: u128, domain: u64, priority: u32, weight: u32, port: u16, withdrawn: bool },
    Gone(u128),
    Denied(u128, bool),
    Walk(u64, Option<Walk>),
}

fn row() -> impl Strategy<Value = Row> {
    let host = 0..HOSTS;
    let manager = (host.clone(), 0..=6_u64, 0..2_u32, 0..3_u32, 1..3_u16, prop::bool::weighted(0.1));
    let manager = manager.prop_map(|(host, domain, priority, weight, port, withdrawn)| Row::Manager {
        host,
        domain,
        priority,
        weight,
        port,
        withdrawn,
    });
    let walk = prop::sample::select(vec![Walk::Chain, Walk::Subtree, Walk::Hops]);
    prop_oneof![
        12 => manager,
        4 => host.clone().prop_map(Row::Gone),
        1 => (host, any::<bool>()).prop_map(|(host, denied)| Row::Denied(host, denied)),
        1 => (0..=6_u64, prop::option::of(walk)).prop_map(|(domain, walk)| Row::Walk(domain, walk)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec(row(), 1..4).prop_map(Event::Delta),
        2 => prop::collection::vec(row(), 20..60).prop_map(Event::Delta),
        1 => (0..=6_u64).prop_map(Event::Move),
        3 => (0..HOSTS).prop_map(Event::Fail),
    ]
}

impl Row {
    fn change(&self) -> ViewChange {
        let set = |row: ViewRow| ViewChange { key: row.key(), row: Some(row) };
        match *self {
            Self::Manager { host, domain, priority, weight, port, withdrawn } => {
                set(ViewRow::Manager(Manager {
                    host: host_id(host),
                    ty: ty(CC),
                    name: name(&format!("h{host}")),
                    domain: DomainId(domain),
                    endpoint: parse(&format!("127.0.0.1:{port}")),
                    priority,
                    weight,
                    role: Role::Backup,
                    withdrawn,
                    withdrawn_by_host: false,
                    drained: None,
                }))
            }
            Self::Gone(host) => ViewChange { key: ViewKey::Manager(ty(CC), host_id(host)), row: None },
            Self::Denied(host, denied) => {
                let subject = Subject::Host(host_id(host));
                let denial = Denial { subject: subject.clone(), up_to: 1, until: START };
                let row = denied.then_some(ViewRow::Denial(denial));
                ViewChange { key: ViewKey::Denial(subject), row }
            }
            Self::Walk(domain, walk) => {
                let settings = PolicySettings { walk, ..PolicySettings::default() };
                set(ViewRow::Policy(Policy { domain: DomainId(domain), ty: TypeSelector::All, settings }))
            }
        }
    }
}

fn place(domain: u64) -> Place {
    let up = |d: &u64| d.checked_sub(1).map(|at| PARENTS[at as usize]);
    let mut domains: Vec<_> = std::iter::successors(Some(domain), up).map(DomainId).collect();
    domains.reverse();
    Place {
        host: host_id(0),
        name: name("h0"),
        path: path("/"),
        domains,
        packages: Vec::new(),
        address: parse("127.0.0.1"),
        denial: None,
        allow_types: Default::default(),
        drained: None,
    }
}

fn domains() -> View {
    let domain = |(at, parent): (usize, &u64)| {
        let id = at as u64 + 1;
        ViewRow::Domain(Domain {
            id: DomainId(id),
            place: Some((DomainId(*parent), parse(&format!("d{id}")))),
        })
    };
    View::from_rows(PARENTS.iter().enumerate().map(domain)).unwrap()
}

proptest! {
    #[test]
    fn a_router_that_follows_has_the_order_of_the_view_and_keeps_what_it_knows_of_who_stays(
        events in prop::collection::vec(event(), 1..25)
    ) {
        let (now, mut out) = (at(60.0), Vec::new());
        let (mut view, mut at_home) = (domains(), place(4));
        let mut router = Router::new(view.clone(), at_home.clone());
        router.handle(now, Input::Want(ty(CC)), &mut out);
        // Where those listen to which a connection failed.
        let mut failed = BTreeMap::<HostId, _>::new();
        for event in events {
            match event {
                Event::Delta(rows) => {
                    view = view.with(rows.iter().map(Row::change)).unwrap();
                    router.handle(now, Input::View(view.clone()), &mut out);
                }
                Event::Move(domain) => {
                    at_home = place(domain);
                    router.handle(now, Input::Place(at_home.clone()), &mut out);
                }
                Event::Fail(host) => {
                    let (host, seen) = (host_id(host), Seen::Failed(Text::lossy("connection refused")));
                    if let Some(manager) = view.manager(&ty(CC), host) {
                        failed.insert(host, manager.endpoint.clone());
                    }
                    router.handle(now, seen_of(host, seen), &mut out);
                }
            }
            failed.retain(|host, endpoint| view.manager(&ty(CC), *host).is_some_and(|m| m.endpoint == *endpoint));
            let expected = order(&view, (&at_home).into(), &ty(CC));
            let entries = &router.route(&ty(CC)).unwrap().entries;
            let candidates: Vec<_> = entries.iter().map(|entry| entry.candidate.clone()).collect();
            prop_assert_eq!(candidates, expected.candidates);
            for entry in entries.iter().filter(|entry| entry.state.may_serve()) {
                let down = failed.contains_key(&entry.candidate.manager.host);
                prop_assert_eq!(entry.state == CandidateState::Down, down, "{:?}", entry);
            }
        }
    }
}
