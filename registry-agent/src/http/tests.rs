use super::*;
use crate::dialer::Parts;
use crate::forward::Common;
use crate::http::exchange::SOUGHT;
use crate::http::pool::Pool;
use crate::http::upload::MAX_HELD;
use crate::http::upstream::Link;
use crate::listen::{Forward, Listen};
use crate::metrics::Metrics;
use crate::routes::{RouterInput, Routes};
use crate::testing::{DEADLINE, eventually, host, manager, refusing, routes, snapshot, ty};
use echelon_core::policy::PolicySettings;
use echelon_core::repeat::Effect;
use echelon_core::view::Manager;
use echelon_daemon::Tasks;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

mod trouble;

struct Setup {
    forwarder: HttpForwarder,
    routes: Routes,
    _tasks: Tasks,
}

async fn setup_with(managers: &[Manager], settings: PolicySettings) -> Setup {
    setup_seeking(SOUGHT, managers, settings).await
}

/// With this patience.
async fn setup_seeking(patience: Duration, managers: &[Manager], settings: PolicySettings) -> Setup {
    let (routes, tasks) = routes(snapshot(1, managers, settings)).await;
    let (metrics, places) = (Arc::new(Metrics::new()), Arc::default());
    let parts = Parts { routes: routes.clone(), tasks: tasks.clone(), metrics, places };
    let forward = Forward { ty: ty(), listen: "127.0.0.1:0".parse().unwrap() };
    let forwarder = HttpForwarder::start_with(patience, &forward, parts, Common::alone()).await.unwrap();
    Setup { forwarder, routes, _tasks: tasks }
}

/// An HTTP forwarder to these managers, the nearest first.
async fn setup(peers: &[SocketAddr]) -> Setup {
    setup_with(&managers(peers), PolicySettings::default()).await
}

fn managers(peers: &[SocketAddr]) -> Vec<Manager> {
    (1..).zip(0..).zip(peers).map(|((n, level), addr)| manager(n, level, *addr)).collect()
}

impl Setup {
    async fn connect(&self) -> Caller {
        let Listen::Tcp(addr) = self.forwarder.at() else { panic!("no port") };
        Caller(BufReader::new(TcpStream::connect(addr).await.unwrap()))
    }

    /// One request over a connection of its own.
    async fn ask(&self, request: &str) -> Reply {
        let mut caller = self.connect().await;
        caller.say(request).await;
        caller.hear().await
    }
}

/// A connection to the forwarder.
struct Caller(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert!(json["message"].is_string() && json["type"] == ty().as_str(), "{json}");
        json["error"].as_str().unwrap().to_owned()
    }
}

impl Caller {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Reply {
        let head = timeout(DEADLINE, read_head(&mut self.0)).await.expect("no answer").expect("no answer");
        let body = timeout(DEADLINE, read_body(&mut self.0, &head)).await.unwrap();
        Reply { head, body: body.expect("the body broke off") }
    }
}

/// Reads up to the empty line, which is left out.
async fn read_head(from: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        match from.read_line(&mut head).await {
            Ok(0) | Err(_) => return None,
            Ok(2) => return Some(head.trim_end().to_owned() + "\r\n"),
            Ok(_) => {}
        }
    }
}

/// Reads a body as its head says, trailers behind it; none where it breaks off.
async fn read_body(from: &mut BufReader<TcpStream>, head: &str) -> Option<String> {
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            from.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size];
            from.read_exact(&mut chunk).await.ok()?;
            if size == 0 {
                break;
            }
            body.append(&mut chunk);
            from.read_exact(&mut [0; 2]).await.ok()?;
        }
        let mut line = String::new();
        while from.read_line(&mut line).await.ok()? > 2 {}
        body.extend_from_slice(line.trim_end().as_bytes());
    } else if let Some(length) = lower.split("content-length: ").nth(1) {
        body.resize(length.split("\r\n").next()?.parse().ok()?, 0);
        from.read_exact(&mut body).await.ok()?;
    }
    String::from_utf8(body).ok()
}

/// A manager that answers as a test says.
struct Peer {
    addr: SocketAddr,
    /// What it was asked: heads, and bodies behind them.
    asked: Arc<Mutex<Vec<String>>>,
    connects: Arc<AtomicUsize>,
}

/// What a manager does once it has a request.
enum Does {
    Says(String),
    SaysAndCloses(String),
    Closes,
}

fn ok(body: &str) -> Does {
    Does::Says(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn busy() -> Does {
    Does::Says("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy".into())
}

impl Peer {
    async fn start(answer: impl Fn(usize) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (asked, connects) = <(Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>)>::default();
        let (heard, counted, answer) = (Arc::clone(&asked), Arc::clone(&connects), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(head) = read_head(&mut stream).await {
                        let Some(body) = read_body(&mut stream, &head).await else { return };
                        let number = {
                            let mut heard = heard.lock().unwrap();
                            heard.push(format!("{head}\r\n{body}"));
                            heard.len()
                        };
                        match answer(number) {
                            Does::Says(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                            Does::SaysAndCloses(text) => {
                                stream.write_all(text.as_bytes()).await.unwrap();
                                return;
                            }
                            Does::Closes => return,
                        }
                    }
                });
            }
        });
        Self { addr, asked, connects }
    }

    /// One that answers with this.
    async fn saying(body: &'static str) -> Self {
        Self::start(move |_| ok(body)).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.asked().len()
    }

    fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: x.example\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: x.example\r\nContent-Length: 4\r\n\r\nwork";
const KEYED: &str =
    "POST /a HTTP/1.1\r\nHost: x.example\r\nIdempotency-Key: \"7\"\r\nContent-Length: 4\r\n\r\nwork";

#[tokio::test]
async fn requests_go_to_the_nearest_manager_over_a_connection_that_is_kept() {
    let (near, far) = (Peer::saying("near").await, Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    let mut caller = setup.connect().await;
    for _ in 0..5 {
        caller.say(GET).await;
        assert_eq!(caller.hear().await.body, "near");
    }
    // Several at once are answered in their order.
    caller.say(&format!("{GET}{POST}{GET}")).await;
    for _ in 0..3 {
        assert_eq!(caller.hear().await.body, "near");
    }
    assert_eq!((near.count(), near.connects(), far.count()), (8, 1, 0));
    let asked = near.asked();
    assert!(asked[0].to_ascii_lowercase().contains("host: x.example\r\n"), "{asked:?}");
    let status = setup.forwarder.status();
    assert_eq!((status.answered, status.repeated), (8, 0));
    assert_eq!(status.open_by_manager.into_iter().collect::<Vec<_>>(), [("host1".parse().unwrap(), 1)]);
}

#[tokio::test]
async fn what_got_no_answer_is_repeated_only_where_nothing_can_happen_twice() {
    let (near, far) = (Peer::start(|_| Does::Closes).await, Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    for (request, repeated) in [(GET, true), (KEYED, true), (POST, false)] {
        let (before, far_before) = (near.count(), far.count());
        let reply = setup.ask(request).await;
        assert_eq!(near.count(), before + 1, "{request}");
        if repeated {
            assert_eq!(reply.body, "far", "{request}");
            let (first, second) = (near.asked().pop().unwrap(), far.asked().pop().unwrap());
            assert_eq!(first, second, "the same request, whole");
        } else {
            assert_eq!((reply.status(), reply.error().as_str()), (502, "broken"));
            assert_eq!(far.count(), far_before, "it may have been acted on");
        }
    }
    let status = setup.forwarder.status();
    assert_eq!((status.answered, status.failed, status.repeated), (2, 1, 2));
}

#[tokio::test]
async fn what_was_not_sent_goes_to_the_next_manager_whatever_it_does() {
    let (near, far) = (refusing(), Peer::saying("far").await);
    let setup = setup(&[near.addr, far.addr]).await;
    assert_eq!(setup.ask(POST).await.body, "far");
    let alone = setup_alone(near.addr).await;
    let reply = alone.ask(POST).await;
    assert_eq!((reply.status(), reply.error().as_str()), (502, "unreachable"));
}

async fn setup_alone(addr: SocketAddr) -> Setup {
    setup(&[addr]).await
}

#[tokio::test]
async fn nobody_to_ask_is_503_with_the_cause() {
    let setup = setup(&[]).await;
    let reply = setup.ask(GET).await;
    assert_eq!((reply.status(), reply.error().as_str()), (503, "unserved"));
    assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    assert_eq!(setup.forwarder.status().unserved, 1);
}

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

#[tokio::test]
async fn overload_moves_on_where_that_is_safe_and_the_last_word_of_it_is_passed_on() {
    let (near, far) = (Peer::start(|_| busy()).await, Peer::saying("far").await);
    let moving = setup(&[near.addr, far.addr]).await;
    let reply = moving.ask(POST).await;
    assert_eq!((reply.status(), reply.body.as_str()), (503, "busy"), "a manager's answer like any other");
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
    let setup = setup(&[near.addr, far.addr]).await;
    for request in [GET, KEYED] {
        assert_eq!(setup.ask(request).await.body, "far");
    }
    let alone = setup_alone(near.addr).await;
    let reply = alone.ask(GET).await;
    assert_eq!((reply.status(), reply.body.as_str()), (503, "busy"));
    // Nobody else can be reached.
    let dead = refusing();
    let near_and_dead = self::setup(&[near.addr, dead.addr]).await;
    let reply = near_and_dead.ask(GET).await;
    assert_eq!((reply.status(), reply.body.as_str()), (503, "busy"));
}

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

/// What is idle goes at once; what is under way has the policy's time, and is then not taken for whole.
#[tokio::test]
async fn a_withdrawn_manager_is_left_at_once_and_cut_in_the_end() {
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let near = Peer::start(move |n| if n == 1 { Does::Says(endless.into()) } else { ok("near") }).await;
    let far = Peer::saying("far").await;
    let drain =
        PolicySettings { drain_timeout: Some(Duration::from_millis(700)), ..PolicySettings::default() };
    let mut managers = managers(&[near.addr, far.addr]);
    let setup = setup_with(&managers, drain.clone()).await;
    let mut long = setup.connect().await;
    long.say(GET).await;
    let head = read_head(&mut long.0).await.unwrap();
    assert!(head.contains("chunked"), "{head}");
    let mut idle = setup.connect().await;
    idle.say(GET).await;
    assert_eq!(idle.hear().await.body, "near");
    let counts = || setup.forwarder.status().open_by_manager.get("host1").copied();
    assert_eq!(counts(), Some(2));

    managers[0].withdrawn = true;
    setup.routes.send(RouterInput::Replica(snapshot(2, &managers, drain))).await;
    eventually("the idle one to be closed", || (counts() == Some(1)).then_some(())).await;
    idle.say(POST).await;
    assert_eq!(idle.hear().await.body, "far");
    let body = timeout(DEADLINE, read_body(&mut long.0, &head)).await.expect("it is not cut");
    assert_eq!(body, None, "cut short, and it looks so");
    eventually("no connection", || counts().is_none().then_some(())).await;
    assert_eq!(host(1), managers[0].host);
}

/// A request whose manager is cut away before it answered goes to another one.
#[tokio::test]
async fn a_request_that_waits_for_a_withdrawn_manager_goes_on() {
    let (near, far) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Peer::saying("far").await);
    let drain = PolicySettings { drain_timeout: Some(Duration::ZERO), ..PolicySettings::default() };
    let mut managers = managers(&[near.local_addr().unwrap(), far.addr]);
    let setup = setup_with(&managers, drain.clone()).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut silent = BufReader::new(near.accept().await.unwrap().0);
    let _ = read_head(&mut silent).await.unwrap();
    managers[0].withdrawn = true;
    setup.routes.send(RouterInput::Replica(snapshot(2, &managers, drain))).await;
    assert_eq!(caller.hear().await.body, "far");
}

#[tokio::test]
async fn a_forwarder_that_is_closed_answers_what_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = setup(&[listener.local_addr().unwrap()]).await;
    let mut caller = setup.connect().await;
    caller.say(GET).await;
    let mut manager = BufReader::new(listener.accept().await.unwrap().0);
    let _ = read_head(&mut manager).await.unwrap();
    timeout(DEADLINE, setup.forwarder.close()).await.unwrap();
    manager.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
    assert_eq!(caller.hear().await.body, "last");
    assert_eq!(caller.0.read(&mut [0; 1]).await.unwrap(), 0, "no further request");
    assert_eq!(manager.read(&mut [0; 1]).await.unwrap(), 0, "no connection is kept");
}
