//! A wish to join that has not been answered yet.

use super::{Join, JoinError, identity_error};
use crate::clock::unix_now;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::{RequestId, TokenId};
use echelon_core::limits::REQUEST_TTL;
use echelon_core::name::{DomainPath, HostName};
use echelon_daemon::secret;
use echelon_identity::KeyPair;
use serde::{Deserialize, Serialize};
use std::path::Path;
use uuid::Uuid;

/// The wish's file in the state directory; it holds the keys.
pub(crate) const FILE: &str = "joining.json";

/// Longest file that is read: two keys, and names at their limits.
const MAX_BYTES: u64 = 16 * 1024;

/// What has to be the same at every try, so that all tries are one request.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) request: RequestId,
    token: TokenId,
    host: HostName,
    domain: Option<DomainPath>,
    endpoint: Endpoint,
    /// The secret key of its identity (PKCS #8, PEM).
    key: String,
    /// The secret key of its issuer.
    issuer_key: String,
}

impl Pending {
    /// The wish of an earlier try with the same options, else a new one, on disk before it is sent. One whose key is
    /// `spent` was answered, and what it was given is of no use any more.
    pub(super) fn prepare(options: &Join, spent: Option<[u8; 32]>) -> Result<Self, JoinError> {
        let path = options.state.join(FILE);
        if path.exists() {
            let bytes = secret::read(&path, MAX_BYTES)?;
            let earlier = serde_json::from_slice::<Self>(&bytes).map_err(identity_error)?;
            if earlier.is_for(options) && Some(earlier.key()?.public_key_hash()) != spent {
                return Ok(earlier);
            }
        }
        let key = || KeyPair::generate().map(|key| key.to_pem()).map_err(identity_error);
        let pending = Self {
            request: RequestId(Uuid::now_v7()),
            token: options.token.id,
            host: options.host.clone(),
            domain: options.domain.clone(),
            endpoint: options.advertise.clone(),
            key: key()?,
            issuer_key: key()?,
        };
        secret::write(&path, &serde_json::to_vec(&pending).map_err(identity_error)?)?;
        Ok(pending)
    }

    /// The key of its identity.
    pub(super) fn key(&self) -> Result<KeyPair, JoinError> {
        KeyPair::from_pem(&self.key).map_err(identity_error)
    }

    /// The key of its issuer.
    pub(super) fn issuer_key(&self) -> Result<KeyPair, JoinError> {
        KeyPair::from_pem(&self.issuer_key).map_err(identity_error)
    }

    /// Removes the file of a wish that was answered.
    pub(super) fn forget(state: &Path) {
        // One that stays is overwritten by the next wish; nothing else reads it.
        let _ = std::fs::remove_file(state.join(FILE));
    }

    /// Whether this is the same wish, and young enough to be answered as such.
    fn is_for(&self, options: &Join) -> bool {
        let young = self.request.made_at().is_some_and(|at| unix_now() < at + REQUEST_TTL / 2);
        let same = (&self.token, &self.host, &self.domain, &self.endpoint)
            == (&options.token.id, &options.host, &options.domain, &options.advertise);
        young && same
    }
}
