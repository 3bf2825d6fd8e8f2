//! Telling many agents the same thing without flooding the network.

use crate::limits::{PACE_SENDS, PACE_SLOT};
use echelon_core::message::ViewMark;
use echelon_wire::Bytes;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What is pushed to every session: encoded once.
#[derive(Clone, Debug)]
pub(crate) enum Push {
    /// What changed in the view.
    Delta {
        /// The view revision it applies to.
        from: u64,
        /// What the view is afterwards.
        mark: ViewMark,
        /// The encoded message.
        frame: Bytes,
    },
    /// The view is this now, by more than fits into a frame: it is fetched from the log.
    Behind(ViewMark),
    /// Anything that is not counted.
    Frame(Bytes),
}

/// Gives every send its time, [`PACE_SENDS`] in a [`PACE_SLOT`]: a virtual scheduling (GCRA) in which a
/// whole slot may go at once.
pub(crate) struct Pace(Mutex<Instant>);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Waits for the turn of one send.
    pub(crate) async fn turn(&self) {
        let at = self.reserve(Instant::now());
        if let Some(at) = at {
            tokio::time::sleep_until(at).await;
        }
    }

    /// How long so many sends take.
    pub(crate) fn time_for(&self, sends: usize) -> Duration {
        (PACE_SLOT / PACE_SENDS).saturating_mul(u32::try_from(sends).unwrap_or(u32::MAX))
    }

    /// The time of the next send; none for at once.
    fn reserve(&self, now: Instant) -> Option<Instant> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now);
        *next = at + PACE_SLOT / PACE_SENDS;
        (at > now + PACE_SLOT).then_some(at - PACE_SLOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_goes_at_once_and_the_rest_is_spread() {
        let now = Instant::now();
        let pace = Pace(Mutex::new(now));
        let waits: Vec<_> =
            (0..64 * 100).map(|_| pace.reserve(now).map_or(Duration::ZERO, |at| at - now)).collect();
        assert!(waits[..64].iter().all(Duration::is_zero), "{:?}", &waits[..70]);
        assert!(waits.is_sorted());
        let last = waits.last().unwrap();
        assert!((Duration::from_millis(480)..=Duration::from_millis(500)).contains(last), "{last:?}");
    }
}
