//! Letting hosts in, and renewing the certificates of those that are in.

use crate::clock::unix_now;
use crate::failure;
use crate::limits::REFUSED_ENROLMENT;
use crate::relay;
use crate::requests::subject;
use crate::server::Shared;
use echelon_core::access::Subject;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::Context;
use echelon_core::endpoint::Address;
use echelon_core::id::{HostId, TokenId};
use echelon_core::message::{Enrol, Enrolled, Failure};
use echelon_core::name::HostName;
use echelon_core::refusal::{EnrolRefusal, Refusal};
use echelon_core::registry::Registry;
use echelon_core::row::Actor;
use echelon_identity::{CertificateRequest, Leaf, PeerIdentity, PublicKey, Spiffe, TokenSecret};
use echelon_wire::content_hash;
use std::net::SocketAddr;
use tracing::{info, warn};

/// Enrols a host. Every refusal that has to do with the token gets one and the same answer, after a wait;
/// the log says what it was.
pub(crate) async fn enrol(shared: &Shared, wish: Enrol, from: SocketAddr) -> Result<Enrolled, Failure> {
    let host = wish.host.clone();
    let enrolled = in_turn(shared, &host, from, try_enrol(shared, wish, from)).await?;
    info!(host = %host, enrolment = enrolled.enrolment, from = %from, "Enrolled");
    Ok(enrolled)
}

/// Has few enrolments at work at a time, and lets those wait who are refused.
pub(crate) async fn in_turn<T>(
    shared: &Shared,
    host: &HostName,
    from: SocketAddr,
    work: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Failure> {
    let answer = {
        let _place = shared.enrolments.acquire().await.map_err(|_| failure::stopping())?;
        work.await
    };
    shared.hub.metrics.enrolment(answer.is_ok());
    match answer {
        Ok(enrolled) => Ok(enrolled),
        Err(Refused { failure, why }) => {
            if let Some(others) = shared.strangers.now() {
                warn!(host = %host, from = %from, others, "Refused to enrol: {why}");
            }
            // Without a place: whoever guesses waits alone, and keeps nobody from enrolling.
            tokio::time::sleep(REFUSED_ENROLMENT).await;
            Err(failure)
        }
    }
}

/// What whoever asks is told, and what the log says.
pub(crate) struct Refused {
    failure: Failure,
    why: String,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { why: failure.message.clone(), failure }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { failure: (&refusal).into(), why: failure::in_full(&refusal) }
    }
}

async fn try_enrol(shared: &Shared, wish: Enrol, from: SocketAddr) -> Result<Enrolled, Refused> {
    let csr = CertificateRequest::from_der(&wish.csr).map_err(|e| failure::bad_request(&e))?;
    let key_hash = csr.public_key().hash();
    let registry = shared.hub.registry();
    // Its last try may be committed already, and the token gone since: then it holds the key that was enrolled.
    let enrolled = registry.host_named(&wish.host).and_then(|h| registry.identity(&Subject::Host(h.id)));
    let had_before =
        registry.answered(wish.request).is_some() && enrolled.is_some_and(|i| i.key_hash == key_hash);
    if !had_before && !knows_secret(&registry, wish.token, wish.secret) {
        return Err(Refusal::from(EnrolRefusal::UnknownToken).into());
    }
    // The request's id is unique, made by the host, and the same at every try: it serves as the host's id.
    let change = Change::Enrol {
        token: wish.token,
        host: wish.host.clone(),
        id: HostId(wish.request.0),
        domain: wish.domain.clone(),
        address: None,
        key_hash,
    };
    let mut set =
        ChangeSet { request: wish.request, if_revision: None, allow_shrink: false, changes: vec![change] };
    // Where the host connects from does not make a second try another wish.
    let content = content_hash(&set);
    if let Some(Change::Enrol { address, .. }) = set.changes.first_mut() {
        *address = Some(Address::Ip(from.ip()));
    }
    let context =
        Context { now: unix_now(), actor: Actor::Token(wish.token), from: Some(from.into()), content };
    relay::edit(shared, set, context, false).await?;
    Ok(certify(shared, &wish, csr.public_key())?)
}

/// Whether this is the token's secret.
pub(crate) fn knows_secret(registry: &Registry, token: TokenId, secret: [u8; 32]) -> bool {
    registry.token(token).is_some_and(|t| TokenSecret::from(secret).matches(&t.secret_hash))
}

fn certify(shared: &Shared, wish: &Enrol, key: &PublicKey) -> Result<Enrolled, Failure> {
    let registry = shared.hub.registry();
    let host = registry.host_named(&wish.host).ok_or_else(|| failure::unknown_host(&wish.host))?;
    let identity = registry.identity(&Subject::Host(host.id)).filter(|i| i.key_hash == key.hash());
    let identity = identity.ok_or_else(failure::unknown_identity)?;
    let subject = Spiffe::Host(host.id);
    let leaf = Leaf {
        subject: &subject,
        name: host.name.as_str(),
        enrolment: identity.enrolment,
        lifetime: shared.host_certificates(),
    };
    let chain = shared.issuer.issue(&leaf, key, unix_now()).map_err(|e| failure::internal(&e))?;
    Ok(Enrolled {
        chain: chain.certificates().to_vec(),
        framework: registry.meta().framework.clone(),
        host: host.id,
        enrolment: identity.enrolment,
        access: identity.access,
        domain: registry.path(host.domain),
    })
}

/// Renews a peer's certificate for the key that the registry holds for it.
pub(crate) fn renew(
    shared: &Shared,
    registry: &Registry,
    peer: &PeerIdentity,
    csr: &[u8],
) -> Result<Vec<Vec<u8>>, Failure> {
    let csr = CertificateRequest::from_der(csr).map_err(|e| failure::bad_request(&e))?;
    let identity = registry.identity(&subject(peer)).ok_or_else(failure::unknown_identity)?;
    if csr.public_key().hash() != identity.key_hash {
        return Err(failure::not_allowed("renew with another key than it enrolled with"));
    }
    let name = match &peer.subject {
        Spiffe::Host(id) => registry.host(*id).map(|h| h.name.to_string()),
        _ => None,
    };
    let lifetime = match &peer.subject {
        Spiffe::Host(_) => shared.host_certificates(),
        other => other.lifetime(),
    };
    let name = name.unwrap_or_else(|| peer.name.to_string());
    let leaf = Leaf { subject: &peer.subject, name: &name, enrolment: identity.enrolment, lifetime };
    let chain =
        shared.issuer.issue(&leaf, csr.public_key(), unix_now()).map_err(|e| failure::internal(&e))?;
    info!(peer = %name, "Renewed a certificate");
    Ok(chain.certificates().to_vec())
}
