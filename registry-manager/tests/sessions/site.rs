//! A manager in this process, with its console, and identities for whoever meets it.

use crate::loopback::Loopback;
use echelon_client::ManagerClient;
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::id::{DomainId, HostId, RequestId};
use echelon_core::message::{Enrol, Enrolled, Join, Request, Response};
use echelon_core::package::Listens;
use echelon_core::time::UnixMillis;
use echelon_daemon::{StateDir, Tasks};
use echelon_identity::{
    CertificateChain, CertificateRequest, Credentials, IdentityDirectory, Issuer, JoinToken, KeyPair, Leaf,
    Spiffe, TrustBundle, lifetime,
};
use echelon_transport::{Connection, Endpoint, Settings, Target};
use echelon_wire::Wire;
use registry_manager::Manager;
use registry_manager::config::Config;
use registry_manager::init::{Init, init};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Site {
    pub(crate) manager: Manager,
    pub(crate) console: ManagerClient,
    pub(crate) config: Config,
    pub(crate) state: StateDir,
    pub(crate) _place: (tempfile::TempDir, Loopback),
}

impl Site {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("manager"), true).unwrap();
        let loopback = Loopback::claim();
        let listen = SocketAddr::new(loopback.address(1), 29120);
        let wish = Init {
            state: state.path().to_owned(),
            framework: "test".parse().unwrap(),
            host: "registry".parse().unwrap(),
            listen,
            advertise: "127.0.0.1:1".parse().unwrap(),
        };
        init(&wish).unwrap();
        let config = Config::new(state.path(), listen);
        let manager = Manager::start(&config, Tasks::new()).await.unwrap();
        let console = console(&config).await;
        Self { manager, console, config, state, _place: (dir, loopback) }
    }

    pub(crate) async fn start_with_http() -> Self {
        let mut site = Self::start().await;
        site.config.http = Some("127.0.0.1:0".parse().unwrap());
        site.restart().await
    }

    pub(crate) async fn metrics(&self) -> String {
        let mut http = TcpStream::connect(self.manager.http_addr().unwrap()).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        http.write_all(request).await.unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Stops the manager and starts it again at the same address.
    pub(crate) async fn restart(self) -> Self {
        let Self { manager, config, state, _place, .. } = self;
        manager.stop().await.unwrap();
        let manager = Manager::start(&config, Tasks::new()).await.unwrap();
        let console = console(&config).await;
        Self { manager, console, config, state, _place }
    }

    pub(crate) async fn edit(&self, changes: Vec<Change>) -> u64 {
        self.console.edit(set(changes), false).await.unwrap().position.revision
    }

    pub(crate) fn trust(&self) -> TrustBundle {
        IdentityDirectory::open(&self.state.path().join("console")).unwrap().load_trust().unwrap()
    }

    pub(crate) async fn token(&self, uses: u32) -> JoinToken {
        self.token_for(Access::Agent, uses).await
    }

    pub(crate) async fn token_for(&self, access: Access, uses: u32) -> JoinToken {
        let token = JoinToken::generate(self.trust().root_hash()).unwrap();
        let row = Token {
            id: token.id,
            secret_hash: token.secret.hash(),
            access,
            host: None,
            domain: DomainId::ROOT,
            allow_types: Default::default(),
            replace: false,
            expires: unix_now() + Duration::from_secs(600),
            uses_left: uses,
        };
        self.edit(vec![Change::CreateToken { token: row, domain: "/".parse().unwrap() }]).await;
        token
    }

    pub(crate) async fn enrol(&self, host: &str) -> Identity {
        let token = self.token(1).await;
        let key = KeyPair::generate().unwrap();
        let wish = enrolment(&token, host, &key, new_request());
        match self.ask_anonymously(&token, Request::Enrol(wish)).await {
            Response::Enrolled(enrolled) => Identity::new(&enrolled, key),
            other => panic!("not enrolled: {other:?}"),
        }
    }

    /// A manager that has joined, as far as its identity goes: it never runs.
    pub(crate) async fn join(&self, host: &str) -> Identity {
        let token = self.token_for(Access::Manager, 1).await;
        let [key, issuer_key] = [(); 2].map(|()| KeyPair::generate().unwrap());
        let [csr, issuer_csr] =
            [&key, &issuer_key].map(|key| CertificateRequest::new(key).unwrap().der().to_vec());
        let wish = Join {
            token: token.id,
            secret: *token.secret.expose(),
            request: new_request(),
            host: host.parse().unwrap(),
            domain: None,
            // Nobody listens there; no two managers are said to be at one address.
            endpoint: format!("127.0.0.1:{}", 1 + host.bytes().map(u16::from).sum::<u16>() % 1000)
                .parse()
                .unwrap(),
            csr,
            issuer_csr,
            greeting: None,
        };
        let Response::Joined(joined) = self.ask_anonymously(&token, Request::Join(wish)).await else {
            panic!("not joined")
        };
        let chain = CertificateChain::new(joined.issuer).unwrap();
        let issuer = Issuer::from_credentials(Credentials::new(issuer_key, chain).unwrap()).unwrap();
        let (subject, enrolment) = (Spiffe::Manager(joined.host), joined.enrolment);
        let leaf = Leaf { subject: &subject, name: host, enrolment, lifetime: lifetime::MANAGER };
        let chain = issuer.issue(&leaf, &key.public_key(), unix_now()).unwrap();
        Identity { credentials: Credentials::new(key, chain).unwrap(), host: joined.host }
    }

    pub(crate) async fn ask_anonymously(&self, token: &JoinToken, request: Request) -> Response {
        let endpoint = Endpoint::bind_client(None, None, Settings::client()).unwrap();
        let connection = endpoint.connect(self.config.listen, &Target::Pinned(token.pin)).await.unwrap();
        ask(&connection, &request).await
    }

    pub(crate) async fn connect(&self, identity: &Identity) -> Connection {
        let endpoint =
            Endpoint::bind_client(Some(&identity.credentials), Some(&self.trust()), Settings::client());
        endpoint.unwrap().connect(self.config.listen, &Target::AnyManager).await.unwrap()
    }
}

pub(crate) async fn console(config: &Config) -> ManagerClient {
    let directory = IdentityDirectory::open(&config.state.join("console")).unwrap();
    ManagerClient::connect(&directory, &[config.listen.into()]).await.unwrap()
}

pub(crate) struct Identity {
    pub(crate) credentials: Credentials,
    pub(crate) host: HostId,
}

impl Identity {
    pub(crate) fn new(enrolled: &Enrolled, key: KeyPair) -> Self {
        let chain = CertificateChain::new(enrolled.chain.clone()).unwrap();
        Self { credentials: Credentials::new(key, chain).unwrap(), host: enrolled.host }
    }
}

pub(crate) fn unix_now() -> UnixMillis {
    UnixMillis(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

pub(crate) fn new_request() -> RequestId {
    RequestId(Uuid::now_v7())
}

pub(crate) fn set(changes: Vec<Change>) -> ChangeSet {
    ChangeSet { request: new_request(), if_revision: None, allow_shrink: false, changes }
}

pub(crate) fn add_host(name: &str, domain: &str) -> Change {
    let (id, name) = (HostId(Uuid::now_v7()), name.parse().unwrap());
    Change::AddHost { id, name, domain: domain.parse().unwrap(), address: None }
}

pub(crate) fn add_manager(host: &str, ty: &str) -> Change {
    let listens = Listens::At("127.0.0.1:9".parse().unwrap());
    let spec = PackageSpec { listens, ..PackageSpec::default() };
    Change::AddPackage { host: host.parse().unwrap(), ty: ty.parse().unwrap(), spec }
}

pub(crate) fn enrolment(token: &JoinToken, host: &str, key: &KeyPair, request: RequestId) -> Enrol {
    Enrol {
        token: token.id,
        secret: *token.secret.expose(),
        request,
        host: host.parse().unwrap(),
        domain: None,
        csr: CertificateRequest::new(key).unwrap().der().to_vec(),
    }
}

pub(crate) async fn ask(connection: &Connection, request: &Request) -> Response {
    let mut channel = connection.open().await.unwrap();
    channel.send(&request.encode()).await.unwrap();
    let frame = channel.recv(echelon_wire::MAX_EDIT_FRAME).await.unwrap().expect("an answer");
    Response::decode(&frame).unwrap()
}

pub(crate) fn error_of(response: Response) -> String {
    match response {
        Response::Failed(failure) => failure.error,
        other => panic!("not refused: {other:?}"),
    }
}
