//! Taking a registry manager out, also the one that has signed this console's certificate.

use crate::console::Console;
use crate::edit::{EditArgs, edit_at};
use crate::problem::{Problem, failed, with_sources};
use echelon_client::ManagerClient;
use echelon_core::change::Change;
use echelon_core::endpoint::Endpoint;
use echelon_core::issuer::issuer_name;
use echelon_core::message::{FailureClass, Query};
use echelon_core::name::HostName;
use echelon_core::report::ManagerReport;
use echelon_identity::IdentityDirectory;

/// Takes it out. What a compromised one has signed is worth nothing from then on: this console's certificate is
/// renewed at another one first, so that the edit does not lock out whoever makes it.
pub(super) async fn remove(
    console: &mut Console,
    args: &EditArgs,
    host: HostName,
    accept_loss: bool,
    compromised: bool,
) -> Result<(), Problem> {
    let mut manager = console.manager().await?;
    if compromised && !args.dry_run {
        manager = beside(console, manager, &host).await?;
    }
    let change = Change::RemoveManager { host, accept_loss, compromised };
    edit_at(console, manager, args, vec![change]).await
}

/// A connection that goes on when nothing is worth anything that the manager on `host` has signed.
async fn beside(
    console: &Console,
    manager: ManagerClient,
    host: &HostName,
) -> Result<ManagerClient, Problem> {
    let managers: Vec<ManagerReport> = manager.query(Query::Managers).await.map_err(|e| e.failure())?;
    let identity = console.identity()?;
    let Some(removed) = managers.iter().find(|manager| manager.host == *host) else { return Ok(manager) };
    if !has_signed(removed, &identity)? {
        return Ok(manager);
    }
    manager.close().await;
    let others: Vec<Endpoint> =
        managers.iter().filter(|m| m.host != *host).filter_map(|m| m.endpoint.clone()).collect();
    let other = ManagerClient::connect(&identity, &others).await;
    let other = other.map_err(|e| locked_out(host, &with_sources(&e)))?;
    let renewed = other.renew(&identity).await;
    other.close().await;
    renewed.map_err(|e| locked_out(host, &with_sources(&e)))?;
    ManagerClient::connect(&identity, &others).await.map_err(|e| e.failure().into())
}

/// Whether this manager has signed the certificate of this identity.
fn has_signed(manager: &ManagerReport, identity: &IdentityDirectory) -> Result<bool, Problem> {
    let unusable = |e: &dyn std::error::Error| failed("bad-identity", with_sources(e));
    let credentials = identity.load_credentials().map_err(|e| unusable(&e))?;
    let issuer = credentials.peer().map_err(|e| unusable(&e))?.issuer.map(|id| issuer_name(&id));
    Ok(issuer.is_some_and(|issuer| manager.issuers.iter().any(|known| known.id == issuer)))
}

fn locked_out(host: &HostName, why: &str) -> Problem {
    failed(
        "own-issuer",
        format!(
            "{host} has signed this console's own certificate, which would be worth nothing, and no other registry \
             manager has renewed it: {why}; nothing was changed"
        ),
    )
    .class(FailureClass::Unreachable)
    .remedy(
        "have another registry manager reachable from here and give the command again, or give it with the identity \
         of an admin whose certificate another one has signed: --identity DIR",
    )
}
