//! Letting registry managers in, and out.

use crate::clock::unix_now;
use crate::enrol::{Refused, in_turn, knows_secret};
use crate::failure;
use crate::limits::{RELAY_DEADLINE, RELAY_LEVEL};
use crate::links::{self, NoAnswer};
use crate::relay;
use crate::root;
use crate::server::Shared;
use crate::versions::check;
use echelon_core::access::Subject;
use echelon_core::change::{Change, ChangeSet, NewIssuer};
use echelon_core::edit::Context;
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::id::{HostId, RequestId};
use echelon_core::message::{EditAnswer, Failure, Join, Joined, Request, Response};
use echelon_core::refusal::{EnrolRefusal, Refusal};
use echelon_core::row::Actor;
use echelon_core::time::UnixMillis;
use echelon_identity::{Authority, CertificateRequest, Credentials, file, lifetime};
use echelon_wire::content_hash;
use std::net::SocketAddr;
use std::path::Path;
use tokio::time::timeout;
use tracing::info;

/// Makes a registry manager of whoever shows a token for one: commits it, and signs its issuer with the root.
pub(crate) async fn join(shared: &Shared, wish: Join, from: SocketAddr) -> Result<Joined, Failure> {
    let host = wish.host.clone();
    let joined = in_turn(shared, &host, from, here_or_at_the_primary(shared, wish, from)).await?;
    info!(host = %host, enrolment = joined.enrolment, from = %from, "A registry manager joined");
    Ok(joined)
}

/// The same for one that has asked another manager.
pub(crate) async fn join_relayed(shared: &Shared, wish: Join, from: &Endpoint) -> Result<Joined, Failure> {
    let from = from.socket_addr().ok_or_else(|| failure::bad_request(&"it comes from no address"))?;
    let host = wish.host.clone();
    in_turn(shared, &host, from, try_join(shared, wish, from)).await
}

async fn here_or_at_the_primary(shared: &Shared, wish: Join, from: SocketAddr) -> Result<Joined, Refused> {
    match shared.edits.situation().primary() {
        primary if primary == shared.host => try_join(shared, wish, from).await,
        primary => Ok(hand_on(shared, primary, wish, from).await?),
    }
}

/// Has the primary let it in, which commits that, and signs where the root key is.
async fn hand_on(shared: &Shared, primary: HostId, wish: Join, from: SocketAddr) -> Result<Joined, Failure> {
    let connection =
        relay::to_primary(shared, &shared.edits.situation()).ok_or_else(|| shared.cannot_write())?;
    let lost = |why: &dyn std::fmt::Display| failure::join_unknown(&shared.hub.name_of(primary), why);
    let request = Request::JoinFor { wish, from: from.into() };
    match links::ask(&connection, &request, RELAY_DEADLINE).await {
        Ok(Response::Joined(joined)) => {
            get_to_know(shared, &joined).await;
            Ok(joined)
        }
        Ok(Response::Failed(failure)) => Err(failure),
        Ok(_) => Err(lost(&"it answered something else")),
        Err(NoAnswer::NotSent(why)) => Err(failure::cannot_relay(&why)),
        Err(NoAnswer::Lost(why)) => Err(lost(&why)),
    }
}

/// Waits until this manager knows the new one, which asks it for a copy next.
async fn get_to_know(shared: &Shared, joined: &Joined) {
    let subject = Subject::Manager(joined.host);
    let knows = |_: &u64| {
        let registry = shared.hub.registry();
        registry.identity(&subject).is_some_and(|identity| identity.enrolment == joined.enrolment)
    };
    let mut head = shared.hub.head();
    // The hub, which tells, lives as long as this manager.
    let _ = timeout(RELAY_LEVEL, head.wait_for(knows)).await;
}

async fn try_join(shared: &Shared, wish: Join, from: SocketAddr) -> Result<Joined, Refused> {
    let csr = CertificateRequest::from_der(&wish.csr).map_err(|e| failure::bad_request(&e))?;
    let issuer_csr = CertificateRequest::from_der(&wish.issuer_csr).map_err(|e| failure::bad_request(&e))?;
    let (key_hash, issuer) = (csr.public_key().hash(), issuer_csr.public_key());
    let registry = shared.hub.registry();
    let known = registry.host_named(&wish.host).map(|host| host.id);
    // Its last try may be committed already, and the token gone since: then it holds the key that was taken in.
    let identity = known.and_then(|host| registry.identity(&Subject::Manager(host)));
    let had_before =
        registry.answered(wish.request).is_some() && identity.is_some_and(|i| i.key_hash == key_hash);
    if !had_before && !knows_secret(&registry, wish.token, wish.secret) {
        return Err(Refusal::from(EnrolRefusal::UnknownToken).into());
    }
    // Whoever shows no token learns nothing of this build.
    wish.greeting.iter().try_for_each(check).map_err(|why| failure::versions_apart(&why))?;
    if !shared.edits.situation().leading {
        return Err(shared.cannot_write().into());
    }
    // Before anything is committed: without the root there would be a manager that nobody believes.
    let root = load_root(&shared.paths.root(), &registry.meta().trust)?;
    // The request's id is unique, and the same at every try: it serves as the host's id.
    let host = known.unwrap_or(HostId(wish.request.0));
    let now = unix_now();
    let chain = root.certify_issuer(host, issuer, now).map_err(|e| failure::internal(&e))?;
    let not_after = (now + lifetime::ISSUER).min(root.not_after());
    commit(shared, &wish, from, NewIssuer { id: issuer.hash(), not_after }, key_hash).await?;

    let registry = shared.hub.registry();
    let row = registry.host_named(&wish.host).filter(|row| row.id == host);
    let row = row.ok_or_else(|| failure::internal(&"another host took the name meanwhile; try again"))?;
    let identity = registry.identity(&Subject::Manager(host)).filter(|i| i.key_hash == key_hash);
    let identity = identity.ok_or_else(failure::unknown_identity)?;
    Ok(Joined {
        issuer: chain.certificates().to_vec(),
        framework: registry.meta().framework.clone(),
        host,
        enrolment: identity.enrolment,
        domain: registry.path(row.domain),
        root_unexported: root::is_unexported(&shared.paths),
    })
}

async fn commit(
    shared: &Shared,
    wish: &Join,
    from: SocketAddr,
    issuer: NewIssuer,
    key_hash: [u8; 32],
) -> Result<EditAnswer, Failure> {
    let change = |address, issuer| Change::JoinManager {
        token: wish.token,
        host: wish.host.clone(),
        id: HostId(wish.request.0),
        domain: wish.domain.clone(),
        address,
        endpoint: wish.endpoint.clone(),
        key_hash,
        issuer,
    };
    let set = |change| ChangeSet {
        request: wish.request,
        if_revision: None,
        allow_shrink: false,
        changes: vec![change],
    };
    // Where it connects from, and when it is signed, does not make a second try another wish.
    let content = content_hash(&set(change(None, NewIssuer { not_after: UnixMillis(0), ..issuer })));
    let set = set(change(Some(Address::Ip(from.ip())), issuer));
    let (actor, from) = (Actor::Token(wish.token), Some(from.into()));
    shared.edits.edit(set, Context { now: unix_now(), actor, from, content }, false).await
}

/// The root key, where it is here and is one that agents trust.
fn load_root(path: &Path, trusted: &[Vec<u8>]) -> Result<Authority, Failure> {
    let text = match file::read_secret(path) {
        Err(e) if e.is_not_found() => return Err(failure::no_root_key(path)),
        text => text.map_err(|e| failure::internal(&e))?,
    };
    let credentials = Credentials::from_pem(&text).map_err(|e| failure::internal(&failure::in_full(&e)))?;
    let root = Authority::from_credentials(credentials).map_err(|e| failure::internal(&e))?;
    match trusted.iter().any(|certificate| certificate == root.certificate()) {
        true => Ok(root),
        false => Err(failure::internal(&"the root key here is none that this registry trusts")),
    }
}

/// Takes the manager that asks out of the registry.
pub(crate) async fn leave(
    shared: &Shared,
    host: HostId,
    request: RequestId,
    from: SocketAddr,
) -> Result<EditAnswer, Failure> {
    let registry = shared.hub.registry();
    let row = registry.host(host).ok_or_else(failure::unknown_identity)?;
    let change = Change::RemoveManager { host: row.name.clone(), accept_loss: false, compromised: false };
    let set = ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] };
    let (actor, content) = (Actor::Manager(row.name.clone()), content_hash(&set));
    let context = Context { now: unix_now(), actor, from: Some(from.into()), content };
    relay::edit(shared, set, context, false).await
}
