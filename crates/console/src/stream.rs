//! Answers that go on: shown as they come, until somebody has seen enough.

use crate::console::Console;
use crate::feed::Feed;
use crate::problem::Problem;
use echelon_client::Documents;
use echelon_core::message::Query;
use serde::de::DeserializeOwned;

/// Asks, and shows each document as it comes, until the answer ends, nobody reads any more, or the user
/// interrupts: the usual end of what has no other, and no failure.
pub(crate) async fn stream<T: DeserializeOwned>(
    console: &mut Console,
    query: Query,
    show: impl AsyncFnMut(&mut Feed, T) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let mut feed = Feed::start(console.out.is_json())?;
    let all = async {
        let documents = manager.documents(query).await.map_err(|error| error.failure())?;
        each(documents, &mut feed, show).await
    };
    let shown = tokio::select! {
        shown = all => Some(shown),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None)?,
    };
    manager.close().await;
    match shown {
        // Whoever interrupts does not wait for a reader that takes its time.
        None => Ok(()),
        // What was shown before a failure is shown all the same, and why the writer has ended is the better
        // reason.
        Some(Err(Problem::ReaderGone)) => feed.finish(),
        Some(shown) => feed.finish().and(shown),
    }
}

async fn each<T: DeserializeOwned>(
    mut documents: Documents<T>,
    feed: &mut Feed,
    mut show: impl AsyncFnMut(&mut Feed, T) -> Result<(), Problem>,
) -> Result<(), Problem> {
    while let Some(part) = documents.next().await.map_err(|error| error.failure())? {
        for document in part {
            show(feed, document).await?;
        }
    }
    Ok(())
}
