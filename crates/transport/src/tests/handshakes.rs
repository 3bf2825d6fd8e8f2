//! Who gets through to whom, and what those are told who do not.

use super::support::{Framework, LOOPBACK, Relay, client, host, join, join_at, now, problem, within};
use crate::quic;
use crate::tls::{certified_key, provider};
use crate::verify::{Expectation, ServerVerifier};
use crate::{
    AdmitAll, BindError, CloseReason, ConnectProblem, Distrust, Endpoint, Refusal, Rejection, Role, Settings,
    Target, limits,
};
use echelon_core::limits::RENEW_GRACE;
use echelon_identity::{CertificateChain, Credentials, KeyPair, PeerIdentity, Spiffe};
use rustls::sign::SingleCertAndKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

#[tokio::test]
async fn both_ends_know_each_other() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, theirs) = join(&client, &server).await;
    let (manager, agent) = (ours.peer().unwrap(), theirs.peer().unwrap());
    assert_eq!(manager.subject, Spiffe::Manager(host(1)));
    assert_eq!((&agent.subject, agent.enrolment), (&Spiffe::Host(host(2)), 5));
    assert_eq!(theirs.remote_addr(), client.local_addr());
    assert!(ours.pinned_trust().is_none());
    assert_ne!(ours.stable_id(), theirs.stable_id());
    assert!(ours.rtt() > Duration::ZERO);
    assert_eq!((server.stats().accepted, server.stats().failed), (1, 0));
}

#[tokio::test]
async fn ipv6_and_the_dual_stack_client_get_through() {
    let acme = Framework::new("acme");
    let agent = acme.issue(Spiffe::Host(host(2)), 1);
    let client = Endpoint::bind_client(Some(&agent), Some(&acme.trust()), Settings::client()).unwrap();
    let (_, theirs) = join(&client, &acme.server()).await;
    assert!(theirs.remote_addr().is_ipv4());
    if !client.local_addr().is_ipv6() {
        println!("SKIPPED ipv6_and_the_dual_stack_client_get_through: no IPv6 here");
        return;
    }
    let manager = acme.issue(Spiffe::Manager(host(1)), 1);
    let role = Role::Server(Arc::new(AdmitAll));
    let addr = "[::1]:0".parse().unwrap();
    let server = Endpoint::bind(addr, role, Some(&manager), Some(&acme.trust()), Settings::server()).unwrap();
    join(&client, &server).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_anonymous() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client_as(None));
    let (ours, theirs) = join(&client, &server).await;
    assert!(theirs.peer().is_none());
    assert!(ours.peer().is_some());
}

#[tokio::test]
async fn a_pin_finds_its_root_and_shows_no_identity() {
    let acme = Framework::new("acme");
    let server = acme.server();
    let agent = acme.issue(Spiffe::Host(host(2)), 1);
    let addr = LOOPBACK.parse().unwrap();
    let client = Endpoint::bind(addr, Role::Client, Some(&agent), None, Settings::client()).unwrap();
    let (ours, theirs) = join_at(&client, &server, server.local_addr(), &acme.pin()).await;
    assert_eq!(ours.pinned_trust(), Some(&acme.trust()));
    assert!(theirs.peer().is_none());
    assert_eq!(problem(&client, &server, &Target::AnyManager).await, ConnectProblem::NoTrust);
}

#[tokio::test]
async fn another_pin_is_refused() {
    let acme = Framework::new("acme");
    let pin = Framework::new("acme").pin();
    let found = problem(&acme.client_as(None), &acme.server(), &pin).await;
    assert_eq!(found, ConnectProblem::Distrust(Distrust::Pin));
}

#[tokio::test]
async fn a_root_that_is_only_shown_does_not_help_a_stranger() {
    let (acme, stranger) = (Framework::new("acme"), Framework::new("acme"));
    let own = stranger.issue(Spiffe::Manager(host(1)), 1);
    let mut certificates = own.chain().certificates().to_vec();
    // The pinned root stands in the chain, but did not sign it.
    *certificates.last_mut().unwrap() = acme.authority.certificate().to_vec();
    let chain = CertificateChain::new(certificates).unwrap();
    let server = stranger.server_as(&Credentials::new(own.key().clone(), chain).unwrap(), Settings::server());
    let found = problem(&acme.client_as(None), &server, &acme.pin()).await;
    assert_eq!(found, ConnectProblem::Distrust(Distrust::Unsigned));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (acme, stranger) = (Framework::new("acme"), Framework::new("acme"));
    let server = acme.server();
    let agent = stranger.issue(Spiffe::Host(host(2)), 1);
    let found = problem(&acme.client_as(Some(&agent)), &server, &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Refused(Refusal::Unsigned));
    assert_eq!((server.stats().accepted, server.stats().failed), (0, 1));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_unless_a_host_may_still_renew_it() {
    let day = Duration::from_secs(24 * 3600);
    let acme = Framework::made_at("acme", now() - 2 * RENEW_GRACE);
    let ended = |subject, ago: Duration| acme.issue_at(subject, 1, now() - ago - day, day);
    let minute = Duration::from_secs(60);
    let agent = || Spiffe::Host(host(2));
    let refused = [
        ended(Spiffe::Manager(host(3)), minute),
        ended(Spiffe::Console("anna".parse().unwrap()), minute),
        ended(agent(), RENEW_GRACE + minute),
    ];
    for credentials in refused {
        let found = problem(&acme.client_as(Some(&credentials)), &acme.server(), &Target::AnyManager).await;
        assert_eq!(found, ConnectProblem::Refused(Refusal::Time), "{:?}", credentials.peer());
    }
    for ago in [minute, RENEW_GRACE - minute] {
        let manager = acme.issue(Spiffe::Manager(host(1)), 1);
        let settings = Settings { anonymous_life: Duration::from_millis(300), ..Settings::server() };
        let server = acme.server_as(&manager, settings);
        let (ours, theirs) = join(&acme.client_as(Some(&ended(agent(), ago))), &server).await;
        assert!(theirs.peer().unwrap().not_after < now(), "the manager sees that it has expired");
        assert_eq!(within(theirs.closed()).await, CloseReason::Expired);
        drop(ours);
    }
    let stranger =
        Framework::made_at("acme", now() - 2 * RENEW_GRACE).issue_at(agent(), 1, now() - day - minute, day);
    let found = problem(&acme.client_as(Some(&stranger)), &acme.server(), &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Refused(Refusal::Unsigned));
}

#[tokio::test]
async fn who_signed_a_certificate_is_told_by_the_signature_and_not_by_what_is_shown() {
    let acme = Framework::new("acme");
    let server = acme.server();
    let agent = acme.issue(Spiffe::Host(host(2)), 1);
    let (_ours, theirs) = join(&acme.client_as(Some(&agent)), &server).await;
    assert_eq!(theirs.peer().unwrap().issuer, Some(acme.issuer.id()));
    // Another manager's issuer put before the true one, which the library finds all the same.
    let other = acme.authority.issue_intermediate(host(9), now()).unwrap();
    let [leaf, issuer, root] = agent.chain().certificates() else { panic!("a chain of three") };
    let other_leaf = other.credentials().chain().leaf().to_vec();
    let chain = vec![leaf.clone(), other_leaf, issuer.clone(), root.clone()];
    let forged = Credentials::new(agent.key().clone(), CertificateChain::new(chain).unwrap()).unwrap();
    let (_ours, theirs) = join(&acme.client_as(Some(&forged)), &server).await;
    assert_eq!(theirs.peer().unwrap().issuer, None);
}

/// A certificate for another framework, signed by `acme`'s issuer all the same.
fn foreign(acme: &Framework, uri: &str) -> Credentials {
    let issuer = acme.issuer.credentials();
    let issuer_key = rcgen::KeyPair::from_pem(&issuer.key().to_pem()).unwrap();
    let der = issuer.chain().leaf().to_vec().into();
    let issuer_of = rcgen::Issuer::from_ca_cert_der(&der, issuer_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 5]), "1");
    let public = rcgen::SubjectPublicKeyInfo::from_der(key.public_key().der()).unwrap();
    let leaf = params.signed_by(&public, &issuer_of).unwrap().der().to_vec();
    let chain = [leaf].into_iter().chain(issuer.chain().certificates().iter().cloned()).collect();
    Credentials::new(key, CertificateChain::new(chain).unwrap()).unwrap()
}

#[tokio::test]
async fn a_certificate_of_another_framework_is_refused_even_if_signed_here() {
    let acme = Framework::new("acme");
    let agent = foreign(&acme, &format!("spiffe://other/host/{}", host(2)));
    let found = problem(&acme.client_as(Some(&agent)), &acme.server(), &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Refused(Refusal::Other { alert: 49 }));
    let manager = foreign(&acme, &format!("spiffe://other/manager/{}", host(1)));
    let found =
        problem(&acme.client(), &acme.server_as(&manager, Settings::server()), &Target::AnyManager).await;
    let other = "other".parse().unwrap();
    assert_eq!(found, ConnectProblem::Distrust(Distrust::Framework { found: other }));
    let nobody = foreign(&acme, "spiffe://acme/nobody");
    let found = problem(&acme.client_as(Some(&nobody)), &acme.server(), &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Refused(Refusal::Other { alert: 49 }));
}

#[tokio::test]
async fn a_manager_that_is_not_to_be_believed_is_not() {
    let (acme, stranger) = (Framework::new("acme"), Framework::new("acme"));
    let client = acme.client();
    let distrust = async |server: &Endpoint| match problem(&client, server, &Target::AnyManager).await {
        ConnectProblem::Distrust(distrust) => distrust,
        other => panic!("{other:?}"),
    };
    assert_eq!(distrust(&stranger.server()).await, Distrust::Unsigned);
    let late = acme.server_as(&acme.expired(Spiffe::Manager(host(1))), Settings::server());
    assert_eq!(distrust(&late).await, Distrust::Time);
    let agent = acme.server_as(&acme.issue(Spiffe::Host(host(1)), 1), Settings::server());
    assert_eq!(distrust(&agent).await, Distrust::NotManager);
}

#[tokio::test]
async fn only_the_manager_that_was_meant_is_taken() {
    let acme = Framework::new("acme");
    let (client, server) = (acme.client(), acme.server());
    let found = problem(&client, &server, &Target::Manager(host(3))).await;
    let other = Distrust::OtherManager { expected: host(3), found: host(1) };
    assert_eq!(found, ConnectProblem::Distrust(other));
    let addr = server.local_addr();
    // Whoever failed is not accepted: the first one accepted is the one that was meant.
    join_at(&client, &server, addr, &Target::Manager(host(1))).await;
    assert_eq!(server.stats().accepted, 1);
}

#[tokio::test]
async fn whoever_is_not_admitted_learns_why() {
    let acme = Framework::new("acme");
    let admission = |peer: Option<&PeerIdentity>, _: SocketAddr| match peer {
        Some(peer) if peer.enrolment < 5 => Err(Rejection { code: 9, reason: "denied\u{7}".to_owned() }),
        _ => Ok(()),
    };
    let manager = acme.issue(Spiffe::Manager(host(1)), 1);
    let role = Role::Server(Arc::new(admission));
    let addr = LOOPBACK.parse().unwrap();
    let server = Endpoint::bind(addr, role, Some(&manager), Some(&acme.trust()), Settings::server()).unwrap();
    let denied = acme.client_as(Some(&acme.issue(Spiffe::Host(host(2)), 4)));
    let found = problem(&denied, &server, &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Rejected { code: 9, reason: "denied ".to_owned() });
    let (_, theirs) = join(&acme.client(), &server).await;
    assert_eq!(theirs.peer().unwrap().enrolment, 5);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_peers_only() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (first, first_theirs) = join(&client, &server).await;
    server.set_identity(&acme.issue(Spiffe::Manager(host(1)), 2)).unwrap();
    client.set_identity(&acme.issue(Spiffe::Host(host(2)), 6)).unwrap();
    let (second, second_theirs) = join(&client, &server).await;
    let enrolment = |c: &crate::Connection| c.peer().unwrap().enrolment;
    assert_eq!((enrolment(&first), enrolment(&second)), (1, 2));
    assert_eq!((enrolment(&first_theirs), enrolment(&second_theirs)), (5, 6));
    assert_eq!(first.close_reason(), None);
    first.open().await.unwrap().send(&bytes::Bytes::from_static(b"alive")).await.unwrap();
    let frame = within(first_theirs.accept()).await.unwrap().recv(5).await.unwrap();
    assert_eq!(frame.unwrap(), "alive");
}

#[tokio::test]
async fn other_roots_hold_for_new_peers() {
    let (acme, next) = (Framework::new("acme"), Framework::new("acme"));
    let (server, client) = (acme.server(), acme.client());
    join(&client, &server).await;
    server.set_trust(&next.trust()).unwrap();
    let found = problem(&client, &server, &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Refused(Refusal::Unsigned));
    client.set_trust(&next.trust()).unwrap();
    let found = problem(&client, &server, &Target::AnyManager).await;
    assert_eq!(found, ConnectProblem::Distrust(Distrust::Unsigned));
    server.set_identity(&next.issue(Spiffe::Manager(host(1)), 1)).unwrap();
    client.set_identity(&next.issue(Spiffe::Host(host(2)), 1)).unwrap();
    join(&client, &server).await;
}

#[tokio::test]
async fn a_server_needs_an_identity_and_roots_and_a_free_port() {
    let acme = Framework::new("acme");
    let bind = |addr: SocketAddr, credentials: Option<&Credentials>| {
        let role = Role::Server(Arc::new(AdmitAll));
        Endpoint::bind(addr, role, credentials, Some(&acme.trust()), Settings::server())
    };
    assert!(matches!(bind(LOOPBACK.parse().unwrap(), None), Err(BindError::Nobody)));
    let taken = acme.server();
    let manager = acme.issue(Spiffe::Manager(host(1)), 1);
    assert!(matches!(bind(taken.local_addr(), Some(&manager)), Err(BindError::Socket { .. })));
}

#[tokio::test]
async fn silence_ends_in_time() {
    let acme = Framework::new("acme");
    let silent = UdpSocket::bind(LOOPBACK).await.unwrap();
    let limit = Duration::from_millis(200);
    let settings = Settings { handshake: limit, ..Settings::client() };
    let client = client(None, &acme.trust(), settings);
    let error = within(client.connect(silent.local_addr().unwrap(), &Target::AnyManager)).await.unwrap_err();
    assert_eq!(error.problem, ConnectProblem::TimedOut(limit));
    let error =
        within(client.connect("127.0.0.1:0".parse().unwrap(), &Target::AnyManager)).await.unwrap_err();
    assert_eq!(error.problem, ConnectProblem::Address);
}

#[tokio::test]
async fn whoever_speaks_something_else_is_told_apart() {
    let acme = Framework::new("acme");
    let identity = certified_key(&acme.issue(Spiffe::Manager(host(1)), 1)).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let other = quinn::Endpoint::server(config, LOOPBACK.parse().unwrap()).unwrap();
    let addr = other.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        while let Some(i) = other.accept().await {
            drop(i.await)
        }
    });
    let error = within(acme.client().connect(addr, &Target::AnyManager)).await.unwrap_err();
    assert_eq!(error.problem, ConnectProblem::Protocol);
    accepting.abort();
}

#[tokio::test]
async fn a_handshake_that_stops_halfway_is_given_up() {
    let acme = Framework::new("acme");
    let settings = Settings { handshake: Duration::from_millis(300), ..Settings::server() };
    let server = acme.server_as(&acme.issue(Spiffe::Manager(host(1)), 1), settings.clone());
    let relay = Relay::to(server.local_addr(), 1).await;
    let client = client(None, &acme.trust(), Settings { handshake: Duration::from_secs(2), ..settings });
    let connecting = tokio::spawn(async move { client.connect(relay.addr, &Target::AnyManager).await });
    // Well before the connection would fall idle.
    let given_up = tokio::time::timeout(Duration::from_secs(5), async {
        while server.stats().failed == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    given_up.await.unwrap();
    assert!(within(connecting).await.unwrap().is_err());
    assert_eq!(server.stats().accepted, 0);
}

#[tokio::test]
async fn when_many_come_at_once_they_prove_their_address_and_all_get_in() {
    let acme = Framework::new("acme");
    let server = acme.server();
    let client = acme.client();
    let mut kept = Vec::new();
    // Nobody accepts: these fill the queue and then hold places, as slow handshakes do.
    let waiting = limits::MAX_UNACCEPTED + limits::VALIDATE_ABOVE;
    for _ in 0..waiting {
        kept.push(within(client.connect(server.local_addr(), &Target::AnyManager)).await.unwrap());
    }
    assert_eq!(server.stats().validated, 0);
    for _ in 0..10 {
        kept.push(within(client.connect(server.local_addr(), &Target::AnyManager)).await.unwrap());
    }
    assert_eq!(server.stats().validated, 10);
    let mut theirs = Vec::new();
    for _ in 0..waiting + 10 {
        theirs.push(within(server.accept()).await.unwrap());
    }
    let (ours, _) = join(&client, &server).await;
    assert_eq!(ours.close_reason(), None);
    assert_eq!(server.stats().validated, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_comes_at_once_waits_its_turn_and_gets_in() {
    const FLEET: usize = 4 * limits::MAX_HANDSHAKES;
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let addr = server.local_addr();
    let mut coming = tokio::task::JoinSet::new();
    for _ in 0..FLEET {
        let client = client.clone();
        coming.spawn(async move { client.connect(addr, &Target::AnyManager).await });
    }
    let mut theirs = Vec::new();
    while theirs.len() < FLEET {
        theirs.push(within(server.accept()).await.unwrap());
    }
    for outcome in coming.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(server.stats().failed, 0);
}

#[tokio::test]
async fn the_next_second_of_a_certificate_is_its_last() {
    // Validity is checked by the clock at the handshake, not when the certificate was loaded.
    let acme = Framework::new("acme");
    let short = acme.issue_at(Spiffe::Console("anna".parse().unwrap()), 1, now(), Duration::from_secs(2));
    let (server, client) = (acme.server(), acme.client_as(Some(&short)));
    drop(join(&client, &server).await);
    within(async {
        loop {
            let attempt = client.connect(server.local_addr(), &Target::AnyManager).await;
            if let Err(error) = attempt {
                assert_eq!(error.problem, ConnectProblem::Refused(Refusal::Time));
                return;
            }
            drop(server.accept().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Protects: strangers that never let themselves be welcomed do not keep the places for handshakes.
#[tokio::test]
async fn clients_that_grant_no_stream_keep_nobody_out() {
    let framework = Framework::new("acme");
    let settings = Settings { handshake: Duration::from_millis(500), ..Settings::server() };
    let server = framework.server_as(&framework.issue(Spiffe::Manager(host(1)), 1), settings);
    let stubborn = quinn::Endpoint::client(LOOPBACK.parse().unwrap()).unwrap();
    let mut held = Vec::new();
    for _ in 0..limits::MAX_HANDSHAKES {
        let expectation = Expectation::Pinned(framework.trust().root_hash());
        let (verifier, _) = ServerVerifier::new(expectation);
        let mut config = quic::client(None, verifier, &Settings::client());
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_concurrent_uni_streams(0_u8.into())
            .keep_alive_interval(Some(Duration::from_millis(100)));
        config.transport_config(Arc::new(transport));
        let connecting = stubborn.connect_with(config, server.local_addr(), "x").unwrap();
        held.push(within(connecting).await.unwrap());
    }
    join(&framework.client(), &server).await;
}
