//! An agent's routes after one delta: from a manager's message to new routes for every type, with a view of
//! 2,000 managers of 5 types. To reach: 200 µs.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use echelon_bench::Shape;
use echelon_bench::generate::TYPES;
use echelon_core::message::{Health, LivenessEntry};
use echelon_core::package::Role;
use echelon_core::project::{place, project};
use echelon_core::registry::Registry;
use echelon_core::router::{Input, Output, Router};
use echelon_core::time::Monotonic;
use echelon_core::view::{Manager, View, ViewChange, ViewRow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A router that has routes for all types and heard of all managers.
fn router(registry: &Registry, view: &View) -> (Router, Monotonic) {
    let host = registry.hosts().next().unwrap().id;
    let mut router = Router::new(view.clone(), place(registry, host).unwrap());
    let now = Monotonic::default() + Duration::from_secs(60);
    let mut out = Vec::new();
    router.handle(now, Input::Session(true), &mut out);
    for ty in TYPES {
        router.handle(now, Input::Want(ty.parse().unwrap()), &mut out);
    }
    let mut entries = BTreeMap::new();
    for m in view.managers() {
        let nothing = LivenessEntry {
            host: m.host,
            incarnation: 1,
            sequence: 1,
            silent: false,
            packages: BTreeMap::new(),
        };
        entries.entry(m.host).or_insert(nothing).packages.insert(m.ty.clone(), Health::Passing);
    }
    let entries = entries.into_values().collect();
    router.handle(now, Input::Liveness { complete: true, entries }, &mut out);
    (router, now)
}

/// What becomes of one manager in the middle of all.
fn change(view: &View, change: impl FnOnce(&mut Manager)) -> ViewChange {
    let mut manager = Manager::clone(view.managers().nth(view.manager_count() / 2).unwrap());
    change(&mut manager);
    let row = ViewRow::Manager(manager);
    ViewChange { key: row.key(), row: Some(row) }
}

fn deltas(c: &mut Criterion) {
    for (layout, shape) in [("1 per host", Shape::VIEW), ("5 per host", Shape { per_host: 5, ..Shape::VIEW })]
    {
        let registry = shape.to_registry();
        let view = project(&registry);
        let (mut router, now) = router(&registry, &view);
        let mut group = c.benchmark_group(format!("delta/{layout}"));
        let root = echelon_core::id::DomainId::ROOT;
        let host = view.managers().nth(view.manager_count() / 2).unwrap().host;
        let moved = |row: &Arc<Manager>| {
            let row = ViewRow::Manager(Manager { domain: root, ..Manager::clone(row) });
            ViewChange { key: row.key(), row: Some(row) }
        };
        let cases: [(&str, Vec<ViewChange>); 3] = [
            ("a manager is withdrawn", vec![change(&view, |m| m.withdrawn = true)]),
            ("a manager has another role", vec![change(&view, |m| m.role = Role::Primary)]),
            ("a host moves", view.managers().filter(|m| m.host == host).map(moved).collect()),
        ];
        for (name, changes) in cases {
            // There and back again, so that every delta changes something.
            let back: Vec<_> =
                changes.iter().map(|c| ViewChange { key: c.key.clone(), row: view.row(&c.key) }).collect();
            let mut at = view.clone();
            let mut there = false;
            group.bench_function(name, |b| {
                b.iter_batched(
                    || {
                        there = !there;
                        if there { changes.clone() } else { back.clone() }
                    },
                    |delta| {
                        at = at.with(delta).unwrap();
                        let mut out = Vec::new();
                        router.handle(now, Input::View(at.clone()), &mut out);
                        assert!(out.iter().any(|o| matches!(o, Output::Publish(_))));
                        out
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group!(benches, deltas);
criterion_main!(benches);
