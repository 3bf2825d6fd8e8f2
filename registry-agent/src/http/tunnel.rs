//! A connection whose protocol has changed: bytes both ways, until both have ended.

use crate::http::forwarder::Inner;
use crate::http::place::Place;
use crate::http::wire::Wire;
use echelon_core::route::Target;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tracing::debug;

/// Both ends of such a connection, as soon as they have changed.
pub(super) struct Tunnel {
    pub(super) caller: OnUpgrade,
    pub(super) manager: OnUpgrade,
    pub(super) target: Target,
    /// Of the manager's end.
    pub(super) wire: Arc<Wire>,
    /// It still counts as a request.
    pub(super) place: Place,
}

impl Tunnel {
    /// Carries bytes as soon as both ends have changed, until one breaks, both have ended, or the manager's
    /// connections are closed.
    pub(super) fn start(self, forwarder: &Arc<Inner>) {
        let this = Arc::clone(forwarder);
        forwarder.parts.tasks.spawn_in(&forwarder.span, "http-tunnel", async move {
            let mut open = this.backends.opened(&self.target);
            tokio::select! {
                biased;
                cause = self.wire.obey(&mut open) => {
                    debug!(manager.host = %self.target.name, cause = cause.as_str(), "Closed a tunnel");
                }
                () = carry(self.caller, self.manager) => {}
            }
            drop(self.place);
        });
    }
}

async fn carry(caller: OnUpgrade, manager: OnUpgrade) {
    let (caller, manager) = match tokio::try_join!(caller, manager) {
        Ok(both) => both,
        Err(error) => return debug!(%error, "A connection did not change its protocol"),
    };
    let (mut caller, mut manager) = (TokioIo::new(caller), TokioIo::new(manager));
    if let Err(error) = copy_bidirectional(&mut caller, &mut manager).await {
        debug!(%error, "A connection with another protocol broke");
    }
}
