//! Steps that this manager does itself.

use super::{manager_on, sight};
use crate::clock::unix_now;
use crate::failure;
use crate::hooks::{self, Cause, RegistryRole};
use crate::limits::{PROMOTED_DEADLINE, PROMOTED_LOOK, PROMOTION_DEADLINE};
use crate::links;
use crate::offered::is_believed;
use crate::server::Shared;
use echelon_core::grant::{Chain, Grant, GrantId, Grantor};
use echelon_core::id::{HostId, Lineage, RequestId};
use echelon_core::member::{ANSWER, Choose, HandOver, Input, Prepare, Proposal, Refused, Told};
use echelon_core::message::Failure;
use echelon_core::name::{ConsoleName, Text};
use echelon_core::position::Position;
use echelon_core::promotion::{Asked, Promoted, PromotedReport, Promotion, Way, refused};
use echelon_core::report::millis;
use echelon_wire::Wire;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tracing::{info, warn};
use uuid::Uuid;

/// Does a step that is for this manager.
pub(super) async fn here(
    shared: &Shared,
    console: &ConsoleName,
    step: Promotion,
) -> Result<Promoted, Failure> {
    let before = shared.edits.situation().standing.last.position;
    let work = Work { shared, id: step.id(), console, before, cause: cause(&step) };
    match step {
        Promotion::HandOver { to, reason, trial, .. } => {
            work.hand_over(manager_on(shared, &to)?, reason, trial).await
        }
        Promotion::Force { to, accept_loss, reason, trial, .. } => {
            work.force(manager_on(shared, &to)?, accept_loss, reason, trial).await
        }
        Promotion::Choose { lineage, reason, trial, .. } => work.choose(lineage, reason, trial).await,
        Promotion::Signed { grant, .. } => work.take_up(grant).await,
        Promotion::Abort { id, .. } => {
            shared.edits.wish(id, Input::Abort(id)).await;
            Ok(Promoted::Aborted)
        }
    }
}

/// One promotion, here.
struct Work<'a> {
    shared: &'a Shared,
    id: RequestId,
    console: &'a ConsoleName,
    /// Where the journal stood when it began.
    before: Position,
    /// Why the role of this manager would change; none for a trial, after which nothing does.
    cause: Option<Cause>,
}

impl Work<'_> {
    async fn hand_over(&self, to: HostId, reason: Option<Text>, trial: bool) -> Result<Promoted, Failure> {
        let (situation, now) = (self.shared.edits.situation(), self.shared.hub.clock.now());
        let newest = situation.chain.head();
        // To itself a primary hands over to end promises that somebody was given who is gone.
        let promised = situation.peers.values().any(|peer| peer.is_sealed(newest.id));
        if newest.holder == to && !trial && !(situation.leading && promised) {
            return self.done_before(Way::Planned, newest);
        }
        if trial {
            let follows = situation.peers.get(&to).is_some_and(|p| p.is_synced(newest.id, now));
            let refused = match situation.leading {
                _ if situation.primary() == to => Some(Refused::AlreadyPrimary),
                false if self.shared.links.connection(situation.primary()).is_none() => {
                    Some(Refused::PrimarySilent)
                }
                false => Some(Refused::NotPrimary { holder: situation.primary() }),
                true if !situation.standing.rule.members.contains(&to) => Some(Refused::NotCounted),
                true if !follows => Some(Refused::NotConnected),
                true => None,
            };
            return Ok(Promoted::Evidence(self.evidence(Way::Planned, to, None, refused.as_ref())?));
        }
        let (began, grantor, at) = (Instant::now(), self.grantor(), unix_now());
        let (until, grant) = (now, None);
        let wish = HandOver { id: self.id, to, grantor, reason, at, until, grant };
        let mut told = self.shared.edits.wish(self.id, Input::HandOver(wish)).await;
        let grant = match self.next(&mut told, PROMOTION_DEADLINE).await? {
            Told::Done(grant) => grant,
            Told::Refused(why) => return Err(self.refused(&why, to)),
            Told::Proposed(_) => return Err(failure::internal(&"a hand-over is proposed to nobody")),
        };
        self.done(Way::Planned, grant, Some(began)).await
    }

    async fn force(
        &self,
        to: HostId,
        accept_loss: bool,
        reason: Option<Text>,
        trial: bool,
    ) -> Result<Promoted, Failure> {
        let situation = self.shared.edits.situation();
        let lineage = Lineage(self.id.0);
        if let Some(done) = situation.chain.grants().find(|grant| grant.id.lineage == lineage) {
            return self.done_before(Way::Forced, done);
        }
        let primary = situation.primary();
        // A link that is up is asked over by the journal; where there is none, the primary may be there all the same.
        let reached = self.shared.links.connection(primary).is_none()
            && primary != self.shared.host
            && links::reaches(self.shared, primary, ANSWER).await;
        if reached && !trial {
            return Err(self.refused(&Refused::PrimaryAnswers, to));
        }
        // What was proposed before under this id, nobody has signed.
        self.shared.edits.wish(self.id, Input::Abort(self.id)).await;
        let (id, promise) = (self.id, RequestId(Uuid::now_v7()));
        let (grantor, at) = (self.grantor(), unix_now());
        let wish = Prepare { id, promise, lineage, trial, accept_loss, grantor, reason, at };
        let mut told = self.shared.edits.wish(id, Input::Prepare(wish)).await;
        let mut proposal = match self.next(&mut told, PROMOTION_DEADLINE).await? {
            Told::Proposed(proposal) => *proposal,
            Told::Refused(Refused::AlreadyPrimary) if trial => {
                let refused = Some(&Refused::AlreadyPrimary);
                return Ok(Promoted::Evidence(self.evidence(Way::Forced, to, None, refused)?));
            }
            Told::Refused(why) => return Err(self.refused(&why, to)),
            Told::Done(_) => return Err(failure::internal(&"a promotion is done before it is proposed")),
        };
        if trial {
            proposal.primary_answers |= reached;
            let refused = would_be_refused(&proposal, accept_loss);
            let evidence = self.evidence(Way::Forced, to, Some(&proposal), refused.as_ref())?;
            return Ok(Promoted::Evidence(evidence));
        }
        self.proposed(Way::Forced, to, &proposal)
    }

    async fn choose(&self, lineage: Lineage, reason: Option<Text>, trial: bool) -> Result<Promoted, Failure> {
        let situation = self.shared.edits.situation();
        let (head, me) = (situation.chain.head(), self.shared.host);
        if head.id.lineage == lineage && situation.rivals.is_empty() && !head.rejects.is_empty() {
            return self.done_before(Way::Choice, head);
        }
        let refused = match situation.leading {
            _ if situation.rivals.is_empty() => Some(Refused::NoConflict),
            false => Some(Refused::NotPrimary { holder: head.holder }),
            true => None,
        };
        if trial {
            return Ok(Promoted::Evidence(self.evidence(Way::Choice, me, None, refused.as_ref())?));
        }
        self.shared.edits.wish(self.id, Input::Abort(self.id)).await;
        let wish = Choose { id: self.id, grantor: self.grantor(), reason, at: unix_now() };
        let mut told = self.shared.edits.wish(self.id, Input::Choose(wish)).await;
        match self.next(&mut told, PROMOTION_DEADLINE).await? {
            Told::Proposed(proposal) => self.proposed(Way::Choice, me, &proposal),
            Told::Refused(why) => Err(self.refused(&why, me)),
            Told::Done(_) => Err(failure::internal(&"a choice is done before it is proposed")),
        }
    }

    /// What was proposed here comes back signed.
    async fn take_up(&self, grant: Grant) -> Result<Promoted, Failure> {
        let (situation, id) = (self.shared.edits.situation(), grant.id);
        let way = if grant.rejects.is_empty() { Way::Forced } else { Way::Choice };
        if let Some(done) =
            situation.chain.get(id).filter(|known| **known == grant || known.unproved() == grant.unproved())
        {
            return self.done_before(way, done);
        }
        let (holder, console) = (grant.holder, self.console);
        if grant.grantor != self.grantor() {
            return Err(failure::not_allowed("hand in a grant that somebody else has signed"));
        }
        if let Err(why) = is_believed(&self.shared.hub.registry(), &situation.chain, &grant) {
            warn!(console = %console, "A grant was handed in that is not proved: {why}");
            return Err(failure::not_proved(&why));
        }
        let mut told = self.shared.edits.wish(self.id, Input::Promote(grant)).await;
        match self.next(&mut told, PROMOTED_DEADLINE).await? {
            Told::Done(grant) => self.done(way, grant, None).await,
            // It was handed in twice.
            Told::Refused(Refused::NotAsProposed) if self.goes_by(id) => self.done(way, id, None).await,
            Told::Refused(why) => Err(self.refused(&why, holder)),
            Told::Proposed(_) => Err(failure::internal(&"what was handed in is proposed once more")),
        }
    }

    fn goes_by(&self, grant: GrantId) -> bool {
        self.shared.hub.witnesses.current().get(grant).is_some()
    }

    fn grantor(&self) -> Grantor {
        Grantor::Console(self.console.clone())
    }

    async fn next(&self, told: &mut UnboundedReceiver<Told>, most: Duration) -> Result<Told, Failure> {
        match timeout(most, told.recv()).await {
            Ok(Some(told)) => Ok(told),
            Ok(None) | Err(_) => {
                Err(failure::promotion_unknown(&self.shared.name(), &"the journal gave no answer"))
            }
        }
    }

    fn refused(&self, why: &Refused, to: HostId) -> Failure {
        info!(to = %self.shared.hub.name_of(to), "A promotion was refused: {why}");
        self.tell_of_failure();
        let name = self.shared.hub.name_of(to);
        sight(self.shared, |sight| refused(why, &name, &sight.names()))
    }

    /// Has the command of `on_promote` told that what was wanted did not come about.
    fn tell_of_failure(&self) {
        let Some(cause) = self.cause else { return };
        let (situation, new) = (self.shared.edits.situation(), self.shared.hub.registry().position());
        self.shared.hooks.promoted(&hooks::Promoted {
            success: false,
            cause,
            role: if situation.leading { RegistryRole::Primary } else { RegistryRole::Standby },
            host: self.shared.name(),
            primary: Some(self.shared.hub.name_of(situation.primary())),
            old: Some(new),
            new,
        });
    }

    fn evidence(
        &self,
        way: Way,
        to: HostId,
        proposal: Option<&Proposal>,
        refused: Option<&Refused>,
    ) -> Result<String, Failure> {
        let asked = Asked { way, id: self.id, to, refused };
        document(&sight(self.shared, |sight| sight.evidence(&asked, proposal)))
    }

    fn proposed(&self, way: Way, to: HostId, proposal: &Proposal) -> Result<Promoted, Failure> {
        let grant = proposal.grant.encode().to_vec();
        Ok(Promoted::Proposed { grant, evidence: self.evidence(way, to, Some(proposal), None)? })
    }

    /// The journal goes by the new grant; once the first commit under it is shown, edits are accepted.
    async fn done(&self, way: Way, grant: GrantId, began: Option<Instant>) -> Result<Promoted, Failure> {
        let mut head = self.shared.hub.head();
        let shows = || GrantId::of(&self.shared.hub.registry().position()) == grant;
        // The hub, which tells, lives as long as this manager.
        let accepts = timeout(PROMOTED_DEADLINE, head.wait_for(|_| shows())).await.is_ok();
        let pause_ms = began.filter(|_| accepts).map(|began| millis(began.elapsed()));
        self.published(grant).await;
        let report = PromotedReport { pause_ms, accepts, ..self.report(way, grant) };
        info!(to = report.to, way = %way, pause_ms, "The primary has changed");
        Ok(Promoted::Done(document(&report)?))
    }

    /// Waits until the journal, which tells of a grant in the middle of its turn, has published that it goes by it.
    async fn published(&self, grant: GrantId) {
        let end = Instant::now() + PROMOTED_DEADLINE;
        while self.shared.edits.situation().chain.get(grant).is_none() && Instant::now() < end {
            tokio::time::sleep(PROMOTED_LOOK).await;
        }
    }

    /// It was done before: whoever repeats is told so.
    fn done_before(&self, way: Way, grant: &Grant) -> Result<Promoted, Failure> {
        Ok(Promoted::Done(document(&PromotedReport { repeated: true, ..self.report(way, grant.id) })?))
    }

    /// Where the registry stands under this grant: before its first commit, which may wait for standbys, where it
    /// begins.
    fn after(&self, chain: &Chain, id: GrantId) -> Position {
        let shown = self.shared.hub.registry().position();
        let at = |id| chain.grants().position(|grant| grant.id == id);
        let begins = chain.get(id).and_then(|grant| grant.parent).map(|parent| Position {
            lineage: id.lineage,
            epoch: id.epoch,
            revision: parent.mark.revision(),
        });
        match begins {
            Some(begins) if at(GrantId::of(&shown)) < at(id) => begins,
            _ => shown,
        }
    }

    fn report(&self, way: Way, id: GrantId) -> PromotedReport {
        let situation = self.shared.edits.situation();
        let chain = &situation.chain;
        let name = |host: Option<HostId>| host.map(|host| self.shared.hub.name_of(host).to_string());
        let grant = chain.get(id);
        let parent = grant.and_then(|grant| grant.parent);
        let from = parent.and_then(|parent| chain.get(parent.grant)).map(|grant| grant.holder);
        let to = name(grant.map(|grant| grant.holder)).unwrap_or_default();
        PromotedReport {
            way,
            request_id: self.id,
            from: name(from).unwrap_or_else(|| to.clone()),
            to,
            before: parent.map_or(self.before, |parent| parent.mark.position).into(),
            after: self.after(chain, id).into(),
            pause_ms: None,
            accepts: true,
            repeated: false,
        }
    }
}

/// Why the role of this manager would change by a step; none where it is a trial, or gives something up.
fn cause(step: &Promotion) -> Option<Cause> {
    match step {
        Promotion::HandOver { trial: false, .. } => Some(Cause::Planned),
        Promotion::Force { trial: false, .. } => Some(Cause::Forced),
        Promotion::Choose { trial: false, .. } => Some(Cause::Chosen),
        Promotion::Signed { grant, .. } => Some(grant.basis.into()),
        _ => None,
    }
}

/// Why a promotion by force would be refused of which this is what a trial has found.
fn would_be_refused(proposal: &Proposal, accept_loss: bool) -> Option<Refused> {
    match proposal.primary_answers {
        true => Some(Refused::PrimaryAnswers),
        false => proposal.doubt.clone().filter(|_| !accept_loss),
    }
}

fn document(document: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(document).map_err(|e| failure::internal(&e))
}
