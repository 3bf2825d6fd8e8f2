//! `echelon watch`.

use crate::console::Console;
use crate::feed::Feed;
use crate::problem::Problem;
use crate::stream::stream;
use crate::style;
use anstyle::Style;
use echelon_core::event::{EventKind, EventReport};
use echelon_core::message::Query;

/// Shows what happens, until somebody has seen enough.
pub(crate) async fn run(console: &mut Console) -> Result<(), Problem> {
    let mut begun = false;
    stream(console, Query::Watch, async |feed, event: EventReport| {
        if !std::mem::replace(&mut begun, true) && !feed.is_json() {
            feed.line(headings()).await?;
        }
        show(feed, &event).await
    })
    .await
}

async fn show(feed: &mut Feed, event: &EventReport) -> Result<(), Problem> {
    match feed.is_json() {
        true => feed.object(event).await,
        false => feed.line(line(event)).await,
    }
}

fn headings() -> String {
    let bold = style::BOLD;
    format!("{bold}{:<24}  {:<18}  {:<28}  DETAIL{bold:#}", "TIME", "EVENT", "SUBJECT")
}

/// One event in one line, in columns as wide as most have it.
fn line(event: &EventReport) -> String {
    let style = style_of(event.event);
    let line = format!(
        "{:<24}  {style}{:<18}{style:#}  {:<28}  {}",
        event.at, event.event, event.subject, event.detail
    );
    line.trim_end().to_owned()
}

fn style_of(event: EventKind) -> Style {
    match event {
        EventKind::Edit => style::BOLD,
        EventKind::AgentConnected
        | EventKind::AgentHeard
        | EventKind::PackagePassing
        | EventKind::Home
        | EventKind::AlarmCleared => style::GOOD,
        EventKind::AgentDisconnected
        | EventKind::NotHome
        | EventKind::Missed
        | EventKind::GivenUp
        | EventKind::PackageWithdrawn => style::ODD,
        EventKind::AgentSilent | EventKind::PackageFailing | EventKind::AlarmRaised => style::BAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::time::UnixMillis;

    #[test]
    fn an_event_is_a_line_in_columns() {
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        let event = EventReport::silent(UnixMillis(1_800_000_000_123), &"agent1".parse().unwrap());
        let (headings, line) = (plain(headings()), plain(line(&event)));
        assert!(line.starts_with("2027-01-15T08:00:00.123Z  agent-silent        agent1 "), "{line}");
        assert_eq!(headings.find("SUBJECT"), line.find("agent1"));
        assert_eq!(headings.find("DETAIL"), line.find("what runs"));
    }
}
