//! All registry managers, each asked by itself.

use crate::console::Console;
use crate::problem::Problem;
use echelon_client::ManagerClient;
use echelon_core::endpoint::Endpoint;
use echelon_core::message::{Failure, FailureClass, Query, Retry};
use echelon_core::name::HostName;
use echelon_core::report::ManagerReport;
use echelon_identity::IdentityDirectory;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one of several managers may take: one that is silent is not waited for as long as a manager that is needed.
const EACH: Duration = Duration::from_secs(4);

/// What one manager answered, or why it did not.
pub(crate) struct Answered<T> {
    /// Its host.
    pub(crate) host: HostName,
    /// The documents.
    pub(crate) answer: Result<Vec<T>, Failure>,
}

/// Asks every registry manager that the one which was reached knows of, all at once: one that is gone holds up no other.
pub(crate) async fn ask_all<T: DeserializeOwned + Send + 'static>(
    console: &Console,
    query: Query,
) -> Result<Vec<Answered<T>>, Problem> {
    let managers = all(console).await?;
    ask_each(console, &managers, query).await
}

/// Asks these managers, all at once.
pub(crate) async fn ask_each<T: DeserializeOwned + Send + 'static>(
    console: &Console,
    managers: &[(HostName, Endpoint)],
    query: Query,
) -> Result<Vec<Answered<T>>, Problem> {
    let identity = console.identity()?;
    let mut asked = JoinSet::new();
    for (at, (host, endpoint)) in managers.iter().cloned().enumerate() {
        let (identity, query) = (identity.clone(), query.clone());
        asked.spawn(async move { (at, Answered { host, answer: ask(&identity, endpoint, query).await }) });
    }
    let mut answered = asked.join_all().await;
    answered.sort_by_key(|(at, _)| *at);
    Ok(answered.into_iter().map(|(_, answered)| answered).collect())
}

/// The registry managers there are, and where they are, as the one says that was reached.
pub(crate) async fn all(console: &Console) -> Result<Vec<(HostName, Endpoint)>, Problem> {
    let first = console.manager().await?;
    let managers: Vec<ManagerReport> = first.query(Query::Managers).await.map_err(|e| e.failure())?;
    first.close().await;
    Ok(managers.into_iter().filter_map(|manager| Some((manager.host, manager.endpoint?))).collect())
}

async fn ask<T: DeserializeOwned>(
    identity: &IdentityDirectory,
    endpoint: Endpoint,
    query: Query,
) -> Result<Vec<T>, Failure> {
    let connecting = ManagerClient::connect(identity, std::slice::from_ref(&endpoint));
    let client = match timeout(EACH, connecting).await {
        Ok(connected) => connected.map_err(|e| e.failure())?,
        Err(_) => return Err(silent(&endpoint)),
    };
    let answer = client.query(query).await.map_err(|e| e.failure());
    client.close().await;
    answer
}

fn silent(endpoint: &Endpoint) -> Failure {
    Failure {
        error: "unreachable".into(),
        class: FailureClass::Unreachable,
        message: format!("{endpoint}: no answer within {} s", EACH.as_secs()),
        place: String::new(),
        remedy: "see whether registry-manager runs there: echelon manager list".into(),
        retry: Retry::Safe,
    }
}
