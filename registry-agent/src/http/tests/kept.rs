//! Connections to managers that are kept for the next request.

use super::*;
use crate::http::pool::Pool;
use crate::http::upstream::Link;
use echelon_core::repeat::Effect;

/// A manager that closes connections although it has promised to keep them is no failure of anybody.
#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_even_for_what_may_act_twice() {
    let answer = |_| {
        let Does::Says(text) = ok("near") else { unreachable!() };
        Does::SaysAndCloses(text)
    };
    let (near, far) = (Peer::start(answer).await, Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    let mut caller = setup.connect().await;
    for n in 1..=20 {
        caller.say(POST).await;
        assert_eq!(caller.hear().await.body, "near", "{n}");
        // Its end has arrived before the next request.
        eventually("the end", || (setup.forwarder.status().open_by_manager.is_empty()).then_some(())).await;
    }
    assert_eq!((near.count(), near.connects(), far.count()), (20, 20, 0));
}

/// The task that reads it has not been told yet.
#[tokio::test]
async fn a_kept_connection_whose_end_has_arrived_is_not_used() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = setup(&[listener.local_addr().unwrap()]).await;
    let target = setup.routes.get(&ty()).unwrap().targets[0].clone();
    let (pool, forwarder) = (Pool::default(), setup.forwarder.inner());
    for closes in [false, true] {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let link = Link::begin(stream, target.clone(), forwarder).await.unwrap();
        let peer = listener.accept().unwrap().0;
        // Its task begins to wait for requests.
        while !link.is_ready() {
            tokio::task::yield_now().await;
        }
        pool.put(link);
        if closes {
            peer.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert_eq!(pool.take(&target, Effect::Same).is_some(), !closes);
    }
}

#[tokio::test]
async fn what_may_act_twice_does_not_go_over_a_connection_that_was_long_idle() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = setup(&[listener.local_addr().unwrap()]).await;
    let target = setup.routes.get(&ty()).unwrap().targets[0].clone();
    let (pool, forwarder) = (Pool::default(), setup.forwarder.inner());
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let link = Link::begin(stream, target.clone(), forwarder).await.unwrap();
    let _peer = listener.accept().unwrap();
    while !link.is_ready() {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    pool.put(link);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(pool.take(&target, Effect::Again).is_none());
    let link = pool.take(&target, Effect::Same).unwrap();
    pool.put(link);
    assert!(pool.take(&target, Effect::Again).is_some());
}

/// Its end and the request cross on the way.
#[tokio::test]
async fn a_kept_connection_that_ends_under_a_request_is_no_failure_of_its_manager() {
    let answer = |n| if n % 2 == 0 { Does::Closes } else { ok("near") };
    let (near, far) = (Peer::start(answer).await, Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    let mut caller = setup.connect().await;
    for _ in 0..2 {
        caller.say(GET).await;
        assert_eq!(caller.hear().await.body, "near");
    }
    assert_eq!((near.count(), near.connects(), far.count()), (3, 2, 0));
    caller.say(POST).await;
    assert_eq!(caller.hear().await.status(), 502, "it may have been acted on");
    assert_eq!((near.count(), far.count()), (4, 0));
}
