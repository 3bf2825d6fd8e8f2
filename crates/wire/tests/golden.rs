//! The bytes of each release, for ever: what `golden/0.1.hex` says must decode to these values, and these
//! values must encode to those bytes. A line is a message's kind and its bytes. Lines are added, never
//! changed: a change would cut off the peers and the journals of the release.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is to fail the test")]

use echelon_core::access::{Access, Denial, Identity, Subject, Token};
use echelon_core::alarm::{Notice, Raised, Severity};
use echelon_core::announce::{AnnouncedSpec, Announcement, HostWord};
use echelon_core::backup::{BackupHead, BackupPart};
use echelon_core::board::Told;
use echelon_core::change::{Change, ChangeSet, NewIssuer, PackageSpec};
use echelon_core::check::{Check, CheckKind, CheckText};
use echelon_core::digest::Digest;
use echelon_core::fencing::Fencing;
use echelon_core::grant::{Basis, Grant, GrantId, Grantor, Mark, Parent, Part, Proof, SyncRule};
use echelon_core::id::{DomainId, HostId, Lineage, RequestId, TokenId};
use echelon_core::issuer::Issuer;
use echelon_core::member::MemberMessage;
use echelon_core::message::*;
use echelon_core::package::{HostSide, Listens, Package, Role, Withdrawal};
use echelon_core::passphrase::Passphrase;
use echelon_core::policy::{Failback, Policy, PolicySettings, Probe, TypeSelector, Walk};
use echelon_core::position::Position;
use echelon_core::promotion::{Promoted, Promotion};
use echelon_core::report::{Down, Outcome};
use echelon_core::row::{Actor, Commit, Domain, Drain, Host, Meta, Row, RowChange, RowKey};
use echelon_core::setting::Setting;
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::UnixMillis;
use echelon_core::view::{Manager, Place, ViewChange, ViewKey, ViewRow};
use echelon_wire::Wire;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

const GOLDEN: &str = include_str!("golden/0.1.hex");

/// Whether bytes decode to the value of an example.
type Decodes = Box<dyn Fn(&[u8]) -> bool>;

/// A value under the name of its kind, with its type forgotten.
struct Example {
    kind: String,
    hex: String,
    decodes: Decodes,
}

fn example<T: Wire + PartialEq + Debug + 'static>(kind: impl Into<String>, value: T) -> Example {
    let hex = to_hex(&value.encode());
    Example {
        kind: kind.into(),
        hex,
        decodes: Box::new(move |bytes| T::decode(bytes).as_ref() == Ok(&value)),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn this_build_reads_and_writes_the_bytes_of_0_1() {
    let golden: BTreeMap<&str, &str> = GOLDEN.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(golden.len(), GOLDEN.lines().count(), "a kind is in the file twice");
    let mut wrong = Vec::new();
    for example in examples() {
        match golden.get(example.kind.as_str()) {
            None => wrong.push(format!("not in the file: {} {}", example.kind, example.hex)),
            Some(hex) if *hex != example.hex => {
                wrong.push(format!("{} encodes to {}, not to {hex}", example.kind, example.hex));
            }
            Some(hex) if !(example.decodes)(&from_hex(hex)) => {
                wrong.push(format!("{} decodes to another value", example.kind));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_line_of_the_file_has_its_value_here() {
    let kinds: BTreeSet<String> = examples().into_iter().map(|e| e.kind).collect();
    for line in GOLDEN.lines() {
        let (kind, _) = line.split_once(' ').unwrap();
        assert!(kinds.contains(kind), "{kind} is no longer compared");
    }
}

/// All kinds of an enum by name: `match` is exhaustive, so that a new kind does not compile before it is
/// listed here, and a listed one needs an example.
macro_rules! kinds {
    ($($ty:ident { $($kind:ident),* $(,)? })*) => {
        trait Kind {
            fn kind(&self) -> &'static str;
        }

        $(impl Kind for $ty {
            fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind { .. } => concat!(stringify!($ty), ".", stringify!($kind)),)*
                }
            }
        })*

        const KINDS: &[&str] = &[$($(concat!(stringify!($ty), ".", stringify!($kind)),)*)*];
    };
}

kinds! {
    FromAgent { Hello, Heartbeat, Repair, Grants }
    ToAgent { Welcome, Snapshot, Delta, Place, Heartbeat, Liveness, Grants, Signed }
    Health { Unchecked, Passing, Withdrawn, Failing }
    HostWord { Runs, Withdraws }
    Request { Session, Enrol, Renew, Edit, Read, Query, Announce, Join, Leave, Promotion, Link, Copy, Relayed, Backup, PromotionFor, JoinFor,
        DismissLost }
    Query { Status, Route, Tokens, Managers, History, Watch, Alarms, Agents, Actual, Lineage, Lost }
    Response { Failed, Enrolled, Renewed, Edited, Rows, Documents, Joined, Promotion, Linked, Copied, Backup }
    BackupPart { Head, Bytes, End }
    Promotion { HandOver, Force, Choose, Signed, Abort }
    Promoted { Evidence, Proposed, Done, Aborted }
    FailureClass { Failed, Forbidden, Unreachable, NotAllowed, Unknown }
    Retry { Safe, Unsafe, Pointless }
    Outcome { Home, Failover, LastResort, Unserved }
    Severity { Info, Warning, Critical }
    Row { Meta, Domain, Host, Package, Policy, Identity, Denial, Token, Issuer }
    RowKey { Meta, Domain, Host, Package, Policy, Identity, Denial, Token, Issuer }
    Actor { Console, Agent, Manager, Token }
    Subject { Host, Console, Manager }
    Access { Agent, Manager, Viewer, Operator, Admin }
    Listens { Nowhere, Port, At }
    CheckKind { Connect, Exchange, Http, Grpc }
    Role { Primary, Backup }
    Walk { Chain, Subtree, Hops }
    Failback { Auto, Dormant, Off }
    ViewRow { Trust, Domain, Manager, Policy, Denial, Issuer }
    ViewKey { Trust, Domain, Manager, Policy, Denial, Issuer }
    Change {
        AddDomain, RenameDomain, MoveDomain, RemoveDomain, AddHost, MoveHost, RenameHost, SetAddress,
        RemoveHost, DrainHost, ResumeHost, EndDrains, AddPackage, SetPackage, WithdrawPackage, RestorePackage,
        RemovePackage, SetPolicy, UnsetPolicy, ReplacePolicy, CreateToken, RevokeToken, Enrol, Announce, Promote,
        PromoteFrom, RecordManager, JoinManager, Admit, RemoveManager, SetMinSync, TakeOver,
    }
}

#[test]
fn every_kind_has_an_example() {
    let examples: BTreeSet<String> = examples().into_iter().map(|e| e.kind).collect();
    for kind in KINDS {
        assert!(examples.contains(*kind), "{kind} has no example");
    }
}

fn to<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn uuid(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn position() -> Position {
    Position { lineage: Lineage(uuid(1)), epoch: 2, revision: 300 }
}

fn mark() -> ViewMark {
    ViewMark { position: position(), view_revision: 299, digest: Digest::from_bytes([3; 32]) }
}

fn holding() -> Holding {
    Holding {
        position: position(),
        view_revision: 299,
        digest: Digest::from_bytes([3; 32]),
        place: Digest::from_bytes([4; 32]),
    }
}

fn board_news(proved: Option<SignedMark>) -> ManagerMessage {
    ManagerMessage::Board(BoardNews { agents: vec![told()], proved })
}

fn signed_mark(certificates: Vec<Vec<u8>>) -> SignedMark {
    SignedMark {
        mark: Mark { position: position(), hash: [8; 32] },
        at: UnixMillis(1_700_000_000_005),
        proof: Proof { certificates, signature: vec![4] },
    }
}

fn host_id() -> HostId {
    HostId(uuid(5))
}

fn token_id() -> TokenId {
    TokenId(uuid(6))
}

fn request_id() -> RequestId {
    RequestId(uuid(7))
}

fn check(kind: CheckKind) -> Check {
    Check { kind, interval: Duration::from_millis(500), timeout: Duration::from_secs(1), misses: 3 }
}

fn exchange() -> CheckKind {
    let text = |t: &str| CheckText::try_from(t.to_owned()).unwrap();
    CheckKind::Exchange { send: text("PING\r\n"), expect: text("PONG") }
}

fn package(listens: Listens, check: Check, role: Role) -> Package {
    Package {
        host: host_id(),
        ty: to("command-control"),
        listens,
        priority: 50,
        weight: 0,
        withdrawn: Some(Withdrawal { reason: Some(to("moved: CR-7")) }),
        role: Some(role),
        version: Some(to("1.4.2")),
        check,
        fencing: None,
        host_side: None,
    }
}

fn plain_package() -> Package {
    package(Listens::At(to("[::1]:7000")), check(exchange()), Role::Backup)
}

fn spec() -> PackageSpec {
    PackageSpec {
        listens: Listens::At(to("db.example:7000")),
        priority: 50,
        weight: 2,
        version: Some(to("1.4.2")),
        check: check(exchange()),
    }
}

/// All settings that there were before the first that was added.
fn first_settings() -> BTreeSet<Setting> {
    Setting::ALL.into_iter().filter(|s| *s != Setting::Probe).collect()
}

fn settings(walk: Walk, failback: Failback) -> PolicySettings {
    PolicySettings {
        walk: Some(walk),
        boundary: Some(false),
        failback: Some(failback),
        failback_hold: Some(Duration::ZERO),
        failback_jitter: Some(Duration::from_secs(30)),
        connect_hedge: Some(Duration::from_millis(50)),
        connect_timeout: Some(Duration::from_secs(1)),
        drain_timeout: Some(Duration::from_secs(3600)),
        evidence_ttl: Some(Duration::from_secs(15)),
        probe: None,
    }
}

fn policy(walk: Walk, failback: Failback) -> Policy {
    Policy { domain: DomainId(8), ty: TypeSelector::All, settings: settings(walk, failback) }
}

fn identity(access: Access, subject: Subject) -> Identity {
    Identity {
        subject,
        enrolment: 2,
        access,
        allow_types: BTreeSet::from([to("audit"), to("command-control")]),
        key_hash: [9; 32],
        enrolled: UnixMillis(1_700_000_000_000),
    }
}

fn denial() -> Denial {
    Denial { subject: Subject::Host(host_id()), up_to: 1, until: UnixMillis(1_700_000_000_001) }
}

fn token() -> Token {
    Token {
        id: token_id(),
        secret_hash: [10; 32],
        access: Access::Agent,
        host: Some(to("agent1")),
        domain: DomainId(8),
        allow_types: BTreeSet::from([to("audit")]),
        replace: true,
        expires: UnixMillis(1_700_000_000_002),
        uses_left: 300,
    }
}

fn issuer() -> Issuer {
    let (not_after, renew_only) = (UnixMillis(1_700_000_000_005), Some(UnixMillis(1_700_000_000_006)));
    Issuer { id: [13; 32], host: host_id(), not_after, renew_only, dropped: false }
}

fn domain() -> Domain {
    Domain { id: DomainId(8), place: Some((DomainId::ROOT, to("emea"))) }
}

fn host() -> Host {
    let address = Some(to("10.0.0.1"));
    Host { id: host_id(), name: to("agent1"), domain: DomainId(8), address, drained: None }
}

fn manager() -> Manager {
    Manager {
        host: host_id(),
        ty: to("command-control"),
        name: to("agent1"),
        domain: DomainId(8),
        endpoint: to("10.0.0.1:7000"),
        priority: 100,
        weight: 1,
        role: Role::Primary,
        withdrawn: true,
        withdrawn_by_host: false,
        drained: None,
    }
}

fn place() -> Place {
    Place {
        host: host_id(),
        name: to("agent1"),
        path: to("/emea/de"),
        domains: vec![DomainId::ROOT, DomainId(8), DomainId(9)],
        packages: vec![plain_package()],
        address: to("agent1.example"),
        denial: Some(denial()),
        allow_types: BTreeSet::new(),
        drained: None,
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row::Meta(Meta {
            framework: to("acme"),
            next_domain: DomainId(10),
            trust: vec![vec![1, 2], vec![3]],
            emptied: None,
            sync: SyncRule::alone(),
        }),
        Row::Domain(domain()),
        Row::Host(host()),
        Row::Package(plain_package()),
        Row::Policy(policy(Walk::Subtree, Failback::Off)),
        Row::Identity(identity(Access::Agent, Subject::Host(host_id()))),
        Row::Denial(denial()),
        Row::Token(token()),
    ]
}

fn row_change() -> RowChange {
    let before = Row::Host(Host { address: None, ..host() });
    RowChange { key: before.key(), before: Some(before), after: Some(Row::Host(host())) }
}

fn view_rows() -> Vec<ViewRow> {
    vec![
        ViewRow::Trust(vec![vec![1, 2], vec![3]]),
        ViewRow::Domain(domain()),
        ViewRow::Manager(manager()),
        ViewRow::Policy(policy(Walk::Hops, Failback::Dormant)),
        ViewRow::Denial(denial()),
    ]
}

fn changes() -> Vec<Change> {
    let path = || to("/emea/de");
    let (host, ty) = (|| to("agent1"), || to("command-control"));
    let one = || TypeSelector::One(ty());
    vec![
        Change::AddDomain { path: path() },
        Change::RenameDomain { path: path(), name: to("at") },
        Change::MoveDomain { path: path(), parent: to("/") },
        Change::RemoveDomain { path: path(), recursive: true },
        Change::AddHost { id: host_id(), name: host(), domain: path(), address: Some(to("::1")) },
        Change::MoveHost { host: host(), domain: path() },
        Change::RenameHost { host: host(), name: to("agent2") },
        Change::SetAddress { host: host(), address: None },
        Change::RemoveHost { host: host(), with_packages: true },
        Change::DrainHost {
            host: host(),
            lasting: Some(Duration::from_secs(7200)),
            reason: Some(to("kernel update")),
        },
        Change::ResumeHost { host: host() },
        Change::EndDrains,
        Change::AddPackage { host: host(), ty: ty(), spec: spec() },
        Change::SetPackage { host: host(), ty: ty(), spec: spec() },
        Change::WithdrawPackage { host: host(), ty: ty(), reason: Some(to("moved")) },
        Change::RestorePackage { host: host(), ty: ty() },
        Change::RemovePackage { host: host(), ty: ty(), successor: Some(to("agent2")) },
        Change::SetPolicy { domain: path(), ty: one(), settings: settings(Walk::Chain, Failback::Auto) },
        Change::UnsetPolicy { domain: path(), ty: one(), keys: first_settings() },
        Change::ReplacePolicy { domain: path(), ty: one(), settings: PolicySettings::default() },
        Change::CreateToken { token: token(), domain: path() },
        Change::RevokeToken { id: token_id() },
        Change::Enrol {
            token: token_id(),
            host: host(),
            id: host_id(),
            domain: Some(path()),
            address: Some(to("10.0.0.1")),
            key_hash: [11; 32],
        },
        Change::Announce { host: host_id(), ty: ty(), word: HostWord::Runs(announced_spec()) },
    ]
}

/// Changes that came later, and so do not stand in the example of an edit with every kind.
fn changes_of_managers() -> Vec<Change> {
    let (host, token, key_hash) = (host_id(), token_id(), [11; 32]);
    let issuer = NewIssuer { id: [13; 32], not_after: UnixMillis(1_700_000_000_005) };
    let sync = SyncRule { members: BTreeSet::from([host]), min_sync: 2 };
    vec![
        Change::RecordManager { host, enrolment: 2, key_hash, issuer },
        Change::JoinManager {
            token,
            host: to("agent1"),
            id: host,
            domain: Some(to("/emea/de")),
            address: Some(to("10.0.0.1")),
            endpoint: to("10.0.0.1:29120"),
            key_hash,
            issuer,
        },
        Change::Admit { host },
        Change::RemoveManager { host: to("agent1"), accept_loss: true, compromised: true },
        Change::SetMinSync { min_sync: 2, accept_loss: true },
        Change::TakeOver { holder: host, sync, gives_up: true },
    ]
}

fn announced_spec() -> AnnouncedSpec {
    AnnouncedSpec { port: Some(to("7000")), version: Some(to("1.4.2")), check: Some(check(exchange())) }
}

fn announcement(word: HostWord) -> Announcement {
    Announcement { number: request_id(), ty: to("audit"), word }
}

/// Fields that came to messages later, in one example each.
fn added() -> Vec<Example> {
    let side = HostSide { number: request_id(), announced: true, withdrawn: true };
    let package = Package { host_side: Some(side), ..plain_package() };
    let led =
        Package { role: Some(Role::Primary), fencing: Fencing::at(&position()).ok(), ..plain_package() };
    let promote = Change::Promote { host: to("agent1"), ty: to("command-control") };
    let promote_from = Change::PromoteFrom { host: to("agent1"), from: to("agent2") };
    let manager = Manager { withdrawn_by_host: true, ..manager() };
    let allowed = Place { allow_types: BTreeSet::from([to("audit"), to("command-control")]), ..place() };
    let probing = |probe| {
        let settings = PolicySettings { probe: Some(probe), ..PolicySettings::default() };
        Row::Policy(Policy { domain: DomainId(8), ty: TypeSelector::All, settings })
    };
    let keys = BTreeSet::from([Setting::Probe]);
    let unset = Change::UnsetPolicy { domain: to("/emea"), ty: TypeSelector::All, keys };
    let reason = || Some(to("kernel update"));
    let drained = || Some(Withdrawal { reason: reason() });
    let drain = Drain { until: Some(UnixMillis(1_700_000_000_004)), reason: reason() };
    let meta = Meta {
        framework: to("acme"),
        next_domain: DomainId(10),
        trust: vec![],
        emptied: Some(298),
        sync: SyncRule::alone(),
    };
    let part = SnapshotPart { first: false, rows: vec![], last: Some(mark()), emptied: Some(298) };
    let hello = Hello {
        protocol: (1, 1),
        build: to("0.1.0"),
        incarnation: 13,
        holds: Some(holding()),
        grants: vec![Digest::from_bytes([5; 32])],
        signed: None,
        keeps_signed: false,
    };
    let keeps =
        Hello { signed: Some(signed_mark(vec![vec![1, 2], vec![3]])), keeps_signed: true, ..hello.clone() };
    let beat = ManagerHeartbeat { mark: mark(), place: Digest::from_bytes([4; 32]), journal: Some([8; 32]) };
    let trail = vec![Digest::from_bytes([5; 32]), Digest::default()];
    let later = Part { after: Some(Digest::from_bytes([5; 32])), more: true, ..whole_chain() };
    let shrinking = Commit { served: 301, shrinks: true, ..commit(Actor::Console(to("alice"))) };
    vec![
        example("Package.host_side", Row::Package(package)),
        example("Package.fencing", Row::Package(led)),
        example("Change.Promote", change_set(vec![promote])),
        example("Change.PromoteFrom", change_set(vec![promote_from])),
        example("Manager.withdrawn_by_host", ViewRow::Manager(manager)),
        example("Place.allow_types", allowed),
        example("Place.drained", Place { drained: drained(), ..place() }),
        example("Manager.drained", ViewRow::Manager(Manager { drained: drained(), ..self::manager() })),
        example("Host.drained", Row::Host(Host { drained: Some(drain), ..host() })),
        example("Meta.emptied", Row::Meta(meta)),
        example("SnapshotPart.emptied", ToAgent::Snapshot(part)),
        example("Commit.shrinks", shrinking),
        example("UnsetPolicy.probe", change_set(vec![unset])),
        example("Probe.Off", probing(Probe::Off)),
        example("Probe.By", probing(Probe::By(check(exchange())))),
        example("Hello.grants", FromAgent::Hello(hello)),
        example("Hello.signed+keeps_signed", FromAgent::Hello(keeps)),
        example("ManagerHeartbeat.journal", ToAgent::Heartbeat(beat)),
        example("ManagerMessage.Grants+Part.after", ManagerMessage::Grants(later)),
        example("Join.greeting", Request::Join(Join { greeting: Some(greeting()), ..join() })),
        example("Greeting.grants", Request::Link(Greeting { grants: trail, ..greeting() })),
        example("ChangeSet.allow_shrink", ChangeSet { allow_shrink: true, ..change_set(vec![]) }),
    ]
}

fn change_set(changes: Vec<Change>) -> ChangeSet {
    ChangeSet { request: request_id(), if_revision: Some(299), allow_shrink: false, changes }
}

fn commit(actor: Actor) -> Commit {
    Commit {
        position: position(),
        at: UnixMillis(1_700_000_000_003),
        actor,
        from: Some(to("10.0.0.9:50123")),
        request: request_id(),
        content: [12; 32],
        rows: vec![row_change()],
        served: 0,
        shrinks: false,
        alone: false,
    }
}

fn liveness_entry(health: Health) -> LivenessEntry {
    LivenessEntry {
        host: host_id(),
        incarnation: 13,
        sequence: 14,
        silent: true,
        packages: BTreeMap::from([(to("audit"), health)]),
    }
}

fn using(outcome: Outcome) -> Using {
    Using {
        ty: to("audit"),
        manager: Some(to("agent1")),
        since: Duration::from_millis(1500),
        cause: to("agent3: connection refused"),
        outcome,
    }
}

fn heartbeat(outcome: Outcome, severity: Severity) -> FromAgent {
    let notice = Notice { severity, ..Notice::warning("settings-refused", "unknown key", "correct it") };
    FromAgent::Heartbeat(AgentHeartbeat {
        holds: Some(holding()),
        sequence: 14,
        packages: BTreeMap::from([(to("audit"), Health::Unchecked), (to("mirror"), Health::Passing)]),
        using: vec![using(outcome)],
        alarms: vec![Raised { notice, since: Duration::from_secs(7) }],
        isolated: true,
    })
}

/// A first grant and a forced one.
fn whole_chain() -> Part {
    let first = Grant::first(Lineage(uuid(1)), host_id(), to("framework-manager"), UnixMillis(17));
    let mark = Mark { position: first.id.at(300), hash: [6; 32] };
    let forced = Grant {
        id: GrantId { lineage: Lineage(uuid(2)), epoch: 2 },
        holder: HostId(uuid(9)),
        parent: Some(Parent { grant: first.id, mark }),
        basis: Basis::Force,
        sync: SyncRule { members: BTreeSet::from([host_id()]), min_sync: 1 },
        at: UnixMillis(18),
        grantor: Grantor::Console(to("alice")),
        reason: Some(to("the disk is gone")),
        rejects: vec![],
        proof: Some(Proof { certificates: vec![vec![1, 2], vec![3]], signature: vec![4] }),
    };
    Part { after: None, grants: vec![first, forced], more: false }
}

fn from_agent() -> Vec<FromAgent> {
    vec![
        FromAgent::Hello(Hello {
            protocol: (1, 2),
            build: to("0.1.0"),
            incarnation: 13,
            holds: Some(holding()),
            grants: vec![],
            signed: None,
            keeps_signed: false,
        }),
        heartbeat(Outcome::Failover, Severity::Warning),
        FromAgent::Repair,
        FromAgent::Grants(whole_chain()),
    ]
}

fn to_agent() -> Vec<ToAgent> {
    let gone = ViewChange { key: ViewRow::Manager(manager()).key(), row: None };
    let set = ViewChange { key: ViewKey::Domain(DomainId(8)), row: Some(ViewRow::Domain(domain())) };
    vec![
        ToAgent::Welcome(Welcome {
            protocol: 1,
            build: to("0.1.0"),
            manager: to("framework-manager"),
            heartbeat: Duration::from_secs(2),
        }),
        ToAgent::Snapshot(SnapshotPart { first: true, rows: view_rows(), last: Some(mark()), emptied: None }),
        ToAgent::Delta(Delta { from_view_revision: 290, mark: mark(), changes: vec![gone, set] }),
        ToAgent::Place(place()),
        ToAgent::Heartbeat(ManagerHeartbeat {
            mark: mark(),
            place: Digest::from_bytes([4; 32]),
            journal: None,
        }),
        ToAgent::Liveness(Liveness { complete: true, entries: vec![liveness_entry(Health::Passing)] }),
        ToAgent::Grants(whole_chain()),
        ToAgent::Signed(signed_mark(vec![])),
    ]
}

fn queries() -> Vec<Query> {
    let down = vec![to::<Down>("agent3"), to::<Down>("agent1:audit")];
    vec![
        Query::Status,
        Query::Route { host: Some(to("agent4")), ty: to("audit"), down, candidates: Some(3) },
        Query::Tokens,
        Query::Managers,
        Query::History { since: Some(290), limit: Some(10), follow: true },
        Query::Watch,
        Query::Alarms,
        Query::Agents { host: Some(to("agent4")) },
        Query::Actual { host: to("agent4"), ty: to("audit") },
        Query::Lineage,
        Query::Lost,
    ]
}

fn greeting() -> Greeting {
    Greeting { protocol: (1, 2), build: to("0.2.0"), grants: vec![] }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Session,
        Request::Enrol(Enrol {
            token: token_id(),
            secret: [15; 32],
            request: request_id(),
            host: to("agent1"),
            domain: Some(to("/emea/de")),
            csr: vec![16, 17],
        }),
        Request::Renew { csr: vec![16, 17] },
        Request::Edit { set: change_set(changes()), dry_run: true },
        Request::Read,
        Request::Query(Query::Status),
        Request::Announce(announcement(HostWord::Withdraws)),
        Request::Join(join()),
        Request::Leave { request: request_id() },
        Request::Backup { passphrase: Some(Passphrase::parse("correct horse").unwrap()) },
        Request::Promotion(promotions().swap_remove(0)),
        Request::Link(greeting()),
        Request::Copy,
        Request::Relayed(Relayed {
            actor: Actor::Console("alice".parse().unwrap()),
            from: Some("10.0.0.9:50123".parse().unwrap()),
            content: [5; 32],
            set: change_set(changes()),
            dry_run: true,
        }),
        Request::PromotionFor { console: to("alice"), step: promotions().swap_remove(0) },
        Request::JoinFor { wish: join(), from: to("10.0.0.9:50123") },
        Request::DismissLost { through: 7 },
    ]
}

fn join() -> Join {
    Join {
        token: token_id(),
        secret: [15; 32],
        request: request_id(),
        host: to("agent1"),
        domain: Some(to("/emea/de")),
        endpoint: to("10.0.0.1:29120"),
        csr: vec![16, 17],
        issuer_csr: vec![18],
        greeting: None,
    }
}

fn promotions() -> Vec<Promotion> {
    let (id, to_host, reason) = (request_id(), || to("agent1"), || Some(to("the disk is dying")));
    let first = Grant::first(position().lineage, host_id(), to_host(), UnixMillis(1_700_000_000_005));
    let proof = Some(Proof { certificates: vec![vec![1], vec![2]], signature: vec![3, 4] });
    vec![
        Promotion::HandOver { id, to: to_host(), reason: reason(), trial: true },
        Promotion::Force { id, to: to_host(), accept_loss: true, reason: reason(), trial: true },
        Promotion::Choose { id, lineage: position().lineage, reason: reason(), trial: true },
        Promotion::Signed { id, to: to_host(), grant: Grant { proof, ..first } },
        Promotion::Abort { id, to: to_host() },
    ]
}

fn promoted() -> Vec<Promoted> {
    vec![
        Promoted::Evidence("{}".into()),
        Promoted::Proposed { grant: vec![1, 2], evidence: "{}".into() },
        Promoted::Done("{}".into()),
        Promoted::Aborted,
    ]
}

fn failure(class: FailureClass, retry: Retry) -> Failure {
    Failure {
        error: "unknown-host".into(),
        class,
        message: "There is no host agent9.".into(),
        place: "agent9".into(),
        remedy: "List hosts with `echelon host list`.".into(),
        retry,
    }
}

fn responses() -> Vec<Response> {
    vec![
        Response::Failed(failure(FailureClass::Failed, Retry::Pointless)),
        Response::Enrolled(Enrolled {
            chain: vec![vec![1, 2], vec![3]],
            framework: to("acme"),
            host: host_id(),
            enrolment: 2,
            access: Access::Agent,
            domain: to("/emea/de"),
        }),
        Response::Renewed(vec![vec![1, 2], vec![3]]),
        Response::Edited(EditAnswer {
            position: position(),
            request: request_id(),
            rows: vec![row_change()],
            repeated: true,
        }),
        Response::Rows(RowsPart {
            position: position(),
            rows: rows(),
            liveness: vec![liveness_entry(Health::Passing)],
            last: true,
        }),
        Response::Documents { documents: vec!["{}".into(), "{\"a\":1}".into()], last: true },
        Response::Linked(greeting()),
        Response::Copied { part: vec![1, 2], last: true },
        Response::Backup(BackupPart::End([12; 32])),
        Response::Joined(Joined {
            issuer: vec![vec![1, 2], vec![3]],
            framework: to("acme"),
            host: host_id(),
            enrolment: 2,
            domain: to("/emea/de"),
            root_unexported: true,
        }),
        Response::Promotion(Promoted::Aborted),
    ]
}

fn backup_parts() -> [BackupPart; 3] {
    let head =
        BackupHead { framework: to("acme"), position: position(), committed: 299, size: 4096, keys: true };
    [BackupPart::Head(head), BackupPart::Bytes(vec![1, 2, 3]), BackupPart::End([12; 32])]
}

/// The words and kinds that stand inside other messages, each in one that carries it.
fn inner() -> Vec<Example> {
    let failing = Health::Failing { demands_answer: true, reason: to("no answer within 500ms") };
    let health = [Health::Unchecked, Health::Passing, Health::Withdrawn, failing];
    let listens = [Listens::Nowhere, Listens::Port(to("7001")), Listens::At(to("10.0.0.1:7000"))];
    let checks = [
        CheckKind::Connect,
        exchange(),
        CheckKind::Http {
            path: to("/healthz?a=b"),
            status: Some(204.try_into().unwrap()),
            host: Some(to("web.example:80")),
        },
        CheckKind::Grpc { service: Some(to("acme.Control")) },
    ];
    let actors = [
        Actor::Console(to("alice")),
        Actor::Agent(to("agent1")),
        Actor::Manager(to("framework-manager")),
        Actor::Token(token_id()),
    ];
    let access = [Access::Agent, Access::Manager, Access::Viewer, Access::Operator, Access::Admin];
    let subjects = [Subject::Host(host_id()), Subject::Console(to("alice")), Subject::Manager(host_id())];
    let walks = [Walk::Chain, Walk::Subtree, Walk::Hops];
    let failbacks = [Failback::Auto, Failback::Dormant, Failback::Off];
    let classes = [
        FailureClass::Failed,
        FailureClass::Forbidden,
        FailureClass::Unreachable,
        FailureClass::NotAllowed,
        FailureClass::Unknown,
    ];
    let retries = [Retry::Safe, Retry::Unsafe, Retry::Pointless];
    let outcomes = [Outcome::Home, Outcome::Failover, Outcome::LastResort, Outcome::Unserved];
    let severities = [Severity::Info, Severity::Warning, Severity::Critical];
    let failed = |class, retry| Response::Failed(failure(class, retry));
    let row = |listens, kind, role| Row::Package(package(listens, check(kind), role));

    let mut all = Vec::new();
    let words = [HostWord::Runs(AnnouncedSpec::default()), HostWord::Withdraws];
    all.extend(words.map(|w| example(w.kind(), Request::Announce(announcement(w)))));
    all.extend(backup_parts().map(|part| example(part.kind(), Response::Backup(part))));
    all.extend(health.map(|h| example(h.kind(), liveness_entry(h))));
    all.extend(queries().into_iter().map(|q| example(q.kind(), Request::Query(q))));
    all.extend(promotions().into_iter().map(|p| example(p.kind(), Request::Promotion(p))));
    all.extend(promoted().into_iter().map(|p| example(p.kind(), Response::Promotion(p))));
    all.extend(classes.map(|c| example(c.kind(), failed(c, Retry::Safe))));
    all.extend(retries.map(|r| example(r.kind(), failed(FailureClass::Failed, r))));
    all.extend(outcomes.map(|o| example(o.kind(), heartbeat(o, Severity::Warning))));
    all.extend(severities.map(|s| example(s.kind(), heartbeat(Outcome::Failover, s))));
    all.extend(actors.map(|a| example(a.kind(), commit(a))));
    all.extend(access.map(|a| example(a.kind(), Row::Identity(identity(a, Subject::Host(host_id()))))));
    all.extend(subjects.map(|s| example(s.kind(), Row::Identity(identity(Access::Viewer, s)))));
    all.extend(listens.map(|l| example(l.kind(), row(l, CheckKind::Connect, Role::Backup))));
    all.extend(checks.map(|c| example(c.kind(), row(Listens::Nowhere, c, Role::Backup))));
    all.extend(
        [Role::Primary, Role::Backup]
            .map(|r| example(r.kind(), row(Listens::Port(to("1")), CheckKind::Connect, r))),
    );
    all.extend(walks.map(|w| example(w.kind(), ViewRow::Policy(policy(w, Failback::Auto)))));
    all.extend(failbacks.map(|f| example(f.kind(), ViewRow::Policy(policy(Walk::Chain, f)))));
    all
}

fn told() -> Told {
    Told {
        host: host_id(),
        by: HostId(Uuid::from_bytes([7; 16])),
        connected: true,
        silent: false,
        word: 3,
        ago: Duration::from_millis(20),
        incarnation: 4,
        sequence: 5,
        packages: BTreeMap::from([(to("audit"), Health::Passing)]),
        using: vec![],
        holds: None,
        alarms: vec![],
        build: Some(to("0.1.0")),
        isolated: false,
        failing: BTreeMap::from([(to("audit"), Duration::from_secs(1))]),
        behind: Some(Duration::from_secs(7)),
    }
}

fn examples() -> Vec<Example> {
    let mut all = vec![
        example("Position", position()),
        example("ManagerMessage::Member", ManagerMessage::Member(MemberMessage::Ask)),
        example("ManagerMessage::Board", board_news(None)),
        example("BoardNews.proved", board_news(Some(signed_mark(vec![vec![1]])))),
        example("ViewMark", mark()),
        example("Place", place()),
        example("RowChange", row_change()),
        example("ViewChange", ViewChange { key: ViewKey::Trust, row: Some(ViewRow::Trust(vec![vec![1]])) }),
    ];
    all.extend(from_agent().into_iter().map(|m| example(m.kind(), m)));
    all.extend(to_agent().into_iter().map(|m| example(m.kind(), m)));
    all.extend(requests().into_iter().map(|m| example(m.kind(), m)));
    all.extend(responses().into_iter().map(|m| example(m.kind(), m)));
    all.extend(rows().into_iter().map(|r| example(r.key().kind(), r.key())));
    all.extend(rows().into_iter().map(|r| example(r.kind(), r)));
    all.extend(view_rows().into_iter().map(|r| example(r.key().kind(), r.key())));
    all.extend(view_rows().into_iter().map(|r| example(r.kind(), r)));
    let issuer = [ViewRow::Issuer(issuer())];
    all.extend(issuer.iter().map(|r| example(r.key().kind(), r.key())));
    all.extend(issuer.into_iter().map(|r| example(r.kind(), r)));
    let issuer = [Row::Issuer(self::issuer())];
    all.extend(issuer.iter().map(|r| example(r.key().kind(), r.key())));
    all.extend(issuer.into_iter().map(|r| example(r.kind(), r)));
    all.extend(changes_of_managers().into_iter().map(|c| example(c.kind(), change_set(vec![c]))));
    all.extend(changes().into_iter().map(|c| example(c.kind(), change_set(vec![c]))));
    all.extend(inner());
    all.extend(added());
    all
}
