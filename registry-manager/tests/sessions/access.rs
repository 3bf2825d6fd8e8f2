//! Who is let in, and who is put out.

use crate::agent::Agent;
use crate::site::{DEADLINE, Site, add_host, ask, enrolment, error_of, new_request, set};
use echelon_core::access::Access;
use echelon_core::change::Change;
use echelon_core::message::{Greeting, Join, Query, Request, Response};
use echelon_core::replication::Replica;
use echelon_core::report::StatusReport;
use echelon_identity::{CertificateRequest, KeyPair};
use echelon_transport::{CloseReason, Endpoint, Settings, Target};
use echelon_wire::Wire;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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

/// Protects: a manager two minor versions apart is refused before anything is written: its token is not used up, and a
/// neighbour's build joins with it.
#[tokio::test]
async fn a_manager_two_versions_ahead_cannot_join() {
    let site = Site::start().await;
    let token = site.token_for(Access::Manager, 1).await;
    let [key, issuer_key] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let csr = |key| CertificateRequest::new(key).unwrap().der().to_vec();
    let wish = |build: &str| Join {
        token: token.id,
        secret: *token.secret.expose(),
        request: new_request(),
        host: "later".parse().unwrap(),
        domain: None,
        endpoint: "127.0.0.1:2".parse().unwrap(),
        csr: csr(&key),
        issuer_csr: csr(&issuer_key),
        greeting: Some(Greeting { protocol: (1, 1), build: build.parse().unwrap(), grants: vec![] }),
    };
    let before = site.manager.registry().position();
    let Response::Failed(failure) = site.ask_anonymously(&token, Request::Join(wish("0.3.0"))).await else {
        panic!("not refused")
    };
    assert_eq!(failure.error, "versions-apart");
    assert!(failure.message.contains("0.3.0 do not work together"), "{failure:?}");
    assert_eq!(site.manager.registry().position(), before);
    let joined = site.ask_anonymously(&token, Request::Join(wish("0.2.0"))).await;
    assert!(matches!(joined, Response::Joined(_)), "{joined:?}");
}
