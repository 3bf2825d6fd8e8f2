//! The links between registry managers: who is there, what is told to them, and what they say.
//!
//! Each manager dials every other one to which it has no link. A link is one long channel of messages; the
//! connection under it is used both ways, whoever made it, also for what is relayed.

mod ask;
mod dial;
mod speak;

pub(crate) use ask::{NoAnswer, ask};
pub(crate) use dial::{keep, others_of, reaches};
pub(crate) use speak::accept;

use crate::limits::LINK_QUEUE;
use arc_swap::ArcSwap;
use echelon_core::digest::Digest;
use echelon_core::grant::{Chain, Grant, Outgoing, PartError};
use echelon_core::id::HostId;
use echelon_core::member::MemberMessage;
use echelon_core::message::ManagerMessage;
use echelon_identity::Credentials;
use echelon_identity::proof::{ProveError, prove_grant};
use echelon_transport::Connection;
use echelon_wire::{Bytes, Wire, chain_parts};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// Close code of a connection whose manager is too slow for what it is told.
const TOO_SLOW: u32 = 10;

/// Close code of a connection to a process that has ended.
const ENDED: u32 = 11;

/// All links of one manager, by the host of the other.
pub(crate) struct Links {
    open: Mutex<BTreeMap<HostId, Vec<Link>>>,
    /// From whom a copy of the registry is wanted, and under which number.
    copies: mpsc::UnboundedSender<(HostId, u64)>,
    /// With which this manager proves that it hands over.
    credentials: ArcSwap<Credentials>,
    /// How often in a row the primary has refused this manager.
    refusals: watch::Sender<u32>,
}

/// The sending end of a link.
struct Link {
    connection: Connection,
    queue: mpsc::Sender<Bytes>,
    /// What was told of grants.
    told: Outgoing,
}

impl Links {
    /// None yet. Gives the end at which wishes for copies come out as well.
    pub(crate) fn new(credentials: Credentials) -> (Arc<Self>, mpsc::UnboundedReceiver<(HostId, u64)>) {
        let (copies, wanted) = mpsc::unbounded_channel();
        let links = Self {
            open: Mutex::default(),
            copies,
            credentials: ArcSwap::from_pointee(credentials),
            refusals: watch::Sender::new(0),
        };
        (Arc::new(links), wanted)
    }

    /// Queues a message, where there is a link. It may get lost.
    pub(crate) fn send(&self, to: HostId, message: MemberMessage) {
        let mut open = self.open();
        let Some(link) = open.get_mut(&to).and_then(|links| links.last_mut()) else { return };
        let queued = link.frames(message).into_iter().all(|frame| link.queue.try_send(frame).is_ok());
        if !queued && link.connection.close_reason().is_none() {
            warn!(peer = %to, "A link is closed: its manager does not take what it is told");
            link.connection.close(TOO_SLOW, "this link is too slow");
        }
    }

    /// Has a copy of a manager's registry fetched; the journal is told under this number when it has come.
    pub(crate) fn copy(&self, from: HostId, wish: u64) {
        // Fails only where the manager is stopping.
        let _ = self.copies.send((from, wish));
    }

    /// Signs a grant with this manager's key.
    pub(crate) fn prove(&self, grant: &Grant) -> Result<Grant, ProveError> {
        prove_grant(&self.credentials.load(), grant)
    }

    /// From now on grants are signed with these.
    pub(crate) fn set_credentials(&self, credentials: Credentials) {
        self.credentials.store(Arc::new(credentials));
    }

    /// How often in a row the primary has refused this manager.
    pub(crate) fn refusals(&self) -> watch::Receiver<u32> {
        self.refusals.subscribe()
    }

    /// Notes that the primary refuses this manager. Gives how often in a row.
    fn primary_refuses(&self) -> u32 {
        self.refusals.send_modify(|count| *count = count.saturating_add(1));
        *self.refusals.borrow()
    }

    /// Notes that the primary lets this manager in.
    fn primary_lets_in(&self) {
        self.refusals.send_replace(0);
    }

    /// The managers to which there is a link.
    pub(crate) fn connected(&self) -> Vec<HostId> {
        self.open().keys().copied().collect()
    }

    /// The connection of the newest link to a manager.
    pub(crate) fn connection(&self, to: HostId) -> Option<Connection> {
        newest(&self.open(), to).map(|link| link.connection.clone())
    }

    /// Notes a link to a manager that keeps these grants. Gives the end from which is taken what is to be sent.
    fn add(&self, peer: HostId, connection: Connection, grants: Vec<Digest>) -> mpsc::Receiver<Bytes> {
        let (queue, to_send) = mpsc::channel(LINK_QUEUE);
        let told = Outgoing::new(grants);
        self.open().entry(peer).or_default().push(Link { connection, queue, told });
        to_send
    }

    /// The process of a manager has ended: no link to it is of any use, whatever was heard over which.
    fn close_all(&self, peer: HostId) {
        let open = self.open();
        let links = open.get(&peer).into_iter().flatten();
        links.for_each(|link| link.connection.close(ENDED, "this manager's process has ended"));
    }

    /// Forgets a link.
    fn remove(&self, peer: HostId, connection: &Connection) {
        let mut open = self.open();
        let Some(links) = open.get_mut(&peer) else { return };
        links.retain(|link| link.connection.stable_id() != connection.stable_id());
        if links.is_empty() {
            open.remove(&peer);
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<HostId, Vec<Link>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// The frames of a message: before it, the parts of its chain that the other side lacks, but for the last one.
    fn frames(&mut self, message: MemberMessage) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let last = |chain: Chain| {
            parts = chain_parts(&mut self.told, &chain);
            parts.pop().ok_or(PartError::Gap)
        };
        let Ok(message) = message.try_map(last) else { return Vec::new() };
        let frames = parts.into_iter().map(ManagerMessage::Grants).chain([ManagerMessage::Member(message)]);
        frames.map(|frame| frame.encode()).collect()
    }
}

/// Of several links the newest one: the older ones may be to a process that was killed, of which only silence tells.
fn newest(open: &BTreeMap<HostId, Vec<Link>>, to: HostId) -> Option<&Link> {
    open.get(&to).and_then(|links| links.last())
}
