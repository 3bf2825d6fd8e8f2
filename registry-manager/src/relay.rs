//! Edits that reach a standby: they are handed on to the primary, and answered once this manager has come as far.

use crate::clock::unix_now;
use crate::failure;
use crate::journal::Situation;
use crate::limits::{HANDING_DEADLINE, HANDING_LOOK, PARTING, RELAY_DEADLINE, RELAY_LEVEL};
use crate::links::{self, NoAnswer};
use crate::server::Shared;
use echelon_core::access::{Access, Subject};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::Context;
use echelon_core::grant::{Basis, Chain, GrantId};
use echelon_core::message::{EditAnswer, Failure, FailureClass, Relayed, Request, Response};
use echelon_core::name::HostName;
use echelon_core::registry::Registry;
use echelon_core::row::Actor;
use echelon_transport::Connection;
use std::time::Instant;
use tokio::time::timeout;

/// Carries out an edit where it can be: here, or at the primary. While the primary changes hands it waits: nothing is
/// written by a try that is refused. One whose outcome was lost with a primary that has been replaced by force is
/// repeated at the new one, which has it already or makes it now: it has one effect at most.
pub(crate) async fn edit(
    shared: &Shared,
    set: ChangeSet,
    context: Context,
    dry_run: bool,
) -> Result<EditAnswer, Failure> {
    let end = Instant::now() + HANDING_DEADLINE;
    let mut unknown = None;
    loop {
        let before = Hands::now(shared);
        let failed = match try_to_edit(shared, set.clone(), context.clone(), dry_run).await {
            Err(failed) if Instant::now() < end && !shared.stop.is_cancelled() => failed,
            Err(failed) => return Err(unknown.unwrap_or(failed)),
            done => return done,
        };
        // The journal answers before it publishes how things are.
        tokio::time::sleep(HANDING_LOOK).await;
        let after = Hands::now(shared);
        let again = match failed.class {
            FailureClass::Unknown => is_over(&shared.hub.witnesses.current(), before.grant),
            _ if !may_pass(&failed) => false,
            _ => before.grant != after.grant || before.may_pass(&failed) || after.may_pass(&failed),
        };
        if !again {
            // What was sent to a primary and not answered may have an effect, whatever is refused later.
            return Err(unknown.unwrap_or(failed));
        }
        unknown = unknown.or(Some(failed).filter(|failed| failed.class == FailureClass::Unknown));
    }
}

/// Whether this may be only because the primary changes hands.
fn may_pass(refused: &Failure) -> bool {
    [failure::HANDING_OVER, failure::NO_PRIMARY, failure::TOO_FEW].contains(&refused.error.as_str())
}

/// In whose hands the registry is, as this manager knows.
struct Hands {
    grant: GrantId,
    /// Whether the primary was heard a moment ago.
    there: bool,
    /// Whether the first commit under the grant is shown: before it, the primary may not have heard yet from those
    /// that count.
    begun: bool,
}

impl Hands {
    fn now(shared: &Shared) -> Self {
        let (situation, now) = (shared.edits.situation(), shared.hub.clock.now());
        let (grant, peer) = (situation.chain.head().id, situation.peers.get(&situation.primary()));
        let there = situation.leading || peer.is_some_and(|peer| !peer.is_silent(now));
        Self { grant, there, begun: GrantId::of(&shared.hub.registry().position()) == grant }
    }

    /// Whether an edit was refused only because it is not known everywhere yet who the primary is, or it is too new.
    fn may_pass(&self, refused: &Failure) -> bool {
        match refused.error.as_str() {
            failure::HANDING_OVER => true,
            failure::NO_PRIMARY => self.there,
            _ => self.there && !self.begun,
        }
    }
}

async fn try_to_edit(
    shared: &Shared,
    set: ChangeSet,
    context: Context,
    dry_run: bool,
) -> Result<EditAnswer, Failure> {
    // What was committed before is known here as well, also without a primary.
    let situation = shared.edits.situation();
    match to_primary(shared, &situation).filter(|_| !is_known(shared, &set)) {
        // This one is the primary, or the journal says why it cannot be asked.
        None => shared.edits.edit(set, context, dry_run).await,
        Some(connection) => {
            let Context { actor, from, content, .. } = context;
            let relayed = Relayed { actor, from, content, set, dry_run };
            let (primary, grant) = (shared.hub.name_of(situation.primary()), situation.chain.head().id);
            let answer = tokio::select! {
                biased;
                () = replaced(shared, grant) => {
                    return Err(failure::lost_primary(&primary, &"it was replaced by force"));
                }
                answer = ask(shared, &primary, &connection, relayed) => answer?,
            };
            if !dry_run {
                come_level(shared, answer.position.revision).await;
            }
            Ok(answer)
        }
    }
}

/// Waits until the primary of this grant has been replaced without its own doing: what it says since counts for
/// nothing, if it says anything.
async fn replaced(shared: &Shared, grant: GrantId) {
    let mut grants = shared.hub.witnesses.grants();
    if grants.wait_for(|grants| is_over(grants, grant)).await.is_err() {
        // The hub, which tells, ends with this manager.
        std::future::pending().await
    }
}

/// Whether the holder of this grant has not handed over itself, and by this chain is the primary no more.
fn is_over(chain: &Chain, grant: GrantId) -> bool {
    let mut later = chain.grants().rev().take_while(|next| next.id != grant);
    chain.get(grant).is_none() || later.any(|next| next.basis != Basis::Handover)
}

/// A connection to the primary, where that is another manager and was heard a moment ago: of what is sent to one that
/// is gone nobody could say what became of it.
pub(crate) fn to_primary(shared: &Shared, situation: &Situation) -> Option<Connection> {
    let (primary, now) = (situation.primary(), shared.hub.clock.now());
    let heard = situation.peers.get(&primary).is_some_and(|peer| !peer.is_late(now));
    let there = !situation.leading && primary != shared.host && heard;
    shared.links.connection(primary).filter(|_| there)
}

fn is_known(shared: &Shared, set: &ChangeSet) -> bool {
    shared.hub.registry().answered(set.request).is_some()
}

async fn ask(
    shared: &Shared,
    primary: &HostName,
    connection: &Connection,
    relayed: Relayed,
) -> Result<EditAnswer, Failure> {
    let lost = |why: &dyn std::fmt::Display| failure::lost_primary(primary, why);
    let request = Request::Relayed(relayed);
    // A standby that is taken out by the very edit ends on it.
    let stopping = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(PARTING).await;
    };
    let answered = tokio::select! {
        answered = links::ask(connection, &request, RELAY_DEADLINE) => answered,
        () = stopping => return Err(failure::outcome_unknown()),
    };
    match answered {
        Ok(Response::Edited(answer)) => Ok(answer),
        Ok(Response::Failed(failure)) => Err(failure),
        Ok(_) => Err(lost(&"it answered something else")),
        Err(NoAnswer::NotSent(why)) => Err(failure::cannot_relay(&why)),
        Err(NoAnswer::Lost(why)) => Err(lost(&why)),
    }
}

/// Waits until this manager shows what the primary has committed, so that whoever edits reads what it wrote. The
/// edit stands, whether or not that comes about in time.
async fn come_level(shared: &Shared, revision: u64) {
    let mut head = shared.hub.head();
    // The hub, which tells, lives as long as this manager.
    let _ = timeout(RELAY_LEVEL, head.wait_for(|shown| *shown >= revision)).await;
}

/// Carries out what a standby hands on. Whether whoever asked may make the edit is judged by this registry.
pub(crate) async fn carry_out(shared: &Shared, relayed: Relayed) -> Result<EditAnswer, Failure> {
    let Relayed { actor, from, content, set, dry_run } = relayed;
    check(&shared.hub.registry(), &actor, &set)?;
    shared.edits.edit(set, Context { now: unix_now(), actor, from, content }, dry_run).await
}

fn check(registry: &Registry, actor: &Actor, set: &ChangeSet) -> Result<(), Failure> {
    let access = match actor {
        Actor::Console(name) => access_of(registry, &Subject::Console(name.clone())),
        Actor::Agent(host) => {
            registry.host_named(host).and_then(|host| access_of(registry, &Subject::Host(host.id)))
        }
        // The token is judged by the edit; the manager has seen its secret.
        Actor::Token(_) => {
            let uses = |c: &Change| matches!(c, Change::Enrol { .. } | Change::JoinManager { .. });
            return match set.changes.iter().all(uses) {
                true => Ok(()),
                false => Err(failure::not_allowed("do anything but enrol with a token")),
            };
        }
        Actor::Manager(name) => {
            return match set.changes.iter().all(|change| is_a_managers_own(name, change)) {
                true => Ok(()),
                false => Err(failure::not_allowed("make this change by itself")),
            };
        }
    };
    let access = access.ok_or_else(failure::unknown_identity)?;
    let may = |change: &Change| {
        change.needs().is_some_and(|needed| access.allows(needed)) && is_own(registry, actor, change)
    };
    match set.changes.iter().all(may) {
        true => Ok(()),
        false => Err(failure::not_allowed("make this edit")),
    }
}

/// What a manager may ask for of itself, and through another one.
fn is_a_managers_own(name: &HostName, change: &Change) -> bool {
    match change {
        Change::RecordManager { .. } | Change::EndDrains => true,
        Change::RemoveManager { host, accept_loss: false, compromised: false } => host == name,
        _ => false,
    }
}

/// A host announces of itself only.
fn is_own(registry: &Registry, actor: &Actor, change: &Change) -> bool {
    match (actor, change) {
        (Actor::Agent(name), Change::Announce { host, .. }) => {
            registry.host(*host).is_some_and(|host| host.name == *name)
        }
        (Actor::Agent(_), _) => false,
        _ => true,
    }
}

fn access_of(registry: &Registry, subject: &Subject) -> Option<Access> {
    match registry.denial_in_force(subject) {
        Some(_) => None,
        None => registry.identity(subject).map(|identity| identity.access),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Protects: through another one a manager takes out itself, and nobody else, and never at the others' expense.
    #[test]
    fn a_manager_takes_out_only_itself() {
        let own = |host: &str, accept_loss, compromised| {
            let change = Change::RemoveManager { host: host.parse().unwrap(), accept_loss, compromised };
            is_a_managers_own(&"spare".parse().unwrap(), &change)
        };
        assert!(own("spare", false, false));
        assert!(!own("hub", false, false) && !own("spare", true, false) && !own("spare", false, true));
    }
}
