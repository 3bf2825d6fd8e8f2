use super::*;
use crate::database::beside;
use crate::set_aside;
use echelon_core::digest::Digest;
use echelon_core::grant::Parent;
use echelon_core::id::{HostId, Lineage};
use echelon_core::position::Position;
use echelon_core::signed_mark::SignedMark;
use echelon_core::view::ViewKey;
use echelon_wire::strategies;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;
use uuid::Uuid;

fn fresh() -> (TempDir, PathBuf, ReplicaStore) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica.db");
    let store = ReplicaStore::open(&path).unwrap();
    (dir, path, store)
}

fn digest<'a>(rows: impl IntoIterator<Item = &'a ViewRow>) -> Digest {
    let mut digest = Digest::default();
    rows.into_iter().for_each(|row| digest.add(row.digest()));
    digest
}

/// The mark of these rows at this revision.
fn mark<'a>(revision: u64, rows: impl IntoIterator<Item = &'a ViewRow>) -> ViewMark {
    let position = Position { lineage: Lineage(Uuid::from_u128(1)), epoch: 1, revision };
    ViewMark { position, view_revision: revision, digest: digest(rows) }
}

fn reopened(path: &Path) -> LoadedReplica {
    ReplicaStore::open(path).unwrap().load().unwrap().expect("there is a replica")
}

/// Any value of a strategy, the same ones at every run.
fn some<T: std::fmt::Debug>(count: usize, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    let all = prop::collection::vec(strategy, count).new_tree(&mut runner).unwrap();
    all.current()
}

/// Rows with different keys.
fn some_rows(count: usize) -> Vec<ViewRow> {
    let mut rows = some(count * 2, strategies::view_row());
    rows.sort_by_cached_key(ViewRow::key);
    rows.dedup_by_key(|row| row.key());
    rows.truncate(count);
    assert_eq!(rows.len(), count);
    rows
}

#[test]
fn an_empty_replica_says_so() {
    let (_dir, path, store) = fresh();
    assert_eq!((store.mark(), store.load().unwrap()), (None, None));
    drop(store);
    assert_eq!(ReplicaStore::open(&path).unwrap().load().unwrap(), None);
}

#[test]
fn snapshot_delta_mark_and_place_are_there_when_the_file_is_opened_again() {
    let (_dir, path, mut store) = fresh();
    let rows = some_rows(20);
    let place = some(1, strategies::place()).remove(0);
    store.replace(&mark(5, &rows), &rows).unwrap();
    assert_eq!(reopened(&path), LoadedReplica { mark: mark(5, &rows), rows: rows.clone(), place: None });

    store.set_place(&place).unwrap();
    let gone = ViewChange { key: rows[0].key(), row: None };
    let back = ViewChange { key: rows[1].key(), row: Some(rows[1].clone()) };
    store.apply(&mark(6, &rows[1..]), &[gone, back]).unwrap();
    store.advance(&mark(9, &rows[1..])).unwrap();
    let expected = LoadedReplica { mark: mark(9, &rows[1..]), rows: rows[1..].to_vec(), place: Some(place) };
    assert_eq!(reopened(&path), expected);
    assert_eq!(store.load().unwrap(), Some(expected.clone()));

    store.replace(&mark(10, &rows[..3]), &rows[..3]).unwrap();
    drop(store);
    assert_eq!(
        reopened(&path),
        LoadedReplica { mark: mark(10, &rows[..3]), rows: rows[..3].to_vec(), ..expected }
    );
}

#[test]
fn incarnations_rise_even_where_the_file_was_lost() {
    let (_dir, path, mut store) = fresh();
    assert_eq!(store.next_incarnation(0).unwrap(), 1);
    assert_eq!(store.next_incarnation(1_000).unwrap(), 1_000);
    assert_eq!(store.next_incarnation(7).unwrap(), 1_001);
    drop(store);
    assert_eq!(ReplicaStore::open(&path).unwrap().next_incarnation(7).unwrap(), 1_002);
    set_aside(&path).unwrap();
    assert_eq!(ReplicaStore::open(&path).unwrap().next_incarnation(2_000).unwrap(), 2_000);
    let error = ReplicaStore::open(&path).unwrap().next_incarnation(u64::MAX).unwrap_err();
    assert!(matches!(error.problem, Problem::TooLarge { .. }), "{error}");
}

#[test]
fn only_a_new_writer_and_an_incarnation_wait_for_the_disk() {
    let (_dir, _path, mut store) = fresh();
    let sync = |store: &mut ReplicaStore, mark: &ViewMark| {
        let mut seen = 0;
        let look = |t: &Transaction<'_>| {
            seen = t.query_row("PRAGMA synchronous", [], |r| r.get(0))?;
            Ok(())
        };
        store.write_marked("look", mark, look).unwrap();
        seen
    };
    let (normal, full) = (1, 2);
    let first = mark(1, []);
    let next = |m: ViewMark| ViewMark { position: m.position.next(), ..m };
    let epoch = ViewMark { position: Position { epoch: 2, ..first.position }, ..first };
    let lineage =
        ViewMark { position: Position { lineage: Lineage(Uuid::nil()), ..first.position }, ..first };
    let seen = [first, next(first), epoch, next(epoch), lineage, next(lineage)].map(|m| sync(&mut store, &m));
    assert_eq!(seen, [full, normal, full, normal, full, normal]);
    let seen: Result<i32, _> = store
        .write_synced("look", true, |t| Ok(t.query_row("PRAGMA synchronous", [], |r| r.get::<_, i32>(0))?));
    assert_eq!(seen.unwrap(), full);
}

#[test]
fn on_a_full_disk_the_old_replica_stays() {
    let (_dir, path, mut store) = fresh();
    let rows = some_rows(400);
    store.replace(&mark(1, &rows[..2]), &rows[..2]).unwrap();
    store.database.leave_pages(2);
    let error = store.replace(&mark(2, &rows), &rows).unwrap_err();
    assert!(matches!(error.problem, Problem::DiskFull(_)) && !error.is_damage(), "{error}");
    assert_eq!(store.mark(), Some(mark(1, &rows[..2])));
    assert_eq!(store.load().unwrap(), Some(reopened(&path)));
    assert_eq!(reopened(&path).rows, rows[..2]);
    store.database.leave_pages(10_000);
    store.replace(&mark(2, &rows), &rows).unwrap();
    assert_eq!(reopened(&path).rows, rows);
}

type Damage = fn(&Path);

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_takes_its_place() {
    let rows = some_rows(400);
    let ways: [(&str, Damage); 5] = [
        ("a free list that is not there, which reading the rows would not notice", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            // The number of free pages (sqlite.org/fileformat.html, section 1.3).
            bytes[36..40].copy_from_slice(&7_u32.to_be_bytes());
            std::fs::write(path, bytes).unwrap();
        }),
        ("garbage", |path| std::fs::write(path, [7; 10_000]).unwrap()),
        ("cut", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("zeros in the middle", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..].fill(0);
            std::fs::write(path, bytes).unwrap();
        }),
        ("a row of nonsense", |path| {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch("INSERT INTO row VALUES (x'01', x'ff')").unwrap();
        }),
    ];
    for (what, damage) in ways {
        let (dir, path, mut store) = fresh();
        store.replace(&mark(1, &rows), &rows).unwrap();
        drop(store);
        damage(&path);
        let error = ReplicaStore::open(&path).and_then(|store| store.load()).expect_err(what);
        assert!(error.is_damage(), "{what}: {error}: {:?}", error.problem);
        let aside = set_aside(&path).unwrap();
        assert_eq!(aside, dir.path().join("replica.db.corrupt-1"));
        assert_eq!(ReplicaStore::open(&path).unwrap().load().unwrap(), None, "{what}");
    }
}

#[test]
fn a_file_of_a_later_build_is_left_untouched() {
    let (_dir, path, store) = fresh();
    store.database.tamper("PRAGMA user_version = 5");
    drop(store);
    let before = std::fs::read(&path).unwrap();
    let error = ReplicaStore::open(&path).err().unwrap();
    assert!(
        matches!(error.problem, Problem::NewerSchema { found: 5, known: 4 }) && !error.is_damage(),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[derive(Clone, Debug)]
enum Step {
    Replace(Vec<ViewRow>),
    Apply(Vec<ViewChange>),
    Advance,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::collection::vec(strategies::view_row(), 0..20).prop_map(Step::Replace),
        4 => prop::collection::vec(strategies::view_change(), 0..8).prop_map(Step::Apply),
        1 => Just(Step::Advance),
    ]
}

/// What a step makes of the rows.
fn carry_out(model: &mut BTreeMap<ViewKey, ViewRow>, step: &Step) {
    match step {
        Step::Replace(rows) => *model = rows.iter().map(|row| (row.key(), row.clone())).collect(),
        Step::Apply(changes) => {
            for change in changes {
                match &change.row {
                    Some(row) => model.insert(change.key.clone(), row.clone()),
                    None => model.remove(&change.key),
                };
            }
        }
        Step::Advance => {}
    }
}

fn take(store: &mut ReplicaStore, step: &Step, mark: &ViewMark) {
    match step {
        Step::Replace(rows) => store.replace(mark, rows),
        Step::Apply(changes) => store.apply(mark, changes),
        Step::Advance => store.advance(mark),
    }
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Power loss at any moment: the log ends somewhere. What is read then is one of the states there were,
    /// rows and mark of the same one.
    #[test]
    fn rows_and_mark_agree_wherever_the_log_was_cut(
        steps in prop::collection::vec(step(), 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let (dir, path, mut store) = fresh();
        // The tables and an empty replica are on the disk before the crash.
        store.replace(&mark(0, []), &[]).unwrap();
        store.database.tamper("PRAGMA wal_checkpoint(TRUNCATE)");
        let mut model = BTreeMap::new();
        let mut states = vec![(mark(0, []), Vec::new())];
        for (step, revision) in steps.iter().zip(1..) {
            carry_out(&mut model, step);
            let mark = mark(revision, model.values());
            take(&mut store, step, &mark);
            states.push((mark, model.values().cloned().collect()));
        }
        prop_assert_eq!(store.load().unwrap().map(|l| (l.mark, l.rows)), states.last().cloned());

        let left = dir.path().join("left.db");
        let log = std::fs::read(beside(&path, "-wal")).unwrap();
        for cut in cuts {
            std::fs::copy(&path, &left).unwrap();
            std::fs::write(beside(&left, "-wal"), &log[..cut.index(log.len() + 1)]).unwrap();
            let loaded = reopened(&left);
            prop_assert!(states.contains(&(loaded.mark, loaded.rows)), "a state that never was: {:?}", loaded.mark);
        }
    }
}

fn grants(epochs: u64) -> Chain {
    use echelon_core::grant::{Basis, GrantId, Grantor, Proof, SyncRule};
    use echelon_core::time::UnixMillis;
    let (host, name) = (HostId(Uuid::from_u128(1)), || "a".parse().unwrap());
    let first = Grant::first(Lineage(Uuid::from_u128(1)), host, name(), UnixMillis(1));
    let mut chain = Chain::begin(first).unwrap();
    for epoch in 2..=epochs {
        let before = chain.head().id;
        let parent = Parent { grant: before, mark: Mark { position: before.at(epoch), hash: [7; 32] } };
        let grant = Grant {
            id: GrantId { lineage: Lineage(Uuid::from_u128(epoch.into())), epoch },
            holder: host,
            parent: Some(parent),
            basis: Basis::Force,
            sync: SyncRule::alone(),
            at: UnixMillis(epoch),
            grantor: Grantor::Console("anna".parse().unwrap()),
            reason: None,
            rejects: vec![],
            proof: Some(Proof { certificates: vec![vec![1]], signature: vec![2] }),
        };
        chain = chain.extended(grant).unwrap();
    }
    chain
}

/// Protects: what an agent is witness of outlives its process, before and after there is a view, and a file of a
/// build that kept none opens.
#[test]
fn grants_and_marks_that_were_shown_are_there_when_the_file_is_opened_again() {
    let (_dir, path, mut store) = fresh();
    assert_eq!((store.grants(), store.witnessed(), store.signed()), (None, None, None));
    store.set_grants(&grants(2)).unwrap();
    let reopen = || ReplicaStore::open(&path).unwrap();
    assert_eq!(reopen().grants(), Some(&grants(2)));
    assert_eq!(reopen().grants().unwrap().head().proof, grants(2).head().proof);
    let witnessed = Mark { position: mark(5, []).position, hash: [9; 32] };
    let proof = echelon_core::grant::Proof { certificates: vec![vec![1], vec![2]], signature: vec![3] };
    let signed = SignedMark { mark: witnessed, at: echelon_core::time::UnixMillis(7), proof };
    store.witness(Some(witnessed), Some(signed.clone()));
    assert_eq!(reopen().witnessed(), None, "it waits for the next mark");
    store.replace(&mark(5, []), &[]).unwrap();
    store.set_grants(&grants(3)).unwrap();
    let again = reopen();
    assert_eq!(
        (again.grants(), again.witnessed(), again.mark()),
        (Some(&grants(3)), Some(witnessed), Some(mark(5, [])))
    );
    assert_eq!(again.signed(), Some(&signed));
}

/// Protects: a chain grows by what is new in it, also where it goes on otherwise than it did.
#[test]
fn grants_are_kept_one_by_one_and_those_of_a_branch_that_is_given_up_go() {
    let (_dir, path, mut store) = fresh();
    let long = grants(300);
    let shorter = |count| Chain::new(long.grants().take(count).cloned().collect()).unwrap();
    let other = HostId(Uuid::from_u128(9));
    let branch = (250..300).fold(shorter(250), |chain, at| {
        let grant = long.grants().nth(at).unwrap().clone();
        let parent = grant.parent.map(|parent| Parent { grant: chain.head().id, ..parent });
        chain.extended(Grant { holder: other, parent, ..grant }).unwrap()
    });
    for chain in [shorter(7), shorter(299), branch, shorter(270), long.clone(), long.clone()] {
        store.set_grants(&chain).unwrap();
        assert_eq!(ReplicaStore::open(&path).unwrap().grants(), Some(&chain));
    }
    store.database.tamper("UPDATE granted SET value = x'ff' WHERE epoch = 5");
    store.set_grants(&grants(301)).unwrap();
    assert!(ReplicaStore::open(&path).is_err(), "what was there is written once more");
}

/// Protects: a file of a build that kept the chain as a whole.
#[test]
fn grants_in_one_piece_are_read_and_move_with_the_next_one() {
    let (_dir, path, mut store) = fresh();
    store.set_grants(&grants(40)).unwrap();
    store.database.tamper("DELETE FROM granted");
    let whole = grants(40).encode();
    let sql = "UPDATE replica SET grants = ?1";
    store.database.write("tamper", |t| Ok(t.execute(sql, params![&whole[..]])?)).unwrap();
    let mut store = ReplicaStore::open(&path).unwrap();
    assert_eq!(store.grants(), Some(&grants(40)));
    store.set_grants(&grants(41)).unwrap();
    store.database.tamper("UPDATE replica SET grants = NULL");
    assert_eq!(ReplicaStore::open(&path).unwrap().grants(), Some(&grants(41)));
}

/// Protects: whoever goes by a grant has it on disk.
#[test]
fn grants_that_cannot_be_written_are_not_kept() {
    let (_dir, _path, mut store) = fresh();
    store.database.leave_pages(0);
    let error = store.set_grants(&grants(1_000)).unwrap_err();
    assert!(error.to_string().contains("keep the grants"), "{error}");
    assert_eq!(store.grants(), None, "what is not on disk is not kept");
}
