//! One host's agent, running or not.

use echelon_core::digest::Digest;
use echelon_core::name::{HostName, ManagerType};
use registry_agent::{Agent, AgentConfig, Forward, Handle, Listen, Routes, StartError};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// One host's agent.
pub(crate) struct HostAgent {
    name: HostName,
    config: AgentConfig,
    shutdown: CancellationToken,
    running: Mutex<Option<Handle>>,
    /// The running one's routes, for readers who do not wait.
    routes: RwLock<Option<Routes>>,
}

/// The agent of a host does not start.
#[derive(Debug, thiserror::Error)]
#[error("the agent of {host} does not start")]
pub struct AgentError {
    /// The host.
    pub host: HostName,
    /// Why not.
    #[source]
    pub source: Arc<StartError>,
}

impl HostAgent {
    /// The agent that this configuration describes; it does not run yet, and ends with `shutdown`.
    pub(crate) fn new(name: HostName, config: AgentConfig, shutdown: CancellationToken) -> Self {
        Self { name, config, shutdown, running: Mutex::default(), routes: RwLock::default() }
    }

    /// The host's name.
    pub(crate) fn name(&self) -> &HostName {
        &self.name
    }

    /// Starts it, unless it runs.
    pub(crate) async fn up(&self) -> Result<(), AgentError> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            let handle = Agent::start(self.config.clone(), &self.shutdown).await;
            let fail = |source| AgentError { host: self.name.clone(), source: Arc::new(source) };
            let handle = handle.map_err(fail)?;
            self.set_routes(Some(handle.routes().clone()));
            *running = Some(handle);
        }
        Ok(())
    }

    /// Ends it: its tasks are cut off wherever they are.
    pub(crate) async fn down(&self) {
        if let Some(handle) = self.running.lock().await.take() {
            self.set_routes(None);
            // That they were cut off is what was wanted.
            let _ = handle.stop().await;
        }
    }

    /// Its routes; none while it is down.
    pub(crate) fn routes(&self) -> Option<Routes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has a replica.
    pub(crate) fn has_replica(&self) -> bool {
        self.routes().is_some_and(|routes| routes.replica().is_some())
    }

    /// Whether its replica is the view with this digest.
    pub(crate) fn holds(&self, digest: Digest) -> bool {
        let replica = self.routes().and_then(|routes| routes.replica());
        replica.is_some_and(|replica| replica.mark.digest == digest)
    }

    /// Where callers of a type connect.
    pub(crate) fn forward(&self, ty: &ManagerType) -> Option<&Listen> {
        let forward: Option<&Forward> = self.config.forwards.iter().find(|f| f.ty == *ty);
        forward.map(|f| &f.listen)
    }

    fn set_routes(&self, routes: Option<Routes>) {
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }
}
