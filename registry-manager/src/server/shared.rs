//! What every part of a running manager has at hand.

use crate::alarms::Alarms;
use crate::clock::unix_now;
use crate::failure;
use crate::hooks::Hooks;
use crate::hub::Hub;
use crate::journal::Edits;
use crate::links::Links;
use crate::occasion::Occasion;
use crate::paths::Paths;
use crate::rates::Rates;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::Context;
use echelon_core::id::{HostId, RequestId};
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::name::HostName;
use echelon_core::row::Actor;
use echelon_core::time::UnixMillis;
use echelon_identity::Issuer;
use echelon_transport::Endpoint;
use echelon_wire::content_hash;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What every part of a running manager has at hand.
pub(crate) struct Inner {
    pub(crate) hub: Arc<Hub>,
    pub(crate) host: HostId,
    pub(crate) links: Arc<Links>,
    pub(crate) copies: Semaphore,
    /// What its host was called when it got its certificate.
    pub(super) enrolled_as: HostName,
    pub(crate) edits: Edits,
    pub(crate) issuer: Issuer,
    pub(super) host_certificates: Mutex<Duration>,
    /// When the manager's own certificate expires, in milliseconds of the wall clock.
    pub(super) certificate_ends: AtomicU64,
    pub(crate) enrolments: Semaphore,
    /// For what is said of strangers with wrong tokens.
    pub(crate) strangers: Occasion,
    pub(crate) previews: Arc<Semaphore>,
    pub(crate) histories: Arc<Semaphore>,
    /// How often hosts announce.
    pub(crate) announcements: Rates,
    pub(crate) watchers: Semaphore,
    pub(crate) backups: Arc<Semaphore>,
    pub(crate) alarms: Alarms,
    /// How many edits it keeps that were given up and neither made once more nor dismissed.
    pub(crate) surplus: AtomicU64,
    pub(crate) hooks: Hooks,
    /// The registry's file, for those who read its journal.
    pub(crate) journal: PathBuf,
    pub(crate) paths: Paths,
    pub(crate) endpoint: Endpoint,
    pub(crate) stop: CancellationToken,
    /// Comes after `stop`, once what was written is committed, or not waited for any more.
    pub(crate) settled: CancellationToken,
}

impl Inner {
    /// What this manager's host is called now.
    pub(crate) fn name(&self) -> HostName {
        let registry = self.hub.registry();
        registry.host(self.host).map_or_else(|| self.enrolled_as.clone(), |h| h.name.clone())
    }

    /// The host it runs on.
    pub(crate) fn host(&self) -> HostId {
        self.host
    }

    /// Has the journal carry out a change that the manager wants by itself.
    pub(crate) async fn edit_by_itself(&self, change: Change) -> Result<EditAnswer, Failure> {
        let request = RequestId(Uuid::now_v7());
        let set = ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] };
        let (actor, content) = (Actor::Manager(self.name()), content_hash(&set));
        self.edits.edit(set, Context { now: unix_now(), actor, from: None, content }, false).await
    }

    /// Why no edit can be taken here at the moment.
    pub(crate) fn cannot_write(&self) -> Failure {
        match &self.edits.situation().writes {
            Err(why) => failure::cannot_write(why, &self.hub.registry(), self.host, self.hub.clock.now()),
            // It has become the primary this moment.
            Ok(()) => failure::handing_over(),
        }
    }

    /// How long a host's certificate that is issued now lives.
    pub(crate) fn host_certificates(&self) -> Duration {
        *self.host_certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the manager's own certificate expires.
    pub(crate) fn certificate_ends(&self) -> UnixMillis {
        UnixMillis(self.certificate_ends.load(Ordering::Relaxed))
    }
}

/// See [`Inner`].
pub(crate) type Shared = Arc<Inner>;
