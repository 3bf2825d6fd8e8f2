//! Registry managers that come back with an older state, or with another one: after a long time, after a restore, with
//! a state directory that was set back.

use crate::backup::passphrase;
use crate::managers::{
    CLIENTS, EDITS, assert_nothing_lost, force_when_silent, primary, wait_for_host, wait_for_primary,
    wait_for_revision,
};
use crate::restore::restore;
use echelon_core::grant::{Basis, Grant, GrantId, Parent};
use echelon_core::time::UnixMillis;
use echelon_identity::proof::prove_grant;
use echelon_identity::{Credentials, IdentityDirectory, Issuer, Leaf, file, lifetime};
use echelon_store::RegistryStore;
use echelon_tests::http::get_tcp;
use echelon_tests::shape::Shape;
use echelon_tests::testimony::{Entry, Violation};
use echelon_tests::{Agent, Answer, Cluster, Manager, Sandbox, Writers, wait_for, wait_until};
use registry_manager::paths::Paths;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How long ago the certificate of a manager ran out that was away for a long time.
const AWAY: Duration = Duration::from_secs(90 * 24 * 3600);

/// Names of the hosts that these edits made.
fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().flat_map(|entry| &entry.names).map(String::as_str).collect()
}

/// Whether a manager raises an alarm of this name.
pub(crate) fn alarm(cluster: &Cluster<'_>, at: usize, name: &str) -> Result<(), String> {
    let alarms = cluster.console_at(at).objects("alarm list");
    alarms.iter().any(|alarm| alarm["name"] == name).then_some(()).ok_or(format!("{alarms:?}"))
}

/// Hands over to a manager, as soon as that can be.
fn hand_over(cluster: &Cluster<'_>, at: usize, to: &str) {
    wait_for(&format!("{to} to be promoted"), || {
        let answer = cluster.console_at(at).run(&format!("promote {to}"));
        if answer.code == 0 { Ok(()) } else { Err(answer) }
    });
}

/// Has the manager of this state directory hold a certificate that ran out long ago, as if it had been away.
fn age(state: &Path) {
    let paths = Paths::of(state);
    let identity = IdentityDirectory::open(&paths.identity()).unwrap();
    let now = identity.load_credentials().unwrap();
    let peer = now.peer().unwrap();
    let issuer = Credentials::from_pem(&file::read_secret(&paths.issuer()).unwrap()).unwrap();
    let leaf =
        Leaf { subject: &peer.subject, name: "hub", enrolment: peer.enrolment, lifetime: lifetime::MANAGER };
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let then = UnixMillis(u64::try_from((today - AWAY).as_millis()).unwrap());
    let chain =
        Issuer::from_credentials(issuer).unwrap().issue(&leaf, &now.key().public_key(), then).unwrap();
    identity.save_credentials(&Credentials::new(now.key().clone(), chain).unwrap()).unwrap();
}

/// The old primary was killed with an edit that nobody else has. It comes back after months: its certificate has run
/// out, there were several other primaries, and hundreds of edits. It fences itself, keeps its edit aside, follows,
/// counts again, and can become the primary again; and the edit can be made once more.
#[test]
fn an_old_primary_comes_back_after_a_long_time() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    cluster.edit(0, "before");
    [1, 2].into_iter().for_each(|at| cluster[at].pause());
    let lost = cluster.console_at(0).command(["host", "add", "only-here", "--domain", "/"]);
    let lost = std::thread::spawn(move || Answer::of(lost));
    let metrics = cluster[0].http();
    wait_for("the edit to be written", || {
        let body = get_tcp(metrics, "/metrics").map_err(|e| e.to_string())?.body;
        let written = body.lines().any(|line| line == "echelon_manager_entries_uncommitted 1");
        written.then_some(()).ok_or(body)
    });
    // What is on its way to those that stand still ends with them.
    (0..cluster.len()).for_each(|at| cluster[at].kill9());
    [1, 2].into_iter().for_each(|at| cluster[at].start());
    force_when_silent(&cluster, 1, 1, "");
    let writers = Writers::start(&cluster, &[1, 2], CLIENTS);
    for to in ["spare2", "spare1", "spare2", "spare1"] {
        writers.wait_for_more(EDITS);
        hand_over(&cluster, 1, to);
    }
    writers.wait_for_more(EDITS * 3);
    let told = writers.stop();
    age(cluster[0].state());

    cluster[0].start();
    wait_for_primary(&cluster, "spare1");
    cluster.wait_counts(1, "hub");
    assert!(cluster[0].accepts_edits().is_err());
    assert_ne!(lost.join().unwrap().code, 0, "nobody else had it");
    let mut testimony = cluster.testimony(told);
    testimony.lost = cluster.lost(2);
    assert_eq!(names(&testimony.lost), ["only-here"]);
    assert_eq!(testimony.judge(), Ok::<_, Violation>(0));
    wait_for("the alarm of what is kept", || alarm(&cluster, 0, "surplus"));
    hand_over(&cluster, 2, "hub");
    cluster.wait_accepts(0);
    cluster.console_at(1).ok("edits lost --apply");
    assert!(cluster.console_at(0).ok("host list").contains("only-here"));
}

/// The first manager's machine is gone. A standby is promoted; somebody else, who does not know that, restores the
/// backup of last night on a new machine. Both accept edits. Once they meet there is a conflict, which both say and
/// neither ends by itself; agents stay with what they adopted first. The restored lineage is chosen: everybody
/// follows, and what was acknowledged since the backup is listed as lost.
#[test]
fn a_backup_restored_beside_the_living_is_a_conflict_until_one_is_chosen() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    let mut agent = Agent::enrolled(&cluster[0], "h");
    agent.start_ready();
    cluster.edit(0, "before");
    let (file, secret) =
        (sandbox.path("acme.tar"), passphrase(&sandbox, "passphrase", "correct horse battery"));
    let line = format!("backup {} --passphrase-file {}", file.display(), secret.display());
    cluster.console_at(0).ok(&line);
    cluster.edit(0, "since-the-backup");
    cluster[0].kill9();
    force_when_silent(&cluster, 1, 1, "");
    wait_for_host(&agent, &cluster.edit(1, "promoted")["revision"]);

    fs::remove_dir_all(cluster[0].state()).unwrap();
    cluster[0] = Manager::in_directory(&sandbox, "new-machine", cluster[0].listen());
    let restored = restore(&cluster[0], &file, Some(&secret));
    assert_eq!(restored.code, 0, "{restored:?}");
    cluster[0].start();
    for at in [0, 1] {
        wait_for("the conflict to be noticed", || alarm(&cluster, at, "conflict"));
        cluster.wait_accepts(at);
    }
    cluster.edit(0, "restored");
    // Domains are numbered as they are made: these two have one number.
    cluster.console_at(0).ok("domain add /of-the-restored");
    cluster.console_at(1).ok("domain add /of-the-promoted");
    cluster.console_at(1).ok("host add placed --domain /of-the-promoted");
    assert_eq!(primary(&cluster, 0).as_deref(), Ok("hub"));
    assert_eq!(primary(&cluster, 1).as_deref(), Ok("spare1"));
    let has = |at: usize, host: &str| cluster.console_at(at).ok("host list").contains(host);
    assert!(has(1, "promoted") && !has(0, "promoted") && has(0, "restored") && !has(1, "restored"));
    let held = agent.get("/v1/status").unwrap().json();
    let newest = newest_lineage(&cluster, 1);
    assert_eq!(held["lineage"].as_str(), Some(newest.as_str()), "the agent stays where it was");

    let chosen = newest_lineage(&cluster, 0);
    let shape = Shape::load("lineages-side");
    for at in [0, 1] {
        let shown = cluster.console_at(at).ok("lineage show");
        assert!(shown.contains("2 lineages are in conflict") && shown.contains("history --since"), "{shown}");
        assert!(shown.contains(&format!("lineage choose {chosen} --reason TEXT --dry-run")), "{shown}");
        let heads = cluster.console_at(at).objects("lineage show").into_iter();
        let heads: Vec<_> = heads.filter(|grant| grant.get("held").is_some()).collect();
        assert_eq!(heads.len(), 2, "{heads:?}");
        assert!(heads.iter().all(|grant| grant["held"]["managers"].as_array().is_some_and(|m| m.len() == 1)));
        shape.check_all(heads.iter().map(|grant| &grant["held"]));
        let tried =
            cluster.console_at(at).object(&format!("lineage choose {chosen} --reason test --dry-run"));
        shape.check_all(tried["given_up"].as_array().unwrap());
        // What each of the two holds and the other lacks is said before anything is given up, by whomever one asks.
        let lost = cluster.console_at(at).ok(&format!("lineage choose {chosen} --reason test --dry-run"));
        for given_up in ["since-the-backup", "promoted", "/of-the-promoted", "+ host placed", "4 edits"] {
            assert!(lost.contains(given_up), "{given_up}: {lost}");
        }
        assert!(!lost.contains("of-the-restored"), "{lost}");
        let other = cluster.console_at(at).ok(&format!("lineage choose {newest} --reason test --dry-run"));
        assert!(other.contains("+ host restored") && other.contains("+ domain /of-the-restored"), "{other}");
        assert!(!other.contains("placed"), "{other}");
    }
    shape.finish();
    cluster.console_at(0).ok(&format!("lineage choose {chosen} --reason test --yes acme"));
    wait_for_primary(&cluster, "hub");
    cluster.wait_counts(0, "spare1");
    wait_for_host(&agent, &cluster.edit(1, "together")["revision"]);
    wait_until("the agent to go by what was chosen", || {
        agent.get("/v1/status").unwrap().json()["lineage"].as_str() == Some(chosen.as_str())
    });
    let testimony = cluster.testimony(Default::default());
    assert_eq!(testimony.judge(), Ok::<_, Violation>(0));
    let kept = names(&testimony.histories["spare1"]);
    assert!(["before", "restored", "together"].iter().all(|name| kept.contains(name)), "{kept:?}");
    let lost = cluster.lost(1);
    assert_eq!(names(&lost), ["since-the-backup", "promoted", "placed"]);
    let told = cluster.console_at(1).ok("edits lost");
    assert!(told.contains("+ host placed  domain /of-the-promoted"), "{told}");
    cluster.console_at(1).ok("edits lost --apply");
    let placed = cluster.console_at(1).object("host show placed");
    assert_eq!(placed["domain"], "/of-the-promoted", "{placed}");
    for at in [0, 1] {
        wait_until("no conflict", || alarm(&cluster, at, "conflict").is_err());
    }
}

/// Has the manager of this state directory, which does not run, hand over to itself so many times: as often as others
/// hand over to each other and back for their patches.
fn hand_over_offline(state: &Path, times: usize) {
    let paths = Paths::of(state);
    let signer = IdentityDirectory::open(&paths.identity()).unwrap().load_credentials().unwrap();
    let mut store = RegistryStore::open(&paths.registry()).unwrap();
    let mark = store.head();
    let chain = (0..times).fold(store.grants().clone(), |chain, _| {
        let before = chain.head();
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let grant = Grant {
            id: GrantId { epoch: before.id.epoch + 1, ..before.id },
            parent: Some(Parent { grant: before.id, mark }),
            basis: Basis::Handover,
            at: UnixMillis(u64::try_from(today.as_millis()).unwrap()),
            ..before.clone()
        };
        chain.extended(prove_grant(&signer, &grant).unwrap()).unwrap()
    });
    store.adopt(&chain, None).unwrap();
    store.close().unwrap();
}

/// A thousand promotions, as a framework has in twenty years that patches its managers each week. A standby and an agent
/// were off for all of them, and follow; another host enrols, and learns of all of them; the primary still changes.
#[test]
fn whoever_was_away_for_a_thousand_promotions_follows_them_all() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    let mut old = Agent::enrolled(&cluster[0], "old");
    old.start_ready();
    wait_for_host(&old, &cluster.edit(0, "before")["revision"]);
    old.terminate();
    for at in [0, 1] {
        cluster[at].terminate();
    }
    hand_over_offline(cluster[0].state(), 1_000);
    [0, 1].into_iter().for_each(|at| cluster[at].start());
    cluster.wait_accepts(0);
    cluster.wait_counts(0, "spare1");
    let written = cluster.edit(1, "after")["revision"].clone();
    let grants = |agent: &Agent<'_>| agent.get("/v1/status").unwrap().json()["grants"]["count"].clone();
    old.start();
    wait_for_host(&old, &written);
    let count = cluster.console_at(1).objects("lineage show").len();
    assert!(count > 1_000 && grants(&old) == count, "{count} grants, the agent knows {}", grants(&old));
    hand_over(&cluster, 1, "spare1");
    let mut new = Agent::enrolled(&cluster[0], "new");
    new.start_ready();
    let written = cluster.edit(0, "later")["revision"].clone();
    for agent in [&old, &new] {
        wait_for_host(agent, &written);
        assert_eq!(grants(agent), count + 1);
    }
}

/// The lineage that a manager goes by.
fn newest_lineage(cluster: &Cluster<'_>, at: usize) -> String {
    let grants = cluster.console_at(at).objects("lineage show");
    let newest = grants.iter().find(|grant| grant["state"] == "newest").unwrap();
    newest["lineage"].as_str().unwrap().to_owned()
}

/// Sets a manager's state directory back, as a machine's snapshot does, to what it was before `act`. It runs before and
/// after, and meanwhile.
fn set_back(cluster: &mut Cluster<'_>, sandbox: &Sandbox, at: usize, act: impl FnOnce(&mut Cluster<'_>)) {
    let (state, saved) = (cluster[at].state().to_owned(), sandbox.path(&format!("saved-{at}")));
    cluster[at].terminate();
    assert!(Command::new("cp").arg("-a").args([&state, &saved]).status().unwrap().success());
    cluster[at].start();
    act(cluster);
    cluster[at].kill9();
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&saved, &state).unwrap();
    cluster[at].start();
}

/// A standby that was set back gets again what it has lost, and nobody need care. A primary that was set back sees by
/// what its standbys have that it has lost edits: it accepts none, says so, and is replaced although it answers; then
/// it follows. Nothing that was acknowledged is lost.
#[test]
fn a_manager_that_was_set_back_costs_nothing_while_others_live() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    set_back(&mut cluster, &sandbox, 1, |cluster| {
        let level = cluster.edit(0, "one");
        wait_for_revision(cluster, 1, &level["revision"]);
    });
    let level = cluster.edit(0, "two");
    wait_for_revision(&cluster, 1, &level["revision"]);
    assert!(alarm(&cluster, 1, "rolled-back").is_err());

    let mut acknowledged = None;
    set_back(&mut cluster, &sandbox, 0, |cluster| {
        cluster.wait_accepts(0);
        let writers = Writers::start(cluster, &[0, 1, 2], CLIENTS);
        writers.wait_for_more(EDITS);
        acknowledged = Some(writers.stop());
    });
    wait_for("the alarm", || alarm(&cluster, 0, "rolled-back"));
    let refused = cluster.console_at(0).fails(4, "host add nobody --domain / --output json").error();
    assert_eq!(refused["error"], "rolled-back", "{refused}");
    assert!(refused["remedy"].as_str().unwrap().contains("echelon promote"), "{refused}");
    let promoted = cluster.force(0, 1, "");
    assert_eq!(promoted.code, 0, "{promoted:?}");
    wait_for_primary(&cluster, "spare1");
    cluster.wait_counts(1, "hub");
    cluster.edit(0, "three");
    let told = acknowledged.unwrap();
    assert_nothing_lost(&cluster, told);
    wait_until("no alarm", || alarm(&cluster, 0, "rolled-back").is_err());
    let hosts = cluster.console_at(0).ok("host list");
    assert!(["one", "two", "three"].iter().all(|host| hosts.contains(host)), "{hosts}");
}
