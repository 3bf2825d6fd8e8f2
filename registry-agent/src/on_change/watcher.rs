//! Follows routes and does what the rules say.

use crate::alarms::Alarms;
use crate::clock::Clock;
use crate::exec::Exec;
use crate::metrics::Metrics;
use crate::on_change::rule::{OnChange, OnChanges, Rendering};
use crate::on_change::{file, template};
use crate::routes::{Routes, Snapshot};
use echelon_core::alarm::Notice;
use echelon_core::limits::MAX_WANTED_TYPES;
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::policy::TypeSelector;
use echelon_core::report::Basis;
use echelon_core::route::Route;
use echelon_daemon::Tasks;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The alarm of a rule that cannot be followed.
const FAILED: &str = "on-change-failed";

/// What to do about it.
const CORRECT: &str = "see the agent's log; correct the template, the command or [[on_change]], then: systemctl reload registry-agent";

/// First and longest wait before a rule is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often in a row one change is tried. By then a quarter of an hour has passed, and only another change, or a reload,
/// makes a difference.
const MAX_TRIES: u32 = 20;

/// What the rules are followed with.
#[derive(Clone)]
pub(crate) struct Reactions {
    clock: Clock,
    routes: Routes,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    faults: Faults,
}

impl Reactions {
    pub(crate) fn new(
        clock: Clock,
        routes: Routes,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        alarms: Alarms,
    ) -> Self {
        Self { clock, routes, tasks, metrics, faults: Faults { alarms, up: Arc::default() } }
    }

    /// Follows exactly these rules until `stop`. Those that stay when the rules change go on undisturbed.
    pub(crate) async fn run(self, mut rules: watch::Receiver<Arc<OnChanges>>, stop: CancellationToken) {
        let mut running: BTreeMap<OnChange, CancellationToken> = BTreeMap::new();
        loop {
            let wanted = Arc::clone(&rules.borrow_and_update());
            let wanted: BTreeSet<&OnChange> = wanted.iter().collect();
            running.retain(|rule, stop| {
                let stays = wanted.contains(rule);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for rule in wanted {
                if !running.contains_key(rule) {
                    running.insert(rule.clone(), self.start(rule.clone()));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = rules.changed() => if changed.is_err() {
                    // Nobody can change them any more.
                    return stop.cancelled().await;
                }
            }
        }
    }

    fn start(&self, rule: OnChange) -> CancellationToken {
        let stop = self.tasks.shutdown().child_token();
        let (stopped, parts) = (stop.clone(), self.clone());
        self.tasks.spawn("on-change", async move {
            let faults = parts.faults.clone();
            let mut follower = Follower { parts, rule, types: BTreeMap::new() };
            tokio::select! {
                () = stopped.cancelled() => {}
                never = follower.follow() => match never {},
            }
            for ty in follower.types.keys() {
                faults.clear(&follower.rule.label(ty));
            }
        });
        stop
    }
}

/// One rule being followed: one thing at a time, and of several changes the last.
struct Follower {
    parts: Reactions,
    rule: OnChange,
    types: BTreeMap<ManagerType, State>,
}

/// How far a rule is with one type.
#[derive(Default)]
struct State {
    /// What has been told; none before the first time.
    done: Option<String>,
    /// What could not be told, and how often in a row.
    failed: Option<(String, u32)>,
    /// When the next try is due.
    due: Option<Instant>,
    /// Who was used when it was last told.
    from: Option<HostName>,
    /// Whether a command has to be run yet for a file that has been made.
    owes_command: bool,
}

impl Follower {
    async fn follow(&mut self) -> std::convert::Infallible {
        let mut changes = self.parts.routes.changes();
        loop {
            changes.mark_unchanged();
            let mut next: Option<Instant> = None;
            for ty in self.wanted() {
                let due = self.look(&ty).await;
                next = next.into_iter().chain(due).min();
            }
            tokio::select! {
                // Never fails while the agent is there.
                _ = changes.changed() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// The types of the rule.
    fn wanted(&self) -> BTreeSet<ManagerType> {
        match (&self.rule.ty, self.parts.routes.replica()) {
            (TypeSelector::One(ty), _) => BTreeSet::from([ty.clone()]),
            (TypeSelector::All, None) => BTreeSet::new(),
            (TypeSelector::All, Some(replica)) => {
                let there = replica.view.managers().map(|m| m.ty.clone()).collect::<BTreeSet<_>>();
                there.into_iter().take(MAX_WANTED_TYPES).collect()
            }
        }
    }

    /// Does what is due for a type. Gives when to look again though nothing changes.
    async fn look(&mut self, ty: &ManagerType) -> Option<Instant> {
        // Without a replica, or with too many types, there is nothing to tell; another change brings us back.
        self.parts.routes.want(ty).await.ok()?;
        let (route, replica) = self.parts.routes.get_with_replica(ty.as_str())?;
        let key = key(&self.rule, &route);
        let state = self.types.entry(ty.clone()).or_default();
        let now = Instant::now();
        if !state.plan(&key, now, self.rule.debounce) {
            return None;
        }
        let due = state.due?;
        if due > now {
            return Some(due);
        }
        let told = tell(&self.parts, &self.rule, state, &route, &replica).await;
        self.parts.metrics.count_on_change(ty, told.is_ok());
        let label = self.rule.label(ty);
        match told {
            Ok(()) => {
                let to = route.chosen().map(|entry| entry.candidate.manager.name.clone());
                info!(manager.type = %ty, rule = label, to = ?to.as_ref().map(HostName::as_str), "Told of a change");
                state.succeed(key, to);
                self.parts.faults.clear(&label);
            }
            Err(why) => {
                state.fail(key, Instant::now());
                warn!(manager.type = %ty, rule = label, again = state.due.is_some(), "Could not tell of a change: {why}");
                self.parts.faults.raise(label, &why);
            }
        }
        state.due
    }
}

impl State {
    /// Takes in what there is to tell. Says whether that is anything, now or later.
    fn plan(&mut self, key: &str, now: Instant, debounce: Duration) -> bool {
        if self.done.as_deref() == Some(key) && !self.owes_command {
            (self.due, self.failed) = (None, None);
            return false;
        }
        let known = self.failed.as_ref().is_some_and(|(failed, _)| failed == key);
        if self.due.is_none() && !known {
            // The first time is no change to wait for.
            self.due = Some(if self.done.is_none() && self.failed.is_none() { now } else { now + debounce });
        }
        self.due.is_some()
    }

    fn succeed(&mut self, key: String, to: Option<HostName>) {
        *self = Self { done: Some(key), from: to, ..Self::default() };
    }

    fn fail(&mut self, key: String, now: Instant) {
        let before = self.failed.take().filter(|(failed, _)| *failed == key).map_or(0, |(_, tries)| tries);
        let tries = before.saturating_add(1);
        let wait = RETRY.0.saturating_mul(1 << before.min(16)).min(RETRY.1);
        self.due = (tries < MAX_TRIES).then(|| now + wait);
        self.failed = Some((key, tries));
    }
}

/// What tells apart two routes to a rule: of a file the order of candidates, too, which it may name.
fn key(rule: &OnChange, route: &Route) -> String {
    match (&rule.rendering, route.chosen()) {
        (Some(_), _) => route.tag().to_string(),
        (None, None) => String::new(),
        (None, Some(entry)) => {
            let manager = &entry.candidate.manager;
            format!("{} {}", manager.name, manager.endpoint)
        }
    }
}

/// Renders the file, and runs the command where there is anything new.
async fn tell(
    parts: &Reactions,
    rule: &OnChange,
    state: &mut State,
    route: &Route,
    replica: &Snapshot,
) -> Result<(), Text> {
    state.owes_command |= match &rule.rendering {
        None => true,
        Some(rendering) => {
            let report = route.report(&replica.view, parts.clock.now(), Basis::Live);
            let rendering = rendering.clone();
            let rendered = tokio::task::spawn_blocking(move || render(&rendering, &report)).await;
            rendered.unwrap_or_else(|_| Err(Text::lossy("the file could not be rendered")))?
        }
    };
    if let Some(words) = rule.command.as_ref().filter(|_| state.owes_command) {
        let env = environment(rule, state, route);
        Exec { what: "command", words, env, limit: rule.timeout }.run().await?;
    }
    state.owes_command = false;
    Ok(())
}

fn environment(rule: &OnChange, state: &State, route: &Route) -> Vec<(&'static str, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let chosen = route.chosen().map(|entry| &entry.candidate.manager);
    let outcome = serde_json::to_value(route.outcome).ok().and_then(|o| o.as_str().map(str::to_owned));
    let mut env = vec![
        ("ECHELON_TYPE", route.ty.to_string()),
        ("ECHELON_FROM", text(state.from.as_ref().map(ToString::to_string))),
        ("ECHELON_TO", text(chosen.map(|m| m.name.to_string()))),
        ("ECHELON_ENDPOINT", text(chosen.map(|m| m.endpoint.to_string()))),
        ("ECHELON_OUTCOME", text(outcome)),
        ("ECHELON_CAUSE", route.cause.to_string()),
    ];
    let file = rule.rendering.as_ref().map(|rendering| rendering.file.display().to_string());
    env.extend(file.map(|file| ("ECHELON_FILE", file)));
    env
}

/// Renders a file. Says whether it is another one than before.
fn render(rendering: &Rendering, route: &impl serde::Serialize) -> Result<bool, Text> {
    let Rendering { template: source, file: path, mode } = rendering;
    let cannot = |what: &str, path: &std::path::Path, error: std::io::Error| {
        Text::lossy(&format!("{} cannot be {what}: {error}", path.display()))
    };
    let mut text = String::new();
    let read = std::fs::File::open(source)
        .and_then(|file| file.take(template::MAX_TEMPLATE + 1).read_to_string(&mut text));
    let length = read.map_err(|error| cannot("read", source, error))?;
    if length as u64 > template::MAX_TEMPLATE {
        return Err(Text::lossy(&format!("{} is larger than a template may be", source.display())));
    }
    let rendered =
        template::render(&text, route).map_err(|why| Text::lossy(&format!("{}: {why}", source.display())))?;
    file::replace(path, rendered.as_bytes(), *mode).map_err(|error| cannot("written", path, error))
}

/// What could not be told, by rule and type, as one alarm.
#[derive(Clone)]
struct Faults {
    alarms: Alarms,
    up: Arc<Mutex<BTreeMap<String, Text>>>,
}

impl Faults {
    fn raise(&self, label: String, why: &Text) {
        self.change(|up| up.insert(label, why.clone()).as_ref() != Some(why));
    }

    fn clear(&self, label: &str) {
        self.change(|up| up.remove(label).is_some());
    }

    /// Shows what is up, where that has changed.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Text>) -> bool) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut up) {
            return;
        }
        let all: Vec<String> = up.iter().map(|(label, why)| format!("{label}: {why}")).collect();
        match all.is_empty() {
            true => self.alarms.clear(FAILED),
            false => {
                let message = format!("programs of this host are not told of changes: {}", all.join("; "));
                self.alarms.raise(Notice::warning(FAILED, &message, CORRECT));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_time_is_at_once_changes_are_gathered_and_what_is_as_before_is_none() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.plan("a", now, DEBOUNCE) && state.due == Some(now));
        state.succeed("a".into(), None);
        assert!(!state.plan("a", now, DEBOUNCE));
        assert!(state.plan("b", now, DEBOUNCE) && state.due == Some(now + DEBOUNCE));
        let later = now + DEBOUNCE / 2;
        assert!(
            state.plan("c", later, DEBOUNCE) && state.due == Some(now + DEBOUNCE),
            "no change puts it off"
        );
        assert!(!state.plan("a", later, DEBOUNCE) && state.due.is_none());
    }

    #[test]
    fn a_failure_is_tried_again_ever_more_seldom_and_not_for_ever() {
        let (mut state, now) = (State::default(), Instant::now());
        let (mut tries, mut waited) = (0, Duration::ZERO);
        while state.plan("a", now, DEBOUNCE) {
            waited += state.due.unwrap() - now;
            tries += 1;
            state.fail("a".into(), now);
        }
        assert_eq!(tries, MAX_TRIES);
        assert!(waited > Duration::from_secs(600) && waited < RETRY.1 * MAX_TRIES, "{waited:?}");
        assert!(state.plan("b", now, DEBOUNCE), "another change is tried");
        state.fail("b".into(), now);
        assert_eq!(state.due, Some(now + RETRY.0), "and begins anew");
        state.succeed("b".into(), None);
        state.owes_command = true;
        assert!(state.plan("b", now, DEBOUNCE), "a command that is owed is run");
    }
}
