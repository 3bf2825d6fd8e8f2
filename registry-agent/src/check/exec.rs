//! A check by a command from this host's own settings.

use crate::exec::{Exec, ExecError};
use echelon_core::endpoint::Endpoint;
use echelon_core::name::ManagerType;
use std::time::Duration;

/// Runs `command`, which finds the package's type and endpoint in `ECHELON_CHECK_TYPE`, `ECHELON_CHECK_ENDPOINT`,
/// `ECHELON_CHECK_ADDRESS` and `ECHELON_CHECK_PORT`. Exit code 0 passes.
///
/// # Errors
/// [`ExecError`]: with the first line of output, where there is one.
pub(super) async fn run(
    command: &[String],
    ty: &ManagerType,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<(), ExecError> {
    let env = vec![
        ("ECHELON_CHECK_TYPE", ty.to_string()),
        ("ECHELON_CHECK_ENDPOINT", endpoint.to_string()),
        ("ECHELON_CHECK_ADDRESS", endpoint.address.to_string()),
        ("ECHELON_CHECK_PORT", endpoint.port.to_string()),
    ];
    Exec { what: "check", words: command, env, limit }.run().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use tokio::time::{Instant, sleep};

    const LIMIT: Duration = Duration::from_secs(30);

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let command = ["/bin/sh", "-c", script].map(String::from);
        let (ty, at) = ("control".parse().unwrap(), "[::1]:70".parse().unwrap());
        run(&command, &ty, &at, limit).await.map_err(|e| e.to_string())
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
            ("printf 'a\\033[2Jb'; exit 1", "a [2Jb"),
        ] {
            assert_eq!(shell(script, LIMIT).await.unwrap_err(), why, "{script}");
        }
        let command = ["/no/such/check".to_owned()];
        let (ty, at) = ("control".parse().unwrap(), "[::1]:70".parse().unwrap());
        let why = run(&command, &ty, &at, LIMIT).await.unwrap_err();
        assert!(matches!(why, ExecError::Failed(_)));
        assert!(why.to_string().starts_with("the check cannot be run: No such file"), "{why}");
    }

    #[tokio::test]
    async fn a_command_sees_what_it_checks_and_nothing_of_the_agent() {
        let script = "echo $ECHELON_CHECK_TYPE $ECHELON_CHECK_ENDPOINT $ECHELON_CHECK_ADDRESS $ECHELON_CHECK_PORT; exit 1";
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), "control [::1]:70 ::1 70");
        let script =
            "/usr/bin/env | grep -v '^ECHELON_CHECK_\\|^PATH=\\|^PWD=\\|^SHLVL=\\|^_='; read x; exit 1";
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), "the check ended with exit code 1");
    }

    #[tokio::test]
    async fn endless_output_is_no_memory_and_no_hang() {
        shell("head -c 10000000 /dev/zero", LIMIT).await.unwrap();
        let why = shell("yes", Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(why, "the check did not end within 300ms and was killed");
        let why = shell("yes | head -c 1000000 | tr -d '\\n'; exit 1", LIMIT).await.unwrap_err();
        assert_eq!(why.len(), 256);
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
}
