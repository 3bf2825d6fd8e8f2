use super::*;
use crate::dialer::Parts;
use crate::forward::Common;
use crate::http::exchange::SOUGHT;
use crate::listen::{Forward, Listen};
use crate::metrics::Metrics;
use crate::routes::{RouterInput, Routes};
use crate::testing::{DEADLINE, eventually, host, manager, refusing, routes, snapshot, ty};
use echelon_core::policy::PolicySettings;
use echelon_core::view::Manager;
use echelon_daemon::Tasks;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

mod bodies;
mod kept;
mod leaving;
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
