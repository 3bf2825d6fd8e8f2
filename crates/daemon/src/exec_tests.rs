//! What a command comes to, and that nothing of it stays.

use super::*;
use std::path::PathBuf;
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(30);

async fn shell(script: &str, limit: Duration) -> Result<(), String> {
    let words = ["/bin/sh", "-c", script].map(String::from);
    Exec { what: "check", words: &words, env: Vec::new(), limit }.run().await.map_err(|e| e.to_string())
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn exit_code_0_passes_and_the_first_line_says_why_others_do_not() {
    shell("exit 0", LIMIT).await.unwrap();
    for (script, why) in [
        ("echo; echo ' lag 12 s'; echo more; exit 1", "lag 12 s"),
        ("echo broken >&2; exit 3", "broken"),
        ("exit 3", "the check ended with exit code 3"),
        ("kill -9 $$", "the check was ended by signal 9"),
        ("printf 'a\\033[2Jb'; exit 1", r"a\u{1b}[2Jb"),
    ] {
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), why, "{script}");
    }
    let words = ["/no/such/check".to_owned()];
    let exec = Exec { what: "check", words: &words, env: Vec::new(), limit: LIMIT };
    let why = exec.run().await.unwrap_err();
    assert!(matches!(why, ExecError::Failed(_)));
    assert!(why.to_string().starts_with("the check cannot be run: No such file"), "{why}");
}

#[tokio::test]
async fn endless_output_is_no_memory_and_no_hang() {
    shell("head -c 10000000 /dev/zero", LIMIT).await.unwrap();
    let why = shell("yes", Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(why, "the check did not end within 300ms and was killed");
    let why = shell("yes | head -c 1000000 | tr -d '\\n'; exit 1", LIMIT).await.unwrap_err();
    assert!(why.len() < 500, "{} bytes", why.len());
}

#[tokio::test]
async fn nothing_of_a_command_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (file, late) = (dir.path().join("pid"), Duration::from_secs(1));
    let script = format!("sleep 1000 & echo $! > {}; ", file.display());
    // It hangs, it ends but its child does not, it is dropped.
    shell(&format!("{script} wait"), late).await.unwrap_err();
    gone(&file).await;
    shell(&format!("{script} exit 0"), LIMIT).await.unwrap();
    gone(&file).await;
    let dropped = format!("{script} wait");
    let task = tokio::spawn(async move { shell(&dropped, LIMIT).await });
    until("the command runs", || std::fs::read(&file).is_ok_and(|pid| pid.ends_with(b"\n"))).await;
    task.abort();
    gone(&file).await;
}

/// Waits until the process that wrote this file is no more, then forgets the file.
async fn gone(file: &Path) {
    let pid = std::fs::read_to_string(file).unwrap();
    let proc = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    until("it has ended", || {
        // An orphan whose new parent is slow to notice is a zombie for a while.
        std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
    std::fs::remove_file(file).unwrap();
}
