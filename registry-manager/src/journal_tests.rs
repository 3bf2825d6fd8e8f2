#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::edit_queue::Edits;
use echelon_core::change::Change;
use echelon_core::grant::{Chain, Grant, SyncRule};
use echelon_core::id::{DomainId, HostId, Lineage, RequestId};
use echelon_core::name::ConsoleName;
use echelon_core::position::Position;
use echelon_core::row::{Actor, Domain, Host, Meta, Row};
use echelon_core::time::UnixMillis;
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
/// everything else in the same transaction.
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
    let name = "manager".parse().unwrap();
    let first = Grant::first(position().lineage, HostId(Uuid::from_u128(1)), name, UnixMillis(0));
    let grants = Chain::begin(first).unwrap();
    let store = RegistryStore::create(&dir.join("registry.db"), &grants, 0, &on_disk).unwrap();
    let registry = Registry::from_rows(position(), rows()).unwrap();
    (store, Arc::new(Hub::new(registry, grants)))
}

/// Protects: what is not durable is told to nobody, neither by a refusal nor by a dry run that build on it.
#[tokio::test]
async fn edits_that_build_on_one_that_fails_to_become_durable_fail_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, hub) = journal(dir.path());
    let mut group = Vec::new();
    let mut answers = Vec::new();
    for (id, name, dry_run) in [(HOST, "a", false), (HostId(Uuid::now_v7()), "a", false), (HOST, "b", true)] {
        let (answer, answered) = oneshot::channel();
        group.push(Edit {
            set: set(add_host(id, name)),
            context: context(),
            dry_run,
            came: Instant::now(),
            answer,
        });
        answers.push(answered);
    }
    Group::new(&hub).carry_out(group, &mut store, &hub).unwrap();
    for answered in answers {
        assert_eq!(answered.await.unwrap().unwrap_err().error, "not-stored");
    }
    assert_eq!((hub.registry().host_count(), hub.registry().position().revision), (0, 0));
    let (answer, answered) = oneshot::channel();
    let next = Edit {
        set: set(add_host(HostId(Uuid::now_v7()), "a")),
        context: context(),
        dry_run: false,
        came: Instant::now(),
        answer,
    };
    Group::new(&hub).carry_out(vec![next], &mut store, &hub).unwrap();
    assert_eq!(answered.await.unwrap().unwrap().position.revision, 1);
}

/// Protects: an edit that could not be made durable and whose outcome is known is one thing; the queue's end
/// is another: what came before it is carried out, what comes after it is refused, whoever still holds a sender.
#[tokio::test]
async fn the_end_of_the_queue_is_after_the_edits_in_it_and_waits_for_no_sender() {
    let dir = tempfile::tempdir().unwrap();
    let (store, hub) = journal(dir.path());
    let (edits, queue) = Edits::queue();
    let first = edits.edit(set(add_host(HostId(Uuid::now_v7()), "a")), context(), false);
    let last = edits.edit(set(add_host(HostId(Uuid::now_v7()), "b")), context(), false);
    let (mut first, mut last) = (Box::pin(first), Box::pin(last));
    assert!(futures_poll(&mut first).await.is_none());
    edits.end().await;
    assert!(futures_poll(&mut last).await.is_none());
    let journal = std::thread::spawn(move || run(store, queue, &hub));
    assert_eq!(first.await.unwrap().position.revision, 1);
    assert_eq!(last.await.unwrap_err().error, "stopping");
    journal.join().unwrap().unwrap();
    assert_eq!(edits.edit(set(add_host(HOST, "c")), context(), false).await.unwrap_err().error, "stopping");
}

/// What a future gives when it is polled once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = std::future::ready(()) => None,
    }
}
