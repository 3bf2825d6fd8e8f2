//! All registry managers, each asked by itself.

use crate::console::Console;
use crate::problem::Problem;
use echelon_client::ManagerClient;
use echelon_core::endpoint::Endpoint;
use echelon_core::message::{Failure, Query};
use echelon_core::name::HostName;
use echelon_core::report::ManagerReport;
use echelon_identity::IdentityDirectory;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

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
    let identity = console.identity()?;
    let mut asked = JoinSet::new();
    for (at, (host, endpoint)) in all(console).await?.into_iter().enumerate() {
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
    let client = ManagerClient::connect(identity, &[endpoint]).await.map_err(|e| e.failure())?;
    let answer = client.query(query).await.map_err(|e| e.failure());
    client.close().await;
    answer
}
