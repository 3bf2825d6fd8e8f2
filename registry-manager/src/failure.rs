//! Failures that are the manager's own to tell; edits have theirs from the core.

use echelon_core::duration::rough;
use echelon_core::id::HostId;
use echelon_core::issuer::RenewReason;
use echelon_core::member::CannotWrite;
use echelon_core::message::{Failure, FailureClass, RENEW_FIRST, Retry};
use echelon_core::promotion::ways_out;
use echelon_core::registry::Registry;
use echelon_core::time::Monotonic;
use echelon_daemon::shell_word;
use std::time::Duration;

/// No edit was taken: no primary is there.
pub(crate) const NO_PRIMARY: &str = "no-primary";

/// No edit was taken: the primary is handing over.
pub(crate) const HANDING_OVER: &str = "handing-over";

/// No edit was taken: too few standbys would hold it.
pub(crate) const TOO_FEW: &str = "too-few-standbys";

fn failure(error: &str, class: FailureClass, message: String, remedy: &str, retry: Retry) -> Failure {
    let (error, remedy, place) = (error.to_owned(), remedy.to_owned(), String::new());
    Failure { error, class, message, place, remedy, retry }
}

/// An error with all its causes, for the log.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The peer's access level does not include this.
pub(crate) fn not_allowed(what: &str) -> Failure {
    let message = format!("this identity may not {what}");
    let remedy = "use a console identity with the access level that this needs";
    failure("not-allowed", FailureClass::NotAllowed, message, remedy, Retry::Pointless)
}

/// The peer showed no certificate, or one that does not count any more.
pub(crate) fn unknown_identity() -> Failure {
    let message = "this identity is unknown here, or denied".to_owned();
    let remedy = "enrol again with a new token: echelon token create --host NAME --replace";
    failure("unknown-identity", FailureClass::NotAllowed, message, remedy, Retry::Pointless)
}

/// The peer's certificate serves for its renewal only. Agents and consoles go by the name of this failure.
pub(crate) fn renew_first(why: RenewReason) -> Failure {
    let why = match why {
        RenewReason::Expired => "has expired",
        RenewReason::IssuerLeft => "is signed by a registry manager that has left",
    };
    let message = format!("this certificate {why}, and is to be renewed before anything else");
    failure(
        RENEW_FIRST,
        FailureClass::NotAllowed,
        message,
        "renew it; agents do so by themselves",
        Retry::Safe,
    )
}

/// The root key, which signs new managers, is not here.
pub(crate) fn no_root_key(path: &std::path::Path) -> Failure {
    let message = format!(
        "no manager can be added, since the root key is not on the primary's host: {} is missing; nothing was changed",
        path.display()
    );
    let state = shell_word(&path.parent().unwrap_or(path).to_string_lossy());
    let remedy = format!(
        "there: registry-manager root import FILE --passphrase-file PASSPHRASE --state {state}; then repeat this command"
    );
    failure("no-root-key", FailureClass::Forbidden, message, &remedy, Retry::Safe)
}

/// The bytes are no request that this build knows.
pub(crate) fn bad_request(why: &dyn std::fmt::Display) -> Failure {
    let message = format!("the manager could not read the request: {why}");
    let remedy = "use a console or an agent whose version is at most two minor versions away";
    failure("bad-request", FailureClass::Failed, message, remedy, Retry::Pointless)
}

/// The store would not take the edit, and holds nothing of it.
pub(crate) fn not_stored(why: &dyn std::fmt::Display) -> Failure {
    let message = format!("the edit could not be made durable and was not carried out: {why}");
    let remedy = "see the manager's log; make room on its disk if it is full";
    failure("not-stored", FailureClass::Failed, message, remedy, Retry::Safe)
}

/// The store would not take note that edits were dealt with.
pub(crate) fn not_dismissed(why: &dyn std::error::Error) -> Failure {
    let message = format!("nothing was dismissed: {}", in_full(why));
    let remedy = "see the manager's log; make room on its disk if it is full";
    failure("not-stored", FailureClass::Failed, message, remedy, Retry::Safe)
}

/// The edit changes more than one answer can tell.
pub(crate) fn too_large(rows: usize) -> Failure {
    let message =
        format!("the edit changes {rows} objects, more than one answer can tell; nothing was changed");
    failure("too-large", FailureClass::Failed, message, "make it in several edits", Retry::Pointless)
}

/// One document of a report is more than a message may carry.
pub(crate) fn report_too_large(bytes: usize) -> Failure {
    let message = format!("one answer of the report has {bytes} bytes, more than a message may carry");
    let remedy = "ask for fewer candidates: --candidates N";
    failure("too-large", FailureClass::Failed, message, remedy, Retry::Pointless)
}

/// More managers are to be taken as down than are compared.
pub(crate) fn too_many_down(count: usize, most: usize) -> Failure {
    let message = format!("{count} managers are to be taken as down, and {most} are the most");
    failure("too-many-down", FailureClass::Failed, message, "name fewer", Retry::Pointless)
}

/// No backup of the registry was made, or not all of it.
pub(crate) fn not_backed_up(why: &str) -> Failure {
    let message = format!("no backup could be made: {why}");
    let remedy = "see the manager's log; it takes as much room on its disk as the registry has";
    failure("not-backed-up", FailureClass::Failed, message, remedy, Retry::Safe)
}

/// As many watch as may.
pub(crate) fn too_many_watchers(most: usize) -> Failure {
    let message = format!("{most} consoles watch this manager already, which is as many as may");
    failure(
        "too-many-watchers",
        FailureClass::Failed,
        message,
        "end one of them, or try again later",
        Retry::Safe,
    )
}

/// There is no such lineage here.
pub(crate) fn unknown_lineage(lineage: &dyn std::fmt::Display) -> Failure {
    let message = format!("no lineage that this manager goes by or is in conflict with is {lineage}");
    let remedy = "look it up: echelon lineage show";
    failure("unknown-lineage", FailureClass::Failed, message, remedy, Retry::Pointless)
}

/// On this host is no registry manager.
pub(crate) fn no_registry_manager(host: &dyn std::fmt::Display) -> Failure {
    let message = format!("there is no registry manager on {host}");
    let remedy = "look at echelon manager list; to promote a manager of a type there, name it: --type TYPE";
    failure("no-registry-manager", FailureClass::Failed, message, remedy, Retry::Pointless)
}

/// For how long a manager has said nothing; tenths of a second while those are few.
fn silence(time: Option<Duration>) -> String {
    match time {
        None => "was not heard since this manager's start".to_owned(),
        Some(time) if time < Duration::from_secs(10) => {
            format!("has been silent for {:.1}s", time.as_secs_f64())
        }
        Some(time) => format!("has been silent for {}", rough(time)),
    }
}

/// The primary is not there to hand over.
pub(crate) fn no_primary_to_hand_over(
    primary: &dyn std::fmt::Display,
    silent: Option<Duration>,
    successor: &dyn std::fmt::Display,
) -> Failure {
    let silent = silence(silent);
    let message = format!("the primary, {primary}, {silent} and cannot hand over; nothing was changed");
    let remedy = format!(
        "start it; where it is gone for good: echelon promote {successor} --force --reason TEXT, first with --dry-run"
    );
    failure("no-primary", FailureClass::Unreachable, message, &remedy, Retry::Safe)
}

/// A manager that a step of a promotion is for is not reached; nothing was changed.
pub(crate) fn no_manager(name: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Failure {
    let message = format!("the registry manager on {name} cannot be reached: {why}; nothing was changed");
    let remedy =
        format!("see on {name} whether registry-manager runs, or ask it itself: --manager ADDR:PORT");
    failure("manager-unreachable", FailureClass::Unreachable, message, &remedy, Retry::Safe)
}

/// A step that changes the primary got no answer.
pub(crate) fn promotion_unknown(name: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Failure {
    let message = format!("whether the primary has changed is not known: {name}: {why}");
    failure("outcome-unknown", FailureClass::Unknown, message, "repeat it, which is safe", Retry::Safe)
}

/// A grant was handed in that nobody has given.
pub(crate) fn not_proved(why: &str) -> Failure {
    let message = format!("the grant is not proved: {why}; nothing was changed");
    let remedy = "sign it with the console identity of an admin: give the command once more";
    failure("not-proved", FailureClass::NotAllowed, message, remedy, Retry::Pointless)
}

/// The host's agent is not there to say what it uses.
pub(crate) fn agent_away(host: &dyn std::fmt::Display, heard: Option<u64>) -> Failure {
    let heard = match heard {
        None => "it was not heard since the manager's start".to_owned(),
        Some(ms) => format!("it was heard {} ago", rough(Duration::from_millis(ms))),
    };
    let message = format!("what {host} uses is not known: its agent is not connected, {heard}");
    let remedy = format!(
        "ask there: curl --unix-socket /run/echelon/agent.sock http://agent/v1/routes/TYPE; what it ought to use, without --actual: echelon route --host {host} --type TYPE"
    );
    failure("agent-not-connected", FailureClass::Failed, message, &remedy, Retry::Safe)
}

/// The host uses a manager that is gone from the registry.
pub(crate) fn out_of_step(host: &dyn std::fmt::Display) -> Failure {
    let message = format!("{host} said last that it uses a manager which is not in the registry any more");
    let remedy = "ask again: its agent is about to be level";
    failure("out-of-step", FailureClass::Failed, message, remedy, Retry::Safe)
}

/// Whoever asked is gone; this reaches nobody.
pub(crate) fn nobody_listens() -> Failure {
    failure("nobody-listens", FailureClass::Unknown, String::new(), "", Retry::Safe)
}

/// The manager stopped with the edit in its hands.
pub(crate) fn outcome_unknown() -> Failure {
    let message = "the manager stopped before it could tell whether the edit is durable".to_owned();
    let remedy = "repeat the command with the same request id: it has one effect at most";
    failure("outcome-unknown", FailureClass::Unknown, message, remedy, Retry::Safe)
}

/// The edit is durable here, and not yet where it has to be.
pub(crate) fn not_committed() -> Failure {
    let message =
        "the edit is on this manager, and the standbys that have to hold it have not said in time that they do \
         (echelon alarm list says which are missing); it may be committed later"
            .to_owned();
    let remedy = "repeat the command with the same request id: it has one effect at most";
    failure("outcome-unknown", FailureClass::Unknown, message, remedy, Retry::Safe)
}

/// What was asked rests on edits of which nobody knows yet whether they count.
pub(crate) fn undecided() -> Failure {
    let message = "nothing was changed: edits before this one are not committed yet".to_owned();
    failure(
        "undecided",
        FailureClass::Unreachable,
        message,
        "echelon alarm list says what they wait for; then give the command again",
        Retry::Safe,
    )
}

/// The primary was lost with the edit in its hands.
pub(crate) fn lost_primary(primary: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Failure {
    let message = format!("the primary {primary} was lost before it told what became of the edit: {why}");
    let remedy = "repeat the command with the same request id: it has one effect at most";
    failure("outcome-unknown", FailureClass::Unknown, message, remedy, Retry::Safe)
}

/// The primary was lost with a manager's wish to join in its hands.
pub(crate) fn join_unknown(primary: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Failure {
    let message =
        format!("the primary {primary} was lost before it told whether it has let this manager in: {why}");
    let remedy =
        "repeat the same command with the same token and state directory: the token is not used up twice";
    failure("outcome-unknown", FailureClass::Unknown, message, remedy, Retry::Safe)
}

/// The link to the primary was lost before anything was sent over it.
pub(crate) fn cannot_relay(why: &dyn std::fmt::Display) -> Failure {
    let message = format!("no edit was taken: the primary could not be told of it: {why}");
    failure(
        "no-primary",
        FailureClass::Unreachable,
        message,
        "try again in a moment: echelon status",
        Retry::Safe,
    )
}

/// Builds of managers that do not work together.
pub(crate) fn versions_apart(why: &str) -> Failure {
    failure(VERSIONS_APART, FailureClass::Failed, why.to_owned(), "upgrade the older one", Retry::Pointless)
}

/// The error of builds that do not work together.
pub(crate) const VERSIONS_APART: &str = "versions-apart";

/// The two ways out for a manager whose state directory was set back.
pub(crate) const ROLLED_BACK: &str = "promote a standby, which has the edits: echelon promote HOST --force --reason TEXT; \
     without one, stop the manager and go on with what it has: registry-manager recover --reason TEXT";

/// No edit can be taken at the moment, and none was.
pub(crate) fn cannot_write(why: &CannotWrite, registry: &Registry, me: HostId, now: Monotonic) -> Failure {
    let name = |host: &HostId| registry.host(*host).map_or_else(|| host.to_string(), |h| h.name.to_string());
    let unreachable = |error: &str, message: String, remedy: &str| {
        failure(error, FailureClass::Unreachable, message, remedy, Retry::Safe)
    };
    let shortly = "try again in a moment; see echelon status";
    match why {
        CannotWrite::NotPrimary { holder, heard } => {
            let silent = silence(heard.map(|heard| now.since(heard)));
            let message = format!("no edit was taken: the primary {} {silent}", name(holder));
            let remedy = format!(
                "bring it back; or, where it is gone for good, let this manager take its place: \
                 echelon promote {} --force --reason TEXT",
                name(&me)
            );
            unreachable(NO_PRIMARY, message, &remedy)
        }
        CannotWrite::NotLevel => {
            let message =
                "no edit was taken: this manager is to be the primary and lacks edits that others have";
            unreachable(NO_PRIMARY, message.to_owned(), shortly)
        }
        CannotWrite::RolledBack { seen } => {
            let message = format!(
                "no edit was taken: this manager's state directory is older than it was: it goes up to revision {}, and \
                 others have seen revision {}",
                registry.position().revision,
                seen.revision
            );
            unreachable("rolled-back", message, ROLLED_BACK)
        }
        CannotWrite::Handing => handing_over(),
        CannotWrite::TooFew { needed, connected, silent } => {
            let names: Vec<_> = silent.iter().map(name).collect();
            let message = format!(
                "no edit was taken: {needed} of the standbys that count have to hold it, and {connected} can; missing: {}",
                names.join(", ")
            );
            let remedy = ways_out(*needed, *connected, &names, registry.meta().sync.min_sync);
            unreachable(TOO_FEW, message, &remedy)
        }
        CannotWrite::Full => {
            let message = "no edit was taken: too many wait to be committed".to_owned();
            unreachable("too-many-waiting", message, shortly)
        }
    }
}

/// The primary is changing.
pub(crate) fn handing_over() -> Failure {
    let message = "no edit was taken: another manager is about to become the primary".to_owned();
    let remedy = "try again in a moment; see echelon status";
    failure(HANDING_OVER, FailureClass::Unreachable, message, remedy, Retry::Safe)
}

/// The host announces more often than anything on it can change.
pub(crate) fn too_often() -> Failure {
    let message = "this host announces too often; this one was not taken in".to_owned();
    let remedy = "nothing: the agent repeats its newest announcement a little later";
    failure("too-often", FailureClass::Failed, message, remedy, Retry::Safe)
}

/// The manager is ending and took nothing of the edit.
pub(crate) fn stopping() -> Failure {
    let message = "the manager is stopping and took no edit".to_owned();
    failure("stopping", FailureClass::Unreachable, message, "try again once it runs", Retry::Safe)
}

/// The host is not in the registry.
pub(crate) fn unknown_host(host: &dyn std::fmt::Display) -> Failure {
    let message = format!("there is no host {host}");
    failure("unknown-host", FailureClass::Failed, message, "look it up with: echelon tree", Retry::Pointless)
}

/// Nothing has this type.
pub(crate) fn unknown_type(ty: &dyn std::fmt::Display) -> Failure {
    let message = format!("no package is of type {ty}");
    let remedy = "see which there are: echelon package list";
    failure("unknown-type", FailureClass::Failed, message, remedy, Retry::Pointless)
}

/// A fault of the manager itself.
pub(crate) fn internal(why: &dyn std::fmt::Display) -> Failure {
    let message = format!("internal fault: {why}");
    failure("internal", FailureClass::Failed, message, "see the manager's log", Retry::Safe)
}
