//! What is asked for besides the type: to wait for a change.

use echelon_core::duration;
use echelon_core::name::quoted;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a caller waits who gives a tag and no time.
const WAIT: Duration = Duration::from_secs(30);

/// Longest that a caller may wait: what proxies and firewalls between leave open, and an answer that says the
/// same again costs nothing at this rate.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Longest tag that is taken. Ours are far shorter.
const MAX_TAG: usize = 256;

/// A query's names and values.
pub(super) type Pairs = Vec<(String, String)>;

/// What was asked for besides the type.
pub(super) struct Asked {
    /// The tag that is known already; none asks for what there is now.
    pub(super) after: Option<String>,
    /// How long to wait for another.
    pub(super) wait: Duration,
}

impl Asked {
    /// Reads a query.
    pub(super) fn read(pairs: &Pairs) -> Result<Self, String> {
        let mut asked = Self { after: None, wait: WAIT };
        for (name, value) in pairs {
            match name.as_str() {
                "after" if value.len() > MAX_TAG => return Err("after is no tag of an answer".into()),
                "after" => asked.after = Some(value.clone()),
                "wait" => asked.wait = wait(value)?,
                _ => return Err(format!("{} is not known: use after and wait", quoted(name))),
            }
        }
        Ok(asked)
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration::parse(text).map_err(|e| format!("wait {} {e}", quoted(text)))?;
    let most = duration::print(LONGEST_WAIT);
    if wait > LONGEST_WAIT { Err(format!("wait is {text}: use 0s to {most}")) } else { Ok(wait) }
}

/// What `look` finds once `is_news` says so, at the end of `wait`, or when the agent stops. It looks anew at each
/// change.
pub(super) async fn news<T, E, F: Future<Output = Result<T, E>>>(
    mut changes: watch::Receiver<u64>,
    wait: Duration,
    stop: &CancellationToken,
    look: impl Fn() -> F,
    is_news: impl Fn(&T) -> bool,
) -> Result<T, E> {
    let end = Instant::now() + wait;
    loop {
        changes.mark_unchanged();
        let found = look().await?;
        if is_news(&found) {
            return Ok(found);
        }
        tokio::select! {
            // Never fails while the agent is there.
            _ = changes.changed() => {}
            () = sleep_until(end) => return look().await,
            () = stop.cancelled() => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_bounds_and_what_is_misspelt_is_named() {
        let pairs =
            |query: &[(&str, &str)]| query.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let asked = |query: &[(&str, &str)]| Asked::read(&pairs(query)).map(|a| (a.after, a.wait));
        assert_eq!(asked(&[]), Ok((None, WAIT)));
        let after = |wait| Ok((Some("a".into()), Duration::from_secs(wait)));
        assert_eq!(asked(&[("after", "a")]), after(30));
        assert_eq!(asked(&[("after", "a"), ("wait", "5m")]), after(300));
        assert_eq!(asked(&[("after", "a"), ("wait", "0s")]), after(0));
        let long = "x".repeat(MAX_TAG + 1);
        for (query, words) in [
            (("wait", "301s"), "wait is 301s: use 0s to 5m"),
            (("wait", "30"), "wait \"30\" is no duration"),
            (("watt", "30s"), "\"watt\" is not known: use after and wait"),
            (("after", long.as_str()), "after is no tag of an answer"),
        ] {
            let error = asked(&[query]).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
