//! Two registry managers, as processes: what the one has acknowledged, the other holds.

use crate::pair::{Node, Pair, failure, host, knows, rule, set, unix_now, wait_for};
use echelon_client::{CallError, ManagerClient};
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::{DomainId, RequestId};
use echelon_core::message::{EditAnswer, FailureClass};
use echelon_core::name::HostName;
use echelon_core::time::UnixMillis;
use echelon_identity::{
    Credentials, IdentityDirectory, Issuer, JoinToken, Leaf, TrustBundle, file, lifetime,
};
use registry_manager::paths::Paths;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A pair with a slow network on the way to the standby.
async fn running_with_a_slow_way() -> Pair {
    let pair = Pair::of_nodes();
    pair.make(pair.primary.nowhere(), slow_way(pair.standby.listen));
    pair.started().await
}

/// Bytes that pass a slow network in a second.
const SLOW: u64 = 120_000;

/// The front of a slow network between one peer and this address; back it is fast. Lasts as long as the tests.
fn slow_way(to: SocketAddr) -> SocketAddr {
    let [front, back] = [(); 2].map(|()| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()));
    let (at, peer) = (front.local_addr().unwrap(), Arc::new(Mutex::new(None)));
    let (answers, asker) = ((Arc::clone(&front), Arc::clone(&back)), Arc::clone(&peer));
    std::thread::spawn(move || {
        let mut datagram = [0; 65_536];
        while let Ok((length, from)) = front.recv_from(&mut datagram) {
            // Somebody who only looks whether anybody listens.
            if length == 1 {
                continue;
            }
            *peer.lock().unwrap() = Some(from);
            // What is lost is what happens in networks.
            let _ = back.send_to(&datagram[..length], to);
            std::thread::sleep(Duration::from_micros(length as u64 * 1_000_000 / SLOW));
        }
    });
    std::thread::spawn(move || {
        let ((front, back), mut datagram) = (answers, [0; 65_536]);
        // Open to all, so that whoever looks whether anybody listens here is not told by the system that nobody does.
        while let Ok((length, from)) = back.recv_from(&mut datagram) {
            if from != to {
                continue;
            }
            let asker = *asker.lock().unwrap();
            let _ = front.send_to(&datagram[..length], asker.unwrap());
        }
    });
    at
}

/// Edits until the manager is killed. Gives what it has acknowledged, and the one of which it is not known.
async fn write(
    console: ManagerClient,
    name: String,
    mut killed: watch::Receiver<bool>,
) -> (Vec<RequestId>, ChangeSet) {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let edit = host(&format!("{name}-{number}"));
        let answer = tokio::select! {
            biased;
            answer = console.edit(edit.clone(), false) => answer.ok(),
            _ = killed.wait_for(|killed| *killed) => None,
        };
        match answer {
            Some(_) => acknowledged.push(edit.request),
            None => return (acknowledged, edit),
        }
    }
    unreachable!("it ends with its manager")
}

/// Protects: an edit that was acknowledged outlives the primary; without it no edit is taken, and whoever asks is told
/// what would help; when it is back, everything goes on.
#[tokio::test]
async fn what_was_acknowledged_is_at_the_standby_when_the_primary_is_killed() {
    let mut pair = Pair::running().await;
    assert_eq!((pair.primary.get("/primary").await, pair.standby.get("/primary").await), (200, 503));
    let ((kill, killed), mut writers) = (watch::channel(false), Vec::new());
    for writer in 0..4 {
        let console = pair.console(&pair.primary).await;
        writers.push(tokio::spawn(write(console, format!("w{writer}"), killed.clone())));
    }
    let watcher = pair.console(&pair.standby).await;
    wait_for("some edits", async || knows(&watcher, "w0-10").await).await;
    pair.primary.kill();
    kill.send(true).unwrap();
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for writer in writers {
        let (done, in_flight) = writer.await.unwrap();
        acknowledged.extend(done);
        unknown.push(in_flight);
    }
    assert!(acknowledged.len() > 10);

    let mut refused = failure(watcher.edit(host("late"), false).await);
    if refused.class == FailureClass::Unknown {
        // It was on its way to the primary before its end was noticed.
        refused = failure(watcher.edit(host("later"), false).await);
    }
    assert_eq!((refused.error.as_str(), refused.class), ("no-primary", FailureClass::Unreachable));
    assert!(refused.message.contains("hub"), "{refused:?}");
    assert!(refused.remedy.contains("echelon promote spare --force"), "{refused:?}");
    assert_eq!((pair.standby.get("/readyz").await, pair.standby.get("/primary").await), (200, 503));
    let log = pair.standby.log();
    assert!(log.contains("its process has ended"), "its host says so before its silence does: {log}");

    pair.standby.kill();
    let store = pair.standby.store();
    let held: Vec<_> = (0..=store.head().revision()).filter_map(|n| store.commit_at(n).unwrap()).collect();
    for request in &acknowledged {
        assert!(held.iter().any(|commit| commit.request == *request), "{request} is lost");
    }
    drop(store);

    // Repeated at the standby, each has one effect, whatever became of it before.
    pair.primary.start();
    pair.standby.start();
    pair.standby.wait_until_ready().await;
    wait_for("edits to be taken", async || pair.primary.get("/primary").await == 200).await;
    let console = pair.console(&pair.standby).await;
    for edit in unknown {
        let mut answer = None;
        wait_for("the primary to be reached from the standby", async || {
            answer = console.edit(edit.clone(), false).await.ok();
            answer.is_some()
        })
        .await;
        let again = console.edit(edit.clone(), false).await.unwrap();
        assert!(again.repeated && again.position == answer.unwrap().position);
    }
    let (primary, standby) = (pair.console(&pair.primary).await, console.read().await.unwrap().registry);
    let primary = primary.read().await.unwrap().registry;
    assert_eq!(primary.position(), standby.position());
    assert!(primary.rows().eq(standby.rows()));
}

/// Protects: where both managers have dialled there are two links, one of which carries nothing; neither is given up
/// for its silence.
#[tokio::test]
async fn a_link_that_carries_nothing_is_kept() {
    let pair = Pair::running().await;
    // Half as long again as a link may be silent: that nothing happens meanwhile can only be waited for.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for node in [&pair.primary, &pair.standby] {
        let log = std::fs::read_to_string(node.state.with_extension("log")).unwrap();
        assert!(log.contains("Linked to a registry manager"), "{log}");
        assert!(!log.contains("A link to a registry manager ended"), "{log}");
    }
}

/// Protects: whoever edits through a standby reads there what it wrote; and where too few standbys hold it, no edit is
/// taken, and nothing is written.
#[tokio::test]
async fn edits_through_a_standby_are_read_there_and_none_is_taken_that_too_few_would_hold() {
    let mut pair = Pair::running().await;
    let console = pair.console(&pair.standby).await;
    for number in 0..5 {
        let name = format!("through-{number}");
        console.edit(host(&name), false).await.unwrap();
        assert!(knows(&console, &name).await);
        assert!(failure(console.edit(host(&name), true).await).error.contains("exists"));
    }
    pair.standby.kill();
    let console = pair.console(&pair.primary).await;
    wait_for("the standby's end to be noticed", async || pair.primary.get("/primary").await == 503).await;
    let before = console.read().await.unwrap().registry.position();
    let refused = failure(console.edit(host("late"), false).await);
    assert_eq!(refused.error, "too-few-standbys", "{refused:?}");
    assert!(
        refused.message.contains("spare") && refused.remedy.contains("remove spare --accept-loss"),
        "{refused:?}"
    );
    assert_eq!(refused.class, FailureClass::Unreachable);
    assert_eq!(console.read().await.unwrap().registry.position(), before);
    drop(console);
    pair.primary.kill();
    assert_eq!(pair.primary.store().head().position, before);
}

/// What a command of `registry-manager` says at a state directory, and how it ends.
fn manager_says(command: &str, node: &Node) -> (Option<i32>, String) {
    says(command, node, "")
}

/// The same with this token in its environment.
fn says(command: &str, node: &Node, token: &str) -> (Option<i32>, String) {
    let mut said = Command::new(env!("CARGO_BIN_EXE_registry-manager"));
    said.args(command.split(' ')).arg("--state").arg(&node.state).env_clear().env("ECHELON_TOKEN", token);
    let said = said.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    (said.status.code(), format!("{out}{err}"))
}

impl Node {
    /// Waits until its process has ended by itself.
    async fn wait_until_ended(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it was started");
        let mut ended = None;
        wait_for("a manager to end", async || {
            ended = process.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.and_then(|status| status.code())
    }

    /// Stops it as a service manager does. Gives how it ended.
    async fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.wait_until_ended().await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.state.with_extension("log")).unwrap()
    }
}

/// Protects: that a standby has stopped is noticed, whichever of the two has dialled: edits are refused before they are
/// written.
#[tokio::test]
async fn a_standby_that_stops_is_missed_whoever_has_dialled() {
    let mut pair = Pair::running_with_one_that_dials().await;
    for _ in 0..4 {
        assert_eq!(pair.standby.stop().await, Some(0), "{}", pair.standby.log());
        wait_for("its end to be noticed", async || pair.primary.get("/primary").await == 503).await;
        pair.standby.start();
        wait_for("it to be back", async || pair.primary.get("/primary").await == 200).await;
    }
}

/// Protects: a manager that is back before its end was noticed is told everything again, and is spoken to over its new
/// link, not over that to the process that was killed.
#[tokio::test]
async fn a_manager_that_is_killed_and_back_at_once_misses_nothing() {
    let mut pair = Pair::running().await;
    pair.console(&pair.primary).await.edit(host("last"), false).await.unwrap();
    pair.standby.kill();
    pair.standby.start();
    pair.standby.wait_until_ready().await;
    let console = pair.console(&pair.standby).await;
    wait_for("the standby to show the last edit", async || knows(&console, "last").await).await;

    // On a slow machine it is back only after its end was noticed, by its silence.
    let mut at_once = false;
    for _ in 0..5 {
        let silences = pair.standby.log().matches("fell silent").count();
        pair.primary.kill();
        pair.primary.start();
        wait_for("edits to be taken", async || pair.primary.get("/primary").await == 200).await;
        console.edit(host("through"), true).await.unwrap();
        at_once = pair.standby.log().matches("fell silent").count() == silences;
        if at_once {
            break;
        }
    }
    assert!(at_once, "{}", pair.standby.log());
}

/// Protects: a large edit reaches a standby over a slow network: while more of it comes, the link is not silent.
#[tokio::test]
async fn a_large_edit_passes_a_slow_network() {
    let pair = running_with_a_slow_way().await;
    let console = pair.console(&pair.primary).await;
    let names = (0..4_000).map(|number| format!("{}-{number}", "x".repeat(50)));
    let changes = names.flat_map(|name| host(&name).changes).collect();
    // Whether it is acknowledged in time does not matter.
    let _ = console.edit(ChangeSet { changes, ..host("any") }, false).await;
    let console = pair.console(&pair.standby).await;
    let last = format!("{}-3999", "x".repeat(50));
    wait_for("the edit to be at the standby", async || knows(&console, &last).await).await;
    let log = pair.primary.log();
    assert!(!log.contains("fell silent") && !log.contains("link to a registry manager ended"), "{log}");
}

/// Protects: a primary that is stopped while edits are made has the standbys hold what it has written, tells whoever
/// waits for that, and ends in good order.
#[tokio::test]
async fn a_primary_that_is_stopped_while_edits_are_made_ends_in_good_order() {
    let mut pair = Pair::running().await;
    let ((kill, killed), mut writers) = (watch::channel(false), Vec::new());
    for writer in 0..4 {
        let console = pair.console(&pair.primary).await;
        writers.push(tokio::spawn(write(console, format!("w{writer}"), killed.clone())));
    }
    let watcher = pair.console(&pair.standby).await;
    wait_for("some edits", async || knows(&watcher, "w0-10").await).await;
    assert_eq!(pair.primary.stop().await, Some(0), "{}", pair.primary.log());
    kill.send(true).unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    pair.standby.kill();
    let (primary, standby) = (pair.primary.store().head(), pair.standby.store().head());
    assert_eq!(primary, standby, "what was written is at the standby");
}

/// Protects: a standby that leaves is out at once, while it runs: edits do not wait for it, it ends by itself, and does
/// not start again. The primary cannot leave.
#[tokio::test]
async fn a_standby_that_leaves_ends_and_does_not_start_again() {
    let mut pair = Pair::running().await;
    let (code, said) = manager_says("leave", &pair.primary);
    assert!(code == Some(3) && said.contains("echelon promote spare"), "{said}");

    let (code, said) = manager_says("leave", &pair.standby);
    assert!(code == Some(0) && said.contains("spare has left"), "{said}");
    assert_eq!(pair.standby.wait_until_ended().await, Some(5), "{}", pair.standby.log());
    let console = pair.console(&pair.primary).await;
    console.edit(host("after"), false).await.unwrap();
    assert!(rule(&console).await.members.is_empty());

    let (code, said) = manager_says("run", &pair.standby);
    assert!(code == Some(5) && said.contains("is out of the registry: it left"), "{said}");
    let (code, said) = manager_says("leave", &pair.standby);
    assert!(code == Some(0) && said.contains("has left already"), "{said}");
}

/// Protects: a standby that is taken out ends by itself, and again when it is started, whatever it has heard of that.
#[tokio::test]
async fn a_standby_that_is_removed_ends_by_itself() {
    let mut pair = Pair::running().await;
    let console = pair.console(&pair.primary).await;
    let remove =
        Change::RemoveManager { host: "spare".parse().unwrap(), accept_loss: false, compromised: false };
    console.edit(set(remove), false).await.unwrap();
    assert_eq!(pair.standby.wait_until_ended().await, Some(5), "{}", pair.standby.log());
    let log = pair.standby.log();
    assert!(log.contains("To join again: registry-manager"), "{log}");
    let (code, said) = manager_says("run", &pair.standby);
    assert!(
        code == Some(5) && said.contains("is out of the registry: it was taken out by revision"),
        "{said}"
    );

    std::fs::remove_file(Paths::of(&pair.standby.state).left()).unwrap();
    pair.standby.start();
    assert_eq!(pair.standby.wait_until_ended().await, Some(5), "{}", pair.standby.log());
    std::fs::remove_file(Paths::of(&pair.standby.state).left()).ok();
    let (code, said) = manager_says("leave", &pair.standby);
    assert!(code == Some(0) && said.contains("was removed before"), "{said}");
    let (code, said) = manager_says("run", &pair.standby);
    assert!(code == Some(5) && said.contains("is out of the registry: it was removed"), "{said}");
}

/// Protects: a primary that is stopped waits a little for its standbys to say that they hold what it has written, and tells
/// whoever made the edit; for one that stays silent it does not wait.
#[tokio::test]
async fn a_primary_that_is_stopped_tells_what_became_of_the_edits_it_took() {
    'next: for comes_back in [false, true] {
        // On a slow machine a standby, or whoever is told, takes longer now and then than a primary waits that stops.
        for _ in 0..5 {
            match stopped_with_an_edit_at_hand(comes_back).await {
                Ok(_) if comes_back => continue 'next,
                Err(CallError::Failed(told)) if !comes_back => {
                    assert_eq!(told.error, "outcome-unknown");
                    continue 'next;
                }
                nothing => assert_eq!(nothing.unwrap_err().failure().class, FailureClass::Unknown),
            }
        }
        panic!("nothing was told, where the standby comes back: {comes_back}");
    }
}

/// What is told of an edit that a standby had not got when the primary was stopped. It gets it only if it `comes_back`.
async fn stopped_with_an_edit_at_hand(comes_back: bool) -> Result<EditAnswer, CallError> {
    let mut pair = Pair::running().await;
    let console = pair.console(&pair.primary).await;
    pair.standby.stand_still().await;
    let edit = tokio::spawn(async move { console.edit(host("late"), false).await });
    let written = "echelon_manager_entries_uncommitted 1\n";
    wait_for("it to be written", async || pair.primary.body("/metrics").await.contains(written)).await;
    pair.primary.signal("-TERM");
    if comes_back {
        pair.standby.signal("-CONT");
    }
    assert_eq!(pair.primary.wait_until_ended().await, Some(0), "{}", pair.primary.log());
    edit.await.unwrap()
}

/// A token for a registry manager, which may be one that this host joins with again.
async fn manager_token(console: &ManagerClient, trust: &TrustBundle, again: Option<HostName>) -> String {
    let made = JoinToken::generate(trust.root_hash()).unwrap();
    let token = Token {
        id: made.id,
        secret_hash: made.secret.hash(),
        access: Access::Manager,
        replace: again.is_some(),
        host: again,
        domain: DomainId::ROOT,
        allow_types: Default::default(),
        expires: unix_now() + Duration::from_secs(600),
        uses_left: 1,
    };
    let create = Change::CreateToken { token, domain: "/".parse().unwrap() };
    console.edit(set(create), false).await.unwrap();
    made.expose().to_string()
}

/// Protects: the root key leaves its host sealed, and comes back; without it nobody joins, and one is told what helps;
/// whoever has left joins anew in the same directory.
#[tokio::test]
async fn the_root_key_is_exported_and_imported_and_a_manager_joins_leaves_and_joins_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut hub, mut spare) = (Node::at(dir.path().join("hub")), Node::at(dir.path().join("spare")));
    let (code, said) =
        manager_says(&format!("init --framework test --name hub --listen {}", hub.listen), &hub);
    assert!(code == Some(0) && said.contains("root export FILE --passphrase-file PASSPHRASE"), "{said}");
    hub.start();
    hub.wait_until_ready().await;
    let alarm = "root-not-exported";
    wait_for("the alarm", async || hub.body("/alarms").await.contains(alarm)).await;

    let file = |name: &str| dir.path().join(name).display().to_string();
    let secret = |name: &str, text: &str| file::write(&dir.path().join(name), text, file::SECRET).unwrap();
    secret("passphrase", "correct horse\n");
    secret("wrong", "another horse\n");
    let root = |verb: &str, passphrase: &str| {
        format!("root {verb} {} --passphrase-file {}", file("sealed"), file(passphrase))
    };
    let (code, said) = manager_says(&root("export", "passphrase"), &hub);
    assert!(code == Some(0) && said.contains("Exported the root key"), "{said}");
    let sealed = std::fs::read_to_string(file("sealed")).unwrap();
    file::read_secret(&dir.path().join("sealed")).unwrap();
    assert!(!sealed.contains("PRIVATE KEY"), "{sealed}");
    let (code, said) = manager_says(&root("export", "passphrase"), &hub);
    assert!(code == Some(1) && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read_to_string(file("sealed")).unwrap(), sealed);
    wait_for("the alarm to end", async || !hub.body("/alarms").await.contains(alarm)).await;

    let paths = Paths::of(&hub.state);
    let kept = std::fs::read_to_string(paths.root()).unwrap();
    std::fs::remove_file(paths.root()).unwrap();
    let identity = IdentityDirectory::open(&paths.console()).unwrap();
    // Made anew each time: commands that take seconds hold this thread up, and with it the signs of life.
    let console = async || ManagerClient::connect(&identity, &[hub.listen.into()]).await.unwrap();
    let trust = identity.load_trust().unwrap();
    let token = manager_token(&console().await, &trust, None).await;
    let join = format!("join --manager {} --name spare --listen {}", hub.listen, spare.listen);
    let (code, said) = says(&join, &spare, &token);
    assert!(code == Some(3) && said.contains("registry-manager root import FILE"), "{said}");

    std::fs::set_permissions(file("passphrase"), PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = manager_says(&root("import", "passphrase"), &hub);
    assert!(code == Some(1) && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(file("passphrase"), PermissionsExt::from_mode(0o600)).unwrap();
    let (code, said) = manager_says(&root("import", "wrong"), &hub);
    assert!(code == Some(1) && said.contains("the passphrase does not open it"), "{said}");
    assert!(!paths.root().exists());
    let stranger = Node::at(dir.path().join("stranger"));
    manager_says(&format!("init --framework other --name hub --listen {}", stranger.listen), &stranger);
    let (code, said) = manager_says(&root("import", "passphrase"), &stranger);
    assert!(code == Some(1) && said.contains("none that this registry trusts"), "{said}");
    let (code, said) = manager_says(&root("import", "passphrase"), &hub);
    assert!(code == Some(0) && said.contains("managers can join"), "{said}");
    assert_eq!(std::fs::read_to_string(paths.root()).unwrap(), kept);

    let (code, said) = says(&join, &spare, &token);
    assert!(code == Some(0) && said.contains("Joined the registry of test"), "{said}");
    let (code, said) = manager_says("leave", &spare);
    assert!(code == Some(0) && said.contains("spare has left"), "{said}");
    let token = manager_token(&console().await, &trust, Some("spare".parse().unwrap())).await;
    let (code, said) = says(&join, &spare, &token);
    assert!(code == Some(0) && said.contains("Joined the registry of test"), "{said}");

    // What a try kept that was cut off: right before its end, and before it had the copy, two days ago.
    let identity = IdentityDirectory::open(&Paths::of(&spare.state).identity()).unwrap();
    let (kept, text) =
        (identity.load_credentials().unwrap(), file::read_secret(&Paths::of(&spare.state).issuer()).unwrap());
    let issuer = Issuer::from_credentials(Credentials::from_pem(&text).unwrap()).unwrap();
    let (peer, made) = (kept.peer().unwrap(), unix_now().0 - 2 * 24 * 3_600_000);
    let leaf = Leaf {
        subject: &peer.subject,
        name: "spare",
        enrolment: peer.enrolment,
        lifetime: lifetime::MANAGER,
    };
    let chain = issuer.issue(&leaf, &kept.key().public_key(), UnixMillis(made)).unwrap();
    identity.save_credentials(&Credentials::new(kept.key().clone(), chain).unwrap()).unwrap();
    let (wish, registry) = (spare.state.join("joining.json"), Paths::of(&spare.state).registry());
    for (has_copy, told) in
        [(true, "holds the registry of test already"), (false, "Joined the registry of test")]
    {
        std::fs::write(&wish, "{}").unwrap();
        if !has_copy {
            std::fs::remove_file(&registry).unwrap();
        }
        let (code, said) = says(&join, &spare, &token);
        assert!(code == Some(0) && said.contains(told), "{said}");
        assert!(!wish.exists(), "its keys are left behind");
    }
    spare.start();
    spare.wait_until_ready().await;
    let hubs = console().await;
    wait_for("the standby to count", async || rule(&hubs).await.members.len() == 1).await;

    // Asked of a standby, the primary lets it in.
    let mut third = Node::at(dir.path().join("third"));
    let token = manager_token(&hubs, &trust, None).await;
    let join = format!("join --manager {} --name third --listen {}", spare.listen, third.listen);
    let aside = hub.state.join("kept.pem");
    std::fs::rename(paths.root(), &aside).unwrap();
    let (code, said) = says(&join, &third, &token);
    assert!(code == Some(3) && said.contains(&paths.root().display().to_string()), "{said}");
    std::fs::rename(&aside, paths.root()).unwrap();
    let (code, said) = says(&join, &third, &token);
    assert!(code == Some(0) && said.contains("Joined the registry of test"), "{said}");
    third.start();
    third.wait_until_ready().await;
    drop(hubs);
    hub.kill();
    let fourth = Node::at(dir.path().join("fourth"));
    let join = format!("join --manager {} --name fourth --listen {}", spare.listen, fourth.listen);
    let mut said = (None, String::new());
    wait_for("a refusal that names the primary", async || {
        said = says(&join, &fourth, &token);
        said.0 == Some(4)
    })
    .await;
    assert!(said.1.contains("the primary hub has been silent for"), "{}", said.1);
    assert!(said.1.contains("echelon promote spare --force"), "{}", said.1);
}
