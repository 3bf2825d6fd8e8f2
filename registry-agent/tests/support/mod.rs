//! A registry manager that says what a test tells it to, over the real transport, and services to route to.

#![allow(dead_code, reason = "not every test needs all of it")]

use echelon_core::access::Access;
use echelon_core::announce::Announcement;
use echelon_core::check::{Check, CheckKind};
use echelon_core::digest::Digest;
use echelon_core::endpoint::Address;
use echelon_core::grant::{Chain, GrantId, Incoming, Outgoing};
use echelon_core::id::{DomainId, HostId, Lineage};
use echelon_core::message::{
    AgentHeartbeat, Delta, Enrol, Enrolled, FromAgent, Hello, Liveness, ManagerHeartbeat, Request, Response,
    SnapshotPart, ToAgent, ViewMark, Welcome,
};
use echelon_core::name::ManagerType;
use echelon_core::package::{DEFAULT_PRIORITY, DEFAULT_WEIGHT, Listens, Package, Role};
use echelon_core::view::{Manager as ViewManager, Place, View, ViewChange, ViewRow};
use echelon_identity::trust::root_hash;
use echelon_identity::{
    Authority, CertificateRequest, Credentials, Issuer, JoinToken, KeyPair, Leaf, PublicKey, Spiffe, lifetime,
};
use echelon_transport::{
    AdmitAll, Channel, Connection, Endpoint, FrameReceiver, FrameSender, Role as EndpointRole, Settings,
};
use echelon_wire::{MAX_AGENT_FRAME, Wire, chain_parts};
use registry_agent::{AgentConfig, EnrolOptions, Enrolment, enroll};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use uuid::Uuid;

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The type in tests.
pub(crate) fn ty() -> ManagerType {
    "command-control".parse().unwrap()
}

pub(crate) fn now() -> echelon_core::time::UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    echelon_core::time::UnixMillis(since.as_millis() as u64)
}

/// A manager under a test's control.
pub(crate) struct Manager {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    seats: mpsc::UnboundedReceiver<Seat>,
    accepting: AbortHandle,
    pub(crate) token: JoinToken,
    pub(crate) host: HostId,
}

struct Shared {
    issuer: Issuer,
    lifetime: Duration,
    /// What hosts have asked for, in order.
    enrolments: Mutex<Vec<Enrol>>,
    /// What hosts have announced, in order; none of it gets an answer.
    announced: Mutex<Vec<Announcement>>,
    /// Whether the next enrolment is answered with silence.
    swallow: AtomicBool,
    authority: Authority,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Manager {
    /// A manager that issues certificates with the usual lifetime.
    pub(crate) async fn start() -> Self {
        Self::with_lifetime(lifetime::HOST).await
    }

    /// A manager whose hosts' certificates live that long.
    pub(crate) async fn with_lifetime(lifetime: Duration) -> Self {
        let authority = Authority::create(&"acme".parse().unwrap(), now()).unwrap();
        Self::of(authority, HostId(Uuid::from_u128(77)), lifetime, "127.0.0.1:0".parse().unwrap())
    }

    /// Another manager of the same framework, on host number `n`.
    pub(crate) async fn beside(&self, n: u128, addr: SocketAddr) -> Self {
        Self::of(self.shared.authority.clone(), HostId(Uuid::from_u128(n)), lifetime::HOST, addr)
    }

    fn of(authority: Authority, host: HostId, lifetime: Duration, addr: SocketAddr) -> Self {
        let issuer = authority.issue_intermediate(host, now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let subject = Spiffe::Manager(host);
        let leaf = Leaf { subject: &subject, name: "fm", enrolment: 1, lifetime: lifetime::MANAGER };
        let chain = issuer.issue(&leaf, &key.public_key(), now()).unwrap();
        let credentials = Credentials::new(key, chain).unwrap();
        let role = EndpointRole::Server(Arc::new(AdmitAll));
        let trust = authority.trust();
        let endpoint =
            Endpoint::bind(addr, role, Some(&credentials), Some(&trust), Settings::server()).unwrap();
        let shared = Arc::new(Shared {
            issuer,
            lifetime,
            enrolments: Mutex::default(),
            announced: Mutex::default(),
            swallow: AtomicBool::new(false),
            authority,
        });
        let (taken, seats) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(accept(endpoint.clone(), Arc::clone(&shared), taken)).abort_handle();
        let token = JoinToken::generate(root_hash(shared.authority.certificate())).unwrap();
        Self { endpoint, shared, seats, accepting, token, host }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// The root certificate, as a row of the view.
    pub(crate) fn trust(&self) -> ViewRow {
        ViewRow::Trust(vec![self.shared.authority.certificate().to_vec()])
    }

    /// Answers the next enrolment with silence, having taken it in.
    pub(crate) fn swallow_next(&self) {
        self.shared.swallow.store(true, Ordering::SeqCst);
    }

    pub(crate) fn announced(&self) -> Vec<Announcement> {
        self.shared.announced.lock().unwrap().clone()
    }

    pub(crate) fn enrolments(&self) -> Vec<Enrol> {
        self.shared.enrolments.lock().unwrap().clone()
    }

    pub(crate) fn options(&self, state: &Path, host: &str) -> EnrolOptions {
        EnrolOptions {
            state: state.to_owned(),
            managers: vec![self.addr().into()],
            host: host.parse().unwrap(),
            domain: Some("/sub1".parse().unwrap()),
            token: self.token.clone(),
        }
    }

    /// Enrols a host; gives its id.
    pub(crate) async fn enrolled(&self, state: &Path, host: &str) -> HostId {
        match enroll(self.options(state, host)).await.unwrap() {
            Enrolment::New(enrolled) => enrolled.host_id,
            Enrolment::Already(_) => panic!("enrolled before"),
        }
    }

    /// Somebody's credentials in this framework.
    pub(crate) fn credentials(&self, subject: &Spiffe) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let leaf = Leaf { subject, name: "x", enrolment: 1, lifetime: lifetime::MANAGER };
        let chain = self.shared.issuer.issue(&leaf, &key.public_key(), now()).unwrap();
        Credentials::new(key, chain).unwrap()
    }

    /// This manager as agents see it, nearer than those of higher numbers.
    pub(crate) fn row(&self, n: u8) -> ViewRow {
        let (ty, name) = (ManagerType::registry(), format!("fm{n}").parse().unwrap());
        ViewRow::Manager(ViewManager { ty, name, host: self.host, ..view_manager(n, self.addr()) })
    }

    /// The next session that an agent opens.
    pub(crate) async fn session(&mut self) -> Seat {
        timeout(DEADLINE, self.seats.recv()).await.expect("no session in time").unwrap()
    }

    /// Dies at once: every connection is closed.
    pub(crate) async fn die(self) {
        self.endpoint.close(9, "dead").await;
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>, taken: mpsc::UnboundedSender<Seat>) {
    while let Some(connection) = endpoint.accept().await {
        let (shared, taken) = (Arc::clone(&shared), taken.clone());
        tokio::spawn(async move {
            while let Ok(channel) = connection.accept().await {
                serve(&shared, &connection, channel, &taken).await;
            }
        });
    }
}

async fn serve(
    shared: &Shared,
    connection: &Connection,
    mut channel: Channel,
    taken: &mpsc::UnboundedSender<Seat>,
) {
    let frame = channel.recv(MAX_AGENT_FRAME).await.unwrap().unwrap();
    let response = match Request::decode(&frame).unwrap() {
        Request::Session => {
            let frame = channel.recv(MAX_AGENT_FRAME).await.unwrap().unwrap();
            let FromAgent::Hello(hello) = FromAgent::decode(&frame).unwrap() else { panic!("no hello") };
            let (sender, receiver) = channel.split();
            let told = Outgoing::new(hello.grants.clone());
            let _ = taken.send(Seat { hello, told, sender, receiver, connection: connection.clone() });
            return;
        }
        Request::Enrol(enrol) => {
            shared.enrolments.lock().unwrap().push(enrol.clone());
            if shared.swallow.swap(false, Ordering::SeqCst) {
                connection.close(9, "swallowed");
                return;
            }
            Response::Enrolled(shared.enrol(&enrol))
        }
        Request::Renew { csr } => {
            let csr = CertificateRequest::from_der(&csr).unwrap();
            let peer = connection.peer().unwrap();
            Response::Renewed(shared.issue(&peer.subject, csr.public_key()))
        }
        Request::Announce(said) => return shared.announced.lock().unwrap().push(said),
        other => panic!("an agent asked {other:?}"),
    };
    channel.send(&response.encode()).await.unwrap();
    // Until the peer has read it and closes.
    let _ = channel.recv(MAX_AGENT_FRAME).await;
}

impl Shared {
    fn enrol(&self, enrol: &Enrol) -> Enrolled {
        let host = HostId(enrol.request.0);
        let csr = CertificateRequest::from_der(&enrol.csr).unwrap();
        Enrolled {
            chain: self.issue(&Spiffe::Host(host), csr.public_key()),
            framework: "acme".parse().unwrap(),
            host,
            enrolment: 1,
            access: Access::Agent,
            domain: "/sub1".parse().unwrap(),
        }
    }

    fn issue(&self, subject: &Spiffe, key: &PublicKey) -> Vec<Vec<u8>> {
        let leaf = Leaf { subject, name: "agent", enrolment: 1, lifetime: self.lifetime };
        self.issuer.issue(&leaf, key, now()).unwrap().certificates().to_vec()
    }
}

/// The manager's end of a session.
pub(crate) struct Seat {
    pub(crate) hello: Hello,
    told: Outgoing,
    pub(crate) connection: Connection,
    sender: FrameSender,
    receiver: FrameReceiver,
}

impl Seat {
    pub(crate) async fn send(&mut self, message: &ToAgent) {
        self.sender.send(&message.encode()).await.unwrap();
    }

    /// Tells what the agent lacks of a chain of grants, but no more than so many parts. Gives how many there are.
    pub(crate) async fn grants(&mut self, chain: &Chain, most: usize) -> usize {
        let parts = chain_parts(&mut self.told, chain);
        let count = parts.len();
        for part in parts.into_iter().take(most) {
            self.send(&ToAgent::Grants(part)).await;
        }
        count
    }

    /// What the agent says last, where that are its grants, and in how many parts.
    pub(crate) async fn objection(&mut self) -> Option<(Chain, usize)> {
        let mut heard = Incoming::new(self.told.told().cloned());
        let (mut last, mut parts) = (None, 0);
        while let Some(message) = self.recv().await {
            let FromAgent::Grants(part) = message else { continue };
            let complete = !part.more;
            parts += 1;
            last = Some((heard.take(part).unwrap(), parts));
            if complete {
                self.connection.close(2, "refused");
            }
        }
        last
    }

    /// Answers the session's request with a refusal.
    pub(crate) async fn refuse(&mut self, failure: echelon_core::message::Failure) {
        self.sender.send(&Response::Failed(failure).encode()).await.unwrap();
    }

    pub(crate) async fn welcome(&mut self, heartbeat: Duration) {
        let welcome = Welcome {
            protocol: 1,
            build: "0.1.0".parse().unwrap(),
            manager: "fm".parse().unwrap(),
            heartbeat,
        };
        self.send(&ToAgent::Welcome(welcome)).await;
    }

    /// Welcomes an agent and gives it everything: view, place, liveness.
    pub(crate) async fn give(&mut self, heartbeat: Duration, world: &World) {
        self.welcome(heartbeat).await;
        self.give_again(world).await;
        self.send(&ToAgent::Place(world.place.clone())).await;
        self.beat(world).await;
        self.send(&ToAgent::Liveness(Liveness { complete: true, entries: vec![] })).await;
    }

    /// Sends the whole view once more.
    pub(crate) async fn give_again(&mut self, world: &World) {
        let part =
            SnapshotPart { first: true, rows: world.rows.clone(), last: Some(world.mark()), emptied: None };
        self.send(&ToAgent::Snapshot(part)).await;
    }

    pub(crate) async fn beat(&mut self, world: &World) {
        let heartbeat = ManagerHeartbeat { mark: world.mark(), place: world.place.digest(), journal: None };
        self.send(&ToAgent::Heartbeat(heartbeat)).await;
    }

    pub(crate) async fn delta(&mut self, from_view_revision: u64, world: &World, rows: Vec<ViewRow>) {
        let changes = rows.into_iter().map(|row| ViewChange { key: row.key(), row: Some(row) }).collect();
        self.send(&ToAgent::Delta(Delta { from_view_revision, mark: world.mark(), changes })).await;
    }

    /// What the agent says next; none once the session is over.
    pub(crate) async fn recv(&mut self) -> Option<FromAgent> {
        let frame = timeout(DEADLINE, self.receiver.recv(MAX_AGENT_FRAME)).await.expect("nothing in time");
        frame.ok().flatten().map(|frame| FromAgent::decode(&frame).unwrap())
    }

    /// The first heartbeat that `wanted` finds something in.
    pub(crate) async fn heartbeat<T>(&mut self, wanted: impl Fn(&AgentHeartbeat) -> Option<T>) -> T {
        loop {
            match self.recv().await {
                Some(FromAgent::Heartbeat(heartbeat)) => {
                    if let Some(found) = wanted(&heartbeat) {
                        return found;
                    }
                }
                other => panic!("instead of a heartbeat: {other:?}"),
            }
        }
    }
}

/// What the registry says.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rows: Vec<ViewRow>,
    pub(crate) place: Place,
    pub(crate) revision: u64,
    /// Under which grant the registry is written.
    pub(crate) grant: GrantId,
}

impl World {
    /// A registry with these managers in the root, and a host in it with these packages.
    pub(crate) fn new(
        manager: &Manager,
        host: HostId,
        managers: Vec<ViewManager>,
        packages: Vec<Package>,
    ) -> Self {
        let registry = ViewManager {
            ty: ManagerType::registry(),
            name: "fm".parse().unwrap(),
            ..view_manager(0, manager.addr())
        };
        let registry = ViewManager { host: manager.host, ..registry };
        let rows = managers.into_iter().chain([registry]).map(ViewRow::Manager);
        let place = Place {
            host,
            name: "agent1".parse().unwrap(),
            path: "/".parse().unwrap(),
            domains: vec![DomainId::ROOT],
            packages,
            address: Address::Ip([127, 0, 0, 1].into()),
            denial: None,
            allow_types: Default::default(),
            drained: None,
        };
        let grant = GrantId { lineage: Lineage(Uuid::from_u128(9)), epoch: 1 };
        Self { rows: [manager.trust()].into_iter().chain(rows).collect(), place, revision: 1, grant }
    }

    pub(crate) fn mark(&self) -> ViewMark {
        let position = self.grant.at(self.revision);
        let digest: Digest = View::from_rows(self.rows.clone()).unwrap().digest();
        ViewMark { position, view_revision: self.revision, digest }
    }

    /// The next revision, with this row set.
    pub(crate) fn with(&self, row: ViewRow) -> Self {
        let mut rows: Vec<_> = self.rows.iter().filter(|r| r.key() != row.key()).cloned().collect();
        rows.push(row);
        Self { rows, revision: self.revision + 1, ..self.clone() }
    }
}

/// A manager on host number `n` in the root; lower numbers are nearer.
pub(crate) fn view_manager(n: u8, addr: SocketAddr) -> ViewManager {
    ViewManager {
        host: HostId(Uuid::from_u128(n.into())),
        ty: ty(),
        name: format!("host{n}").parse().unwrap(),
        domain: DomainId::ROOT,
        endpoint: addr.into(),
        priority: DEFAULT_PRIORITY + u32::from(n),
        weight: DEFAULT_WEIGHT,
        role: Role::Backup,
        withdrawn: false,
        withdrawn_by_host: false,
        drained: None,
    }
}

/// A package of a host, checked every 50 ms.
pub(crate) fn package(host: HostId, addr: SocketAddr) -> Package {
    let check = Check { interval: Duration::from_millis(50), misses: 1, ..Check::of(CheckKind::Connect) };
    Package {
        host,
        ty: ty(),
        listens: Listens::At(addr.into()),
        priority: DEFAULT_PRIORITY,
        weight: DEFAULT_WEIGHT,
        withdrawn: None,
        role: Some(Role::Backup),
        version: None,
        check,
        fencing: None,
        host_side: None,
    }
}

/// An agent's configuration with a forwarder and an API of its own.
pub(crate) fn config(state: &Path) -> AgentConfig {
    AgentConfig {
        api: vec![format!("unix:{}", state.join("agent.sock").display()).parse().unwrap()],
        forwards: vec![format!("{}=127.0.0.1:0", ty()).parse().unwrap()],
        forward_threads: 0,
        stop_grace: Duration::from_secs(5),
        ..AgentConfig::new(state)
    }
}

/// A service that answers each line with its own name and the line.
pub(crate) async fn service(name: &'static str) -> (SocketAddr, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if write.write_all(format!("{name} {line}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, serving.abort_handle())
}

/// Says a line at `addr`; gives the answer.
pub(crate) async fn call(addr: SocketAddr) -> String {
    let mut stream = BufReader::new(TcpStream::connect(addr).await.unwrap());
    stream.write_all(b"hello\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_line(&mut answer)).await.expect("no answer in time").unwrap();
    answer.trim_end().to_owned()
}

/// Waits until `condition` gives something, or fails the test.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
