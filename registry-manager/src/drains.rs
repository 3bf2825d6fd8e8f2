//! Ends the draining of hosts whose time is over.

use crate::clock::unix_now;
use crate::limits::{DRAIN_LOOK, DRAIN_RETRY};
use crate::server::Shared;
use echelon_core::change::Change;
use echelon_core::time::UnixMillis;
use std::time::Duration;
use tracing::{info, warn};

/// Ends drains by ordinary edits, as long as the manager runs. What is due follows from the registry alone: drains
/// that ended while no manager ran are ended at its start.
pub(crate) async fn end(shared: Shared) {
    loop {
        let now = unix_now();
        // The primary does it; a standby has nothing to look for.
        let due = shared.hub.registry().next_drain_end().filter(|_| shared.edits.situation().leading);
        let pause = match due {
            Some(until) if until <= now => end_now(&shared).await,
            due => until(due, now),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// How long nothing is due, but never longer than the time of day is trusted to go on as it did.
fn until(due: Option<UnixMillis>, now: UnixMillis) -> Duration {
    due.map_or(DRAIN_LOOK, |due| Duration::from_millis(due.0.saturating_sub(now.0))).min(DRAIN_LOOK)
}

async fn end_now(shared: &Shared) -> Duration {
    match shared.edit_by_itself(Change::EndDrains).await {
        Ok(answer) => {
            info!(
                revision = answer.position.revision,
                hosts = answer.rows.len(),
                "Ended the draining of hosts"
            );
            Duration::ZERO
        }
        Err(failure) => {
            warn!(error = failure.error, "The draining of hosts could not be ended: {}", failure.message);
            DRAIN_RETRY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_ends_with_the_drain_and_is_never_long() {
        let now = UnixMillis(1_000_000);
        assert_eq!(until(None, now), DRAIN_LOOK);
        assert_eq!(until(Some(now + Duration::from_millis(7)), now), Duration::from_millis(7));
        assert_eq!(until(Some(now + Duration::from_secs(3600)), now), DRAIN_LOOK);
        assert_eq!(until(Some(UnixMillis(0)), now), Duration::ZERO);
    }
}
