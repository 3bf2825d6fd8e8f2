//! Answers without an end: the history as it grows, and everything that happens.

use crate::clock::unix_now;
use crate::failure;
use crate::history::History;
use crate::hub::Event;
use crate::limits::{EVENTS_AT_ONCE, MAX_WATCHERS, WATCH_SIGN};
use crate::server::Shared;
use echelon_core::event::EventReport;
use echelon_core::message::{Failure, Response};
use echelon_core::registry::Registry;
use echelon_core::report::HistoryDocument;
use echelon_transport::{Channel, SendError};
use echelon_wire::{MAX_PART, Wire, parts_by};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Why an answer without an end has ended.
#[derive(Debug)]
pub(crate) enum WatchEnd {
    /// The watcher is gone.
    Gone(SendError),
    /// It cannot go on.
    Failed(Failure),
}

impl From<SendError> for WatchEnd {
    fn from(error: SendError) -> Self {
        Self::Gone(error)
    }
}

impl From<Failure> for WatchEnd {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Tells the history and goes on with it.
pub(crate) async fn history(
    shared: &Shared,
    since: Option<u64>,
    limit: Option<u64>,
    channel: &mut Channel,
) -> Result<std::convert::Infallible, WatchEnd> {
    let _place = shared.watchers.try_acquire().map_err(|_| failure::too_many_watchers(MAX_WATCHERS))?;
    let mut head = shared.hub.head();
    let (journal, registry) = (shared.journal.clone(), shared.hub.registry());
    let gone = CancellationToken::new();
    let wanted = {
        let gone = gone.clone();
        move || !gone.is_cancelled()
    };
    // This future is dropped where the watcher is gone.
    let _gone = gone.drop_guard();
    let begin = move || History::from_now(&journal, registry)?.back_to(since, limit, wanted);
    let mut history = blocking(begin).await?;
    loop {
        head.mark_unchanged();
        let registry = shared.hub.registry();
        let told;
        (history, told) = read(history, registry.position().revision, registry).await?;
        if !told.is_empty() {
            tell(channel, &told).await?;
        } else {
            history.arrive(shared.hub.registry());
            // The hub, which tells, lives as long as this task.
            if timeout(WATCH_SIGN, head.changed()).await.is_err() {
                tell::<HistoryDocument>(channel, &[]).await?;
            }
        }
    }
}

/// Tells everything that happens from now on.
pub(crate) async fn watch(
    shared: &Shared,
    channel: &mut Channel,
) -> Result<std::convert::Infallible, WatchEnd> {
    let _place = shared.watchers.try_acquire().map_err(|_| failure::too_many_watchers(MAX_WATCHERS))?;
    // Events first: what is committed after this and before the history's beginning is told by neither otherwise.
    let mut events = shared.hub.events();
    let mut history = history_from_now(shared).await?;
    // The watcher knows by this that it misses nothing from here on.
    tell::<EventReport>(channel, &[]).await?;
    loop {
        let mut told = Vec::new();
        let mut next = timeout(WATCH_SIGN, events.recv()).await.ok();
        while let Some(event) = next {
            match event {
                Ok(event) => match event.as_ref() {
                    Event::Told(report) => told.push(EventReport::clone(report)),
                    Event::Committed(revision) => {
                        let part;
                        (history, part) = edits(history, *revision, shared.hub.registry()).await?;
                        told.extend(part);
                    }
                },
                Err(RecvError::Lagged(missed)) => {
                    told.push(EventReport::missed(unix_now(), missed));
                    history = history_from_now(shared).await?;
                }
                Err(RecvError::Closed) => return Err(failure::stopping().into()),
            }
            next = if told.len() < EVENTS_AT_ONCE { waiting(&mut events) } else { None };
        }
        tell(channel, &told).await?;
    }
}

async fn history_from_now(shared: &Shared) -> Result<History, Failure> {
    let (journal, registry) = (shared.journal.clone(), shared.hub.registry());
    blocking(move || History::from_now(&journal, registry)).await
}

/// The edits up to a revision that were not told yet.
async fn edits(
    mut history: History,
    to: u64,
    registry: Arc<Registry>,
) -> Result<(History, Vec<EventReport>), Failure> {
    let mut told = Vec::new();
    loop {
        let part;
        (history, part) = read(history, to, Arc::clone(&registry)).await?;
        if part.is_empty() {
            return Ok((history, told));
        }
        // An edit that goes on in the next document was told with the first.
        let mut goes_on = false;
        for document in part {
            match document {
                HistoryDocument::GivenUp(report) => told.push(EventReport::given_up(unix_now(), &report)),
                HistoryDocument::Edit(report) => {
                    if !std::mem::replace(&mut goes_on, report.more) {
                        told.push(EventReport::edit(&report));
                    }
                }
            }
        }
    }
}

async fn read(
    mut history: History,
    to: u64,
    registry: Arc<Registry>,
) -> Result<(History, Vec<HistoryDocument>), Failure> {
    blocking(move || {
        let part = history.part(to, &registry)?;
        Ok((history, part))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|e| failure::internal(&e))?
}

fn waiting(events: &mut Receiver<Arc<Event>>) -> Option<Result<Arc<Event>, RecvError>> {
    match events.try_recv() {
        Ok(event) => Some(Ok(event)),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Lagged(missed)) => Some(Err(RecvError::Lagged(missed))),
        Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
    }
}

/// Sends documents, in as many parts as they take, and at least one. Waits for the watcher as long as its
/// connection lives: what it misses meanwhile, it will be told.
async fn tell<T: Serialize>(channel: &mut Channel, reports: &[T]) -> Result<(), WatchEnd> {
    let texts = reports.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
    let texts = texts.map_err(|e| failure::internal(&e))?;
    let sign_of_life = texts.is_empty().then(Vec::new);
    for documents in sign_of_life.into_iter().chain(parts_by(texts, MAX_PART, String::len)) {
        channel.send(&Response::Documents { documents, last: false }.encode()).await?;
    }
    Ok(())
}
