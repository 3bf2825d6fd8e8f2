//! A check by a command from this host's own settings.

use echelon_core::endpoint::Endpoint;
use echelon_core::name::ManagerType;
use echelon_daemon::exec::{Exec, ExecError};
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

    const LIMIT: Duration = Duration::from_secs(30);

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let command = ["/bin/sh", "-c", script].map(String::from);
        let (ty, at) = ("control".parse().unwrap(), "[::1]:70".parse().unwrap());
        run(&command, &ty, &at, limit).await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_command_sees_what_it_checks_and_nothing_of_the_agent() {
        let script = "echo $ECHELON_CHECK_TYPE $ECHELON_CHECK_ENDPOINT $ECHELON_CHECK_ADDRESS $ECHELON_CHECK_PORT; exit 1";
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), "control [::1]:70 ::1 70");
        let script =
            "/usr/bin/env | grep -v '^ECHELON_CHECK_\\|^PATH=\\|^PWD=\\|^SHLVL=\\|^_='; read x; exit 1";
        assert_eq!(shell(script, LIMIT).await.unwrap_err(), "the check ended with exit code 1");
    }
}
