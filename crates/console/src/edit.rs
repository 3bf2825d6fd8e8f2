//! Edits: sent as one change set, shown as what they changed.

use crate::console::Console;
use crate::line::line;
use crate::problem::{Problem, failed};
use crate::style;
use echelon_client::ManagerClient;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::describe::{Changed, describe};
use echelon_core::id::{Lineage, RequestId};
use echelon_core::message::{EditAnswer, FailureClass};
use echelon_core::names::{Known, are_complete};
use serde::Serialize;

/// What every edit takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EditArgs {
    /// Only show what would change
    #[arg(long, help_heading = "Edit options")]
    pub(crate) dry_run: bool,
    /// Refuse unless the registry is at this revision
    #[arg(long, value_name = "N", help_heading = "Edit options")]
    pub(crate) if_revision: Option<u64>,
    /// UUIDv7 under which a repetition has no second effect [default: a new one]
    #[arg(long, value_name = "ID", help_heading = "Edit options")]
    pub(crate) request_id: Option<RequestId>,
    /// Do it though it takes the last serving manager of a type, or leaves less than half of them all
    #[arg(long, help_heading = "Edit options")]
    pub(crate) allow_shrink: bool,
}

impl EditArgs {
    /// The change set for these changes.
    pub(crate) fn set(&self, changes: Vec<Change>) -> ChangeSet {
        let request = self.request_id.unwrap_or_else(echelon_client::new_request_id);
        ChangeSet { request, if_revision: self.if_revision, allow_shrink: self.allow_shrink, changes }
    }
}

/// An edit's answer; the shape of its JSON is what scripts rely on.
#[derive(Serialize)]
struct Document<'a> {
    lineage: Lineage,
    epoch: u64,
    revision: u64,
    request_id: RequestId,
    changed: &'a [Changed],
    dry_run: bool,
    repeated: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// Sends the changes as one edit and shows the answer.
pub(crate) async fn edit(
    console: &mut Console,
    args: &EditArgs,
    changes: Vec<Change>,
) -> Result<(), Problem> {
    let manager = console.manager().await?;
    edit_at(console, manager, args, changes).await
}

/// The same, at this manager.
pub(crate) async fn edit_at(
    console: &mut Console,
    manager: ManagerClient,
    args: &EditArgs,
    changes: Vec<Change>,
) -> Result<(), Problem> {
    let answer = submit(&manager, args.set(changes), args.dry_run).await?;
    let changed = explain(&manager, &answer).await;
    manager.close().await;
    show(console, &answer, &changed, args.dry_run)
}

/// Sends one edit. Where its outcome is unknown, the problem says how to repeat it.
pub(crate) async fn submit(
    manager: &ManagerClient,
    set: ChangeSet,
    dry_run: bool,
) -> Result<EditAnswer, Problem> {
    let request = set.request;
    let edit = manager.edit(set, dry_run);
    let answer = if dry_run { edit.await } else { unless_interrupted(request, edit).await? };
    answer.map_err(|error| {
        let failure = error.failure();
        match failure.class {
            FailureClass::Unknown if dry_run => Problem::from(failure).class(FailureClass::Unreachable),
            FailureClass::Unknown => Problem::from(failure).remedy(repeat(request)),
            _ => failure.into(),
        }
    })
}

/// Waits for the answer to what cannot be taken back. Whoever interrupts that is told what to type: it may be done.
pub(crate) async fn unless_interrupted<T>(
    request: RequestId,
    work: impl Future<Output = T>,
) -> Result<T, Problem> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        Ok(()) = tokio::signal::ctrl_c() => {
            let message = "interrupted before there was an answer: it may be done, or be done later";
            Err(failed("outcome-unknown", message).class(FailureClass::Unknown).remedy(repeat(request)))
        }
    }
}

/// What to type to do this command again, without a second effect.
pub(crate) fn repeat(request: RequestId) -> String {
    let typed: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("repeat it, which has no second effect: {}", command_again(&typed, request))
}

/// The command as it was typed, with its request id.
fn command_again(typed: &[String], request: RequestId) -> String {
    let mut words: Vec<_> = typed.iter().map(|word| shell_word(word)).collect();
    if !typed.iter().any(|word| word.starts_with("--request-id")) {
        words.push(format!("--request-id {request}"));
    }
    words.join(" ")
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What the answer says in names. Where these have to be read and can't be, ids stand in for them: the
/// edit itself is done.
pub(crate) async fn explain(manager: &ManagerClient, answer: &EditAnswer) -> Vec<Changed> {
    let registry = match are_complete(&answer.rows) {
        true => None,
        false => manager.read().await.ok().map(|reading| reading.registry),
    };
    describe(&answer.rows, registry.as_ref().map(|registry| registry as &dyn Known))
}

/// Shows what an edit did.
pub(crate) fn show(
    console: &mut Console,
    answer: &EditAnswer,
    changed: &[Changed],
    dry_run: bool,
) -> Result<(), Problem> {
    if console.out.is_json() {
        return show_applied(console, answer, changed, &[], dry_run);
    }
    changed.iter().try_for_each(|change| console.out.line(line(change)))?;
    if changed.is_empty() {
        console.out.line("nothing changes: it is so already")?;
    }
    console.out.line(summary(answer, dry_run))
}

/// Shows an edit whose changes people have seen already.
pub(crate) fn show_applied(
    console: &mut Console,
    answer: &EditAnswer,
    changed: &[Changed],
    warnings: &[String],
    dry_run: bool,
) -> Result<(), Problem> {
    match console.out.is_json() {
        true => console.out.object(&Document { warnings, ..document(answer, changed, dry_run) }),
        false => console.out.line(summary(answer, dry_run)),
    }
}

fn document<'a>(answer: &EditAnswer, changed: &'a [Changed], dry_run: bool) -> Document<'a> {
    let at = answer.position;
    Document {
        lineage: at.lineage,
        epoch: at.epoch,
        revision: at.revision,
        request_id: answer.request,
        changed,
        dry_run,
        repeated: answer.repeated,
        warnings: &[],
    }
}

fn summary(answer: &EditAnswer, dry_run: bool) -> String {
    let (dim, revision) = (style::DIM, answer.position.revision);
    match (dry_run, answer.repeated) {
        (_, true) => {
            format!("{dim}done before as revision {revision}; this repetition changed nothing{dim:#}")
        }
        (true, false) => {
            format!("{dim}dry run: nothing was changed; the registry is at revision {revision}{dim:#}")
        }
        (false, false) => format!("{dim}revision {revision}{dim:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::position::Position;
    use serde_json::json;

    const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

    fn answer() -> EditAnswer {
        let lineage = ID.parse().unwrap();
        let position = Position { lineage, epoch: 1, revision: 18 };
        EditAnswer { position, request: ID.parse().unwrap(), rows: Vec::new(), repeated: false }
    }

    #[test]
    fn an_edit_has_the_shape_that_scripts_rely_on() {
        let document = serde_json::to_value(document(&answer(), &[], false)).unwrap();
        let expected = json!({
            "lineage": ID, "epoch": 1, "revision": 18, "request_id": ID, "changed": [],
            "dry_run": false, "repeated": false,
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn the_command_to_repeat_is_whole_and_fit_for_a_shell() {
        let typed =
            ["echelon", "package", "withdraw", "a", "audit", "--reason", "it's old"].map(String::from);
        let again = command_again(&typed, ID.parse().unwrap());
        assert_eq!(
            again,
            format!(r"echelon package withdraw a audit --reason 'it'\''s old' --request-id {ID}")
        );
        let typed = ["echelon", "host", "remove", "a", "--request-id", ID].map(String::from);
        let again = command_again(&typed, ID.parse().unwrap());
        assert_eq!(again, format!("echelon host remove a --request-id {ID}"));
    }

    #[test]
    fn the_summary_tells_dry_runs_and_repetitions_apart() {
        let plain =
            |answer: &EditAnswer, dry| anstream::adapter::strip_str(&summary(answer, dry)).to_string();
        assert_eq!(plain(&answer(), false), "revision 18");
        assert!(plain(&answer(), true).starts_with("dry run"));
        assert!(plain(&EditAnswer { repeated: true, ..answer() }, false).contains("repetition"));
    }
}
