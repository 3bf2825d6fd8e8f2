//! What is shown to people and programs. The shapes of the JSON are fixed: fields are added, never
//! renamed.

use crate::access::Access;
use crate::alarm::{Notice, Raised, Severity};
use crate::describe::Changed;
use crate::endpoint::Endpoint;
use crate::fencing::Fencing;
use crate::id::{Lineage, RequestId, TokenId};
use crate::message::Using;
use crate::name::{
    AlarmName, DomainPath, FrameworkName, HostName, ManagerType, NameError, NameProblem, Text,
};
use crate::package::Role;
use crate::promotion::MemberReport;
use crate::row::{Actor, Commit};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::Duration;

/// How a host finds its manager of one type.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RouteReport<C = Vec<CandidateReport>> {
    /// The host that asks.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// The registry state; none of these where the answer comes from a file.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// Whether holds and jitters count.
    pub basis: Basis,
    /// Age of the newest word from a registry manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The kind of answer.
    pub outcome: Outcome,
    /// Why it is not home; empty where it is.
    pub cause: String,
    /// Since how long; live answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// The first candidate that is neither withdrawn nor excluded.
    pub home: Option<HostName>,
    /// Whether this host seems to be cut off from everything.
    pub isolated: bool,
    /// Who is used; none where nobody can be.
    pub chosen: Option<Chosen>,
    /// All managers of the type, in order.
    pub candidates: C,
    /// Whether a registry manager is connected; answers of an agent only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl<C> RouteReport<C> {
    /// The same report with these candidates.
    pub fn with_candidates<D>(self, candidates: D) -> RouteReport<D> {
        RouteReport {
            host: self.host,
            ty: self.ty,
            at: self.at,
            basis: self.basis,
            age_ms: self.age_ms,
            outcome: self.outcome,
            cause: self.cause,
            since_ms: self.since_ms,
            home: self.home,
            isolated: self.isolated,
            chosen: self.chosen,
            candidates,
            source: self.source,
        }
    }
}

/// Which state of the registry an answer is from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct At {
    /// See [`crate::position::Position`].
    pub lineage: Lineage,
    /// See [`crate::position::Position`].
    pub epoch: u64,
    /// See [`crate::position::Position`].
    pub revision: u64,
}

impl From<crate::position::Position> for At {
    fn from(p: crate::position::Position) -> Self {
        Self { lineage: p.lineage, epoch: p.epoch, revision: p.revision }
    }
}

/// How an answer came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// What the host does now.
    Live,
    /// What it does once all holds have elapsed.
    Settled,
}

/// Where an agent's answer comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A registry manager is connected.
    Manager,
    /// None is: the replica answers.
    Replica,
}

/// The kind of a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The first candidate that configuration allows.
    Home,
    /// A usable one further away.
    Failover,
    /// Only suspect or failed ones are left.
    LastResort,
    /// There is nothing to try.
    Unserved,
}

/// Who is used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chosen {
    /// The manager's host.
    pub host: HostName,
    /// Where it listens.
    pub endpoint: Endpoint,
}

/// One manager in the order of a host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CandidateReport {
    /// 1 for the nearest; none for an excluded one.
    pub rank: Option<u32>,
    /// Its host.
    pub host: HostName,
    /// Its host's domain.
    pub domain: DomainPath,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Levels up to the common ancestor.
    pub up: u32,
    /// Levels down from there.
    pub down: u32,
    /// Whether it is on the asking host itself.
    pub same_host: bool,
    /// Its priority.
    pub priority: u32,
    /// Its weight.
    pub weight: u32,
    /// Its role.
    pub role: Role,
    /// Its state.
    pub state: CandidateState,
    /// Place and state in words.
    pub reason: String,
}

/// What is known of a candidate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CandidateState {
    /// Reached or reported healthy, nothing against it.
    Live,
    /// Nothing heard yet.
    Unknown,
    /// Overtaken, or its host's agent is silent: used after all usable ones.
    Suspect,
    /// Failed: used after all suspects.
    Down,
    /// The operator or its host wants it to serve nothing.
    Withdrawn,
    /// Outside the boundary of the asking host, or denied.
    Excluded,
}

impl CandidateState {
    /// Whether it may serve, well or not: neither side has withdrawn it, and it is not excluded.
    pub fn may_serve(self) -> bool {
        !matches!(self, Self::Withdrawn | Self::Excluded)
    }

    /// Whether nothing speaks against it.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Live | Self::Unknown)
    }

    /// Its name, as in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Unknown => "unknown",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Withdrawn => "withdrawn",
            Self::Excluded => "excluded",
        }
    }
}

/// A manager that a question takes as down: `HOST`, or `HOST:TYPE`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Down {
    /// The host.
    pub host: HostName,
    /// The type; every type where there is none.
    pub ty: Option<ManagerType>,
}

impl Down {
    /// Whether it speaks of this manager.
    pub fn covers(&self, host: &HostName, ty: &ManagerType) -> bool {
        self.host == *host && self.ty.as_ref().is_none_or(|t| t == ty)
    }
}

impl FromStr for Down {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        match value.split_once(':') {
            None => Ok(Self { host: value.parse()?, ty: None }),
            Some((host, ty)) => Ok(Self { host: host.parse()?, ty: Some(ty.parse()?) }),
        }
    }
}

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ty {
            None => self.host.fmt(f),
            Some(ty) => write!(f, "{}:{ty}", self.host),
        }
    }
}

impl TryFrom<String> for Down {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<Down> for String {
    fn from(value: Down) -> String {
        value.to_string()
    }
}

/// Most alarms that a status names: who sees more of them wants `alarm list`.
pub const MAX_STATUS_ALARMS: usize = 20;

/// How a registry manager is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// The framework.
    pub framework: FrameworkName,
    /// The manager's host.
    pub manager: HostName,
    /// `primary`, `standby`.
    pub role: String,
    /// The manager's build.
    pub version: String,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// The committed state.
    #[serde(flatten)]
    pub at: At,
    /// The newest state that others have seen and this manager has lost, because its state directory was set back: it
    /// takes no edits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<At>,
    /// The revision of the last change that agents see.
    pub view_revision: u64,
    /// The digest of the view, as agents know it.
    pub view_digest: String,
    /// How many domains, the root included.
    pub domains: u64,
    /// How many hosts.
    pub hosts: u64,
    /// How many packages.
    pub packages: u64,
    /// How many of them are managers.
    pub managers: u64,
    /// How many agents have a session here.
    pub agents_connected: u64,
    /// How many of those are level with the registry.
    pub agents_in_sync: u64,
    /// How many agents were heard and are silent now.
    pub agents_silent: u64,
    /// Whether too little time has passed since the start to judge silence.
    pub warming: bool,
    /// Whether so many agents fell silent at once that the manager doubts itself.
    pub self_doubt: bool,
    /// How many managers have failed checks.
    pub managers_failing: u64,
    /// How many hosts use a manager that is not their home.
    pub hosts_not_home: u64,
    /// The types of which no manager can be used.
    pub types_unserved: Vec<ManagerType>,
    /// How many alarms are up.
    pub alarms: u64,
    /// How bad the worst of them is; none where there is none.
    pub worst_alarm: Option<Severity>,
    /// The worst of them, at most [`MAX_STATUS_ALARMS`].
    #[serde(default)]
    pub alarm_list: Vec<AlarmReport>,
    /// Whether edits are taken; none of a manager of an earlier build.
    #[serde(default)]
    pub edits: Option<EditsReport>,
    /// How the registry managers stand, by name, as this one sees it.
    #[serde(default)]
    pub registry_managers: Vec<MemberReport>,
}

/// Whether edits are taken, as one manager knows, and on how many standbys each has to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EditsReport {
    /// Why none is taken; none where they are. A standby only knows whether the primary is there.
    pub refused: Option<String>,
    /// The primary's host.
    pub primary: String,
    /// How many standbys count.
    pub members: usize,
    /// On how many of them an edit is to be, as it was set.
    pub min_sync: u32,
    /// On how many of them it has to be: no more than there are.
    pub needed: usize,
    /// How many of them take edits now; none where a standby is asked, which does not know.
    pub connected: Option<usize>,
}

/// An alarm that is up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlarmReport {
    /// Its kind, such as `agent-silent`.
    pub name: AlarmName,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a host, `host:type`, a type, or the manager's host.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// Since how long.
    pub since_ms: u64,
}

impl AlarmReport {
    /// An alarm that a process has raised of itself.
    pub fn raised(raised: &Raised, subject: &str) -> Self {
        let Notice { name, severity, message, remedy } = &raised.notice;
        Self {
            name: name.clone(),
            severity: *severity,
            subject: subject.to_owned(),
            message: message.to_string(),
            remedy: remedy.to_string(),
            since_ms: millis(raised.since),
        }
    }
}

/// What a registry manager knows of one host's agent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentReport {
    /// The host.
    pub host: HostName,
    /// The rest of it.
    #[serde(flatten)]
    pub state: AgentState,
}

/// How an agent is. The default is that of a host without one.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct AgentState {
    /// Its enrolment; none where it was never enrolled, so that it has no agent.
    pub enrolment: Option<EnrolmentReport>,
    /// Whether it has a session with a registry manager.
    pub connected: bool,
    /// Whether it ought to be heard and has not been for too long.
    pub silent: bool,
    /// How long ago it was heard last; none where it never was since the manager's start.
    pub heard_ms: Option<u64>,
    /// Its build.
    pub build: Option<Text>,
    /// Whether it has a session and its replica is level with the registry.
    pub in_sync: bool,
    /// Where it is not: since how long its replica has not been known to be level.
    pub behind_ms: Option<u64>,
    /// The revision of its replica, as it said last.
    pub revision: Option<u64>,
    /// What it uses that is not its home.
    pub using: Vec<UsingReport>,
    /// The alarms it has raised of itself.
    pub alarms: Vec<AlarmReport>,
    /// Whether it was cut off from everything until now: `using` is what it said before.
    #[serde(default)]
    pub isolated: bool,
}

impl AgentState {
    /// Whether it ought to be heard, and has no session here or is silent.
    pub fn is_away(&self) -> bool {
        self.enrolment.is_some() && (self.silent || !self.connected)
    }

    /// Whether there is an agent whose replica has not been known to be level for longer than `limit`, or which
    /// has not been heard for as long, or never.
    pub fn is_stale(&self, limit: Duration) -> bool {
        let longer = |ms: Option<u64>| ms.is_some_and(|ms| Duration::from_millis(ms) > limit);
        self.enrolment.is_some()
            && (self.heard_ms.is_none() || longer(self.heard_ms) || longer(self.behind_ms))
    }
}

/// An enrolment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EnrolmentReport {
    /// Counts the enrolments of this host from 1.
    pub number: u32,
    /// What the identity may do.
    pub access: Access,
    /// The types that it may announce.
    pub allow_types: Vec<ManagerType>,
    /// When, RFC 3339.
    pub enrolled: String,
}

/// A route that is not at home.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UsingReport {
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// The manager in use; none where there is none.
    pub manager: Option<HostName>,
    /// The kind of choice.
    pub outcome: Outcome,
    /// Why.
    pub cause: String,
    /// Since how long.
    pub since_ms: u64,
}

impl UsingReport {
    /// What an agent said so long ago.
    pub fn said(using: &Using, ago: Duration) -> Self {
        Self {
            ty: using.ty.clone(),
            manager: using.manager.clone(),
            outcome: using.outcome,
            cause: using.cause.to_string(),
            since_ms: millis(using.since.saturating_add(ago)),
        }
    }
}

/// What a host's own package of a type is in the registry, as far as its agent knows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoleReport {
    /// The host.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Its role; none for inventory, and for what the host has announced and nobody has committed yet.
    pub role: Option<Role>,
    /// The number to show to what a primary writes to; a primary alone has one.
    pub fencing: Option<Fencing>,
    /// The registry state that says so.
    #[serde(flatten)]
    pub at: At,
    /// Age of the newest word from a registry manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Whether a registry manager is connected.
    pub source: Source,
}

impl RoleReport {
    /// Names what a role is, under which number: the same text for the same, also after a restart of the agent.
    pub fn tag(&self) -> String {
        let role = self.role.map_or_else(|| "none".to_owned(), |role| role.to_string());
        self.fencing.map_or_else(|| role.clone(), |fencing| format!("{role}-{fencing}"))
    }
}

/// Where the route of a host for one type has led, since its agent started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RouteHistory {
    /// The host.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// When the agent started, RFC 3339: what was before is forgotten.
    pub since: String,
    /// What happened, the newest last.
    pub history: Vec<RouteMove>,
}

/// That a route led to another manager from then on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RouteMove {
    /// When, RFC 3339, by the host's clock.
    pub at: String,
    /// Who was used before; none where nobody was.
    pub from: Option<HostName>,
    /// Who is used from then on; none where nobody can be.
    pub to: Option<HostName>,
    /// Where that one listens.
    pub endpoint: Option<Endpoint>,
    /// The kind of choice.
    pub outcome: Outcome,
    /// Why the route led elsewhere, as the names of [`crate::moves::Move`].
    pub cause: String,
    /// Why, for people.
    pub reason: String,
}

/// A committed edit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryReport {
    /// The state it made.
    #[serde(flatten)]
    pub at_position: At,
    /// When, RFC 3339, by the clock of the manager that committed it.
    pub at: String,
    /// Who asked for it.
    pub actor: ActorReport,
    /// From where; none where the manager asked by itself.
    pub from: Option<Endpoint>,
    /// Its request id.
    pub request_id: RequestId,
    /// Whether it left so few managers that it was refused, had its sender not said that this is meant.
    pub shrink_allowed: bool,
    /// What it changed.
    pub changed: Vec<Changed>,
    /// Whether the next document goes on with what this edit changed. Only between manager and console.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// What the history tells, one after the other.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HistoryDocument {
    /// Some of what was told does not count any more.
    GivenUp(GivenUpReport),
    /// An edit.
    Edit(Box<HistoryReport>),
}

/// Edits that were told and are none of the history any more: the newest grant does not build on them. What comes next
/// follows on the last one that stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenUpReport {
    /// The last revision that stays.
    pub given_up_after: u64,
    /// The lineage with which those after it were given up.
    pub lineage: Lineage,
    /// The epoch of the newest grant.
    pub epoch: u64,
}

impl std::fmt::Display for GivenUpReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { given_up_after, lineage, epoch } = self;
        write!(f, "revisions after {given_up_after} were given up with lineage {lineage}, epoch {epoch}")
    }
}

impl HistoryReport {
    /// A commit, without what it changed.
    pub fn of(commit: &Commit) -> Self {
        Self {
            at_position: commit.position.into(),
            at: commit.at.to_string(),
            actor: (&commit.actor).into(),
            from: commit.from.clone(),
            request_id: commit.request,
            shrink_allowed: commit.shrinks,
            changed: Vec::new(),
            more: false,
        }
    }
}

/// Who asked for an edit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActorReport {
    /// `console`, `agent`, `manager` or `token`.
    pub kind: String,
    /// The console's or the host's name, or the token's id.
    pub name: String,
}

impl From<&Actor> for ActorReport {
    fn from(actor: &Actor) -> Self {
        let (kind, name) = match actor {
            Actor::Console(name) => ("console", name.to_string()),
            Actor::Agent(host) => ("agent", host.to_string()),
            Actor::Manager(host) => ("manager", host.to_string()),
            Actor::Token(id) => ("token", id.to_string()),
        };
        Self { kind: kind.into(), name }
    }
}

impl std::fmt::Display for ActorReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Whole milliseconds, as ages are shown.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether an authenticated reader may use a join token, as far as can be told without its secret.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenReport {
    /// Its id.
    pub id: TokenId,
    /// What the enrolled identity may do.
    pub access: Access,
    /// The one host it enrols.
    pub host: Option<HostName>,
    /// The domain in or below which it enrols.
    pub domain: DomainPath,
    /// The types that the enrolled host may announce.
    pub allow_types: Vec<ManagerType>,
    /// Whether it may enrol an enrolled host again.
    pub replace: bool,
    /// When it stops working, RFC 3339.
    pub expires: String,
    /// How often it can still be used.
    pub uses_left: u32,
}

/// A registry manager, as `echelon manager list` shows it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ManagerReport {
    /// Its host.
    pub host: HostName,
    /// What it is.
    pub role: ManagerRole,
    /// Where others reach it; none for one that has left.
    pub endpoint: Option<Endpoint>,
    /// Whether it counts for commits: whether it is in the set S.
    pub counts: bool,
    /// `live` where it is linked to the manager that says this, `suspect` where it is not, `unknown` where it never was
    /// since that one's start; none for one that has left.
    pub state: Option<CandidateState>,
    /// When it was made or joined, RFC 3339; none for one that has left, or has not recorded itself yet.
    pub joined: Option<String>,
    /// What it signs, or has signed, certificates with, the newest first.
    pub issuers: Vec<IssuerReport>,
    /// How it stands among the others; none for one that has left.
    #[serde(default)]
    pub standing: Option<MemberReport>,
}

/// What a registry manager is to the registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagerRole {
    /// It accepts edits.
    Primary,
    /// It does not.
    Standby,
    /// It is gone, and its issuer serves for renewals for a while.
    Left,
}

impl std::fmt::Display for ManagerRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Left => "left",
        })
    }
}

/// What a registry manager signs with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct IssuerReport {
    /// Its name: BLAKE3 of its public key, in hexadecimal digits.
    #[serde(default)]
    pub id: String,
    /// When its certificate ends, RFC 3339.
    pub not_after: String,
    /// Until when it serves for renewals, and for nothing else, RFC 3339; none for one in force.
    pub renew_only: Option<String>,
    /// Its key is in wrong hands, and what it has signed is worth nothing.
    pub dropped: bool,
}

impl FromStr for CandidateState {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        const WORDS: &str = "live, unknown, suspect, down, withdrawn, excluded";
        serde::Deserialize::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(
            value,
        ))
        .map_err(|_| NameError::new("state", value, NameProblem::Choice(WORDS)))
    }
}

impl std::fmt::Display for CandidateState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::Unknown => "unknown",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Withdrawn => "withdrawn",
            Self::Excluded => "excluded",
        })
    }
}
