//! What all commands share that change who the primary is: the evidence is shown, a person confirms it, the grant is
//! signed.

mod confirm;
mod evidence;
mod granting;
mod signing;

pub(crate) use evidence::{position, show, span};
pub(crate) use granting::Granting;

use confirm::Confirmation;
use signing::Signing;

use crate::console::Console;
use crate::edit::repeat;
use crate::problem::{Problem, failed};
use crate::style;
use echelon_client::{CallError, ManagerClient};
use echelon_core::id::RequestId;
use echelon_core::message::FailureClass;
use echelon_core::promotion::{EvidenceReport, Promoted, PromotedReport, Promotion, Way};
use serde::de::DeserializeOwned;

/// Asks what would happen.
pub(crate) async fn trial(manager: &ManagerClient, step: Promotion) -> Result<EvidenceReport, Problem> {
    match manager.promotion(step).await.map_err(|e| e.failure())? {
        Promoted::Evidence(document) => parse(&document),
        _ => Err(failed("no-evidence", "the manager answered another question than it was asked")),
    }
}

/// What a manager says of a step that changes the primary. Where that is unknown, the problem says how to find out.
pub(crate) fn outcome(id: RequestId, answer: Result<Promoted, CallError>) -> Result<Promoted, Problem> {
    answer.map_err(|error| {
        let failure = error.failure();
        match failure.class {
            FailureClass::Unknown => Problem::from(failure).remedy(repeat(id)),
            _ => failure.into(),
        }
    })
}

/// Why what was tried would be refused.
pub(crate) fn refused(evidence: &EvidenceReport) -> Result<(), Problem> {
    match &evidence.refused {
        None => Ok(()),
        Some(why) => Err(failed(&why.error, &why.message).remedy(&why.remedy).class(why.class)),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(document: &str) -> Result<T, Problem> {
    serde_json::from_str(document)
        .map_err(|e| failed("unreadable-answer", format!("the manager's answer cannot be read: {e}")))
}

/// Shows what was done.
pub(crate) fn done(console: &mut Console, promoted: Promoted) -> Result<(), Problem> {
    let Promoted::Done(document) = promoted else {
        return Err(failed("no-outcome", "the manager answered another question than it was asked"));
    };
    let report: PromotedReport = parse(&document)?;
    match console.out.is_json() {
        true => console.out.object(&report),
        false => lines(&report).into_iter().try_for_each(|line| console.out.line(line)),
    }
}

fn lines(r: &PromotedReport) -> Vec<String> {
    let (good, odd, dim) = (style::GOOD, style::ODD, style::DIM);
    let first = match (r.way, r.repeated) {
        (_, true) => format!("{} is the primary already; nothing was changed", r.to),
        (Way::Choice, false) => {
            format!("{good}the lineage of {} is chosen{good:#}; the others give way to it", r.to)
        }
        (_, false) => format!("{good}{} is the primary now{good:#}, in place of {}", r.to, r.from),
    };
    let mut lines = vec![first];
    if !r.repeated {
        lines.push(format!("{dim}{}{dim:#}", span(&r.before, &r.after)));
    }
    if let Some(pause) = r.pause_ms {
        lines.push(format!("no edit was accepted for {pause} ms"));
    }
    if !r.accepts {
        lines.push(format!(
            "{odd}it is not known to accept edits yet{odd:#}: echelon alarm list says what is missing"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

    fn report(changes: serde_json::Value) -> PromotedReport {
        let at = |revision| json!({"lineage": ID, "epoch": 1, "revision": revision});
        let mut whole = json!({
            "way": "planned", "request_id": ID, "from": "registry1", "to": "registry2", "before": at(17),
            "after": at(18), "pause_ms": 43, "accepts": true, "repeated": false,
        });
        let (Some(whole_map), Some(changes)) = (whole.as_object_mut(), changes.as_object()) else {
            unreachable!("both are objects")
        };
        whole_map.extend(changes.clone());
        serde_json::from_value(whole).unwrap()
    }

    fn plain(report: &PromotedReport) -> String {
        anstream::adapter::strip_str(&lines(report).join("\n")).to_string()
    }

    #[test]
    fn what_was_done_is_said_with_pause_and_positions() {
        let text = plain(&report(json!({})));
        assert!(text.starts_with("registry2 is the primary now, in place of registry1\n"), "{text}");
        assert!(text.contains("revision 17") && text.contains("revision 18"), "{text}");
        assert!(text.contains("no edit was accepted for 43 ms"), "{text}");
    }

    #[test]
    fn a_repetition_and_a_primary_that_was_not_heard_yet_are_told_apart() {
        assert!(plain(&report(json!({"repeated": true}))).contains("already"));
        assert!(plain(&report(json!({"accepts": false}))).contains("not known to accept edits yet"));
    }
}
