//! The newest mark that this manager shows, signed: once for all agents, which keep it and can prove by it what they
//! were shown.

use crate::clock::unix_now;
use crate::limits::{SIGN_INTERVAL, UNSIGNED_LOG};
use crate::occasion::Occasion;
use echelon_core::grant::{Mark, Proof};
use echelon_core::message::ToAgent;
use echelon_core::signed_mark::SignedMark;
use echelon_identity::Credentials;
use echelon_identity::proof::prove_mark;
use echelon_wire::{Bytes, Wire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tracing::warn;

/// A signed mark, ready to be told.
pub(crate) struct Signed {
    pub(crate) mark: Mark,
    /// Which of the certificates of this process it was signed with.
    pub(crate) signer: u32,
    /// The message with the certificates, and without them.
    pub(crate) frames: [Bytes; 2],
}

/// Signs when somebody wants it, which is when an agent is told something: never while an edit waits, and nothing of what
/// nobody is told.
pub(crate) struct Signing {
    state: Mutex<State>,
    unsigned: Occasion,
}

#[derive(Default)]
struct State {
    signer: Option<Credentials>,
    /// Counts the signers.
    number: u32,
    newest: Option<(Arc<Signed>, Instant)>,
}

impl Signing {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), unsigned: Occasion::every(UNSIGNED_LOG) }
    }

    /// From now on these sign. What they have not signed is signed anew.
    pub(crate) fn set_signer(&self, credentials: Credentials) {
        let mut state = self.state();
        (state.signer, state.number) = (Some(credentials), state.number.wrapping_add(1));
    }

    /// This mark, signed; where the last signature was made a moment ago, what that was of. None where nothing can be
    /// signed.
    pub(crate) fn newest(&self, mark: Mark, now: Instant) -> Option<Arc<Signed>> {
        let mut state = self.state();
        let number = state.number;
        let usable = |(signed, at): &&(Arc<Signed>, Instant)| {
            (signed.mark, signed.signer) == (mark, number)
                || now.saturating_duration_since(*at) < SIGN_INTERVAL
        };
        if let Some((signed, _)) = state.newest.as_ref().filter(usable) {
            return Some(Arc::clone(signed));
        }
        match sign(state.signer.as_ref()?, number, mark) {
            Ok(signed) => {
                let signed = Arc::new(signed);
                state.newest = Some((Arc::clone(&signed), now));
                Some(signed)
            }
            Err(why) => {
                if let Some(others) = self.unsigned.now() {
                    warn!(others, "What agents are shown is not signed; check this host's clock: {why}");
                }
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs a mark, where others will believe the time of the signature.
fn sign(signer: &Credentials, number: u32, mark: Mark) -> Result<Signed, String> {
    let (at, peer) = (unix_now(), signer.peer().map_err(|e| crate::failure::in_full(&e))?);
    if !(peer.not_before..=peer.not_after).contains(&at) {
        return Err("the manager's certificate is not valid at this time".to_owned());
    }
    let signed = prove_mark(signer, mark, at).map_err(|e| crate::failure::in_full(&e))?;
    let bare = Proof { certificates: Vec::new(), signature: signed.proof.signature.clone() };
    let short = SignedMark { proof: bare, ..signed };
    let frames = [signed, short].map(|signed| ToAgent::Signed(signed).encode());
    Ok(Signed { mark, signer: number, frames })
}
