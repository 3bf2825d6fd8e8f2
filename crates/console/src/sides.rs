//! What each of the lineages in conflict holds that another lacks, as the managers that go by it say.

use crate::commands::history::{edit_head, whole_edits};
use crate::console::Console;
use crate::line::line;
use crate::managers;
use crate::problem::Problem;
use crate::style;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::Lineage;
use echelon_core::message::Query;
use echelon_core::name::HostName;
use echelon_core::promotion::{GrantReport, GrantState};
use echelon_core::report::{HistoryReport, StatusReport};
use echelon_daemon::shell_word;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most edits of a side that are fetched and counted: who has to choose does not read more than that.
const MAX_EDITS: u64 = 1000;

/// Most of them that are shown one by one.
const SHOWN: usize = 20;

/// A lineage in conflict with others; its JSON is what scripts rely on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    /// Which.
    pub(crate) lineage: Lineage,
    /// The epoch of its newest grant.
    pub(crate) epoch: u64,
    /// The host of its primary.
    pub(crate) holder: String,
    /// When it became that, RFC 3339.
    at: String,
    /// The last revision that the others have, too.
    since: u64,
    /// The newest revision of it that is committed; none where no manager that goes by it was reached.
    revision: Option<u64>,
    /// The managers that go by it, as far as they were reached.
    managers: Vec<HostName>,
    /// How many agents these serve.
    agents: u64,
    /// The edits made under it since, but those that managers make by themselves; none where they are not known.
    edits: Option<Vec<HistoryReport>>,
    /// Whether there are more edits than that.
    more: bool,
    /// Where whoever told of it is.
    #[serde(skip)]
    told_by: Option<Endpoint>,
}

/// The sides that these grants, of one manager's sight, tell of; none where nothing is in conflict.
pub(crate) async fn sides(console: &Console, grants: &[GrantReport]) -> Result<Vec<Side>, Problem> {
    gather(console, grants, &branches(grants), None).await
}

/// What is given up where this lineage is chosen. Every side is counted from where it and the chosen one part.
pub(crate) async fn given_up(
    console: &Console,
    grants: &[GrantReport],
    chosen: Lineage,
) -> Result<Vec<Side>, Problem> {
    let branches = branches(grants);
    let (kept, others): (Vec<_>, Vec<_>) = branches.into_iter().partition(|b| head(b).lineage == chosen);
    match kept.first() {
        Some(kept) => gather(console, grants, &others, Some(kept)).await,
        // No side has this name, as the manager will say.
        None => Ok(Vec::new()),
    }
}

/// A chain of grants, the oldest first; never empty.
type Branch<'a> = Vec<&'a GrantReport>;

fn head<'a>(branch: &Branch<'a>) -> &'a GrantReport {
    branch.last().expect("a branch has the grant that it was found by")
}

/// The chains that end with the newest grant, and with those in conflict with it that nothing builds on.
fn branches(grants: &[GrantReport]) -> Vec<Branch<'_>> {
    let by_id: BTreeMap<_, _> = grants.iter().map(|grant| ((grant.lineage, grant.epoch), grant)).collect();
    let parent = |grant: &GrantReport| grant.parent.map(|at| (at.lineage, at.epoch));
    let built_on = |id| grants.iter().any(|other| parent(other) == Some(id));
    let is_head = |grant: &&GrantReport| match grant.state {
        GrantState::Newest => true,
        GrantState::Rival => !built_on((grant.lineage, grant.epoch)),
        GrantState::Past | GrantState::Proposed => false,
    };
    let back = |head| {
        // What comes from a manager may go round in a circle: no branch has more grants than there are.
        let next = |grant: &&GrantReport| parent(grant).and_then(|id| by_id.get(&id).copied());
        let mut branch: Branch<'_> = std::iter::successors(Some(head), next).take(grants.len()).collect();
        branch.reverse();
        branch
    };
    grants.iter().filter(is_head).map(back).collect()
}

/// The last revision that two branches have in common.
fn fork(one: &Branch<'_>, other: &Branch<'_>) -> Option<u64> {
    let apart = one.iter().zip(other).find(|(a, b)| (a.lineage, a.epoch) != (b.lineage, b.epoch));
    let (a, b) = apart?;
    Some(a.parent?.revision.min(b.parent?.revision))
}

async fn gather(
    console: &Console,
    grants: &[GrantReport],
    wanted: &[Branch<'_>],
    chosen: Option<&Branch<'_>>,
) -> Result<Vec<Side>, Problem> {
    let all = branches(grants);
    if all.len() < 2 {
        return Ok(Vec::new());
    }
    let managers = managers::all(console).await?;
    let said = managers::ask_each::<StatusReport>(console, &managers, Query::Status).await?;
    let said: Vec<_> = said.into_iter().filter_map(|a| a.answer.ok()?.into_iter().next()).collect();
    let mut sides = Vec::new();
    for branch in wanted {
        let head = head(branch);
        let others = all.iter().filter(|other| self::head(other).lineage != head.lineage);
        let since = match chosen {
            Some(chosen) => fork(branch, chosen),
            None => others.filter_map(|other| fork(branch, other)).min(),
        };
        let mut side = Side::of(head, since.unwrap_or_default(), &said);
        side.told_by = said
            .iter()
            .filter(|status| side.managers.contains(&status.manager))
            .max_by_key(|status| (status.manager.as_str() == side.holder, status.at.revision))
            .and_then(|status| managers.iter().find(|(host, _)| *host == status.manager))
            .map(|(_, endpoint)| endpoint.clone());
        side.fetch(console).await?;
        sides.push(side);
    }
    Ok(sides)
}

impl Side {
    fn of(head: &GrantReport, since: u64, said: &[StatusReport]) -> Self {
        let (lineage, epoch) = (head.lineage, head.epoch);
        let going = || said.iter().filter(|s| (s.at.lineage, s.at.epoch) == (lineage, epoch));
        Self {
            lineage,
            epoch,
            holder: head.holder.clone(),
            at: head.at.clone(),
            since,
            revision: going().map(|status| status.at.revision).max(),
            managers: going().map(|status| status.manager.clone()).collect(),
            agents: going().map(|status| status.agents_connected).sum(),
            edits: None,
            more: false,
            told_by: None,
        }
    }

    /// Gets the edits from whoever knows them best.
    async fn fetch(&mut self, console: &Console) -> Result<(), Problem> {
        let Some(endpoint) = self.told_by.clone() else { return Ok(()) };
        let query = Query::History { since: Some(self.since), limit: Some(MAX_EDITS), follow: false };
        let host = self.managers.first().cloned();
        let at: Vec<_> = host.map(|host| (host, endpoint)).into_iter().collect();
        let told = managers::ask_each::<HistoryReport>(console, &at, query).await?;
        let Some(Ok(parts)) = told.into_iter().next().map(|answered| answered.answer) else { return Ok(()) };
        let edits = whole_edits(parts);
        self.more = edits.len() as u64 >= MAX_EDITS;
        self.edits = Some(edits.into_iter().filter(|edit| edit.actor.kind != "manager").collect());
        Ok(())
    }

    /// What it holds, and how to see and choose it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let (bold, dim) = (style::BOLD, style::DIM);
        vec![
            format!("{bold}{}{bold:#}  {dim}of {} since {}{dim:#}", self.lineage, self.holder, self.at),
            format!("  {}{}", self.count(), self.to_see()),
            format!("  {}", self.who()),
            format!(
                "  what is given up where it is chosen: echelon lineage choose {} --reason TEXT --dry-run",
                self.lineage
            ),
        ]
    }

    /// What is lost with it, each edit with what it changed.
    pub(crate) fn loss(&self) -> Vec<String> {
        let mut lines = vec![format!("{}; {}", self.count(), self.who())];
        let edits = self.edits.as_deref().unwrap_or_default();
        for edit in edits.iter().take(SHOWN) {
            lines.push(format!("  {}", edit_head(edit)));
            lines.extend(edit.changed.iter().map(|changed| format!("    {}", line(changed))));
        }
        if self.more || edits.len() > SHOWN {
            lines.push(format!("  … and more{}", self.to_see()));
        }
        lines
    }

    fn count(&self) -> String {
        let (bad, since) = (style::BAD, self.since);
        match &self.edits {
            None => format!("{bad}not known{bad:#} what was edited under it after revision {since}"),
            Some(edits) if edits.is_empty() => format!("no edits after revision {since}"),
            Some(edits) => {
                let more = if self.more { " or more" } else { "" };
                let noun = if edits.len() == 1 { "edit" } else { "edits" };
                format!("{bad}{}{more} {noun}{bad:#} after revision {since}", edits.len())
            }
        }
    }

    fn to_see(&self) -> String {
        let any = self.edits.as_ref().is_some_and(|edits| !edits.is_empty());
        let at = self.told_by.as_ref().filter(|_| any);
        at.map_or_else(String::new, |at| {
            format!(": echelon history --since {} --manager {}", self.since, shell_word(&at.to_string()))
        })
    }

    fn who(&self) -> String {
        let names = self.managers.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
        let agents = match self.agents {
            1 => "1 agent".to_owned(),
            count => format!("{count} agents"),
        };
        match self.managers.len() {
            0 => "no manager that goes by it was reached".to_owned(),
            1 => format!("{names} goes by it, with {agents}"),
            _ => format!("{names} go by it, with {agents}"),
        }
    }
}

#[cfg(test)]
#[path = "sides_tests.rs"]
mod tests;
