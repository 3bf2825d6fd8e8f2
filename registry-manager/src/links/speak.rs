//! What goes over a link.

use super::Links;
use crate::failure;
use crate::journal::Said;
use crate::limits::{BOARD_INTERVAL, LINK_DEADLINE, LINK_KEEPALIVE, LINK_LATE, LINK_SILENCE, SEND_DEADLINE};
use crate::offered::examine;
use crate::server::Shared;
use crate::versions::{check, greeting};
use echelon_core::digest::Digest;
use echelon_core::grant::{Chain, Incoming, PartError};
use echelon_core::id::HostId;
use echelon_core::member::{Input, MemberMessage};
use echelon_core::message::{BoardNews, Failure, Greeting, ManagerMessage, Request, Response};
use echelon_core::name::HostName;
use echelon_transport::{
    Channel, CloseReason, Connection, FrameReceiver, FrameSender, RecvError, SendError, Unheard,
};
use echelon_wire::{Bytes, DecodeError, MAX_AGENT_FRAME, MAX_MEMBER_FRAME, Wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

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
    #[error("the grants that it tells cannot be taken in")]
    Grants(#[from] PartError),
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

/// Opens a link over a connection that was made to another manager, and serves it until it ends.
pub(super) async fn open(shared: &Shared, peer: HostId, connection: &Connection) -> Unlinked {
    let chain = shared.edits.situation().chain.clone();
    match ask(&chain, connection).await {
        Ok((theirs, channel)) => run(shared, peer, connection, Grants::new(theirs, chain), channel).await,
        Err(why) => why,
    }
}

async fn ask(chain: &Chain, connection: &Connection) -> Result<(Greeting, Channel), Unlinked> {
    let mut channel = connection.open().await?;
    channel.send(&Request::Link(greeting(Some(chain))).encode()).await?;
    let answer =
        timeout(LINK_DEADLINE, channel.recv(MAX_AGENT_FRAME)).await.map_err(|_| Unlinked::Silent)??;
    match Response::decode(&answer.ok_or(Unlinked::Ended)?)? {
        Response::Linked(theirs) => check(&theirs).map_err(Unlinked::Apart).map(|()| (theirs, channel)),
        Response::Failed(failure) => Err(Unlinked::Refused(Box::new(failure))),
        _ => Err(Unlinked::Answer),
    }
}

/// Answers a wish for a link, and serves it until it ends.
pub(crate) async fn accept(
    shared: &Shared,
    peer: HostId,
    connection: &Connection,
    theirs: Greeting,
    mut channel: Channel,
) -> Unlinked {
    let (checked, chain) = (check(&theirs), shared.edits.situation().chain.clone());
    let answer = match &checked {
        Ok(()) => Response::Linked(greeting(Some(&chain))),
        Err(why) => Response::Failed(failure::versions_apart(why)),
    };
    let sent = timeout(SEND_DEADLINE, channel.send(&answer.encode())).await;
    match (checked, sent) {
        (Err(why), _) => Unlinked::Apart(why),
        (_, Err(_)) => Unlinked::Slow,
        (_, Ok(Err(e))) => e.into(),
        (Ok(()), Ok(Ok(()))) => run(shared, peer, connection, Grants::new(theirs, chain), channel).await,
    }
}

/// What both ends of a link know of each other's grants when it begins.
struct Grants {
    theirs: Vec<Digest>,
    incoming: Incoming,
}

impl Grants {
    fn new(theirs: Greeting, ours: Chain) -> Self {
        Self { theirs: theirs.grants, incoming: Incoming::new(Some(ours)) }
    }
}

/// Carries messages both ways until one side ends.
async fn run(
    shared: &Shared,
    peer: HostId,
    connection: &Connection,
    grants: Grants,
    channel: Channel,
) -> Unlinked {
    let links = &shared.links;
    let queue = links.add(peer, connection.clone(), grants.theirs);
    let noted = Noted { links, peer, connection };
    shared.edits.say(Said::Relinked(peer)).await;
    info!(peer = %shared.hub.name_of(peer), "Linked to a registry manager");
    let (sender, receiver) = channel.split();
    let end = tokio::select! {
        end = send_all(shared, peer, sender, queue) => end,
        end = receive_all(shared, peer, grants.incoming, receiver) => end,
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

async fn receive_all(
    shared: &Shared,
    peer: HostId,
    mut grants: Incoming,
    mut receiver: FrameReceiver,
) -> Unlinked {
    loop {
        let frame = match receiver.hear(MAX_MEMBER_FRAME, LINK_LATE, LINK_SILENCE).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Unlinked::Ended,
            Err(e) => return e.into(),
        };
        match ManagerMessage::decode(&frame) {
            Ok(ManagerMessage::Member(message)) => match message.try_map(|part| grants.take(part)) {
                Ok(message) => take(shared, peer, message).await,
                Err(e) => return e.into(),
            },
            Ok(ManagerMessage::Grants(part)) => match grants.take(part) {
                Ok(_) => {}
                Err(e) => return e.into(),
            },
            Ok(ManagerMessage::Board(news)) => shared.hub.learn(shared.host, peer, news),
            Err(e) => return e.into(),
        }
    }
}

/// Hands a message on to the journal, unless it speaks of grants that nobody has given, or somebody who does not count.
async fn take(shared: &Shared, peer: HostId, message: MemberMessage) {
    let offered = match &message {
        MemberMessage::Grants(chain) | MemberMessage::Seal { chain, .. } => chain.clone(),
        _ => return shared.edits.say(Said::Input(Input::Said(peer, message))).await,
    };
    let (registry, known) = (shared.hub.registry(), shared.edits.situation().chain.clone());
    let chain = offered.clone();
    // Signatures take their time, of which there may be thousands. Where the runtime is going away, so is all else.
    let examined = tokio::task::spawn_blocking(move || examine(&registry, &known, &offered)).await;
    let input = match examined {
        Err(_) => return,
        Ok(Ok(None)) => Input::Said(peer, message),
        Ok(Ok(Some(against))) => {
            warn!(peer = %shared.hub.name_of(peer), "A registry manager offers grants of somebody who does not count: {against}");
            Input::Contested(chain)
        }
        Ok(Err(why)) => {
            let (peer, why) = (shared.hub.name_of(peer), failure::in_full(&why));
            return warn!(peer = %peer, "A registry manager offers grants that are not proved: {why}");
        }
    };
    shared.edits.say(Said::Input(input)).await;
}
