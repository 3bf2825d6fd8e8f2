//! Making a manager: its authority, its identity, its registry, and the first console.

use crate::clock::unix_now;
use crate::config::Recorded;
use crate::paths::Paths;
use crate::unfinished::Unfinished;
use echelon_core::access::{Access, Identity, Subject};
use echelon_core::check::Check;
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::fencing::Fencing;
use echelon_core::grant::{Chain, Grant, SyncRule};
use echelon_core::id::{DomainId, HostId, Lineage};
use echelon_core::issuer;
use echelon_core::name::{ConsoleName, FrameworkName, HostName, ManagerType};
use echelon_core::package::{DEFAULT_PRIORITY, DEFAULT_WEIGHT, Listens, Package, Role};
use echelon_core::position::Position;
use echelon_core::row::{Domain, Host, Meta, Row};
use echelon_identity::{
    Authority, Credentials, IdentityDirectory, Issuer, KeyPair, Leaf, Spiffe, file, lifetime,
};
use echelon_store::RegistryStore;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What `init` is told.
#[derive(Clone, Debug)]
pub struct Init {
    /// The state directory; it must exist, and be locked by the caller.
    pub state: PathBuf,
    /// The framework's name.
    pub framework: FrameworkName,
    /// The name of the host that the manager runs on.
    pub host: HostName,
    /// Where it will listen.
    pub listen: SocketAddr,
    /// What it tells others to connect to.
    pub advertise: Endpoint,
}

/// What `init` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was made.
    Made,
    /// A registry was there already, and nothing was changed.
    WasThere,
}

/// Why there is no manager. What was made before stays, and `init` goes on from there when it runs again.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The directory belongs to another framework.
    #[error("{} belongs to the framework {found}; choose another --state directory, or --framework {found}", state.display())]
    OtherFramework {
        /// The directory.
        state: PathBuf,
        /// Whose it is.
        found: FrameworkName,
    },
    /// Something else was begun in the directory.
    #[error("{} holds no registry: {what}; or choose another --state directory", state.display())]
    Unfinished {
        /// The directory.
        state: PathBuf,
        /// What.
        what: Unfinished,
    },
    /// Keys or certificates could not be made.
    #[error("the authority could not be made")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be written or read.
    #[error("a file of the identity could not be read or kept")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The registry could not be made.
    #[error("the registry could not be made")]
    Store(#[from] echelon_store::StoreError),
}

fn authority_error(e: impl std::error::Error + Send + Sync + 'static) -> InitError {
    InitError::Authority(Box::new(e))
}

fn file_error(e: impl std::error::Error + Send + Sync + 'static) -> InitError {
    InitError::File(Box::new(e))
}

/// The address that others most likely reach this host at, for a manager that listens at `listen`: that
/// address itself; where it is "any", the one that the system would use as a source. Nothing is sent.
pub fn likely_advertise(listen: SocketAddr) -> Endpoint {
    // Addresses set aside for documentation (RFC 5737, RFC 3849): routed like any other, and never used.
    let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => source_towards(v4.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            source_towards(v4.into()).or_else(|| source_towards(v6.into()))
        }
        given => Some(given),
    };
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, listen.port()).into()
}

/// The address that the system would send from to this one; none where it knows no way there.
fn source_towards(ip: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((ip, 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}

/// Makes everything that a manager needs. Running it twice changes nothing.
///
/// # Errors
/// See [`InitError`].
pub fn init(init: &Init) -> Result<Outcome, InitError> {
    let paths = Paths::of(&init.state);
    if paths.registry().exists() {
        // The root need not be here any more: whoever keeps it elsewhere is right to.
        check_framework(init, load_issuer(&paths).map_err(InitError::File)?.framework())?;
        return Ok(Outcome::WasThere);
    }
    if let Some(what) = Unfinished::of(&paths) {
        return Err(InitError::Unfinished { state: init.state.clone(), what });
    }
    let authority = load_or_make_authority(init, &paths)?;
    let host = HostId(Uuid::now_v7());
    let issuer = make_issuer(&authority, host, &paths)?;
    let manager = make_manager_identity(init, &authority, &issuer, host, &paths)?;
    let console = make_console(init, &authority, &issuer, &paths)?;
    let settings = Recorded { listen: init.listen, advertise: init.advertise.clone() };
    let settings = toml::to_string(&settings).map_err(file_error)?;
    file::write(&paths.settings(), &settings, file::SECRET).map_err(file_error)?;
    // The registry comes last: where it is, everything else is.
    let first = Grant::first(Lineage(Uuid::now_v7()), host, init.host.clone(), unix_now());
    let grants = Chain::begin(first).map_err(authority_error)?;
    let mut rows = first_rows(init, &authority, &grants.head().id.at(0), host);
    rows.extend([manager, console].map(Row::Identity));
    rows.push(issuer_row(&issuer, host));
    RegistryStore::create(&paths.registry(), &grants, 0, &rows)?;
    Ok(Outcome::Made)
}

fn load_or_make_authority(init: &Init, paths: &Paths) -> Result<Authority, InitError> {
    if paths.root().exists() {
        let text = file::read_secret(&paths.root()).map_err(file_error)?;
        let credentials = Credentials::from_pem(&text).map_err(file_error)?;
        let authority = Authority::from_credentials(credentials).map_err(authority_error)?;
        check_framework(init, authority.framework())?;
        return Ok(authority);
    }
    let authority = Authority::create(&init.framework, unix_now()).map_err(authority_error)?;
    file::write(&paths.root(), &authority.credentials().to_pem(), file::SECRET).map_err(file_error)?;
    Ok(authority)
}

/// What the manager signs certificates with.
pub(crate) fn load_issuer(paths: &Paths) -> Result<Issuer, Box<dyn std::error::Error + Send + Sync>> {
    let text = file::read_secret(&paths.issuer())?;
    Ok(Issuer::from_credentials(Credentials::from_pem(&text)?)?)
}

fn check_framework(init: &Init, found: &FrameworkName) -> Result<(), InitError> {
    match found == &init.framework {
        true => Ok(()),
        false => Err(InitError::OtherFramework { state: init.state.clone(), found: found.clone() }),
    }
}

fn make_issuer(authority: &Authority, host: HostId, paths: &Paths) -> Result<Issuer, InitError> {
    let issuer = authority.issue_intermediate(host, unix_now()).map_err(authority_error)?;
    file::write(&paths.issuer(), &issuer.credentials().to_pem(), file::SECRET).map_err(file_error)?;
    Ok(issuer)
}

fn make_identity(
    path: &Path,
    authority: &Authority,
    issuer: &Issuer,
    leaf: &Leaf<'_>,
) -> Result<(IdentityDirectory, KeyPair), InitError> {
    let key = KeyPair::generate().map_err(authority_error)?;
    let chain = issuer.issue(leaf, &key.public_key(), unix_now()).map_err(authority_error)?;
    let credentials = Credentials::new(key.clone(), chain).map_err(authority_error)?;
    let directory = IdentityDirectory::create(path).map_err(file_error)?;
    directory.save_credentials(&credentials).map_err(file_error)?;
    directory.save_trust(&authority.trust()).map_err(file_error)?;
    Ok((directory, key))
}

fn make_manager_identity(
    init: &Init,
    authority: &Authority,
    issuer: &Issuer,
    host: HostId,
    paths: &Paths,
) -> Result<Identity, InitError> {
    let subject = Spiffe::Manager(host);
    let leaf =
        Leaf { subject: &subject, name: init.host.as_str(), enrolment: 1, lifetime: lifetime::MANAGER };
    let (_, key) = make_identity(&paths.identity(), authority, issuer, &leaf)?;
    Ok(first_identity(Subject::Manager(host), Access::Manager, &key))
}

fn make_console(
    init: &Init,
    authority: &Authority,
    issuer: &Issuer,
    paths: &Paths,
) -> Result<Identity, InitError> {
    let name: ConsoleName = "admin".parse().expect("a valid console name");
    let subject = Spiffe::Console(name.clone());
    let leaf = Leaf { subject: &subject, name: name.as_str(), enrolment: 1, lifetime: lifetime::CONSOLE };
    let (directory, key) = make_identity(&paths.console(), authority, issuer, &leaf)?;
    directory.save_managers(std::slice::from_ref(&init.advertise)).map_err(file_error)?;
    Ok(first_identity(Subject::Console(name), Access::Admin, &key))
}

fn first_identity(subject: Subject, access: Access, key: &KeyPair) -> Identity {
    let (allow_types, key_hash) = (Default::default(), key.public_key_hash());
    Identity { subject, enrolment: 1, access, allow_types, key_hash, enrolled: unix_now() }
}

fn issuer_row(issuer: &Issuer, host: HostId) -> Row {
    let (id, not_after) = (issuer.id(), issuer.not_after());
    Row::Issuer(issuer::Issuer { id, host, not_after, renew_only: None, dropped: false })
}

fn first_rows(init: &Init, authority: &Authority, position: &Position, id: HostId) -> Vec<Row> {
    let trust = authority.trust().roots().to_vec();
    let meta = Meta {
        framework: init.framework.clone(),
        next_domain: DomainId(1),
        trust,
        emptied: None,
        sync: SyncRule::alone(),
    };
    let address = match &init.advertise.address {
        Address::Name(name) if name == &init.host => None,
        address => Some(address.clone()),
    };
    let host = Host { id, name: init.host.clone(), domain: DomainId::ROOT, address, drained: None };
    let package = Package {
        host: id,
        ty: ManagerType::registry(),
        listens: Listens::At(init.advertise.clone()),
        priority: DEFAULT_PRIORITY,
        weight: DEFAULT_WEIGHT,
        withdrawn: None,
        role: Some(Role::Primary),
        version: None,
        check: Check::default(),
        fencing: Fencing::at(position).ok(),
        host_side: None,
    };
    vec![
        Row::Meta(meta),
        Row::Domain(Domain { id: DomainId::ROOT, place: None }),
        Row::Host(host),
        Row::Package(package),
    ]
}
