//! Backups of a registry that runs.

use echelon_tests::skip::have;
use echelon_tests::{Answer, Manager, Sandbox, binaries, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// `registry-manager restore FILE --check`.
pub(crate) fn check(sandbox: &Sandbox, file: &Path, arguments: &[&str]) -> Answer {
    let mut command = sandbox.command(&binaries().manager);
    command.arg("restore").arg(file).arg("--check").args(arguments).env("TMPDIR", sandbox.path(""));
    Answer::of(command)
}

/// A file with a passphrase.
pub(crate) fn passphrase(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    let file = sandbox.file(name, text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Everything in `directory` by name.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn tar(arguments: &[&str]) -> String {
    let output = Command::new("tar").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A backup is of one committed state, while edits go on: all that was acknowledged before it is in it. It is for its
/// owner alone, replaces nothing unasked, and leaves nothing else behind. `tar` and `sqlite3`, which are not ours, can
/// look into it.
#[test]
fn a_backup_is_whole_while_edits_go_on() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let (stop, directory) = (AtomicBool::new(false), sandbox.path("backups"));
    fs::create_dir(&directory).unwrap();
    let file = directory.join("acme.tar");
    let line = format!("backup {}", file.display());
    let made = std::thread::scope(|scope| {
        let edits = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                console.ok(&format!("domain add /d{number}"));
                number += 1;
            }
            number
        });
        wait_until("some edits", || manager.status()["revision"].as_u64() >= Some(5));
        let before = manager.status()["revision"].as_u64().unwrap();
        let made = console.object(&line);
        let backed_up = made["revision"].as_u64().unwrap();
        assert!(backed_up >= before, "{backed_up} is older than {before}, which was acknowledged before");
        assert_eq!(made["committed"], made["revision"], "one manager commits at once");
        wait_until("edits to go on", || manager.status()["revision"].as_u64().unwrap() > backed_up + 2);
        stop.store(true, Ordering::Relaxed);
        edits.join().unwrap();
        made
    });
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&file).unwrap().len(), made["size"].as_u64().unwrap());
    assert_eq!(names(&directory), ["acme.tar"]);
    assert!(!names(manager.state()).iter().any(|name| name.contains("copy")), "{:?}", names(manager.state()));
    let whole = fs::read(&file).unwrap();
    let refused = console.fails(1, &format!("{line} --output json"));
    assert_eq!(refused.error()["error"], "file-exists");
    assert!(fs::read(&file).unwrap() == whole, "it was replaced");
    let newer = console.object(&format!("{line} --force"));
    assert!(newer["revision"].as_u64() > made["revision"].as_u64());
    let checked = check(&sandbox, &file, &[]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.out.contains(&format!("up to revision {}", newer["revision"])), "{checked:?}");
    outside(&sandbox, &file, &newer);
}

/// What programs that are not ours make of a backup.
fn outside(sandbox: &Sandbox, file: &Path, made: &Value) {
    let (file, to) = (file.to_str().unwrap(), sandbox.path("unpacked"));
    fs::create_dir(&to).unwrap();
    assert_eq!(tar(&["tf", file]), "backup.json\nmanager.toml\nregistry.db\n");
    let manifest: Value = serde_json::from_str(&tar(&["xOf", file, "backup.json"])).unwrap();
    assert_eq!((&manifest["revision"], &manifest["framework"]), (&made["revision"], &made["framework"]));
    tar(&["xf", file, "-C", to.to_str().unwrap()]);
    if have("backup::sqlite3_opens_it", "sqlite3", &["--version"]) {
        let ask = |sql| {
            let output = Command::new("sqlite3").arg(to.join("registry.db")).arg(sql).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(ask("PRAGMA integrity_check"), "ok");
        assert_eq!(ask("SELECT revision FROM meta"), made["revision"].to_string());
        assert_eq!(ask("SELECT count(*) FROM journal"), made["revision"].to_string());
    }
}

/// Keys leave the manager only sealed, and only for admins; whoever lacks the passphrase cannot open them.
#[test]
fn keys_are_backed_up_sealed() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let (right, wrong) = (
        passphrase(&sandbox, "right", "correct horse battery\n"),
        passphrase(&sandbox, "wrong", "another horse battery\n"),
    );
    let file = sandbox.path("acme.tar");
    let line = format!("backup {} --passphrase-file", file.display());
    assert_eq!(manager.console().object(&format!("{line} {}", right.display()))["keys"], true);
    let bytes = fs::read(&file).unwrap();
    for key in ["issuer.pem", "root.pem", "identity/identity.pem", "console/identity.pem"] {
        let pem = fs::read_to_string(manager.state().join(key)).unwrap();
        let secret = pem.lines().nth(1).unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{key} is in the backup as it is");
    }
    let file_argument = |path: &Path| path.to_str().unwrap().to_owned();
    let opened = check(&sandbox, &file, &["--passphrase-file", &file_argument(&right)]);
    assert!(opened.code == 0 && opened.out.contains("opens the keys"), "{opened:?}");
    let closed = check(&sandbox, &file, &["--passphrase-file", &file_argument(&wrong)]);
    assert!(closed.code == 1 && closed.err.contains("passphrase does not open"), "{closed:?}");
    fs::remove_file(&file).unwrap();
    // A passphrase that others can read, one that is too short, a directory that is not there: nothing is left behind.
    fs::set_permissions(&right, fs::Permissions::from_mode(0o644)).unwrap();
    manager.console().fails(1, &format!("{line} {}", right.display()));
    let short = passphrase(&sandbox, "short", "short");
    let said = manager.console().fails(1, &format!("{line} {}", short.display()));
    assert!(said.err.contains("5 bytes") && !file.exists(), "{said:?}");
    manager.console().fails(1, &format!("backup {}", sandbox.path("nowhere/acme.tar").display()));
}

/// A copy takes as much room as the registry; where there is none, the console is told so, nothing is left, and the
/// manager goes on.
#[test]
fn a_manager_without_room_makes_no_backup_and_goes_on() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::init(&sandbox);
    manager.start();
    // Large enough that what the manager needs to live has room where a copy has not.
    let domains: Vec<_> = (0..2_000).map(|n| format!("/domain{n}")).collect();
    manager.console().ok(&format!("domain add {}", domains.join(" ")));
    let file = sandbox.path("acme.tar");
    let size = manager.console().object(&format!("backup {}", file.display()))["size"].as_u64().unwrap();
    manager.terminate();
    manager.start_with_files_up_to(u32::try_from(size / 1024 / 2).unwrap());
    let said = manager.console().fails(1, &format!("backup {} --force --output json", file.display()));
    assert_eq!(said.error()["error"], "not-backed-up");
    assert_eq!(fs::metadata(&file).unwrap().len(), size, "the backup that was there is");
    assert!(!names(manager.state()).iter().any(|name| name.contains("copy")), "{:?}", names(manager.state()));
    manager.status();
}
