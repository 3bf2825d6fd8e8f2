//! Signing a grant that was shown.

use super::{outcome, parse};
use crate::console::Console;
use crate::edit::unless_interrupted;
use crate::problem::{Problem, failed};
use crate::progress::shown;
use echelon_client::ManagerClient;
use echelon_core::grant::{Basis, Grant, Grantor};
use echelon_core::id::RequestId;
use echelon_core::message::FailureClass;
use echelon_core::name::Text;
use echelon_core::promotion::{EvidenceReport, Promoted, Promotion, Way};
use echelon_identity::proof::prove_grant;
use echelon_identity::{Credentials, Spiffe};

/// Signs a grant with the identity of this console, where it is the one that was asked for.
pub(crate) struct Signing {
    credentials: Credentials,
    grantor: Grantor,
    basis: Basis,
    reason: Option<Text>,
}

impl Signing {
    /// As the identity that the console uses.
    ///
    /// # Errors
    /// There is none, or it is no console's.
    pub(crate) fn new(console: &Console, way: Way, reason: Option<Text>) -> Result<Self, Problem> {
        let directory = console.identity()?;
        let unusable = |e: &dyn std::error::Error| failed("bad-identity", crate::problem::with_sources(e));
        let credentials = directory.load_credentials().map_err(|e| unusable(&e))?;
        let peer = credentials.peer().map_err(|e| unusable(&e))?;
        let Spiffe::Console(name) = peer.subject else {
            return Err(failed("bad-identity", "only a console's identity can sign a grant").pointless());
        };
        let basis = if way == Way::Choice { Basis::Choice } else { Basis::Force };
        Ok(Self { credentials, grantor: Grantor::Console(name), basis, reason })
    }

    /// Signs what a manager proposes, once `confirm` has shown it, and has that taken up. What is not signed is
    /// given up there.
    pub(crate) async fn sign(
        &self,
        console: &mut Console,
        manager: &ManagerClient,
        id: RequestId,
        proposed: &[u8],
        evidence: &str,
        confirm: impl FnOnce(&mut Console, &EvidenceReport) -> Result<(), Problem>,
    ) -> Result<Promoted, Problem> {
        let evidence: EvidenceReport = parse(evidence)?;
        let to = evidence.to.clone();
        let signed = self.read(proposed, &evidence).and_then(|grant| {
            confirm(console, &evidence)?;
            prove_grant(&self.credentials, &grant).map_err(|e| failed("not-signed", e))
        });
        let grant = match signed {
            Ok(grant) => grant,
            Err(problem) => {
                // Where nobody hears it, the proposal ends by itself.
                let _ = manager.promotion(Promotion::Abort { id, to }).await;
                return Err(problem);
            }
        };
        let what = format!("Making {to} the primary");
        let asked = shown(&what, manager.promotion(Promotion::Signed { id, to, grant }));
        outcome(id, unless_interrupted(id, asked).await?)
    }

    /// The grant in these bytes, where it is what was asked for and what the evidence shows.
    fn read(&self, proposed: &[u8], evidence: &EvidenceReport) -> Result<Grant, Problem> {
        let grant = ManagerClient::read_proposed(proposed).map_err(|e| Problem::from(e.failure()))?;
        let shown = evidence.grant.as_ref();
        let as_shown = shown.is_some_and(|shown| {
            (shown.lineage, shown.epoch) == (grant.id.lineage, grant.id.epoch)
                && shown.parent.map(|at| at.revision) == grant.parent.map(|p| p.mark.revision())
                && shown.members.len() == grant.sync.members.len()
                && shown.min_sync == grant.sync.min_sync
        });
        let asked_for =
            grant.basis == self.basis && grant.grantor == self.grantor && grant.reason == self.reason;
        match as_shown && asked_for {
            true => Ok(grant),
            false => Err(failed(
                "not-as-shown",
                "the manager proposes another grant than it shows or was asked for; it was not signed, nothing was changed",
            )
            .remedy("look at that manager: its build may be another one")
            .class(FailureClass::Forbidden)),
        }
    }
}
