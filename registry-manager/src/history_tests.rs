#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::clock::unix_now;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::{Basis, Chain, Grant, Grantor, Parent, SyncRule};
use echelon_core::id::{DomainId, HostId, Lineage, RequestId};
use echelon_core::position::Position;
use echelon_core::row::{Actor, Domain, Meta, Row};
use echelon_core::time::UnixMillis;
use echelon_store::{Entry, RegistryStore};
use uuid::Uuid;

fn first() -> Chain {
    let lineage = Lineage(Uuid::from_u128(1));
    let host = HostId(Uuid::from_u128(1));
    Chain::begin(Grant::first(lineage, host, "hub".parse().unwrap(), UnixMillis(0))).unwrap()
}

fn rows() -> Vec<Row> {
    let meta = Meta {
        framework: "test".parse().unwrap(),
        next_domain: DomainId(1),
        trust: Vec::new(),
        emptied: None,
        sync: SyncRule::alone(),
    };
    vec![Row::Meta(meta), Row::Domain(Domain { id: DomainId::ROOT, place: None })]
}

/// The commit that adds a host, made under a grant.
fn commit(registry: &Registry, under: GrantId, name: &str) -> Commit {
    let (id, domain) = (HostId(Uuid::now_v7()), "/".parse().unwrap());
    let change = Change::AddHost { id, name: name.parse().unwrap(), domain, address: None };
    let request = RequestId(Uuid::now_v7());
    let set = ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] };
    let actor = Actor::Console("admin".parse().unwrap());
    let context = Context { now: unix_now(), actor, from: None, content: [0; 32] };
    let Edited::Done(_, commit) = registry.edit(&set, &context).unwrap() else { panic!("repeated") };
    Commit { position: under.at(commit.position.revision), ..commit }
}

fn write(store: &mut RegistryStore, registry: &Arc<Registry>, under: GrantId, name: &str) -> Arc<Registry> {
    let commit = commit(registry, under, name);
    let entry = Entry::new(&store.head(), commit.clone());
    store.append(std::slice::from_ref(&entry), entry.revision()).unwrap();
    Arc::new(registry.apply(&commit).unwrap())
}

/// What is told: the revision and epoch of an edit, or the last revision that stays.
fn told(history: &mut History, registry: &Arc<Registry>) -> Vec<Result<(u64, u64), u64>> {
    let brief = |document| match document {
        HistoryDocument::Edit(edit) => Ok((edit.at_position.revision, edit.at_position.epoch)),
        HistoryDocument::GivenUp(report) => Err(report.given_up_after),
    };
    let part = history.part(registry.position().revision, registry).unwrap();
    part.into_iter().map(brief).collect()
}

/// Protects: who follows the history learns that what was told does not count any more, once, and then everything that
/// came in its place, though its revisions are not higher.
#[test]
fn edits_that_are_given_up_are_told_before_those_in_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let mut store = RegistryStore::create(&path, &first(), 0, &rows()).unwrap();
    let old = first().head().id;
    let position = Position { lineage: old.lineage, epoch: 1, revision: 0 };
    let mut states = vec![Arc::new(Registry::from_rows(position, rows()).unwrap())];
    let mut history = History::from_now(&path, Arc::clone(&states[0])).unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        let next = write(&mut store, states.last().unwrap(), old, name);
        states.push(next);
    }
    assert_eq!(told(&mut history, &states[5]), (1..=5).map(|revision| Ok((revision, 1))).collect::<Vec<_>>());
    let mut late =
        History::from_now(&path, Arc::clone(&states[5])).unwrap().back_to(Some(1), None, || true).unwrap();
    let mut above = History::from_now(&path, Arc::clone(&states[5])).unwrap();

    let parent = Parent { grant: old, mark: store.mark_at(3).unwrap().unwrap() };
    let grant = Grant {
        id: GrantId { lineage: Lineage(Uuid::from_u128(2)), epoch: 2 },
        parent: Some(parent),
        basis: Basis::Force,
        grantor: Grantor::Console("admin".parse().unwrap()),
        ..first().head().clone()
    };
    let new = grant.id;
    store.adopt(&first().extended(grant).unwrap(), Some(parent)).unwrap();
    assert_eq!(told(&mut history, &states[5]), [], "what is shown follows");
    assert_eq!(told(&mut history, &states[3]), [Err(3)]);
    assert_eq!(told(&mut history, &states[3]), []);
    let next = write(&mut store, &states[3], new, "f");
    assert_eq!(told(&mut history, &next), [Ok((4, 2))]);
    let next = write(&mut store, &next, new, "g");
    assert_eq!(told(&mut history, &next), [Ok((5, 2))]);
    assert_eq!(told(&mut history, &next), []);
    assert_eq!(
        told(&mut late, &next),
        [Ok((2, 1)), Ok((3, 1)), Ok((4, 2)), Ok((5, 2))],
        "it was told none of it"
    );
    assert_eq!(told(&mut above, &next), [Err(3)], "it began after one that is given up");
    assert_eq!(told(&mut above, &next), [Ok((4, 2)), Ok((5, 2))]);
}
