//! Commands of this host's own settings, run when an alarm comes or goes, and when the role of its registry manager
//! changes: the way to mail, to a pager, or to an address that moves along.
//!
//! Each hook has a task and runs one command at a time, in order. Nothing that comes over the network is ever run: what
//! happened is told in the environment.

mod event;
mod news;
mod runner;
mod settings;
mod waiting;

pub use event::{Cause, Promoted, RegistryRole};
pub(crate) use news::{AlarmNews, Key};
pub(crate) use runner::{Kind, Ran};
pub use settings::{Hook, HookError, HookSettings, OnAlarm};

use crate::alarms::Alarms;
use crate::clock::unix_now;
use crate::hub::Hub;
use crate::metrics::Queue;
use echelon_core::alarm::Severity;
use echelon_core::name::{FrameworkName, HostName};
use echelon_core::position::Position;
use echelon_core::report::AlarmReport;
use echelon_daemon::Tasks;
use runner::Runner;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::warn;
use waiting::Waiting;

/// Who tells, and at which state of the registry.
pub(crate) struct Teller {
    pub(crate) framework: FrameworkName,
    pub(crate) host: HostName,
    pub(crate) position: Position,
}

/// The hooks of one registry manager. Clones are the same.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    settings: watch::Sender<Arc<HookSettings>>,
    alarms: Alarms,
    hub: Arc<Hub>,
    on_alarm: Waiting,
    on_promote: Waiting,
}

impl Hooks {
    pub(crate) fn new(settings: HookSettings, alarms: Alarms, hub: Arc<Hub>) -> Self {
        let settings = watch::Sender::new(Arc::new(settings));
        let (on_alarm, on_promote) = (Waiting::default(), Waiting::default());
        Self(Arc::new(Inner { settings, alarms, hub, on_alarm, on_promote }))
    }

    /// Runs what comes, until the tasks are to end; what is running then is killed.
    pub(crate) fn start(&self, tasks: &Tasks) {
        for kind in Kind::ALL {
            let runner = Runner::new(kind, self.clone());
            tasks.spawn(kind.name(), runner.run(tasks.shutdown()));
        }
    }

    /// From now on these are the settings. What waits to be tried again is tried at once.
    pub(crate) fn set(&self, settings: HookSettings) {
        self.0.settings.send_replace(Arc::new(settings));
    }

    /// The role of this registry manager has changed, or was to. Never waits.
    ///
    /// The command of `on_promote` is run once for each call, in their order; what failed is tried again until it
    /// succeeds, or something newer is to be told.
    pub fn promoted(&self, event: &Promoted) {
        let settings = self.0.settings.borrow().clone();
        if settings.on_promote.is_some() && self.0.on_promote.push(event.job()) {
            warn!("The command of on_promote is too slow: the oldest change of role was not told");
            self.0.hub.metrics.dropped(Queue::Promotions);
            self.0.alarms.raise(runner::dropped());
        }
    }

    /// The least severity of alarms that are told; none where nobody wants to be told.
    pub(crate) fn least_severity(&self) -> Option<Severity> {
        self.0.settings.borrow().on_alarm.as_ref().map(|on_alarm| on_alarm.severity)
    }

    /// These alarms are up. Has that told of which nothing was, the worst first, as far as there is room; the rest
    /// another time, if it is still so.
    pub(crate) fn see(&self, news: &mut AlarmNews, up: &BTreeMap<Key, AlarmReport>, by: &Teller) {
        let now = unix_now();
        for told in news.take(self.least_severity(), up, self.0.on_alarm.room()) {
            // There was room for as many, and nobody else fills it.
            self.0.on_alarm.push(told.job(by, now));
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("settings", &*self.0.settings.borrow()).finish_non_exhaustive()
    }
}
