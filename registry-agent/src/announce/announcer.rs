//! Keeps this host's announcements.

use crate::announce::file::{self, LoadError};
use crate::clock::unix_now;
use crate::record::{self, RecordError};
use crate::routes::{RouterInput, Routes};
use arc_swap::ArcSwapOption;
use echelon_core::announce::HostWord;
use echelon_core::announcements::{Announcements, Said, SayError, Saying};
use echelon_core::id::RequestId;
use echelon_core::message::Failure;
use echelon_core::name::ManagerType;
use echelon_core::position::Position;
use echelon_core::view::Place;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot, watch};
use tokio::time::timeout;
use tracing::{error, info};
use uuid::Uuid;

/// Keeps announcements: on disk first, then for its own host to go by, then for a registry manager. Clones are the
/// same one.
#[derive(Clone)]
pub(crate) struct Announcer(Arc<Inner>);

struct Inner {
    path: PathBuf,
    routes: Routes,
    said: Arc<Mutex<Announcements>>,
    shown: watch::Sender<Arc<Shown>>,
    /// The host's place as the registry has it; none before there is a replica.
    place: ArcSwapOption<Place>,
    /// Whether another process announces for this host now.
    ceded: AtomicBool,
}

/// Nothing changes while this is held.
pub(crate) struct Held(OwnedMutexGuard<Announcements>);

/// The announcements as everybody in the process reads them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Shown {
    /// The newest of each type.
    pub(crate) said: Announcements,
    /// What was said last of announcements that were not taken in.
    pub(crate) answers: BTreeMap<ManagerType, Answered>,
}

/// Why an announcement was not taken in.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answered {
    /// Which one, by the number that it is known by.
    pub(crate) number: RequestId,
    pub(crate) why: Failure,
}

/// What has become of an announcement.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outcome {
    /// The registry has it.
    Committed,
    /// It waits for a registry manager.
    Pending,
    /// It was refused, and is forgotten.
    Refused(Failure),
    /// Something else was announced since, or an operator has removed the package.
    Replaced,
}

/// Why something was not announced. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    /// There is no replica yet.
    #[error(
        "this host has no replica yet, and so cannot tell what it may announce; repeat this a little later"
    )]
    NoReplica,
    /// It cannot be kept.
    #[error("the announcement could not be kept on this host's disk; nothing was announced")]
    NotKept(#[source] RecordError),
    /// The agent is stopping.
    #[error("this agent is stopping and takes no announcements; repeat this once it runs again")]
    Stopping,
    /// It is not one for this host to make.
    #[error(transparent)]
    Refused(#[from] SayError),
}

impl Announcer {
    /// The announcements in the state directory. Waits for the disk.
    pub(crate) fn open(state: &Path, routes: Routes) -> Result<Self, LoadError> {
        let path = file::path(state);
        let said = file::load(&path)?;
        let shown = Arc::new(Shown { said: said.clone(), answers: BTreeMap::new() });
        let (said, shown) = (Arc::new(Mutex::new(said)), watch::Sender::new(shown));
        let (place, ceded) = (ArcSwapOption::empty(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { path, routes, said, shown, place, ceded })))
    }

    /// The announcements, now and whenever they change.
    pub(crate) fn shown(&self) -> watch::Receiver<Arc<Shown>> {
        self.0.shown.subscribe()
    }

    /// The host's place as the registry has it.
    pub(crate) fn place(&self) -> Option<Arc<Place>> {
        self.0.place.load_full()
    }

    /// Has the router go by what the registry does not show yet. To be called once at the start; later changes
    /// are its own to tell.
    pub(crate) async fn publish(&self) {
        let (taken, took) = oneshot::channel();
        let unsettled = self.0.shown.borrow().said.unsettled();
        self.0.routes.send(RouterInput::Announced(unsettled, taken)).await;
        // The router ends only with the agent.
        let _ = took.await;
    }

    /// Announces: durable, and gone by on this host, when this returns.
    ///
    /// # Errors
    /// [`AnnounceError`].
    pub(crate) async fn say(&self, ty: ManagerType, word: HostWord) -> Result<Saying, AnnounceError> {
        let place = self.place().ok_or(AnnounceError::NoReplica)?;
        let (fresh, now) = (fresh(), unix_now());
        let saying = self.update(move |said| said.say((&ty, word), &place, fresh, now)).await??;
        if let Saying::New(number) = saying {
            info!(announcement = %number, "Announced");
        }
        Ok(saying)
    }

    /// What has become of the announcement known by this number, as soon as that is known, or after `patience`.
    pub(crate) async fn outcome(&self, ty: &ManagerType, number: RequestId, patience: Duration) -> Outcome {
        let mut shown = self.shown();
        let known = async {
            loop {
                let outcome = shown.borrow_and_update().outcome(ty, number);
                if outcome != Outcome::Pending {
                    return outcome;
                }
                // Never fails while `self` holds the sending side.
                let _ = shown.changed().await;
            }
        };
        timeout(patience, known).await.unwrap_or(Outcome::Pending)
    }

    /// Takes note of the host's place in the registry, which is at least as new as `confirmed`.
    pub(crate) async fn see(&self, place: Option<&Place>, confirmed: Option<Position>) {
        let Some(place) = place else { return };
        if self.place().as_deref() != Some(place) {
            self.0.place.store(Some(Arc::new(place.clone())));
        }
        let mut seen = self.0.shown.borrow().said.clone();
        seen.see(place, confirmed);
        if seen == self.0.shown.borrow().said {
            return;
        }
        let place = place.clone();
        let removed = self.update(move |said| said.see(&place, confirmed)).await;
        for ty in removed.unwrap_or_default() {
            info!(package = %ty, "An operator has removed what this host announced; it is announced no more");
        }
    }

    /// Changes the announcements: on disk first, then for everybody to see. Once begun, it runs to its end even
    /// if nobody waits for it any more.
    pub(super) async fn update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Announcements) -> R + Send + 'static,
    ) -> Result<R, AnnounceError> {
        // The lock goes along, so that no other change comes between this one's steps.
        let mut said = Arc::clone(&self.0.said).lock_owned().await;
        let inner = Arc::clone(&self.0);
        if inner.ceded.load(Ordering::SeqCst) {
            return Err(AnnounceError::Stopping);
        }
        let (taken, took) = oneshot::channel();
        let work = move || {
            let mut next = said.clone();
            let result = change(&mut next);
            if next != *said {
                record::save(&inner.path, &next).map_err(AnnounceError::NotKept)?;
                *said = next;
                let input = RouterInput::Announced(said.unsettled(), taken);
                inner.routes.send_blocking(input);
                inner.show(|shown| shown.said.clone_from(&said));
            }
            Ok(result)
        };
        let done = tokio::task::spawn_blocking(work).await.unwrap_or(Err(AnnounceError::Stopping));
        // Fails where nothing changed, or the agent ends.
        let _ = took.await;
        done
    }

    /// Returns once nothing is being changed. Whoever wants to change something then waits for [`Self::go_on`], or for
    /// the end of what is held, which after [`Self::cede`] means that nothing can be changed here any more.
    pub(crate) async fn hold(&self) -> Held {
        Held(Arc::clone(&self.0.said).lock_owned().await)
    }

    /// From now on another process announces for this host, or this one again.
    pub(crate) fn cede(&self, ceded: bool) {
        self.0.ceded.store(ceded, Ordering::SeqCst);
    }

    /// Goes on with what is on disk, which another process may have written meanwhile.
    pub(crate) async fn go_on(&self, held: Held) {
        let (inner, mut said) = (Arc::clone(&self.0), held.0);
        let read = tokio::task::spawn_blocking(move || match file::load(&inner.path) {
            Ok(found) => {
                *said = found;
                inner.show(|shown| shown.said.clone_from(&said));
            }
            Err(fault) => error!("This host's announcements stay as they were: {fault}"),
        });
        // Fails where the runtime is going away, and the process with it.
        if read.await.is_ok() {
            self.publish().await;
        }
    }

    /// Notes why an announcement was not taken in, which has this number now.
    pub(super) fn note(&self, ty: &ManagerType, number: RequestId, why: Failure) {
        self.0.show(|shown| {
            let said = shown.said.get(ty).filter(|said| said.number == number);
            let number = said.map_or(number, Said::known_as);
            shown.answers.insert(ty.clone(), Answered { number, why });
        });
    }
}

impl Inner {
    fn show(&self, change: impl FnOnce(&mut Shown)) {
        self.shown.send_if_modified(|shown| {
            let mut next = Shown::clone(shown);
            change(&mut next);
            let changed = next != **shown;
            *shown = Arc::new(next);
            changed
        });
    }
}

impl Shown {
    fn outcome(&self, ty: &ManagerType, number: RequestId) -> Outcome {
        match self.said.get(ty) {
            Some(said) if said.known_as() == number && said.is_pending() => Outcome::Pending,
            Some(said) if said.known_as() == number => Outcome::Committed,
            _ => match self.answers.get(ty).filter(|answered| answered.number == number) {
                Some(answered) => Outcome::Refused(answered.why.clone()),
                None => Outcome::Replaced,
            },
        }
    }

    /// What the registry has not confirmed of a type, and what was said of it last.
    pub(crate) fn pending(&self, ty: &ManagerType) -> Option<(&Said, Option<&Failure>)> {
        let said = self.said.get(ty).filter(|said| said.is_pending())?;
        let answered = self.answers.get(ty).filter(|answered| answered.number == said.known_as());
        Some((said, answered.map(|answered| &answered.why)))
    }
}

/// A number that nobody has used.
pub(super) fn fresh() -> RequestId {
    RequestId(Uuid::now_v7())
}
