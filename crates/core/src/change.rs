//! What can be asked of the registry.

use crate::access::{Access, Token};
use crate::announce::HostWord;
use crate::check::Check;
use crate::endpoint::{Address, Endpoint};
use crate::grant::SyncRule;
use crate::id::{HostId, RequestId, TokenId};
use crate::issuer::IssuerId;
use crate::name::{DomainName, DomainPath, HostName, ManagerType, Text};
use crate::package::{Listens, Package};
use crate::policy::{PolicySettings, TypeSelector};
use crate::setting::Setting;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// One edit: all of it or nothing, one revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeSet {
    /// Its id. Sent again with the same content, it has no second effect and gets the same answer.
    pub request: RequestId,
    /// Refuse unless the registry is at exactly this revision.
    pub if_revision: Option<u64>,
    /// Carry it out though it leaves few managers; see [`crate::serving`].
    pub allow_shrink: bool,
    /// The changes, carried out in this order; at least one.
    pub changes: Vec<Change>,
}

/// One change. Objects are named as the operator knows them; an id is given only to what is new.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Adds a domain. Its parents must exist.
    AddDomain {
        /// Where.
        path: DomainPath,
    },
    /// Gives a domain another name in the same place.
    RenameDomain {
        /// Which; not the root.
        path: DomainPath,
        /// Its new name.
        name: DomainName,
    },
    /// Moves a domain with all that is in and below it.
    MoveDomain {
        /// Which; not the root.
        path: DomainPath,
        /// Under which domain; not itself nor below itself.
        parent: DomainPath,
    },
    /// Removes a domain in which no host is.
    RemoveDomain {
        /// Which; not the root.
        path: DomainPath,
        /// Its subdomains too; no host may be in any of them.
        recursive: bool,
    },
    /// Adds a host.
    AddHost {
        /// Its id, made by the sender; never used before.
        id: HostId,
        /// Its name.
        name: HostName,
        /// In which domain.
        domain: DomainPath,
        /// Where others reach it.
        address: Option<Address>,
    },
    /// Moves a host to another domain.
    MoveHost {
        /// Which.
        host: HostName,
        /// To which domain.
        domain: DomainPath,
    },
    /// Gives a host another name.
    RenameHost {
        /// Which.
        host: HostName,
        /// Its new name.
        name: HostName,
    },
    /// Changes where others reach a host.
    SetAddress {
        /// Which.
        host: HostName,
        /// Where; none for "at its name".
        address: Option<Address>,
    },
    /// Removes a host and denies its identity.
    RemoveHost {
        /// Which.
        host: HostName,
        /// Its packages too; without this a host with packages stays.
        with_packages: bool,
    },
    /// Takes everything on a host but its `registry` package out of service, for a while. A host that is drained
    /// already gets the new time; its reason stays where none is given.
    DrainHost {
        /// Which.
        host: HostName,
        /// For how long, from [`crate::limits::MIN_DRAIN`] to [`crate::limits::MAX_DRAIN`]; none for "until it is
        /// resumed".
        lasting: Option<Duration>,
        /// Why.
        reason: Option<Text>,
    },
    /// Ends the draining of a host. No effect where it is not drained. What the operator has withdrawn there
    /// stays so.
    ResumeHost {
        /// Which.
        host: HostName,
    },
    /// Resumes the hosts whose time is over, at most [`crate::limits::MAX_DRAINS_ENDED`] of them. Only managers
    /// make this change.
    EndDrains,
    /// Records a package on a host.
    AddPackage {
        /// On which host.
        host: HostName,
        /// Of which type; not `registry`.
        ty: ManagerType,
        /// What it is.
        spec: PackageSpec,
    },
    /// Changes what is recorded of a package.
    SetPackage {
        /// On which host.
        host: HostName,
        /// Of which type.
        ty: ManagerType,
        /// What it is now. Role and withdrawal stay.
        spec: PackageSpec,
    },
    /// The operator wants the package to serve nothing. No effect where that is so already.
    WithdrawPackage {
        /// On which host.
        host: HostName,
        /// Of which type.
        ty: ManagerType,
        /// Why.
        reason: Option<Text>,
    },
    /// The operator wants the package to serve again. No effect where that is so already.
    RestorePackage {
        /// On which host.
        host: HostName,
        /// Of which type.
        ty: ManagerType,
    },
    /// Removes a package.
    RemovePackage {
        /// On which host.
        host: HostName,
        /// Of which type; not `registry`.
        ty: ManagerType,
        /// Which backup becomes primary; needed where the package is primary and its type has backups.
        successor: Option<HostName>,
    },
    /// Makes the manager on a host the primary of its type, in place of the one that is. No effect where it is that
    /// already.
    Promote {
        /// On which host; its manager may be withdrawn.
        host: HostName,
        /// Of which type; not `registry`.
        ty: ManagerType,
    },
    /// Promotes a host's managers of all types of which another host has the primary; `registry` apart.
    PromoteFrom {
        /// Whose managers.
        host: HostName,
        /// Where the primaries are.
        from: HostName,
    },
    /// Takes in what a host says of a package of its own. Managers make this change for the agent that asks;
    /// its number is the change set's request id.
    Announce {
        /// The agent's host. By its id: the agent repeats it after a rename too.
        host: HostId,
        /// Of which type; one that the host's identity allows.
        ty: ManagerType,
        /// What it says.
        word: HostWord,
    },
    /// Sets settings of a domain; those not named stay.
    SetPolicy {
        /// Of which domain.
        domain: DomainPath,
        /// For which types.
        ty: TypeSelector,
        /// What is set; at least one setting.
        settings: PolicySettings,
    },
    /// Takes settings of a domain away; those not named stay. No effect on those that are not set.
    UnsetPolicy {
        /// Of which domain.
        domain: DomainPath,
        /// For which types.
        ty: TypeSelector,
        /// Which; at least one.
        keys: BTreeSet<Setting>,
    },
    /// Replaces all settings of a domain for a type; with none set, removes the policy.
    ReplacePolicy {
        /// Of which domain.
        domain: DomainPath,
        /// For which types.
        ty: TypeSelector,
        /// All that is set from now on.
        settings: PolicySettings,
    },
    /// Makes a join token.
    CreateToken {
        /// The token, without its secret. `domain` in it is ignored in favour of the path beside it.
        token: Token,
        /// The domain in or below which it enrols.
        domain: DomainPath,
    },
    /// Takes a join token back. Identities enrolled with it stay.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// Uses a join token once, adds the host where it is missing, and records its identity. Only
    /// managers make this change.
    Enrol {
        /// The token that was shown; its secret has been verified against the hash in the registry.
        token: TokenId,
        /// The host that enrols.
        host: HostName,
        /// Its id, should it be new.
        id: HostId,
        /// The domain it asked for; the token's, where it asked for none.
        domain: Option<DomainPath>,
        /// Its address, should it be new.
        address: Option<Address>,
        /// BLAKE3 of its public key.
        key_hash: [u8; 32],
    },
    /// Records the identity and the issuer of a registry manager that is in the registry, as they are. Only
    /// managers make this change, each for itself.
    RecordManager {
        /// The manager's host.
        host: HostId,
        /// The enrolment number in its certificate.
        enrolment: u32,
        /// BLAKE3 of its public key.
        key_hash: [u8; 32],
        /// What it signs with.
        issuer: NewIssuer,
    },
    /// Uses a join token once and takes in a registry manager as a backup, with its host where that is missing. It
    /// does not count for commits yet; see [`Self::Admit`]. Only managers make this change.
    JoinManager {
        /// The token that was shown, of access `manager`; its secret has been verified.
        token: TokenId,
        /// The host of the manager.
        host: HostName,
        /// Its id, should it be new.
        id: HostId,
        /// The domain it asked for; the token's, where it asked for none.
        domain: Option<DomainPath>,
        /// Its address, should it be new.
        address: Option<Address>,
        /// Where others reach the manager.
        endpoint: Endpoint,
        /// BLAKE3 of its public key.
        key_hash: [u8; 32],
        /// What it will sign with.
        issuer: NewIssuer,
    },
    /// Has a registry manager that is level count for commits. No effect where it does already. Only managers make
    /// this change. The commit counts under the rule before and under the one after.
    Admit {
        /// The manager's host; not the primary's.
        host: HostId,
    },
    /// Takes a registry manager out: its package, its identity, which is denied, and its place among those that
    /// count. Its issuer serves for renewals from now on, for [`crate::limits::RENEW_GRACE`]. The host stays.
    RemoveManager {
        /// The manager's host; not the primary's.
        host: HostName,
        /// The commit counts under the rule without it alone, since the manager is gone. Edits that only it holds
        /// may be lost by that.
        accept_loss: bool,
        /// Its keys are in wrong hands: what its issuer has signed is worth nothing any more.
        compromised: bool,
    },
    /// Sets how many of the standbys that count have to hold an edit.
    SetMinSync {
        /// How many; capped to those there are.
        min_sync: u32,
        /// Needed for 0, with which an edit is committed when it is on the primary alone. That commit counts
        /// under the new rule alone.
        accept_loss: bool,
    },
    /// The first commit under a grant: makes its holder the primary registry manager, every other one a backup, and
    /// its rule the one in force, alone. Only managers make this change.
    TakeOver {
        /// The grant's holder.
        holder: HostId,
        /// The grant's rule.
        sync: SyncRule,
        /// Whether revisions may be given up with the grant: then the primary of each type gets a new number, since
        /// resources may have seen a larger one than its own.
        gives_up: bool,
    },
}

/// An issuer that is not in the registry yet, or has a new certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewIssuer {
    /// Its name.
    pub id: IssuerId,
    /// When its certificate ends.
    pub not_after: UnixMillis,
}

/// What an operator records of a package.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PackageSpec {
    /// Where it listens.
    pub listens: Listens,
    /// See [`crate::package::Package::priority`].
    pub priority: u32,
    /// See [`crate::package::Package::weight`].
    pub weight: u32,
    /// The installed version.
    pub version: Option<Text>,
    /// How its own host's agent checks it.
    pub check: Check,
}

impl Default for PackageSpec {
    fn default() -> Self {
        Self {
            listens: Listens::Nowhere,
            priority: crate::package::DEFAULT_PRIORITY,
            weight: crate::package::DEFAULT_WEIGHT,
            version: None,
            check: Check::default(),
        }
    }
}

impl PackageSpec {
    /// What is recorded of this package.
    pub fn of(package: &Package) -> Self {
        Self {
            listens: package.listens.clone(),
            priority: package.priority,
            weight: package.weight,
            version: package.version.clone(),
            check: package.check.clone(),
        }
    }
}

impl Change {
    /// The access level that may ask for this change; none where no peer may, only the manager itself.
    pub fn needs(&self) -> Option<Access> {
        match self {
            Self::Enrol { .. }
            | Self::EndDrains
            | Self::RecordManager { .. }
            | Self::JoinManager { .. }
            | Self::Admit { .. }
            | Self::TakeOver { .. } => None,
            Self::RemoveManager { .. } | Self::SetMinSync { .. } => Some(Access::Admin),
            Self::Announce { .. } => Some(Access::Agent),
            Self::Promote { .. } | Self::PromoteFrom { .. } => Some(Access::Admin),
            Self::CreateToken { token, .. } if token.access != Access::Agent || token.replace => {
                Some(Access::Admin)
            }
            _ => Some(Access::Operator),
        }
    }

    /// Whether it changes who the registry managers are, or which of them count. Such a change is an edit of its
    /// own, so that it can be said under which rules that counts.
    pub fn is_of_managers(&self) -> bool {
        matches!(
            self,
            Self::JoinManager { .. }
                | Self::Admit { .. }
                | Self::RemoveManager { .. }
                | Self::SetMinSync { .. }
                | Self::TakeOver { .. }
        )
    }
}
