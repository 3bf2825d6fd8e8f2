//! Alarms: those that this manager raises of itself, and all that are up.

use crate::clock::{Clock, unix_now};
use crate::failure;
use crate::hooks::{AlarmNews, Key, Teller};
use crate::hub::Event;
use crate::journal::Situation;
use crate::limits::{ALARM_INTERVAL, LOST_INTERVAL, SELF_INTERVAL};
use crate::lost;
use crate::paths::Paths;
use crate::promotion::sight;
use crate::root;
use crate::server::{Inner, Shared};
use echelon_core::alarm::{Notice, OwnAlarms, Raised};
use echelon_core::event::{EventKind, EventReport};
use echelon_core::grant::{Chain, GrantId, Relation};
use echelon_core::position::Position;
use echelon_core::promotion::HOW_TO_CHOOSE;
use echelon_core::report::AlarmReport;
use echelon_core::survey::Survey;
use echelon_core::time::UnixMillis;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// The alarm of a certificate of the manager's own that is not renewed.
pub(crate) const RENEWAL: &str = "renewal-failing";

/// The alarm of a journal of which agents were told another hash.
const REWRITTEN: &str = "history-rewritten";

/// The alarm of grants that agents know and this manager does not.
const SUPERSEDED: &str = "superseded";

/// The alarm of two lineages.
const CONFLICT: &str = "conflict";

/// The alarm of a state directory that was set back.
const ROLLED_BACK: &str = "rolled-back";

/// The alarm of a promise that holds this manager.
const SEALED: &str = "sealed";

/// The alarm of edits that were given up and are kept.
const SURPLUS: &str = "surplus";

/// The alarm of settings that were refused.
pub(crate) const SETTINGS: &str = "settings-refused";

/// The alarm of settings that are not in force.
pub(crate) const PENDING: &str = "settings-pending";

/// The alarm of an issuer near its end.
const ISSUER: &str = "issuer-expiring";

/// The alarm of a root key without a copy.
const ROOT: &str = "root-not-exported";

/// How long before its end an issuer gives alarm: it takes the root key, which may lie in a safe.
const ISSUER_LEFT: Duration = Duration::from_secs(60 * 24 * 3600);

/// The alarm of a socket with small buffers, and of datagrams that were lost by that.
const BUFFERS: &str = "socket-buffers-small";

/// The alarms that a manager has raised of itself. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Alarms {
    clock: Clock,
    own: Arc<Mutex<OwnAlarms>>,
}

impl Alarms {
    /// No alarms.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, own: Arc::default() }
    }

    /// Raises an alarm, which stays up until it is cleared. One that is up already may change what it says.
    pub(crate) fn raise(&self, notice: Notice) {
        let Notice { name, severity, message, remedy } = notice.clone();
        if self.own().raise(self.clock.now(), notice) {
            warn!(alarm = %name, %severity, %remedy, "Raised an alarm: {message}");
        }
    }

    /// Takes an alarm back, where it is up.
    pub(crate) fn clear(&self, name: &str) {
        if self.own().clear(name) {
            info!(alarm = name, "Cleared an alarm");
        }
    }

    fn list(&self) -> Vec<Raised> {
        self.own().list(self.clock.now())
    }

    fn own(&self) -> MutexGuard<'_, OwnAlarms> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// This manager at this moment, as hooks tell it.
    fn teller(&self) -> Teller {
        let registry = self.hub.registry();
        let framework = registry.meta().framework.clone();
        Teller { framework, host: self.name(), position: registry.position() }
    }

    /// Works on what there is to see at the moment. Holds the board meanwhile.
    pub(crate) fn survey<T>(&self, work: impl FnOnce(&Survey<'_>) -> T) -> T {
        let (registry, own, manager) = (self.hub.registry(), self.alarms.list(), self.name());
        let managers = sight(self, |sight| sight.alarms());
        let board = self.hub.board();
        let now = self.hub.clock.now();
        let (manager, own, managers) = (&manager, &own, &managers);
        work(&Survey { registry: &registry, board: &board, now, manager, own, managers })
    }
}

/// The manager's certificate was not renewed.
pub(crate) fn not_renewed(not_after: UnixMillis, why: &str) -> Notice {
    let remedy = "see whether the manager's state directory can be written; it is tried again";
    let message = format!("the manager's certificate, which ends at {not_after}, was not renewed: {why}");
    Notice::critical(RENEWAL, &message, remedy)
}

/// The settings file was refused when it was read again.
pub(crate) fn settings_refused(why: &str) -> Notice {
    let message = format!("the settings file cannot be used, the old settings stay in force: {why}");
    Notice::warning(
        SETTINGS,
        &message,
        "correct it, then send the manager SIGHUP: systemctl reload registry-manager",
    )
}

/// Settings that were read again wait for a restart.
pub(crate) fn settings_pending(keys: &[&str]) -> Notice {
    let keys = keys.join(", ");
    let message = format!("settings are not in force: {keys} changed, which takes a restart");
    let remedy = "systemctl restart registry-manager; or correct the settings file and reload";
    Notice::warning(PENDING, &message, remedy)
}

/// An agent was told another history.
fn rewritten(at: Position) -> Notice {
    let message =
        format!("agents were shown another history up to revision {at}: one of the two was rewritten");
    let remedy =
        "compare the history with its backups before anything else is edited; then restore the right one";
    Notice::critical(REWRITTEN, &message, remedy)
}

/// Others hold entries that only this manager can have made, and that it has not got.
fn rolled_back(seen: Position) -> Notice {
    let message = format!(
        "the state directory of this manager was set back: others have seen revision {} of epoch {}, and it takes no edits",
        seen.revision, seen.epoch
    );
    Notice::critical(ROLLED_BACK, &message, failure::ROLLED_BACK)
}

/// Agents know of grants that this manager does not go by: newer ones, or another lineage.
fn superseded(shared: &Shared, situation: &Situation) -> [(&'static str, Option<Notice>); 2] {
    let witnesses = &shared.hub.witnesses;
    let (own, heard) = (witnesses.current(), witnesses.heard().borrow().clone());
    // What is contested is among the rivals.
    let heard = heard.filter(|heard| heard.against.is_none());
    let relation = heard.as_ref().map(|heard| own.compare(&heard.chain));
    let (mut newer, mut conflict) =
        (None, situation.rivals.first().map(|rival| rivals(shared, rival, situation)));
    match (relation, heard) {
        (Some(Relation::Newer(_)), Some(heard)) => {
            let message = format!(
                "agents know of a newer primary, by {}: this manager's state counts only up to where that one began",
                heard.chain.head().id
            );
            newer =
                Some(Notice::critical(SUPERSEDED, &message, "echelon manager list, at the other manager"));
        }
        (Some(Relation::Conflict { ours, theirs }), _) => {
            let message = format!(
                "two managers were made primary of one state: this one by {ours}, and agents keep to {theirs}"
            );
            conflict = Some(Notice::critical(CONFLICT, &message, HOW_TO_CHOOSE));
        }
        _ => {}
    }
    [(SUPERSEDED, newer), (CONFLICT, conflict)]
}

/// Managers know of another lineage than this one.
fn rivals(shared: &Shared, rival: &Chain, situation: &Situation) -> Notice {
    let [ours, theirs] = [situation.chain.head(), rival.head()]
        .map(|grant| format!("{} by {}", shared.hub.name_of(grant.holder), grant.id));
    let message = format!("two managers were made primary of one state: {ours}, as here, and {theirs}");
    Notice::critical(CONFLICT, &message, HOW_TO_CHOOSE)
}

/// It has promised to take nothing more from the primary: a promotion is under way, or was left unfinished.
fn sealed(shared: &Shared, situation: &Situation) -> Option<Notice> {
    let grant = situation.chain.head().id;
    let seal = situation.standing.seals.under(grant).next()?;
    let [by, primary] = [seal.by, situation.primary()].map(|host| shared.hub.name_of(host));
    let message =
        format!("this manager has promised {by}, for its promotion, to take no edits from {primary}");
    let remedy = format!(
        "finish it: echelon promote {by} --force; or where {primary} answers: echelon promote {primary}"
    );
    Some(Notice::warning(SEALED, &message, &remedy))
}

/// Edits that were given up with their grant are kept here, and were not made once more.
fn surplus(edits: u64) -> Option<Notice> {
    let message = format!("{edits} edits are kept here that were given up when the primary changed");
    let remedy =
        "echelon edits lost; --apply makes them once more, --dismiss HOST says that they are dealt with";
    (edits > 0).then(|| Notice::warning(SURPLUS, &message, remedy))
}

/// Counts the edits that were given up and that nobody has made once more or dismissed. What cannot be read now is read later.
pub(crate) async fn look_for_lost(shared: &Shared) {
    let reader = Arc::clone(shared);
    let Ok(Ok(lost)) = tokio::task::spawn_blocking(move || lost::edits(&reader)).await else { return };
    let left = lost.iter().filter(|edit| edit.is_open()).count() as u64;
    shared.surplus.store(left, Ordering::Relaxed);
    set(&shared.alarms, SURPLUS, surplus(left));
}

/// Looks at the manager itself until it stops.
pub(crate) async fn watch_self(shared: Shared) {
    let (mut lost, mut looked) = (0, None::<(GrantId, Instant)>);
    let mut tick = interval(SELF_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        set(&shared.alarms, ISSUER, issuer(shared.issuer.not_after(), unix_now()));
        let unexported = root::is_unexported(&shared.paths);
        set(&shared.alarms, ROOT, unexported.then(|| not_exported(&shared.paths)));
        let witnesses = &shared.hub.witnesses;
        set(&shared.alarms, REWRITTEN, witnesses.rewritten().map(rewritten));
        set(&shared.alarms, ROLLED_BACK, shared.edits.situation().rolled_back.map(rolled_back));
        let situation = shared.edits.situation();
        for (name, notice) in superseded(&shared, &situation) {
            set(&shared.alarms, name, notice);
        }
        set(&shared.alarms, SEALED, sealed(&shared, &situation));
        let grant = situation.chain.head().id;
        if looked.is_none_or(|(at, when)| at != grant || when.elapsed() >= LOST_INTERVAL) {
            looked = Some((grant, Instant::now()));
            look_for_lost(&shared).await;
        }
        let drops = shared.endpoint.socket_drops().unwrap_or(0);
        lost = drops.max(lost);
        if let Some(small) = shared.endpoint.small_buffers() {
            shared.alarms.raise(buffers(small.receive, small.wanted, lost));
        }
    }
}

fn set(alarms: &Alarms, name: &str, notice: Option<Notice>) {
    match notice {
        Some(notice) => alarms.raise(notice),
        None => alarms.clear(name),
    }
}

fn not_exported(paths: &Paths) -> Notice {
    let message = "there is no copy of the root key: no manager can be added once this disk is lost";
    Notice::info(ROOT, message, &root::export_command(paths))
}

fn issuer(not_after: UnixMillis, now: UnixMillis) -> Option<Notice> {
    let message = format!("the issuer with which this manager signs certificates ends at {not_after}");
    let remedy = "this version cannot make a new one: upgrade before that; afterwards hosts cannot enrol or renew, and routing goes on";
    match now + ISSUER_LEFT {
        _ if now >= not_after => Some(Notice::critical(ISSUER, &message, remedy)),
        soon if soon >= not_after => Some(Notice::warning(ISSUER, &message, remedy)),
        _ => None,
    }
}

/// Worth knowing where nothing was lost yet.
fn buffers(receive: usize, wanted: usize, lost: u64) -> Notice {
    let remedy =
        format!("sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}, then restart the manager");
    let have = format!("the UDP socket has a receive buffer of {receive} bytes, not {wanted}");
    match lost {
        0 => Notice::info(BUFFERS, &have, &remedy),
        // How many, the metrics tell: an alarm that says another number all the time is no news.
        _ => Notice::warning(BUFFERS, &format!("{have}, and has lost datagrams"), &remedy),
    }
}

/// Tells those who watch, and the command of `on_alarm`, which alarms come and go, until the manager stops.
pub(crate) async fn tell(shared: Shared) {
    let (mut known, mut hooked) = (None, AlarmNews::default());
    let mut tick = interval(ALARM_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        let watched = shared.hub.is_watched();
        known = known.filter(|_| watched);
        if !watched && shared.hooks.least_severity().is_none() {
            hooked = AlarmNews::default();
            continue;
        }
        let up = shared.survey(|survey| survey.alarms());
        let up: BTreeMap<_, _> = up.into_iter().map(|a| ((a.name.clone(), a.subject.clone()), a)).collect();
        if let Some(known) = &known {
            shared.hub.happened(news(unix_now(), known, &up).map(Event::told));
        }
        shared.hooks.see(&mut hooked, &up, &shared.teller());
        known = watched.then_some(up);
    }
}

fn news<'a>(
    at: UnixMillis,
    known: &'a BTreeMap<Key, AlarmReport>,
    up: &'a BTreeMap<Key, AlarmReport>,
) -> impl Iterator<Item = EventReport> + 'a {
    let says = |a: &AlarmReport| (a.severity, a.message.clone());
    let raised = up.iter().filter(move |(key, a)| known.get(*key).map(says) != Some(says(a)));
    let cleared = known.iter().filter(|(key, _)| !up.contains_key(*key));
    let raised = raised.map(move |(_, a)| EventReport::alarm(at, EventKind::AlarmRaised, a.clone()));
    raised.chain(cleared.map(move |(_, a)| EventReport::alarm(at, EventKind::AlarmCleared, a.clone())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use echelon_core::alarm::Severity;

    #[test]
    fn an_issuer_gives_alarm_sixty_days_before_its_end() {
        let day = Duration::from_secs(24 * 3600);
        let end = UnixMillis(0) + day * 365;
        let severity = |days: u32| issuer(end, UnixMillis(0) + day * days).map(|n| n.severity);
        assert_eq!([304, 305, 365].map(severity), [None, Some(Severity::Warning), Some(Severity::Critical)]);
    }

    #[test]
    fn small_buffers_are_a_warning_once_something_was_lost() {
        assert_eq!(buffers(1, 2, 0).severity, Severity::Info);
        assert_eq!(buffers(1, 2, 7).severity, Severity::Warning);
    }

    #[test]
    fn watchers_hear_what_is_raised_what_says_something_else_and_what_is_over() {
        let alarm = |subject: &str, message: &str| {
            let raised =
                Raised { notice: Notice::warning("agent-silent", message, ""), since: Duration::ZERO };
            let report = AlarmReport::raised(&raised, subject);
            ((report.name.clone(), report.subject.clone()), report)
        };
        let known = BTreeMap::from([alarm("a", "one"), alarm("b", "one"), alarm("c", "one")]);
        let up = BTreeMap::from([alarm("b", "two"), alarm("c", "one"), alarm("d", "one")]);
        let told: Vec<_> = news(UnixMillis(0), &known, &up).map(|e| (e.event, e.subject)).collect();
        let (raised, cleared) = (EventKind::AlarmRaised, EventKind::AlarmCleared);
        assert_eq!(told, [(raised, "b".into()), (raised, "d".into()), (cleared, "a".into())]);
    }
}
