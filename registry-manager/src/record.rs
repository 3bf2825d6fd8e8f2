//! The primary manager records its own identity and issuer where the registry has not got them: one that an older
//! build has made knows neither.

use crate::limits::RECORD_RETRY;
use crate::server::Shared;
use echelon_core::access::Subject;
use echelon_core::change::{Change, NewIssuer};
use echelon_core::name::ManagerType;
use echelon_core::registry::Registry;
use echelon_identity::PeerIdentity;
use tracing::{info, warn};

/// Tries until it is recorded, as long as the manager runs. `own` is what the manager's certificate says.
pub(crate) async fn itself(shared: Shared, own: PeerIdentity) {
    while is_missing(&shared, &shared.hub.registry(), &own) {
        match shared.edit_by_itself(change(&shared, &own)).await {
            Ok(_) => return info!("Recorded this manager's identity and issuer"),
            Err(failure) => {
                warn!(error = failure.error, "This manager could not be recorded: {}", failure.message)
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RECORD_RETRY) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

fn is_missing(shared: &Shared, registry: &Registry, own: &PeerIdentity) -> bool {
    let primary = registry.primary_of(&ManagerType::registry());
    let identity = registry.identity(&Subject::Manager(shared.host()));
    let recorded = identity.is_some_and(|i| (i.enrolment, i.key_hash) == (own.enrolment, own.key_hash));
    let known = registry.issuer(&shared.issuer.id()).is_some();
    primary.is_some_and(|package| package.host == shared.host()) && !(recorded && known)
}

fn change(shared: &Shared, own: &PeerIdentity) -> Change {
    Change::RecordManager {
        host: shared.host(),
        enrolment: own.enrolment,
        key_hash: own.key_hash,
        issuer: NewIssuer { id: shared.issuer.id(), not_after: shared.issuer.not_after() },
    }
}
