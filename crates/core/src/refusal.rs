//! Why an edit is refused. Whatever the reason, nothing of the change set was carried out.

use crate::endpoint::Endpoint;
use crate::hierarchy::TreeError;
use crate::id::{HostId, RequestId, TokenId};
use crate::limits::{MAX_CHANGES, MAX_PACKAGES_PER_HOST, MAX_REGISTRY_MANAGERS, MAX_TOKENS};
use crate::message::{Failure, FailureClass, Retry};
use crate::name::{DomainPath, HostName, ManagerType};
use crate::package::NumberError;

/// Why a change set is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No domain at this path.
    #[error("there is no domain {path}")]
    UnknownDomain {
        /// The path.
        path: DomainPath,
    },
    /// No host of this name.
    #[error("there is no host {host}")]
    UnknownHost {
        /// The name.
        host: HostName,
    },
    /// The host has no package of this type.
    #[error("host {host} has no package of type {ty}")]
    UnknownPackage {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// No token with this id.
    #[error("there is no token {id}")]
    UnknownToken {
        /// The id.
        id: TokenId,
    },
    /// The domain is there already.
    #[error("domain {path} exists already")]
    DomainExists {
        /// Its path.
        path: DomainPath,
    },
    /// The name is taken.
    #[error("host {host} exists already, in {domain}")]
    HostExists {
        /// The name.
        host: HostName,
        /// Where it is.
        domain: DomainPath,
    },
    /// The id is or was another host's.
    #[error("host id {id} has been used before")]
    HostIdUsed {
        /// The id.
        id: HostId,
    },
    /// The host has a package of this type.
    #[error("host {host} has a package of type {ty} already")]
    PackageExists {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// A token with this id exists.
    #[error("token {id} exists already")]
    TokenExists {
        /// The id.
        id: TokenId,
    },
    /// The tree forbids it.
    #[error("domain {path} cannot be put there: {cause}")]
    Tree {
        /// The domain.
        path: DomainPath,
        /// Why.
        cause: TreeError,
    },
    /// Hosts are in the domain or below it.
    #[error("domain {path} still holds {hosts} host(s), such as {example}")]
    DomainNotEmpty {
        /// The domain.
        path: DomainPath,
        /// How many.
        hosts: usize,
        /// One of them.
        example: HostName,
    },
    /// The domain has subdomains.
    #[error("domain {path} has {subdomains} subdomain(s)")]
    DomainHasSubdomains {
        /// The domain.
        path: DomainPath,
        /// How many, at any depth.
        subdomains: usize,
    },
    /// The host has packages.
    #[error("host {host} still has packages: {}", list(types))]
    HostHasPackages {
        /// The host.
        host: HostName,
        /// Their types.
        types: Vec<ManagerType>,
    },
    /// The edit touches a package of type `registry`.
    #[error("host {host}: packages of type registry come and go with the registry managers themselves")]
    RegistryPackage {
        /// The host.
        host: HostName,
    },
    /// No host with this id.
    #[error("no host with the id {id} is enrolled")]
    NotEnrolled {
        /// The id.
        id: HostId,
    },
    /// The host's identity does not allow it to announce this type.
    #[error("host {host} may not announce packages of type {ty}")]
    TypeNotAllowed {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// The host has announced something newer of this package.
    #[error("host {host} has announced something newer of {ty} already")]
    Superseded {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// The type `registry` can't be announced by hosts.
    #[error("no host may announce the type registry by itself")]
    RegistryType,
    /// The primary of a type that has backups needs a successor.
    #[error("{ty} on {host} is the primary of its type and others are its backups, such as {backup}")]
    PrimaryHasBackups {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
        /// One that could follow.
        backup: HostName,
    },
    /// The successor is no backup.
    #[error("{ty} on {host} is no backup that could become primary")]
    NoBackup {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// A successor was named for a package that is not primary.
    #[error("{ty} on {host} is not the primary of its type, so nobody succeeds it")]
    NotPrimary {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
    },
    /// The role of registry managers is no role of a type.
    #[error("which registry manager is the primary is not changed by an edit")]
    RegistryRole {
        /// The host that was to be promoted.
        host: HostName,
    },
    /// The one host is primary of nothing of which the other has a backup.
    #[error("host {from} is primary of no type of which {host} has a backup")]
    NothingToPromote {
        /// Who was to be promoted.
        host: HostName,
        /// In whose place.
        from: HostName,
    },
    /// No manager of these types would serve any more.
    #[error("no manager of type {} would serve any more", list(types))]
    LastManager {
        /// The types.
        types: Vec<ManagerType>,
    },
    /// Less than half of the managers of ten minutes ago would serve.
    #[error("only {left} managers would serve, and {before} did ten minutes ago")]
    TooFewManagers {
        /// How many would.
        left: u64,
        /// How many did.
        before: u64,
    },
    /// The registry has moved on.
    #[error("the registry is at revision {actual}, not at {expected}")]
    RevisionMoved {
        /// What the sender took it to be at.
        expected: u64,
        /// What it is at.
        actual: u64,
    },
    /// The request id belongs to another edit.
    #[error("request id {id} belongs to another edit, committed as revision {revision}")]
    RequestReused {
        /// The id.
        id: RequestId,
        /// Where the other edit was committed.
        revision: u64,
    },
    /// The request id is no UUIDv7.
    #[error("request id {id} does not tell when it was made: it is no UUIDv7")]
    RequestNotTimed {
        /// The id.
        id: RequestId,
    },
    /// The request id is older than those that are remembered.
    #[error("request id {id} is older than 7 days: whether it was carried out is no longer known")]
    RequestTooOld {
        /// The id.
        id: RequestId,
    },
    /// The request id is from the future.
    #[error("request id {id} was made over an hour in the future by this manager's clock")]
    RequestFromFuture {
        /// The id.
        id: RequestId,
    },
    /// No changes.
    #[error("the edit has no changes")]
    Empty,
    /// Too many changes.
    #[error("the edit has {changes} changes: at most {MAX_CHANGES} go into one")]
    TooManyChanges {
        /// How many.
        changes: usize,
    },
    /// A host would have too many packages.
    #[error("host {host} has {MAX_PACKAGES_PER_HOST} packages already")]
    TooManyPackages {
        /// The host.
        host: HostName,
    },
    /// Too many tokens.
    #[error("there are {MAX_TOKENS} join tokens already")]
    TooManyTokens,
    /// No registry manager on the host.
    #[error("host {host} runs no registry manager")]
    NoRegistryManager {
        /// The host.
        host: HostName,
    },
    /// The primary registry manager can't be removed.
    #[error("the registry manager on {host} is the primary one")]
    ManagerIsPrimary {
        /// Its host.
        host: HostName,
        /// Another manager's host, which could be promoted.
        standby: Option<HostName>,
    },
    /// The manager that is to be replaced counts for commits.
    #[error("the registry manager on {host} counts for commits, so that another cannot take its place")]
    ManagerCounts {
        /// Its host.
        host: HostName,
    },
    /// Nobody said that losing edits is acceptable.
    #[error("with min_sync=0 an edit is committed when it is on the primary alone, and is lost with it")]
    LossNotAccepted,
    /// The key of an issuer that was another's, or has left.
    #[error("the key of the new issuer has been used before")]
    IssuerUsed,
    /// A registry manager is there already.
    #[error("the registry manager on {host} is at {endpoint} already")]
    EndpointTaken {
        /// Its host.
        host: HostName,
        /// Where.
        endpoint: Endpoint,
    },
    /// A change of registry managers together with others.
    #[error("a change of registry managers is an edit of its own, and this one has other changes too")]
    ManagersApart,
    /// Too many registry managers.
    #[error("there are {MAX_REGISTRY_MANAGERS} registry managers already")]
    TooManyRegistryManagers,
    /// `replace` without a host name.
    #[error("a token that replaces an enrolment must name the host")]
    ReplaceNeedsHost,
    /// A number out of range.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The host is in another domain.
    #[error("host {host} is in {domain} already and keeps its domain when it enrols")]
    HostElsewhere {
        /// The host.
        host: HostName,
        /// Where it is.
        domain: DomainPath,
    },
    /// The token does not allow this enrolment.
    #[error("the join token does not allow this enrolment")]
    Enrol(#[from] EnrolRefusal),
    /// The index of the tree and the edit disagree, which no edit can bring about.
    #[error("internal fault in the hierarchy: {0}")]
    Fault(#[from] TreeError),
}

/// Why a join token is refused. For the manager's own log: the host gets one answer for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnrolRefusal {
    /// No such token, or a wrong secret.
    #[error("unknown token or wrong secret")]
    UnknownToken,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// No use left.
    #[error("the token is used up")]
    UsedUp,
    /// The token is for another host.
    #[error("the token is for another host")]
    WrongHost,
    /// The token is for another part of the tree.
    #[error("the host is outside the token's domain")]
    WrongDomain,
    /// The token is for no agent.
    #[error("the token is for another access level")]
    WrongAccess,
    /// The host is enrolled, and the token does not replace enrolments.
    #[error("the host is enrolled already")]
    AlreadyEnrolled,
}

fn list(types: &[ManagerType]) -> String {
    types.iter().map(ManagerType::as_str).collect::<Vec<_>>().join(", ")
}

impl Refusal {
    /// A stable name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnknownDomain { .. } => "unknown-domain",
            Self::UnknownHost { .. } => "unknown-host",
            Self::UnknownPackage { .. } => "unknown-package",
            Self::UnknownToken { .. } => "unknown-token",
            Self::DomainExists { .. } => "domain-exists",
            Self::HostExists { .. } => "host-exists",
            Self::HostIdUsed { .. } => "host-id-used",
            Self::PackageExists { .. } => "package-exists",
            Self::TokenExists { .. } => "token-exists",
            Self::Tree { cause, .. } => match cause {
                TreeError::Cycle => "domain-cycle",
                TreeError::Root => "domain-is-root",
                TreeError::NameTaken => "domain-exists",
                TreeError::TooDeep(_) => "domain-too-deep",
                TreeError::NotEmpty => "domain-has-subdomains",
                TreeError::Unknown(_) => "unknown-domain",
            },
            Self::DomainNotEmpty { .. } => "domain-not-empty",
            Self::DomainHasSubdomains { .. } => "domain-has-subdomains",
            Self::HostHasPackages { .. } => "host-has-packages",
            Self::RegistryPackage { .. } => "registry-package",
            Self::NotEnrolled { .. } => "not-enrolled",
            Self::TypeNotAllowed { .. } => "type-not-allowed",
            Self::Superseded { .. } => "superseded",
            Self::RegistryType => "registry-type",
            Self::PrimaryHasBackups { .. } => "primary-has-backups",
            Self::NoBackup { .. } => "no-backup",
            Self::NotPrimary { .. } => "not-primary",
            Self::RegistryRole { .. } => "registry-role",
            Self::NothingToPromote { .. } => "nothing-to-promote",
            Self::LastManager { .. } => "last-manager",
            Self::TooFewManagers { .. } => "too-few-managers",
            Self::RevisionMoved { .. } => "revision-moved",
            Self::RequestReused { .. } => "request-reused",
            Self::RequestNotTimed { .. } => "request-not-timed",
            Self::RequestTooOld { .. } => "request-too-old",
            Self::RequestFromFuture { .. } => "request-from-future",
            Self::Empty => "no-changes",
            Self::TooManyChanges { .. } => "too-many-changes",
            Self::TooManyPackages { .. } => "too-many-packages",
            Self::TooManyTokens => "too-many-tokens",
            Self::NoRegistryManager { .. } => "no-registry-manager",
            Self::ManagerIsPrimary { .. } => "manager-is-primary",
            Self::ManagerCounts { .. } => "manager-counts",
            Self::LossNotAccepted => "loss-not-accepted",
            Self::IssuerUsed => "issuer-used",
            Self::EndpointTaken { .. } => "endpoint-taken",
            Self::ManagersApart => "managers-apart",
            Self::TooManyRegistryManagers => "too-many-registry-managers",
            Self::ReplaceNeedsHost => "replace-needs-host",
            Self::Number(_) => "out-of-range",
            Self::HostElsewhere { .. } => "host-elsewhere",
            Self::Enrol(_) => "token-refused",
            Self::Fault(_) => "internal",
        }
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::DomainExists { .. }
            | Self::HostExists { .. }
            | Self::HostIdUsed { .. }
            | Self::PackageExists { .. }
            | Self::TokenExists { .. }
            | Self::Tree { .. }
            | Self::DomainNotEmpty { .. }
            | Self::DomainHasSubdomains { .. }
            | Self::HostHasPackages { .. }
            | Self::RegistryPackage { .. }
            | Self::PrimaryHasBackups { .. }
            | Self::NoBackup { .. }
            | Self::NotPrimary { .. }
            | Self::RegistryRole { .. }
            | Self::NothingToPromote { .. }
            | Self::LastManager { .. }
            | Self::TooFewManagers { .. }
            | Self::RevisionMoved { .. }
            | Self::RequestReused { .. }
            | Self::Superseded { .. }
            | Self::TooManyPackages { .. }
            | Self::TooManyTokens
            | Self::NoRegistryManager { .. }
            | Self::ManagerIsPrimary { .. }
            | Self::ManagerCounts { .. }
            | Self::LossNotAccepted
            | Self::TooManyRegistryManagers
            | Self::EndpointTaken { .. }
            | Self::HostElsewhere { .. } => FailureClass::Forbidden,
            Self::NotEnrolled { .. } | Self::TypeNotAllowed { .. } | Self::Enrol(_) => {
                FailureClass::NotAllowed
            }
            _ => FailureClass::Failed,
        }
    }

    /// What to do about it.
    fn remedy(&self) -> String {
        match self {
            Self::UnknownDomain { path } => format!("echelon domain add {path}, or look it up with: echelon tree"),
            Self::UnknownHost { host } => format!("look it up with: echelon tree; or add it: echelon host add {host} --domain PATH"),
            Self::UnknownPackage { host, .. } => format!("see what it has: echelon host show {host}"),
            Self::UnknownToken { .. } => "see which there are: echelon token list".into(),
            Self::HostExists { host, .. } => format!("choose another name, or move it: echelon host move {host} --domain PATH"),
            Self::PackageExists { host, ty } => format!("change it with a topology file (echelon apply), or remove it: echelon package remove {host} {ty}"),
            Self::Tree { cause: TreeError::Cycle, .. } => "choose a parent outside the domain".into(),
            Self::DomainNotEmpty { example, .. } => format!("move or remove its hosts first: echelon host move {example} --domain PATH"),
            Self::DomainHasSubdomains { path, .. } => format!("echelon domain remove {path} --recursive"),
            Self::HostHasPackages { host, .. } => format!("echelon host remove {host} --with-packages"),
            Self::PrimaryHasBackups { host, ty, backup } => format!("echelon package remove {host} {ty} --successor {backup}"),
            Self::NoBackup { ty, .. } => format!("choose one of: echelon package list --type {ty}"),
            Self::NotPrimary { .. } => "leave out --successor".into(),
            Self::RegistryRole { host } => format!("to make the registry manager on {host} the primary: echelon promote {host}"),
            Self::NothingToPromote { host, from } => format!("see what they have: echelon host show {from}; echelon host show {host}"),
            Self::LastManager { .. } | Self::TooFewManagers { .. } => {
                "if that is meant, repeat with --allow-shrink; else leave more managers in service".into()
            }
            Self::RevisionMoved { actual, .. } => format!("look at what changed, then repeat with --if-revision {actual}"),
            Self::RequestReused { .. } => "leave out --request-id, or give a new one".into(),
            Self::RequestNotTimed { .. } | Self::RequestTooOld { .. } => "look at the registry, then repeat without --request-id".into(),
            Self::RequestFromFuture { .. } => "set the clocks of both machines".into(),
            Self::TypeNotAllowed { host, ty } => format!("enrol the host with a token that allows the type: echelon token create --host {host} --replace --allow-type {ty}; or record the package: echelon package add {host} {ty}"),
            Self::TooManyTokens => "revoke some: echelon token list".into(),
            Self::RegistryPackage { host } => format!("echelon manager remove {host}; a new one: registry-manager join"),
            Self::NoRegistryManager { .. } => "see which there are: echelon manager list".into(),
            Self::ManagerIsPrimary { standby: Some(standby), .. } => format!("make another one primary first: echelon promote {standby}"),
            Self::ManagerIsPrimary { standby: None, .. } => "add another one first (registry-manager join), and make it primary".into(),
            Self::ManagerCounts { host } => format!("take it out first: echelon manager remove {host}"),
            Self::LossNotAccepted => "if that is meant, repeat with --accept-loss".into(),
            Self::ManagersApart => "send it alone".into(),
            Self::IssuerUsed => "begin with an empty state directory".into(),
            Self::EndpointTaken { host, .. } => format!(
                "give another address with --listen or --advertise; one that is gone for good is taken out first: echelon manager remove {host}"
            ),
            Self::TooManyRegistryManagers => "take one out first: echelon manager list".into(),
            Self::ReplaceNeedsHost => "add --host NAME".into(),
            Self::HostElsewhere { host, domain } => format!("leave out --domain, or say --domain {domain}; to move it: echelon host move {host} --domain PATH"),
            Self::Enrol(_) => "make a new one: echelon token create [--host NAME [--replace]]; the manager's log says what was wrong with this one".into(),
            _ => String::new(),
        }
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        Self {
            error: refusal.name().into(),
            class: refusal.class(),
            message: refusal.to_string(),
            place: String::new(),
            remedy: refusal.remedy(),
            retry: Retry::Pointless,
        }
    }
}
