//! Probing registry managers, which speak QUIC.

use crate::connect::resolve;
use crate::registry::{Identity, Link};
use echelon_core::evidence::Seen;
use echelon_core::name::Text;
use echelon_core::route::Target;
use std::sync::Arc;

/// With which a connection is closed that was made only to see whether it can be.
const PROBE: u32 = 2;

/// Probes registry managers as this agent.
#[derive(Clone)]
pub(crate) struct ManagerProbe {
    pub(crate) identity: Arc<Identity>,
    pub(crate) link: Arc<Link>,
}

impl ManagerProbe {
    /// What a connect comes to. Without a session nothing is probed: the search for one does the same.
    pub(crate) async fn probe(&self, target: &Target) -> Option<Seen> {
        self.link.session()?;
        Some(self.connect(target).await.map_or_else(Seen::Failed, |()| Seen::Connected))
    }

    async fn connect(&self, target: &Target) -> Result<(), Text> {
        let addresses = resolve(&target.endpoint).await?;
        let mut why = Text::lossy("no address");
        for addr in addresses {
            let whom = echelon_transport::Target::Manager(target.host);
            match self.identity.endpoint().connect(addr, &whom).await {
                Ok(connection) => {
                    connection.close(PROBE, "only a probe");
                    return Ok(());
                }
                Err(error) => why = Text::lossy(&error.problem.to_string()),
            }
        }
        Err(why)
    }
}
