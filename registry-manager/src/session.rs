//! One agent's session: what it holds comes in, what it lacks goes out.

use crate::fanout::Push;
use crate::hub::Hub;
use crate::limits::{PUSHES_AT_ONCE, REPAIR_INTERVAL, REQUEST_DEADLINE, SEND_DEADLINE};
use crate::metrics::{CaughtUp, Queue};
use crate::offered::{OfferError, examine};
use crate::requests;
use echelon_core::board::Report;
use echelon_core::digest::Digest;
use echelon_core::grant::{Chain, Incoming, Mark, Outgoing, Part, PartError};
use echelon_core::id::HostId;
use echelon_core::limits::HEARTBEAT;
use echelon_core::message::{
    AgentHeartbeat, Delta, FromAgent, Hello, Holding, Liveness, ManagerHeartbeat, PROTOCOL, PROTOCOL_LOWEST,
    SnapshotPart, ToAgent, ViewMark, Welcome,
};
use echelon_core::name::{HostName, Text};
use echelon_core::project::place;
use echelon_core::replication::CatchUp;
use echelon_core::signed_mark::SignedMark;
use echelon_core::view::{Place, View};
use echelon_core::witness::{Standing, standing};
use echelon_identity::PeerIdentity;
use echelon_transport::{Channel, FrameReceiver, FrameSender, RecvError, SendError};
use echelon_wire::{Bytes, DecodeError, MAX_AGENT_FRAME, MAX_PART, MAX_SESSION_FRAME, Wire, chain_parts};
use std::cmp::Ordering;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError as RingError, error::TryRecvError};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{debug, info};

/// Why a session ended. Whatever the reason, the agent comes back and is brought level.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error("the agent closed the session")]
    Closed,
    #[error("the agent could not be heard")]
    Receive(#[from] RecvError),
    #[error("the agent did not take what was sent")]
    Send(#[from] SendError),
    #[error("the agent did not take a frame within {SEND_DEADLINE:?}")]
    Slow,
    #[error("the agent said nothing within {REQUEST_DEADLINE:?}")]
    NoHello,
    #[error("the agent's message is none")]
    Message(#[from] DecodeError),
    #[error("the agent did not begin with a greeting, or greeted twice")]
    Greeting,
    #[error("the agent speaks protocols {0} to {1}, this manager {PROTOCOL_LOWEST} to {PROTOCOL}")]
    Protocol(u32, u32),
    #[error("the host is not in the registry, or its enrolment is denied")]
    Unknown,
    #[error("the host has a newer session")]
    Replaced,
    #[error("the agent refuses this manager because of its grants")]
    Refused,
    #[error("the agent's grants cannot be taken in")]
    Part(#[from] PartError),
    #[error("the agent's grants are not proved")]
    Grants(#[from] OfferError),
    #[error("the manager is stopping")]
    Stopping,
}

/// Serves a session until it ends.
pub(crate) async fn serve(
    hub: &Arc<Hub>,
    manager: &HostName,
    host: HostId,
    peer: &PeerIdentity,
    channel: Channel,
) -> SessionEnd {
    let (sender, mut receiver) = channel.split();
    let hello = match timeout(REQUEST_DEADLINE, receive(&mut receiver)).await {
        Err(_) => return SessionEnd::NoHello,
        Ok(Err(end)) => return end,
        Ok(Ok(FromAgent::Hello(hello))) => hello,
        Ok(Ok(_)) => return SessionEnd::Greeting,
    };
    let protocol = hello.protocol.1.min(PROTOCOL);
    if protocol < hello.protocol.0.max(PROTOCOL_LOWEST) {
        return SessionEnd::Protocol(hello.protocol.0, hello.protocol.1);
    }
    info!(build = %hello.build, incarnation = hello.incarnation, "An agent's session began");
    hub.metrics.sessions.inc();
    let seat = hub.sessions.take_seat(host);
    let session = Session {
        hub,
        manager,
        host,
        peer,
        incarnation: hello.incarnation,
        build: hello.build.clone(),
        level: hello.holds,
        place_held: hello.holds.map(|h| h.place),
        told: Outgoing::new(hello.grants.clone()),
        objection: None,
        grants: hub.witnesses.grants(),
        keeps_signed: hello.keeps_signed,
        signed_told: None,
        repaired: None,
        sender,
    };
    let end = tokio::select! {
        end = session.run(hello, protocol, &mut receiver, &seat.look_again) => end,
        () = seat.replaced.cancelled() => SessionEnd::Replaced,
    };
    if seat.is_newest() {
        hub.session_ended(host);
    }
    end
}

struct Session<'a> {
    hub: &'a Arc<Hub>,
    manager: &'a HostName,
    host: HostId,
    peer: &'a PeerIdentity,
    incarnation: u64,
    build: Text,
    /// What the agent holds once it has taken in all that was sent; none for nothing.
    level: Option<Holding>,
    /// The place it was sent, or said that it holds.
    place_held: Option<Digest>,
    /// What it was told of the grants.
    told: Outgoing,
    /// Why it refuses this manager, as far as that has come.
    objection: Option<Incoming>,
    /// The grants that this manager goes by.
    grants: watch::Receiver<Chain>,
    /// Whether the agent keeps signed marks.
    keeps_signed: bool,
    /// The signed mark that it was told last, and who signed that.
    signed_told: Option<(Mark, u32)>,
    /// When a repair was last asked for.
    repaired: Option<Instant>,
    sender: FrameSender,
}

impl Session<'_> {
    async fn run(
        mut self,
        hello: Hello,
        protocol: u32,
        receiver: &mut FrameReceiver,
        look_again: &Notify,
    ) -> SessionEnd {
        // What is done now and then is in boxes: a session waits nearly all of the time, and there are thousands.
        let mut pushes = match Box::pin(self.begin(hello, protocol)).await {
            Ok(pushes) => pushes,
            Err(end) => return end,
        };
        // Sessions begin at different times, so their heartbeats are spread by themselves.
        let mut beat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                message = receive(receiver) => match message {
                    Ok(message) => Box::pin(self.take(message)).await,
                    Err(end) => Err(end),
                },
                push = pushes.recv() => Box::pin(self.push(push, &mut pushes)).await,
                () = look_again.notified() => Box::pin(self.look_again()).await,
                // The hub, which tells, lives as long as this session.
                _ = self.grants.changed() => Box::pin(self.regrant()).await,
                _ = beat.tick() => Box::pin(self.heartbeat()).await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn begin(&mut self, hello: Hello, protocol: u32) -> Result<broadcast::Receiver<Push>, SessionEnd> {
        let welcome = Welcome {
            protocol,
            build: Text::lossy(env!("CARGO_PKG_VERSION")),
            manager: self.manager.clone(),
            heartbeat: HEARTBEAT,
        };
        self.send(&ToAgent::Welcome(welcome)).await?;
        self.send_grants().await?;
        if hello.holds.is_none() {
            self.hub.metrics.empty_replicas.inc();
        }
        self.hear_mark(hello.signed).await;
        // A thousand agents that come back at once are brought level one after the other.
        self.hub.pace.turn().await;
        // From here on; what comes before the agent is level is skipped.
        let pushes = self.hub.pushes();
        if let Some(signed) = self.signed() {
            self.send_all(&[signed]).await?;
        }
        self.send_place().await?;
        self.catch_up().await?;
        self.heartbeat().await?;
        self.send_liveness().await?;
        Ok(pushes)
    }

    /// Sends what the agent lacks of the grants.
    async fn send_grants(&mut self) -> Result<(), SessionEnd> {
        let grants = self.grants.borrow_and_update().clone();
        if self.told.has_told(&grants) {
            return Ok(());
        }
        for part in chain_parts(&mut self.told, &grants) {
            self.send(&ToAgent::Grants(part)).await?;
        }
        Ok(())
    }

    /// Other grants are in force: the agent is told, and brought level by what they make count.
    async fn regrant(&mut self) -> Result<(), SessionEnd> {
        self.hub.pace.turn().await;
        self.send_grants().await?;
        self.catch_up().await
    }

    /// Takes in the grants for which the agent refuses this manager: each part is proved before the next one is heard.
    async fn refused(&mut self, part: Part) -> Result<(), SessionEnd> {
        let own = self.grants.borrow().clone();
        let objection = self.objection.get_or_insert_with(|| Incoming::new(self.told.told().cloned()));
        let (known, complete) = (objection.heard().unwrap_or(&own).clone(), !part.more);
        let chain = objection.take(part)?;
        let (hub, host) = (Arc::clone(self.hub), self.host);
        let work = move || {
            if complete {
                hub.witnesses.hear_chain(&hub.registry(), host, chain);
                return Ok(());
            }
            examine(&hub.registry(), &known, &chain).map(drop)
        };
        // Signatures take their time. Where the runtime is going away, so is all else.
        let proved = tokio::task::spawn_blocking(work).await.map_err(|_| SessionEnd::Stopping)?;
        proved?;
        if complete { Err(SessionEnd::Refused) } else { Ok(()) }
    }

    /// Takes in the mark that the agent shows. What says nothing against this manager is not even checked.
    async fn hear_mark(&self, signed: Option<SignedMark>) {
        let (hub, host) = (Arc::clone(self.hub), self.host);
        let own = hub.mark().position;
        let Some((claim, signed)) =
            signed.and_then(|signed| Some((hub.witnesses.claim(&own, &signed.mark)?, signed)))
        else {
            return hub.witnesses.speaks_well(host);
        };
        let work = move || {
            let (registry, now) = (hub.registry(), hub.clock.now());
            hub.witnesses.hear_mark(&registry, now, host, claim, &signed);
        };
        // Signatures take their time. Where the runtime is going away, so is all else.
        let _ = tokio::task::spawn_blocking(work).await;
    }

    /// The newest signed mark, where the agent was not told it.
    fn signed(&mut self) -> Option<Bytes> {
        let signed = self.hub.witnesses.signed().filter(|_| self.keeps_signed)?;
        let [whole, short] = &signed.frames;
        match self.signed_told.replace((signed.mark, signed.signer)) {
            Some(told) if told == (signed.mark, signed.signer) => None,
            Some((_, signer)) if signer == signed.signer => Some(short.clone()),
            _ => Some(whole.clone()),
        }
    }

    async fn send_liveness(&mut self) -> Result<(), SessionEnd> {
        let mut complete = true;
        for entries in echelon_wire::parts(self.hub.liveness(), MAX_PART) {
            self.send(&ToAgent::Liveness(Liveness { complete, entries })).await?;
            complete = false;
        }
        if complete {
            self.send(&ToAgent::Liveness(Liveness { complete, entries: Vec::new() })).await?;
        }
        Ok(())
    }

    async fn take(&mut self, message: FromAgent) -> Result<(), SessionEnd> {
        match message {
            FromAgent::Hello(_) => Err(SessionEnd::Greeting),
            FromAgent::Heartbeat(AgentHeartbeat { holds, sequence, packages, using, alarms, isolated }) => {
                let (incarnation, build) = (self.incarnation, Some(self.build.clone()));
                let report =
                    Report { incarnation, sequence, packages, using, holds, alarms, build, isolated };
                self.hub.report(self.host, report);
                Ok(())
            }
            FromAgent::Grants(part) => self.refused(part).await,
            FromAgent::Repair if self.repaired.is_some_and(|at| at.elapsed() < REPAIR_INTERVAL) => {
                debug!("A repair was asked for again too soon");
                Ok(())
            }
            FromAgent::Repair => {
                self.hub.metrics.repairs.inc();
                self.repaired = Some(Instant::now());
                (self.level, self.place_held) = (None, None);
                self.send_place().await?;
                self.catch_up().await
            }
        }
    }

    /// Sends a push, and with it in one turn those that wait behind it, so that a burst of edits keeps no
    /// session behind.
    async fn push(
        &mut self,
        first: Result<Push, RingError>,
        pushes: &mut broadcast::Receiver<Push>,
    ) -> Result<(), SessionEnd> {
        self.hub.pace.turn().await;
        let (mut frames, mut size, mut next) = (Vec::new(), 0, Some(first));
        let mut moves_on = false;
        while let Some(push) = next {
            moves_on |= matches!(push, Ok(Push::Delta { .. }));
            match push {
                Ok(push) => match self.frame(push) {
                    Due::Frame(frame) => {
                        size += frame.len();
                        frames.push(frame);
                    }
                    Due::Nothing => {}
                    Due::CatchUp => {
                        self.send_all(&std::mem::take(&mut frames)).await?;
                        self.catch_up().await?;
                    }
                },
                Err(RingError::Lagged(missed)) => {
                    debug!(missed, "The session was too slow for the pushes and is brought level");
                    self.hub.metrics.dropped(Queue::Pushes);
                    self.send_all(&std::mem::take(&mut frames)).await?;
                    self.catch_up().await?;
                    // News of liveness are among what was missed.
                    self.send_liveness().await?;
                }
                Err(RingError::Closed) => return Err(SessionEnd::Stopping),
            }
            let full = frames.len() == PUSHES_AT_ONCE || size >= MAX_PART;
            next = if full { None } else { waiting(pushes) };
        }
        if moves_on {
            // First, so that the agent writes it down together with what changed.
            frames.splice(0..0, self.signed());
        }
        self.send_all(&frames).await
    }

    /// What is due to the agent because of a push.
    fn frame(&mut self, push: Push) -> Due {
        let level = self.level.map(|level| (level.position.epoch, level.view_revision));
        match push {
            Push::Frame(frame) => Due::Frame(frame),
            Push::Delta { from, mark, frame } if self.is_level_at(from, &mark) => {
                self.set_level(mark);
                self.hub.metrics.deltas.inc();
                Due::Frame(frame)
            }
            Push::Delta { mark, .. } | Push::Behind(mark) => match level {
                Some(level) if level >= number(&mark) => Due::Nothing,
                _ => Due::CatchUp,
            },
        }
    }

    /// Whether what the agent has is what a delta from this revision of the view applies to.
    fn is_level_at(&self, from: u64, mark: &ViewMark) -> bool {
        let before = |level: &Holding| (level.position.epoch, level.view_revision) < number(mark);
        self.level.is_some_and(|level| level.view_revision == from && before(&level))
    }

    /// Brings the agent level, from where it is.
    async fn catch_up(&mut self) -> Result<(), SessionEnd> {
        let (catch_up, view, mark) = self.hub.catch_up(self.level.as_ref());
        self.hub.metrics.caught_up(match &catch_up {
            CatchUp::Level => CaughtUp::Level,
            CatchUp::Ahead => CaughtUp::Ahead,
            CatchUp::Deltas(_) => CaughtUp::Deltas,
            CatchUp::Snapshot => CaughtUp::Snapshot,
        });
        match catch_up {
            CatchUp::Level => {}
            CatchUp::Ahead => return Ok(()),
            CatchUp::Deltas(deltas) => self.deltas(&deltas, &view, mark).await?,
            CatchUp::Snapshot => self.snapshot(&view, mark).await?,
        }
        self.set_level(mark);
        Ok(())
    }

    /// Sends deltas one by one; from one on that is too large for a frame, the view in its place.
    async fn deltas(&mut self, deltas: &[Arc<Delta>], view: &View, mark: ViewMark) -> Result<(), SessionEnd> {
        for delta in deltas {
            let frame = ToAgent::Delta(Delta::clone(delta)).encode();
            if frame.len() > MAX_SESSION_FRAME {
                return self.snapshot(view, mark).await;
            }
            self.hub.metrics.deltas.inc();
            self.send_all(&[frame]).await?;
        }
        Ok(())
    }

    async fn snapshot(&mut self, view: &View, mark: ViewMark) -> Result<(), SessionEnd> {
        self.hub.metrics.snapshots.inc();
        let mut first = true;
        for rows in echelon_wire::parts(view.rows(), MAX_PART) {
            self.send(&ToAgent::Snapshot(SnapshotPart { first, rows, last: None, emptied: None })).await?;
            first = false;
        }
        let emptied = self.hub.registry().meta().emptied;
        let last = SnapshotPart { first, rows: Vec::new(), last: Some(mark), emptied };
        self.send(&ToAgent::Snapshot(last)).await
    }

    fn set_level(&mut self, mark: ViewMark) {
        let ViewMark { position, view_revision, digest } = mark;
        let place = self.place_held.unwrap_or_default();
        self.level = Some(Holding { position, view_revision, digest, place });
    }

    /// The host's place, and whether it may still have a session at all.
    fn place(&self) -> Result<Place, SessionEnd> {
        let registry = self.hub.registry();
        if !requests::is_good(&registry, self.peer) {
            return Err(SessionEnd::Unknown);
        }
        place(&registry, self.host).ok_or(SessionEnd::Unknown)
    }

    /// Sends the place where it is not what the agent holds.
    async fn send_place(&mut self) -> Result<(), SessionEnd> {
        let place = self.place()?;
        let digest = place.digest();
        if self.place_held == Some(digest) || self.is_behind() {
            return Ok(());
        }
        self.place_held = Some(digest);
        self.send(&ToAgent::Place(place)).await
    }

    /// Whether the agent has come further than this manager: then neither its view nor its place is taken back.
    fn is_behind(&self) -> bool {
        let Some(level) = self.level else { return false };
        let (chain, own) = (&*self.grants.borrow(), self.hub.mark().position);
        matches!(
            standing(Some(chain), &level.position, &own),
            Standing::Outside | Standing::Compares(Ordering::Less)
        )
    }

    /// Ends at once where the host may be here no more. A changed place has time: a domain that is moved
    /// changes the places of all that are in it.
    async fn look_again(&mut self) -> Result<(), SessionEnd> {
        self.place()?;
        self.hub.pace.turn().await;
        self.send_place().await
    }

    async fn heartbeat(&mut self) -> Result<(), SessionEnd> {
        // In this order: the agent takes the place to be at least as new as the mark.
        let mark = self.hub.mark();
        let place = self.place()?.digest();
        let journal = self.hub.witnesses.mark_at(&mark.position).map(|mark| mark.hash);
        let frame = ToAgent::Heartbeat(ManagerHeartbeat { mark, place, journal }).encode();
        let frames: Vec<_> = self.signed().into_iter().chain([frame]).collect();
        self.hub.metrics.heartbeat_bytes.inc_by(frames.iter().map(|f| f.len() as u64).sum());
        self.send_all(&frames).await
    }

    async fn send(&mut self, message: &ToAgent) -> Result<(), SessionEnd> {
        self.send_all(&[message.encode()]).await
    }

    async fn send_all(&mut self, frames: &[Bytes]) -> Result<(), SessionEnd> {
        self.hub.metrics.bytes_pushed.inc_by(frames.iter().map(|f| f.len() as u64).sum());
        match timeout(SEND_DEADLINE, self.sender.send_all(frames)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(SessionEnd::Slow),
        }
    }
}

/// What orders the states of a view.
fn number(mark: &ViewMark) -> (u64, u64) {
    (mark.position.epoch, mark.view_revision)
}

/// What a push makes due.
enum Due {
    Frame(Bytes),
    Nothing,
    CatchUp,
}

/// The push that waits, or what became of it.
fn waiting(pushes: &mut broadcast::Receiver<Push>) -> Option<Result<Push, RingError>> {
    match pushes.try_recv() {
        Ok(push) => Some(Ok(push)),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Lagged(missed)) => Some(Err(RingError::Lagged(missed))),
        Err(TryRecvError::Closed) => Some(Err(RingError::Closed)),
    }
}

async fn receive(receiver: &mut FrameReceiver) -> Result<FromAgent, SessionEnd> {
    match receiver.recv(MAX_AGENT_FRAME).await? {
        Some(frame) => Ok(FromAgent::decode(&frame)?),
        None => Err(SessionEnd::Closed),
    }
}
