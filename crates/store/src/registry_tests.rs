use super::meta::CHECKED_ENTRIES;
use super::*;
use echelon_core::grant::{Basis, Grant, GrantId, Parent};
use echelon_core::id::{DomainId, HostId, Lineage};
use echelon_core::row::{Actor, Host, RowChange, RowKey};
use echelon_wire::Wire;
use echelon_wire::strategies;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const LINEAGE: Lineage = Lineage(Uuid::from_u128(1));

/// The grants of a registry whose primary is on host 1.
pub(crate) fn first_grant() -> Chain {
    let first = Grant::first(LINEAGE, HostId(Uuid::from_u128(1)), "a".parse().unwrap(), UnixMillis(0));
    Chain::begin(first).unwrap()
}

impl RegistryStore {
    /// Appends commits that are committed by that.
    pub(crate) fn commit(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let entries = entries(self.head(), commits);
        self.append(&entries, entries.last().map_or(0, Entry::revision))
    }

    fn journal(&self) -> Vec<Commit> {
        let meta = self.database.read("", Meta::load).unwrap();
        let begin = journal::mark(self.database.connection(), meta.genesis_revision, &self.grants).unwrap();
        let tail = journal::tail(self.database.connection(), &begin.unwrap()).unwrap();
        tail.into_iter().map(|entry| entry.commit).collect()
    }
}

/// Commits as the entries that follow on this one.
pub(crate) fn entries(head: Mark, commits: &[Commit]) -> Vec<Entry> {
    let mut before = head;
    let entry = |commit: &Commit| {
        let entry = Entry::new(&before, commit.clone());
        before = entry.mark;
        entry
    };
    commits.iter().map(entry).collect()
}

pub(crate) fn at(revision: u64) -> Position {
    Position { lineage: LINEAGE, epoch: 1, revision }
}

pub(crate) fn host(id: u128, name: &str) -> Row {
    let name = name.parse().unwrap();
    Row::Host(Host {
        id: HostId(Uuid::from_u128(id)),
        name,
        domain: DomainId::ROOT,
        address: None,
        drained: None,
    })
}

pub(crate) fn commit(revision: u64, rows: Vec<RowChange>) -> Commit {
    Commit {
        position: at(revision),
        at: UnixMillis(revision * 1000),
        actor: Actor::Console("alice".parse().unwrap()),
        from: Some("10.0.0.9:50123".parse().unwrap()),
        request: RequestId(Uuid::from_u128(revision.into())),
        content: [revision as u8; 32],
        rows,
        served: 0,
        shrinks: false,
        alone: false,
    }
}

#[test]
fn how_many_managers_served_is_read_back_for_the_last_minutes() {
    let (_dir, _, mut store) = fresh();
    let commits = (2..=4).map(|n| Commit { served: n * 10, ..commit(n, vec![]) });
    store.commit(&commits.collect::<Vec<_>>()).unwrap();
    assert_eq!(store.served(UnixMillis(3000)).unwrap(), [(UnixMillis(3000), 30), (UnixMillis(4000), 40)]);
    assert_eq!(store.served(UnixMillis(u64::MAX)).unwrap(), []);
}

/// The grants of a store after its primary handed over to itself, at what is its head.
fn handed_over(store: &RegistryStore) -> Chain {
    let before = store.grants().head();
    let id = GrantId { epoch: before.id.epoch + 1, ..before.id };
    let parent = Some(Parent { grant: before.id, mark: store.head() });
    store.grants().extended(Grant { id, parent, basis: Basis::Handover, ..before.clone() }).unwrap()
}

pub(crate) fn change(before: Option<Row>, after: Option<Row>) -> RowChange {
    let key = before.as_ref().or(after.as_ref()).unwrap().key();
    RowChange { key, before, after }
}

pub(crate) fn add(row: Row) -> RowChange {
    change(None, Some(row))
}

/// A registry with host 1, named `a`, at revision 1.
pub(crate) fn fresh() -> (TempDir, PathBuf, RegistryStore) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let store = RegistryStore::create(&path, &first_grant(), 1, &[host(1, "a")]).unwrap();
    (dir, path, store)
}

/// What `path` holds, as whoever opens it next sees it.
pub(crate) fn reopened(path: &Path) -> (Loaded, Mark) {
    let store = RegistryStore::open(path).unwrap();
    (store.load(UnixMillis(0)).unwrap(), store.head())
}

pub(crate) fn problem(result: Result<impl Sized, StoreError>) -> Problem {
    let error = result.err().expect("it is refused");
    assert!(error.to_string().contains(".db"), "{error} does not name the file");
    error.problem
}

#[test]
fn what_was_committed_is_there_when_the_file_is_opened_again() {
    let (_dir, path, mut store) = fresh();
    let rename = commit(2, vec![change(Some(host(1, "a")), Some(host(1, "b"))), add(host(2, "c"))]);
    let remove = commit(3, vec![change(Some(host(2, "c")), None)]);
    store.commit(&[rename.clone(), remove.clone()]).unwrap();
    let head = store.head();
    drop(store);

    let store = RegistryStore::open(&path).unwrap();
    assert_eq!((store.head(), store.head().position), (head, at(3)));
    let loaded = store.load(UnixMillis(3000)).unwrap();
    assert_eq!((loaded.position, loaded.rows), (at(3), vec![host(1, "b")]));
    let remembered = Remembered { request: remove.request, content: remove.content, position: at(3) };
    assert_eq!(loaded.requests, [remembered]);
    assert_eq!(store.load(UnixMillis(0)).unwrap().requests.len(), 2);
    assert_eq!(store.commit_at(2).unwrap().as_ref(), Some(&rename));
    assert_eq!([store.commit_at(1).unwrap(), store.commit_at(4).unwrap()], [None, None]);
    assert_eq!(store.journal(), [rename, remove]);
}

#[test]
fn only_entries_follow_that_the_grants_allow() {
    let (_dir, _path, mut store) = fresh();
    let under = |revision, epoch| {
        let mut commit = commit(revision, vec![]);
        commit.position.epoch = epoch;
        commit
    };
    assert!(matches!(problem(store.commit(&[under(2, 2)])), Problem::OutOfOrder { .. }), "not granted yet");
    store.commit(&[under(2, 1)]).unwrap();
    let chain = handed_over(&store);
    store.adopt(&chain, None).unwrap();
    assert!(matches!(problem(store.commit(&[under(3, 1)])), Problem::OutOfOrder { .. }), "granted away");
    store.commit(&[under(3, 2)]).unwrap();
    let other = Position { lineage: Lineage(Uuid::nil()), ..under(4, 2).position };
    let other = Commit { position: other, ..under(4, 2) };
    assert!(matches!(problem(store.commit(&[other])), Problem::OutOfOrder { .. }), "another lineage");
    let mut forged = entries(store.head(), &[under(4, 2)]);
    forged[0].mark.hash = [9; 32];
    assert!(matches!(problem(store.append(&forged, 0)), Problem::OutOfOrder { .. }), "another hash");
    assert_eq!(store.head().position, under(3, 2).position);
}

#[test]
fn a_group_is_committed_whole_or_not_at_all() {
    let (_dir, path, mut store) = fresh();
    let good = || commit(2, vec![add(host(2, "b"))]);
    let same_request = Commit { request: good().request, ..commit(3, vec![]) };
    let no_such_row = commit(3, vec![change(Some(host(9, "x")), Some(host(9, "y")))]);
    let no_such_row_to_remove = commit(3, vec![change(Some(host(9, "x")), None)]);
    let row_is_there = commit(3, vec![add(host(1, "a"))]);
    let before = (store.load(UnixMillis(0)).unwrap(), store.head());

    let bad = [
        same_request,
        no_such_row,
        no_such_row_to_remove,
        row_is_there,
        commit(4, vec![]),
        commit(2, vec![]),
    ];
    for (n, second) in bad.into_iter().enumerate() {
        let problem = problem(store.commit(&[good(), second]));
        match n {
            0 => assert!(matches!(problem, Problem::Sqlite(_)), "{problem:?}"),
            1..=3 => assert!(matches!(problem, Problem::Diverged { .. }), "{problem:?}"),
            _ => assert!(matches!(problem, Problem::OutOfOrder { .. }), "{problem:?}"),
        }
        assert_eq!((store.load(UnixMillis(0)).unwrap(), store.head()), before);
        assert_eq!(store.journal(), []);
    }
    store.commit(&[good()]).unwrap();
    drop(store);
    assert_eq!(reopened(&path).0.rows, [host(1, "a"), host(2, "b")]);
}

#[test]
fn on_a_full_disk_nothing_is_half_written_and_the_error_says_so() {
    let (_dir, path, mut store) = fresh();
    let before = store.load(UnixMillis(0)).unwrap();
    store.database.leave_pages(20);
    let many = |revision, first: u128| {
        let rows = (first..first + 2_000).map(|n| add(host(n, &format!("host-{n}")))).collect();
        commit(revision, rows)
    };
    let small = commit(2, vec![add(host(2, "b"))]);
    let error = store.commit(&[small.clone(), many(3, 100)]).unwrap_err();
    assert!(matches!(error.problem, Problem::DiskFull(_)), "{error}");
    assert!(
        error.to_string().contains("the disk is full; nothing of this was written: free some space"),
        "{error}"
    );
    assert_eq!(store.load(UnixMillis(0)).unwrap(), before);

    // What fits is taken, and once there is space again, so is the rest.
    store.commit(&[small]).unwrap();
    store.database.leave_pages(10_000);
    store.commit(&[many(3, 100)]).unwrap();
    drop(store);
    let (loaded, _) = reopened(&path);
    assert_eq!((loaded.position, loaded.rows.len()), (at(3), 2_002));
}

#[test]
fn a_crash_after_a_commit_loses_nothing_of_it() {
    let (dir, path, mut store) = fresh();
    for revision in 2..6 {
        store.commit(&[commit(revision, vec![add(host(revision.into(), &format!("h{revision}")))])]).unwrap();
        // What a killed process leaves behind: the file, and its log beside it.
        let left = dir.path().join(format!("left-{revision}.db"));
        std::fs::copy(&path, &left).unwrap();
        std::fs::copy(beside(&path, "-wal"), beside(&left, "-wal")).unwrap();
        let (loaded, head) = reopened(&left);
        assert_eq!((loaded, head), (store.load(UnixMillis(0)).unwrap(), store.head()));
    }
}

#[test]
fn a_registry_is_made_once_whole_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path, store) = fresh();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(beside(&path, "-wal")).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
    assert!(matches!(problem(RegistryStore::create(&path, &first_grant(), 1, &[])), Problem::Exists));
    assert_eq!(reopened(&path).0.rows, [host(1, "a")]);

    let other = dir.path().join("other.db");
    assert!(matches!(problem(RegistryStore::open(&other)), Problem::Missing));
    assert!(!other.exists());
    // An init that was killed leaves this.
    std::fs::write(beside(&other, ".new"), "half a file").unwrap();
    std::fs::write(beside(&other, ".new-wal"), "half a log").unwrap();
    RegistryStore::create(&other, &first_grant(), 1, &[host(1, "a"), host(2, "b")]).unwrap();
    assert_eq!(reopened(&other).0.rows.len(), 2);
    let twice = [host(1, "a"), host(1, "b")];
    let third = dir.path().join("third.db");
    problem(RegistryStore::create(&third, &first_grant(), 1, &twice));
    assert!(!third.exists());
}

#[test]
fn a_file_of_a_later_build_or_another_program_is_left_untouched() {
    let (dir, path, mut store) = fresh();
    store.commit(&[commit(2, vec![])]).unwrap();
    store.database.tamper("PRAGMA user_version = 999");
    // As after a crash: part of it is only in the log.
    let newer = dir.path().join("newer.db");
    std::fs::copy(&path, &newer).unwrap();
    std::fs::copy(beside(&path, "-wal"), beside(&newer, "-wal")).unwrap();
    let bytes = || (std::fs::read(&newer).unwrap(), std::fs::read(beside(&newer, "-wal")).unwrap());
    let before = bytes();
    assert!(!before.1.is_empty());
    let error = RegistryStore::open(&newer).err().unwrap();
    assert!(matches!(error.problem, Problem::NewerSchema { found: 999, known: 3 }), "{error}");
    assert!(error.to_string().contains("run that build or a later one") && !error.is_damage(), "{error}");
    assert_eq!(bytes(), before);

    let foreign = dir.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let replica = dir.path().join("replica.db");
    drop(crate::ReplicaStore::open(&replica).unwrap());
    for path in [&foreign, &replica] {
        let before = std::fs::read(path).unwrap();
        assert!(matches!(problem(RegistryStore::open(path)), Problem::Foreign));
        assert_eq!(std::fs::read(path).unwrap(), before);
    }
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, [7; 10_000]).unwrap();
    assert!(matches!(problem(RegistryStore::open(&garbage)), Problem::NoDatabase(_)));
    assert_eq!(std::fs::read(&garbage).unwrap(), [7; 10_000]);
}

#[test]
fn a_rewritten_or_shortened_journal_is_noticed() {
    let other_entry = commit(3, vec![add(host(66, "mallory"))]).encode();
    let hex: String = other_entry.iter().map(|b| format!("{b:02x}")).collect();
    let tricks = [
        (format!("UPDATE journal SET entry = x'{hex}' WHERE revision = 3"), 3),
        ("DELETE FROM journal WHERE revision = 5".into(), 5),
        ("DELETE FROM journal WHERE revision = 3".into(), 4),
        ("DELETE FROM journal WHERE revision = 2".into(), 3),
        ("UPDATE journal SET chain = zeroblob(32) WHERE revision = 4".into(), 5),
        ("UPDATE meta SET genesis = zeroblob(32)".into(), 2),
        ("UPDATE meta SET chain = zeroblob(32)".into(), 5),
        ("UPDATE meta SET revision = 4".into(), 4),
    ];
    for (trick, broken) in tricks {
        let (_dir, path, mut store) = fresh();
        store.commit(&(2..6).map(|r| commit(r, vec![])).collect::<Vec<_>>()).unwrap();
        store.database.tamper(&trick);
        drop(store);
        let error = RegistryStore::open(&path).err().unwrap_or_else(|| panic!("{trick}: not noticed"));
        assert!(
            matches!(error.problem, Problem::Chain { revision } if revision == broken),
            "{trick}: {error}"
        );
        assert!(error.is_damage());
    }
}

#[test]
fn more_than_there_is_cannot_be_committed() {
    let (_dir, path, store) = fresh();
    store.database.tamper("UPDATE meta SET committed = 2");
    drop(store);
    assert!(matches!(problem(RegistryStore::open(&path)), Problem::Inconsistent(_)));
}

#[test]
fn a_long_journal_is_checked_in_part() {
    let (_dir, path, mut store) = fresh();
    let last = CHECKED_ENTRIES as u64 + 10;
    store.commit(&(2..=last).map(|r| commit(r, vec![])).collect::<Vec<_>>()).unwrap();
    store.database.tamper("UPDATE journal SET entry = zeroblob(3) WHERE revision = 3");
    drop(store);
    let store = RegistryStore::open(&path).unwrap();
    store.database.tamper(&format!("UPDATE journal SET entry = zeroblob(3) WHERE revision = {}", last - 500));
    drop(store);
    assert!(
        matches!(problem(RegistryStore::open(&path)), Problem::Chain { revision } if revision == last - 500)
    );
}

#[test]
fn a_row_that_cannot_be_read_is_damage_and_not_left_out() {
    let (_dir, path, store) = fresh();
    store.database.tamper("INSERT INTO row VALUES (x'01', x'ff')");
    drop(store);
    let error = RegistryStore::open(&path).unwrap().load(UnixMillis(0)).unwrap_err();
    assert!(matches!(error.problem, Problem::Undecodable { .. }) && error.is_damage(), "{error}");
}

#[test]
fn a_locked_file_is_named_as_such() {
    let (_dir, path, mut store) = fresh();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.database.tamper("PRAGMA busy_timeout = 1");
    assert!(matches!(problem(store.commit(&[commit(2, vec![])])), Problem::Locked(_)));
    other.execute_batch("ROLLBACK").unwrap();
    store.commit(&[commit(2, vec![])]).unwrap();
}

#[test]
fn numbers_too_large_for_the_file_are_refused() {
    let (_dir, _path, mut store) = fresh();
    let mut huge = commit(2, vec![]);
    huge.position.epoch = u64::MAX;
    let mut grants = Vec::from(first_grant());
    let parent = Parent { grant: grants[0].id, mark: store.head() };
    let id = GrantId { epoch: u64::MAX, ..grants[0].id };
    grants.push(Grant { id, parent: Some(parent), basis: Basis::Handover, ..grants[0].clone() });
    store.adopt(&Chain::new(grants).unwrap(), None).unwrap();
    assert!(matches!(problem(store.commit(&[huge])), Problem::TooLarge { what: "the epoch", .. }));
    let (_dir, _path, mut store) = fresh();
    let far = Commit { at: UnixMillis(u64::MAX), ..commit(2, vec![]) };
    store.commit(std::slice::from_ref(&far)).unwrap();
    assert_eq!(store.commit_at(2).unwrap(), Some(far));
}

/// What happens to a registry: rows are set and removed, and the file is opened again.
#[derive(Clone, Debug)]
enum Step {
    Set(Box<Row>),
    Remove(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    // Few hosts, so that they change more than once.
    let one_of_few = (0..4_u128, strategies::host())
        .prop_map(|(id, host)| Row::Host(Host { id: HostId(Uuid::from_u128(id)), ..host }));
    prop_oneof![
        4 => strategies::row().prop_map(|row| Step::Set(row.into())),
        4 => one_of_few.prop_map(|row| Step::Set(row.into())),
        3 => (0..6_u8).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_file_always_holds_what_the_commits_say(groups in prop::collection::vec(prop::collection::vec(step(), 1..8), 1..5)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.db");
        let mut store = RegistryStore::create(&path, &first_grant(), 0, &[]).unwrap();
        let mut model: BTreeMap<RowKey, Row> = BTreeMap::new();
        let mut journal = Vec::new();
        for group in groups {
            let mut commits = Vec::new();
            for step in group {
                let change = match step {
                    Step::Set(row) => RowChange { before: model.insert(row.key(), Row::clone(&row)), ..add(*row) },
                    Step::Remove(slot) => match model.keys().nth(slot.into()).cloned() {
                        Some(key) => change(model.remove(&key), None),
                        None => continue,
                    },
                    Step::Reopen => {
                        drop(store);
                        store = RegistryStore::open(&path).unwrap();
                        continue;
                    }
                };
                commits.push(commit((journal.len() + commits.len() + 1) as u64, vec![change]));
            }
            store.commit(&commits).unwrap();
            journal.extend(commits);
            let loaded = store.load(UnixMillis(0)).unwrap();
            prop_assert_eq!(loaded.position, at(journal.len() as u64));
            prop_assert_eq!(loaded.rows, model.values().cloned().collect::<Vec<_>>());
            prop_assert_eq!(store.journal(), journal.clone());
        }
    }
}
