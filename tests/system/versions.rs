//! Registry managers of different versions.

use crate::managers::EDITS;
use echelon_tests::{Answer, Cluster, Manager, Sandbox, Writers, binaries, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

/// This build's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version so many minor ones after this one.
fn later(minor_versions: u32) -> String {
    let numbers: Vec<u32> = VERSION.split('.').map(|number| number.parse().unwrap()).collect();
    let later = format!("{}.{}.{}", numbers[0], numbers[1] + minor_versions, numbers[2]);
    assert_eq!(later.len(), VERSION.len(), "it takes the place of the old one in a file");
    later
}

/// The registry manager of a later version: the same program, but for what it says of itself.
fn later_manager(sandbox: &Sandbox, minor_versions: u32) -> PathBuf {
    let (later, program) = (later(minor_versions), sandbox.path(&format!("manager-{minor_versions}-later")));
    std::fs::copy(&binaries().manager, &program).unwrap();
    let mut sed = Command::new("sed");
    sed.arg("-i")
        .arg(format!("s/{}/{later}/g", VERSION.replace('.', "\\.")))
        .arg(&program)
        .env("LC_ALL", "C");
    assert!(sed.status().unwrap().success());
    let says = Answer::of(sandbox.command(&program).arg("--version"));
    assert!(says.code == 0 && says.out.trim().ends_with(&later), "{says:?}");
    program
}

/// A standby one version ahead works with its primary, as in every upgrade. One that is two ahead is refused, both say
/// why and what to do, and edits go on as without it.
#[test]
fn managers_two_versions_apart_refuse_each_other() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    cluster[1].terminate();
    cluster[1].start_build(&later_manager(&sandbox, 1));
    let writers = Writers::start(&cluster, &[0, 1], 2);
    writers.wait_for_more(EDITS);
    writers.stop();

    cluster[1].terminate();
    cluster[1].start_build(&later_manager(&sandbox, 2));
    let words = ["WARN", VERSION, &later(2), "do not work together: upgrade by one minor version at a time"];
    for at in [0, 1] {
        wait_for("a manager to say why there is no link", || {
            let log = cluster[at].process().log();
            let says = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
            if says { Ok(()) } else { Err("nothing in its log") }
        });
    }
    let refused = wait_for("an edit to be refused", || {
        let answer = cluster.console_at(0).run("host add nobody --domain / --output json");
        if answer.code == 4 { Ok(answer.error()) } else { Err(answer) }
    });
    assert!(refused["message"].as_str().unwrap().contains("spare1"), "{refused}");
    cluster[1].terminate();
    cluster[1].start();
    cluster.wait_accepts(0);
    cluster.edit(1, "together-again");
}

/// A manager two versions ahead does not become a standby: it is told so before anything is written, at the primary or
/// in its own directory, and its token is not used up.
#[test]
fn a_manager_two_versions_ahead_cannot_join() {
    let sandbox = Sandbox::new();
    let hub = Manager::running(&sandbox);
    let token = hub.token("--access manager --host spare1");
    let managers =
        || hub.console().objects("manager list").into_iter().map(|manager| manager["host"].clone());
    let written = || (managers().collect::<Vec<_>>(), hub.status()["revision"].clone());
    let before = written();
    let spare = Manager::in_directory(&sandbox, "spare1", sandbox.endpoint(29120));
    let join = |program: &Path| {
        let mut command = sandbox.command(program);
        command.args(["join", "--name", "spare1", "--manager", &hub.listen().to_string()]);
        command.arg("--state").arg(spare.state()).arg("--listen").arg(spare.listen().to_string());
        Answer::of(command.env("ECHELON_TOKEN", &token))
    };
    let refused = join(&later_manager(&sandbox, 2));
    assert_eq!(refused.code, 1, "{refused:?}");
    let words = [
        VERSION,
        &later(2),
        "do not work together: upgrade by one minor version at a time",
        "upgrade the older",
    ];
    assert!(words.iter().all(|word| refused.err.contains(word)), "{refused:?}");
    assert_eq!(written(), before, "at the primary");
    let left = std::fs::read_dir(spare.state()).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != "lock").collect();
    assert!(left.is_empty(), "{left:?}");
    let joined = join(&later_manager(&sandbox, 1));
    assert_eq!(joined.code, 0, "{joined:?}");
}
