//! Edits and the death of the manager that took them.

use echelon_client::{CallError, ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::HostId;
use echelon_core::message::EditAnswer;
use echelon_core::registry::Registry;
use echelon_tests::{Answer, Manager, Proxy, Sandbox, wait_until};
use rustix::process::Signal;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Consoles that edit at once.
const WRITERS: usize = 4;

/// Acknowledged edits after which the manager is killed, in each round.
const EDITS: usize = 60;

/// Kills: each hits another moment of a commit.
const ROUNDS: usize = 4;

/// Failures of a manager that cannot make edits durable, or is ending.
const WITHOUT_EFFECT: [&str; 3] = ["not-stored", "outcome-unknown", "stopping"];

/// Larger than a new registry, and smaller than one after some hundred edits.
const FULL_KIB: u32 = 1024;

/// What one writer knows when its manager is gone.
#[derive(Default)]
struct Written {
    acknowledged: Vec<(ChangeSet, EditAnswer)>,
    in_flight: Option<ChangeSet>,
}

/// One edit of two changes that belong together.
fn pair(name: &str) -> ChangeSet {
    let path = format!("/{name}").parse().unwrap();
    let domain = Change::AddDomain { path };
    let host = Change::AddHost {
        id: HostId(new_request_id().0),
        name: name.parse().unwrap(),
        domain: format!("/{name}").parse().unwrap(),
        address: None,
    };
    ChangeSet {
        request: new_request_id(),
        if_revision: None,
        allow_shrink: false,
        changes: vec![domain, host],
    }
}

/// Which half of a pair is there.
fn halves(registry: &Registry, set: &ChangeSet) -> (bool, bool) {
    let [Change::AddDomain { path }, Change::AddHost { name, .. }] = set.changes.as_slice() else {
        panic!("no pair: {set:?}");
    };
    (registry.hierarchy().find(path).is_some(), registry.host_named(name).is_some())
}

async fn write(
    client: ManagerClient,
    prefix: String,
    count: Arc<AtomicUsize>,
    mut killed: watch::Receiver<bool>,
) -> Written {
    let mut written = Written::default();
    for number in 0.. {
        let set = pair(&format!("{prefix}-{number}"));
        let answer = tokio::select! {
            biased;
            answer = client.edit(set.clone(), false) => answer,
            _ = killed.wait_for(|killed| *killed) => Err(CallError::Lost(echelon_client::Lost::Ended)),
        };
        match answer {
            Ok(answer) => {
                written.acknowledged.push((set, answer));
                count.fetch_add(1, Ordering::SeqCst);
            }
            Err(CallError::Failed(failure)) if !WITHOUT_EFFECT.contains(&failure.error.as_str()) => {
                panic!("refused: {failure:?}")
            }
            Err(_) => {
                written.in_flight = Some(set);
                break;
            }
        }
    }
    written
}

/// Edits from several consoles until the manager is killed in the middle of them.
async fn write_and_kill(manager: &mut Manager<'_>, round: usize) -> Vec<Written> {
    let (kill, killed) = watch::channel(false);
    let count = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = manager.client().await;
        let prefix = format!("r{round}-w{writer}");
        writers.push(tokio::spawn(write(client, prefix, Arc::clone(&count), killed.clone())));
    }
    while count.load(Ordering::SeqCst) < EDITS {
        assert!(writers.iter().all(|writer| !writer.is_finished()), "a writer ended early");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    manager.kill9();
    kill.send(true).unwrap();
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    written
}

/// An edit is acknowledged only once it is durable, is there whole or not at all, and has one effect and one
/// answer however often it is sent, also by a manager that was killed in between.
#[test]
fn a_manager_killed_under_edits_loses_nothing_it_acknowledged() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut edits: u64 = 0;
    for round in 0..ROUNDS {
        let written = runtime.block_on(write_and_kill(&mut manager, round));
        manager.start();
        edits += runtime.block_on(check(&manager, &written));
        let reading = runtime.block_on(async { manager.client().await.read().await.unwrap() });
        assert_eq!(reading.registry.position().revision, edits, "each edit is one revision");
    }
}

/// When the disk is full, edits fail, and what was acknowledged before is there: the answer follows the write,
/// never the other way round.
#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::init(&sandbox);
    manager.start_with_files_up_to(FULL_KIB);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let written = runtime.block_on(async {
        let (_kill, killed) = watch::channel(false);
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let count = Arc::new(AtomicUsize::new(0));
            writers.push(tokio::spawn(write(
                manager.client().await,
                format!("w{writer}"),
                count,
                killed.clone(),
            )));
        }
        let mut written = Vec::new();
        for writer in writers {
            written.push(writer.await.unwrap());
        }
        written
    });
    assert!(written.iter().all(|w| w.acknowledged.len() > 5), "the disk was full too soon");
    manager.kill9();
    manager.start();
    runtime.block_on(check(&manager, &written));
}

/// Checks what is there after a restart, sends everything again, and gives how many edits there were.
async fn check(manager: &Manager<'_>, written: &[Written]) -> u64 {
    let client = manager.client().await;
    let registry = client.read().await.unwrap().registry;
    let mut edits = 0;
    for Written { acknowledged, in_flight } in written {
        for (set, answer) in acknowledged {
            assert_eq!(halves(&registry, set), (true, true), "acknowledged and lost: {answer:?}");
            let again = client.edit(set.clone(), false).await.unwrap();
            assert_eq!(again, EditAnswer { repeated: true, ..answer.clone() });
        }
        let in_flight = in_flight.as_ref().expect("every writer was in the middle of an edit");
        let (domain, host) = halves(&registry, in_flight);
        assert_eq!(domain, host, "half of an edit is there");
        let first = client.edit(in_flight.clone(), false).await.unwrap();
        assert_eq!(first.repeated, domain, "{first:?}");
        let second = client.edit(in_flight.clone(), false).await.unwrap();
        assert_eq!(second, EditAnswer { repeated: true, ..first });
        edits += acknowledged.len() as u64 + 1;
    }
    edits
}

/// A manager that is asked to end carries out what it has taken, and leaves with exit code 0; one whose
/// terminal goes away stays.
#[test]
fn a_manager_that_is_asked_to_end_does_so_in_order() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    manager.console().ok("domain add /a");
    manager.process().signal(Signal::HUP);
    manager.console().ok("tree /a");
    assert!(manager.terminate().success());
    manager.start();
    manager.console().ok("tree /a");
}

/// `--request-id` makes it safe to repeat a command by hand; the same id with another edit is refused.
#[test]
fn a_command_with_a_request_id_can_be_repeated() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let console = manager.console();
    let command = format!("domain add /a /a/b --request-id {}", new_request_id());
    let first = console.object(&command);
    assert_eq!((first["repeated"].as_bool(), first["revision"].as_u64()), (Some(false), Some(1)));
    manager.kill9();
    manager.start();
    let second = console.object(&command);
    assert_eq!(second["repeated"], true);
    assert_eq!((&second["revision"], &second["changed"]), (&first["revision"], &first["changed"]));
    let other = console.fails(3, &format!("{} --output json", command.replace("/a/b", "/c"))).error();
    assert_eq!(other["error"], "request-reused");
    assert_eq!(manager.status()["revision"], 1);
}

/// An edit whose answer is lost is neither called done nor failed: the console ends with exit code 6 and prints
/// the command to repeat, which has no second effect.
#[test]
fn an_edit_without_an_answer_is_unknown_and_can_be_repeated_as_printed() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let proxy = Proxy::start(sandbox.endpoint(29120), manager.listen());
    let console = manager.console();
    let command = format!("domain add /a --output json --manager {}", proxy.at());
    let lost = std::thread::spawn(move || console.fails(6, &command).error());
    wait_until("the edit to be committed", || manager.status()["revision"] == 1);
    proxy.mute(true);
    let error = lost.join().unwrap();
    assert_eq!((&error["error"], &error["retry"]), (&"outcome-unknown".into(), &"safe".into()), "{error}");

    proxy.mute(false);
    let (_, again) = error["remedy"].as_str().unwrap().split_once(": ").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", again]);
    let answer = Answer::of(shell);
    assert_eq!(answer.code, 0, "{again}: {answer:?}");
    assert!(answer.out.contains("\"repeated\":true"), "{answer:?}");
    assert_eq!(manager.status()["revision"], 1);
}

/// Without a manager the console says where it looked and what to do, with exit code 4.
#[test]
fn without_a_manager_commands_end_with_the_exit_code_for_that() {
    let sandbox = Sandbox::new();
    let manager = Manager::init(&sandbox);
    let error = manager.console().fails(4, "domain add /a --output json").error();
    assert_eq!((&error["error"], &error["exit"]), (&"unreachable".into(), &4.into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains(&manager.listen().to_string()), "{error}");
    assert_ne!(error["remedy"], "", "{error}");
}
