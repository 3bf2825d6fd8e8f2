//! The tail, other grants, what they make void, and copies.

use super::tests::{LINEAGE, add, at, change, commit, entries, first_grant, fresh, host, problem, reopened};
use super::*;
use crate::JournalReader;
use crate::database::beside;
use echelon_core::check::Check;
use echelon_core::grant::{Basis, Grant, GrantId, Parent};
use echelon_core::id::{HostId, Lineage};
use echelon_core::member::Seal;
use echelon_core::name::ManagerType;
use echelon_core::package::{Listens, Package, Role};
use echelon_core::row::{RowChange, RowKey};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use uuid::Uuid;

/// The chain after an admin made the manager on host 2 the primary, at this mark.
fn forced(store: &RegistryStore, mark: Mark) -> (Chain, Parent) {
    let before = store.grants().head();
    let parent = Parent { grant: before.id, mark };
    let lineage = Lineage(Uuid::from_u128(u128::from(before.id.epoch) + 1000));
    let id = GrantId { lineage, epoch: before.id.epoch + 1 };
    let grant = Grant { id, parent: Some(parent), basis: Basis::Force, ..before.clone() };
    (store.grants().extended(grant).unwrap(), parent)
}

fn promises() -> Seals {
    let seal = |by| Seal {
        proposal: RequestId(Uuid::from_u128(10 + by)),
        by: HostId(Uuid::from_u128(by)),
        grant: first_grant().head().id,
    };
    [2, 3].map(seal).into_iter().collect()
}

/// Revisions 2 to 5 with a host each, of which those up to 3 are committed; and what revision 4 is.
fn with_tail() -> (tempfile::TempDir, PathBuf, RegistryStore) {
    let (dir, path, mut store) = fresh();
    let new_host = |n: u64| commit(n, vec![add(host(n.into(), &format!("h{n}")))]);
    let rename = commit(5, vec![change(Some(host(1, "a")), Some(host(1, "b")))]);
    let commits = [new_host(2), new_host(3), new_host(4), rename];
    store.append(&entries(store.head(), &commits), 3).unwrap();
    (dir, path, store)
}

#[test]
fn what_is_not_known_to_be_committed_is_the_tail() {
    let (_dir, path, mut store) = with_tail();
    let committed = [host(1, "a"), host(2, "h2"), host(3, "h3")];
    for _ in 0..2 {
        let loaded = store.load(UnixMillis(0)).unwrap();
        assert_eq!((loaded.position, &loaded.rows[..]), (at(3), &committed[..]));
        assert_eq!(loaded.requests.iter().map(|r| r.position.revision).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(loaded.tail.iter().map(Entry::revision).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(loaded.tail[1].mark, store.head());
        assert_eq!(store.served(UnixMillis(0)).unwrap().len(), 2);
        drop(store);
        store = RegistryStore::open(&path).unwrap();
    }
    store.set_committed(5).unwrap();
    store.set_committed(4).unwrap();
    assert_eq!(store.committed(), 5);
    let (loaded, _) = reopened(&path);
    assert_eq!((loaded.position, loaded.tail.len(), loaded.rows.len()), (at(5), 0, 4));
    assert_eq!(loaded.rows[0], host(1, "b"));
}

#[test]
fn a_part_of_the_journal_begins_only_at_a_mark_that_it_has() {
    let (_dir, _path, mut store) = with_tail();
    let marks: Vec<_> = (1..=5).map(|n| store.mark_at(n).unwrap().unwrap()).collect();
    assert_eq!((marks[0].position, marks[4]), (at(1), store.head()));
    assert_eq!(
        [store.mark_at(0).unwrap(), store.mark_at(6).unwrap(), store.mark_at(u64::MAX).unwrap()],
        [None; 3]
    );
    let part = store.entries_after(&marks[1]).unwrap().unwrap();
    assert_eq!(part.iter().map(|entry| entry.mark).collect::<Vec<_>>(), marks[2..]);
    let read = Entry::read(&marks[1], part[0].bytes.clone()).unwrap();
    assert_eq!((read.mark, Some(read.commit)), (marks[2], store.commit_at(3).unwrap()));
    assert_eq!(store.entries_after(&store.head()).unwrap(), Some(vec![]));
    let other = Mark { hash: [0; 32], ..marks[1] };
    let other_epoch = Mark { position: Position { epoch: 2, ..at(2) }, ..marks[1] };
    assert_eq!(
        [store.entries_after(&other).unwrap(), store.entries_after(&other_epoch).unwrap()],
        [None, None]
    );

    let more: Vec<_> = (6..=300).map(|n| commit(n, vec![])).collect();
    store.append(&entries(store.head(), &more), 0).unwrap();
    assert_eq!(store.entries_after(&marks[0]).unwrap().unwrap().len(), MAX_PART_ENTRIES as usize);
    assert_eq!(store.committed(), 3, "it never goes back");
}

#[test]
fn entries_above_the_cut_go_with_all_they_did_and_are_kept() {
    for from_crash in [false, true] {
        let (dir, path, mut store) = with_tail();
        let (chain, cut) = forced(&store, store.mark_at(3).unwrap().unwrap());
        let lost: Vec<_> = [4, 5].map(|n| store.commit_at(n).unwrap().unwrap()).into();
        store.set_seals(&promises()).unwrap();
        store.adopt(&chain, Some(cut)).unwrap();
        let path = if from_crash {
            // What a killed process leaves behind: the file, and its log beside it.
            let left = dir.path().join("left.db");
            std::fs::copy(&path, &left).unwrap();
            std::fs::copy(beside(&path, "-wal"), beside(&left, "-wal")).unwrap();
            left
        } else {
            path
        };
        let after = RegistryStore::open(&path).unwrap();
        assert_eq!((after.head(), after.grants(), after.committed()), (cut.mark, &chain, 3));
        assert_eq!((store.head(), store.grants(), store.committed()), (cut.mark, &chain, 3));
        assert_eq!(
            after.standing().unwrap(),
            Standing { grants: chain.clone(), seals: Seals::default(), rolled_back: None }
        );
        let loaded = after.load(UnixMillis(0)).unwrap();
        assert_eq!((loaded.rows, loaded.tail.len()), (vec![host(1, "a"), host(2, "h2"), host(3, "h3")], 0));
        let surplus = JournalReader::open(&path).unwrap().surplus(0).unwrap();
        assert_eq!(surplus.iter().map(|l| l.commit.clone()).collect::<Vec<_>>(), lost);
        assert!(surplus.iter().all(|l| l.lost_to == chain.head().id));
        assert_eq!(JournalReader::open(&path).unwrap().surplus(surplus[0].number).unwrap(), surplus[1..]);

        // The same request may be made again, and what follows is of the new lineage.
        let again = Commit { position: chain.head().id.at(4), ..lost[0].clone() };
        store.commit(&[again]).unwrap();
    }
}

#[test]
fn committed_entries_above_the_cut_are_lost_too_and_one_can_tell() {
    let (_dir, path, mut store) = with_tail();
    let (chain, cut) = forced(&store, store.mark_at(1).unwrap().unwrap());
    store.adopt(&chain, Some(cut)).unwrap();
    assert_eq!((store.committed(), reopened(&path).0.rows), (1, vec![host(1, "a")]));
    assert_eq!(JournalReader::open(&path).unwrap().surplus(0).unwrap().len(), 4);
}

#[test]
fn a_journal_that_is_another_one_at_the_cut_is_left_as_it_is() {
    let (_dir, path, mut store) = with_tail();
    let mark = Mark { hash: [1; 32], ..store.mark_at(3).unwrap().unwrap() };
    let (chain, cut) = forced(&store, mark);
    let before = (reopened(&path), store.standing().unwrap());
    assert!(matches!(problem(store.adopt(&chain, Some(cut))), Problem::Apart { revision: 3 }));
    assert_eq!((reopened(&path), store.standing().unwrap()), before);
    assert_eq!((store.head(), JournalReader::open(&path).unwrap().surplus(0).unwrap()), (before.0.1, vec![]));
}

#[test]
fn grants_that_build_on_more_than_there_is_take_nothing_away() {
    let (_dir, path, mut store) = with_tail();
    let mark = Mark { position: at(9), hash: [1; 32] };
    let (chain, cut) = forced(&store, mark);
    store.adopt(&chain, Some(cut)).unwrap();
    assert_eq!((store.head().position, store.grants()), (at(5), &chain));
    store.append(&entries(store.head(), &[commit(6, vec![])]), 0).unwrap();
    assert_eq!(reopened(&path).1.position, at(6));
}

#[test]
fn promises_and_what_was_lost_outlast_a_restart() {
    let (_dir, path, mut store) = fresh();
    store.set_seals(&promises()).unwrap();
    store.set_rolled_back(at(77)).unwrap();
    drop(store);
    let mut store = RegistryStore::open(&path).unwrap();
    let standing = store.standing().unwrap();
    assert_eq!((standing.seals, standing.rolled_back), (promises(), Some(at(77))));
    store.set_seals(&Seals::default()).unwrap();
    assert!(RegistryStore::open(&path).unwrap().standing().unwrap().seals.is_empty());
}

fn registry_package(on: u128) -> Row {
    Row::Package(Package {
        host: HostId(Uuid::from_u128(on)),
        ty: ManagerType::registry(),
        listens: Listens::At("10.0.0.1:29120".parse().unwrap()),
        priority: 1,
        weight: 1,
        withdrawn: None,
        role: Some(Role::Primary),
        version: None,
        check: Check::default(),
        host_side: None,
        fencing: None,
    })
}

#[test]
fn a_file_without_grants_is_carried_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let rows = [host(1, "a"), registry_package(1)];
    let mut store = RegistryStore::create(&path, &first_grant(), 0, &rows).unwrap();
    store.commit(&[commit(1, vec![]), commit(2, vec![add(host(2, "b"))])]).unwrap();
    let head = store.head();
    // What the build before this one had.
    store.database.tamper(
        "DROP TABLE standing; DROP TABLE surplus; ALTER TABLE meta DROP COLUMN committed; PRAGMA user_version = 1",
    );
    drop(store);
    for _ in 0..2 {
        let store = RegistryStore::open(&path).unwrap();
        assert_eq!((store.head(), store.committed()), (head, 2));
        let first = Grant::first(LINEAGE, HostId(Uuid::from_u128(1)), "a".parse().unwrap(), UnixMillis(1000));
        assert_eq!(store.grants().grants().collect::<Vec<_>>(), [&first]);
        assert_eq!(store.load(UnixMillis(0)).unwrap().tail, []);
    }
    let nobody = dir.path().join("nobody.db");
    let store = RegistryStore::create(&nobody, &first_grant(), 0, &[host(1, "a")]).unwrap();
    store.database.tamper("DELETE FROM standing");
    drop(store);
    assert!(matches!(problem(RegistryStore::open(&nobody)), Problem::Inconsistent(_)));
}

#[test]
fn a_copy_is_the_whole_file_and_becomes_a_new_managers_own() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path, mut store) = with_tail();
    store.set_seals(&promises()).unwrap();
    store.set_rolled_back(at(9)).unwrap();
    let copy = dir.path().join("copy.db");
    let reader = JournalReader::open(&path).unwrap();
    reader.copy_to(&copy).unwrap();
    assert!(matches!(problem(reader.copy_to(&copy)), Problem::Exists));
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    store.commit(&[commit(6, vec![])]).unwrap();

    let own = dir.path().join("own.db");
    let installed = RegistryStore::install(&copy, &own).unwrap();
    assert!(!copy.exists() && !beside(&own, ".new").exists());
    assert_eq!((installed.head().position, installed.committed()), (at(5), 3));
    assert_eq!(
        installed.standing().unwrap(),
        Standing { grants: first_grant(), seals: Seals::default(), rolled_back: None }
    );
    assert_eq!(installed.load(UnixMillis(0)).unwrap().rows.len(), 3);

    reader.copy_to(&copy).unwrap();
    assert!(matches!(problem(RegistryStore::install(&copy, &own)), Problem::Exists));
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2048].fill(0xa5);
    std::fs::write(&copy, bytes).unwrap();
    let other = dir.path().join("other.db");
    assert!(RegistryStore::install(&copy, &other).err().unwrap().is_damage());
    assert!(!other.exists() && copy.exists());
}

#[test]
fn a_journal_that_is_another_one_becomes_a_copy_and_keeps_what_only_it_had() {
    let (dir, path, mut store) = with_tail();
    let reader = JournalReader::open(&path).unwrap();
    let theirs = dir.path().join("theirs.db");
    reader.copy_to(&theirs).unwrap();
    // Two went on differently from revision 4 on.
    let mut other = RegistryStore::open(&theirs).unwrap();
    let (chain, cut) = forced(&other, other.mark_at(3).unwrap().unwrap());
    other.adopt(&chain, Some(cut)).unwrap();
    let theirs_at = |n| Commit { position: chain.head().id.at(n), ..commit(n, vec![]) };
    other.commit(&(4..=9).map(theirs_at).collect::<Vec<_>>()).unwrap();
    let copy = dir.path().join("copy.db");
    JournalReader::open(&theirs).unwrap().copy_to(&copy).unwrap();

    store.set_seals(&promises()).unwrap();
    let lost: Vec<_> = [4, 5].map(|n| store.commit_at(n).unwrap().unwrap()).into();
    store.replace_by(&copy).unwrap();
    assert_eq!((store.head(), store.committed(), store.grants()), (other.head(), 9, other.grants()));
    assert_eq!(store.load(UnixMillis(0)).unwrap(), other.load(UnixMillis(0)).unwrap());
    assert_eq!(store.standing().unwrap().seals, promises());
    // Whoever read beside it sees the new state.
    let surplus = reader.surplus(0).unwrap();
    assert_eq!(surplus.iter().map(|l| l.commit.clone()).collect::<Vec<_>>(), lost);
    assert_eq!(reader.forwards(9, 9).unwrap(), [theirs_at(9)]);
    assert_eq!(reopened(&path).1, other.head());
    store.commit(&[theirs_at(10)]).unwrap();

    // One that knows less than this manager does now is refused.
    let (newer, _) = forced(&store, store.head());
    let older = dir.path().join("older.db");
    reader.copy_to(&older).unwrap();
    store.adopt(&newer, None).unwrap();
    assert!(matches!(problem(store.replace_by(&older)), Problem::OlderGrants));
    assert_eq!((reopened(&path).1, store.grants()), (store.head(), &newer));

    let foreign = RegistryStore::create(&dir.path().join("foreign.db"), &first_grant(), 1, &[]).unwrap();
    drop(foreign);
    assert!(matches!(problem(store.replace_by(&dir.path().join("foreign.db"))), Problem::OtherRegistry));
    assert_eq!(reopened(&path).1, store.head());
}

/// What happens to a journal.
#[derive(Clone, Debug)]
enum Step {
    /// So many entries come, of which this share in 8 is then committed.
    Append(u8, u64),
    /// All but this share in 8 of what is there is made void.
    Adopt(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..6_u8, 0..=8_u64).prop_map(|(count, share)| Step::Append(count, share)),
        2 => (0..=8_u64).prop_map(Step::Adopt),
        1 => Just(Step::Reopen),
    ]
}

/// The rows after these commits, on top of host 1.
fn replay(journal: &[Commit]) -> Vec<Row> {
    let mut rows = BTreeMap::from([(host(1, "a").key(), host(1, "a"))]);
    for change in journal.iter().flat_map(|commit| &commit.rows) {
        match &change.after {
            Some(row) => rows.insert(change.key.clone(), row.clone()),
            None => rows.remove(&change.key),
        };
    }
    rows.into_values().collect()
}

/// Sets, changes or removes one of four hosts.
fn turn_over(rows: &[Row], seed: u64) -> RowChange {
    let id = 1 + u128::from(seed % 4);
    let key = RowKey::Host(HostId(Uuid::from_u128(id)));
    let before = rows.iter().find(|row| row.key() == key).cloned();
    let after = (before.is_none() || !seed.is_multiple_of(3)).then(|| host(id, &format!("n{seed}")));
    change(before, after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_file_is_what_vectors_would_be(steps in prop::collection::vec(step(), 1..12)) {
        let (_dir, path, mut store) = fresh();
        let (mut journal, mut lost, mut committed): (Vec<Commit>, Vec<Commit>, u64) = (vec![], vec![], 1);
        let mut made = 0;
        for step in steps {
            let head = 1 + journal.len() as u64;
            match step {
                Step::Append(count, share) => {
                    let from = journal.len();
                    for _ in 0..count {
                        made += 1;
                        let revision = 2 + journal.len() as u64;
                        let rows = vec![turn_over(&replay(&journal), made * 7919 % 101)];
                        let position = store.grants().head().id.at(revision);
                        let request = RequestId(Uuid::from_u128(made.into()));
                        journal.push(Commit { position, request, ..commit(revision, rows) });
                    }
                    let head = 1 + journal.len() as u64;
                    committed = committed.max(head * share / 8);
                    store.append(&entries(store.head(), &journal[from..]), committed).unwrap();
                }
                Step::Adopt(share) => {
                    // A grant builds on nothing older than the one before it did.
                    let least = store.grants().head().parent.map_or(1, |p| p.mark.revision());
                    let cut = least.max(head * share / 8);
                    let (chain, parent) = forced(&store, store.mark_at(cut).unwrap().unwrap());
                    store.adopt(&chain, Some(parent)).unwrap();
                    lost.extend(journal.split_off(cut as usize - 1));
                    committed = committed.min(cut);
                }
                Step::Reopen => {
                    drop(store);
                    store = RegistryStore::open(&path).unwrap();
                }
            }
            let loaded = store.load(UnixMillis(0)).unwrap();
            let split = committed as usize - 1;
            prop_assert_eq!((store.committed(), loaded.position.revision), (committed, committed));
            prop_assert_eq!(loaded.rows, replay(&journal[..split]));
            prop_assert_eq!(loaded.tail.into_iter().map(|e| e.commit).collect::<Vec<_>>(), &journal[split..]);
            let first = store.mark_at(1).unwrap().unwrap();
            let mut before = first;
            let all = store.entries_after(&first).unwrap().unwrap();
            prop_assert_eq!(all.len(), journal.len());
            for (sent, commit) in all.into_iter().zip(&journal) {
                let entry = Entry::read(&before, sent.bytes).unwrap();
                prop_assert_eq!((entry.mark, &entry.commit), (sent.mark, commit));
                before = entry.mark;
            }
            prop_assert_eq!(before, store.head());
            let surplus = JournalReader::open(&path).unwrap().surplus(0).unwrap();
            prop_assert_eq!(surplus.into_iter().map(|l| l.commit).collect::<Vec<_>>(), lost.clone());
        }
    }
}
