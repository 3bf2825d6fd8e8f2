//! The connections of peers: who is let in, what is served over them, and how they end.

use super::Shared;
use crate::hub::Hub;
use crate::limits::{LAST_ANSWER, PARTING, REQUESTS_PER_CONNECTION, STRANGERS_LOG};
use crate::links;
use crate::occasion::Occasion;
use crate::places::Places;
use crate::{failure, metrics, requests};
use echelon_core::issuer::{RenewReason, Standing};
use echelon_daemon::Tasks;
use echelon_identity::{PeerIdentity, Spiffe};
use echelon_transport::limits::ANONYMOUS_LIFE;
use echelon_transport::{Connection, Rejection};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, debug, info_span, warn};

/// Close code of a connection of a peer whose identity does not count.
pub(crate) const DENIED: u32 = 1;

/// Close code of a connection whose session ended.
const SESSION_ENDED: u32 = 2;

/// Close code of a connection for which there is no place.
const FULL: u32 = 3;

/// Close code of all connections of a manager that is stopping.
pub(super) const STOPPING: u32 = 4;

/// Close code of a connection of a peer whose certificate is to be renewed before anything else.
const RENEW: u32 = 5;

/// Close code of a connection whose link ended.
pub(crate) const LINK_ENDED: u32 = 6;

/// Lets in whoever has no certificate (to enrol or join), and those whose certificate is worth something.
pub(super) fn admission(
    hub: Arc<Hub>,
) -> impl Fn(Option<&PeerIdentity>, SocketAddr) -> Result<(), Rejection> + Send + Sync {
    move |peer, _| {
        let Some(peer) = peer else { return Ok(()) };
        match requests::standing(&hub.registry(), peer) {
            Standing::Good(_) | Standing::RenewOnly(_) => Ok(()),
            Standing::Refused(why) => {
                debug!(peer = %peer.name, "A peer is not let in: {why}");
                Err(Rejection { code: DENIED, reason: failure::unknown_identity().message })
            }
        }
    }
}

pub(super) async fn accept(shared: Shared, tasks: Tasks) {
    let (places, full) = (Places::default(), Occasion::every(STRANGERS_LOG));
    // One span for all tasks of a kind: what tells connections apart is in spans of their own.
    let (connections, requests) = (tasks.span("connection"), tasks.span("request"));
    loop {
        let connection = tokio::select! {
            connection = shared.endpoint.accept() => connection,
            () = shared.stop.cancelled() => None,
        };
        let Some(connection) = connection else { return };
        let Some(place) = places.take(connection.peer().map(requests::subject)) else {
            shared.hub.metrics.dropped(metrics::Queue::Connections);
            if let Some(others) = full.now() {
                let peer = connection.peer().map(|p| tracing::field::display(&p.name));
                warn!(from = %connection.remote_addr(), peer, others, "Too many connections: one was closed");
            }
            connection.close(FULL, "this manager has too many connections; try another, or later");
            continue;
        };
        let span = info_span!("connection", from = %connection.remote_addr());
        let (shared, requests) = (Arc::clone(&shared), (tasks.clone(), requests.clone()));
        let serve = async move {
            serve(&shared, &connection, &requests).await;
            drop(place);
        };
        tasks.spawn_in(&connections, "connection", serve.instrument(span));
    }
}

/// Takes the channels that another manager opens over a connection that was made to it.
pub(crate) async fn serve_manager(shared: &Shared, connection: &Connection, tasks: &Tasks) {
    serve(shared, connection, &(tasks.clone(), tasks.span("request"))).await;
}

/// Takes the channels that a peer opens, each with one request, which is served in a task of its own.
async fn serve(shared: &Shared, connection: &Connection, (tasks, span): &(Tasks, Span)) {
    let room = Arc::new(Semaphore::new(REQUESTS_PER_CONNECTION));
    let mut denials = shared.hub.denials();
    let mut worth = connection.peer().map(|p| requests::standing(&shared.hub.registry(), p));
    if let Some(Standing::RenewOnly(why)) = worth {
        return serve_renewal(shared, connection, &room, why).await;
    }
    loop {
        let end = match worth {
            None | Some(Standing::Good(_)) => None,
            Some(Standing::RenewOnly(why)) => Some((RENEW, failure::renew_first(why))),
            Some(Standing::Refused(_)) => Some((DENIED, failure::unknown_identity())),
        };
        if let Some((code, why)) = end {
            part(connection, &room).await;
            return connection.close(code, &why.message);
        }
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
            (Arc::new(place), connection.accept().await)
        };
        let (place, channel) = tokio::select! {
            accepted = accept => accepted,
            // The hub, which tells, lives as long as this connection.
            _ = denials.changed() => {
                worth = connection.peer().map(|p| requests::standing(&shared.hub.registry(), p));
                continue;
            }
            () = shared.stop.cancelled() => return last_answers(connection, &room).await,
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(reason) => return debug!("A connection ended: {reason}"),
        };
        let (shared, connection) = (Arc::clone(shared), connection.clone());
        let request = async move {
            // Each in a box, which is gone once it is done: thousands of sessions last, and none is to keep the room
            // that the largest of requests takes.
            let served = Box::pin(requests::serve(&shared, &connection, channel, &place)).await;
            match (served, connection.peer()) {
                (Ok(requests::Served::Session(host, channel)), Some(peer)) => {
                    let end = Box::pin(requests::session(&shared, peer, host, channel)).await;
                    connection.close(SESSION_ENDED, &end.to_string());
                }
                (Ok(requests::Served::Link(host, greeting, channel)), _) => {
                    let end = Box::pin(links::accept(&shared, host, &connection, greeting, channel)).await;
                    end.tell(&shared.hub.name_of(host));
                    connection.close(LINK_ENDED, &end.to_string());
                }
                (Ok(_), _) => {}
                (Err(end), _) => debug!("A request got no answer: {end}"),
            }
            drop(place);
        };
        tasks.spawn_in(span, "request", request.in_current_span());
    }
}

/// Waits until the requests of a connection are answered, and the peer has the answers: with the last who holds it, a
/// connection ends at once, and what is on its way is lost.
async fn last_answers(connection: &Connection, room: &Semaphore) {
    if room.available_permits() < REQUESTS_PER_CONNECTION {
        all_answers(connection, room).await;
    }
}

/// Waits a moment for what was begun over a connection: it may be the very edit that ends it, whose answer is due.
async fn part(connection: &Connection, room: &Semaphore) {
    let done = async {
        match connection.peer().map(|peer| &peer.subject) {
            // One that is taken out is told so over its link, and ends by itself.
            Some(Spiffe::Manager(_)) => drop(connection.closed().await),
            // What has no end, as watching has, is cut off; what was answered last may be on its way still.
            _ => all_answers(connection, room).await,
        }
    };
    let _ = tokio::time::timeout(PARTING, done).await;
}

/// Waits until nothing is worked on any more, and then a moment until the peer has the last answer.
async fn all_answers(connection: &Connection, room: &Semaphore) {
    let all = u32::try_from(REQUESTS_PER_CONNECTION).unwrap_or(u32::MAX);
    // Never closed.
    let _all = room.acquire_many(all).await;
    // A peer that has its answer lets go, or does not wait for anything else.
    let _ = tokio::time::timeout(LAST_ANSWER, connection.closed()).await;
}

/// Takes one request of a peer whose certificate serves for its renewal only, and lets it go.
async fn serve_renewal(shared: &Shared, connection: &Connection, room: &Arc<Semaphore>, why: RenewReason) {
    let one = async {
        let place = Arc::new(Arc::clone(room).acquire_owned().await.expect("it is never closed"));
        let Ok(channel) = connection.accept().await else { return };
        if let Err(end) = Box::pin(requests::serve(shared, connection, channel, &place)).await {
            debug!("A request got no answer: {end}");
        }
        // The peer closes once it has the answer.
        connection.closed().await;
    };
    tokio::select! {
        _ = tokio::time::timeout(ANONYMOUS_LIFE, one) => {}
        () = shared.stop.cancelled() => return,
    }
    connection.close(RENEW, &failure::renew_first(why).message);
}
