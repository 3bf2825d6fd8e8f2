//! What follows on the head of a request, or of an answer.

use super::*;
use crate::http::upload::MAX_HELD;

#[tokio::test]
async fn a_body_is_repeated_as_long_as_all_of_it_is_held() {
    for (length, repeated) in [(MAX_HELD, true), (MAX_HELD + 1, false)] {
        let (near, far) = (Peer::start(|_| Does::Closes).await, Peer::saying("far").await);
        let setup = setup(&[near.addr, far.addr]).await;
        let body = "b".repeat(length);
        let request = format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        let reply = setup.ask(&request).await;
        assert_eq!(near.asked().pop().unwrap().matches('b').count(), length);
        match repeated {
            true => assert_eq!((reply.body.as_str(), far.asked()), ("far", near.asked())),
            false => assert_eq!((reply.error().as_str(), far.count()), ("broken", 0)),
        }
        // What was held is free again.
        assert_eq!(setup.forwarder.held(), 0);
    }
}

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let answer = |_| {
        Does::Says(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nfar\r\n0\r\nx-sum: 2\r\n\r\n"
                .into(),
        )
    };
    let (near, far) = (Peer::start(|_| Does::Closes).await, Peer::start(answer).await);
    let setup = setup(&[near.addr, far.addr]).await;
    let request = "PUT /a HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\
        Trailer: x-sum\r\n\r\n4\r\nwork\r\n1\r\n!\r\n0\r\nx-sum: 1\r\n\r\n";
    let reply = setup.ask(request).await;
    assert_eq!(reply.body, "farx-sum: 2", "{reply:?}");
    for asked in [near.asked(), far.asked()] {
        assert!(asked[0].ends_with("\r\nwork!x-sum: 1"), "{asked:?}");
    }
    let asked = setup
        .ask("GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        .await;
    assert_eq!(asked.status(), 200);
    assert!(far.asked()[1].ends_with("\r\nx"), "a GET may have a body: {:?}", far.asked());
}

/// Two lengths are how requests are smuggled past those who read them otherwise.
#[tokio::test]
async fn a_request_with_two_lengths_goes_on_with_one_and_ends_its_connection() {
    let near = Peer::saying("near").await;
    let setup = setup(&[near.addr]).await;
    for lengths in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let mut caller = setup.connect().await;
        let hidden = "POST /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
        caller.say(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n{hidden}")).await;
        assert_eq!(caller.hear().await.body, "near");
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, caller.0.read_to_end(&mut rest)).await.expect("it stays open");
        assert!(rest.is_empty(), "{rest:?}");
        let asked = near.asked().pop().unwrap().to_ascii_lowercase();
        assert!(
            asked.contains("transfer-encoding: chunked\r\n") && !asked.contains("content-length"),
            "{asked}"
        );
        assert!(!asked.contains("hidden"), "{asked}");
    }
    assert_eq!(near.count(), 2);
    for bad in [
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nwork",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nwork",
        "GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(setup.ask(bad).await.status(), 400, "{bad}");
    }
    let long = format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(80 * 1024));
    assert_eq!(setup.ask(&long).await.status(), 431);
    assert_eq!(near.count(), 2, "nothing of it went on");
    let tunnel = setup.ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert_eq!((tunnel.status(), tunnel.error().as_str()), (405, "connect-refused"));
}

/// A caller who waits to be told whether its body is wanted is told by the manager.
#[tokio::test]
async fn who_expects_to_be_told_to_continue_is_told_by_the_manager() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = setup(&[listener.local_addr().unwrap()]).await;
    let expecting = "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

    let mut caller = setup.connect().await;
    caller.say(expecting).await;
    let mut manager = BufReader::new(listener.accept().await.unwrap().0);
    let head = read_head(&mut manager).await.unwrap().to_ascii_lowercase();
    assert!(head.contains("expect: 100-continue"), "{head}");
    manager.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert!(caller.hear().await.head.starts_with("HTTP/1.1 100 "));
    caller.say("work").await;
    assert_eq!(read_body(&mut manager, &head).await.unwrap(), "work");
    manager.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(caller.hear().await.status(), 200);

    let mut caller = setup.connect().await;
    caller.say(expecting).await;
    let _ = read_head(&mut manager).await.unwrap();
    manager.write_all(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(caller.hear().await.status(), 417, "it is not told to continue first");
}

#[tokio::test]
async fn a_connection_may_change_its_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = setup(&[listener.local_addr().unwrap()]).await;
    let mut caller = setup.connect().await;
    caller.say("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let mut manager = BufReader::new(listener.accept().await.unwrap().0);
    let head = read_head(&mut manager).await.unwrap().to_ascii_lowercase();
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
    let switch = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
    manager.write_all(switch.as_bytes()).await.unwrap();
    let reply = caller.hear().await;
    assert!(reply.status() == 101 && reply.head.contains("upgrade: websocket"), "{reply:?}");
    let mut first = [0; 5];
    caller.0.read_exact(&mut first).await.unwrap();
    caller.say("to the manager").await;
    let mut there = [0; 14];
    manager.read_exact(&mut there).await.unwrap();
    assert_eq!((&first, &there), (b"first", b"to the manager"));
    assert_eq!(setup.forwarder.status().open, 1);
    drop(caller);
    assert_eq!(manager.read(&mut [0; 1]).await.unwrap(), 0, "its end arrives");
    drop(manager);
    eventually("the end", || (setup.forwarder.status().open == 0).then_some(())).await;

    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut manager = BufReader::new(listener.accept().await.unwrap().0);
    let _ = read_head(&mut manager).await.unwrap();
    manager.write_all(switch.as_bytes()).await.unwrap();
    assert_eq!(caller.hear().await.status(), 502, "nobody asked for it");
}

/// A body that the caller has sent half of ends at the manager as it ended here: not whole.
#[tokio::test]
async fn a_request_that_breaks_off_is_not_whole_anywhere() {
    let (near, far) = (Peer::saying("near").await, Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    for half in [
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut caller = setup.connect().await;
        caller.say(half).await;
        eventually("the request at the manager", || (setup.forwarder.status().open > 0).then_some(())).await;
        drop(caller);
        eventually("its end", || (setup.forwarder.status().open == 0).then_some(())).await;
    }
    assert_eq!(setup.ask(GET).await.body, "near");
    assert_eq!((near.count(), far.count()), (1, 0));
}
