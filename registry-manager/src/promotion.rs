//! Changes of the primary, as consoles ask for them: checked, brought to the manager that has to decide, and told
//! with the evidence.

mod here;

use crate::failure;
use crate::limits::{PROMOTION_DEADLINE, PROMOTION_RELAY};
use crate::links::{self, NoAnswer};
use crate::server::{Inner, Shared};
use echelon_core::access::{Access, Subject};
use echelon_core::id::HostId;
use echelon_core::message::{Failure, Request, Response};
use echelon_core::name::{ConsoleName, HostName, ManagerType};
use echelon_core::promotion::{Promoted, Promotion, Sight};
use echelon_core::registry::Registry;
use here::here;

/// Does a step for this console, here or at the manager that it is for.
pub(crate) async fn carry_out(
    shared: &Shared,
    console: &ConsoleName,
    step: Promotion,
) -> Result<Promoted, Failure> {
    check(&shared.hub.registry(), console)?;
    match whose(shared, &step)? {
        host if host == shared.host => here(shared, console, step).await,
        host => relay(shared, host, console, step).await,
    }
}

/// Does a step that another manager hands on. Whether the console may is judged by this registry.
pub(crate) async fn carry_out_relayed(
    shared: &Shared,
    console: &ConsoleName,
    step: Promotion,
) -> Result<Promoted, Failure> {
    check(&shared.hub.registry(), console)?;
    here(shared, console, step).await
}

/// Only admins change the primary.
fn check(registry: &Registry, console: &ConsoleName) -> Result<(), Failure> {
    let subject = Subject::Console(console.clone());
    let denied = registry.denial_in_force(&subject).is_some();
    let access = registry.identity(&subject).filter(|_| !denied).map(|identity| identity.access);
    match access {
        Some(access) if access.allows(Access::Admin) => Ok(()),
        Some(access) => Err(failure::not_allowed(&format!(
            "change the primary: it takes {} access, this one has {access}",
            Access::Admin
        ))),
        None => Err(failure::unknown_identity()),
    }
}

/// The manager that a step is for.
fn whose(shared: &Shared, step: &Promotion) -> Result<HostId, Failure> {
    let situation = shared.edits.situation();
    match step {
        Promotion::HandOver { to, trial, .. } => {
            let (to, primary) = (manager_on(shared, to)?, situation.primary());
            // What a primary that is not there would say, this manager says as far as it knows.
            let reachable = shared.links.connection(primary).is_some();
            match !reachable && (*trial || to == primary) {
                true => Ok(shared.host),
                false => Ok(primary),
            }
        }
        Promotion::Force { to, .. } | Promotion::Signed { to, .. } | Promotion::Abort { to, .. } => {
            manager_on(shared, to)
        }
        Promotion::Choose { lineage, .. } => {
            let chains = std::iter::once(&situation.chain).chain(&situation.rivals);
            let of = chains.map(|chain| chain.head()).find(|head| head.id.lineage == *lineage);
            of.map(|head| head.holder).ok_or_else(|| failure::unknown_lineage(lineage))
        }
    }
}

/// The host with this name, where a registry manager is on it.
fn manager_on(shared: &Shared, name: &HostName) -> Result<HostId, Failure> {
    let registry = shared.hub.registry();
    let host = registry.host_named(name).ok_or_else(|| failure::unknown_host(name))?;
    match registry.package(host.id, &ManagerType::registry()) {
        Some(_) => Ok(host.id),
        None => Err(failure::no_registry_manager(name)),
    }
}

async fn relay(
    shared: &Shared,
    to: HostId,
    console: &ConsoleName,
    step: Promotion,
) -> Result<Promoted, Failure> {
    let (name, changes) = (shared.hub.name_of(to), step.changes_the_primary());
    let Some(connection) = shared.links.connection(to) else {
        return Err(unreachable(shared, to, &step));
    };
    let lost = |why: &dyn std::fmt::Display| match changes {
        true => failure::promotion_unknown(&name, why),
        false => failure::no_manager(&name, why),
    };
    let request = Request::PromotionFor { console: console.clone(), step };
    match links::ask(&connection, &request, PROMOTION_DEADLINE + PROMOTION_RELAY).await {
        Ok(Response::Promotion(promoted)) => Ok(promoted),
        Ok(Response::Failed(failure)) => Err(failure),
        Ok(_) => Err(lost(&"it answered something else")),
        Err(NoAnswer::NotSent(why)) => Err(failure::no_manager(&name, &why)),
        Err(NoAnswer::Lost(why)) => Err(lost(&why)),
    }
}

/// There is no link to the manager that a step is for.
fn unreachable(shared: &Shared, to: HostId, step: &Promotion) -> Failure {
    let name = shared.hub.name_of(to);
    match step {
        Promotion::HandOver { to: successor, .. } => {
            let situation = shared.edits.situation();
            let heard = situation.peers.get(&to).and_then(|peer| peer.heard);
            let silent = heard.map(|heard| shared.hub.clock.now().since(heard));
            failure::no_primary_to_hand_over(&name, silent, successor)
        }
        _ => failure::no_manager(&name, &"there is no link to it"),
    }
}

/// Works on what this manager knows of the others at the moment. Holds the board meanwhile.
pub(crate) fn sight<T>(shared: &Inner, work: impl FnOnce(&Sight<'_>) -> T) -> T {
    let (registry, situation) = (shared.hub.registry(), shared.edits.situation());
    let (proved, unproved) = (shared.hub.witnesses.proved_position(), shared.hub.witnesses.unproved());
    let board = shared.hub.board();
    work(&Sight {
        registry: &registry,
        board: &board,
        me: shared.host,
        chain: &situation.chain,
        standing: &situation.standing,
        peers: &situation.peers,
        rivals: &situation.rivals,
        copying: situation.copying,
        rolled_back: situation.rolled_back.is_some(),
        proved,
        unproved: &unproved,
        now: shared.hub.clock.now(),
    })
}
