//! Settings that are read again while the agent runs.

use crate::cli::run::{RunArgs, resolve, settings};
use echelon_core::alarm::Notice;
use echelon_daemon::Log;
use registry_agent::{Handle, Pending};
use tracing::{error, info, warn};

/// The alarm of a file that cannot be used.
const REFUSED: &str = "settings-refused";

/// The alarm of settings that are not in force.
const PENDING: &str = "settings-pending";

/// What to do about the first.
const CORRECT: &str = "correct the settings file, then: kill -HUP, or systemctl reload registry-agent";

/// What to do about the second.
const RESTART: &str = "systemctl reload registry-agent, which has a new process take over (state: restart); or correct the file";

/// Reads the settings again and takes them over. A bad file changes nothing and raises an alarm; so does what cannot be
/// taken over. Flags and environment go over the file as ever.
pub(crate) async fn reload(args: &RunArgs, log: &Log, agent: &Handle) {
    match take_over(args, log, agent).await {
        Ok(pending) => {
            agent.alarms().clear(REFUSED);
            tell(agent, pending);
        }
        Err(error) => {
            let message = format!("the settings file cannot be used, and the old settings stay: {error:#}");
            error!("{message}");
            agent.alarms().raise(Notice::warning(REFUSED, &message, CORRECT));
        }
    }
}

async fn take_over(args: &RunArgs, log: &Log, agent: &Handle) -> anyhow::Result<Pending> {
    let file = settings(args)?;
    // First what may be refused.
    let other_format = log.reload(&file.log)?;
    let mut pending = agent.reload(resolve(args, file)).await;
    if other_format {
        pending.restart.push("log.format");
    }
    Ok(pending)
}

/// Says what is not in force.
fn tell(agent: &Handle, pending: Pending) {
    let failed = pending.failed.into_iter().map(|error| format!("{:#}", anyhow::Error::new(error)));
    let mut faults: Vec<String> = failed.collect();
    if !pending.restart.is_empty() {
        let keys = pending.restart.join(", ");
        faults.push(format!(
            "{keys} changed, which takes a restart or a take-over: systemctl reload registry-agent"
        ));
    }
    if faults.is_empty() {
        info!("The settings file was read again and is in force");
        return agent.alarms().clear(PENDING);
    }
    for fault in &faults {
        warn!("The settings file was read again; not in force: {fault}");
    }
    let message = format!("settings are not in force: {}", faults.join("; "));
    agent.alarms().raise(Notice::warning(PENDING, &message, RESTART));
}
