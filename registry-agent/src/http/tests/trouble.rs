//! Managers that speak HTTP badly, have too much to do, or hang; callers that do not read.

use super::*;
use crate::http::forwarder::MAX_HEAD;
use echelon_core::evidence::Seen;
use echelon_core::report::CandidateState;

const GET_HEAD: &str = "GET /a HTTP/1.1\r\nHost: x.example\r\n";

async fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    BufReader::new(timeout(DEADLINE, listener.accept()).await.expect("nobody connects").unwrap().0)
}

async fn says(text: String) -> Peer {
    Peer::start(move |_| Does::Says(text.clone())).await
}

/// Waits until host number `n` is in this state.
async fn becomes(setup: &Setup, n: u8, state: CandidateState) {
    eventually(&format!("host {n} to be {}", state.as_str()), || {
        let route = setup.routes.get(&ty())?;
        let entry = route.entries.iter().find(|e| e.candidate.manager.host == host(n))?;
        (entry.state == state).then_some(())
    })
    .await;
}

/// Whoever believed the length would take a part for the whole, or wait for what never comes.
#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    for length in [2, 4, 9] {
        let (length, coding) = (format!("Content-Length: {length}"), "Transfer-Encoding: chunked");
        for (first, second) in [(length.as_str(), coding), (coding, length.as_str())] {
            let near =
                says(format!("HTTP/1.1 200 OK\r\n{first}\r\n{second}\r\n\r\n4\r\nfour\r\n0\r\n\r\n")).await;
            let setup = setup_alone(near.addr).await;
            let mut caller = setup.connect().await;
            for _ in 0..2 {
                caller.say(GET).await;
                let reply = caller.hear().await;
                assert_eq!(reply.body, "four", "{first} {second}");
                assert!(!reply.head.to_ascii_lowercase().contains("content-length"), "{reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_done_to_a_body_besides_chunks_is_refused() {
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n";
    let (near, far) = (says(coded.into()).await, Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    let reply = setup.ask(GET).await;
    assert_eq!((reply.status(), reply.error().as_str()), (502, "bad-answer"));
    let reply = setup.ask(&format!("{GET_HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")).await;
    assert_eq!((reply.status(), reply.error().as_str()), (501, "coding-unknown"));
    assert_eq!((near.count(), far.count()), (1, 0));
}

/// Who answers in another way than HTTP has had the request; another manager would only be asked the same.
#[tokio::test]
async fn an_answer_that_is_no_http_or_too_much_of_it_is_a_bad_answer() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(101));
    for text in ["220 mail.example ESMTP\r\n\r\n".to_owned(), large, many] {
        let (near, far) = (says(text.clone()).await, Peer::saying("far").await);
        let setup = setup(&[near.addr, far.addr]).await;
        let reply = setup.ask(GET).await;
        assert_eq!(
            (reply.status(), reply.error().as_str(), far.count()),
            (502, "bad-answer", 0),
            "{text:.40}"
        );
    }
}

/// hyper would write the next request as HTTP/1.0 as well, without its chunks.
#[tokio::test]
async fn a_connection_that_spoke_http_1_0_is_not_kept() {
    let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nnear";
    let near = says(old.into()).await;
    let setup = setup_alone(near.addr).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    assert_eq!(caller.hear().await.body, "near");
    let chunked = "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwork\r\n0\r\n\r\n";
    caller.say(chunked).await;
    assert_eq!(caller.hear().await.body, "near");
    assert!(near.asked()[1].ends_with("\r\nwork"), "{:?}", near.asked());
    assert_eq!(near.connects(), 2);
}

/// A request may be older than a manager is sought for: it is not its caller who has waited for a connection.
#[tokio::test]
async fn what_a_manager_took_with_it_to_its_end_is_repeated_however_old_it_is() {
    let (near, far) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Peer::saying("far").await);
    let patience = Duration::from_secs(1);
    let drain = PolicySettings { drain_timeout: Some(2 * patience), ..PolicySettings::default() };
    let mut managers = managers(&[near.local_addr().unwrap(), far.addr]);
    let setup = setup_seeking(patience, &managers, drain.clone()).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut hangs = accept(&near).await;
    let _ = read_head(&mut hangs).await.unwrap();
    managers[0].withdrawn = true;
    setup.routes.send(RouterInput::Replica(snapshot(2, &managers, drain))).await;
    assert_eq!(caller.hear().await.body, "far");
}

/// Protects: managers that have too much to do are not asked once more for each of them.
#[tokio::test]
async fn where_all_have_too_much_to_do_each_request_is_sent_once() {
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 4\r\n\r\nbusy";
    let peers = [says(busy.into()).await, says(busy.into()).await, says(busy.into()).await];
    let setup = setup(&[peers[0].addr, peers[1].addr, peers[2].addr]).await;
    assert_eq!(setup.ask(GET).await.status(), 503);
    for n in 1..=3 {
        becomes(&setup, n, CandidateState::Suspect).await;
    }
    let count = || peers.iter().map(Peer::count).sum::<usize>();
    let before = count();
    for _ in 0..5 {
        assert_eq!(setup.ask(GET).await.body, "busy");
    }
    assert_eq!((before, count()), (3, 8));
}

/// What was connected to a manager in doubt may hang.
#[tokio::test]
async fn a_kept_connection_to_a_manager_in_doubt_is_used_only_where_nobody_is_better() {
    let near = Peer::saying("near").await;
    let far = Peer::start(|_| Does::Closes).await;
    let setup = setup(&[near.addr, far.addr]).await;
    assert_eq!(setup.ask(GET).await.body, "near");
    let minute = Duration::from_secs(60);
    setup.routes.saw(&ty(), host(1), None, Seen::Overloaded(minute), Duration::ZERO);
    becomes(&setup, 1, CandidateState::Suspect).await;
    assert_eq!(setup.ask(GET).await.body, "near", "far has ended before it answered");
    assert_eq!((near.connects(), far.count()), (2, 1));
    setup.routes.saw(&ty(), host(2), None, Seen::Overloaded(minute), Duration::ZERO);
    becomes(&setup, 2, CandidateState::Suspect).await;
    assert_eq!(setup.ask(GET).await.body, "near");
    assert_eq!(near.connects(), 2);
}

const HALF: &str = "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf";
const BUSY_HEAD: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\n";

/// The rest of the body goes to another manager: whoever has said 503 before it came would wait for ever.
#[tokio::test]
async fn a_try_that_is_given_up_keeps_no_connection() {
    let (near, far) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Peer::saying("far").await);
    let setup = setup(&[near.local_addr().unwrap(), far.addr]).await;
    let mut caller = setup.connect().await;
    caller.say(HALF).await;
    let mut manager = accept(&near).await;
    let _ = read_head(&mut manager).await.unwrap();
    manager.write_all(format!("{BUSY_HEAD}busy").as_bytes()).await.unwrap();
    eventually("the next try", || (far.connects() == 1).then_some(())).await;
    caller.say("rest").await;
    assert_eq!(caller.hear().await.body, "far");
    assert!(far.asked()[0].ends_with("\r\nhalfrest"), "{:?}", far.asked());
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, manager.read_to_end(&mut rest)).await.expect("it is kept");
    assert_eq!(rest, b"half");
    caller.say(GET).await;
    assert_eq!(caller.hear().await.status(), 200);
}

#[tokio::test]
async fn a_503_of_a_try_that_was_given_up_can_still_be_the_answer() {
    let (near, far) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let setup = setup(&[near.local_addr().unwrap(), far.local_addr().unwrap()]).await;
    let mut caller = setup.connect().await;
    caller.say(HALF).await;
    let mut manager = accept(&near).await;
    let _ = read_head(&mut manager).await.unwrap();
    manager.write_all(BUSY_HEAD.as_bytes()).await.unwrap();
    let mut other = accept(&far).await;
    let _ = read_head(&mut other).await.unwrap();
    manager.write_all(b"bu").await.unwrap();
    drop(other);
    manager.write_all(b"sy").await.unwrap();
    let reply = caller.hear().await;
    assert_eq!((reply.status(), reply.body.as_str()), (503, "busy"));
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, manager.read_to_end(&mut rest)).await.expect("it is kept");
}

/// For `failback = dormant`.
#[tokio::test]
async fn requests_and_tunnels_occupy_their_type_until_they_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = setup_alone(listener.local_addr().unwrap()).await;
    let is_occupied = || setup.routes.is_occupied(&ty());
    for (request, answer) in [
        (GET, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n",
        ),
    ] {
        assert!(!is_occupied());
        let mut caller = setup.connect().await;
        caller.say(request).await;
        let mut manager = accept(&listener).await;
        let _ = read_head(&mut manager).await.unwrap();
        assert!(is_occupied(), "asked");
        manager.write_all(answer.as_bytes()).await.unwrap();
        let _ = timeout(DEADLINE, read_head(&mut caller.0)).await.unwrap().unwrap();
        assert!(is_occupied(), "answered in part");
        drop(manager);
        drop(caller);
        eventually("nothing to be open", || (!is_occupied()).then_some(())).await;
    }
}

/// A caller that does not read would hold up a forwarder's end for ever.
#[tokio::test]
async fn a_forwarder_that_is_closed_does_not_wait_for_callers_that_do_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let drain = PolicySettings { drain_timeout: Some(Duration::ZERO), ..PolicySettings::default() };
    let setup = setup_with(&managers(&[listener.local_addr().unwrap()]), drain).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut manager = accept(&listener).await;
    let _ = read_head(&mut manager).await.unwrap();
    manager.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    let block = vec![b'x'; 1 << 20];
    // Until all buffers are full.
    while timeout(Duration::from_millis(500), manager.write_all(&block)).await.is_ok() {}
    assert_eq!(setup.forwarder.status().open, 1);
    timeout(DEADLINE, setup.forwarder.close()).await.unwrap();
    eventually("its end", || (setup.forwarder.status().open == 0).then_some(())).await;
    drop(caller);
}
