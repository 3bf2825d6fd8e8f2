//! The manager's own certificate.

use super::error::identity_error;
use super::{Shared, StartError};
use crate::clock::unix_now;
use crate::paths::Paths;
use crate::{alarms, failure};
use echelon_core::id::HostId;
use echelon_core::name::HostName;
use echelon_identity::{Credentials, IdentityDirectory, Issuer, Leaf, PeerIdentity, Spiffe};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{error, info};

/// The manager's own credentials, renewed and kept where they are past half of their life.
pub(crate) fn own_credentials(
    directory: &IdentityDirectory,
    issuer: &Issuer,
) -> Result<(Credentials, HostId), StartError> {
    let credentials = directory.load_credentials().map_err(identity_error)?;
    let peer = credentials.peer().map_err(identity_error)?;
    let Spiffe::Manager(host) = peer.subject else {
        return Err(StartError::NoRegistry(directory.path().display().to_string()));
    };
    if unix_now() < peer.renew_at() {
        return Ok((credentials, host));
    }
    let renewed = renew(&credentials, &peer, issuer)?;
    directory.save_credentials(&renewed).map_err(identity_error)?;
    Ok((renewed, host))
}

/// The same identity with a new certificate.
pub(crate) fn renew(
    credentials: &Credentials,
    peer: &PeerIdentity,
    issuer: &Issuer,
) -> Result<Credentials, StartError> {
    let leaf = Leaf {
        subject: &peer.subject,
        name: peer.name.as_str(),
        enrolment: peer.enrolment,
        lifetime: peer.subject.lifetime(),
    };
    let key = credentials.key();
    let chain = issuer.issue(&leaf, &key.public_key(), unix_now()).map_err(identity_error)?;
    Credentials::new(key.clone(), chain).map_err(identity_error)
}

pub(super) fn fallback_name(credentials: &Credentials) -> HostName {
    let name = credentials.peer().ok().and_then(|p| p.name.as_str().parse().ok());
    name.unwrap_or_else(|| "registry".parse().expect("a valid host name"))
}

/// Renews the manager's own certificate at half of its life, as long as the manager runs.
pub(super) async fn renewal(shared: Shared, mut credentials: Credentials, paths: Paths, host: HostId) {
    loop {
        let Ok(peer) = credentials.peer() else { return };
        tokio::select! {
            () = tokio::time::sleep(RENEWAL_LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        if unix_now() < peer.renew_at() {
            continue;
        }
        match renew_now(&shared, &credentials, &peer, &paths) {
            Ok(renewed) => {
                info!(host.id = %host, "Renewed the manager's certificate");
                shared.alarms.clear(alarms::RENEWAL);
                credentials = renewed;
            }
            Err(e) => {
                error!(error = %e, "The manager's certificate could not be renewed");
                shared.alarms.raise(alarms::not_renewed(peer.not_after, &failure::in_full(&e)));
            }
        }
    }
}

/// How often the manager looks whether its certificate is due, and tries again where renewing failed. The time
/// of day may be set while it sleeps, which a sleep of half a day would not notice.
const RENEWAL_LOOK: Duration = Duration::from_secs(30);

fn renew_now(
    shared: &Shared,
    credentials: &Credentials,
    peer: &PeerIdentity,
    paths: &Paths,
) -> Result<Credentials, StartError> {
    let renewed = renew(credentials, peer, &shared.issuer)?;
    let directory = IdentityDirectory::open(&paths.identity()).map_err(identity_error)?;
    directory.save_credentials(&renewed).map_err(identity_error)?;
    shared.endpoint.set_identity(&renewed).map_err(identity_error)?;
    shared.links.set_credentials(renewed.clone());
    shared.hub.witnesses.signing.set_signer(renewed.clone());
    let ends = renewed.peer().map_err(identity_error)?.not_after;
    shared.certificate_ends.store(ends.0, Ordering::Relaxed);
    Ok(renewed)
}
