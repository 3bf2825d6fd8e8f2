//! The end of a manager that is none any more.

use crate::left;
use crate::limits::REFUSALS;
use crate::paths::Paths;
use crate::server::Shared;
use echelon_core::access::Subject;
use echelon_core::id::HostId;
use echelon_core::registry::Registry;
use echelon_daemon::{Exit, Tasks};
use echelon_identity::PeerIdentity;
use tracing::error;

/// Whether a registry has taken the manager with this enrolment out. That it does not have it tells nothing: what a
/// manager that has just joined knows to be committed may be older than itself.
fn is_out(registry: &Registry, host: HostId, enrolment: u32) -> bool {
    registry.denial(&Subject::Manager(host)).is_some_and(|denial| denial.up_to >= enrolment)
}

/// Ends this manager once the registry that it follows has it no more, or its primary refuses it. The word of the
/// registry is final; that of the primary, which may come from a backup, is asked for again at the next start.
pub(crate) async fn watch(shared: Shared, own: PeerIdentity, paths: Paths, tasks: Tasks) {
    let (mut denials, mut refusals) = (shared.hub.denials(), shared.links.refusals());
    loop {
        let leads = shared.edits.situation().leading;
        if !leads && is_out(&shared.hub.registry(), shared.host(), own.enrolment) {
            error!(
                "This registry manager was taken out of the registry, and ends. To join again: registry-manager join"
            );
            let why =
                format!("it was taken out by revision {} or before", shared.hub.mark().position.revision);
            if let Err(e) = left::mark_unless_marked(&paths, &why) {
                error!(error = %e, "The state directory could not be marked");
            }
            return tasks.fail(Exit::NotAllowed);
        }
        if !leads && *refusals.borrow_and_update() >= REFUSALS {
            error!(
                "The primary refuses this registry manager, which was removed or denied; it ends. What became of it: \
                 echelon manager list. To join again: registry-manager leave, then registry-manager join"
            );
            return tasks.fail(Exit::NotAllowed);
        }
        tokio::select! {
            // The hub and the links, which tell, live as long as this manager.
            _ = denials.changed() => {}
            _ = refusals.changed() => {}
            () = shared.stop.cancelled() => return,
        }
    }
}
