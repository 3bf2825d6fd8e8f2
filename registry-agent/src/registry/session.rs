//! One session with a registry manager.

use crate::registry::renewal::keep_renewed;
use crate::registry::uplink::UplinkParts;
use crate::registry::{GrantsError, Keeper, SessionInfo};
use echelon_core::alarm::Notice;
use echelon_core::limits::SILENT_AFTER;
use echelon_core::message::{
    AgentHeartbeat, FromAgent, Hello, Holding, PROTOCOL, PROTOCOL_LOWEST, RENEW_FIRST, Request, Response,
    ToAgent, Welcome,
};
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::promotion::HOW_TO_CHOOSE;
use echelon_core::replication::ReplicaError;
use echelon_core::router::Input;
use echelon_core::witness::{Objection, Shunned};
use echelon_identity::Spiffe;
use echelon_transport::{CloseReason, Connection, FrameReceiver, FrameSender, RecvError, SendError, Unheard};
use echelon_wire::{DecodeError, MAX_SESSION_FRAME, Wire};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long a manager may take to welcome an agent: it may be loading, or serving a thousand others.
const WELCOME: Duration = Duration::from_secs(10);

/// How long one frame may wait to be sent. A manager that takes nothing for so long is as good as dead.
const SEND: Duration = Duration::from_secs(10);

/// How long a refused manager has to hear why, for each part of it. It ends the session once it has; one that does not
/// is of no interest.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The alarm of two lineages.
const CONFLICT: &str = "conflict";

/// How often it is looked whether a nearer manager is to be used, beside every change of the route: one that was
/// refused may have its time again.
const NEARER: Duration = Duration::from_secs(5);

/// Range within which a manager may ask for heartbeats.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// By which part of the interval between two of its heartbeats a manager may be late before its host is asked whether
/// its process is there at all: pacing and the network take less, so that of a fleet hardly anybody ever asks.
const LATE_SHARE: u32 = 8;

/// Shortest time between two heartbeats that report a change, so that a package that flaps does not
/// become a stream of them.
const BETWEEN_CHANGES: Duration = Duration::from_millis(50);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error("the agent is stopping")]
    Stopping,
    #[error("a certificate is about to expire; the next session uses a newer one")]
    Planned,
    #[error("the connection is gone")]
    Closed(#[from] CloseReason),
    #[error("the manager could not be told")]
    Send(#[from] SendError),
    #[error("the manager took nothing for {SEND:?}")]
    Slow,
    #[error("the manager could not be heard")]
    Receive(#[from] RecvError),
    #[error("the manager ended the session")]
    Finished,
    #[error("the manager was not heard")]
    Unheard(#[from] Unheard),
    #[error("the manager did not welcome this agent within {WELCOME:?}")]
    NoWelcome,
    #[error("the manager refused the session: {0}")]
    Refused(String),
    #[error("the certificate is to be renewed before anything else")]
    RenewFirst,
    #[error("the manager has left the registry")]
    Left,
    #[error("the manager speaks protocol {0}, this agent {PROTOCOL_LOWEST} to {PROTOCOL}")]
    Protocol(u32),
    #[error("the manager's message cannot be read")]
    Message(#[from] DecodeError),
    #[error("the manager welcomed this agent twice, or not at all")]
    Greeting,
    #[error("the manager's message does not fit the replica")]
    Replica(#[from] ReplicaError),
    #[error("this agent refuses the manager")]
    Grants(#[from] GrantsError),
    #[error("the manager on {0} is to be used instead")]
    Nearer(HostName),
}

/// A session under way.
pub(crate) struct Session<'a> {
    pub(crate) parts: &'a UplinkParts,
    pub(crate) connection: &'a Connection,
    /// Counts this start's heartbeats over all sessions.
    pub(crate) sequence: &'a AtomicU64,
    /// From 0 to 1, different for each host.
    pub(crate) share: f64,
    /// Managers that are passed over.
    pub(crate) shunned: &'a Shunned,
}

/// How the parts of a session end together: the first to end says why, the others notice.
#[derive(Default)]
struct End {
    why: OnceLock<SessionEnd>,
    noticed: CancellationToken,
}

impl End {
    fn because(&self, why: SessionEnd) {
        // The first reason stays.
        let _ = self.why.set(why);
        self.noticed.cancel();
    }
}

impl Session<'_> {
    /// Runs until the session ends, and says why. `welcomed` is called once the manager has taken it up.
    pub(crate) async fn run(
        &self,
        keeper: &mut Keeper,
        stop: &CancellationToken,
        welcomed: impl FnOnce(),
    ) -> SessionEnd {
        let begun = tokio::select! {
            begun = self.begin(keeper) => begun,
            () = stop.cancelled() => return SessionEnd::Stopping,
        };
        let (welcome, sender, receiver) = match begun {
            Ok(begun) => begun,
            Err(end) => return end,
        };
        welcomed();
        self.announce(&welcome).await;
        self.keep_up(keeper, &welcome, sender, receiver, stop).await
    }

    async fn begin(&self, keeper: &mut Keeper) -> Result<(Welcome, FrameSender, FrameReceiver), SessionEnd> {
        keeper.begin_session();
        let hello = FromAgent::Hello(Hello {
            protocol: (PROTOCOL_LOWEST, PROTOCOL),
            build: Text::lossy(env!("CARGO_PKG_VERSION")),
            incarnation: self.parts.incarnation,
            holds: keeper.held(),
            grants: keeper.grants_trail(),
            signed: keeper.signed().cloned(),
            keeps_signed: true,
        });
        let begin = async {
            let (mut sender, mut receiver) = self.connection.open().await?.split();
            sender.send_all(&[Request::Session.encode(), hello.encode()]).await?;
            let frame = receiver.recv(MAX_SESSION_FRAME).await?.ok_or(SessionEnd::Finished)?;
            Ok((welcome(&frame)?, sender, receiver))
        };
        timeout(WELCOME, begin).await.map_err(|_| SessionEnd::NoWelcome)?
    }

    async fn announce(&self, welcome: &Welcome) {
        let parts = self.parts;
        parts.link.heard();
        let addr = self.connection.remote_addr();
        info!(manager.host = %welcome.manager, manager.addr = %addr, "A session began");
        let (manager, build) = (welcome.manager.clone(), welcome.build.to_string());
        parts.link.set_session(Some(SessionInfo { manager, addr, build, since: parts.clock.now() }));
        parts.metrics.sessions.inc();
        parts.routes.tell(Input::Session(true)).await;
    }

    /// Listens, reports and renews until one of them ends. Listening is never cut off in the middle of a
    /// message, so that what is in memory, on disk and shown stays the same.
    async fn keep_up(
        &self,
        keeper: &mut Keeper,
        welcome: &Welcome,
        mut sender: FrameSender,
        mut receiver: FrameReceiver,
        stop: &CancellationToken,
    ) -> SessionEnd {
        let every = welcome.heartbeat.clamp(HEARTBEATS.0, HEARTBEATS.1);
        let (held, holds) = watch::channel(keeper.held());
        let (end, repair) = (End::default(), Notify::new());
        let listen = async {
            let why = self.listen(keeper, &mut receiver, &held, &repair, every, &end).await;
            end.because(why);
        };
        let beside = async {
            let why = tokio::select! {
                why = self.report(&mut sender, holds, &repair, every) => why,
                why = self.connection.closed() => SessionEnd::Closed(why),
                () = self.outlive_no_certificate() => SessionEnd::Planned,
                nearer = self.nearer() => nearer,
                never = self.keep_renewed() => match never {},
                never = self.parts.announcer.offer(self.connection, self.share) => match never {},
                () = stop.cancelled() => SessionEnd::Stopping,
                () = end.noticed.cancelled() => return,
            };
            end.because(why);
        };
        tokio::join!(listen, beside);
        let why = end.why.into_inner().unwrap_or(SessionEnd::Finished);
        if let SessionEnd::Grants(refused) = &why {
            self.object(refused, keeper, welcome, &mut sender, &mut receiver).await;
        }
        why
    }

    /// Tells a refused manager why, and everybody else where somebody has to choose.
    async fn object(
        &self,
        refused: &GrantsError,
        keeper: &Keeper,
        welcome: &Welcome,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
    ) {
        self.parts.link.count_refused();
        if let GrantsError::Objection(Objection::Conflict { ours, theirs }) = refused {
            let message = format!(
                "two registry managers were made primary of one state: this agent keeps to {ours}, the manager on \
                 {} goes by {theirs}",
                welcome.manager
            );
            self.parts.alarms.raise(Notice::critical(CONFLICT, &message, HOW_TO_CHOOSE));
        }
        let GrantsError::Objection(_) = refused else { return };
        let parts = keeper.objection();
        let time = LAST_WORD.saturating_mul(u32::try_from(parts.len()).unwrap_or(u32::MAX));
        let tell = async {
            for part in parts {
                sender.send(&FromAgent::Grants(part).encode()).await?;
            }
            // What else the manager has to say is of no interest; its end of the session shows that it has heard.
            while let Ok(Some(_)) = receiver.recv(MAX_SESSION_FRAME).await {}
            Ok::<_, SendError>(())
        };
        if !matches!(timeout(time, tell).await, Ok(Ok(()))) {
            debug!("The refused manager was not told why");
        }
    }

    /// Comes once another manager is to be used: nearer than this session's and live again for long enough, or in the
    /// place of one that is to serve nobody.
    async fn nearer(&self) -> SessionEnd {
        let Some(Spiffe::Manager(here)) = self.connection.peer().map(|peer| &peer.subject) else {
            return std::future::pending().await;
        };
        let mut route = self.parts.routes.watch(ManagerType::registry());
        let mut latest = None;
        loop {
            tokio::select! {
                next = route.next() => latest = Some(next),
                () = sleep(NEARER) => {}
            }
            let chosen =
                latest.as_ref().and_then(|route| route.chosen()).filter(|entry| entry.state.is_usable());
            let Some(chosen) = chosen.map(|entry| &entry.candidate.manager) else { continue };
            if chosen.host != *here && !self.shunned.has(self.parts.clock.now(), chosen.host) {
                return SessionEnd::Nearer(chosen.name.clone());
            }
        }
    }

    async fn keep_renewed(&self) -> std::convert::Infallible {
        let UplinkParts { identity, metrics, alarms, .. } = self.parts;
        keep_renewed(identity, self.connection, metrics, alarms, self.share).await
    }

    async fn listen(
        &self,
        keeper: &mut Keeper,
        receiver: &mut FrameReceiver,
        held: &watch::Sender<Option<Holding>>,
        repair: &Notify,
        every: Duration,
        end: &End,
    ) -> SessionEnd {
        let (late, silent) = (every + every / LATE_SHARE, every * SILENT_AFTER);
        loop {
            let heard = tokio::select! {
                heard = receiver.hear(MAX_SESSION_FRAME, late, silent) => heard,
                () = end.noticed.cancelled() => return SessionEnd::Finished,
            };
            let frame = match heard {
                Err(unheard) => return unheard.into(),
                Ok(None) => return SessionEnd::Finished,
                Ok(Some(frame)) => frame,
            };
            self.parts.link.heard();
            match self.take(&frame, keeper).await {
                Ok(true) => repair.notify_one(),
                Ok(false) => {}
                Err(why) => return why,
            }
            held.send_replace(keeper.held());
        }
    }

    /// Takes in one message. Says whether to ask for a repair.
    async fn take(&self, frame: &[u8], keeper: &mut Keeper) -> Result<bool, SessionEnd> {
        let message = ToAgent::decode(frame)?;
        let view = matches!(message, ToAgent::Snapshot(_) | ToAgent::Delta(_));
        let place = matches!(message, ToAgent::Place(_) | ToAgent::Heartbeat(_));
        match message {
            ToAgent::Welcome(_) => return Err(SessionEnd::Greeting),
            ToAgent::Grants(part) => {
                if keeper.offered(part, self.parts.identity.roots()).await? {
                    self.parts.alarms.clear(CONFLICT);
                }
                self.parts.link.set_grants(keeper.grants());
                return Ok(false);
            }
            ToAgent::Liveness(liveness) => {
                let (complete, entries) = (liveness.complete, liveness.entries);
                self.parts.routes.tell(Input::Liveness { complete, entries }).await;
                return Ok(false);
            }
            message => {
                let theirs = revision(&message);
                let repair = keeper.receive(message).await?;
                if let Some(theirs) = theirs {
                    self.parts.link.compare(theirs, keeper.held().map_or(0, |held| held.view_revision));
                }
                if repair {
                    self.parts.link.set_repairs(keeper.repairs());
                    return Ok(true);
                }
            }
        }
        if place {
            self.parts.announcer.see(keeper.place(), keeper.place_at()).await;
        }
        if view {
            self.parts.identity.follow(keeper.view());
            if !self.connection.peer().is_some_and(|peer| self.parts.identity.counts(peer)) {
                return Err(SessionEnd::Left);
            }
            if self.parts.identity.must_renew() {
                return Err(SessionEnd::RenewFirst);
            }
        }
        if view && let Err(error) = self.parts.identity.trust(keeper.trust()).await {
            warn!("The registry's new roots are not used: {}", super::renewal::source_chain(&error));
        }
        Ok(false)
    }

    /// Sends heartbeats: at intervals, and at once when a package's health or an alarm changes.
    async fn report(
        &self,
        sender: &mut FrameSender,
        holds: watch::Receiver<Option<Holding>>,
        repair: &Notify,
        every: Duration,
    ) -> SessionEnd {
        let mut health = self.parts.health.clone();
        let mut alarms = self.parts.alarms.changes();
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (message, pause) = tokio::select! {
                _ = tick.tick() => (self.heartbeat(&holds, &mut health), Duration::ZERO),
                // Fails once nobody checks any more, which is the agent's end.
                Ok(()) = health.changed() => (self.heartbeat(&holds, &mut health), BETWEEN_CHANGES),
                Ok(()) = alarms.changed() => (self.heartbeat(&holds, &mut health), BETWEEN_CHANGES),
                () = repair.notified() => (FromAgent::Repair, Duration::ZERO),
            };
            match timeout(SEND, sender.send(&message.encode())).await {
                Ok(Ok(())) => sleep(pause).await,
                Ok(Err(error)) => return error.into(),
                Err(_) => return SessionEnd::Slow,
            }
        }
    }

    fn heartbeat(
        &self,
        holds: &watch::Receiver<Option<Holding>>,
        health: &mut watch::Receiver<std::sync::Arc<crate::check::HealthMap>>,
    ) -> FromAgent {
        FromAgent::Heartbeat(AgentHeartbeat {
            holds: *holds.borrow(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            packages: health.borrow_and_update().as_ref().clone(),
            using: self.parts.routes.using(),
            alarms: self.parts.alarms.list(),
            isolated: self.parts.routes.is_doubtful(),
        })
    }

    /// Waits until most of the time is over that the connection has, which outlives neither side's
    /// certificate. Hosts are spread over a tenth of that time.
    async fn outlive_no_certificate(&self) {
        let own = self.parts.identity.left();
        let now = crate::clock::unix_now();
        let theirs = self
            .connection
            .peer()
            .map_or(own, |peer| Duration::from_millis(peer.not_after.0.saturating_sub(now.0)));
        let wait = own.min(theirs).mul_f64(0.8 + 0.1 * self.share.clamp(0.0, 1.0));
        sleep(wait.max(Duration::from_secs(1))).await;
    }
}

/// The revision of the manager's view, where a message tells it.
fn revision(message: &ToAgent) -> Option<u64> {
    let mark = match message {
        ToAgent::Heartbeat(heartbeat) => heartbeat.mark,
        ToAgent::Delta(delta) => delta.mark,
        ToAgent::Snapshot(part) => part.last?,
        ToAgent::Welcome(_)
        | ToAgent::Place(_)
        | ToAgent::Liveness(_)
        | ToAgent::Grants(_)
        | ToAgent::Signed(_) => return None,
    };
    Some(mark.view_revision)
}

/// The manager's answer to a hello, or its refusal, which comes as the answer to any request does.
fn welcome(frame: &[u8]) -> Result<Welcome, SessionEnd> {
    match ToAgent::decode(frame) {
        Ok(ToAgent::Welcome(welcome)) if !(PROTOCOL_LOWEST..=PROTOCOL).contains(&welcome.protocol) => {
            Err(SessionEnd::Protocol(welcome.protocol))
        }
        Ok(ToAgent::Welcome(welcome)) => Ok(welcome),
        Ok(_) => Err(SessionEnd::Greeting),
        Err(error) => match Response::decode(frame) {
            Ok(Response::Failed(failure)) if failure.error == RENEW_FIRST => Err(SessionEnd::RenewFirst),
            Ok(Response::Failed(failure)) => Err(SessionEnd::Refused(failure.message)),
            _ => Err(error.into()),
        },
    }
}
