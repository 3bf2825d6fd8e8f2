//! The way of a grant that a console signs: proposed by a manager, confirmed by a person, signed, and taken up.

use super::{Confirmation, Signing, done, refused, show, trial};
use crate::console::Console;
use crate::problem::Problem;
use crate::progress::shown;
use crate::sides::Side;
use echelon_core::id::RequestId;
use echelon_core::name::Text;
use echelon_core::promotion::{EvidenceReport, Promoted, Promotion, Way};
use serde::Serialize;

/// A grant that is wished for.
pub(crate) struct Granting<'a> {
    /// The id of all its steps.
    pub(crate) id: RequestId,
    /// By which way.
    pub(crate) way: Way,
    /// Why, for those who look at it later.
    pub(crate) reason: Option<Text>,
    /// The framework's name, where it was given along.
    pub(crate) yes: Option<&'a str>,
    /// What the proposal is made by, for people who wait.
    pub(crate) what: String,
    /// The first step; `true` for a trial of it.
    pub(crate) step: &'a dyn Fn(bool) -> Promotion,
    /// Whether what is signed is no more than what was confirmed.
    pub(crate) same: fn(&EvidenceReport, &EvidenceReport) -> Result<(), Problem>,
    /// Of a choice: what the lineages hold that are given up.
    pub(crate) given_up: &'a [Side],
}

/// A trial, as scripts read it.
#[derive(Serialize)]
struct Tried<'a> {
    #[serde(flatten)]
    evidence: &'a EvidenceReport,
    #[serde(skip_serializing_if = "<[Side]>::is_empty")]
    given_up: &'a [Side],
}

impl Granting<'_> {
    /// Only shows what would come of it.
    pub(crate) async fn try_out(
        console: &mut Console,
        step: Promotion,
        given_up: &[Side],
    ) -> Result<(), Problem> {
        let manager = console.manager().await?;
        let evidence = trial(&manager, step).await?;
        manager.close().await;
        match console.out.is_json() {
            true => console.out.object(&Tried { evidence: &evidence, given_up })?,
            false => show(console, &evidence, given_up, false)?,
        }
        console.out.finish()?;
        refused(&evidence)
    }

    /// Has it granted, and shows what was done.
    pub(crate) async fn run(self, console: &mut Console) -> Result<(), Problem> {
        let confirmation = Confirmation::new(self.yes)?;
        let signing = Signing::new(console, self.way, self.reason)?;
        let manager = console.manager().await?;
        // A proposal does not stand for long: a person is asked before there is one. Whoever names the framework has
        // seen a trial, or is a program that has made up its mind.
        let confirmed = match confirmation {
            Confirmation::Given(_) => None,
            Confirmation::Asked => {
                let evidence = trial(&manager, (self.step)(true)).await?;
                refused(&evidence)?;
                confirmation.ask(console, &evidence, self.given_up)?;
                Some(evidence)
            }
        };
        let proposed = shown(&self.what, manager.promotion((self.step)(false))).await;
        let (grant, evidence) = match proposed.map_err(|e| Problem::from(e.failure()))? {
            Promoted::Proposed { grant, evidence } => (grant, evidence),
            // Under this id it was done before.
            other => {
                manager.close().await;
                return done(console, other);
            }
        };
        let confirm = |console: &mut Console, seen: &EvidenceReport| {
            confirmation.check(&seen.framework)?;
            match &confirmed {
                None => show(console, seen, self.given_up, true),
                Some(confirmed) => (self.same)(confirmed, seen),
            }
        };
        let promoted = signing.sign(console, &manager, self.id, &grant, &evidence, confirm).await?;
        manager.close().await;
        done(console, promoted)
    }
}
