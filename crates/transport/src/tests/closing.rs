//! Every way a connection ends, and what each side is told.

use super::support::{Framework, Relay, channel, client, host, join, join_at, now, within};
use crate::{CloseReason, Settings, Target, Unheard, close_code};
use echelon_identity::Spiffe;
use std::time::Duration;

#[tokio::test]
async fn a_close_carries_its_code_and_reason() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, theirs) = join(&client, &server).await;
    ours.close(17, "moving to a nearer manager");
    let reason = "moving to a nearer manager".to_owned();
    assert_eq!(within(theirs.closed()).await, CloseReason::Peer { code: 17, reason });
    assert_eq!(within(ours.closed()).await, CloseReason::Local);
    assert_eq!(ours.open().await.unwrap_err(), CloseReason::Local);
    assert!(matches!(theirs.accept().await.unwrap_err(), CloseReason::Peer { code: 17, .. }));
}

#[tokio::test]
async fn letting_go_is_a_close() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, theirs) = join(&client, &server).await;
    drop(ours);
    let reason = CloseReason::Peer { code: close_code::DROPPED, reason: String::new() };
    assert_eq!(within(theirs.closed()).await, reason);
}

#[tokio::test]
async fn closing_an_endpoint_tells_every_peer_and_ends_accepting() {
    let acme = Framework::new("acme");
    let (server, client) = (acme.server(), acme.client());
    let (ours, _theirs) = join(&client, &server).await;
    within(server.close(5, "shutting down")).await;
    let reason = "shutting down".to_owned();
    assert_eq!(within(ours.closed()).await, CloseReason::Peer { code: 5, reason });
    assert!(within(server.accept()).await.is_none());
    within(client.close(0, "")).await;
    let error = within(client.connect(server.local_addr(), &Target::AnyManager)).await.unwrap_err();
    assert_eq!(error.problem, crate::ConnectProblem::Closed);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_timed_out_on_both_sides() {
    let acme = Framework::new("acme");
    let settings = Settings { idle: Duration::from_millis(500), ..Settings::server() };
    let server = acme.server_as(&acme.issue(Spiffe::Manager(host(1)), 1), settings);
    let relay = Relay::to(server.local_addr(), usize::MAX).await;
    let client = acme.client();
    let (ours, theirs) = join_at(&client, &server, relay.addr, &Target::AnyManager).await;
    relay.cut();
    let (a, b) = within(async { tokio::join!(ours.closed(), theirs.closed()) }).await;
    assert_eq!((a, b), (CloseReason::TimedOut, CloseReason::TimedOut));
}

/// The process of a peer is gone without a word: its host says so, long before its silence would.
#[tokio::test]
async fn a_peer_whose_port_is_left_is_known_to_be_gone() {
    let acme = Framework::new("acme");
    let server = acme.server();
    let relay = Relay::to(server.local_addr(), usize::MAX).await;
    let client = acme.client();
    let (ours, theirs) = join_at(&client, &server, relay.addr, &Target::AnyManager).await;
    let (mut receiving, _sending) = channel(&ours, &theirs).await;
    let (late, silent) = (Duration::from_millis(100), Duration::from_millis(300));
    let unheard = within(receiving.receiver.hear(1, late, silent)).await.unwrap_err();
    assert!(matches!(unheard, Unheard::Silent(_)), "somebody listens there: {unheard}");
    relay.end().await;
    let unheard = within(receiving.receiver.hear(1, late, Duration::from_secs(3600))).await.unwrap_err();
    assert!(matches!(unheard, Unheard::Gone), "{unheard}");
    assert_eq!(ours.close_reason(), None);
}

#[tokio::test]
async fn a_quiet_connection_is_kept_alive_by_its_client() {
    let acme = Framework::new("acme");
    let idle = Duration::from_millis(600);
    let server =
        acme.server_as(&acme.issue(Spiffe::Manager(host(1)), 1), Settings { idle, ..Settings::server() });
    let settings = Settings { keep_alive: Some(Duration::from_millis(100)), ..Settings::client() };
    let client = client(Some(&acme.issue(Spiffe::Host(host(2)), 1)), &acme.trust(), settings);
    let (ours, _theirs) = join(&client, &server).await;
    // Three idle times without a word from either side's owner.
    assert!(tokio::time::timeout(idle * 3, ours.closed()).await.is_err());
}

#[tokio::test]
async fn an_anonymous_peer_is_shown_the_door_in_time() {
    let acme = Framework::new("acme");
    let settings = Settings { anonymous_life: Duration::from_millis(200), ..Settings::server() };
    let server = acme.server_as(&acme.issue(Spiffe::Manager(host(1)), 1), settings);
    let client = acme.client_as(None);
    let (ours, theirs) = join_at(&client, &server, server.local_addr(), &acme.pin()).await;
    assert_eq!(within(theirs.closed()).await, CloseReason::AnonymousLife);
    let CloseReason::Peer { code, reason } = within(ours.closed()).await else { panic!() };
    assert_eq!(code, close_code::ANONYMOUS_LIFE);
    assert!(reason.contains("no identity"), "{reason}");
}

#[tokio::test]
async fn no_connection_outlives_the_certificate_it_was_opened_with() {
    let acme = Framework::new("acme");
    let short = acme.issue_at(Spiffe::Host(host(2)), 1, now(), Duration::from_secs(2));
    let (server, client) = (acme.server(), acme.client_as(Some(&short)));
    let (ours, theirs) = join(&client, &server).await;
    let not_after = theirs.peer().unwrap().not_after;
    assert_eq!(within(theirs.closed()).await, CloseReason::Expired);
    assert!(now() >= not_after && now() < not_after + Duration::from_secs(2));
    assert!(matches!(within(ours.closed()).await, CloseReason::Peer { code: close_code::EXPIRED, .. }));
}

#[tokio::test]
async fn the_client_ends_it_when_the_managers_certificate_expires() {
    let acme = Framework::new("acme");
    let short = acme.issue_at(Spiffe::Manager(host(1)), 1, now(), Duration::from_secs(2));
    let (server, client) = (acme.server_as(&short, Settings::server()), acme.client());
    let (ours, theirs) = join(&client, &server).await;
    assert_eq!(within(ours.closed()).await, CloseReason::Expired);
    assert!(matches!(within(theirs.closed()).await, CloseReason::Peer { code: close_code::EXPIRED, .. }));
}
