//! The process that a new one takes over from, as the new one sees it.

use crate::listen::{GivenError, Place};
use crate::takeover::message::{FromPredecessor, FromSuccessor, HandedPlace, VERSIONS};
use crate::takeover::wire::{Wire, WireError};
use crate::takeover::{PATIENCE, socket};
use rustix::process::geteuid;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;
use tracing::info;

/// How long it may take to make its offer: first it waits for its disk.
const OFFER: Duration = Duration::from_secs(30);

/// Places that are taken: as many sockets as a process may have open where nobody has raised its limit.
const MAX_PLACES: usize = 1024;

/// A process that hands over, and rests until it hears from this one. Dropping this value has it go on.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    lock: Option<OwnedFd>,
    places: Vec<(HandedPlace, OwnedFd)>,
}

/// Why nothing was taken over. The process that was asked goes on as it was, unless it has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The socket.
    #[error("cannot ask the running agent at {}; run this as the user that it runs as", path.display())]
    Connect {
        /// Where it is asked.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else's process.
    #[error(
        "the process that runs is user {theirs}'s, this one is user {ours}'s: start it as the same user, for instance \
         with runuser -u NAME -- registry-agent run --take-over"
    )]
    User {
        /// The user of the running process.
        theirs: u32,
        /// The user of this one.
        ours: u32,
    },
    /// It says no.
    #[error("the running agent does not hand over: {0}")]
    Refused(String),
    /// It does not speak.
    #[error("the running agent does not hand over; it goes on by itself, or has ended: try again")]
    Silent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A place that was handed over cannot be used.
    #[error("what the running agent listens at for {0:?} cannot be taken over")]
    Place(String, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<WireError> for TakeOverError {
    fn from(error: WireError) -> Self {
        Self::Silent(error.into())
    }
}

impl Predecessor {
    /// Asks the process that uses this state directory to hand over. None where no process can be asked: then there
    /// is none, or one of a build that knows nothing of this.
    ///
    /// # Errors
    /// [`TakeOverError`].
    pub async fn ask(state: &Path) -> Result<Option<Self>, TakeOverError> {
        let path = socket(state);
        let mut wire = match Wire::connect(&path).await {
            Ok(wire) => wire,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(source) => return Err(TakeOverError::Connect { path, source }),
        };
        let theirs = wire.peer().map_err(|source| TakeOverError::Connect { path, source })?;
        let ours = geteuid().as_raw();
        if theirs.user != ours {
            return Err(TakeOverError::User { theirs: theirs.user, ours });
        }
        let build = env!("CARGO_PKG_VERSION").to_owned();
        wire.send(&FromSuccessor::Hello { versions: VERSIONS, build }).await?;
        let offered = timeout(OFFER, Self::take(wire)).await;
        offered.unwrap_or_else(|late| Err(TakeOverError::Silent(late.into()))).map(Some)
    }

    async fn take(mut wire: Wire) -> Result<Self, TakeOverError> {
        let handed = match wire.receive().await? {
            FromPredecessor::Offer { build, places, .. } if places.len() <= MAX_PLACES => {
                info!(predecessor.version = %build, places = places.len(), "The running agent hands over");
                places
            }
            FromPredecessor::Offer { places, .. } => {
                let message = format!("it has {} places, more than {MAX_PLACES}", places.len());
                return Err(TakeOverError::Refused(message));
            }
            FromPredecessor::Refused(why) => return Err(TakeOverError::Refused(why)),
            FromPredecessor::Granted => {
                return Err(TakeOverError::Silent("it grants what it has not offered".into()));
            }
        };
        let lock = Some(wire.receive_descriptor().await?);
        let mut places = Vec::with_capacity(handed.len());
        for place in handed {
            places.push((place, wire.receive_descriptor().await?));
        }
        Ok(Self { wire, lock, places })
    }

    /// The descriptor that the state directory is locked by; once.
    pub(crate) fn lock(&mut self) -> Option<OwnedFd> {
        self.lock.take()
    }

    /// The places that it listens at; once.
    pub(crate) fn places(&mut self) -> Result<Vec<Place>, TakeOverError> {
        let place = |(handed, socket): (HandedPlace, OwnedFd)| {
            Place::given(handed.asked.clone(), socket, handed.activated)
                .map_err(|error: GivenError| TakeOverError::Place(handed.asked, error.into()))
        };
        self.places.drain(..).map(place).collect()
    }

    /// Says that nothing can fail any more, and returns once all is this process's.
    pub(crate) async fn ready(&mut self) -> Result<(), TakeOverError> {
        self.wire.send(&FromSuccessor::Ready).await?;
        let granted = timeout(PATIENCE, self.wire.receive()).await;
        match granted.map_err(|late| TakeOverError::Silent(late.into()))?? {
            FromPredecessor::Granted => Ok(()),
            FromPredecessor::Refused(why) => Err(TakeOverError::Refused(why)),
            FromPredecessor::Offer { .. } => Err(TakeOverError::Silent("it offers twice".into())),
        }
    }

    /// Says that callers are let in here.
    pub(crate) async fn serving(mut self) {
        // Where it has ended meanwhile, there is nobody to be told.
        let _ = self.wire.send(&FromSuccessor::Serving).await;
    }

    /// Says that this process gives up.
    pub async fn fail(mut self, why: &str) {
        // What it does not hear it will notice.
        let _ = self.wire.send(&FromSuccessor::Failed(why.to_owned())).await;
    }
}

/// Whether nobody listens there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
