//! A sign of life while the console waits for long.

use indicatif::ProgressBar;
use std::time::Duration;
use tokio::time::timeout;

/// A wait that is shorter than this needs no sign.
const QUIET: Duration = Duration::from_secs(1);

/// How often the sign turns.
const TICK: Duration = Duration::from_millis(100);

/// Waits, and shows on standard error what for and since when, if it takes long. Shows itself on a terminal only.
pub(crate) async fn shown<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = timeout(QUIET, work.as_mut()).await {
        return done;
    }
    let sign = ProgressBar::new_spinner().with_message(what.to_owned()).with_elapsed(QUIET);
    sign.set_style(style());
    sign.enable_steady_tick(TICK);
    let done = work.await;
    sign.finish_and_clear();
    done
}

/// A bar for so many bytes, on standard error. Shows itself on a terminal only.
pub(crate) fn of_bytes(size: u64) -> ProgressBar {
    let plain = indicatif::ProgressStyle::default_bar();
    let style = plain.clone().template("{bar:40} {bytes}/{total_bytes} ({eta})").unwrap_or(plain);
    ProgressBar::new(size).with_style(style)
}

fn style() -> indicatif::ProgressStyle {
    let plain = indicatif::ProgressStyle::default_spinner();
    plain.clone().template("{spinner} {msg} ({elapsed})").unwrap_or(plain)
}
