//! A primary and a standby as processes, without the way a standby joins: it is made by edits while nothing runs.

use crate::loopback::Loopback;
use crate::stopped::has_stopped;
use echelon_client::{CallError, ManagerClient};
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet, NewIssuer};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::SyncRule;
use echelon_core::id::{DomainId, HostId, RequestId, TokenId};
use echelon_core::message::Failure;
use echelon_core::registry::Registry;
use echelon_core::row::Actor;
use echelon_core::time::UnixMillis;
use echelon_identity::{
    Authority, Credentials, IdentityDirectory, Issuer, KeyPair, Leaf, Spiffe, file, lifetime,
};
use echelon_store::{Entry, JournalReader, RegistryStore};
use registry_manager::config::Recorded;
use registry_manager::init::{Init, init};
use registry_manager::paths::Paths;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn unix_now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub(crate) fn set(change: Change) -> ChangeSet {
    let request = RequestId(Uuid::now_v7());
    ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] }
}

pub(crate) fn host(name: &str) -> ChangeSet {
    let (id, domain) = (HostId(Uuid::now_v7()), "/".parse().unwrap());
    set(Change::AddHost { id, name: name.parse().unwrap(), domain, address: None })
}

pub(crate) async fn wait_for(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !look().await {
        assert!(Instant::now() < end, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A manager's state directory, and its process.
pub(crate) struct Node {
    pub(crate) state: PathBuf,
    loopback: Loopback,
    pub(crate) listen: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) process: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    pub(crate) fn at(state: PathBuf) -> Self {
        std::fs::create_dir(&state).unwrap();
        set_private(&state);
        let loopback = Loopback::claim();
        let [listen, http] = [29120, 29121].map(|port| SocketAddr::new(loopback.address(1), port));
        Self { state, loopback, listen, http, process: None }
    }

    /// An address where nobody answers.
    pub(crate) fn nowhere(&self) -> SocketAddr {
        SocketAddr::new(self.loopback.address(2), self.listen.port())
    }

    /// What is told to `on_promote` is kept, a line each.
    pub(crate) fn start(&mut self) {
        let log = std::fs::File::create(self.state.with_extension("log")).unwrap();
        let words = "$ECHELON_ROLE $ECHELON_CAUSE $ECHELON_SUCCESS $ECHELON_PRIMARY $ECHELON_EPOCH";
        let hook = format!("echo {words} >> {}", self.state.with_extension("roles").display());
        let settings = self.state.with_extension("toml");
        std::fs::write(&settings, format!("[on_promote]\ncommand = ['/bin/sh', '-c', '{hook}']\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry-manager"));
        command.arg("run").arg("--config").arg(&settings).arg("--state").arg(&self.state);
        command.args(["--http", &self.http.to_string()]);
        command.env_clear().env("ECHELON_LOG", "info").stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Tells it to end, or to go on.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Stops it without a word.
    pub(crate) async fn stand_still(&self) {
        self.signal("-STOP");
        let process = self.process.as_ref().unwrap().id();
        wait_for("a manager to stop", async || has_stopped(process)).await;
    }

    pub(crate) async fn get(&self, path: &str) -> u16 {
        self.body(path).await.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The whole answer; empty where there is none.
    pub(crate) async fn body(&self, path: &str) -> String {
        let ask = async {
            let mut http = TcpStream::connect(self.http).await?;
            http.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
                .await?;
            let mut answer = String::new();
            http.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        ask.await.unwrap_or_default()
    }

    pub(crate) async fn wait_until_ready(&self) {
        wait_for("a manager to serve", async || self.get("/readyz").await == 200).await;
    }

    /// What its command of `on_promote` was told, once the last of it is this.
    pub(crate) async fn told(&self, last: &str) -> Vec<String> {
        let mut told = Vec::new();
        wait_for(last, async || {
            let text = std::fs::read_to_string(self.state.with_extension("roles")).unwrap_or_default();
            told = text.lines().map(ToOwned::to_owned).collect();
            told.last().is_some_and(|line| line == last)
        })
        .await;
        told
    }

    pub(crate) fn store(&self) -> RegistryStore {
        RegistryStore::open(&Paths::of(&self.state).registry()).unwrap()
    }
}

pub(crate) fn set_private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// A primary on host `hub` and a standby on host `spare`.
pub(crate) struct Pair {
    pub(crate) primary: Node,
    pub(crate) standby: Node,
    pub(crate) dir: tempfile::TempDir,
}

impl Pair {
    /// Both run, and edits count once both hold them.
    pub(crate) async fn running() -> Self {
        let pair = Self::of_nodes();
        pair.make(pair.primary.listen, pair.standby.listen);
        pair.started().await
    }

    /// The same, but the standby does not know where the primary is, which dials it.
    pub(crate) async fn running_with_one_that_dials() -> Self {
        let pair = Self::of_nodes();
        pair.make(pair.primary.nowhere(), pair.standby.listen);
        pair.started().await
    }

    pub(crate) fn of_nodes() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (primary, standby) = (Node::at(dir.path().join("hub")), Node::at(dir.path().join("spare")));
        Self { primary, standby, dir }
    }

    pub(crate) async fn started(self) -> Self {
        let mut pair = self;
        pair.primary.start();
        pair.standby.start();
        pair.primary.wait_until_ready().await;
        pair.standby.wait_until_ready().await;
        let console = pair.console(&pair.primary).await;
        wait_for("the standby to count", async || rule(&console).await.members.len() == 1).await;
        wait_for("the standby to know", async || {
            let console = pair.console(&pair.standby).await;
            rule(&console).await.members.len() == 1
        })
        .await;
        pair
    }

    /// Makes the primary, has the standby join it by edits made while nothing runs, and copies the registry. They are told
    /// to reach each other at these addresses.
    pub(crate) fn make(&self, primary: SocketAddr, standby: SocketAddr) {
        let wish = Init {
            state: self.primary.state.clone(),
            framework: "test".parse().unwrap(),
            host: "hub".parse().unwrap(),
            listen: self.primary.listen,
            advertise: primary.into(),
        };
        init(&wish).unwrap();
        let (ours, theirs) = (Paths::of(&self.primary.state), Paths::of(&self.standby.state));
        let read = |path: PathBuf| Credentials::from_pem(&file::read_secret(&path).unwrap()).unwrap();
        let authority = Authority::from_credentials(read(ours.root())).unwrap();
        let mut store = self.primary.store();
        let hub = store.grants().head().holder;
        let identity = IdentityDirectory::open(&ours.identity()).unwrap().load_credentials().unwrap();
        let issuer = Issuer::from_credentials(read(ours.issuer())).unwrap();
        let (key_hash, issuer) = (identity.key().public_key_hash(), new_issuer(&issuer));
        edit(&mut store, Change::RecordManager { host: hub, enrolment: 1, key_hash, issuer });
        let token = Token {
            id: TokenId(Uuid::now_v7()),
            secret_hash: [0; 32],
            access: Access::Manager,
            host: None,
            domain: DomainId::ROOT,
            allow_types: Default::default(),
            replace: false,
            expires: unix_now() + Duration::from_secs(600),
            uses_left: 1,
        };
        let spare = HostId(Uuid::now_v7());
        let issuer = authority.issue_intermediate(spare, unix_now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let join = Change::JoinManager {
            token: token.id,
            host: "spare".parse().unwrap(),
            id: spare,
            domain: None,
            address: None,
            endpoint: standby.into(),
            key_hash: key.public_key_hash(),
            issuer: new_issuer(&issuer),
        };
        edit(&mut store, Change::CreateToken { token, domain: "/".parse().unwrap() });
        edit(&mut store, join);

        file::write(&theirs.issuer(), &issuer.credentials().to_pem(), file::SECRET).unwrap();
        let subject = Spiffe::Manager(spare);
        let leaf = Leaf { subject: &subject, name: "spare", enrolment: 1, lifetime: lifetime::MANAGER };
        let chain = issuer.issue(&leaf, &key.public_key(), unix_now()).unwrap();
        let directory = IdentityDirectory::create(&theirs.identity()).unwrap();
        directory.save_credentials(&Credentials::new(key, chain).unwrap()).unwrap();
        directory.save_trust(&authority.trust()).unwrap();
        let recorded = Recorded { listen: self.standby.listen, advertise: self.standby.listen.into() };
        file::write(&theirs.settings(), &toml::to_string(&recorded).unwrap(), file::SECRET).unwrap();
        let copy = self.dir.path().join("copy.db");
        JournalReader::open(&ours.registry()).unwrap().copy_to(&copy).unwrap();
        RegistryStore::install(&copy, &theirs.registry()).unwrap();
    }

    /// Of the first console.
    pub(crate) fn identity(&self) -> Credentials {
        let identity = IdentityDirectory::open(&Paths::of(&self.primary.state).console()).unwrap();
        identity.load_credentials().unwrap()
    }

    /// The first console, at this manager.
    pub(crate) async fn console(&self, at: &Node) -> ManagerClient {
        let identity = IdentityDirectory::open(&Paths::of(&self.primary.state).console()).unwrap();
        ManagerClient::connect(&identity, &[at.listen.into()]).await.unwrap()
    }
}

pub(crate) fn new_issuer(issuer: &Issuer) -> NewIssuer {
    NewIssuer { id: issuer.credentials().key().public_key_hash(), not_after: issuer.not_after() }
}

/// Edits a registry whose manager does not run.
pub(crate) fn edit(store: &mut RegistryStore, change: Change) {
    let loaded = store.load(UnixMillis(0)).unwrap();
    let registry = Registry::from_rows(loaded.position, loaded.rows).unwrap();
    let actor = Actor::Manager("hub".parse().unwrap());
    let context = Context { now: unix_now(), actor, from: None, content: [0; 32] };
    let Edited::Done(_, commit) = registry.edit(&set(change), &context).unwrap() else { panic!("repeated") };
    let entry = Entry::new(&store.head(), commit);
    store.append(std::slice::from_ref(&entry), entry.revision()).unwrap();
}

pub(crate) async fn rule(console: &ManagerClient) -> SyncRule {
    console.read().await.unwrap().registry.meta().sync.clone()
}

pub(crate) async fn knows(console: &ManagerClient, name: &str) -> bool {
    console.read().await.unwrap().registry.host_named(&name.parse().unwrap()).is_some()
}

pub(crate) fn failure<T: std::fmt::Debug>(answer: Result<T, CallError>) -> Failure {
    match answer {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("not refused: {other:?}"),
    }
}
