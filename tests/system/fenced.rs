//! A primary that was replaced, comes back, and finds nobody to tell it so but an agent.

use crate::lineages::alarm;
use crate::managers::{force_when_silent, primary, wait_for_host};
use echelon_tests::http::get_tcp;
use echelon_tests::{Agent, Answer, Cluster, Sandbox, wait_for};
use std::fs;

/// The standby that was promoted by force is gone for good before the old primary is back, whose journal ends with an
/// edit that nobody else has. The agent alone knows of the newer grant: by that the old primary is fenced, says who was
/// made primary in its place and what it keeps, and takes no edit, also after one more start without any agent. An admin
/// makes it the primary once more, in full knowledge of what is lost; the agent follows.
#[test]
fn an_old_primary_learns_from_an_agent_alone_that_it_is_fenced() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    let mut agent = Agent::enrolled(&cluster[0], "h");
    agent.start_ready();
    wait_for_host(&agent, &cluster.edit(0, "before")["revision"]);
    cluster[1].pause();
    let only_here = cluster.console_at(0).command(["host", "add", "only-here", "--domain", "/"]);
    let only_here = std::thread::spawn(move || Answer::of(only_here));
    let metrics = cluster[0].http();
    wait_for("the edit to be written", || {
        let body = get_tcp(metrics, "/metrics").map_err(|e| e.to_string())?.body;
        let written = body.lines().any(|line| line == "echelon_manager_entries_uncommitted 1");
        written.then_some(()).ok_or(body)
    });
    (0..cluster.len()).for_each(|at| cluster[at].kill9());
    assert_ne!(only_here.join().unwrap().code, 0, "nobody else had it");
    cluster[1].start();
    force_when_silent(&cluster, 1, 1, "");
    wait_for_host(&agent, &cluster.edit(1, "promoted")["revision"]);
    cluster[1].kill9();
    fs::remove_dir_all(cluster[1].state()).unwrap();

    cluster[0].start();
    wait_for("the old primary to be fenced", || {
        let answer = cluster.console_at(0).run("host add nobody --domain / --output json");
        assert_eq!(answer.code, 4, "it takes no edit at any moment: {answer:?}");
        (primary(&cluster, 0)? == "spare1").then_some(()).ok_or(format!("{answer:?}"))
    });
    for name in ["no-primary", "surplus"] {
        wait_for("the alarm", || alarm(&cluster, 0, name));
    }
    let status = cluster.console_at(0).ok("status");
    assert!(status.contains("hub (standby)") && status.contains("the worst is critical"), "{status}");
    let lost = cluster.console_at(0).run("edits lost --output json");
    assert!(
        lost.code == 4 && lost.out.contains("only-here"),
        "what the other one kept nobody knows: {lost:?}"
    );
    assert!(!cluster.console_at(0).ok("host list").contains("only-here"), "it is no part of the history");
    assert_eq!(agent.get("/v1/routes/registry").unwrap().status, 200);

    agent.kill9();
    cluster[0].kill9();
    cluster[0].start();
    assert_eq!(primary(&cluster, 0).as_deref(), Ok("spare1"), "it remembers, with no agent there");
    let refused = cluster.console_at(0).fails(4, "host add nobody --domain / --output json").error();
    let remedy = refused["remedy"].as_str().unwrap();
    assert!(remedy.contains("echelon promote hub --force"), "{refused}");

    agent.start_ready();
    let refused = wait_for("the agent's evidence", || {
        let refused = cluster.force(0, 0, "");
        if refused.code != 0 { Ok(refused) } else { Err(refused) }
    });
    assert!(refused.err.contains("--accept-loss"), "{refused:?}");
    wait_for("the promotion", || {
        let answer = cluster.force(0, 0, "--accept-loss");
        if answer.code == 0 { Ok(()) } else { Err(answer) }
    });
    cluster.wait_accepts(0);
    cluster.console_at(0).ok("manager remove spare1 --accept-loss");
    wait_for_host(&agent, &cluster.edit(0, "again")["revision"]);
    let held = agent.get("/v1/status").unwrap().json();
    assert_eq!(held["epoch"], 3, "{held}");
}
