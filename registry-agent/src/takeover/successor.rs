//! The new process that takes over, as the one that runs sees it.

use crate::agent::AgentConfig;
use crate::registry::source_chain;
use crate::status::Subject;
use crate::takeover::message::{FromPredecessor, FromSuccessor, HandedPlace, VERSIONS};
use crate::takeover::wire::{Wire, WireError};
use crate::takeover::{PATIENCE, socket};
use crate::tenure::Tenure;
use echelon_core::alarm::Notice;
use echelon_daemon::{StateDir, bind_unix};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Only the agent's own user may ask.
const SOCKET_MODE: u32 = 0o600;

/// How long whoever connects may take to say what it wants.
const HELLO: Duration = Duration::from_secs(1);

/// How long a process that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(1);

/// Pause after the system refused to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The alarm of a take-over that came to nothing.
pub const TAKE_OVER_FAILED: &str = "take-over-failed";

/// What to do about it.
const REMEDY: &str = "see the new process's log; then again: systemctl reload registry-agent, or registry-agent run --take-over";

/// Hands over to whoever may ask for it.
pub(crate) struct Succession {
    pub(crate) subject: Arc<Subject>,
    pub(crate) tenure: Tenure,
    pub(crate) state: Arc<StateDir>,
    /// Held while it hands over, so that no reload comes between.
    pub(crate) settings: Arc<Mutex<AgentConfig>>,
    /// The process that goes on, once there is one.
    pub(crate) successor: Arc<OnceLock<u32>>,
}

/// Where it is asked. The socket's file goes with it.
struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it is user {0}'s, and this agent is not")]
    User(u32),
    #[error(
        "its process id cannot be seen from here; start it where the running agent is, in the same container"
    )]
    Unseen,
    #[error(
        "it speaks versions {0} of the take-over, this agent {VERSIONS}; stop this agent and start the other"
    )]
    Version(crate::takeover::message::Versions),
    #[error("it was not ready within {PATIENCE:?}")]
    NotReady,
    #[error("it did not serve within {PATIENCE:?}")]
    NotServing,
    #[error("{0}")]
    GaveUp(String),
    #[error("it says what does not belong here")]
    Order,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("its process cannot be held")]
    System(#[from] std::io::Error),
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that stays is found stale by the next who listens there.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Succession {
    /// Waits to be asked, until there is a successor, or `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let waiting = async {
            let mut control = None;
            while self.successor.get().is_none() {
                if control.is_none() {
                    control = self.open();
                }
                match &control {
                    // An agent that cannot be asked is replaced by stopping it.
                    None => return,
                    Some(Control { listener, .. }) => match listener.accept().await {
                        Ok((stream, _)) => self.attend(Wire::new(stream), &mut control).await,
                        Err(_) => sleep(PAUSE).await,
                    },
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = waiting => {}
        }
    }

    fn open(&self) -> Option<Control> {
        let path = socket(self.state.path());
        match bind_unix(&path, SOCKET_MODE) {
            Ok(listener) => Some(Control { listener, path }),
            Err(error) => {
                warn!("This agent can only be replaced by stopping it: {}", source_chain(&error));
                None
            }
        }
    }

    async fn attend(&self, mut wire: Wire, control: &mut Option<Control>) {
        let asked = timeout(HELLO, self.hear_out(&mut wire)).await;
        let (process, handle, version) = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(why)) => {
                warn!("A process that wants to take over is refused: {}", source_chain(&why));
                // Whoever is gone need not be told.
                let _ = wire.send(&FromPredecessor::Refused(source_chain(&why))).await;
                return;
            }
            Err(_) => return,
        };
        let _settings = self.settings.lock().await;
        info!(successor.process = process, "Handing over to a new process");
        let rest = self.tenure.rest().await;
        match self.hand_over(&mut wire, control, version).await {
            Ok(()) => {
                info!(successor.process = process, "Handed over; what is under way is finished here");
                // Set once.
                let _ = self.successor.set(process);
                self.subject.tasks.shutdown().cancel();
            }
            Err(why) => {
                end(&handle, &mut wire, &why).await;
                self.cede(false);
                self.tenure.go_on(rest).await;
                let why = source_chain(&why);
                let message = format!("a new process could not take over, and this one goes on: {why}");
                self.subject.alarms.raise(Notice::warning(TAKE_OVER_FAILED, &message, REMEDY));
            }
        }
    }

    /// Who asks, a hold on that process, and the version to speak.
    async fn hear_out(&self, wire: &mut Wire) -> Result<(u32, OwnedFd, u32), Failure> {
        let peer = wire.peer()?;
        if peer.user != geteuid().as_raw() {
            return Err(Failure::User(peer.user));
        }
        let process = peer.process.ok_or(Failure::Unseen)?;
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(Failure::Unseen)?;
        // Its process id is nobody else's while it can still be heard.
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(std::io::Error::from)?;
        let FromSuccessor::Hello { versions, .. } = wire.receive().await? else { return Err(Failure::Order) };
        Ok((process, handle, VERSIONS.common(versions).ok_or(Failure::Version(versions))?))
    }

    async fn hand_over(
        &self,
        wire: &mut Wire,
        control: &mut Option<Control>,
        version: u32,
    ) -> Result<(), Failure> {
        let ready = async {
            self.offer(wire, version).await?;
            expect(wire, &FromSuccessor::Ready).await
        };
        timeout(PATIENCE, ready).await.map_err(|_| Failure::NotReady)??;
        // From here on the successor may listen at the same path, and remove what it finds there.
        control.take();
        self.cede(true);
        let serving = async {
            wire.send(&FromPredecessor::Granted).await?;
            expect(wire, &FromSuccessor::Serving).await
        };
        timeout(PATIENCE, serving).await.map_err(|_| Failure::NotServing)?
    }

    async fn offer(&self, wire: &mut Wire, version: u32) -> Result<(), Failure> {
        let places = self.subject.doors.places().all();
        let handed = places
            .iter()
            .map(|place| HandedPlace { asked: place.asked().to_owned(), activated: place.is_activated() });
        let (build, handed) = (env!("CARGO_PKG_VERSION").to_owned(), handed.collect());
        wire.send(&FromPredecessor::Offer { version, build, places: handed }).await?;
        wire.send_descriptor(self.state.lock()).await?;
        for place in &places {
            wire.send_descriptor(place.as_fd()).await?;
        }
        Ok(())
    }

    /// Gives up what only one process may have, or takes it up again.
    fn cede(&self, ceded: bool) {
        self.subject.doors.places().cede(ceded);
        self.tenure.cede(ceded);
        match ceded {
            true => self.state.cede(),
            false => {
                if let Err(error) = self.state.claim() {
                    warn!("{}", source_chain(&error));
                }
            }
        }
    }
}

/// Has the successor do nothing any more with what it was handed. One that says itself that it gives up has let go of
/// everything once it hangs up; any other is killed.
async fn end(successor: &OwnedFd, wire: &mut Wire, why: &Failure) {
    let gives_up = matches!(why, Failure::GaveUp(_));
    if gives_up && timeout(GONE, wire.gone()).await.is_ok() {
        return;
    }
    // One that has ended already cannot be killed.
    let _ = pidfd_send_signal(successor, Signal::KILL);
    let _ = timeout(GONE, wire.gone()).await;
}

/// Hears this, and nothing else.
async fn expect(wire: &mut Wire, wanted: &FromSuccessor) -> Result<(), Failure> {
    match wire.receive().await? {
        said if said == *wanted => Ok(()),
        FromSuccessor::Failed(why) => Err(Failure::GaveUp(why)),
        _ => Err(Failure::Order),
    }
}
