//! Runs the command of one hook, one event after the other.

use crate::hooks::Hooks;
use crate::hooks::settings::{Hook, HookSettings};
use crate::hooks::waiting::{Job, Waiting};
use echelon_core::alarm::Notice;
use echelon_daemon::exec::{Exec, ExecError};
use echelon_daemon::retry_after;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The alarm of changes of a role that were not told.
const DROPPED: &str = "on-promote-dropped";

/// What to do about a command that fails.
const CORRECT: &str =
    "see the manager's log; correct the command or its settings, then: systemctl reload registry-manager";

/// Which hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// For alarms.
    Alarm,
    /// For changes of the role.
    Promote,
}

/// What became of one run, or of one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ran {
    /// The command succeeded.
    Done,
    /// It did not, and is run again.
    Failed,
    /// It did not, and is not run again for this event.
    GivenUp,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Alarm, Self::Promote];

    /// As in settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alarm => "on_alarm",
            Self::Promote => "on_promote",
        }
    }

    /// The alarm that its command fails.
    pub(super) fn alarm(self) -> &'static str {
        match self {
            Self::Alarm => "on-alarm-failed",
            Self::Promote => "on-promote-failed",
        }
    }

    fn hook(self, settings: &HookSettings) -> Option<&Hook> {
        match self {
            Self::Alarm => settings.on_alarm.as_ref().map(|on_alarm| &on_alarm.hook),
            Self::Promote => settings.on_promote.as_ref(),
        }
    }

    /// An address that was not moved may serve nobody; of what is not mailed, there is still `alarm list`.
    fn failing(self, why: &str) -> Notice {
        let message = format!("the command of {} does not succeed: {why}", self.name());
        match self {
            Self::Alarm => Notice::warning(self.alarm(), &message, CORRECT),
            Self::Promote => Notice::critical(self.alarm(), &message, CORRECT),
        }
    }
}

impl Ran {
    pub(crate) const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::GivenUp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// Changes of the role were not told, as too many came while a command ran.
pub(super) fn dropped() -> Notice {
    Notice::warning(
        DROPPED,
        "on_promote was not run for each change of the role: its command is too slow",
        CORRECT,
    )
}

/// What ended a wait.
enum Woken {
    /// It is over.
    Due,
    /// The settings may be others.
    Reloaded,
    /// There is something newer to tell, which makes this one old.
    Newer,
}

/// The task of one hook.
pub(super) struct Runner {
    kind: Kind,
    hooks: Hooks,
    settings: watch::Receiver<Arc<HookSettings>>,
}

impl Runner {
    pub(super) fn new(kind: Kind, hooks: Hooks) -> Self {
        let settings = hooks.0.settings.subscribe();
        Self { kind, hooks, settings }
    }

    /// Runs until `stop`; what is under way then is killed.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            never = self.work() => match never {},
        }
    }

    async fn work(&mut self) -> Infallible {
        let hooks = self.hooks.clone();
        let waiting = self.waiting(&hooks);
        loop {
            let job = waiting.next().await;
            self.tell(&job, waiting).await;
        }
    }

    fn waiting<'h>(&self, hooks: &'h Hooks) -> &'h Waiting {
        match self.kind {
            Kind::Alarm => &hooks.0.on_alarm,
            Kind::Promote => &hooks.0.on_promote,
        }
    }

    /// Runs the command for one event until it succeeds, there is none any more, or it is given up.
    async fn tell(&mut self, job: &Job, waiting: &Waiting) {
        let mut tries = 0;
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let Some(hook) = self.kind.hook(&settings) else {
                self.hooks.0.alarms.clear(self.kind.alarm());
                return;
            };
            match execute(hook, job).await {
                Ok(()) => return self.succeeded(job),
                Err(why) => tries = self.failed(job, &why.to_string(), tries),
            }
            let Some(wait) = retry_after(tries) else { return self.give_up(job, "it failed too often") };
            match self.wait(wait, waiting).await {
                Woken::Due => {}
                Woken::Reloaded => tries = 0,
                Woken::Newer => return self.give_up(job, "there is something newer to tell"),
            }
        }
    }

    async fn wait(&mut self, time: Duration, waiting: &Waiting) -> Woken {
        tokio::select! {
            () = sleep(time) => Woken::Due,
            // Never fails while the hooks are there.
            _ = self.settings.changed() => Woken::Reloaded,
            // Of a role only the present one counts; of alarms each is news.
            () = waiting.any(), if self.kind == Kind::Promote => Woken::Newer,
        }
    }

    fn succeeded(&self, job: &Job) {
        info!(hook = self.kind.name(), event = job.what, "Ran a hook");
        self.hooks.0.alarms.clear(self.kind.alarm());
        if self.kind == Kind::Promote {
            self.hooks.0.alarms.clear(DROPPED);
        }
        self.count(Ran::Done);
    }

    /// Gives how often it has failed in a row.
    fn failed(&self, job: &Job, why: &str, before: u32) -> u32 {
        warn!(hook = self.kind.name(), event = job.what, "A hook failed: {why}");
        self.hooks.0.alarms.raise(self.kind.failing(why));
        self.count(Ran::Failed);
        before.saturating_add(1)
    }

    fn give_up(&self, job: &Job, why: &str) {
        warn!(hook = self.kind.name(), event = job.what, "A hook is not run again for this event: {why}");
        self.count(Ran::GivenUp);
    }

    fn count(&self, ran: Ran) {
        self.hooks.0.hub.metrics.hook(self.kind, ran);
    }
}

async fn execute(hook: &Hook, job: &Job) -> Result<(), ExecError> {
    let (words, env, limit) = (&hook.command, job.env.clone(), hook.timeout);
    Exec { what: "command", words, env, limit }.run().await
}
