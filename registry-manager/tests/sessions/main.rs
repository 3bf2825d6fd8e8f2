//! A manager as agents and consoles meet it: real QUIC on loopback, real certificates, real SQLite.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(unreachable_pub, reason = "it is the whole-system tests' too")]
#[path = "../../../tests/src/loopback.rs"]
mod loopback;
mod marks;

use echelon_client::ManagerClient;
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::digest::Digest;
use echelon_core::grant::{Basis, Chain, Grant, GrantId, Mark, Parent};
use echelon_core::id::{DomainId, HostId, Lineage, RequestId};
use echelon_core::limits::HEARTBEAT;
use echelon_core::message::{
    AgentHeartbeat, Enrol, Enrolled, FromAgent, Health, Hello, Holding, Join, Query, Request, Response,
    ToAgent,
};
use echelon_core::package::Listens;
use echelon_core::position::Position;
use echelon_core::replication::{Replica, Step};
use echelon_core::report::{AlarmReport, CandidateState, RouteReport, StatusReport};
use echelon_core::time::{Monotonic, UnixMillis};
use echelon_daemon::{StateDir, Tasks};
use echelon_identity::proof::prove_grant;
use echelon_identity::{
    CertificateChain, CertificateRequest, Credentials, IdentityDirectory, Issuer, JoinToken, KeyPair, Leaf,
    Spiffe, TrustBundle, lifetime,
};
use echelon_transport::{Channel, CloseReason, Connection, Endpoint, Settings, Target};
use echelon_wire::Wire;
use futures::future::join_all;
use loopback::Loopback;
use registry_manager::Manager;
use registry_manager::config::Config;
use registry_manager::init::{Init, init};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);

struct Site {
    manager: Manager,
    console: ManagerClient,
    config: Config,
    state: StateDir,
    _place: (tempfile::TempDir, Loopback),
}

impl Site {
    async fn start() -> Self {
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

    async fn start_with_http() -> Self {
        let mut site = Self::start().await;
        site.config.http = Some("127.0.0.1:0".parse().unwrap());
        site.restart().await
    }

    async fn metrics(&self) -> String {
        let mut http = TcpStream::connect(self.manager.http_addr().unwrap()).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        http.write_all(request).await.unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Stops the manager and starts it again at the same address.
    async fn restart(self) -> Self {
        let Self { manager, config, state, _place, .. } = self;
        manager.stop().await.unwrap();
        let manager = Manager::start(&config, Tasks::new()).await.unwrap();
        let console = console(&config).await;
        Self { manager, console, config, state, _place }
    }

    async fn edit(&self, changes: Vec<Change>) -> u64 {
        self.console.edit(set(changes), false).await.unwrap().position.revision
    }

    fn trust(&self) -> TrustBundle {
        IdentityDirectory::open(&self.state.path().join("console")).unwrap().load_trust().unwrap()
    }

    async fn token(&self, uses: u32) -> JoinToken {
        self.token_for(Access::Agent, uses).await
    }

    async fn token_for(&self, access: Access, uses: u32) -> JoinToken {
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

    async fn enrol(&self, host: &str) -> Identity {
        let token = self.token(1).await;
        let key = KeyPair::generate().unwrap();
        let wish = enrolment(&token, host, &key, new_request());
        match self.ask_anonymously(&token, Request::Enrol(wish)).await {
            Response::Enrolled(enrolled) => Identity::new(&enrolled, key),
            other => panic!("not enrolled: {other:?}"),
        }
    }

    /// A manager that has joined, as far as its identity goes: it never runs.
    async fn join(&self, host: &str) -> Identity {
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

    async fn ask_anonymously(&self, token: &JoinToken, request: Request) -> Response {
        let endpoint = Endpoint::bind_client(None, None, Settings::client()).unwrap();
        let connection = endpoint.connect(self.config.listen, &Target::Pinned(token.pin)).await.unwrap();
        ask(&connection, &request).await
    }

    async fn connect(&self, identity: &Identity) -> Connection {
        let endpoint =
            Endpoint::bind_client(Some(&identity.credentials), Some(&self.trust()), Settings::client());
        endpoint.unwrap().connect(self.config.listen, &Target::AnyManager).await.unwrap()
    }
}

async fn console(config: &Config) -> ManagerClient {
    let directory = IdentityDirectory::open(&config.state.join("console")).unwrap();
    ManagerClient::connect(&directory, &[config.listen.into()]).await.unwrap()
}

struct Identity {
    credentials: Credentials,
    host: HostId,
}

impl Identity {
    fn new(enrolled: &Enrolled, key: KeyPair) -> Self {
        let chain = CertificateChain::new(enrolled.chain.clone()).unwrap();
        Self { credentials: Credentials::new(key, chain).unwrap(), host: enrolled.host }
    }
}

/// An agent reduced to its replica.
struct Agent {
    connection: Connection,
    channel: Channel,
    replica: Replica,
    received: Vec<&'static str>,
}

impl Agent {
    async fn begin(site: &Site, identity: &Identity, replica: Replica) -> Self {
        let connection = site.connect(identity).await;
        let mut channel = connection.open().await.unwrap();
        channel.send(&Request::Session.encode()).await.unwrap();
        let hello = Hello {
            protocol: (1, 1),
            build: "test".parse().unwrap(),
            incarnation: 1,
            holds: replica.holding(),
            grants: replica.grants().map(Chain::digest),
            signed: replica.signed().cloned(),
            keeps_signed: true,
        };
        channel.send(&FromAgent::Hello(hello).encode()).await.unwrap();
        let mut agent = Self { connection, channel, replica, received: Vec::new() };
        agent.take_until("the first heartbeat and liveness", |a| a.received.contains(&"liveness")).await;
        agent
    }

    async fn take(&mut self) -> Option<ToAgent> {
        let frame = self.channel.recv(echelon_wire::MAX_SESSION_FRAME).await.ok()??;
        let message = ToAgent::decode(&frame).unwrap();
        self.received.push(match &message {
            ToAgent::Welcome(_) => "welcome",
            ToAgent::Snapshot(_) => "snapshot",
            ToAgent::Delta(_) => "delta",
            ToAgent::Place(_) => "place",
            ToAgent::Heartbeat(_) => "heartbeat",
            ToAgent::Liveness(_) => "liveness",
            ToAgent::Grants(_) => "grants",
            ToAgent::Signed(_) => "signed",
        });
        let step = self.replica.receive(Monotonic::default(), message.clone()).unwrap();
        assert_ne!(step, Step::AskRepair, "{:?}", self.received);
        Some(message)
    }

    async fn take_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done(self) {
            let taken = tokio::time::timeout_at(end.into(), self.take()).await;
            assert!(matches!(taken, Ok(Some(_))), "waiting for {what}, got {:?}", self.received);
        }
    }

    async fn take_revision(&mut self, revision: u64) {
        let level = |a: &Self| a.replica.mark().is_some_and(|m| m.position.revision >= revision);
        self.take_until("the revision", level).await;
    }

    async fn report(&mut self, sequence: u64, packages: BTreeMap<echelon_core::name::ManagerType, Health>) {
        let holds = self.replica.holding();
        let (using, alarms, isolated) = (Vec::new(), Vec::new(), false);
        let beat = AgentHeartbeat { holds, sequence, packages, using, alarms, isolated };
        self.channel.send(&FromAgent::Heartbeat(beat).encode()).await.unwrap();
    }
}

fn unix_now() -> UnixMillis {
    UnixMillis(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

fn new_request() -> RequestId {
    RequestId(Uuid::now_v7())
}

fn set(changes: Vec<Change>) -> ChangeSet {
    ChangeSet { request: new_request(), if_revision: None, allow_shrink: false, changes }
}

fn add_host(name: &str, domain: &str) -> Change {
    let (id, name) = (HostId(Uuid::now_v7()), name.parse().unwrap());
    Change::AddHost { id, name, domain: domain.parse().unwrap(), address: None }
}

fn add_manager(host: &str, ty: &str) -> Change {
    let listens = Listens::At("127.0.0.1:9".parse().unwrap());
    let spec = PackageSpec { listens, ..PackageSpec::default() };
    Change::AddPackage { host: host.parse().unwrap(), ty: ty.parse().unwrap(), spec }
}

fn enrolment(token: &JoinToken, host: &str, key: &KeyPair, request: RequestId) -> Enrol {
    Enrol {
        token: token.id,
        secret: *token.secret.expose(),
        request,
        host: host.parse().unwrap(),
        domain: None,
        csr: CertificateRequest::new(key).unwrap().der().to_vec(),
    }
}

async fn ask(connection: &Connection, request: &Request) -> Response {
    let mut channel = connection.open().await.unwrap();
    channel.send(&request.encode()).await.unwrap();
    let frame = channel.recv(echelon_wire::MAX_EDIT_FRAME).await.unwrap().expect("an answer");
    Response::decode(&frame).unwrap()
}

fn error_of(response: Response) -> String {
    match response {
        Response::Failed(failure) => failure.error,
        other => panic!("not refused: {other:?}"),
    }
}

/// Protects: an agent gets a snapshot first, deltas of what concerns routing, and nothing but heartbeats for
/// edits of hosts without managers; its replica's digest stays the manager's.
#[tokio::test]
async fn a_session_carries_what_routing_needs_and_nothing_else() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut agent = Agent::begin(&site, &identity, Replica::default()).await;
    assert_eq!(agent.received[..3], ["welcome", "signed", "place"], "{:?}", agent.received);
    assert!(agent.received.contains(&"snapshot"));
    agent.received.clear();

    let plain = site.edit(vec![Change::AddDomain { path: "/x".parse().unwrap() }, add_host("b", "/x")]).await;
    agent.take_revision(plain).await;
    assert!(agent.received.iter().all(|m| ["signed", "heartbeat"].contains(m)), "{:?}", agent.received);

    let routed = site.edit(vec![add_manager("b", "audit")]).await;
    agent.take_revision(routed).await;
    assert_eq!(agent.received.iter().filter(|m| **m == "delta").count(), 1, "{:?}", agent.received);
    assert_eq!(agent.replica.view().manager_count(), 2);
    assert!(!agent.received.contains(&"snapshot"));
}

/// Protects: an agent that comes back with what it holds is sent only what it misses, across a restart of the
/// manager too.
#[tokio::test]
async fn an_agent_that_comes_back_is_sent_only_what_it_misses() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let agent = Agent::begin(&site, &identity, Replica::default()).await;
    let held = agent.replica;
    site.edit(vec![add_host("b", "/"), add_manager("b", "audit")]).await;
    let mut agent = Agent::begin(&site, &identity, held).await;
    assert!(agent.received.contains(&"delta"), "{:?}", agent.received);
    assert!(
        !agent.received.contains(&"snapshot") && !agent.received.contains(&"place"),
        "{:?}",
        agent.received
    );

    let site = site.restart().await;
    agent = Agent::begin(&site, &identity, agent.replica).await;
    assert_eq!(agent.received, ["welcome", "signed", "heartbeat", "liveness"]);
    let next = site.edit(vec![add_manager("a", "audit")]).await;
    agent.take_revision(next).await;
    assert!(
        agent.received.contains(&"delta") && !agent.received.contains(&"snapshot"),
        "{:?}",
        agent.received
    );
}

/// Protects: health that an agent reports reaches other agents and previews; silence makes a suspect, not a
/// failure.
#[tokio::test]
async fn reported_health_reaches_other_agents_and_silence_makes_a_suspect() {
    let site = Site::start().await;
    let (first, second) = (site.enrol("a").await, site.enrol("b").await);
    site.edit(vec![add_manager("b", "audit")]).await;
    let mut listener = Agent::begin(&site, &first, Replica::default()).await;
    let mut speaker = Agent::begin(&site, &second, Replica::default()).await;
    let ty: echelon_core::name::ManagerType = "audit".parse().unwrap();
    for (sequence, health) in [(1, Health::Passing), (2, failing())] {
        speaker.report(sequence, BTreeMap::from([(ty.clone(), health.clone())])).await;
        let heard = async {
            loop {
                if let Some(ToAgent::Liveness(l)) = listener.take().await {
                    let of_b = l.entries.iter().find(|e| e.host == second.host);
                    if of_b.is_some_and(|e| e.packages.get(&ty) == Some(&health)) {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, heard).await.expect("the other agent hears of it");
    }
    assert_eq!(state_of(&site, &ty).await, CandidateState::Down);
    speaker.report(3, BTreeMap::from([(ty.clone(), Health::Passing)])).await;
    let end = Instant::now() + DEADLINE;
    while state_of(&site, &ty).await != CandidateState::Live {
        assert!(Instant::now() < end, "the manager never showed the health");
    }
    drop(speaker);
    while state_of(&site, &ty).await != CandidateState::Suspect {
        assert!(Instant::now() < end, "silence of {:?} was never noticed", 3 * HEARTBEAT);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn failing() -> Health {
    Health::Failing { demands_answer: false, reason: "connection refused".parse().unwrap() }
}

async fn state_of(site: &Site, ty: &echelon_core::name::ManagerType) -> CandidateState {
    let query =
        Query::Route { host: Some("a".parse().unwrap()), ty: ty.clone(), down: Vec::new(), candidates: None };
    let routes: Vec<RouteReport> = site.console.query(query).await.unwrap();
    routes[0].candidates[0].state
}

/// Protects: an agent's certificate lets it neither edit nor read, and without one nothing but enrolling works.
#[tokio::test]
async fn agents_and_strangers_may_do_nothing_that_a_console_does() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let edit = || Request::Edit { set: set(vec![add_host("evil", "/")]), dry_run: false };
    let query = || Request::Query(Query::Status);
    let connection = site.connect(&identity).await;
    for request in [edit(), Request::Read, query()] {
        assert_eq!(error_of(ask(&connection, &request).await), "not-allowed");
    }
    let token = site.token(1).await;
    for request in [edit(), Request::Read, query(), Request::Session, Request::Renew { csr: Vec::new() }] {
        assert_eq!(error_of(site.ask_anonymously(&token, request).await), "not-allowed");
    }
    assert!(site.manager.registry().host_named(&"evil".parse().unwrap()).is_none());
}

/// Protects: a join token works as often as it says, wrong ones get one and the same answer, and a host whose
/// answer was lost gets it again without using the token up twice.
#[tokio::test]
async fn a_token_enrols_as_often_as_it_says_and_a_lost_answer_is_given_again() {
    let site = Site::start().await;
    let token = site.token(1).await;
    let (key, request) = (KeyPair::generate().unwrap(), new_request());
    let wish = || Request::Enrol(enrolment(&token, "a", &key, request));
    let first = site.ask_anonymously(&token, wish()).await;
    let again = site.ask_anonymously(&token, wish()).await;
    let (Response::Enrolled(first), Response::Enrolled(again)) = (first, again) else {
        panic!("not enrolled")
    };
    assert_eq!((first.host, first.enrolment), (again.host, again.enrolment));

    let used_up = enrolment(&token, "b", &KeyPair::generate().unwrap(), new_request());
    let stolen = enrolment(&token, "a", &KeyPair::generate().unwrap(), request);
    let mut wrong = enrolment(&site.token(1).await, "b", &key, new_request());
    wrong.secret = [7; 32];
    let mut answers = Vec::new();
    for wish in [used_up, wrong] {
        answers.push(site.ask_anonymously(&token, Request::Enrol(wish)).await);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(error_of(answers.remove(0)), "token-refused");
    assert_ne!(error_of(site.ask_anonymously(&token, Request::Enrol(stolen)).await), "");
}

/// Protects: removing a host denies it: its session ends and it is not let in again.
#[tokio::test]
async fn a_removed_host_is_put_out_at_once_and_not_let_in_again() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let agent = Agent::begin(&site, &identity, Replica::default()).await;
    site.edit(vec![Change::RemoveHost { host: "a".parse().unwrap(), with_packages: true }]).await;
    let begun = Instant::now();
    let reason = tokio::time::timeout(DEADLINE, agent.connection.closed()).await.expect("it is put out");
    assert!(matches!(reason, CloseReason::Peer { .. }), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let endpoint =
        Endpoint::bind_client(Some(&identity.credentials), Some(&site.trust()), Settings::client());
    let refused = endpoint.unwrap().connect(site.config.listen, &Target::AnyManager).await;
    assert!(refused.is_err(), "a denied host was let in");
}

/// Protects: many edits at once all take effect, each once, and a repeated one is answered as the first time.
#[tokio::test]
async fn edits_at_once_take_effect_once_each_and_repeated_ones_not_again() {
    let site = Site::start().await;
    let sets: Vec<_> = (0..64).map(|i| set(vec![add_host(&format!("h{i}"), "/")])).collect();
    let all = join_all(sets.iter().map(|s| site.console.edit(s.clone(), false))).await;
    let first: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let site = site.restart().await;
    for (set, first) in sets.iter().zip(&first) {
        let again = site.console.edit(set.clone(), false).await.unwrap();
        assert!(again.repeated && again.position == first.position && again.rows == first.rows);
    }
    let mut other = sets[0].clone();
    other.changes = vec![add_host("other", "/")];
    let refused = site.console.edit(other, false).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to another edit"), "{refused}");
    assert_eq!(site.manager.registry().host_count(), 65);
    let dry = site.console.edit(set(vec![add_host("dry", "/")]), true).await.unwrap();
    assert!(!dry.rows.is_empty() && dry.position == site.manager.registry().position());
    let status: Vec<StatusReport> = site.console.query(Query::Status).await.unwrap();
    assert_eq!((status[0].hosts, status[0].at.revision), (65, 64));
}

/// Protects: what an agent holds counts as level only with the very digest; a wrong one is sent the whole view.
#[tokio::test]
async fn a_replica_that_differs_is_sent_the_whole_view() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let connection = site.connect(&identity).await;
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    let position = site.manager.registry().position();
    let wrong = Holding { position, view_revision: 0, digest: Default::default(), place: Default::default() };
    let hello = Hello { holds: Some(wrong), ..hello(None) };
    channel.send(&FromAgent::Hello(hello).encode()).await.unwrap();
    let mut agent = Agent { connection, channel, replica: Replica::default(), received: Vec::new() };
    agent.take_until("the view", |a| a.replica.mark().is_some()).await;
    assert_eq!(agent.replica.view().manager_count(), 1);
}

/// Protects: peers that say nothing do not hold up the end of the manager: neither one that opened a session
/// and never greeted, nor an HTTP client in the middle of its request.
#[tokio::test]
async fn silent_peers_do_not_hold_up_the_end() {
    let site = Site::start_with_http().await;
    let mut http = TcpStream::connect(site.manager.http_addr().unwrap()).await.unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    let identity = site.enrol("a").await;
    let agent = Agent::begin(&site, &identity, Replica::default()).await;
    let mut channel = agent.connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    // Answered one after the other, so that the session is open on the other side.
    assert!(!site.console.query::<StatusReport>(Query::Status).await.unwrap().is_empty());
    let begun = Instant::now();
    tokio::time::timeout(DEADLINE, site.manager.stop()).await.expect("it stops").expect("nothing is cut off");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// Protects: a session too slow for the pushes misses no news of liveness among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lags_is_told_what_it_missed_of_liveness() {
    let site = Site::start_with_http().await;
    let (first, second) = (site.enrol("a").await, site.enrol("b").await);
    site.edit(vec![add_manager("b", "audit")]).await;
    let mut listener = Agent::begin(&site, &first, Replica::default()).await;
    // More than the windows hold, so that the listener's session waits for it to read. It takes a little now and then:
    // one that takes nothing for a while is given up.
    for edit in 0..80 {
        let names = (0..150).map(|i| format!("{}-{edit}-{i}", "long".repeat(60)));
        site.edit(names.flat_map(|n| [add_host(&n, "/"), add_manager(&n, "bulk")]).collect()).await;
        if edit % 4 == 3 {
            listener.take().await.expect("the session goes on");
        }
    }
    let mut speaker = Agent::begin(&site, &second, Replica::default()).await;
    let ty: echelon_core::name::ManagerType = "audit".parse().unwrap();
    speaker.report(1, BTreeMap::from([(ty.clone(), failing())])).await;
    while state_of(&site, &ty).await != CandidateState::Down {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // More than the ring holds, so that the news is no longer in it.
    let weigh = |weight| {
        let listens = Listens::At("127.0.0.1:9".parse().unwrap());
        let spec = PackageSpec { listens, weight, ..Default::default() };
        Change::SetPackage { host: "b".parse().unwrap(), ty: ty.clone(), spec }
    };
    let failing_still = |sequence| (sequence, BTreeMap::from([(ty.clone(), failing())]));
    for part in 0..22 {
        join_all((50 * part..50 * (part + 1)).map(|weight| site.edit(vec![weigh(weight)]))).await;
        listener.take().await.expect("the session goes on");
        // Not silent, which would be news again.
        let (sequence, packages) = failing_still(2 + u64::from(part));
        speaker.report(sequence, packages).await;
    }
    let heard = async {
        loop {
            if let ToAgent::Liveness(l) = listener.take().await.expect("the session goes on") {
                let of_b = l.entries.iter().find(|e| e.host == second.host && !e.silent);
                if of_b.is_some_and(|e| e.packages.get(&ty) == Some(&failing())) {
                    return;
                }
            }
        }
    };
    let speaking = async {
        for sequence in 24.. {
            let (sequence, packages) = failing_still(sequence);
            speaker.report(sequence, packages).await;
            tokio::time::sleep(HEARTBEAT).await;
        }
    };
    let heard = async {
        tokio::select! { () = heard => {}, () = speaking => {} }
    };
    tokio::time::timeout(DEADLINE, heard).await.expect("the listener hears of it");
    assert!(site.metrics().await.contains("queue_drops_total{queue=\"pushes\"} 1\n"), "no session lagged");
    let status: Vec<StatusReport> = site.console.query(Query::Status).await.unwrap();
    listener.take_revision(status[0].at.revision).await;
}

/// Protects: an agent that asks for repairs without end is not sent the whole view each time.
#[tokio::test]
async fn repairs_have_a_least_interval() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut agent = Agent::begin(&site, &identity, Replica::default()).await;
    agent.received.clear();
    for _ in 0..3 {
        agent.channel.send(&FromAgent::Repair.encode()).await.unwrap();
    }
    agent.take_until("the view", |a| a.received.contains(&"snapshot")).await;
    let next = site.edit(vec![add_manager("a", "audit")]).await;
    agent.take_revision(next).await;
    let parts = agent.received.iter().filter(|m| **m == "snapshot").count();
    assert_eq!(parts, 2, "the rows of one view, and what it is: {:?}", agent.received);
}

/// Protects: a denial closes every connection of the denied, also one without a session, within two seconds.
#[tokio::test]
async fn a_removed_host_loses_connections_without_a_session_too() {
    let site = Site::start().await;
    let (identity, other) = (site.enrol("a").await, site.enrol("b").await);
    let (connection, stays) = (site.connect(&identity).await, site.connect(&other).await);
    site.edit(vec![Change::RemoveHost { host: "a".parse().unwrap(), with_packages: true }]).await;
    let reason = tokio::time::timeout(Duration::from_secs(2), connection.closed()).await;
    assert!(matches!(reason, Ok(CloseReason::Peer { .. })), "{reason:?}");
    assert_eq!(error_of(ask(&stays, &Request::Read).await), "not-allowed");
}

/// Protects: a manager whose own host is renamed answers with the new name, without a restart.
#[tokio::test]
async fn a_manager_goes_by_the_name_its_host_has_now() {
    let site = Site::start().await;
    let (host, name) = ("registry".parse().unwrap(), "hq".parse().unwrap());
    site.edit(vec![Change::RenameHost { host, name }]).await;
    let status: Vec<StatusReport> = site.console.query(Query::Status).await.unwrap();
    assert_eq!(status[0].manager.as_str(), "hq");
}

/// Protects: a report that fits into no message is refused with what to do, not cut off; with that it is given.
#[tokio::test]
async fn a_report_too_large_for_a_message_is_refused_with_what_to_do() {
    let site = Site::start().await;
    let names: Vec<String> = (0..2500).map(|i| format!("{}-{i}", "long".repeat(60))).collect();
    site.edit(names.iter().flat_map(|n| [add_host(n, "/"), add_manager(n, "audit")]).collect()).await;
    let ask = |candidates, down: Vec<&str>| {
        let down = down.into_iter().map(|d| d.parse().unwrap()).collect();
        let (host, ty) = (Some("registry".parse().unwrap()), "audit".parse().unwrap());
        site.console.query::<RouteReport>(Query::Route { host, ty, down, candidates })
    };
    let refused = ask(None, Vec::new()).await.unwrap_err().to_string();
    assert!(refused.contains("more than a message may carry"), "{refused}");
    assert_eq!(ask(Some(5), Vec::new()).await.unwrap()[0].candidates.len(), 5);
    let refused = ask(Some(5), vec![names[0].as_str(); 1025]).await.unwrap_err().to_string();
    assert!(refused.contains("1025"), "{refused}");
}

/// Protects: one edit that changes more of the view than a message may carry reaches agents all the same, those
/// that are there and those that come back.
#[tokio::test]
async fn an_edit_too_large_for_one_delta_reaches_agents_as_a_whole_view() {
    let site = Site::start().await;
    let (first, second) = (site.enrol("a").await, site.enrol("b").await);
    let mut stays = Agent::begin(&site, &first, Replica::default()).await;
    let leaves = Agent::begin(&site, &second, Replica::default()).await.replica;
    stays.received.clear();
    let names: Vec<String> = (0..4500).map(|i| format!("{}-{i}", "long".repeat(60))).collect();
    site.edit(names.iter().flat_map(|n| [add_host(n, "/"), add_manager(n, "bulk")]).collect()).await;
    let next = site.edit(vec![add_manager("a", "audit")]).await;
    stays.take_revision(next).await;
    assert!(stays.received.contains(&"snapshot"), "{:?}", stays.received);
    let mut back = Agent::begin(&site, &second, leaves).await;
    back.take_revision(next).await;
    assert!(back.received.contains(&"snapshot"), "{:?}", back.received);
    assert_eq!((stays.replica.view().manager_count(), back.replica.view().manager_count()), (4502, 4502));
}

/// A session of which the test reads every message, begun by an agent that keeps grants with this digest.
async fn begin_with(site: &Site, identity: &Identity, grants: Option<Digest>) -> Channel {
    let connection = site.connect(identity).await;
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::Session.encode()).await.unwrap();
    channel.send(&FromAgent::Hello(hello(grants)).encode()).await.unwrap();
    channel
}

/// The greeting of an agent that holds nothing, and keeps grants with this digest.
fn hello(grants: Option<Digest>) -> Hello {
    Hello {
        protocol: (1, 1),
        build: "t".parse().unwrap(),
        incarnation: 1,
        holds: None,
        grants,
        signed: None,
        keeps_signed: false,
    }
}

async fn next(channel: &mut Channel) -> Option<ToAgent> {
    let frame = channel.recv(echelon_wire::MAX_SESSION_FRAME);
    let frame = tokio::time::timeout(DEADLINE, frame).await.expect("nothing in time").ok()??;
    Some(ToAgent::decode(&frame).unwrap())
}

/// Protects: an agent knows by whose word a view was written before it is shown the view, and is told once.
#[tokio::test]
async fn grants_come_before_anything_of_the_view_where_they_are_not_the_agents() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut channel = begin_with(&site, &identity, Some(Digest::default())).await;
    assert!(matches!(next(&mut channel).await, Some(ToAgent::Welcome(_))));
    let Some(ToAgent::Grants(grants)) = next(&mut channel).await else { panic!("no grants") };
    assert_eq!(grants.head().id.lineage, site.manager.registry().position().lineage);
    for same in [Some(grants.digest()), None] {
        let mut channel = begin_with(&site, &identity, same).await;
        assert!(matches!(next(&mut channel).await, Some(ToAgent::Welcome(_))));
        assert!(matches!(next(&mut channel).await, Some(ToAgent::Place(_))), "{same:?}");
    }
}

/// Protects: grants for which an agent refuses a manager end the session, whatever they are.
#[tokio::test]
async fn an_agent_that_shows_other_grants_has_no_session_any_more() {
    let site = Site::start().await;
    let identity = site.enrol("a").await;
    let mut channel = begin_with(&site, &identity, Some(Digest::default())).await;
    next(&mut channel).await;
    let Some(ToAgent::Grants(grants)) = next(&mut channel).await else { panic!("no grants") };
    let before = grants.head();
    let forged = Grant {
        id: GrantId { lineage: before.id.lineage, epoch: 2 },
        parent: Some(Parent { grant: before.id, mark: Mark { position: before.id.at(0), hash: [0; 32] } }),
        basis: Basis::Handover,
        ..before.clone()
    };
    let forged = grants.extended(forged).unwrap();
    channel.send(&FromAgent::Grants(forged).encode()).await.unwrap();
    while next(&mut channel).await.is_some() {}
}

/// Protects: a manager that was removed, and then restores a backup, puts nobody out of its place by way of an agent that
/// had not heard of the removal; it is told as a conflict, which an admin can settle.
#[tokio::test]
async fn a_grant_of_a_manager_that_was_removed_fences_nobody() {
    let site = Site::start().await;
    let (identity, gone) = (site.enrol("a").await, site.join("gone").await);
    let host = "gone".parse().unwrap();
    site.edit(vec![Change::RemoveManager { host, accept_loss: false, compromised: false }]).await;
    let mut channel = begin_with(&site, &identity, Some(Digest::default())).await;
    next(&mut channel).await;
    let Some(ToAgent::Grants(grants)) = next(&mut channel).await else { panic!("no grants") };
    let before = grants.head();
    let mark = Mark { position: site.manager.registry().position(), hash: [0; 32] };
    let restored = Grant {
        id: GrantId { lineage: Lineage(Uuid::now_v7()), epoch: 2 },
        holder: gone.host,
        parent: Some(Parent { grant: before.id, mark }),
        basis: Basis::Restore,
        at: unix_now(),
        ..before.clone()
    };
    let offered = grants.extended(prove_grant(&gone.credentials, &restored).unwrap()).unwrap();
    channel.send(&FromAgent::Grants(offered).encode()).await.unwrap();
    while next(&mut channel).await.is_some() {}
    let end = Instant::now() + DEADLINE;
    loop {
        let alarms: Vec<AlarmReport> = site.console.query(Query::Alarms).await.unwrap();
        if alarms.iter().any(|alarm| alarm.name.as_str() == "conflict") {
            break;
        }
        assert!(Instant::now() < end, "{alarms:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.edit(vec![add_host("later", "/")]).await;
    assert_eq!(site.manager.registry().position().epoch, 1);
}
