//! Calls over a real connection, answered by a manager that says what each test wants it to.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use echelon_client::{CallError, ConnectError, ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::endpoint::Endpoint;
use echelon_core::grant::SyncRule;
use echelon_core::id::{DomainId, HostId};
use echelon_core::message::{EditAnswer, Failure, FailureClass, Query, Request, Response, Retry, RowsPart};
use echelon_core::position::Position;
use echelon_core::row::{Domain, Meta, Row};
use echelon_core::time::UnixMillis;
use echelon_identity::{
    Authority, CertificateRequest, Credentials, IdentityDirectory, Issuer, KeyPair, Leaf, Spiffe,
};
use echelon_transport::{AdmitAll, Channel, Endpoint as Socket, Rejection, Role, Settings};
use echelon_wire::Wire;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
const CONSOLE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// What the manager does with a request.
enum Does {
    /// Answers, and ends the channel.
    Says(Vec<Response>),
    /// Closes the connection without a word.
    HangsUp,
    /// Sends bytes that are no answer.
    Babbles,
}

/// An authority, a manager of it, and a console's identity.
struct Framework {
    authority: Authority,
    issuer: Issuer,
    dir: tempfile::TempDir,
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

fn host() -> HostId {
    ID.parse().unwrap()
}

impl Framework {
    fn new(name: &str) -> Self {
        // Certificates never begin before their issuer's.
        let founded = now() - CONSOLE_LIFE * 2;
        let authority = Authority::create(&name.parse().unwrap(), founded).unwrap();
        let issuer = authority.issue_intermediate(host(), founded).unwrap();
        Self { authority, issuer, dir: tempfile::tempdir().unwrap() }
    }

    fn credentials(&self, subject: &Spiffe, lifetime: Duration, at: UnixMillis) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let leaf = Leaf { subject, name: "someone", enrolment: 1, lifetime };
        let chain = self.issuer.issue(&leaf, &key.public_key(), at).unwrap();
        Credentials::new(key, chain).unwrap()
    }

    /// A console's identity whose certificate was issued `age` ago.
    fn console(&self, age: Duration) -> IdentityDirectory {
        let identity = IdentityDirectory::create(&self.dir.path().join("console")).unwrap();
        let subject = Spiffe::Console("anna".parse().unwrap());
        identity.save_credentials(&self.credentials(&subject, CONSOLE_LIFE, now() - age)).unwrap();
        identity.save_trust(&self.authority.trust()).unwrap();
        identity
    }

    /// A manager that does as it is told. It ends with the test's runtime.
    fn manager(&self, does: impl Fn(Request) -> Does + Send + Sync + 'static) -> Endpoint {
        self.manager_admitting(Role::Server(Arc::new(AdmitAll)), does)
    }

    fn manager_admitting(
        &self,
        role: Role,
        does: impl Fn(Request) -> Does + Send + Sync + 'static,
    ) -> Endpoint {
        let credentials = self.credentials(&Spiffe::Manager(host()), Duration::from_secs(3600), now());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let trust = self.authority.trust();
        let socket =
            Socket::bind(address, role, Some(&credentials), Some(&trust), Settings::server()).unwrap();
        let address = socket.local_addr();
        tokio::spawn(serve(socket, Arc::new(does)));
        address.into()
    }
}

async fn serve(socket: Socket, does: Arc<dyn Fn(Request) -> Does + Send + Sync>) {
    while let Some(connection) = socket.accept().await {
        let does = does.clone();
        tokio::spawn(async move {
            while let Ok(mut channel) = connection.accept().await {
                let frame = channel.recv(1 << 20).await.unwrap().unwrap();
                match does(Request::decode(&frame).unwrap()) {
                    Does::HangsUp => connection.close(9, "out of here"),
                    Does::Says(answers) => say(&mut channel, answers.iter().map(Wire::encode)).await,
                    Does::Babbles => say(&mut channel, [vec![0xff; 9].into()].into_iter()).await,
                }
            }
        });
    }
}

async fn say(channel: &mut Channel, frames: impl Iterator<Item = echelon_wire::Bytes>) {
    for frame in frames {
        channel.send(&frame).await.unwrap();
    }
}

fn position(revision: u64) -> Position {
    Position { lineage: ID.parse().unwrap(), epoch: 1, revision }
}

fn edit() -> ChangeSet {
    let changes = vec![Change::AddDomain { path: "/sub1".parse().unwrap() }];
    ChangeSet { request: new_request_id(), if_revision: None, allow_shrink: false, changes }
}

fn answer(set: &ChangeSet) -> EditAnswer {
    EditAnswer { position: position(7), request: set.request, rows: Vec::new(), repeated: false }
}

fn refusal() -> Failure {
    let message = "domain /sub1 exists already".into();
    let (error, class, retry) = ("domain-exists".into(), FailureClass::Forbidden, Retry::Pointless);
    Failure { error, class, message, place: String::new(), remedy: String::new(), retry }
}

async fn connect(framework: &Framework, manager: Endpoint) -> ManagerClient {
    ManagerClient::connect(&framework.console(Duration::ZERO), &[manager]).await.unwrap()
}

#[tokio::test]
async fn an_edit_is_sent_and_answered() {
    let framework = Framework::new("acme");
    let manager = framework.manager(|request| match request {
        Request::Edit { set, dry_run: true } => Does::Says(vec![Response::Edited(answer(&set))]),
        _ => Does::Says(vec![Response::Failed(refusal())]),
    });
    let client = connect(&framework, manager).await;
    let set = edit();
    assert_eq!(client.edit(set.clone(), true).await.unwrap(), answer(&set));
    let refused = client.edit(set, false).await.unwrap_err();
    assert_eq!(refused.failure(), refusal());
    client.close().await;
}

#[tokio::test]
async fn an_edit_without_an_answer_has_an_unknown_outcome_and_a_read_does_not() {
    let framework = Framework::new("acme");
    for silence in [|| Does::HangsUp, || Does::Says(Vec::new()), || Does::Babbles] {
        let manager = framework.manager(move |_| silence());
        let client = connect(&framework, manager.clone()).await;
        let set = edit();
        let error = client.edit(set.clone(), false).await.unwrap_err();
        assert!(
            matches!(&error, CallError::OutcomeUnknown { request, .. } if *request == set.request),
            "{error:?}"
        );
        assert_eq!(error.failure().class, FailureClass::Unknown);
        let client = connect(&framework, manager).await;
        let error = client.read().await.unwrap_err();
        assert_eq!(error.failure().class, FailureClass::Unreachable, "{error:?}");
    }
}

#[tokio::test]
async fn an_edit_on_a_connection_that_is_gone_was_never_sent() {
    let framework = Framework::new("acme");
    let manager = framework.manager(|_| Does::HangsUp);
    let client = connect(&framework, manager).await;
    client.read().await.unwrap_err();
    let error = client.edit(edit(), false).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::Unreachable, "{error:?}");
}

#[tokio::test]
async fn a_registry_comes_in_parts() {
    let framework = Framework::new("acme");
    let manager = framework.manager(|_| {
        let meta = Meta {
            framework: "acme".parse().unwrap(),
            next_domain: DomainId(2),
            trust: vec![vec![1]],
            emptied: None,
            sync: SyncRule::alone(),
        };
        let root = Row::Domain(Domain { id: DomainId::ROOT, place: None });
        let sub =
            Row::Domain(Domain { id: DomainId(1), place: Some((DomainId::ROOT, "sub1".parse().unwrap())) });
        let part =
            |rows, last| Response::Rows(RowsPart { position: position(7), rows, liveness: Vec::new(), last });
        Does::Says(vec![
            part(vec![Row::Meta(meta), root], false),
            part(vec![sub], false),
            part(Vec::new(), true),
        ])
    });
    let reading = connect(&framework, manager).await.read().await.unwrap();
    assert_eq!((reading.registry.position(), reading.registry.hierarchy().len()), (position(7), 2));
}

#[tokio::test]
async fn a_report_comes_in_parts_and_ends_with_the_last() {
    let framework = Framework::new("acme");
    let manager = framework.manager(|request| {
        let part = |documents: &[&str], last| {
            let documents = documents.iter().map(ToString::to_string).collect();
            Response::Documents { documents, last }
        };
        match request {
            Request::Query(Query::Tokens) => Does::Says(vec![part(&["1", "2"], false), part(&["3"], true)]),
            _ => Does::Says(vec![part(&["\"text\""], false), Response::Failed(refusal())]),
        }
    });
    let client = connect(&framework, manager).await;
    assert_eq!(client.query::<u32>(Query::Tokens).await.unwrap(), [1, 2, 3]);
    assert!(client.query::<String>(Query::Status).await.is_err(), "a failure after the first part");
    assert!(client.query::<u32>(Query::Status).await.is_err(), "a document of another kind");
}

#[tokio::test]
async fn the_first_manager_that_answers_is_taken() {
    let framework = Framework::new("acme");
    let manager = framework.manager(|_| Does::Says(Vec::new()));
    // A manager of another framework at the first address, the right one at the second.
    let stranger = Framework::new("other").manager(|_| Does::Says(Vec::new()));
    let identity = framework.console(Duration::ZERO);
    let client = ManagerClient::connect(&identity, &[stranger.clone(), manager.clone()]).await.unwrap();
    assert_eq!(*client.endpoint(), manager);
    identity.save_managers(std::slice::from_ref(&manager)).unwrap();
    let client = ManagerClient::connect(&identity, &[]).await.unwrap();
    assert_eq!(*client.endpoint(), manager);
    let error = ManagerClient::connect(&identity, &[stranger]).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::Unreachable, "{error}");
}

#[tokio::test]
async fn nobody_to_reach_and_nobody_to_be_are_told_apart() {
    let framework = Framework::new("acme");
    let identity = framework.console(Duration::ZERO);
    let error = ManagerClient::connect(&identity, &[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAddress), "{error}");
    let empty = IdentityDirectory::create(&framework.dir.path().join("empty")).unwrap();
    let error = ManagerClient::connect(&empty, &[]).await.unwrap_err();
    assert_eq!(
        (error.failure().error.as_str(), error.failure().class),
        ("bad-identity", FailureClass::Failed)
    );
}

#[tokio::test]
async fn an_identity_that_is_not_let_in_is_not_allowed() {
    let framework = Framework::new("acme");
    let deny = |_: Option<&_>, _| Err(Rejection { code: 1, reason: "denied".into() });
    let manager = framework.manager_admitting(Role::Server(Arc::new(deny)), |_| Does::Says(Vec::new()));
    let identity = framework.console(Duration::ZERO);
    let error = ManagerClient::connect(&identity, &[manager]).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::NotAllowed, "{error}");
    let expired = framework.console(CONSOLE_LIFE + Duration::from_secs(60));
    let manager = framework.manager(|_| Does::Says(Vec::new()));
    let error = ManagerClient::connect(&expired, &[manager]).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::NotAllowed, "{error}");
}

#[tokio::test]
async fn an_identity_past_half_of_its_life_is_renewed_on_the_way() {
    let framework = Framework::new("acme");
    let issuer = framework.issuer.clone();
    let manager = framework.manager(move |request| match request {
        Request::Renew { csr } => {
            let csr = CertificateRequest::from_der(&csr).unwrap();
            let subject = Spiffe::Console("anna".parse().unwrap());
            let leaf = Leaf { subject: &subject, name: "anna", enrolment: 1, lifetime: CONSOLE_LIFE };
            let chain = issuer.issue(&leaf, csr.public_key(), now()).unwrap();
            Does::Says(vec![Response::Renewed(chain.certificates().to_vec())])
        }
        _ => Does::HangsUp,
    });
    let not_after =
        |identity: &IdentityDirectory| identity.load_credentials().unwrap().peer().unwrap().not_after;
    let identity = framework.console(CONSOLE_LIFE * 2 / 3);
    let before = not_after(&identity);
    ManagerClient::connect(&identity, std::slice::from_ref(&manager)).await.unwrap();
    assert!(not_after(&identity) > before);
    let fresh = framework.console(CONSOLE_LIFE / 3);
    let before = not_after(&fresh);
    ManagerClient::connect(&fresh, &[manager]).await.unwrap();
    assert_eq!(not_after(&fresh), before);
}

#[tokio::test]
async fn an_edit_too_large_for_any_manager_is_not_sent() {
    let framework = Framework::new("acme");
    let manager = framework.manager(|_| panic!("nothing is asked"));
    let client = connect(&framework, manager).await;
    let path: echelon_core::name::DomainPath = format!("/{}", "a".repeat(63)).parse().unwrap();
    let changes = vec![Change::AddDomain { path }; 600_000];
    let error = client.edit(ChangeSet { changes, ..edit() }, false).await.unwrap_err();
    assert!(matches!(error, CallError::EditTooLarge { .. }), "{error:?}");
}
