//! What peers ask for, and whether they may.

use crate::backups;
use crate::clock::unix_now;
use crate::enrol;
use crate::failure;
use crate::joining;
use crate::limits::{REQUEST_DEADLINE, SEND_DEADLINE};
use crate::server::Shared;
use crate::session;
use crate::watchers::{self, WatchEnd};
use crate::{copies, lost, promotion, relay, reports};
use echelon_core::access::{Access, Subject};
use echelon_core::announce::Announcement;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::Context;
use echelon_core::id::{HostId, RequestId};
use echelon_core::issuer::{Certified, Standing};
use echelon_core::message::{Anonymous, EditAnswer, Failure, Greeting, Query, Request, Response, RowsPart};
use echelon_core::promotion::DismissedReport;
use echelon_core::registry::Registry;
use echelon_core::row::Actor;
use echelon_identity::{PeerIdentity, Spiffe};
use echelon_transport::{Channel, Connection, SendError};
use echelon_wire::{
    Bytes, MAX_AGENT_FRAME, MAX_ANONYMOUS_FRAME, MAX_EDIT_FRAME, MAX_MEMBER_FRAME, MAX_PART, Wire,
    content_hash,
};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{Instrument, debug, info, info_span};

/// What a channel was used for.
pub(crate) enum Served {
    /// A request, which was answered.
    Request,
    /// A session of this host's agent, which is to begin: it outlasts what a request takes.
    Session(HostId, Channel),
    /// A link to the manager on this host, likewise.
    Link(HostId, Greeting, Channel),
}

/// Why a request got no answer. The peer is gone, or does not listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestEnd {
    #[error("the peer sent no request within {REQUEST_DEADLINE:?}")]
    NoRequest,
    #[error("the peer's request did not arrive")]
    Receive(#[from] echelon_transport::RecvError),
    #[error("the answer did not arrive")]
    Send(#[from] SendError),
    #[error("the peer did not take the answer within {SEND_DEADLINE:?}")]
    Slow,
    #[error("the manager is stopping")]
    Stopping,
}

/// Whose certificate this is, as the registry knows it.
pub(crate) fn subject(peer: &PeerIdentity) -> Subject {
    match &peer.subject {
        Spiffe::Host(id) => Subject::Host(*id),
        Spiffe::Console(name) => Subject::Console(name.clone()),
        Spiffe::Manager(id) => Subject::Manager(*id),
    }
}

/// A certificate, as far as the registry knows what it is worth.
pub(crate) fn certified(peer: &PeerIdentity) -> Certified {
    let PeerIdentity { enrolment, issuer, not_after, .. } = *peer;
    Certified { subject: subject(peer), enrolment, issuer, not_after }
}

/// What a peer's certificate is worth now.
pub(crate) fn standing(registry: &Registry, peer: &PeerIdentity) -> Standing {
    registry.standing(&certified(peer), unix_now())
}

/// Whether a peer's certificate is worth all that its access level allows.
pub(crate) fn is_good(registry: &Registry, peer: &PeerIdentity) -> bool {
    matches!(standing(registry, peer), Standing::Good(_))
}

/// What an identity may do now.
fn access(registry: &Registry, peer: &PeerIdentity) -> Result<Access, Failure> {
    match standing(registry, peer) {
        Standing::Good(access) => Ok(access),
        Standing::RenewOnly(why) => Err(failure::renew_first(why)),
        Standing::Refused(_) => Err(failure::unknown_identity()),
    }
}

/// The place of a request among those of its connection. Free again once the last clone is dropped.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

/// Answers one request of a peer. What goes on after that for it keeps its place.
pub(crate) async fn serve(
    shared: &Shared,
    connection: &Connection,
    mut channel: Channel,
    place: &Place,
) -> Result<Served, RequestEnd> {
    let peer = connection.peer();
    let frame = receive(shared, peer, &mut channel).await?;
    let Some(peer) = peer else {
        match echelon_wire::decode_anonymous(&frame) {
            Ok(Anonymous::Join(wish)) => {
                shared.hub.metrics.request("join");
                let answer = joining::join(shared, wish, connection.remote_addr()).await;
                respond(&mut channel, &answer.map_or_else(Response::Failed, Response::Joined)).await?;
            }
            Ok(Anonymous::Enrol(wish)) => {
                shared.hub.metrics.request("enrol");
                let answer = enrol::enrol(shared, wish, connection.remote_addr()).await;
                respond(&mut channel, &answer.map_or_else(Response::Failed, Response::Enrolled)).await?;
            }
            Err(_) => {
                fail(&mut channel, failure::not_allowed("do anything but enrol without a certificate"))
                    .await?;
            }
        }
        return Ok(Served::Request);
    };
    // Looked up once the request is there: what was in force when the channel was opened may be so no more.
    let registry = shared.hub.registry();
    let request = match Request::decode(&frame) {
        Ok(request) => request,
        Err(e) => {
            fail(&mut channel, failure::bad_request(&e)).await?;
            return Ok(Served::Request);
        }
    };
    let access = match (standing(&registry, peer), &request) {
        (Standing::Good(access), _) => access,
        (Standing::RenewOnly(_), Request::Renew { csr }) => {
            shared.hub.metrics.request(kind(&request));
            renew(shared, &registry, peer, csr, &mut channel).await?;
            return Ok(Served::Request);
        }
        (Standing::RenewOnly(why), _) => {
            fail(&mut channel, failure::renew_first(why)).await?;
            return Ok(Served::Request);
        }
        (Standing::Refused(why), _) => {
            debug!(peer = %peer.name, "A request is refused: {why}");
            fail(&mut channel, failure::unknown_identity()).await?;
            return Ok(Served::Request);
        }
    };
    debug!(peer = %peer.name, access = %access, "A request came");
    shared.hub.metrics.request(kind(&request));
    if let (Request::Session, Spiffe::Host(host)) = (&request, &peer.subject) {
        return Ok(Served::Session(*host, channel));
    }
    if let (Request::Link(greeting), Spiffe::Manager(host)) = (&request, &peer.subject) {
        return Ok(Served::Link(*host, greeting.clone(), channel));
    }
    let caller = Caller { shared, registry: &registry, peer, from: connection.remote_addr(), access, place };
    caller.answer(request, &mut channel).await.map(|()| Served::Request)
}

/// What a request is called in metrics.
fn kind(request: &Request) -> &'static str {
    match request {
        Request::Session => "session",
        Request::Enrol(_) => "enrol",
        Request::Renew { .. } => "renew",
        Request::Edit { .. } => "edit",
        Request::Read => "read",
        Request::Query(_) => "query",
        Request::Announce(_) => "announce",
        Request::Link(_) => "link",
        Request::Copy => "copy",
        Request::Relayed(_) => "relayed",
        Request::Join(_) => "join",
        Request::Leave { .. } => "leave",
        Request::Promotion(_) => "promotion",
        Request::Backup { .. } => "backup",
        Request::PromotionFor { .. } => "promotion-for",
        Request::JoinFor { .. } => "join-for",
        Request::DismissLost { .. } => "dismiss-lost",
    }
}

/// The request, of a size that this peer may send.
async fn receive(
    shared: &Shared,
    peer: Option<&PeerIdentity>,
    channel: &mut Channel,
) -> Result<Bytes, RequestEnd> {
    let most = match peer.map(|p| access(&shared.hub.registry(), p)) {
        None => MAX_ANONYMOUS_FRAME,
        Some(Ok(access)) if access.allows(Access::Operator) => MAX_EDIT_FRAME,
        Some(Ok(Access::Manager)) => MAX_MEMBER_FRAME,
        Some(_) => MAX_AGENT_FRAME,
    };
    tokio::select! {
        received = timeout(REQUEST_DEADLINE, channel.recv(most)) => {
            received.map_err(|_| RequestEnd::NoRequest)??.ok_or(RequestEnd::NoRequest)
        }
        () = shared.stop.cancelled() => Err(RequestEnd::Stopping),
    }
}

/// Serves a session until it ends.
pub(crate) async fn session(
    shared: &Shared,
    peer: &PeerIdentity,
    host: HostId,
    channel: Channel,
) -> session::SessionEnd {
    let row = shared.hub.registry().host(host).map(|row| row.name.to_string());
    let span = info_span!("session", host = %row.unwrap_or_else(|| peer.name.to_string()));
    let name = shared.name();
    // In a box: a future that is moved into another takes its room there once more, and there are many sessions.
    let serve = Box::pin(session::serve(&shared.hub, &name, host, peer, channel));
    // A peer that takes nothing must not hold up the end.
    let serve = async {
        tokio::select! {
            end = serve => end,
            () = shared.stop.cancelled() => session::SessionEnd::Stopping,
        }
    };
    let end = serve.instrument(span.clone()).await;
    span.in_scope(|| info!("An agent's session ended: {end}"));
    end
}

/// A peer that proved who it is, and what it may do.
struct Caller<'a> {
    shared: &'a Shared,
    registry: &'a Registry,
    peer: &'a PeerIdentity,
    from: SocketAddr,
    access: Access,
    place: &'a Place,
}

impl Caller<'_> {
    async fn answer(&self, request: Request, channel: &mut Channel) -> Result<(), RequestEnd> {
        let reads = self.access.allows(Access::Viewer);
        match request {
            Request::Renew { csr } => renew(self.shared, self.registry, self.peer, &csr, channel).await,
            Request::Edit { set, dry_run } => {
                let answer = self.edit(set, dry_run).await;
                respond(channel, &answer.map_or_else(Response::Failed, Response::Edited)).await
            }
            Request::Announce(said) => {
                let answer = self.announce(said).await;
                respond(channel, &answer.map_or_else(Response::Failed, Response::Edited)).await
            }
            // These can be asked again, and take as long as the peer does.
            Request::Read if reads => self.unless_stopping(self.read(channel)).await,
            Request::Query(query) if reads => self.unless_stopping(self.unless_gone(channel, query)).await,
            Request::DismissLost { through } => {
                let answer = self.dismiss(through).await;
                respond(channel, &answer.map_or_else(Response::Failed, one_document)).await
            }
            Request::Backup { passphrase } if self.access.allows(Access::Admin) => {
                self.unless_stopping(backups::serve(self.shared, channel, passphrase)).await
            }
            Request::Backup { .. } => {
                fail(channel, failure::not_allowed("make a backup: it takes admin access")).await
            }
            Request::Read | Request::Query(_) => {
                fail(channel, failure::not_allowed("read the registry")).await
            }
            Request::Promotion(step) => {
                let answer = match &self.peer.subject {
                    Spiffe::Console(name) => promotion::carry_out(self.shared, name, step).await,
                    _ => Err(failure::not_allowed("change the primary")),
                };
                respond(channel, &answer.map_or_else(Response::Failed, Response::Promotion)).await
            }
            Request::PromotionFor { console, step } if self.access == Access::Manager => {
                let answer = promotion::carry_out_relayed(self.shared, &console, step).await;
                respond(channel, &answer.map_or_else(Response::Failed, Response::Promotion)).await
            }
            Request::Copy if self.access == Access::Manager => {
                let given = self.unless_stopping(async { Ok(copies::give(self.shared, channel).await) });
                match given.await? {
                    Ok(()) => Ok(()),
                    Err(failure) => fail(channel, failure).await,
                }
            }
            Request::Relayed(relayed) if self.access == Access::Manager => {
                let answer = relay::carry_out(self.shared, relayed).await;
                respond(channel, &answer.map_or_else(Response::Failed, Response::Edited)).await
            }
            Request::JoinFor { wish, from } if self.access == Access::Manager => {
                let answer = joining::join_relayed(self.shared, wish, &from).await;
                respond(channel, &answer.map_or_else(Response::Failed, Response::Joined)).await
            }
            Request::Link(_)
            | Request::Copy
            | Request::Relayed(_)
            | Request::PromotionFor { .. }
            | Request::JoinFor { .. } => {
                fail(channel, failure::not_allowed("do what registry managers do among themselves")).await
            }
            Request::Session => fail(channel, failure::not_allowed("hold an agent's session")).await,
            Request::Enrol(_) => fail(channel, failure::not_allowed("enrol: it is enrolled already")).await,
            Request::Join(_) => fail(channel, failure::not_allowed("join: it is enrolled already")).await,
            Request::Leave { request } => {
                let answer = self.leave(request).await;
                respond(channel, &answer.map_or_else(Response::Failed, Response::Edited)).await
            }
        }
    }

    async fn unless_stopping<T>(
        &self,
        answer: impl Future<Output = Result<T, RequestEnd>>,
    ) -> Result<T, RequestEnd> {
        tokio::select! {
            answered = answer => answered,
            () = self.shared.stop.cancelled() => Err(RequestEnd::Stopping),
        }
    }

    async fn edit(&self, set: ChangeSet, dry_run: bool) -> Result<EditAnswer, Failure> {
        let Spiffe::Console(name) = &self.peer.subject else {
            return Err(failure::not_allowed("edit the registry"));
        };
        for change in &set.changes {
            match change.needs() {
                Some(needed) if self.access.allows(needed) => {}
                Some(needed) => {
                    return Err(failure::not_allowed(&format!(
                        "make this edit: it takes {needed} access, this one has {}",
                        self.access
                    )));
                }
                None => return Err(failure::not_allowed("make a change that only managers make")),
            }
        }
        let content = content_hash(&set);
        let (actor, from) = (Actor::Console(name.clone()), Some(self.from.into()));
        let context = Context { now: unix_now(), actor, from, content };
        relay::edit(self.shared, set, context, dry_run).await
    }

    async fn dismiss(&self, through: u64) -> Result<DismissedReport, Failure> {
        match &self.peer.subject {
            Spiffe::Console(name) if self.access.allows(Access::Admin) => {
                lost::dismiss(self.shared, name, through).await
            }
            _ => Err(failure::not_allowed("dismiss edits that were given up: it takes admin access")),
        }
    }

    async fn leave(&self, request: RequestId) -> Result<EditAnswer, Failure> {
        match &self.peer.subject {
            Spiffe::Manager(host) => joining::leave(self.shared, *host, request, self.from).await,
            _ => Err(failure::not_allowed(
                "take a registry manager out: consoles do so by echelon manager remove",
            )),
        }
    }

    /// Takes in what a host's agent says of that host's packages. Of which host, its certificate tells.
    async fn announce(&self, said: Announcement) -> Result<EditAnswer, Failure> {
        let row = match &self.peer.subject {
            Spiffe::Host(id) => self.registry.host(*id),
            _ => None,
        };
        let Some(host) = row else { return Err(failure::not_allowed("announce packages: only agents do")) };
        let Announcement { number, ty, word } = said;
        let change = Change::Announce { host: host.id, ty, word };
        if !change.needs().is_some_and(|needed| self.access.allows(needed)) {
            return Err(failure::not_allowed("announce packages: only agents do"));
        }
        if !self.shared.announcements.admit(host.id) {
            return Err(failure::too_often());
        }
        let set =
            ChangeSet { request: number, if_revision: None, allow_shrink: false, changes: vec![change] };
        let (actor, content) = (Actor::Agent(host.name.clone()), content_hash(&set));
        let context = Context { now: unix_now(), actor, from: Some(self.from.into()), content };
        relay::edit(self.shared, set, context, false).await
    }

    async fn read(&self, channel: &mut Channel) -> Result<(), RequestEnd> {
        let position = self.registry.position();
        for rows in echelon_wire::parts(self.registry.public_rows(), MAX_PART) {
            let part = RowsPart { position, rows, liveness: Vec::new(), last: false };
            respond(channel, &Response::Rows(part)).await?;
        }
        let liveness: Vec<_> = self.shared.hub.board().entries().collect();
        for liveness in echelon_wire::parts(liveness, MAX_PART) {
            let part = RowsPart { position, rows: Vec::new(), liveness, last: false };
            respond(channel, &Response::Rows(part)).await?;
        }
        let part = RowsPart { position, rows: Vec::new(), liveness: Vec::new(), last: true };
        respond(channel, &Response::Rows(part)).await
    }

    /// The answer to a question, for as long as somebody wants to hear it: work for one who is gone would keep
    /// others waiting.
    async fn unless_gone(&self, channel: &mut Channel, query: Query) -> Result<(), RequestEnd> {
        let gone = channel.sender.gone();
        tokio::select! {
            answered = self.query(channel, query) => answered,
            gone = gone => Err(gone.into()),
        }
    }

    async fn query(&self, channel: &mut Channel, query: Query) -> Result<(), RequestEnd> {
        let turn = match query {
            Query::Watch => return ended(watchers::watch(self.shared, channel).await, channel).await,
            Query::History { since, limit, follow: true } => {
                return ended(watchers::history(self.shared, since, limit, channel).await, channel).await;
            }
            ref query => match scarce(query) {
                Some(Scarce::Previews) => Some(&self.shared.previews),
                Some(Scarce::Histories) => Some(&self.shared.histories),
                None => None,
            },
        };
        let turn = match turn {
            // Never closed.
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        // A preview of every host is work for a thread, not for the tasks that serve agents.
        let (hub, shared, place) = (self.shared.hub.clone(), self.shared.clone(), self.place.clone());
        let (send, mut documents) = tokio::sync::mpsc::channel(4);
        let work = tokio::task::spawn_blocking(move || {
            // Kept for as long as the work lasts, also where whoever asked is gone before.
            let _kept = (turn, place);
            reports::answer(&shared, &hub, query, &send)
        });
        while let Some(part) = documents.recv().await {
            respond(channel, &Response::Documents { documents: part, last: false }).await?;
        }
        match work.await {
            Ok(Ok(())) => respond(channel, &Response::Documents { documents: Vec::new(), last: true }).await,
            Ok(Err(failure)) => fail(channel, failure).await,
            Err(e) => fail(channel, failure::internal(&e)).await,
        }
    }
}

/// What only a few questions may take up at once.
#[derive(PartialEq, Debug)]
enum Scarce {
    Previews,
    Histories,
}

/// What working on this question takes up.
fn scarce(query: &Query) -> Option<Scarce> {
    match query {
        Query::Route { host: None, .. } => Some(Scarce::Previews),
        Query::History { .. } | Query::Lost => Some(Scarce::Histories),
        _ => None,
    }
}

/// An answer that is one document of a report.
fn one_document(document: impl serde::Serialize) -> Response {
    match serde_json::to_string(&document) {
        Ok(document) => Response::Documents { documents: vec![document], last: true },
        Err(e) => Response::Failed(failure::internal(&e)),
    }
}

async fn renew(
    shared: &Shared,
    registry: &Registry,
    peer: &PeerIdentity,
    csr: &[u8],
    channel: &mut Channel,
) -> Result<(), RequestEnd> {
    let answer = enrol::renew(shared, registry, peer, csr);
    shared.hub.metrics.renewal(answer.is_ok());
    respond(channel, &answer.map_or_else(Response::Failed, Response::Renewed)).await
}

/// How an answer without an end has ended.
async fn ended(end: Result<Infallible, WatchEnd>, channel: &mut Channel) -> Result<(), RequestEnd> {
    match end {
        Ok(never) => match never {},
        Err(WatchEnd::Gone(gone)) => Err(gone.into()),
        Err(WatchEnd::Failed(failure)) => fail(channel, failure).await,
    }
}

pub(crate) async fn fail(channel: &mut Channel, failure: Failure) -> Result<(), RequestEnd> {
    debug!(error = failure.error, "A request failed: {}", failure.message);
    respond(channel, &Response::Failed(failure)).await
}

pub(crate) async fn respond(channel: &mut Channel, response: &Response) -> Result<(), RequestEnd> {
    match timeout(SEND_DEADLINE, channel.send(&response.encode())).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(RequestEnd::Slow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: one viewer cannot have all edits that were given up read into memory hundreds of times at once.
    #[test]
    fn questions_that_read_the_journal_wait_for_their_turn() {
        let all = Query::History { since: None, limit: None, follow: false };
        assert_eq!([&all, &Query::Lost].map(scarce), [Some(Scarce::Histories), Some(Scarce::Histories)]);
        assert_eq!(scarce(&Query::Status), None);
    }
}
