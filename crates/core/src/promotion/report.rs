//! The documents of promotions. The shapes of the JSON are fixed: fields are added, never renamed.

use crate::change::Change;
use crate::describe::Changed;
use crate::grant::{Basis, Grant, Grantor, SyncRule};
use crate::id::{Lineage, RequestId};
use crate::message::FailureClass;
use crate::name::{HostName, Text};
use crate::names::Names;
use crate::report::{ActorReport, At, CandidateState};
use serde::{Deserialize, Serialize};

/// How the primary changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The old primary hands over.
    Planned,
    /// The old one is dead.
    Forced,
    /// Of two lineages one is chosen.
    Choice,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Planned => "planned",
            Self::Forced => "forced",
            Self::Choice => "choice",
        })
    }
}

/// What would happen, and what that rests on, as one manager sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// Which way.
    pub way: Way,
    /// The framework: what an admin types to confirm.
    pub framework: String,
    /// The host of the manager that says this.
    pub manager: HostName,
    /// The host of the manager that would be the primary.
    pub to: HostName,
    /// Under which name the promotion is asked for.
    pub request_id: RequestId,
    /// The primary so far.
    pub primary: PrimaryReport,
    /// Where all managers of the registry stand, by name.
    pub managers: Vec<StandingReport>,
    /// Which standbys count, and how many of them were heard.
    pub sync: SyncReport,
    /// What agents say.
    pub agents: AgentsReport,
    /// What would be lost.
    pub loss: LossReport,
    /// What would be granted.
    pub grant: Option<GrantReport>,
    /// Of a choice: the grants of the other lineages, which are given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rivals: Vec<GrantReport>,
    /// Why it would be refused; none where it would not.
    pub refused: Option<RefusedReport>,
}

/// The primary, as a manager and its agents see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PrimaryReport {
    /// Its host.
    pub host: String,
    /// Whether it answers this manager now.
    pub answers: bool,
    /// How long ago it was heard; none where it never was since this manager's start.
    pub heard_ms: Option<u64>,
}

/// Where one manager stands, as another one knows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StandingReport {
    /// Its host.
    pub host: String,
    /// Whether it counts for commits.
    pub counts: bool,
    /// Whether it was heard just now.
    pub heard: bool,
    /// The end of its journal, as it said last; none where it never did.
    pub position: Option<At>,
    /// The newest revision that it knows to be committed.
    pub committed: Option<u64>,
    /// How many edits it lacks of the newest that any manager is known to have.
    pub lag_edits: Option<u64>,
    /// Whether it is held by a promise to take no more edits from the primary.
    pub sealed: bool,
}

/// Which standbys count for commits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SyncReport {
    /// Their hosts.
    pub members: Vec<String>,
    /// On how many of them an edit has to be.
    pub min_sync: u32,
    /// How many have to be heard to know of every committed edit.
    pub needed: usize,
    /// How many were heard.
    pub heard: usize,
    /// Whether so many were heard that no committed edit is unknown.
    pub enough: bool,
}

/// What the agents that are connected here say.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentsReport {
    /// How many are connected.
    pub connected: usize,
    /// The newest position that any of them holds.
    pub newest: Option<At>,
    /// What the agent on the primary's host says of the primary.
    pub primary: CandidateState,
    /// Why, for people.
    pub primary_reason: String,
    /// How many use another registry manager than their home.
    pub not_home: usize,
}

/// What would be lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LossReport {
    /// The last revision that would stay.
    pub stays: u64,
    /// Revisions after it that somebody has seen, and that nobody who was heard has got. Never more than
    /// [`super::evidence::MAX_LISTED`].
    pub revisions: Vec<u64>,
    /// How many these are.
    pub count: u64,
    /// Members of the set that were not heard: they may hold more edits that nobody else knows of.
    pub unheard: Vec<String>,
    /// Whether committed edits may be lost.
    pub possible: bool,
}

/// Why a promotion is refused, as the console would say it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedReport {
    /// A stable name.
    pub error: String,
    /// Why.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Of which class it is, and so with which exit code the console ends.
    #[serde(default = "forbidden")]
    pub class: FailureClass,
}

/// The class of nearly all.
fn forbidden() -> FailureClass {
    FailureClass::Forbidden
}

/// A promotion that is done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PromotedReport {
    /// Which way.
    pub way: Way,
    /// Under which name it was asked for.
    pub request_id: RequestId,
    /// The host of the primary before; of the new one where that was it already.
    pub from: String,
    /// The host of the new primary.
    pub to: String,
    /// The last position before.
    pub before: At,
    /// The position under the new grant.
    pub after: At,
    /// How long no edit was accepted; none where that is not known, as of a primary that is dead.
    pub pause_ms: Option<u64>,
    /// Whether the new primary is known to accept edits.
    pub accepts: bool,
    /// Whether it was so before: nothing has changed.
    pub repeated: bool,
}

/// What a grant is to the manager that shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// The newest one: by it the primary writes.
    Newest,
    /// One before it.
    Past,
    /// Of a lineage in conflict with this manager's.
    Rival,
    /// It is not given yet.
    Proposed,
}

/// A grant, for people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GrantReport {
    /// Its lineage.
    pub lineage: Lineage,
    /// Its epoch.
    pub epoch: u64,
    /// The host of the manager that it makes the primary.
    pub holder: String,
    /// Why there is one.
    pub basis: Basis,
    /// When, RFC 3339, by the clock of whoever made it.
    pub at: String,
    /// Who is behind it.
    pub grantor: GrantorReport,
    /// Why, for people.
    pub reason: Option<Text>,
    /// The position that it builds on; none for the first.
    pub parent: Option<At>,
    /// The standbys that count under it, by host.
    pub members: Vec<String>,
    /// On how many of them an edit has to be.
    pub min_sync: u32,
    /// The lineages that it gives up.
    pub rejects: Vec<Lineage>,
    /// Whether its proof is kept.
    pub proved: bool,
    /// What it is to the manager that shows it.
    pub state: GrantState,
}

impl GrantReport {
    /// What this grant says, with hosts named by `names`.
    pub fn of(grant: &Grant, state: GrantState, names: &Names<'_>) -> Self {
        let mut rejects: Vec<_> = grant.rejects.iter().map(|id| id.lineage).collect();
        rejects.sort_unstable();
        rejects.dedup();
        Self {
            lineage: grant.id.lineage,
            epoch: grant.id.epoch,
            holder: names.host_name(grant.holder),
            basis: grant.basis,
            at: grant.at.to_string(),
            grantor: (&grant.grantor).into(),
            reason: grant.reason.clone(),
            parent: grant.parent.map(|parent| parent.mark.position.into()),
            members: members(&grant.sync, names),
            min_sync: grant.sync.min_sync,
            rejects,
            proved: grant.proof.is_some(),
            state,
        }
    }
}

/// The names of the standbys that count.
pub(super) fn members(rule: &SyncRule, names: &Names<'_>) -> Vec<String> {
    rule.members.iter().map(|host| names.host_name(*host)).collect()
}

/// Who is behind a grant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantorReport {
    /// `console` or `manager`.
    pub kind: String,
    /// The console's or the host's name.
    pub name: String,
}

impl From<&Grantor> for GrantorReport {
    fn from(grantor: &Grantor) -> Self {
        let (kind, name) = match grantor {
            Grantor::Console(name) => ("console", name.to_string()),
            Grantor::Manager(host) => ("manager", host.to_string()),
        };
        Self { kind: kind.into(), name }
    }
}

/// How a registry manager stands among the others, as one of them sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its host.
    pub host: String,
    /// `primary`, `standby`: by the newest grant that the manager knows of that says this.
    pub role: String,
    /// Since when another one is the primary, RFC 3339, where the registry still has this one in that place: it is
    /// fenced, and nobody has told the manager that says this what was committed since.
    #[serde(default)]
    pub fenced_since: Option<String>,
    /// For how long the manager that says this follows nobody, though it is not the primary: there is no link to that
    /// one. Of itself only.
    #[serde(default)]
    pub follows_nobody_ms: Option<u64>,
    /// Whether it counts for commits.
    pub counts: bool,
    /// Whether there is a link to it; of the manager that says this, true.
    pub connected: bool,
    /// How long ago it was heard; none where it never was since that manager's start.
    pub heard_ms: Option<u64>,
    /// The end of its journal.
    pub position: Option<At>,
    /// The newest revision that it knows to be committed.
    pub committed: Option<u64>,
    /// How many edits it lacks.
    pub lag_edits: Option<u64>,
    /// Since when it lacks any, as the primary sees it.
    pub lag_ms: Option<u64>,
    /// How many agents it serves; none where that is not known.
    pub agents: Option<u64>,
    /// Whether it has promised to take no more edits from the primary.
    pub sealed: bool,
    /// Whether its journal is being copied from another manager's.
    pub copying: bool,
    /// Whether its journal has lost what others have seen.
    pub rolled_back: bool,
}

/// An edit that was given up with the grant it was made under, kept by one manager.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LostEditReport {
    /// The host of the manager that keeps it.
    pub manager: HostName,
    /// Counts what that manager keeps, from 1.
    pub number: u64,
    /// The position it had.
    #[serde(flatten)]
    pub at_position: At,
    /// When, RFC 3339, by the clock of the manager that made it.
    pub at: String,
    /// Who asked for it.
    pub actor: ActorReport,
    /// Its request id.
    pub request_id: RequestId,
    /// The grant that does not build on it.
    pub lost_to: LostToReport,
    /// What it changed.
    pub changed: Vec<Changed>,
    /// The revision by which it was made once more; none where it was not.
    pub applied: Option<u64>,
    /// When an admin said that it is dealt with, RFC 3339; none where nobody has.
    #[serde(default)]
    pub dismissed: Option<String>,
    /// Which admin.
    #[serde(default)]
    pub dismissed_by: Option<String>,
    /// Under which request id it is made once more, so that that has no second effect.
    pub again: RequestId,
    /// The changes that make it once more. Only between manager and console.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What of it no edit makes once more, with the reasons.
    pub left_out: Vec<String>,
}

impl LostEditReport {
    /// Whether it was neither made once more nor dismissed.
    pub fn is_open(&self) -> bool {
        self.applied.is_none() && self.dismissed.is_none()
    }
}

/// What an admin has dismissed of the edits that a manager keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DismissedReport {
    /// The host of the manager that keeps them.
    pub manager: HostName,
    /// How many were not dismissed before.
    pub dismissed: u64,
}

/// The grant with which an edit was given up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LostToReport {
    /// Its lineage.
    pub lineage: Lineage,
    /// Its epoch.
    pub epoch: u64,
}
