//! `echelon history`.

use crate::console::Console;
use crate::feed::Feed;
use crate::line::line;
use crate::problem::Problem;
use crate::stream::stream;
use crate::style;
use echelon_core::message::Query;
use echelon_core::report::{GivenUpReport, HistoryDocument, HistoryReport};

/// Edits shown where nobody says how many.
const DEFAULT_LIMIT: u64 = 100;

/// Examples for its help.
pub(crate) const EXAMPLES: &str = "Examples:
  echelon history --limit 10
  echelon history --since 17
  echelon history --follow --output json";

/// Which edits.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Go on with edits as they are committed
    #[arg(long)]
    follow: bool,
    /// At most so many of those committed already, the newest [default: 100, or all with --since]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only edits after this revision
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,
}

/// Shows committed edits, oldest first.
pub(crate) async fn run(args: History, console: &mut Console) -> Result<(), Problem> {
    let limit = args.limit.or(args.since.is_none().then_some(DEFAULT_LIMIT));
    let query = Query::History { since: args.since, limit, follow: args.follow };
    let mut parts = Parts::default();
    stream(console, query, async |feed, document: HistoryDocument| match document {
        HistoryDocument::GivenUp(report) => {
            parts = Parts::default();
            given_up(feed, &report).await
        }
        HistoryDocument::Edit(part) => match parts.add(*part) {
            Some(edit) => show(feed, &edit).await,
            None => Ok(()),
        },
    })
    .await
}

/// Edits of which some came in several documents.
pub(crate) fn whole_edits(documents: Vec<HistoryReport>) -> Vec<HistoryReport> {
    let mut parts = Parts::default();
    documents.into_iter().filter_map(|part| parts.add(part)).collect()
}

/// Puts edits together that came in several documents.
#[derive(Default)]
struct Parts(Option<HistoryReport>);

impl Parts {
    fn add(&mut self, part: HistoryReport) -> Option<HistoryReport> {
        let more = part.more;
        let whole = match self.0.take() {
            Some(mut begun) => {
                begun.changed.extend(part.changed);
                begun
            }
            None => part,
        };
        match more {
            true => {
                self.0 = Some(whole);
                None
            }
            false => Some(HistoryReport { more: false, ..whole }),
        }
    }
}

/// What was shown after a revision does not count any more.
async fn given_up(feed: &mut Feed, report: &GivenUpReport) -> Result<(), Problem> {
    let odd = style::ODD;
    match feed.is_json() {
        true => feed.object(report).await,
        false => feed.line(format!("{odd}{report}{odd:#}")).await,
    }
}

async fn show(feed: &mut Feed, edit: &HistoryReport) -> Result<(), Problem> {
    if feed.is_json() {
        return feed.object(edit).await;
    }
    feed.line(edit_head(edit)).await?;
    for changed in &edit.changed {
        feed.line(format!("  {}", line(changed))).await?;
    }
    if edit.changed.is_empty() {
        feed.line("  changed nothing: it was so already".into()).await?;
    }
    Ok(())
}

/// `revision 18  2027-01-15T08:00:00Z  console admin from 10.0.0.9:50123  request 017f…`
pub(crate) fn edit_head(edit: &HistoryReport) -> String {
    let (bold, dim) = (style::BOLD, style::DIM);
    let from = edit.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let (revision, request) = (edit.at_position.revision, edit.request_id);
    let odd = style::ODD;
    let shrink = if edit.shrink_allowed { format!("  {odd}shrink allowed{odd:#}") } else { String::new() };
    format!(
        "{bold}revision {revision}{bold:#}  {}  {}{from}  {dim}request {request}{dim:#}{shrink}",
        edit.at, edit.actor
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edit(names: &[&str], more: bool) -> HistoryReport {
        let id = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
        let changed = |name| json!({"kind": "host", "name": name, "before": null, "after": {"name": name}});
        serde_json::from_value(json!({
            "lineage": id, "epoch": 1, "revision": 18, "at": "2027-01-15T08:00:00Z",
            "actor": {"kind": "console", "name": "admin"}, "from": "10.0.0.9:50123", "request_id": id,
            "shrink_allowed": true,
            "changed": names.iter().map(changed).collect::<Vec<_>>(), "more": more,
        }))
        .unwrap()
    }

    #[test]
    fn an_edit_in_several_documents_becomes_one_again() {
        let mut parts = Parts::default();
        assert_eq!(parts.add(edit(&["a"], true)), None);
        assert_eq!(parts.add(edit(&["b"], true)), None);
        assert_eq!(parts.add(edit(&["c"], false)), Some(edit(&["a", "b", "c"], false)));
        assert_eq!(parts.add(edit(&["d"], false)), Some(edit(&["d"], false)));
    }

    #[test]
    fn the_head_says_who_when_and_from_where() {
        let plain = anstream::adapter::strip_str(&edit_head(&edit(&[], false))).to_string();
        assert!(
            plain
                .starts_with("revision 18  2027-01-15T08:00:00Z  console admin from 10.0.0.9:50123  request")
        );
    }
}
