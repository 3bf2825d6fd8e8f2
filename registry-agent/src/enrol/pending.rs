//! A wish to enrol that has not been answered yet.

use crate::clock::unix_now;
use crate::enrol::{EnrolError, EnrolOptions};
use crate::record::{load, save};
use echelon_core::id::{RequestId, TokenId};
use echelon_core::limits::REQUEST_TTL;
use echelon_core::name::{DomainPath, HostName};
use echelon_identity::KeyPair;
use serde::{Deserialize, Serialize};
use std::path::Path;
use uuid::Uuid;

/// The wish's file in the state directory; it holds the key.
const FILE: &str = "enrolling.json";

/// Longest file that is read: a key and names at their limits.
const MAX_BYTES: u64 = 16 * 1024;

/// What has to be the same at every try, so that all tries are one request.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) request: RequestId,
    token: TokenId,
    host: HostName,
    domain: Option<DomainPath>,
    /// The host's secret key (PKCS #8, PEM).
    key: String,
}

impl Pending {
    /// The wish of an earlier try with the same options, else a new one, on disk before it is sent.
    pub(crate) fn prepare(options: &EnrolOptions) -> Result<Self, EnrolError> {
        let path = options.state.join(FILE);
        if let Some(earlier) = load::<Self>(&path, MAX_BYTES)?.filter(|p| p.is_for(options)) {
            return Ok(earlier);
        }
        let pending = Self {
            request: RequestId(Uuid::now_v7()),
            token: options.token.id,
            host: options.host.clone(),
            domain: options.domain.clone(),
            key: KeyPair::generate()?.to_pem(),
        };
        save(&path, &pending)?;
        Ok(pending)
    }

    /// The host's key.
    pub(crate) fn key(&self) -> Result<KeyPair, EnrolError> {
        Ok(KeyPair::from_pem(&self.key)?)
    }

    /// Removes the file of a wish that was answered.
    pub(crate) fn forget(state: &Path) {
        // One that stays is overwritten by the next enrolment; nothing else reads it.
        let _ = std::fs::remove_file(state.join(FILE));
    }

    /// Whether this is the same wish, and young enough to be answered as such.
    fn is_for(&self, options: &EnrolOptions) -> bool {
        let young = self.request.made_at().is_some_and(|at| unix_now() < at + REQUEST_TTL / 2);
        young
            && (&self.token, &self.host, &self.domain) == (&options.token.id, &options.host, &options.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_daemon::create_private_dir;
    use echelon_identity::JoinToken;
    use std::os::unix::fs::PermissionsExt;

    fn options(state: &Path, token: &JoinToken, host: &str) -> EnrolOptions {
        create_private_dir(state).unwrap();
        let (managers, host) = (vec![], host.parse().unwrap());
        EnrolOptions { state: state.to_owned(), managers, host, domain: None, token: token.clone() }
    }

    #[test]
    fn a_second_try_is_the_same_request_with_the_same_key_and_another_wish_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let token = JoinToken::generate([7; 32]).unwrap();
        let first = Pending::prepare(&options(&state, &token, "agent1")).unwrap();
        let again = Pending::prepare(&options(&state, &token, "agent1")).unwrap();
        assert_eq!((again.request, &again.key), (first.request, &first.key));
        let other = Pending::prepare(&options(&state, &token, "agent2")).unwrap();
        assert_ne!(other.request, first.request);
        let token = JoinToken::generate([7; 32]).unwrap();
        let other_token = Pending::prepare(&options(&state, &token, "agent2")).unwrap();
        assert_ne!(other_token.request, other.request);
        assert_eq!(other_token.request.0.get_version_num(), 7);
    }

    #[test]
    fn the_key_is_kept_for_its_owner_alone_and_the_token_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let token = JoinToken::generate([7; 32]).unwrap();
        Pending::prepare(&options(&state, &token, "agent1")).unwrap();
        let path = state.join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = token.expose();
        assert!(!text.contains(secret.split('.').nth(2).unwrap()), "the token's secret is on disk");
        Pending::forget(&state);
        assert!(!path.exists());
    }
}
