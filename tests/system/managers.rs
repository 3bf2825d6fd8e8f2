//! Several registry managers: what the loss, the pause and the return of a primary do to edits, and to agents.

use crate::shapes::Compared;
use echelon_tests::http::get_tcp;
use echelon_tests::testimony::Violation;
use echelon_tests::writers::Told;
use echelon_tests::{Agent, Answer, Cluster, Sandbox, Writers, wait_for, wait_until, wait_within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Clients that edit at once.
pub(crate) const CLIENTS: usize = 4;

/// Edits between two faults.
pub(crate) const EDITS: usize = 40;

/// What the managers and the clients say goes together, and nothing that was acknowledged is lost.
#[track_caller]
pub(crate) fn assert_nothing_lost(cluster: &Cluster<'_>, told: Told) {
    let acknowledged = told.acknowledged();
    let testimony = cluster.testimony(told);
    assert_eq!(testimony.judge(), Ok::<_, Violation>(0));
    assert!(testimony.kept() >= acknowledged, "acknowledged edits are in the history");
}

/// Life of hosts' certificates where one is renewed; the shortest that a manager gives out.
const LIFE: Duration = Duration::from_secs(10);

/// How long a primary stands still.
const STILL: Duration = Duration::from_secs(30);

/// Larger than a new registry, and smaller than one after some hundred edits.
const FULL_KIB: u32 = 1024;

/// Who the manager at this address says is the primary.
pub(crate) fn primary(cluster: &Cluster<'_>, at: usize) -> Result<String, String> {
    let answer = cluster.console_at(at).run("manager list --output json");
    let managers = answer.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut primaries = managers.filter(|manager| manager["role"] == "primary");
    let host = primaries.next().and_then(|manager| manager["host"].as_str().map(ToOwned::to_owned));
    host.ok_or(format!("{answer:?}"))
}

/// Waits until every manager that runs follows this one.
#[track_caller]
pub(crate) fn wait_for_primary(cluster: &Cluster<'_>, host: &str) {
    for at in (0..cluster.len()).filter(|at| cluster[*at].is_started()) {
        wait_for("all managers to know the primary", || match primary(cluster, at)? {
            primary if primary == host => Ok(()),
            other => Err(format!("{at} says {other}")),
        });
    }
}

/// Promotes a manager by force as soon as the old primary is found silent, by a console that knows nobody but `at`.
#[track_caller]
pub(crate) fn force_when_silent(cluster: &Cluster<'_>, at: usize, to: usize, more: &str) -> Value {
    wait_for("the old primary to be found silent", || {
        let answer = cluster.force(at, to, more);
        match answer.code {
            0 => Ok(serde_json::from_str(&answer.out).unwrap()),
            _ => Err(answer),
        }
    })
}

/// Waits until the agent has come as far as this revision.
#[track_caller]
pub(crate) fn wait_for_host(agent: &Agent<'_>, revision: &Value) {
    wait_for("the agent to follow", || {
        let status = agent.get("/v1/status").map_err(|e| e.to_string())?.json();
        let at = status["revision"].as_u64();
        (at >= revision.as_u64()).then_some(()).ok_or(status.to_string())
    });
}

/// The primary is killed while clients edit through every manager. A console that knows nobody but a standby promotes
/// that: nothing that was acknowledged is lost, edits whose outcome was unknown are repeated and done once, and the
/// agents follow. The old primary comes back with its grant of before, is fenced and follows by itself. Then every
/// manager dies: routes go on being answered, and what was acknowledged is there when the managers are back.
#[test]
fn a_killed_primary_is_replaced_and_follows_when_it_is_back() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    let mut agent = Agent::enrolled(&cluster[0], "h");
    agent.start_ready();
    let writers = Writers::start(&cluster, &[0, 1, 2], CLIENTS);
    writers.wait_for_more(EDITS);
    cluster[0].kill9();
    let promoted = force_when_silent(&cluster, 1, 1, "");
    assert_eq!((&promoted["to"], &promoted["way"]), (&"spare1".into(), &"forced".into()), "{promoted}");
    writers.wait_for_more(EDITS);
    cluster[0].start();
    writers.wait_for_more(EDITS);
    assert_nothing_lost(&cluster, writers.stop());
    wait_for_primary(&cluster, "spare1");
    assert!(cluster[0].accepts_edits().is_err(), "it has been replaced");
    cluster.wait_counts(1, "hub");
    wait_for_host(&agent, &cluster.edit(0, "through-the-old-one")["revision"]);

    (0..cluster.len()).for_each(|at| cluster[at].kill9());
    let refused = cluster.console_at(1).fails(4, "host add nobody --domain / --output json").error();
    assert_eq!(refused["error"], "unreachable", "{refused}");
    assert_eq!(agent.get("/v1/routes/registry").unwrap().status, 200);
    agent.kill9();
    agent.start_ready();
    assert_eq!(agent.get("/v1/routes/registry").unwrap().status, 200, "from the replica on its disk");
    (0..cluster.len()).for_each(|at| cluster[at].start());
    cluster.wait_accepts(1);
    wait_for_host(&agent, &cluster.edit(2, "after-the-night")["revision"]);
    assert_eq!(primary(&cluster, 0).as_deref(), Ok("spare1"));
}

/// The primary hands over while clients edit through every manager, and back again: nothing is lost or refused for
/// good, and the pause is said.
#[test]
fn a_primary_that_hands_over_loses_nothing() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::running(&sandbox, 1);
    let writers = Writers::start(&cluster, &[0, 1], CLIENTS);
    for (at, to) in [(0, "spare1"), (0, "hub"), (1, "spare1")] {
        writers.wait_for_more(EDITS);
        let promoted = wait_for(&format!("{to} to be promoted"), || {
            let answer = cluster.console_at(at).run(&format!("promote {to} --output json"));
            match answer.code {
                0 => Ok(serde_json::from_str::<Value>(&answer.out).unwrap()),
                _ => Err(answer),
            }
        });
        assert_eq!((&promoted["to"], &promoted["way"]), (&to.into(), &"planned".into()), "{promoted}");
        assert!(promoted["pause_ms"].is_u64(), "{promoted}");
        println!("planned promotion of {to}: no edit accepted for {} ms", promoted["pause_ms"]);
    }
    writers.wait_for_more(EDITS);
    let told = writers.stop();
    println!("longest time without an acknowledged edit: {:?}", told.longest_pause());
    assert_nothing_lost(&cluster, told);
    wait_for_primary(&cluster, "spare1");
}

/// A primary that stands still is replaced. Half a minute later, when every connection to it has been given up, it goes on
/// with edits at hand that nobody else has, and with clients that have been waiting for it all the while: it acknowledges
/// none of those edits, and what it lets anybody read is of the history.
#[test]
fn a_primary_that_stood_still_acknowledges_nothing_afterwards() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    let writers = Writers::start(&cluster, &[0, 1, 2], CLIENTS);
    writers.wait_for_more(EDITS);
    cluster[0].pause();
    let began = Instant::now();
    force_when_silent(&cluster, 1, 1, "");
    writers.wait_for_more(EDITS);
    let mut told = writers.stop();
    let loyal = Writers::start(&cluster, &[0], 2);
    wait_within(STILL * 2, "half a minute", || if began.elapsed() > STILL { Ok(()) } else { Err(began) });
    assert_eq!(loyal.acknowledged(), 0);
    cluster[0].resume();
    loyal.wait_for_more(EDITS);
    told.add(loyal.stop());
    assert_nothing_lost(&cluster, told);
    wait_for_primary(&cluster, "spare1");
}

/// An edit whose outcome was unknown when its primary died is repeated as printed, at the new one: it is done, once.
#[test]
fn the_new_primary_tells_what_became_of_an_unknown_edit() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    // The standby passes it on to a primary that stands still, unless that was not heard for a moment already.
    let error = wait_for("an edit of which nobody knows", || {
        cluster[0].pause();
        let answer = cluster.console_at(1).run("host add h --domain / --output json");
        match answer.code {
            6 => Ok(answer.error()),
            4 => {
                cluster[0].resume();
                cluster.wait_accepts(0);
                Err(answer)
            }
            _ => panic!("a primary that stands still answers nothing: {answer:?}"),
        }
    });
    cluster[0].kill9();
    force_when_silent(&cluster, 1, 1, "");
    let (_, again) = error["remedy"].as_str().unwrap().split_once(": ").unwrap();
    let repeat = || {
        let mut shell = Command::new("sh");
        let answer = Answer::of(shell.args(["-c", again]));
        assert_eq!(answer.code, 0, "{again}: {answer:?}");
        serde_json::from_str::<Value>(&answer.out).unwrap()
    };
    let (first, second) = (repeat(), repeat());
    assert_eq!(second["repeated"], true);
    assert_eq!(first["revision"], second["revision"]);
    assert_eq!(
        cluster.console_at(1).objects("host list").iter().filter(|host| host["name"] == "h").count(),
        1
    );
}

/// A standby that was off while edits were acknowledged is not promoted: with it alone they would be lost. With
/// `--accept-loss` it is, and exactly they are listed as lost once the others are back.
#[test]
fn a_standby_that_lags_is_promoted_only_with_its_loss_accepted_and_listed() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    cluster.edit(0, "before");
    wait_for_revision(&cluster, 2, &cluster.edit(0, "level")["revision"]);
    cluster[2].kill9();
    let writers = Writers::start(&cluster, &[0, 1], CLIENTS);
    writers.wait_for_more(EDITS);
    let told = writers.stop();
    let acknowledged = told.acknowledged();
    let committed = cluster.history(0).unwrap().last().unwrap().at.revision;
    cluster[0].kill9();
    cluster[1].kill9();
    cluster[2].start();
    let refused = wait_for("a refusal for the loss", || {
        let answer = cluster.force(2, 2, "");
        (answer.code == 3).then(|| answer.error()).ok_or(answer)
    });
    assert!(refused["remedy"].as_str().unwrap().contains("--accept-loss"), "{refused}");
    assert_eq!(primary(&cluster, 2).as_deref(), Ok("hub"), "nothing has changed");
    let trials = ["", "--accept-loss"].map(|more| {
        let trial = cluster.force(2, 2, &format!("--dry-run {more}"));
        serde_json::from_str(&trial.out).unwrap_or_else(|e| panic!("{e}: {trial:?}"))
    });

    let promoted = force_when_silent(&cluster, 2, 2, "--accept-loss");
    let kept = promoted["before"]["revision"].as_u64().unwrap();
    cluster[0].start();
    cluster[1].start();
    wait_for_primary(&cluster, "spare2");
    cluster.wait_accepts(2);
    let mut testimony = cluster.testimony(told);
    testimony.lost = cluster.lost(2);
    assert_eq!(testimony.judge(), Ok::<_, Violation>(acknowledged), "each is listed");
    assert_eq!(testimony.lost.len() as u64, committed - kept, "and nothing else");

    let compared = Compared::default();
    compared.all("managers-evidence", &trials);
    compared.one("managers-promoted", promoted);
    compared.all("managers-lost", &cluster.console_at(2).objects("edits lost"));
    compared.all("managers-list", &cluster.console_at(2).objects("manager list"));
    compared.one("managers-show", cluster.console_at(2).object("manager show hub"));
    compared.all("managers-lineage", &cluster.console_at(2).objects("lineage show"));
    let backup = sandbox.path("backup").display().to_string();
    compared.one("managers-backup", cluster.console_at(2).object(&format!("backup {backup}")));

    // An admin says that they are dealt with: they are kept, and no alarm of them is.
    let console = cluster.console_at(2);
    for host in ["hub", "spare1"] {
        let dismissed = console.object(&format!("edits lost --dismiss {host}"));
        assert!(dismissed["dismissed"].as_u64() > Some(0), "{dismissed}");
        compared.one("managers-dismissed", dismissed);
        assert_eq!(console.object(&format!("edits lost --dismiss {host}"))["dismissed"], 0);
    }
    assert_eq!(cluster.lost(2), []);
    let kept = console.objects("edits lost --all");
    assert_eq!(kept.len(), testimony.lost.len());
    assert!(kept.iter().all(|edit| edit["dismissed_by"] == "admin"), "{kept:?}");
    for at in [0, 1] {
        wait_for("the alarm to end", || {
            let alarms = cluster.console_at(at).objects("alarm list");
            (!alarms.iter().any(|alarm| alarm["name"] == "surplus")).then_some(()).ok_or(alarms)
        });
    }
    compared.finish(|name| name.starts_with("managers-"));
}

/// Waits until a manager has this revision.
#[track_caller]
pub(crate) fn wait_for_revision(cluster: &Cluster<'_>, at: usize, revision: &Value) {
    wait_for("a manager to be level", || {
        let status = cluster.console_at(at).object("status");
        (status["revision"].as_u64() >= revision.as_u64()).then_some(()).ok_or(status)
    });
}

/// The first manager's disk is gone for good. The standby is promoted, and does what the first one did: it renews the
/// certificates that the first one signed, and enrols hosts.
#[test]
fn a_standby_takes_over_for_good_from_a_manager_whose_disk_is_gone() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    for at in [0, 1] {
        cluster[at].configure(&format!("host_certificates = \"{}s\"", LIFE.as_secs()));
    }
    cluster[0].terminate();
    cluster[0].start();
    cluster[1].terminate();
    cluster[1].start();
    cluster.wait_accepts(0);
    let mut old = Agent::enrolled(&cluster[0], "old");
    old.start_ready();
    cluster[0].kill9();
    std::fs::remove_dir_all(cluster[0].state()).unwrap();
    force_when_silent(&cluster, 1, 1, "");
    let begin = Instant::now();
    let edited = cluster.edit(1, "made");
    wait_for_host(&old, &edited["revision"]);

    let token = cluster.console_at(1).ok("token create --host new").trim().to_owned();
    let mut new = Agent::new(&sandbox, "new");
    let enrolled = new.enroll(cluster[1].listen(), &token, "");
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    new.start_ready();
    let identity = old.identity().join("identity.pem");
    let first = std::fs::read_to_string(&identity).unwrap();
    wait_for("a renewed certificate", || {
        let renewed = std::fs::read_to_string(&identity).unwrap() != first;
        (renewed && begin.elapsed() > LIFE).then_some(()).ok_or("not renewed")
    });
    wait_for_host(&old, &cluster.edit(1, "later")["revision"]);
}

/// A standby whose disk takes no more says of nothing that it is durable that is not, and another standby serves in its
/// place; a primary whose disk takes no more acknowledges nothing. With room again both go on.
#[test]
fn a_full_disk_at_a_standby_or_the_primary_loses_nothing() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    let writers = Writers::start(&cluster, &[0, 1, 2], CLIENTS);
    for at in [1, 0] {
        cluster[at].terminate();
        cluster[at].start_with_files_up_to(FULL_KIB);
        wait_until("the manager to end, as it cannot write", || !cluster[at].process().is_running());
        if at == 1 {
            writers.wait_for_more(EDITS);
        }
        cluster[at].start();
        writers.wait_for_more(EDITS);
    }
    assert_nothing_lost(&cluster, writers.stop());
}

/// With the only standby gone an edit is refused, naming it; the two ways out take an admin who accepts what may be
/// lost. Two processes on a standby's state directory are refused.
#[test]
fn a_primary_whose_standby_is_gone_goes_on_once_the_loss_is_accepted() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    let second = Answer::of(cluster[1].run_command());
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("is in use by"), "{second:?}");
    let hub = cluster.console_at(0);
    let capped = |of: &str| hub.run(&format!("manager set min_sync=5{of}")).err.contains("min_sync is 5");
    assert_eq!([" --dry-run", ""].map(capped), [false, true], "it is said once it is so");
    hub.ok("manager set min_sync=1");
    for way_out in ["manager set min_sync=0", "manager remove spare1"] {
        cluster[1].kill9();
        wait_until("the standby to be missed", || cluster[0].accepts_edits().is_err());
        let refused = hub.fails(4, "host add nobody --domain / --output json").error();
        assert!(refused["remedy"].as_str().unwrap().contains("--accept-loss"), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("spare1"), "{refused}");
        let way_out_in_full = format!("{way_out} --accept-loss");
        assert!(
            refused["remedy"].as_str().unwrap().contains(&format!("echelon {way_out_in_full}")),
            "{refused}"
        );
        hub.ok(&way_out_in_full);
        let name = way_out.replace([' ', '=', '_'], "-");
        cluster.edit(0, &name);
        if way_out.contains("min_sync") {
            cluster[1].start();
            cluster.wait_counts(0, "spare1");
            wait_for_revision(&cluster, 1, &cluster.edit(0, "with-both")["revision"]);
            hub.ok("manager set min_sync=1");
        }
    }
    assert_eq!(primary(&cluster, 0).as_deref(), Ok("hub"));
    cluster[0].kill9();
    cluster[0].start();
    cluster.wait_accepts(0);
    let hosts = hub.objects("host list");
    for host in ["manager-set-min-sync-0", "manager-remove-spare1", "with-both"] {
        assert!(hosts.iter().any(|h| h["name"] == host), "{host}: {hosts:?}");
    }
}

/// With two standbys gone, taking out one of them would have edits wait for the other: only what helps is named, and every
/// command that is named works as it stands, also while an edit waits; each can be tried before.
#[test]
fn every_way_out_that_is_named_works_when_it_is_typed() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    let hub = cluster.console_at(0);
    cluster[2].kill9();
    cluster[1].pause();
    let waiting = std::thread::spawn({
        let hub = hub.clone();
        move || hub.run("host add waits --domain /")
    });
    let mut interrupted = hub.command(["host", "add", "interrupted", "--domain", "/", "--output", "json"]);
    let interrupted = interrupted.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("two edits to wait", || {
        let metrics = get_tcp(cluster[0].http(), "/metrics").unwrap().body;
        metrics.lines().any(|line| line == "echelon_manager_entries_uncommitted 2")
    });
    kill_process(Pid::from_child(&interrupted), Signal::INT).unwrap();
    let interrupted = interrupted.wait_with_output().unwrap();
    assert_eq!(interrupted.status.code(), Some(6), "{interrupted:?}");
    let unknown: Value = serde_json::from_slice(&interrupted.stderr).unwrap();
    wait_until("the standbys to be missed", || cluster[0].accepts_edits().is_err());
    let refused = hub.fails(4, "manager remove spare2 --accept-loss --output json").error();
    let remedy = refused["remedy"].as_str().unwrap();
    assert!(!remedy.contains("remove spare1 --accept-loss"), "{remedy}");
    hub.ok("manager set min_sync=0 --accept-loss --dry-run");
    assert_eq!(hub.object("status")["edits"]["connected"], 0);
    let status = hub.ok("status");
    assert!(status.contains("refused: 1 of the standbys that count have to hold it"), "{status}");
    let commands = remedy.split([';', ',', ':']).filter_map(|part| part.trim().strip_prefix("echelon "));
    let commands: Vec<_> = commands.collect();
    assert_eq!(commands.len(), 4, "{remedy}");
    for (at, command) in commands.iter().enumerate() {
        if at == 1 {
            // Nobody is left waiting for a standby that is not there.
            hub.fails(4, "manager set min_sync=1");
        }
        hub.ok(command);
    }
    let waited = waiting.join().unwrap();
    assert_eq!(waited.code, 0, "{waited:?}");
    let again = unknown["remedy"].as_str().unwrap().rsplit_once("--request-id ").unwrap().1;
    let repeated = hub.object(&format!("host add interrupted --domain / --request-id {again}"));
    assert_eq!(repeated["repeated"], true, "{repeated}");
    cluster.edit(0, "on-its-own");
    let edits = hub.object("status")["edits"].clone();
    assert_eq!((edits["members"].as_u64(), edits["min_sync"].as_u64()), (Some(0), Some(1)), "{edits}");
}
