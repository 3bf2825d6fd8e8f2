#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::alarms::Alarms;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::Context;
use echelon_core::fencing::Fencing;
use echelon_core::grant::{Basis, Chain, Grant, Grantor, Mark, Parent, SyncRule};
use echelon_core::id::{DomainId, HostId, Lineage, RequestId};
use echelon_core::member::{Choose, HandOver, Prepare};
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::name::ConsoleName;
use echelon_core::package::{Package, Role};
use echelon_core::position::Position;
use echelon_core::row::{Actor, Domain, Host, Meta, Row};
use echelon_core::time::UnixMillis;
use echelon_identity::proof::prove_grant;
use echelon_identity::{Authority, Credentials, KeyPair, Leaf, Spiffe, TrustBundle};
use tokio::sync::oneshot;
use uuid::Uuid;

const HOST: HostId = HostId(Uuid::from_u128(7));

fn position() -> Position {
    Position { lineage: Lineage(Uuid::from_u128(1)), epoch: 1, revision: 0 }
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

fn add_host(id: HostId, name: &str) -> Change {
    Change::AddHost { id, name: name.parse().unwrap(), domain: "/".parse().unwrap(), address: None }
}

fn context() -> Context {
    let actor = Actor::Console(ConsoleName::try_from("admin".to_owned()).unwrap());
    Context { now: crate::clock::unix_now(), actor, from: None, content: [0; 32] }
}

fn set(change: Change) -> ChangeSet {
    ChangeSet {
        request: RequestId(Uuid::now_v7()),
        if_revision: None,
        allow_shrink: false,
        changes: vec![change],
    }
}

/// A journal whose file holds a host that its memory does not know: it refuses to add that host, and
/// everything else in the same transaction. Its registry trusts nobody.
fn journal(dir: &std::path::Path) -> (RegistryStore, Arc<Hub>) {
    let stray = Host {
        id: HOST,
        name: "stray".parse().unwrap(),
        domain: DomainId::ROOT,
        address: None,
        drained: None,
    };
    let mut on_disk = rows();
    on_disk.push(Row::Host(stray));
    let store = RegistryStore::create(&dir.join("registry.db"), &grants(), 0, &on_disk).unwrap();
    let registry = Registry::from_rows(position(), rows()).unwrap();
    (store, Arc::new(Hub::new(registry, grants())))
}

/// The manager of the tests is on this host.
const ME: HostId = HostId(Uuid::from_u128(1));

fn grants() -> Chain {
    let first = Grant::first(position().lineage, ME, "manager".parse().unwrap(), UnixMillis(0));
    Chain::begin(first).unwrap()
}

fn hooks(hub: &Arc<Hub>) -> Hooks {
    Hooks::new(Default::default(), Alarms::new(hub.clock), Arc::clone(hub))
}

/// How things are with a manager that is alone and has just begun.
pub(crate) fn situation() -> Arc<ArcSwap<Situation>> {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let links = Links::new(credentials()).0;
    Journal::new(ME, store, &[], Arc::clone(&hub), links, hooks(&hub)).unwrap().situation()
}

fn credentials() -> Credentials {
    identity().0
}

/// What the manager of the tests is certified by, and the roots to which that leads.
fn identity() -> (Credentials, TrustBundle) {
    identity_of(crate::clock::unix_now())
}

/// The same, with a certificate of this time.
fn identity_of(time: UnixMillis) -> (Credentials, TrustBundle) {
    let authority = Authority::create(&"test".parse().unwrap(), crate::clock::unix_now()).unwrap();
    let issuer = authority.issue_intermediate(ME, crate::clock::unix_now()).unwrap();
    let (key, subject) = (KeyPair::generate().unwrap(), Spiffe::Manager(ME));
    let leaf = Leaf { subject: &subject, name: "manager", enrolment: 1, lifetime: Duration::from_secs(3600) };
    let chain = issuer.issue(&leaf, &key.public_key(), time).unwrap();
    (Credentials::new(key, chain).unwrap(), authority.trust())
}

fn begun(store: RegistryStore, hub: &Arc<Hub>) -> Journal {
    let links = Links::new(credentials()).0;
    Journal::new(ME, store, &[], Arc::clone(hub), links, hooks(hub)).unwrap().begun().unwrap()
}

fn asks(id: HostId, name: &str, dry_run: bool) -> (Edit, oneshot::Receiver<Result<EditAnswer, Failure>>) {
    let (answer, answered) = oneshot::channel();
    let set = set(add_host(id, name));
    (Edit { set, context: context(), dry_run, came: Instant::now(), answer }, answered)
}

/// Protects: what is not durable is told to nobody, neither by a refusal nor by a dry run that build on it.
#[tokio::test]
async fn edits_that_build_on_one_that_fails_to_become_durable_fail_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let mut journal = begun(store, &hub);
    let wishes = [(HOST, "a", false), (HostId(Uuid::now_v7()), "a", false), (HOST, "b", true)];
    let (edits, answers): (Vec<_>, Vec<_>) =
        wishes.map(|(id, name, dry)| asks(id, name, dry)).into_iter().unzip();
    journal.turn(Turn { edits, ..Turn::default() }).unwrap();
    for answered in answers {
        assert_eq!(answered.await.unwrap().unwrap_err().error, "not-stored");
    }
    assert_eq!((hub.registry().host_count(), hub.registry().position().revision), (0, 0));
    let (edit, answered) = asks(HostId(Uuid::now_v7()), "a", false);
    journal.turn(Turn { edits: vec![edit], ..Turn::default() }).unwrap();
    assert_eq!(answered.await.unwrap().unwrap().position.revision, 1);
}

/// Protects: a primary that hears of a newer grant from an agent, and cannot make that durable, does not go on as though
/// it had not heard: no agent says it twice.
#[tokio::test]
async fn a_primary_that_cannot_keep_the_grant_that_beats_its_own_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let (genesis, mut journal) = (store.head(), begun(store, &hub));
    let (edit, answered) = asks(HostId(Uuid::now_v7()), "a", false);
    journal.turn(Turn { edits: vec![edit], ..Turn::default() }).unwrap();
    answered.await.unwrap().unwrap();

    let (chain, trust) = too_new(genesis);
    let trusting = |row| match row {
        Row::Meta(meta) => Row::Meta(Meta { trust: trust.roots().to_vec(), ..meta }),
        row => row,
    };
    let registry = Registry::from_rows(position(), rows().into_iter().map(trusting)).unwrap();
    hub.witnesses.hear_chain(&registry, HOST, chain.clone());
    let words = vec![Word::Input(Input::Heard(chain))];
    let ended = journal.turn(Turn { words, ..Turn::default() });
    assert!(matches!(ended, Err(JournalError::Store(_))), "{ended:?}");
}

/// A chain that beats that of the tests, and that their file cannot hold: its epoch is too large a number.
fn too_new(genesis: Mark) -> (Chain, TrustBundle) {
    let (credentials, trust) = identity();
    let (known, now) = (grants(), crate::clock::unix_now());
    let id = GrantId { epoch: u64::MAX, ..known.head().id };
    let grant = Grant {
        id,
        holder: HOST,
        parent: Some(Parent { grant: known.head().id, mark: genesis }),
        basis: Basis::Handover,
        grantor: Grantor::Manager("manager".parse().unwrap()),
        ..Grant::first(id.lineage, HOST, "other".parse().unwrap(), now)
    };
    (known.extended(prove_grant(&credentials, &grant).unwrap()).unwrap(), trust)
}

/// Protects: what the disk does not take costs only that. A copy that came beside it, as large as the registry, does not
/// stay on a full disk; an edit that came beside it is decided on.
#[tokio::test]
async fn what_came_beside_something_that_could_not_be_written_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let (genesis, mut journal) = (store.head(), begun(store, &hub));
    let (first, answered) = asks(HostId(Uuid::now_v7()), "a", false);
    journal.turn(Turn { edits: vec![first], ..Turn::default() }).unwrap();
    answered.await.unwrap().unwrap();
    let copy = dir.path().join("copy.db");
    std::fs::write(&copy, "a copy").unwrap();
    let heard = Word::Input(Input::Heard(too_new(genesis).0));
    let (edit, answered) = asks(HostId(Uuid::now_v7()), "b", false);
    let arrived = Arrived { path: copy.clone(), put: oneshot::channel().0 };
    let words = vec![heard, Word::Copied(1, Some(arrived))];
    journal.turn(Turn { words, edits: vec![edit] }).unwrap();
    assert!(!copy.exists());
    assert_eq!(answered.await.unwrap().unwrap().position.revision, 2);
}

/// Protects: a primary does not give its grant up for one that nobody would believe, as where its clock was set back
/// since it got its certificate.
#[tokio::test]
async fn a_primary_hands_over_only_by_a_grant_that_others_believe() {
    let (now, hours) = (crate::clock::unix_now(), Duration::from_secs(2 * 3600));
    for (certified, epoch) in [(now, 2), (now + hours, 1)] {
        let (dir, (credentials, trust)) = (tempfile::tempdir().unwrap(), identity_of(certified));
        let mut rows = rows();
        let Some(Row::Meta(meta)) = rows.first_mut() else { panic!("no meta") };
        meta.trust = trust.roots().to_vec();
        let store = RegistryStore::create(&dir.path().join("registry.db"), &grants(), 0, &rows).unwrap();
        let hub = Arc::new(Hub::new(Registry::from_rows(position(), rows).unwrap(), grants()));
        let links = Links::new(credentials).0;
        let journal = Journal::new(ME, store, &[], Arc::clone(&hub), links, hooks(&hub)).unwrap();
        let mut journal = journal.begun().unwrap();
        let wish = HandOver {
            id: RequestId(Uuid::now_v7()),
            // To itself it does so to end promises that others were asked for.
            to: ME,
            grantor: Grantor::Manager("manager".parse().unwrap()),
            reason: None,
            at: now,
            until: hub.clock.now(),
            grant: None,
        };
        let words = vec![Word::Input(Input::HandOver(wish))];
        journal.turn(Turn { words, ..Turn::default() }).unwrap();
        assert_eq!(journal.situation().load().chain.head().id.epoch, epoch);
    }
}

/// The registry with the manager of the tests in it, and with the primary of a type, that has shown this number.
fn led(fencing: Fencing) -> Vec<Row> {
    let name = "manager".parse().unwrap();
    let host = Host { id: ME, name, domain: DomainId::ROOT, address: None, drained: None };
    let package = |ty: &str, fencing| {
        let role = Some(Role::Primary);
        Row::Package(Package { role, fencing, ..Package::bare(ME, ty.parse().unwrap()) })
    };
    let more = [Row::Host(host), package("registry", None), package("store", Some(fencing))];
    rows().into_iter().chain(more).collect()
}

/// The journal of a manager that goes by the first grant and by these, none of which it has written under. No standby
/// but these counts.
fn granted(dir: &std::path::Path, bases: &[Basis], members: &[HostId]) -> (Journal, Arc<Hub>, Chain) {
    let rows = led(Fencing::at(&position()).unwrap());
    let mut store = RegistryStore::create(&dir.join("registry.db"), &grants(), 0, &rows).unwrap();
    let chain = bases.iter().fold(grants(), |chain, basis| followed(&chain, *basis, store.head(), members));
    store.adopt(&chain, None).unwrap();
    let hub = Arc::new(Hub::new(Registry::from_rows(position(), rows).unwrap(), chain.clone()));
    let journal = begun(store, &hub);
    (journal, hub, chain)
}

fn followed(chain: &Chain, basis: Basis, mark: Mark, members: &[HostId]) -> Chain {
    let before = chain.head();
    let lineage = if basis.begins_lineage() { Lineage(Uuid::now_v7()) } else { before.id.lineage };
    let grant = Grant {
        id: GrantId { lineage, epoch: before.id.epoch + 1 },
        parent: Some(Parent { grant: before.id, mark }),
        basis,
        sync: SyncRule { members: members.iter().copied().collect(), min_sync: 1 },
        ..before.clone()
    };
    chain.extended(grant).unwrap()
}

/// Protects: what a primary of another type shows is larger than what anybody has seen, also where a manager that was
/// promoted by force could write nothing before it handed over.
#[tokio::test]
async fn primaries_get_new_numbers_after_any_grant_that_may_give_up_what_others_have_seen() {
    for (bases, anew) in [(&[Basis::Force, Basis::Handover][..], true), (&[Basis::Handover][..], false)] {
        let dir = tempfile::tempdir().unwrap();
        let (_journal, hub, _) = granted(dir.path(), bases, &[]);
        let registry = hub.registry();
        let epoch = bases.len() as u64 + 1;
        assert_eq!((registry.position().epoch, registry.position().revision), (epoch, 1));
        let before = Fencing::at(&position()).unwrap();
        let now = registry.package(ME, &"store".parse().unwrap()).unwrap().fencing.unwrap();
        assert_eq!((now > before, now == before), (anew, !anew), "{bases:?}");
    }
}

/// Protects: an edit that comes while an admin looks at a proposal, as announcements come at any time, takes nothing
/// away from under it.
#[tokio::test]
async fn nothing_is_written_while_a_choice_is_being_made() {
    let dir = tempfile::tempdir().unwrap();
    // The standby that counts is not there: the registry could take no note of the grant yet.
    let (mut journal, _, chain) = granted(dir.path(), &[Basis::Force], &[HOST]);
    let rival = followed(&grants(), Basis::Force, journal.store.head(), &[]);
    assert_ne!(rival.head().id, chain.head().id);
    let id = RequestId(Uuid::now_v7());
    let choose = Choose {
        id,
        grantor: Grantor::Console("admin".parse().unwrap()),
        reason: None,
        at: crate::clock::unix_now(),
    };
    let (sender, mut told) = mpsc::unbounded_channel();
    let words = vec![Word::Input(Input::Heard(rival)), Word::Wish(id, Input::Choose(choose), sender)];
    let (edit, answered) = asks(HostId(Uuid::now_v7()), "a", false);
    journal.turn(Turn { words, edits: vec![edit] }).unwrap();
    assert!(answered.await.unwrap().is_err());
    let Told::Proposed(proposal) = told.try_recv().unwrap() else { panic!("no proposal") };
    journal.turn(Turn { words: vec![Word::Input(Input::Promote(proposal.grant))], edits: vec![] }).unwrap();
    assert!(matches!(told.try_recv(), Ok(Told::Done(_))));
}

/// Protects: nobody is made primary to whom no other manager would listen once the edit is committed that takes it out
/// of the registry, which it has got from the primary before that died.
#[tokio::test]
async fn a_manager_whose_journal_takes_it_out_of_the_registry_is_not_promoted() {
    for there in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let rows = if there { led(Fencing::at(&position()).unwrap()) } else { rows() };
        let mut store = RegistryStore::create(&dir.path().join("registry.db"), &grants(), 0, &rows).unwrap();
        let primary = followed(&grants(), Basis::Handover, store.head(), &[ME]).head().clone();
        let chain = grants().extended(Grant { holder: HOST, ..primary }).unwrap();
        store.adopt(&chain, None).unwrap();
        let hub = Arc::new(Hub::new(Registry::from_rows(position(), rows).unwrap(), chain));
        let mut journal = begun(store, &hub);
        let (sender, mut told) = mpsc::unbounded_channel();
        let id = RequestId(Uuid::now_v7());
        let wish = Prepare {
            id,
            promise: RequestId(Uuid::now_v7()),
            lineage: Lineage(id.0),
            trial: false,
            accept_loss: false,
            grantor: Grantor::Console("admin".parse().unwrap()),
            reason: None,
            at: crate::clock::unix_now(),
        };
        let words = vec![Word::Wish(id, Input::Prepare(wish), sender)];
        journal.turn(Turn { words, ..Turn::default() }).unwrap();
        match told.try_recv().unwrap() {
            Told::Proposed(proposal) => assert!(there && proposal.doubt.is_none()),
            other => assert_eq!((there, other), (false, Told::Refused(Refused::Removed))),
        }
        assert_eq!(journal.member.seals().is_empty(), !there, "nothing is left of it");
    }
}

/// Protects: that nothing came of a grant is said where the journal knows it, and not where it was slow to say anything.
#[tokio::test]
async fn a_grant_that_was_not_proposed_is_refused_by_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let mut journal = begun(store, &hub);
    let (sender, mut told) = mpsc::unbounded_channel();
    let words = vec![Word::Wish(RequestId(Uuid::now_v7()), Input::Promote(grants().head().clone()), sender)];
    journal.turn(Turn { words, ..Turn::default() }).unwrap();
    assert_eq!(told.try_recv().unwrap(), Told::Refused(Refused::NotAsProposed));
}

/// Protects: what is shown is what the journal has, also where a copy brings another commit of the same position.
#[tokio::test]
async fn another_commit_of_the_same_position_is_shown_in_place_of_the_first() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((store, hub), (theirs, their_hub)) = (journal(dir.path()), journal(elsewhere.path()));
    let (mut ours, mut theirs) = (begun(store, &hub), begun(theirs, &their_hub));
    for (journal, name) in [(&mut ours, "a"), (&mut theirs, "b")] {
        let (edit, answered) = asks(HostId(Uuid::now_v7()), name, false);
        journal.turn(Turn { edits: vec![edit], ..Turn::default() }).unwrap();
        answered.await.unwrap().unwrap();
    }
    let (registry, copy) = (elsewhere.path().join("registry.db"), elsewhere.path().join("copy.db"));
    theirs.store.set_committed(1).unwrap();
    echelon_store::JournalReader::open(&registry).unwrap().copy_to(&copy).unwrap();
    ours.store.replace_by(&copy).unwrap();
    ours.reload().unwrap();
    let shown = |name: &str| hub.registry().host_named(&name.parse().unwrap()).is_some();
    assert!(shown("b") && !shown("a"));
}

/// Protects: an edit that could not be made durable and whose outcome is known is one thing; the queue's end
/// is another: what came before it is carried out, what comes after it is refused, whoever still holds a sender.
#[tokio::test]
async fn the_end_of_the_queue_is_after_the_edits_in_it_and_waits_for_no_sender() {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let journal = begun(store, &hub);
    let (edits, queue) = Edits::queue(journal.situation());
    let first = edits.edit(set(add_host(HostId(Uuid::now_v7()), "a")), context(), false);
    let last = edits.edit(set(add_host(HostId(Uuid::now_v7()), "b")), context(), false);
    let (mut first, mut last) = (Box::pin(first), Box::pin(last));
    assert!(futures_poll(&mut first).await.is_none());
    edits.end().await;
    assert!(futures_poll(&mut last).await.is_none());
    let runtime = Handle::current();
    let thread = std::thread::spawn(move || journal.run(queue, &runtime));
    assert_eq!(first.await.unwrap().position.revision, 1);
    assert_eq!(last.await.unwrap_err().error, "stopping");
    tokio::task::spawn_blocking(|| thread.join().unwrap().unwrap()).await.unwrap();
    assert_eq!(edits.edit(set(add_host(HOST, "c")), context(), false).await.unwrap_err().error, "stopping");
    let store = RegistryStore::open(&dir.path().join("registry.db")).unwrap();
    assert_eq!((store.head().revision(), store.committed()), (1, 1));
}

/// What a future gives when it is polled once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = std::future::ready(()) => None,
    }
}
