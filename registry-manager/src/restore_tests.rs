#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::backup::{self, Subject};
use crate::clock::unix_now;
use crate::init::{self, Init};
use crate::recover::{Found, RecoverError};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::{Basis, Grant, Grantor, SyncRule};
use echelon_core::id::RequestId;
use echelon_core::row::{Actor, Domain, Row};
use echelon_identity::proof::prove_grant;
use echelon_store::{Entry, JournalReader, Loaded};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use uuid::Uuid;

/// State directories and backups.
struct Place(TempDir);

impl Place {
    /// With a registry in the directory `a`.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.init("a", "acme");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn init(&self, name: &str, framework: &str) {
        let state = self.directory(name);
        let listen = "127.0.0.1:29120".parse().unwrap();
        let (framework, host) = (framework.parse().unwrap(), "hub".parse().unwrap());
        init::init(&Init { state, framework, host, listen, advertise: listen.into() }).unwrap();
    }

    fn directory(&self, name: &str) -> PathBuf {
        file::create_private_directory(&self.path(name)).unwrap();
        self.path(name)
    }

    fn store(&self, name: &str) -> RegistryStore {
        RegistryStore::open(&Paths::of(&self.path(name)).registry()).unwrap()
    }

    /// Adds domains to the registry in `name`; the last `tail` of them are not known to be committed.
    fn add(&self, name: &str, domains: &[&str], tail: usize) {
        let mut store = self.store(name);
        let mut registry = registry_in(&store).unwrap();
        let (mut before, mut entries) = (store.head(), Vec::new());
        for domain in domains {
            let changes = vec![Change::AddDomain { path: domain.parse().unwrap() }];
            let request = RequestId(Uuid::now_v7());
            let set = ChangeSet { request, if_revision: None, allow_shrink: false, changes };
            let actor = Actor::Console("admin".parse().unwrap());
            let context = Context { now: unix_now(), actor, from: None, content: [0; 32] };
            let Edited::Done(next, commit) = registry.edit(&set, &context).unwrap() else {
                panic!("repeated")
            };
            registry = *next;
            let entry = Entry::new(&before, commit);
            before = entry.mark;
            entries.push(entry);
        }
        store.append(&entries, before.revision() - tail as u64).unwrap();
    }

    /// Backs `name` up, as a running manager does.
    fn back_up(&self, name: &str, passphrase: Option<&str>) -> PathBuf {
        let (paths, copy) = (Paths::of(&self.path(name)), self.path("copy"));
        let copied = JournalReader::open(&paths.registry()).unwrap().copy_to(&copy).unwrap();
        let registry = registry_in(&self.store(name)).unwrap();
        let position = copied.head.position;
        let subject = Subject {
            framework: registry.meta().framework.clone(),
            lineage: position.lineage,
            epoch: position.epoch,
            revision: position.revision,
            committed: copied.committed,
            host: "hub".parse().unwrap(),
            host_id: copied.grants.head().holder,
        };
        let passphrase = passphrase.map(|text| Passphrase::parse(text).unwrap());
        let file = fs::File::open(&copy).unwrap();
        let mut packed = backup::pack(file, subject, &paths, passphrase.as_ref()).unwrap();
        let backup = self.path(&format!("{name}-{}.tar", position.revision));
        let written = io::copy(&mut packed.reader, &mut fs::File::create(&backup).unwrap()).unwrap();
        assert_eq!(written, packed.size);
        fs::remove_file(copy).unwrap();
        backup
    }

    fn restore(&self, file: &Path, into: &str, passphrase: Option<&str>) -> Result<Done, RestoreError> {
        let state = self.directory(into);
        let passphrase = passphrase.map(|text| Passphrase::parse(text).unwrap());
        let reason = Some(Text::lossy("a test"));
        restore(&Restore { file: file.to_owned(), state, passphrase, reason })
    }

    fn has_domain(&self, name: &str, domain: &str) -> bool {
        let store = self.store(name);
        let Loaded { rows, tail, .. } = store.load(echelon_core::time::UnixMillis(0)).unwrap();
        let in_tail = tail.into_iter().flat_map(|entry| entry.commit.rows).filter_map(|change| change.after);
        let named = |row: Row| match row {
            Row::Domain(Domain { place: Some((_, name)), .. }) => name.as_str() == domain,
            _ => false,
        };
        rows.into_iter().chain(in_tail).any(named)
    }
}

const PASSPHRASE: &str = "correct horse";

/// On an empty directory all comes from the backup: the keys, and a registry under a grant that agents who know the
/// one before believe.
#[test]
fn a_backup_with_keys_makes_the_manager_anew() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let backup = place.back_up("a", Some(PASSPHRASE));
    let done = place.restore(&backup, "b", Some(PASSPHRASE)).unwrap();
    assert!(done.keys_taken && done.set_aside.is_none() && done.lost.is_none() && done.conflict.is_none());
    assert!(place.has_domain("b", "x"));
    let (before, after) = (place.store("a"), place.store("b"));
    assert!(matches!(before.grants().compare(after.grants()), Relation::Newer(_)));
    let (old, head) = (before.grants().head(), after.grants().head());
    assert_eq!((head.basis, head.holder, head.id.epoch), (Basis::Restore, old.holder, 2));
    assert_eq!(head.parent.unwrap().mark, before.head());
    assert_eq!(head.sync, SyncRule::alone());
    let trust = trust_in(&registry_in(&after).unwrap()).unwrap();
    check_chain(&trust, Some(before.grants()), after.grants()).unwrap();
    let (from, to) = (Paths::of(&place.path("a")), Paths::of(&place.path("b")));
    let same = [(from.issuer(), to.issuer()), (from.root(), to.root()), (from.settings(), to.settings())];
    let identities = [(from.identity(), to.identity()), (from.console(), to.console())];
    let identities = identities.map(|(a, b)| (a.join("identity.pem"), b.join("identity.pem")));
    for (from, to) in same.into_iter().chain(identities) {
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap(), "{}", to.display());
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600, "{}", to.display());
    }
    let console = IdentityDirectory::open(&to.console()).unwrap();
    assert_eq!(console.load_managers().unwrap().len(), 1);
}

/// Where a manager is, its keys stay, its registry is set aside, and what only that had is kept.
#[test]
fn a_registry_that_is_replaced_is_kept_and_so_are_its_edits() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let backup = place.back_up("a", None);
    place.add("a", &["/y", "/z"], 0);
    let had = place.store("a").head();
    let done = place.restore(&backup, "a", None).unwrap();
    assert_eq!((done.keys_taken, done.lost), (false, Some(had.position)));
    assert!(place.has_domain("a", "x") && !place.has_domain("a", "y"));
    let aside = done.set_aside.unwrap();
    assert_eq!(RegistryStore::open(&aside).unwrap().head(), had);
    let lost = JournalReader::open(&Paths::of(&place.path("a")).registry()).unwrap().surplus(0).unwrap();
    assert_eq!(lost.iter().map(|l| l.commit.position.revision).collect::<Vec<_>>(), [2, 3]);
    assert!(lost.iter().all(|l| l.lost_to == done.grant));
    // Once more: each registry that was replaced has a name of its own.
    let again = place.restore(&backup, "a", None).unwrap();
    assert_ne!(again.set_aside.unwrap(), aside);
    assert_eq!(place.store("a").grants().head().id.epoch, 3, "above all that this directory has known");
}

/// Protects: whatever interrupts a restore, the registry that was there is found again by the next try, which goes by what
/// it knows.
#[test]
fn until_the_new_registry_is_in_place_the_old_one_stays_where_it_is() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let paths = Paths::of(&place.path("a"));
    assert!(!paths.restoring().exists());
    let error = put_in_place(&paths).unwrap_err();
    assert!(matches!(error, RestoreError::Io { action: "put in place", .. }), "{error}");
    assert!(place.has_domain("a", "x"));
}

/// Protects: whoever starts a manager that had left, and over which a restore was broken off, is told to repeat that: a
/// join would move the restored registry aside.
#[test]
fn a_restore_over_a_manager_that_had_left_is_to_be_repeated_until_it_is_done() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let (backup, paths) = (place.back_up("a", None), Paths::of(&place.path("a")));
    left::mark(&paths, "it was asked to").unwrap();
    // The log of a damaged registry is in the way of nothing but this directory.
    fs::write(paths.registry(), b"no database".repeat(1_000)).unwrap();
    fs::write(beside(&paths.registry(), "-wal"), "its log").unwrap();
    let in_the_way = beside(&paths.registry(), ".replaced-1-wal");
    fs::create_dir_all(in_the_way.join("full")).unwrap();
    place.restore(&backup, "a", None).unwrap_err();
    let why = left::mark_of(&paths).unwrap().unwrap();
    assert!(why.contains("repeat registry-manager restore"), "{why}");
    fs::remove_dir_all(in_the_way).unwrap();
    place.restore(&backup, "a", None).unwrap();
    assert_eq!(left::mark_of(&paths).unwrap(), None);
}

/// Who asked for an entry of the tail may have been told that it is committed.
#[test]
fn entries_that_were_not_known_to_be_committed_count() {
    let place = Place::new();
    place.add("a", &["/x", "/y", "/z"], 2);
    let backup = place.back_up("a", None);
    let held = check(&backup, &place.directory("scratch"), None).unwrap();
    assert_eq!((held.position.revision, held.uncommitted), (3, 2));
    let done = place.restore(&backup, "a", None).unwrap();
    assert_eq!(done.lost, None);
    let restored = place.store("a");
    assert_eq!(restored.grants().head().parent.unwrap().mark.revision(), 3);
    assert!(place.has_domain("a", "z"));
}

#[test]
fn what_is_damaged_or_not_whole_is_refused_and_nothing_is_changed() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let whole = fs::read(place.back_up("a", Some(PASSPHRASE))).unwrap();
    let before = fs::read(Paths::of(&place.path("a")).registry()).unwrap();
    let refused = |bytes: &[u8]| {
        let path = place.path("damaged.tar");
        fs::write(&path, bytes).unwrap();
        let error = place.restore(&path, "a", None).unwrap_err();
        assert_eq!(fs::read(Paths::of(&place.path("a")).registry()).unwrap(), before);
        crate::failure::in_full(&error)
    };
    for cut in [0, 100, 700, whole.len() / 2, whole.len() - 2_000] {
        let why = refused(&whole[..cut]);
        assert!(why.contains("cut short"), "{cut}: {why}");
    }
    let database = whole.len() - 8_192;
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    assert!(refused(&flipped(database)).contains("not those that were backed up"));
    assert!(refused(&flipped(3)).contains("is no backup"));
    assert!(refused(b"no archive at all, but long enough to be one").contains("cut short"));
    assert!(refused(&[b'x'; 4_096]).contains("is no backup"));
}

/// A manifest that says what its registry is not, and one of a later build.
#[test]
fn a_manifest_that_is_not_true_is_refused() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let whole = fs::read(place.back_up("a", None)).unwrap();
    let refused = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        let path = place.path("tampered.tar");
        fs::write(&path, bytes).unwrap();
        crate::failure::in_full(&place.restore(&path, "a", None).unwrap_err())
    };
    assert!(refused("\"revision\": 1", "\"revision\": 9").contains("tampered with"));
    assert!(refused("\"committed\": 1", "\"committed\": 0").contains("tampered with"));
    assert!(refused("\"framework\": \"acme\"", "\"framework\": \"acne\"").contains("tampered with"));
    assert!(refused("\"format\": 1", "\"format\": 2").contains("a later build"));
}

#[test]
fn keys_are_needed_where_there_are_none() {
    let place = Place::new();
    let sealed = place.path("sealed.tar");
    fs::rename(place.back_up("a", Some(PASSPHRASE)), &sealed).unwrap();
    let open = place.back_up("a", None);
    assert!(matches!(place.restore(&open, "b", Some(PASSPHRASE)), Err(RestoreError::NoKeys(_))));
    assert!(matches!(place.restore(&sealed, "b", None), Err(RestoreError::NoPassphrase(_))));
    let wrong = place.restore(&sealed, "b", Some("another horse")).unwrap_err();
    assert!(matches!(wrong, RestoreError::Keys(_)), "{wrong}");
    assert!(
        check(&sealed, &place.directory("scratch"), Some(&Passphrase::parse("another horse").unwrap()))
            .is_err()
    );
    assert!(!Paths::of(&place.path("b")).registry().exists());
    assert_eq!(
        fs::read_dir(place.path("b")).unwrap().count(),
        0,
        "what is as large as the registry is left behind"
    );
    // What was tried and refused is in nobody's way.
    place.restore(&sealed, "b", Some(PASSPHRASE)).unwrap();
}

#[test]
fn another_framework_and_another_registry_are_refused() {
    let place = Place::new();
    let backup = place.back_up("a", None);
    place.init("other", "other");
    place.init("twin", "acme");
    assert!(matches!(place.restore(&backup, "other", None), Err(RestoreError::OtherFramework { .. })));
    let twin = place.restore(&backup, "twin", None).unwrap_err();
    assert!(matches!(twin, RestoreError::Lineage(LineageError::Unknown(_))), "{twin}");
}

/// Another primary since, of which this directory knows: the restored registry comes after that one, also where the
/// backup is older than what it builds on, so that whoever goes by it follows.
#[test]
fn a_backup_from_before_a_known_grant_comes_after_it() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let older = place.back_up("a", None);
    place.add("a", &["/y"], 0);
    let newer = place.back_up("a", None);
    let mut store = place.store("a");
    let paths = Paths::of(&place.path("a"));
    let me = Me::load(&paths).unwrap();
    let head = store.grants().head().clone();
    let grant = Grant {
        id: GrantId { lineage: head.id.lineage, epoch: 2 },
        holder: me.host,
        parent: Some(echelon_core::grant::Parent { grant: head.id, mark: store.head() }),
        basis: Basis::Handover,
        sync: SyncRule::alone(),
        at: unix_now(),
        grantor: Grantor::Manager("hub".parse().unwrap()),
        reason: None,
        rejects: Vec::new(),
        proof: None,
    };
    let chain = store.grants().extended(prove_grant(&me.credentials, &grant).unwrap()).unwrap();
    store.adopt(&chain, None).unwrap();
    drop(store);
    let done = place.restore(&newer, "a", None).unwrap();
    assert_eq!((done.conflict, done.grant.epoch), (None, 3));
    assert!(matches!(chain.compare(place.store("a").grants()), Relation::Newer(_)));
    let done = place.restore(&older, "a", None).unwrap();
    assert_eq!((done.conflict, done.grant.epoch), (None, 4));
    assert!(matches!(chain.compare(place.store("a").grants()), Relation::Newer(_)));
}

/// A registry that cannot be opened any more is what a backup is for.
#[test]
fn a_damaged_registry_is_set_aside_as_it_is() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let backup = place.back_up("a", None);
    let path = Paths::of(&place.path("a")).registry();
    let rubbish = b"no database".repeat(1_000);
    fs::write(&path, &rubbish).unwrap();
    let done = place.restore(&backup, "a", None).unwrap();
    assert_eq!(fs::read(done.set_aside.unwrap()).unwrap(), rubbish);
    assert!(place.has_domain("a", "x"));
}

#[test]
fn a_directory_that_was_rolled_back_is_gone_on_with() {
    let place = Place::new();
    place.add("a", &["/x"], 0);
    let mut store = place.store("a");
    let (was, grants) = (store.head(), store.grants().clone());
    store.set_rolled_back(grants.head().id.at(9)).unwrap();
    store.close().unwrap();
    let found = Found::open(&place.path("a")).unwrap();
    assert_eq!(found.rolled_back().unwrap().revision, 9);
    let recovered = found.recover(Text::lossy("a test"), false).unwrap();
    let store = place.store("a");
    assert_eq!((store.head(), recovered.position), (was, was.position));
    assert_eq!(store.grants().head().id, recovered.grant);
    assert!(matches!(grants.compare(store.grants()), Relation::Newer(_)));
    assert_eq!(store.standing().unwrap().rolled_back, None);
}

#[test]
fn past_the_most_grants_of_a_chain_it_is_said_what_to_do() {
    use echelon_core::grant::MAX_GRANTS;
    let place = Place::new();
    let mut store = place.store("a");
    let (mark, first) = (store.head(), store.grants().head().clone());
    let mut grants = vec![first.clone()];
    for epoch in 2..=MAX_GRANTS as u64 {
        let before = GrantId { epoch: epoch - 1, ..first.id };
        let parent = Some(echelon_core::grant::Parent { grant: before, mark });
        let id = GrantId { epoch, ..first.id };
        grants.push(Grant { id, parent, basis: Basis::Handover, ..first.clone() });
    }
    store.adopt(&Chain::new(grants).unwrap(), None).unwrap();
    store.close().unwrap();
    let refused = Found::open(&place.path("a")).unwrap().recover(Text::lossy("a test"), false).unwrap_err();
    assert!(matches!(refused, RecoverError::Lineage(LineageError::NoMore(_))), "{refused:?}");
    let why = crate::failure::in_full(&refused);
    assert!(why.contains("echelon export") && why.contains(&format!("{} grants", MAX_GRANTS + 1)), "{why}");
}

/// Standbys that count may hold what is missing, and a manager that is not the primary has nothing to go on with.
#[test]
fn a_directory_is_gone_on_with_only_where_nobody_else_could() {
    let place = Place::new();
    let me = Me::load(&Paths::of(&place.path("a"))).unwrap();
    let mut store = place.store("a");
    let head = store.grants().head().clone();
    let standby = echelon_core::id::HostId(Uuid::from_u128(9));
    let grant = |holder, epoch, parent: &Chain, mark| Grant {
        id: GrantId { lineage: head.id.lineage, epoch },
        holder,
        parent: Some(echelon_core::grant::Parent { grant: parent.head().id, mark }),
        basis: Basis::Handover,
        sync: SyncRule::alone().with(standby),
        at: unix_now(),
        grantor: Grantor::Manager("hub".parse().unwrap()),
        reason: None,
        rejects: Vec::new(),
        proof: None,
    };
    let mark = store.head();
    let with_standby = store.grants().extended(grant(me.host, 2, store.grants(), mark)).unwrap();
    store.adopt(&with_standby, None).unwrap();
    let refused = Found::open(&place.path("a")).unwrap().recover(Text::lossy("a test"), false);
    assert!(matches!(refused, Err(RecoverError::Standbys { .. })), "{refused:?}");
    let handed = store.grants().extended(grant(standby, 3, store.grants(), mark)).unwrap();
    store.adopt(&handed, None).unwrap();
    let refused = Found::open(&place.path("a")).unwrap().recover(Text::lossy("a test"), true);
    assert!(matches!(refused, Err(RecoverError::NotPrimary { .. })), "{refused:?}");
}
