//! What managers, agents and consoles say to each other.

use crate::access::Access;
use crate::alarm::Raised;
use crate::announce::Announcement;
use crate::backup::BackupPart;
use crate::board::Told;
use crate::change::ChangeSet;
use crate::digest::Digest;
use crate::endpoint::Endpoint;
use crate::grant::{Hash, Part};
use crate::id::{HostId, RequestId, TokenId};
use crate::member::MemberMessage;
use crate::name::{ConsoleName, DomainPath, FrameworkName, HostName, ManagerType, Text};
use crate::passphrase::Passphrase;
use crate::position::Position;
use crate::promotion::{Promoted, Promotion};
use crate::report::Outcome;
use crate::row::{Actor, Row, RowChange};
use crate::signed_mark::SignedMark;
use crate::view::{Place, ViewChange, ViewRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The protocol this build speaks. Raised when a message's meaning changes.
pub const PROTOCOL: u32 = 1;

/// The lowest protocol this build still speaks.
pub const PROTOCOL_LOWEST: u32 = 1;

/// What an agent says on its session.
#[derive(Clone, PartialEq, Debug)]
pub enum FromAgent {
    /// First of all.
    Hello(Hello),
    /// Every heartbeat interval, and at once when a package's health changes.
    Heartbeat(AgentHeartbeat),
    /// The agent's view differs from the manager's at the same view revision: it asks for a snapshot.
    Repair,
    /// The agent refuses the manager, and these grants are why: what the manager has not got of them. Its last word on
    /// the session.
    Grants(Part),
}

/// An agent's introduction.
#[derive(Clone, PartialEq, Debug)]
pub struct Hello {
    /// Lowest and highest protocol it speaks.
    pub protocol: (u32, u32),
    /// Its build, such as `0.1.0`.
    pub build: Text,
    /// Larger at every start of this agent.
    pub incarnation: u64,
    /// What its replica holds; none for an empty one.
    pub holds: Option<Holding>,
    /// The [`crate::grant::trail`] of the chain of grants that it keeps; nothing for a build that keeps none ever, which
    /// is told no grants.
    pub grants: Vec<Digest>,
    /// The newest signed mark that it keeps: all that a manager believes of what an agent says of the journal.
    pub signed: Option<SignedMark>,
    /// Whether it keeps signed marks; a build that keeps none ever is told none.
    pub keeps_signed: bool,
}

/// What a replica holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holding {
    /// The head it has heard of and is level with.
    pub position: Position,
    /// The revision of the last change to its view.
    pub view_revision: u64,
    /// The digest of its view.
    pub digest: Digest,
    /// The hash of its place.
    pub place: Digest,
}

/// What an agent reports.
#[derive(Clone, PartialEq, Debug)]
pub struct AgentHeartbeat {
    /// What its replica holds; none for an empty one.
    pub holds: Option<Holding>,
    /// Counts this incarnation's reports.
    pub sequence: u64,
    /// The health of this host's packages, all of them.
    pub packages: BTreeMap<ManagerType, Health>,
    /// For each type it has been asked for: what it uses, where that is not its home.
    pub using: Vec<Using>,
    /// The agent's own alarms that are up.
    pub alarms: Vec<Raised>,
    /// Whether `using` rests on what this host saw while it was cut off from everything, so that nobody should go by
    /// it: see [`crate::isolation::Standing::is_doubtful`].
    pub isolated: bool,
}

/// A route that is not at home.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Using {
    /// The type.
    pub ty: ManagerType,
    /// The manager in use; none where there is none.
    pub manager: Option<HostName>,
    /// Since how long.
    pub since: Duration,
    /// Why.
    pub cause: Text,
    /// The kind of choice; never `home`.
    pub outcome: Outcome,
}

/// What the host's own agent says of a package.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Not checked yet.
    Unchecked,
    /// The last check passed.
    Passing,
    /// Its host wants it to serve nothing.
    Withdrawn,
    /// As many checks failed in a row as its `misses` say.
    Failing {
        /// Whether the check demands an answer, so that a mere connect does not disprove it.
        demands_answer: bool,
        /// The failure, for people.
        reason: Text,
    },
}

/// What a manager says on an agent's session.
#[derive(Clone, PartialEq, Debug)]
pub enum ToAgent {
    /// First of all.
    Welcome(Welcome),
    /// The beginning of a whole view, which replaces the agent's when the last part has come.
    Snapshot(SnapshotPart),
    /// What changed in the view.
    Delta(Delta),
    /// The host's own place, where it differs from what the agent holds.
    Place(Place),
    /// Every heartbeat interval.
    Heartbeat(ManagerHeartbeat),
    /// Liveness of packages on hosts in the view. The first one of a session is complete.
    Liveness(Liveness),
    /// What the agent has not got of the manager's chain of grants: before anything of the view where it is not the
    /// agent's, and whenever it changes.
    Grants(Part),
    /// The newest mark that the manager shows, with a delta or a heartbeat that comes after it; once for each. Without
    /// certificates where they are those of the one before on this session.
    Signed(SignedMark),
}

/// A manager's answer to [`Hello`].
#[derive(Clone, PartialEq, Debug)]
pub struct Welcome {
    /// The protocol both speak from now on.
    pub protocol: u32,
    /// The manager's build.
    pub build: Text,
    /// The manager's host.
    pub manager: HostName,
    /// The interval at which it wants heartbeats.
    pub heartbeat: Duration,
}

/// Part of a whole view.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotPart {
    /// Whether it is the first part, which discards parts that came before.
    pub first: bool,
    /// Rows.
    pub rows: Vec<ViewRow>,
    /// With the last part: what the whole is.
    pub last: Option<ViewMark>,
    /// With the last part: see [`crate::row::Meta::emptied`].
    pub emptied: Option<u64>,
}

/// Identifies a state of the view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ViewMark {
    /// The head of the registry.
    pub position: Position,
    /// The revision of the last change to the view.
    pub view_revision: u64,
    /// The digest of the view.
    pub digest: Digest,
}

/// What one commit changed in the view.
#[derive(Clone, PartialEq, Debug)]
pub struct Delta {
    /// The view revision it applies to.
    pub from_view_revision: u64,
    /// What the view is afterwards.
    pub mark: ViewMark,
    /// The rows.
    pub changes: Vec<ViewChange>,
}

/// What a manager reports.
#[derive(Clone, PartialEq, Debug)]
pub struct ManagerHeartbeat {
    /// The view as the manager has it.
    pub mark: ViewMark,
    /// The hash of this agent's place, which is at least as new as the view.
    pub place: Digest,
    /// The journal's hash up to the position of `mark`; none while it is not known for that very position.
    pub journal: Option<Hash>,
}

/// What one registry manager tells another of agents: everything it knows when their link comes up, in parts, then
/// what changes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BoardNews {
    /// One entry for each agent.
    pub agents: Vec<Told>,
    /// The furthest mark that agents have proved to have been shown, where that is news.
    pub proved: Option<SignedMark>,
}

/// Liveness of packages.
#[derive(Clone, PartialEq, Debug)]
pub struct Liveness {
    /// Whether it names every agent that the manager has heard, as the first one of a session does.
    pub complete: bool,
    /// The entries.
    pub entries: Vec<LivenessEntry>,
}

/// What is known of one host's packages. The newest (incarnation, sequence) wins; incarnation 0 is of a
/// manager that has not heard the agent at all and can speak of its silence only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LivenessEntry {
    /// The host.
    pub host: HostId,
    /// The agent's incarnation.
    pub incarnation: u64,
    /// The agent's report.
    pub sequence: u64,
    /// Whether the agent has been silent for longer than three heartbeats.
    pub silent: bool,
    /// The packages' health.
    pub packages: BTreeMap<ManagerType, Health>,
}

/// What can be asked, once for each channel.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Becomes a session: the channel is the agent's from now on.
    Session,
    /// Enrols a host. The only request a peer without a certificate may make.
    Enrol(Enrol),
    /// Renews the peer's certificate for the key it holds.
    Renew {
        /// A certificate request (PKCS #10, DER) for the key of the present certificate.
        csr: Vec<u8>,
    },
    /// Edits the registry.
    Edit {
        /// The edit.
        set: ChangeSet,
        /// Only says what it would change.
        dry_run: bool,
    },
    /// Reads the rows of the registry that a viewer may see, and liveness.
    Read,
    /// Asks for one of the reports.
    Query(Query),
    /// Announces what the peer's own host says of a package. Only agents may.
    Announce(Announcement),
    /// A step of a change of the primary. Only admins may.
    Promotion(Promotion),
    /// Becomes a link: the channel is the two managers' from now on. Only managers may.
    Link(Greeting),
    /// Asks for a copy of the whole registry with its journal. Only managers may.
    Copy,
    /// Edits the registry for somebody else. Only managers may.
    Relayed(Relayed),
    /// The same, handed on by a manager that it is not for. Only managers may.
    PromotionFor {
        /// The admin who asks.
        console: ConsoleName,
        /// The step.
        step: Promotion,
    },
    /// Makes a registry manager of one that has asked another manager. Only managers may.
    JoinFor {
        /// What it asked for.
        wish: Join,
        /// From where, as that manager saw it.
        from: Endpoint,
    },
    /// Makes a registry manager. Beside [`Self::Enrol`] the only request a peer without a certificate may make.
    Join(Join),
    /// Takes the registry manager that asks out of the registry. Only managers may.
    Leave {
        /// Under which id that is an edit.
        request: RequestId,
    },
    /// Counts the edits that this manager keeps, and that were given up, as dealt with: those up to this number that
    /// are not yet. They stay where they are. Only admins may.
    DismissLost {
        /// The newest of which the admin knows.
        through: u64,
    },
    /// Asks for a backup: a copy of the registry's file, as it is at one moment, in an archive. Only admins may.
    Backup {
        /// Seals the manager's keys, which are part of it then.
        passphrase: Option<Passphrase>,
    },
}

/// What a peer without a certificate may ask for.
#[derive(Clone, PartialEq, Debug)]
pub enum Anonymous {
    /// See [`Request::Enrol`].
    Enrol(Enrol),
    /// See [`Request::Join`].
    Join(Join),
}

/// A manager's introduction to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// Lowest and highest protocol it speaks.
    pub protocol: (u32, u32),
    /// Its build, such as `0.1.0`.
    pub build: Text,
    /// The [`crate::grant::trail`] of the chain of grants that it goes by; nothing of a build that is told all of a chain
    /// each time.
    pub grants: Vec<Digest>,
}

/// What a manager tells another on the link between them.
#[derive(Clone, PartialEq, Debug)]
pub enum ManagerMessage {
    /// About the journal, and who may write it. Of a chain in it, the last part.
    Member(MemberMessage<Part>),
    /// About agents.
    Board(BoardNews),
    /// A part of a chain, before the message that has the last one.
    Grants(Part),
}

/// An edit that a standby hands on to the primary, which judges once more whether whoever asked may make it.
#[derive(Clone, PartialEq, Debug)]
pub struct Relayed {
    /// Who asked the standby.
    pub actor: Actor,
    /// From where, as the standby saw it.
    pub from: Option<Endpoint>,
    /// The digest of what was asked; see [`crate::edit::Context::content`].
    pub content: [u8; 32],
    /// The edit.
    pub set: ChangeSet,
    /// Only says what it would change.
    pub dry_run: bool,
}

/// Questions answered with documents of [`crate::report`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "kebab-case")]
pub enum Query {
    /// How the manager is: one [`crate::report::StatusReport`].
    Status,
    /// Who serves whom: a [`crate::report::RouteReport`] for each host.
    Route {
        /// The host; every host, by name, where there is none.
        host: Option<HostName>,
        /// The type.
        #[serde(rename = "type")]
        ty: ManagerType,
        /// Managers taken as down.
        down: Vec<crate::report::Down>,
        /// At most so many candidates each; all where there is none.
        candidates: Option<u32>,
    },
    /// The join tokens: a [`crate::report::TokenReport`] each.
    Tokens,
    /// The registry managers: a [`crate::report::ManagerReport`] each, the primary first.
    Managers,
    /// Committed edits, oldest first: [`crate::report::HistoryDocument`]s, of which one with `more` is continued by
    /// the next.
    History {
        /// Only edits after this revision.
        since: Option<u64>,
        /// At most so many, the newest of them.
        limit: Option<u64>,
        /// Goes on with edits as they are committed, for ever. Empty parts show that the manager is there.
        follow: bool,
    },
    /// What happens from now on, for ever: [`crate::event::EventReport`]s. Empty parts show that the manager is
    /// there.
    Watch,
    /// What is wrong at the moment: a [`crate::report::AlarmReport`] each.
    Alarms,
    /// What is known of agents: a [`crate::report::AgentReport`] each.
    Agents {
        /// Of this host; of every enrolled host, by name, where there is none.
        host: Option<HostName>,
    },
    /// What a host uses at the moment: one [`crate::report::RouteReport`].
    Actual {
        /// The host.
        host: HostName,
        /// The type.
        #[serde(rename = "type")]
        ty: ManagerType,
    },
    /// The grants since the registry was made, oldest first, then those in conflict with them: a
    /// [`crate::promotion::GrantReport`] each.
    Lineage,
    /// The edits that this manager keeps though they are no part of the registry: a
    /// [`crate::promotion::LostEditReport`] each.
    Lost,
}

/// A host's wish to enrol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrol {
    /// The id of its token.
    pub token: TokenId,
    /// The secret of its token.
    pub secret: [u8; 32],
    /// Under which id the enrolment is an edit.
    pub request: RequestId,
    /// The host's name.
    pub host: HostName,
    /// The domain it asks for.
    pub domain: Option<DomainPath>,
    /// A certificate request (PKCS #10, DER) for a key that the host made.
    pub csr: Vec<u8>,
}

/// A registry manager's wish to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// The id of its token.
    pub token: TokenId,
    /// The secret of its token.
    pub secret: [u8; 32],
    /// Under which id that is an edit.
    pub request: RequestId,
    /// The name of its host.
    pub host: HostName,
    /// The domain it asks for.
    pub domain: Option<DomainPath>,
    /// Where others reach it.
    pub endpoint: Endpoint,
    /// A certificate request (PKCS #10, DER) for the key of its identity.
    pub csr: Vec<u8>,
    /// The same for the key of its issuer.
    pub issuer_csr: Vec<u8>,
    /// Which build it is; nothing of one that does not say.
    pub greeting: Option<Greeting>,
}

/// An answer. A request has one, but for reads and queries, which have parts until `last`, and for backups, which have
/// an end.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// The request failed.
    Failed(Failure),
    /// The host is enrolled.
    Enrolled(Enrolled),
    /// The certificate is renewed: the chain in DER, leaf first, root last.
    Renewed(Vec<Vec<u8>>),
    /// The edit is committed, or, with `dry_run`, would be.
    Edited(EditAnswer),
    /// Part of what was read.
    Rows(RowsPart),
    /// The channel is a link.
    Linked(Greeting),
    /// Part of a copy of the registry's file.
    Copied {
        /// The bytes.
        part: Vec<u8>,
        /// Whether these are the last.
        last: bool,
    },
    /// Part of a report: JSON documents, one each.
    Documents {
        /// The documents.
        documents: Vec<String>,
        /// Whether these are the last.
        last: bool,
    },
    /// What became of a step of a promotion.
    Promotion(Promoted),
    /// The manager may join.
    Joined(Joined),
    /// Part of a backup.
    Backup(BackupPart),
}

/// What a registry manager that joins needs to know. Its own certificate it makes with its issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Its issuer's certificates in DER: that of the issuer, root last.
    pub issuer: Vec<Vec<u8>>,
    /// The framework.
    pub framework: FrameworkName,
    /// The id of its host.
    pub host: HostId,
    /// The number of its enrolment.
    pub enrolment: u32,
    /// The domain its host is in.
    pub domain: DomainPath,
    /// Whether no copy of the root key was ever exported: with its host lost, nobody could join any more.
    pub root_unexported: bool,
}

/// What a newly enrolled host needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolled {
    /// The certificates in DER, leaf first, root last.
    pub chain: Vec<Vec<u8>>,
    /// The framework.
    pub framework: FrameworkName,
    /// The host's id.
    pub host: HostId,
    /// The number of this enrolment.
    pub enrolment: u32,
    /// Its access level.
    pub access: Access,
    /// The domain it is in.
    pub domain: DomainPath,
}

/// What an edit did.
#[derive(Clone, PartialEq, Debug)]
pub struct EditAnswer {
    /// Where the registry is after it.
    pub position: Position,
    /// Its request id.
    pub request: RequestId,
    /// The rows it changed.
    pub rows: Vec<RowChange>,
    /// Whether this was a repetition of an edit committed earlier.
    pub repeated: bool,
}

/// Part of what [`Request::Read`] gives.
#[derive(Clone, PartialEq, Debug)]
pub struct RowsPart {
    /// The committed state these rows belong to.
    pub position: Position,
    /// Rows of the kinds Meta, Domain, Host, Package and Policy, in the order of their keys.
    pub rows: Vec<Row>,
    /// Liveness, with the last part.
    pub liveness: Vec<LivenessEntry>,
    /// Whether this is the last part.
    pub last: bool,
}

/// The name of the failure that says: this certificate serves for its renewal only.
pub const RENEW_FIRST: &str = "renew-first";

/// How a request failed. See the exit codes of the console.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// A stable name, such as `unknown-host`.
    pub error: String,
    /// The class of the failure.
    pub class: FailureClass,
    /// What was wrong, and which state is left behind.
    pub message: String,
    /// Where: the object or the place in a file; may be empty.
    #[serde(rename = "where")]
    pub place: String,
    /// What to do; may be empty.
    pub remedy: String,
    /// Whether to try again.
    pub retry: Retry,
}

/// Classes of failures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// Unknown name, bad value, internal fault.
    Failed,
    /// Valid, but the registry's state forbids it.
    Forbidden,
    /// No manager, or no primary, can be reached.
    Unreachable,
    /// The identity may not do this.
    NotAllowed,
    /// Perhaps done, perhaps not.
    Unknown,
}

/// Whether a failed request may be repeated as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// It may help and cannot harm.
    Safe,
    /// It may have effects twice.
    Unsafe,
    /// It would fail again.
    Pointless,
}
