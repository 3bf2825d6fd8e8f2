//! The primary changes: by hand while edits go on, by force once it was killed; and what it kept comes to light.

#![allow(clippy::unwrap_used, reason = "tests")]

use echelon_client::{CallError, ManagerClient};
use echelon_core::access::{Access, Token};
use echelon_core::alarm::Severity;
use echelon_core::change::{Change, ChangeSet, NewIssuer};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::{Basis, Grant, SyncRule};
use echelon_core::id::{DomainId, HostId, RequestId, TokenId};
use echelon_core::message::{Failure, FailureClass, Query};
use echelon_core::package::Role;
use echelon_core::promotion::{
    EvidenceReport, GrantReport, GrantState, LostEditReport, Promoted, PromotedReport, Promotion,
};
use echelon_core::registry::Registry;
use echelon_core::report::AlarmReport;
use echelon_core::row::{Actor, Row};
use echelon_core::time::UnixMillis;
use echelon_identity::proof::prove_grant;
use echelon_identity::{
    Authority, Credentials, IdentityDirectory, Issuer, KeyPair, Leaf, Spiffe, file, lifetime,
};
use echelon_store::{Entry, JournalReader, RegistryStore};
use registry_manager::config::Recorded;
use registry_manager::init::{Init, init};
use registry_manager::paths::Paths;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(60);

fn unix_now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64)
}

fn set(change: Change) -> ChangeSet {
    let request = RequestId(Uuid::now_v7());
    ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] }
}

fn host(name: &str) -> ChangeSet {
    let (id, domain) = (HostId(Uuid::now_v7()), "/".parse().unwrap());
    set(Change::AddHost { id, name: name.parse().unwrap(), domain, address: None })
}

async fn wait_for(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !look().await {
        assert!(Instant::now() < end, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A manager's state directory, and its process.
struct Node {
    state: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
    process: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    fn at(state: PathBuf) -> Self {
        std::fs::create_dir(&state).unwrap();
        set_private(&state);
        let listen = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { state, listen, http, process: None }
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.state.with_extension("log")).unwrap();
        let told = self.state.with_extension("roles");
        let words = "$ECHELON_ROLE $ECHELON_CAUSE $ECHELON_SUCCESS $ECHELON_PRIMARY $ECHELON_EPOCH";
        let hook = format!("echo {words} >> {}", told.display());
        let settings = self.state.with_extension("toml");
        std::fs::write(&settings, format!("[on_promote]\ncommand = ['/bin/sh', '-c', '{hook}']\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry-manager"));
        command
            .env_clear()
            .arg("run")
            .arg("--config")
            .arg(&settings)
            .arg("--state")
            .arg(&self.state)
            .args(["--http", &self.http.to_string()]);
        command.env("ECHELON_LOG", "info").stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops it without a word, or lets it go on.
    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    async fn get(&self, path: &str) -> u16 {
        let ask = async {
            let mut http = TcpStream::connect(self.http).await?;
            http.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
                .await?;
            let mut answer = String::new();
            http.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0))
        };
        ask.await.unwrap_or(0)
    }

    async fn wait_until_ready(&self) {
        wait_for("a manager to serve", async || self.get("/readyz").await == 200).await;
    }

    /// What its command of `on_promote` was told, once the last of it is this.
    async fn told(&self, last: &str) -> Vec<String> {
        let mut told = Vec::new();
        wait_for(last, async || {
            let text = std::fs::read_to_string(self.state.with_extension("roles")).unwrap_or_default();
            told = text.lines().map(ToOwned::to_owned).collect();
            told.last().is_some_and(|line| line == last)
        })
        .await;
        told
    }

    fn store(&self) -> RegistryStore {
        RegistryStore::open(&Paths::of(&self.state).registry()).unwrap()
    }
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// A primary on host `hub` and a standby on host `spare`.
struct Pair {
    primary: Node,
    standby: Node,
    dir: tempfile::TempDir,
}

impl Pair {
    /// Both run, and edits count once both hold them.
    async fn running() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (primary, standby) = (Node::at(dir.path().join("hub")), Node::at(dir.path().join("spare")));
        let mut pair = Self { primary, standby, dir };
        pair.make();
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

    /// Makes the primary, has the standby join it by edits made while nothing runs, and copies the registry.
    fn make(&self) {
        let wish = Init {
            state: self.primary.state.clone(),
            framework: "test".parse().unwrap(),
            host: "hub".parse().unwrap(),
            listen: self.primary.listen,
            advertise: self.primary.listen.into(),
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
            endpoint: self.standby.listen.into(),
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

    fn identity(&self) -> Credentials {
        let identity = IdentityDirectory::open(&Paths::of(&self.primary.state).console()).unwrap();
        identity.load_credentials().unwrap()
    }

    /// The first console, at this manager.
    async fn console(&self, at: &Node) -> ManagerClient {
        let identity = IdentityDirectory::open(&Paths::of(&self.primary.state).console()).unwrap();
        ManagerClient::connect(&identity, &[at.listen.into()]).await.unwrap()
    }
}

fn new_issuer(issuer: &Issuer) -> NewIssuer {
    NewIssuer { id: issuer.credentials().key().public_key_hash(), not_after: issuer.not_after() }
}

/// Edits a registry whose manager does not run.
fn edit(store: &mut RegistryStore, change: Change) {
    let loaded = store.load(UnixMillis(0)).unwrap();
    let registry = Registry::from_rows(loaded.position, loaded.rows).unwrap();
    let actor = Actor::Manager("hub".parse().unwrap());
    let context = Context { now: unix_now(), actor, from: None, content: [0; 32] };
    let Edited::Done(_, commit) = registry.edit(&set(change), &context).unwrap() else { panic!("repeated") };
    let entry = Entry::new(&store.head(), commit);
    store.append(std::slice::from_ref(&entry), entry.revision()).unwrap();
}

async fn rule(console: &ManagerClient) -> SyncRule {
    console.read().await.unwrap().registry.meta().sync.clone()
}

async fn knows(console: &ManagerClient, name: &str) -> bool {
    console.read().await.unwrap().registry.host_named(&name.parse().unwrap()).is_some()
}

fn id() -> RequestId {
    RequestId(Uuid::now_v7())
}

fn failure(answer: Result<Promoted, CallError>) -> Failure {
    match answer {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("not refused: {other:?}"),
    }
}

fn force(id: RequestId, trial: bool) -> Promotion {
    let (to, reason) = ("spare".parse().unwrap(), Some("the disk is gone".parse().unwrap()));
    Promotion::Force { id, to, accept_loss: false, reason, trial }
}

fn hand_over(to: &str, trial: bool) -> Promotion {
    Promotion::HandOver { id: id(), to: to.parse().unwrap(), reason: None, trial }
}

fn done(promoted: Promoted) -> PromotedReport {
    let Promoted::Done(document) = promoted else { panic!("not done: {promoted:?}") };
    serde_json::from_str(&document).unwrap()
}

fn evidence(promoted: Promoted) -> EvidenceReport {
    let Promoted::Evidence(document) = promoted else { panic!("no evidence: {promoted:?}") };
    serde_json::from_str(&document).unwrap()
}

/// What a manager proposes, once it does: the old primary may have to be silent for a while first.
async fn proposed(console: &ManagerClient, id: RequestId) -> Grant {
    let mut proposed = None;
    wait_for("a proposal", async || {
        proposed = console.promotion(force(id, false)).await.ok();
        proposed.is_some()
    })
    .await;
    let Some(Promoted::Proposed { grant, .. }) = proposed else { panic!("not proposed: {proposed:?}") };
    ManagerClient::read_proposed(&grant).unwrap()
}

async fn primary(console: &ManagerClient) -> String {
    let registry = console.read().await.unwrap().registry;
    let primary = registry.packages().find(|p| p.ty.is_registry() && p.role == Some(Role::Primary)).unwrap();
    registry.host(primary.host).unwrap().name.to_string()
}

async fn grants(console: &ManagerClient) -> Vec<GrantReport> {
    console.query(Query::Lineage).await.unwrap()
}

/// Edits until it is told to stop. Gives what was acknowledged.
async fn write(console: ManagerClient, name: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{name}-{number}");
        match console.edit(host(&name), false).await {
            Ok(_) => acknowledged.push(name),
            Err(e) => panic!("an edit failed during a hand-over: {e:?}"),
        }
    }
    acknowledged
}

/// Protects: a planned promotion, asked for at either manager, loses no edit and fails none, says how long none was
/// accepted, and can be taken back the same way.
#[tokio::test]
async fn a_planned_promotion_loses_no_edit() {
    let pair = Pair::running().await;
    let (at_hub, at_spare) = (pair.console(&pair.primary).await, pair.console(&pair.standby).await);
    let before = grants(&at_spare).await;
    let would = evidence(at_spare.promotion(hand_over("spare", true)).await.unwrap());
    assert_eq!((would.refused, would.primary.answers, would.loss.possible), (None, true, false));
    assert_eq!(grants(&at_spare).await, before, "a trial changes nothing");

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for (name, node) in [("h", &pair.primary), ("s", &pair.standby)] {
        let console = pair.console(node).await;
        writers.push(tokio::spawn(write(console, name.into(), Arc::clone(&stop))));
    }
    wait_for("some edits", async || knows(&at_spare, "s-5").await && knows(&at_spare, "h-5").await).await;
    let promoted = done(at_spare.promotion(hand_over("spare", false)).await.unwrap());
    assert_eq!((promoted.from.as_str(), promoted.to.as_str(), promoted.repeated), ("hub", "spare", false));
    assert!(promoted.accepts && promoted.pause_ms.is_some(), "{promoted:?}");
    assert_eq!((promoted.before.epoch, promoted.after.epoch), (1, 2));
    let back = done(at_spare.promotion(hand_over("hub", false)).await.unwrap());
    assert_eq!((back.from.as_str(), back.to.as_str(), back.after.epoch), ("spare", "hub", 3));
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    for name in &acknowledged {
        assert!(knows(&at_hub, name).await, "{name} is lost");
    }
    let again = done(at_spare.promotion(hand_over("hub", false)).await.unwrap());
    assert!(again.repeated, "{again:?}");
    assert_eq!(primary(&at_hub).await, "hub");
    let bases: Vec<_> = grants(&at_hub).await.into_iter().map(|g| (g.basis, g.state)).collect();
    let (past, newest) = (GrantState::Past, GrantState::Newest);
    assert_eq!(bases, [(Basis::Init, past), (Basis::Handover, past), (Basis::Handover, newest)]);
    let failure = failure(at_hub.promotion(hand_over("nobody", false)).await);
    assert_eq!((failure.error.as_str(), failure.class), ("unknown-host", FailureClass::Failed));
    assert!(acknowledged.len() > 10);
    let told = pair.primary.told("primary planned true hub 3").await;
    assert_eq!(
        told,
        ["primary started true hub 1", "standby planned true spare 2", "primary planned true hub 3"]
    );
    let told = pair.standby.told("standby planned true hub 3").await;
    assert_eq!(
        told,
        ["standby started true hub 1", "primary planned true spare 2", "standby planned true hub 3"]
    );
}

/// Protects: while the primary answers nobody takes its place by force; once it was killed, a console that reaches the
/// standby alone promotes that one, with a grant that the console signs and nobody else; the old primary follows when
/// it is back, and keeps what only it had, which can be made once more.
#[tokio::test]
async fn a_standby_is_promoted_by_force_once_the_primary_was_killed() {
    let mut pair = Pair::running().await;
    let console = pair.console(&pair.standby).await;
    console.edit(host("acknowledged"), false).await.unwrap();
    let refused = failure(console.promotion(force(id(), false)).await);
    assert_eq!((refused.error.as_str(), refused.class), ("primary-answers", FailureClass::Forbidden));
    let would = evidence(console.promotion(force(id(), true)).await.unwrap());
    assert_eq!(would.refused.map(|why| why.error), Some("primary-answers".into()));

    // An edit that the standby never gets: it is stopped first, and killed then.
    let at_hub = pair.console(&pair.primary).await;
    pair.standby.signal("-STOP");
    let lost = tokio::spawn(async move { at_hub.edit(host("unheard-of"), false).await });
    wait_for("the edit to be written", async || {
        pair.primary.get("/healthz").await == 200 && {
            let reader = JournalReader::open(&Paths::of(&pair.primary.state).registry()).unwrap();
            let last = reader.backwards(0, u64::from(u32::MAX)).unwrap();
            last.first().is_some_and(|commit| {
                let named =
                    |row: &Option<Row>| matches!(row, Some(Row::Host(h)) if h.name.as_str() == "unheard-of");
                commit.rows.iter().any(|change| named(&change.after))
            })
        }
    })
    .await;
    pair.standby.kill();
    pair.primary.kill();
    assert!(lost.await.unwrap().is_err(), "what only the primary had is not acknowledged");

    pair.standby.start();
    pair.standby.wait_until_ready().await;
    let console = pair.console(&pair.standby).await;
    wait_for("the alarm of a silent primary", async || {
        let alarms: Vec<AlarmReport> = console.query(Query::Alarms).await.unwrap();
        let remedy = "echelon promote spare --force";
        alarms.iter().any(|a| {
            a.name.as_str() == "no-primary" && a.severity == Severity::Critical && a.remedy.contains(remedy)
        })
    })
    .await;
    let refused = failure(console.promotion(hand_over("spare", false)).await);
    assert_eq!((refused.error.as_str(), refused.class), ("no-primary", FailureClass::Unreachable));
    assert!(refused.remedy.contains("--force"), "{refused:?}");
    let would = evidence(console.promotion(hand_over("spare", true)).await.unwrap()).refused.unwrap();
    assert!(would.error == refused.error && would.remedy.contains("promote spare --force"), "{would:?}");
    let before = grants(&console).await;
    let would = evidence(console.promotion(force(id(), true)).await.unwrap());
    assert_eq!((would.refused, would.primary.answers, would.sync.enough), (None, false, true));
    assert!(!would.loss.possible, "{:?}", would.loss);
    assert_eq!(grants(&console).await, before, "a trial changes nothing");

    let name = id();
    let grant = proposed(&console, name).await;
    let to = || "spare".parse().unwrap();
    let stranger = prove_grant(&credentials_of(&pair.standby), &grant).unwrap();
    let refused = failure(console.promotion(Promotion::Signed { id: name, to: to(), grant: stranger }).await);
    assert_eq!((refused.error.as_str(), refused.class), ("not-proved", FailureClass::NotAllowed));
    let signed = prove_grant(&pair.identity(), &grant).unwrap();
    let promoted = console.promotion(Promotion::Signed { id: name, to: to(), grant: signed }).await.unwrap();
    let promoted = done(promoted);
    assert_eq!((promoted.from.as_str(), promoted.to.as_str(), promoted.accepts), ("hub", "spare", true));
    let told = pair.standby.told("primary forced true spare 2").await;
    assert_eq!(
        told[..2],
        ["standby started true hub 1", "standby forced false hub 1"],
        "it was refused first"
    );
    console.edit(host("after"), false).await.unwrap();
    let again = done(console.promotion(force(name, false)).await.unwrap());
    assert!(again.repeated && again.after.lineage == promoted.after.lineage, "{again:?}");
    assert!(knows(&console, "acknowledged").await);

    pair.primary.start();
    pair.primary.wait_until_ready().await;
    let at_hub = pair.console(&pair.primary).await;
    wait_for("the old primary to follow", async || knows(&at_hub, "after").await).await;
    assert_eq!((pair.primary.get("/primary").await, primary(&at_hub).await.as_str()), (503, "spare"));
    let told = pair.primary.told("standby fenced true spare 2").await;
    assert_eq!(
        told,
        ["primary started true hub 1", "primary started true hub 1", "standby fenced true spare 2"]
    );
    let lost: Vec<LostEditReport> = at_hub.query(Query::Lost).await.unwrap();
    let names: Vec<_> = lost.iter().flat_map(|edit| &edit.changed).map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["unheard-of"]);
    wait_for("the alarm of what is kept", async || {
        let alarms: Vec<AlarmReport> = at_hub.query(Query::Alarms).await.unwrap();
        alarms
            .iter()
            .any(|a| a.name.as_str() == "surplus" && a.subject == "hub" && a.message.starts_with("1 "))
    })
    .await;
    let edit = &lost[0];
    assert_eq!((edit.applied, edit.lost_to.lineage), (None, promoted.after.lineage));
    assert!(!knows(&at_hub, "unheard-of").await);
    let set = ChangeSet {
        request: edit.again,
        if_revision: None,
        allow_shrink: false,
        changes: edit.changes.clone(),
    };
    let made = at_hub.edit(set, false).await.unwrap();
    let lost: Vec<LostEditReport> = at_hub.query(Query::Lost).await.unwrap();
    assert_eq!(lost[0].applied, Some(made.position.revision));
    assert!(knows(&console, "unheard-of").await);
}

/// Protects: an edit that a standby has handed on to a primary which then stands still is made at the next one, once: who
/// asked for it waits a little longer, and is not left with an unknown outcome.
#[tokio::test]
async fn an_edit_in_the_hands_of_a_dead_primary_is_made_at_the_new_one() {
    let pair = Pair::running().await;
    let console = Arc::new(pair.console(&pair.standby).await);
    pair.primary.signal("-STOP");
    let (theirs, set) = (Arc::clone(&console), host("handed-on"));
    let again = set.clone();
    let edit = tokio::spawn(async move { theirs.edit(set, false).await });
    // It has been sent once another request over the same connection is answered.
    assert!(!knows(&console, "handed-on").await);
    let name = id();
    let grant = prove_grant(&pair.identity(), &proposed(&console, name).await).unwrap();
    let signed = Promotion::Signed { id: name, to: "spare".parse().unwrap(), grant };
    let promoted = done(console.promotion(signed).await.unwrap());
    let made = edit.await.unwrap().unwrap();
    assert_eq!((made.repeated, made.position.lineage), (false, promoted.after.lineage));
    let repeated = console.edit(again, false).await.unwrap();
    assert_eq!((repeated.repeated, repeated.position), (true, made.position));
    pair.primary.signal("-CONT");
    let at_hub = pair.console(&pair.primary).await;
    wait_for("the old primary to follow", async || knows(&at_hub, "handed-on").await).await;
}

fn credentials_of(node: &Node) -> Credentials {
    IdentityDirectory::open(&Paths::of(&node.state).identity()).unwrap().load_credentials().unwrap()
}
