//! What goes over a link.

use super::Links;
use crate::failure;
use crate::journal::Said;
use crate::limits::{BOARD_INTERVAL, LINK_DEADLINE, LINK_KEEPALIVE, LINK_LATE, LINK_SILENCE, SEND_DEADLINE};
use crate::offered::examine;
use crate::server::Shared;
use echelon_core::id::HostId;
use echelon_core::member::{Input, MemberMessage};
use echelon_core::message::{
    BoardNews, Failure, Greeting, ManagerMessage, PROTOCOL, PROTOCOL_LOWEST, Request, Response,
};
use echelon_core::name::HostName;
use echelon_transport::{
    Channel, CloseReason, Connection, FrameReceiver, FrameSender, RecvError, SendError, Unheard,
};
use echelon_wire::{Bytes, DecodeError, MAX_AGENT_FRAME, MAX_MEMBER_FRAME, Wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

/// How many minor versions managers may be apart; availability.md.
const MOST_APART: u64 = 1;

/// Why there is no link, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unlinked {
    #[error("the connection is gone")]
    Closed(#[from] CloseReason),
    #[error("nothing could be sent")]
    Send(#[from] SendError),
    #[error("nothing could be received")]
    Receive(#[from] RecvError),
    #[error("it did not take a message within {SEND_DEADLINE:?}")]
    Slow,
    #[error("it said nothing within {LINK_DEADLINE:?}")]
    Silent,
    #[error("it was not heard")]
    Unheard(#[from] Unheard),
    #[error("it ended the link")]
    Ended,
    #[error("what it says cannot be read")]
    Message(#[from] DecodeError),
    #[error("it refused: {}", .0.message)]
    Refused(Box<Failure>),
    #[error("it answered something else")]
    Answer,
    #[error("{0}")]
    Apart(String),
    #[error("this manager is stopping")]
    Stopping,
}

impl Unlinked {
    /// Tells it to the log: of builds that do not work together somebody has to know.
    pub(crate) fn tell(&self, peer: &HostName) {
        let why = failure::in_full(self);
        match self {
            Self::Apart(_) | Self::Refused(_) => {
                warn!(%peer, "There is no link to a registry manager: {why}")
            }
            _ => info!(%peer, "A link to a registry manager ended: {why}"),
        }
    }
}

/// What this build says of itself.
fn greeting() -> Greeting {
    let build = env!("CARGO_PKG_VERSION").parse().expect("a version is a valid text");
    Greeting { protocol: (PROTOCOL_LOWEST, PROTOCOL), build }
}

/// Whether this build and another's can work together.
fn check(theirs: &Greeting) -> Result<(), String> {
    let common = theirs.protocol.1.min(PROTOCOL) >= theirs.protocol.0.max(PROTOCOL_LOWEST);
    let minor = |build: &str| -> Option<(u64, u64)> {
        let mut parts = build.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let near = match (minor(env!("CARGO_PKG_VERSION")), minor(theirs.build.as_str())) {
        (Some(ours), Some(theirs)) => ours.0 == theirs.0 && ours.1.abs_diff(theirs.1) <= MOST_APART,
        _ => false,
    };
    match common && near {
        true => Ok(()),
        false => Err(format!(
            "registry managers of {} and {} do not work together: upgrade by one minor version at a time, standbys \
             first",
            env!("CARGO_PKG_VERSION"),
            theirs.build
        )),
    }
}

/// Opens a link over a connection that was made to another manager, and serves it until it ends.
pub(super) async fn open(shared: &Shared, peer: HostId, connection: &Connection) -> Unlinked {
    match ask(connection).await {
        Ok(channel) => run(shared, peer, connection, channel).await,
        Err(why) => why,
    }
}

async fn ask(connection: &Connection) -> Result<Channel, Unlinked> {
    let mut channel = connection.open().await?;
    channel.send(&Request::Link(greeting()).encode()).await?;
    let answer =
        timeout(LINK_DEADLINE, channel.recv(MAX_AGENT_FRAME)).await.map_err(|_| Unlinked::Silent)??;
    match Response::decode(&answer.ok_or(Unlinked::Ended)?)? {
        Response::Linked(theirs) => check(&theirs).map_err(Unlinked::Apart).map(|()| channel),
        Response::Failed(failure) => Err(Unlinked::Refused(Box::new(failure))),
        _ => Err(Unlinked::Answer),
    }
}

/// Answers a wish for a link, and serves it until it ends.
pub(crate) async fn accept(
    shared: &Shared,
    peer: HostId,
    connection: &Connection,
    theirs: &Greeting,
    mut channel: Channel,
) -> Unlinked {
    let checked = check(theirs);
    let answer = match &checked {
        Ok(()) => Response::Linked(greeting()),
        Err(why) => Response::Failed(failure::versions_apart(why)),
    };
    let sent = timeout(SEND_DEADLINE, channel.send(&answer.encode())).await;
    match (checked, sent) {
        (Err(why), _) => Unlinked::Apart(why),
        (_, Err(_)) => Unlinked::Slow,
        (_, Ok(Err(e))) => e.into(),
        (Ok(()), Ok(Ok(()))) => run(shared, peer, connection, channel).await,
    }
}

/// Carries messages both ways until one side ends.
async fn run(shared: &Shared, peer: HostId, connection: &Connection, channel: Channel) -> Unlinked {
    let links = &shared.links;
    let queue = links.add(peer, connection.clone());
    let noted = Noted { links, peer, connection };
    shared.edits.say(Said::Relinked(peer)).await;
    info!(peer = %shared.hub.name_of(peer), "Linked to a registry manager");
    let (sender, receiver) = channel.split();
    let end = tokio::select! {
        end = send_all(shared, peer, sender, queue) => end,
        end = receive_all(shared, peer, receiver) => end,
        reason = connection.closed() => reason.into(),
        () = shared.settled.cancelled() => Unlinked::Stopping,
    };
    if matches!(end, Unlinked::Unheard(Unheard::Gone)) {
        links.close_all(peer);
    }
    drop(noted);
    shared.edits.say(Said::Relinked(peer)).await;
    end
}

/// A link among the others; also a task that is cut off leaves none behind.
struct Noted<'a> {
    links: &'a Links,
    peer: HostId,
    connection: &'a Connection,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.links.remove(self.peer, self.connection);
    }
}

async fn send_all(
    shared: &Shared,
    peer: HostId,
    mut sender: FrameSender,
    mut queue: mpsc::Receiver<Bytes>,
) -> Unlinked {
    let mut tick = interval(BOARD_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Instant::now();
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => frame,
            _ = tick.tick() => match shared.hub.board_news(shared.host, peer) {
                Some(news) => Some(ManagerMessage::Board(news).encode()),
                // Where both have dialled there are two links, and one of them carries nothing: it is alive all the same.
                None if said.elapsed() >= LINK_KEEPALIVE => Some(ManagerMessage::Board(BoardNews::default()).encode()),
                None => continue,
            },
        };
        said = Instant::now();
        let Some(frame) = frame else { return Unlinked::Ended };
        match timeout(SEND_DEADLINE, sender.send(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return e.into(),
            Err(_) => return Unlinked::Slow,
        }
    }
}

async fn receive_all(shared: &Shared, peer: HostId, mut receiver: FrameReceiver) -> Unlinked {
    loop {
        let frame = match receiver.hear(MAX_MEMBER_FRAME, LINK_LATE, LINK_SILENCE).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Unlinked::Ended,
            Err(e) => return e.into(),
        };
        match ManagerMessage::decode(&frame) {
            Ok(ManagerMessage::Member(message)) => take(shared, peer, message).await,
            Ok(ManagerMessage::Board(news)) => shared.hub.learn(shared.host, peer, news),
            Err(e) => return e.into(),
        }
    }
}

/// Hands a message on to the journal, unless it speaks of grants that nobody has given, or somebody who does not count.
async fn take(shared: &Shared, peer: HostId, message: MemberMessage) {
    let offered = match &message {
        MemberMessage::Grants(chain) | MemberMessage::Seal { chain, .. } => Some(chain),
        _ => None,
    };
    let known = &shared.edits.situation().chain;
    let input = match offered.map(|chain| (chain, examine(&shared.hub.registry(), known, chain))) {
        None | Some((_, Ok(None))) => Input::Said(peer, message),
        Some((chain, Ok(Some(against)))) => {
            warn!(peer = %shared.hub.name_of(peer), "A registry manager offers grants of somebody who does not count: {against}");
            Input::Contested(chain.clone())
        }
        Some((_, Err(why))) => {
            let (peer, why) = (shared.hub.name_of(peer), failure::in_full(&why));
            return warn!(peer = %peer, "A registry manager offers grants that are not proved: {why}");
        }
    };
    shared.edits.say(Said::Input(input)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_work_with_their_neighbours_and_no_others() {
        let of = |protocol, build: &str| Greeting { protocol, build: build.parse().unwrap() };
        check(&greeting()).unwrap();
        let (major, minor) = env!("CARGO_PKG_VERSION").split_once('.').unwrap();
        let minor: u64 = minor.split('.').next().unwrap().parse().unwrap();
        let ours = greeting().protocol;
        check(&of(ours, &format!("{major}.{}.7", minor + 1))).unwrap();
        let refused = check(&of(ours, &format!("{major}.{}.0", minor + 2))).unwrap_err();
        assert!(refused.contains("one minor version at a time"), "{refused}");
        check(&of(ours, "9.9.9")).unwrap_err();
        check(&of(ours, "x")).unwrap_err();
        check(&of((PROTOCOL + 1, PROTOCOL + 2), env!("CARGO_PKG_VERSION"))).unwrap_err();
    }
}
