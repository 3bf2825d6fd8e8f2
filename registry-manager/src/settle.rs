//! The end of what a manager has written: while it stops, its standbys still say that they hold it.

use crate::journal::Said;
use crate::limits::{SETTLE, SETTLE_LOOK};
use crate::server::Shared;
use tokio::time::timeout;

/// Once this manager stops, waits until all that it has written is committed, but not for long; then whoever still waits
/// is told that the outcome is unknown, and the links end.
pub(crate) async fn at_the_end(shared: Shared) {
    shared.stop.cancelled().await;
    let settled = async {
        // It answers before it carries out what came before the question: once more, and that is done.
        shared.edits.answer().await;
        shared.edits.answer().await;
        while shared.edits.situation().is_waiting() {
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    };
    if timeout(SETTLE, settled).await.is_err() {
        shared.edits.say(Said::GiveUp).await;
    }
    shared.settled.cancel();
}
