//! A new lineage that a manager begins by itself, while it does not run: after a restore, and after its state directory
//! was rolled back.

use crate::clock::unix_now;
use crate::init::load_issuer;
use crate::paths::Paths;
use echelon_core::grant::{Basis, Chain, ChainError, Grant, GrantId, Grantor, Mark, Parent, SyncRule};
use echelon_core::hierarchy::TreeError;
use echelon_core::id::{HostId, Lineage};
use echelon_core::name::{HostName, Text};
use echelon_core::registry::{Registry, RowsError};
use echelon_core::time::UnixMillis;
use echelon_identity::directory::DirectoryError;
use echelon_identity::proof::{ProveError, UnprovedError, prove_grant};
use echelon_identity::trust::TrustError;
use echelon_identity::{Credentials, IdentityDirectory, Issuer, Spiffe, TrustBundle, check_chain};
use echelon_store::{Loaded, RegistryStore, StoreError};
use uuid::Uuid;

/// Who a manager is, as its state directory says.
pub(crate) struct Me {
    pub(crate) host: HostId,
    pub(crate) credentials: Credentials,
    pub(crate) issuer: Issuer,
}

/// Why there is no new lineage. The registry is as it was.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// Keys or certificates cannot be used.
    #[error("the manager's identity cannot be used")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The identity is of somebody else.
    #[error("the identity in the state directory is no registry manager's")]
    NoManager,
    /// The registry cannot be read or written.
    #[error("the registry cannot be used")]
    Store(#[from] StoreError),
    /// It contradicts itself.
    #[error("the registry contradicts itself; use another backup")]
    Rows(#[from] RowsError),
    /// The same, found where its last entries are.
    #[error("the registry's last entries contradict it; use another backup")]
    Tail(#[from] TreeError),
    /// The registry does not know the manager.
    #[error("the registry has no registry manager on the host {0}")]
    Unknown(HostId),
    /// The registry does not know what the manager signs with.
    #[error(
        "the registry does not know the issuer of the registry manager on {0}: nobody would trust what it signs"
    )]
    UnknownIssuer(HostName),
    /// There have been as many grants as a chain holds.
    #[error(
        "no grant can follow on those that there were; set up a new registry, and bring it what this one holds with \
         echelon export and echelon apply"
    )]
    NoMore(#[source] ChainError),
    /// Its roots cannot be used.
    #[error("the registry's roots of trust cannot be used")]
    Trust(#[from] TrustError),
    /// The grant could not be signed.
    #[error("the grant could not be signed")]
    Prove(#[from] ProveError),
    /// The grants are not proved: nobody would believe them.
    #[error("the grants in the registry are not proved")]
    Unproved(#[from] UnprovedError),
}

fn identity_error(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LineageError {
    LineageError::Identity(e.into())
}

impl From<DirectoryError> for LineageError {
    fn from(error: DirectoryError) -> Self {
        identity_error(error)
    }
}

impl Me {
    /// The manager of this state directory; its certificate is renewed where it is past half of its life.
    pub(crate) fn load(paths: &Paths) -> Result<Self, LineageError> {
        let issuer = load_issuer(paths).map_err(LineageError::Identity)?;
        let directory = IdentityDirectory::open(&paths.identity())?;
        let me = Self::of(directory.load_credentials()?, issuer)?;
        directory.save_credentials(&me.credentials)?;
        Ok(me)
    }

    /// The manager with these credentials, renewed where that is due.
    pub(crate) fn of(credentials: Credentials, issuer: Issuer) -> Result<Self, LineageError> {
        let credentials = renewed(credentials, &issuer).map_err(LineageError::Identity)?;
        match credentials.peer().map_err(identity_error)?.subject {
            Spiffe::Manager(host) => Ok(Self { host, credentials, issuer }),
            _ => Err(LineageError::NoManager),
        }
    }
}

/// Credentials that this issuer has issued, renewed where they are past half of their life.
pub(crate) fn renewed(
    credentials: Credentials,
    issuer: &Issuer,
) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
    let peer = credentials.peer()?;
    match unix_now() < peer.renew_at() {
        true => Ok(credentials),
        false => Ok(crate::server::renew(&credentials, &peer, issuer)?),
    }
}

/// The registry in a file, with all of its entries.
pub(crate) fn registry_in(store: &RegistryStore) -> Result<Registry, LineageError> {
    let Loaded { position, rows, tail, .. } = store.load(UnixMillis(0))?;
    let committed = Registry::from_rows(position, rows)?;
    tail.iter().try_fold(committed, |registry, entry| Ok(registry.apply(&entry.commit)?))
}

/// The roots that a registry trusts.
pub(crate) fn trust_in(registry: &Registry) -> Result<TrustBundle, LineageError> {
    Ok(TrustBundle::new(registry.meta().trust.clone())?)
}

/// The chain that a new lineage makes of what a file holds, and its grant. All entries of the file count in it, also
/// those that were not known to be committed: who asked for them may have been told that they are. No standby counts:
/// each enters by itself once it is level.
///
/// `known` are grants that this manager knows of beside those in the file: the new one comes after them, where it can.
pub(crate) fn begin(
    store: &RegistryStore,
    registry: &Registry,
    known: Option<&Chain>,
    me: &Me,
    reason: Option<Text>,
) -> Result<(Chain, GrantId), LineageError> {
    let name = check_known(registry, me)?;
    let grants = store.grants();
    let epoch = known.map_or(0, |known| known.head().id.epoch).max(grants.head().id.epoch) + 1;
    let id = GrantId { lineage: Lineage(Uuid::now_v7()), epoch };
    let sync = SyncRule { min_sync: registry.meta().sync.min_sync, ..SyncRule::alone() };
    let grant = |chain: &Chain, mark: Mark| Grant {
        id,
        holder: me.host,
        parent: Some(Parent { grant: chain.head().id, mark }),
        basis: Basis::Restore,
        sync: sync.clone(),
        at: unix_now(),
        grantor: Grantor::Manager(name.clone()),
        reason: reason.clone(),
        rejects: Vec::new(),
        proof: None,
    };
    let extended = |chain: &Chain| -> Result<Result<Chain, ChainError>, LineageError> {
        Ok(chain.extended(prove_grant(&me.credentials, &grant(chain, store.head()))?))
    };
    let holds = |chain: &&Chain| chain.contains(&store.head().position);
    let newer = known.filter(holds).map(extended).transpose()?.and_then(Result::ok);
    let chain = match newer {
        Some(chain) => chain,
        None => extended(grants)?.map_err(LineageError::NoMore)?,
    };
    check_chain(&trust_in(registry)?, Some(grants), &chain)?;
    Ok((chain, id))
}

/// Whether the registry knows this manager, and what it signs with. Gives what its host is called.
fn check_known(registry: &Registry, me: &Me) -> Result<HostName, LineageError> {
    let package = registry.package(me.host, &echelon_core::name::ManagerType::registry());
    let host = registry.host(me.host).filter(|_| package.is_some());
    let name = host.ok_or(LineageError::Unknown(me.host))?.name.clone();
    let issuer = me.issuer.credentials().key().public_key_hash();
    // A registry of a build that kept no issuers goes by the root alone.
    match registry.issuer(&issuer).is_some() || registry.issuers().next().is_none() {
        true => Ok(name),
        false => Err(LineageError::UnknownIssuer(name)),
    }
}
