//! Why nothing came of a promotion, as operators read it.

use crate::member::Refused;
use crate::message::{Failure, FailureClass, Retry};
use crate::name::HostName;
use crate::names::Names;

/// The failure that tells of this refusal, of a promotion of the manager on `to`. The registry is as it was.
pub fn refused(why: &Refused, to: &HostName, names: &Names<'_>) -> Failure {
    let (error, message, remedy, retry) = match why {
        Refused::NotPrimary { holder } => (
            "not-primary",
            format!("{} is the primary, and the manager that was asked to is not", names.host_name(*holder)),
            "try again: who the primary is has changed, or a manager has not heard of it yet".into(),
            Retry::Safe,
        ),
        Refused::AlreadyPrimary => (
            "already-primary",
            format!("{to} is the primary already"),
            "nothing is to be done: echelon manager list".into(),
            Retry::Pointless,
        ),
        Refused::PrimaryAnswers => (
            "primary-answers",
            "the primary answers: making another one by force would lose what only it has".into(),
            format!("echelon promote {to}, which loses nothing"),
            Retry::Safe,
        ),
        Refused::PrimarySilent => (
            "no-primary",
            "the primary does not answer, and so cannot hand over".into(),
            format!(
                "start it; where it is gone for good: echelon promote {to} --force --reason TEXT, first with --dry-run"
            ),
            Retry::Safe,
        ),
        Refused::NotConnected => (
            "not-connected",
            format!("{to} does not follow the primary, which can not hand over to it"),
            format!(
                "see on {to} whether registry-manager runs and reaches the primary: echelon manager list"
            ),
            Retry::Safe,
        ),
        Refused::SourceLost => (
            "source-lost",
            format!("the manager that has the newest edits was lost before {to} had them"),
            "try again once it is back, or without it: echelon manager list shows who is there".into(),
            Retry::Safe,
        ),
        Refused::Apart { from } => {
            let from = names.host_name(*from);
            (
                "journals-apart",
                format!("the journal of {to} is another one than that of {from}, which has the newest edits"),
                format!("promote that one: echelon promote {from} --force --reason T; {to} then gets a copy from it"),
                Retry::Pointless,
            )
        }
        Refused::TooSlow => (
            "too-slow",
            format!("{to} did not become level in time, or nobody answered"),
            "try again once its lag is small: echelon manager list".into(),
            Retry::Safe,
        ),
        Refused::Busy => (
            "promotion-under-way",
            "another promotion is under way".into(),
            "wait for a moment and look at what came of it: echelon lineage show".into(),
            Retry::Safe,
        ),
        Refused::Overtaken(grant) => (
            "overtaken",
            format!("a newer grant came to light: {grant}"),
            "look at who is the primary now: echelon lineage show".into(),
            Retry::Safe,
        ),
        Refused::NotAsProposed => (
            "not-as-proposed",
            "the grant is not the one that was proposed, or the journal has moved on since".into(),
            "give the command again; it shows what has changed".into(),
            Retry::Safe,
        ),
        Refused::TooFewHeard { needed, heard, silent } => (
            "too-few-heard",
            format!(
                "of the standbys that count {heard} were heard, and it takes {needed} to know of every committed \
                 edit; not heard: {}",
                list(silent.iter().map(|host| names.host_name(*host)))
            ),
            format!(
                "start one of those, or accept that edits are lost: echelon promote {to} --force --reason TEXT --accept-loss"
            ),
            Retry::Safe,
        ),
        Refused::NotLevel { wanted } => (
            "not-level",
            format!(
                "nobody that was heard has revision {wanted}, which was committed: agents were shown it, or the newest \
                 grant builds on it"
            ),
            format!(
                "start a manager that has it, or accept that edits are lost: echelon promote {to} --force --reason TEXT --accept-loss"
            ),
            Retry::Safe,
        ),
        Refused::Removed => (
            "removed",
            format!("{to} holds an edit that takes its manager out of the registry: no other manager would listen to it"),
            "promote another one: echelon manager list; the one that was removed joins anew: registry-manager join".into(),
            Retry::Pointless,
        ),
        Refused::NotCounted => (
            "not-counted",
            format!("{to} is not among the standbys that count yet"),
            "try again once it is level; then the primary has it counted: echelon manager list".into(),
            Retry::Safe,
        ),
        Refused::Changing => (
            "standbys-changing",
            "a change of the standbys that count is not committed yet".into(),
            "try again once it is; or take out the standby that is silent (echelon manager remove HOST --accept-loss), \
             and where the primary is gone accept that edits are lost (echelon promote --force --reason TEXT --accept-loss)"
                .into(),
            Retry::Safe,
        ),
        Refused::RolledBack => (
            "rolled-back",
            format!("the journal of {to}, or of the primary, has lost what others have seen"),
            "promote a manager that has it: echelon manager list".into(),
            Retry::Pointless,
        ),
        Refused::NoConflict => (
            "no-conflict",
            "no other lineage is in conflict with this one: there is nothing to choose".into(),
            "echelon lineage show".into(),
            Retry::Pointless,
        ),
        Refused::ChainFull => (
            "too-many-grants",
            "the chain of grants is full".into(),
            "no registry manager can be promoted any more: set up a new registry, and bring it what this one holds with \
             echelon export and echelon apply"
                .into(),
            Retry::Pointless,
        ),
        Refused::Aborted => {
            ("aborted", "it was given up".into(), "give the command again".into(), Retry::Safe)
        }
    };
    let message = format!("{message}; nothing was changed");
    let class = match why {
        Refused::PrimarySilent => FailureClass::Unreachable,
        _ => FailureClass::Forbidden,
    };
    let (error, place) = (error.to_owned(), String::new());
    Failure { error, class, message, place, remedy, retry }
}

fn list(hosts: impl Iterator<Item = String>) -> String {
    hosts.collect::<Vec<_>>().join(", ")
}
