//! All registry managers, each asked by itself.

use crate::console::Console;
use crate::problem::Problem;
use echelon_client::ManagerClient;
use echelon_core::message::{Failure, Query};
use echelon_core::name::HostName;
use echelon_core::report::ManagerReport;
use serde::de::DeserializeOwned;

/// What one manager answered, or why it did not.
pub(crate) struct Answered<T> {
    /// Its host.
    pub(crate) host: HostName,
    /// The documents.
    pub(crate) answer: Result<Vec<T>, Failure>,
}

/// Asks every registry manager that the one which was reached knows of, and that is still one.
pub(crate) async fn ask_all<T: DeserializeOwned>(
    console: &Console,
    query: Query,
) -> Result<Vec<Answered<T>>, Problem> {
    let first = console.manager().await?;
    let managers: Vec<ManagerReport> = first.query(Query::Managers).await.map_err(|e| e.failure())?;
    first.close().await;
    let identity = console.identity()?;
    let mut answered = Vec::new();
    for manager in managers {
        let Some(endpoint) = manager.endpoint else { continue };
        let answer = match ManagerClient::connect(&identity, &[endpoint]).await {
            Err(e) => Err(e.failure()),
            Ok(client) => {
                let answer = client.query(query.clone()).await.map_err(|e| e.failure());
                client.close().await;
                answer
            }
        };
        answered.push(Answered { host: manager.host, answer });
    }
    Ok(answered)
}
