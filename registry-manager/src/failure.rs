//! Failures that are the manager's own to tell; edits have theirs from the core.

use echelon_core::message::{Failure, FailureClass, Retry};

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

/// The host's agent is not there to say what it uses.
pub(crate) fn agent_away(host: &dyn std::fmt::Display, heard: Option<u64>) -> Failure {
    let heard = match heard {
        None => "it was not heard since the manager's start".to_owned(),
        Some(ms) => format!("it was heard {} s ago", ms / 1000),
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
