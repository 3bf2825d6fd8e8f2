//! What the client makes of what agents say, and of what none should say. Real agents are in the whole-system
//! tests.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use echelon_client::{AgentError, Connection, DialError, LocalAgent, Way, blocking};
use echelon_core::name::ManagerType;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

fn ty() -> ManagerType {
    "command-control".parse().unwrap()
}

/// Where an agent would listen.
struct Scene {
    directory: TempDir,
    agent: LocalAgent,
}

fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let agent = LocalAgent::at(directory.path().join("agent.sock"));
    Scene { directory, agent }
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Answers on `direct.sock`: for each connection, these answers one after the other, each a line with
    /// so many descriptors. Gives what was asked, and with the last answer ends the connection.
    fn handing_over(&self, connections: Vec<Vec<(String, usize)>>) -> mpsc::Receiver<String> {
        let path = self.path("direct.sock");
        // An agent that is started anew finds its socket stale.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let (tell, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for answers in connections {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for (line, descriptors) in answers {
                    let mut request = String::new();
                    stream.read_line(&mut request).unwrap();
                    // Nobody may be interested.
                    let _ = tell.send(request);
                    send(stream.get_ref(), &line, descriptors);
                }
            }
        });
        asked
    }
}

/// One message with so many ends of connections, each of whose other ends says `hello`.
fn send(stream: &UnixStream, line: &str, descriptors: usize) {
    let connections: Vec<OwnedFd> = (0..descriptors).map(|_| connection().into()).collect();
    let borrowed: Vec<_> = connections.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    sendmsg(stream, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL).unwrap();
}

fn connection() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    connection
}

fn handed() -> (String, usize) {
    ("{\"host\":\"near\",\"endpoint\":\"127.0.0.1:7000\"}\n".into(), 1)
}

fn refused(error: &str, retry: &str) -> (String, usize) {
    (format!("{{\"error\":\"{error}\",\"message\":\"for a reason\",\"retry\":\"{retry}\"}}\n"), 0)
}

async fn says_hello(connection: Connection) {
    assert_eq!((connection.host.as_str(), connection.way), ("near", Way::Direct));
    assert_eq!(connection.endpoint.to_string(), "127.0.0.1:7000");
    let mut stream = connection.stream;
    let mut said = String::new();
    tokio::time::timeout(DEADLINE, tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(said, "hello");
}

#[tokio::test]
async fn one_connection_to_the_agent_serves_many_calls_and_a_closed_one_is_replaced() {
    let scene = scene();
    // The second connection is only made when the first has ended.
    let asked = scene.handing_over(vec![vec![handed(), handed()], vec![handed()]]);
    for _ in 0..3 {
        says_hello(scene.agent.connect(&ty()).await.unwrap()).await;
    }
    assert_eq!(asked.iter().collect::<Vec<_>>(), ["command-control\n"; 3]);
}

#[test]
fn without_a_runtime_it_is_the_same() {
    let scene = scene();
    let _asked =
        scene.handing_over(vec![vec![handed(), handed()], vec![handed(), refused("unserved", "safe")]]);
    let agent = blocking::LocalAgent::at(scene.path("agent.sock"));
    for _ in 0..3 {
        let mut connection = agent.connect(&ty()).unwrap();
        let mut said = String::new();
        connection.stream.read_to_string(&mut said).unwrap();
        assert_eq!((said.as_str(), connection.host.as_str()), ("hello", "near"));
    }
    let error = agent.connect(&ty()).unwrap_err();
    assert!(matches!(error, DialError::Unserved { .. }) && error.is_retriable(), "{error}");
    drop(scene);
    let error = agent.connect(&ty()).unwrap_err();
    assert!(matches!(error, DialError::Agent(AgentError::Connect { .. })), "{error}");
}

#[tokio::test]
async fn what_the_agent_refuses_is_told_apart() {
    let scene = scene();
    let errors =
        [("unknown-type", "pointless"), ("unserved", "safe"), ("unreachable", "safe"), ("other", "safe")];
    let _asked = scene.handing_over(vec![errors.map(|(error, retry)| refused(error, retry)).into()]);
    for (name, retry) in errors {
        let error = scene.agent.connect(&ty()).await.unwrap_err();
        assert_eq!(error.is_retriable(), retry == "safe", "{error}");
        let right = match name {
            "unknown-type" => matches!(error, DialError::Agent(AgentError::UnknownType { .. })),
            "unserved" => matches!(error, DialError::Unserved { .. }),
            "unreachable" => matches!(error, DialError::Unreachable { .. }),
            _ => error.to_string() == "the agent gives no connection (other): for a reason",
        };
        assert!(right, "{name}: {error:?}");
    }
}

/// Neither a wrong number of descriptors nor a line that is none is taken for an answer.
#[tokio::test]
async fn what_no_agent_says_is_refused() {
    let (handed, refused) = (handed().0, refused("unserved", "safe").0);
    for (line, descriptors) in [
        (handed.clone(), 0),
        (handed.clone(), 2),
        (handed.clone(), 8),
        (refused, 1),
        ("{}\n".into(), 1),
        ("hello\n".into(), 1),
        (format!("{handed}{handed}"), 1),
        ("x".repeat(5000), 1),
        ("{\"host\":\"no name!\",\"endpoint\":\"127.0.0.1:7000\"}\n".into(), 1),
        ("{\"host\":\"near\",\"endpoint\":\"nowhere\"}\n".into(), 1),
    ] {
        let scene = scene();
        let _asked = scene.handing_over(vec![vec![(line.clone(), descriptors)]]);
        let error = scene.agent.connect(&ty()).await.unwrap_err();
        assert!(
            matches!(error, DialError::Agent(AgentError::Malformed(_))),
            "{line} {descriptors}: {error:?}"
        );
        assert!(!error.is_retriable());
    }
    let scene = scene();
    let _asked = scene.handing_over(vec![vec![("{\"host\":\"ne".into(), 1)]]);
    let error = scene.agent.connect(&ty()).await.unwrap_err();
    assert!(matches!(error, DialError::Agent(AgentError::Ended)) && error.is_retriable(), "{error:?}");
}

/// An agent's API that gives these answers, each to one connection. Gives the paths that were asked for.
fn answering(scene: &Scene, answers: Vec<String>) -> mpsc::Receiver<String> {
    let path = scene.path("agent.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    let (tell, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(stream.read_line(&mut head).unwrap(), 0, "a request's head");
            }
            let _ = tell.send(head.split(' ').nth(1).unwrap().to_owned());
            // An empty one breaks off.
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    asked
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn route(tag: &str, candidates: &[(&str, &str, u16)]) -> String {
    let candidate = |(rank, (host, state, port)): (usize, &(&str, &str, u16))| {
        format!(
            r#"{{"rank":{},"host":"{host}","domain":"/","endpoint":"127.0.0.1:{port}","up":0,"down":0,
            "same_host":false,"priority":100,"weight":1,"role":"backup","state":"{state}","reason":""}}"#,
            rank + 1
        )
    };
    let all: Vec<_> = candidates.iter().enumerate().map(candidate).collect();
    let chosen = candidates.iter().find(|c| c.1 == "live").map_or("null".into(), |(host, _, port)| {
        format!(r#"{{"host":"{host}","endpoint":"127.0.0.1:{port}"}}"#)
    });
    let outcome = if candidates.is_empty() { "unserved" } else { "home" };
    format!(
        r#"{{"tag":"{tag}","host":"caller","type":"command-control","basis":"live","outcome":"{outcome}",
        "cause":"","home":null,"isolated":false,"chosen":{chosen},"candidates":[{}]}}"#,
        all.join(",")
    )
}

#[tokio::test]
async fn a_watch_gives_each_change_once_and_outlives_its_agent() {
    let scene = scene();
    let near = route("1 a", &[("near", "live", 7000)]);
    let far = route("2", &[("far", "live", 7001)]);
    let no_replica = http("503 Service Unavailable", r#"{"error":"no-replica","message":"none yet"}"#);
    let answers = vec![
        http("200 OK", &near),
        // The wait was over.
        http("200 OK", &near),
        String::new(),
        no_replica,
        http("200 OK", &far),
        http("503 Service Unavailable", &route("3", &[])),
        http("404 Not Found", "{}"),
    ];
    let asked = answering(&scene, answers);
    let mut watch = scene.agent.watch(ty());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let route = tokio::time::timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
        seen.push(route.chosen.map(|chosen| chosen.host.to_string()));
    }
    assert_eq!(seen, [Some("near".into()), Some("far".into()), None]);
    let error = tokio::time::timeout(DEADLINE, watch.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, AgentError::UnknownType { .. }) && !error.is_retriable(), "{error}");
    let asked: Vec<_> = asked.iter().collect();
    let after = |tag: &str| format!("/v1/routes/command-control?after={tag}&wait=30s");
    assert_eq!(asked[0], "/v1/routes/command-control");
    assert_eq!(asked[1..5], ["1%20a"; 4].map(after));
    assert_eq!(asked[5..], ["2", "3"].map(after));
}

/// Where nothing is handed over, the program connects by itself: in the order that the agent would try.
#[tokio::test]
async fn without_a_hand_over_the_route_is_followed() {
    let scene = scene();
    let serving = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = serving.local_addr().unwrap().port();
    let closed = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let managers = [
        ("down", "down", port),
        ("withdrawn", "withdrawn", port),
        ("suspect", "suspect", closed()),
        ("chosen", "live", closed()),
    ];
    let only_closed = [("suspect", "suspect", closed()), ("chosen", "live", closed())];
    let only_withdrawn = [("withdrawn", "withdrawn", port)];
    let answers =
        [managers.as_slice(), &only_closed, &only_withdrawn].map(|m| http("200 OK", &route("1", m)));
    let _asked = answering(&scene, answers.into());
    let connection = scene.agent.connect(&ty()).await.unwrap();
    assert_eq!((connection.host.as_str(), connection.way), ("down", Way::Route));
    let error = scene.agent.connect(&ty()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    assert!(text.find("chosen: ").unwrap() < text.find("suspect: ").unwrap(), "{text}");
    let error = scene.agent.connect(&ty()).await.unwrap_err();
    assert!(matches!(error, DialError::Unserved { .. }), "{error:?}");
}

#[tokio::test]
async fn no_agent_at_all_is_an_error_that_passes() {
    let error = scene().agent.connect(&ty()).await.unwrap_err();
    assert!(matches!(error, DialError::Agent(AgentError::Connect { .. })), "{error:?}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn the_nearest_is_the_chosen_one_or_an_error() {
    let scene = scene();
    let near = route("1", &[("near", "live", 7000)]);
    let answers = vec![http("200 OK", &near), http("503 Service Unavailable", &route("2", &[]))];
    let _asked = answering(&scene, answers);
    assert_eq!(scene.agent.nearest(&ty()).await.unwrap().host.as_str(), "near");
    let error = scene.agent.nearest(&ty()).await.unwrap_err();
    assert!(matches!(error, AgentError::Unserved { .. }) && error.is_retriable(), "{error}");
}
