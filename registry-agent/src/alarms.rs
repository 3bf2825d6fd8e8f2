//! The alarms that this agent has raised of itself.

use crate::clock::Clock;
use echelon_core::alarm::{Notice, OwnAlarms, Raised};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

/// What is wrong with this agent at the moment: shown by its local API, and told to the registry manager
/// in heartbeats. Clones share it; raising and clearing never wait.
#[derive(Clone, Debug)]
pub struct Alarms {
    clock: Clock,
    own: Arc<watch::Sender<OwnAlarms>>,
}

impl Alarms {
    /// No alarms.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, own: Arc::default() }
    }

    /// Raises an alarm, which stays up until it is cleared. One that is up already may change what it says.
    pub fn raise(&self, notice: Notice) {
        let Notice { name, severity, message, remedy } = notice.clone();
        if self.own.send_if_modified(|own| own.raise(self.clock.now(), notice)) {
            warn!(alarm = %name, %severity, %remedy, "Raised an alarm: {message}");
        }
    }

    /// Takes an alarm back, where it is up.
    pub fn clear(&self, name: &str) {
        if self.own.send_if_modified(|own| own.clear(name)) {
            info!(alarm = name, "Cleared an alarm");
        }
    }

    /// What is up, by name.
    pub fn list(&self) -> Vec<Raised> {
        self.own.borrow().list(self.clock.now())
    }

    /// Changes with every alarm that is raised, changed or cleared from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<OwnAlarms> {
        self.own.subscribe()
    }
}
