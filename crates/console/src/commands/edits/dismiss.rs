//! Saying of edits that were given up that they are dealt with.

use crate::console::Console;
use crate::managers;
use crate::problem::{Problem, failed};
use echelon_client::{CallError, ManagerClient};
use echelon_core::message::Query;
use echelon_core::name::HostName;
use echelon_core::promotion::{DismissedReport, LostEditReport};

/// Says so of all that the manager on this host keeps at the moment; what it is given later is news.
pub(super) async fn run(console: &mut Console, host: &HostName) -> Result<(), Problem> {
    let mut managers = managers::all(console).await?.into_iter();
    let Some((_, endpoint)) = managers.find(|(manager, _)| manager == host) else {
        return Err(failed("no-registry-manager", format!("host {host} runs no registry manager"))
            .remedy("see which there are: echelon manager list")
            .pointless());
    };
    let connected = ManagerClient::connect(&console.identity()?, &[endpoint]).await;
    let manager = connected.map_err(|e| e.failure())?;
    let dismissed = dismiss(&manager).await;
    manager.close().await;
    let report = dismissed.map_err(|e| e.failure())?;
    match console.out.is_json() {
        true => console.out.object(&report),
        false => console.out.line(in_words(&report)),
    }
}

async fn dismiss(manager: &ManagerClient) -> Result<DismissedReport, CallError> {
    let kept: Vec<LostEditReport> = manager.query(Query::Lost).await?;
    manager.dismiss(kept.iter().map(|edit| edit.number).max().unwrap_or_default()).await
}

fn in_words(report: &DismissedReport) -> String {
    match report.dismissed {
        0 => format!("{} keeps no edit that was not dealt with", report.manager),
        count => format!(
            "{count} edits that {} keeps are dismissed; they stay in its file: echelon edits lost --all",
            report.manager
        ),
    }
}
