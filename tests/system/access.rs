//! Who may do what, tried with the protocol itself: the console would not even send most of it.

use bytes::Bytes;
use echelon_client::{CallError, ConnectError, ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::message::{FailureClass, Query, Request, Response};
use echelon_core::time::UnixMillis;
use echelon_identity::{
    Authority, Credentials, IdentityDirectory, KeyPair, Leaf, Spiffe, TrustBundle, lifetime,
};
use echelon_tests::manager::FRAMEWORK;
use echelon_tests::{Agent, Manager, Sandbox, wait_until};
use echelon_transport::{Endpoint, Settings, Target};
use echelon_wire::{MAX_SESSION_FRAME, Wire};
use serde_json::Value;
use std::time::SystemTime;

fn domain(path: &str) -> ChangeSet {
    let changes = vec![Change::AddDomain { path: path.parse().unwrap() }];
    ChangeSet { request: new_request_id(), if_revision: None, allow_shrink: false, changes }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMillis(since.as_millis().try_into().unwrap())
}

fn trust_of(manager: &Manager<'_>) -> TrustBundle {
    IdentityDirectory::open(&manager.console_identity()).unwrap().load_trust().unwrap()
}

/// Credentials that an authority of the tester's own signed: in every word what the manager itself gives out.
fn self_made(framework: &str, subject: Spiffe) -> Credentials {
    let authority = Authority::create(&framework.parse().unwrap(), now()).unwrap();
    let issuer = authority.issue_intermediate(echelon_core::id::HostId(new_request_id().0), now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = Leaf { subject: &subject, name: "admin", enrolment: 1, lifetime: lifetime::CONSOLE };
    let chain = issuer.issue(&leaf, &key.public_key(), now()).unwrap();
    Credentials::new(key, chain).unwrap()
}

#[track_caller]
fn assert_not_allowed<T: std::fmt::Debug>(what: &str, answer: Result<T, CallError>) {
    match answer {
        Err(CallError::Failed(failure)) if failure.class == FailureClass::NotAllowed => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// A certificate that this registry's authority did not sign opens no connection, even where it names the
/// same framework and the admin's console.
#[test]
fn certificates_of_another_authority_are_refused() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for framework in [FRAMEWORK, "other"] {
        let credentials = self_made(framework, Spiffe::Console("admin".parse().unwrap()));
        let (trust, at) = (trust_of(&manager), [manager.listen().into()]);
        let connect = ManagerClient::connect_with(&credentials, &trust, &at);
        match runtime.block_on(connect) {
            Err(ConnectError::Unreachable { tried }) => {
                assert!(tried.iter().all(|attempt| attempt.refused), "{framework}: {tried:?}");
            }
            other => panic!("{framework}: {other:?}"),
        }
    }
    manager.console().ok("status");
}

/// A console believes no manager of another authority either.
#[test]
fn managers_of_another_authority_are_not_believed() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let other = Manager::in_directory(&sandbox, "other", sandbox.endpoint(29120));
    assert_eq!(other.init_again(FRAMEWORK).code, 0);
    let at = manager.listen();
    let answer = other.console().fails(4, &format!("status --manager {at}"));
    assert!(answer.err.contains("authority"), "{answer:?}");
}

/// Without a certificate nothing is done but enrolling.
#[test]
fn without_a_certificate_nothing_is_read_or_edited() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let requests = [
        Request::Read,
        Request::Session,
        Request::Query(Query::Status),
        Request::Query(Query::Tokens),
        Request::Edit { set: domain("/a"), dry_run: false },
        Request::Edit { set: domain("/a"), dry_run: true },
        Request::Renew { csr: vec![0; 300] },
    ];
    for request in requests {
        match runtime.block_on(ask_anonymously(&manager, &request.encode())) {
            Response::Failed(failure) => {
                assert_eq!(failure.class, FailureClass::NotAllowed, "{request:?}: {failure:?}")
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert_eq!(manager.status()["revision"], 0);
}

async fn ask_anonymously(manager: &Manager<'_>, request: &Bytes) -> Response {
    let endpoint = Endpoint::bind_client(None, Some(&trust_of(manager)), Settings::client()).unwrap();
    let connection = endpoint.connect(manager.listen(), &Target::AnyManager).await.unwrap();
    let mut channel = connection.open().await.unwrap();
    channel.send(request).await.unwrap();
    let answer = channel.recv(MAX_SESSION_FRAME).await.unwrap().unwrap();
    Response::decode(&answer).unwrap()
}

/// An agent's certificate is good for its own session and renewal, not for reading or editing; one of a host
/// that was removed is good for nothing.
#[test]
fn an_agent_can_neither_edit_nor_read_and_a_removed_one_not_even_connect() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let mut agent = Agent::enrolled(&manager, "h");
    agent.start_ready();
    manager.wait_in_sync(1);
    let revision = manager.status()["revision"].clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let identity = IdentityDirectory::open(&agent.identity()).unwrap();
    runtime.block_on(async {
        let client = ManagerClient::connect(&identity, &[manager.listen().into()]).await.unwrap();
        assert_not_allowed("edit", client.edit(domain("/a"), false).await);
        assert_not_allowed("dry run", client.edit(domain("/a"), true).await);
        assert_not_allowed("read", client.read().await);
        assert_not_allowed("status", client.query::<Value>(Query::Status).await);
        assert_not_allowed("tokens", client.query::<Value>(Query::Tokens).await);
    });
    assert_eq!(manager.status()["revision"], revision);

    manager.console().ok("host remove h");
    wait_until("the end of its session", || manager.status()["agents_connected"] == 0);
    let at = [manager.listen().into()];
    let connect = ManagerClient::connect(&identity, &at);
    let refused = runtime.block_on(connect);
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "{refused:?}");
}
