//! Commands on state directories that are killed at random moments: whatever is there then, the command is repeated as
//! docs/operations.md says, and nothing else is needed.

use crate::backup::passphrase;
use crate::random::{Random, SEED};
use echelon_tests::{Answer, Cluster, Console, Manager, Sandbox, binaries, wait_for};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often each command is killed; each hits another moment.
const ROUNDS: usize = 5;

/// Moments at which something is killed, from its start to a little after its end.
struct Moments {
    random: Random,
    whole: Duration,
}

impl Moments {
    /// Those of what takes as long as this whole run of it. It must be done.
    fn of(command: Command) -> Self {
        let began = Instant::now();
        let answer = Answer::of(command);
        assert_eq!(answer.code, 0, "{answer:?}");
        Self { random: Random::new(SEED), whole: began.elapsed() }
    }

    /// Runs a command and kills it; it may have ended before.
    fn kill(&mut self, mut command: Command) {
        let parts = 1_000;
        let part = self.random.below(parts);
        let moment = self.whole.mul_f64(1.1 * part as f64 / parts as f64);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        println!("killed after {moment:?}, of {:?}: {ended}", self.whole);
    }
}

/// `registry-manager NAME` for the state directory of a manager.
fn command(manager: &Manager<'_>, line: &str) -> Command {
    let mut command = manager.sandbox().command(&binaries().manager);
    let mut words = line.split_whitespace();
    command.args(words.next()).arg("--state").arg(manager.state()).args(words);
    command
}

/// Repeats a command: it must be done.
#[track_caller]
fn repeat(command: Command) -> Answer {
    let answer = Answer::of(command);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer
}

/// What `run` says to a directory without a registry: to repeat this command, and never to make a new registry.
#[track_caller]
fn is_told_to_repeat(manager: &Manager<'_>, what: &str) {
    if manager.state().join("registry.db").exists() || !manager.state().exists() {
        return;
    }
    let begun = ["joining.json", "registry.db.restoring"].iter().any(|f| manager.state().join(f).exists());
    let told = Answer::of(manager.run_command());
    assert_eq!(told.code, 1, "{told:?}");
    assert!(!begun || told.err.contains(&format!("repeat registry-manager {what}")), "{told:?}");
    assert!(!begun || !told.err.contains("registry-manager init"), "{told:?}");
}

/// Copies a state directory whose manager does not run.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// A restore, onto a fresh machine and over a registry that is there: until it is through, the registry of before is
/// where it was; repeated, it is done, and the manager takes edits.
#[test]
fn a_restore_that_is_killed_is_repeated() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let (file, secret) =
        (sandbox.path("acme.tar"), passphrase(&sandbox, "passphrase", "correct horse battery"));
    manager.console().ok("domain add /kept");
    manager.console().ok(&format!("backup {} --passphrase-file {}", file.display(), secret.display()));
    manager.console().ok("domain add /since");
    manager.terminate();
    let mut fresh = Manager::in_directory(&sandbox, "fresh", manager.listen());
    let before = sandbox.path("before");
    copy(manager.state(), &before);
    let line = format!("restore {} --passphrase-file {}", file.display(), secret.display());
    let mut moments = Moments::of(command(&fresh, &line));
    for round in 0..ROUNDS {
        let over = round % 2 == 1;
        let _ = fs::remove_dir_all(fresh.state());
        if over {
            copy(&before, fresh.state());
        }
        moments.kill(command(&fresh, &line));
        is_told_to_repeat(&fresh, "restore");
        if over {
            fresh.start();
            fresh.console().ok("tree /kept");
            fresh.terminate();
        }
        repeat(command(&fresh, &line));
        fresh.start();
        fresh.console().ok("tree /kept");
        fresh.console().fails(1, "tree /since");
        fresh.console().ok("domain add /again");
        fresh.terminate();
        assert!(!fresh.state().join("registry.db.restoring").exists());
    }
}

/// A recovery: the directory holds the one lineage or the other, with which its manager starts.
#[test]
fn a_recovery_that_is_killed_is_repeated() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    manager.console().ok("domain add /kept");
    manager.terminate();
    let line = "recover --reason test --yes acme";
    let mut moments = Moments::of(command(&manager, line));
    for round in 0..ROUNDS {
        moments.kill(command(&manager, line));
        if round % 2 == 0 {
            manager.start();
            manager.console().ok("tree /kept");
            manager.terminate();
        }
        repeat(command(&manager, line));
        manager.start();
        manager.console().ok(&format!("domain add /again{round}"));
        manager.terminate();
    }
}

/// A join and a leave. Repeated with the same token a join is done, and what it makes runs; a leave is done, and what it
/// leaves does not run any more. Then the same host joins anew, in the same directory.
#[test]
fn a_join_and_a_leave_that_are_killed_are_repeated() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::running(&sandbox, 0);
    let console = cluster.console_at(0);
    let mut spare = Manager::in_directory(&sandbox, "spare", sandbox.endpoint(29120));
    let join = |spare: &Manager<'_>, token: &str| {
        let (hub, listen) = (cluster[0].listen(), spare.listen());
        let mut join = command(spare, &format!("join --name spare --manager {hub} --listen {listen}"));
        join.env("ECHELON_TOKEN", token);
        join
    };
    let mut joins = Moments::of(join(&spare, &token(&console)));
    let mut leaves = Moments::of(command(&spare, "leave"));
    for round in 0..ROUNDS {
        let token = token(&console);
        joins.kill(join(&spare, &token));
        is_told_to_repeat(&spare, "join");
        let joined = repeat(join(&spare, &token));
        assert!(joined.out.contains(&format!("registry-manager run --state {}", spare.state().display())));
        let runs = round % 2 == 0;
        if runs {
            spare.start();
            cluster.wait_counts(0, "spare");
        }
        leaves.kill(command(&spare, "leave"));
        repeat(command(&spare, "leave"));
        if runs {
            assert_eq!(spare.process().wait().code(), Some(5));
        }
        let told = Answer::of(spare.run_command());
        assert!(
            told.code == 5 && told.err.contains("to be a standby again: registry-manager join"),
            "{told:?}"
        );
        wait_for("the primary to have let it go", || {
            let all = console.objects("manager list");
            let left = all.iter().any(|m| m["host"] == "spare" && m["role"] == "left");
            left.then_some(()).ok_or(format!("{all:?}"))
        });
        console.ok(&format!("domain add /round{round}"));
    }
}

/// A token for the standby, which may have been one before.
fn token(console: &Console) -> String {
    console.ok("token create --access manager --host spare --replace").trim().to_owned()
}

/// A join that was broken off before it had its copy, and taken out of the registry meanwhile, is no dead end: with a new
/// token it begins anew.
#[test]
fn a_join_that_was_taken_out_before_it_was_done_begins_anew() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::running(&sandbox, 0);
    let console = cluster.console_at(0);
    let mut spare = Manager::in_directory(&sandbox, "spare", sandbox.endpoint(29120));
    let line = format!("join --name spare --manager {} --listen {}", cluster[0].listen(), spare.listen());
    let first = token(&console);
    // Room for keys and none for the registry.
    let mut join = sandbox.with_files_up_to(16, &command(&spare, &line));
    let no_copy = Answer::of(join.env("ECHELON_TOKEN", &first));
    assert!(no_copy.code == 1 && no_copy.err.contains("this is a registry manager now"), "{no_copy:?}");
    console.ok("manager remove spare --accept-loss");
    let again = |token: &str| {
        let mut join = command(&spare, &line);
        join.env("ECHELON_TOKEN", token);
        Answer::of(join)
    };
    let spent = again(&first);
    assert!(spent.code == 5 && spent.err.contains("token"), "{spent:?}");
    let joined = again(&token(&console));
    assert_eq!(joined.code, 0, "{joined:?}");
    spare.start();
    cluster.wait_counts(0, "spare");
}
