use super::*;
use crate::connector::Connector;
use crate::dialer::Parts;
use crate::metrics::Metrics;
use crate::routes::Routes;
use crate::testing::{
    DEADLINE, eventually, host, manager, refusing, routes, service, silent_listener, snapshot, ty,
};
use echelon_core::policy::PolicySettings;
use echelon_core::report::CandidateState;
use echelon_core::view::Manager;
use echelon_daemon::Tasks;
use echelon_daemon::metrics::exposition;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

struct Setup {
    direct: Arc<Direct>,
    routes: Routes,
    metrics: Arc<Metrics>,
    _tasks: Tasks,
    directory: TempDir,
}

async fn setup_with(managers: &[Manager], settings: PolicySettings) -> Setup {
    let (routes, tasks) = routes(snapshot(1, managers, settings)).await;
    let metrics = Arc::new(Metrics::new());
    let (metrics_of, places) = (Arc::clone(&metrics), Arc::default());
    let parts = Parts { routes: routes.clone(), tasks: tasks.clone(), metrics: metrics_of, places };
    let directory = tempfile::tempdir().unwrap();
    let path = Direct::beside(&directory.path().join("agent.sock")).unwrap();
    let connector = Connector::new(parts.clone());
    let direct = Direct::start(path, connector, parts, Arc::default()).unwrap();
    Setup { direct, routes, metrics, _tasks: tasks, directory }
}

async fn setup(managers: &[Manager]) -> Setup {
    setup_with(managers, PolicySettings::default()).await
}

impl Setup {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("direct.sock")).await.unwrap()
    }

    async fn open_is(&self, open: u64) {
        let is = || (self.direct.status().open == open).then_some(());
        eventually(&format!("{open} open"), is).await;
    }
}

/// One answer: the line, and the descriptors that came with it. None where the connection ended instead.
async fn answer(stream: &UnixStream) -> Option<(Value, Vec<OwnedFd>)> {
    let receive = stream.async_io(Interest::READABLE, || {
        let (mut bytes, mut found) = ([0; 4096], Vec::new());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                found.extend(descriptors);
            }
        }
        Ok((bytes[..received.bytes].to_vec(), found))
    });
    let (line, found) = timeout(DEADLINE, receive).await.expect("no answer in time").ok()?;
    if line.is_empty() {
        return None;
    }
    assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1), "one line");
    Some((serde_json::from_slice(&line).unwrap(), found))
}

async fn ask(stream: &mut UnixStream, request: &str) -> (Value, Vec<OwnedFd>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await.expect("an answer")
}

/// Asks for the type; who answers at the other end of what came.
async fn call(stream: &mut UnixStream) -> String {
    let (line, mut found) = ask(stream, &format!("{}\n", ty())).await;
    assert_eq!(found.len(), 1, "{line}");
    let connection = std::net::TcpStream::from(found.pop().unwrap());
    connection.set_nonblocking(true).unwrap();
    let peer = connection.peer_addr().unwrap().to_string();
    assert_eq!(line["endpoint"], peer, "{line}");
    let mut connection = BufReader::new(TcpStream::from_std(connection).unwrap());
    connection.write_all(b"hello\n").await.unwrap();
    let mut said = String::new();
    timeout(DEADLINE, connection.read_line(&mut said)).await.unwrap().unwrap();
    said.trim_end().to_owned()
}

fn refused(answer: &(Value, Vec<OwnedFd>)) -> (&str, &str) {
    let (line, found) = answer;
    assert!(found.is_empty(), "{line}");
    assert!(!line["message"].as_str().unwrap().is_empty(), "{line}");
    (line["error"].as_str().unwrap(), line["retry"].as_str().unwrap())
}

#[tokio::test]
async fn a_program_is_handed_a_connection_again_and_again_over_one_socket() {
    let setup = setup(&[manager(1, 0, service("near").await), manager(2, 1, service("far").await)]).await;
    let mut stream = setup.connect().await;
    for _ in 0..3 {
        assert_eq!(call(&mut stream).await, "near hello");
    }
    let status = setup.direct.status();
    assert_eq!((status.open, status.served, status.failed), (1, 3, 0));
    let text = exposition(&[setup.metrics.registry()], None).unwrap().text;
    assert!(text.contains("handovers_total{type=\"command-control\"} 3"), "{text}");
    drop(stream);
    setup.open_is(0).await;
}

#[tokio::test]
async fn what_is_handed_over_is_as_if_the_program_had_made_it() {
    let setup = setup(&[manager(1, 0, service("near").await)]).await;
    let (line, found) = ask(&mut setup.connect().await, "command-control\n").await;
    assert_eq!(line["host"], "host1", "{line}");
    assert_eq!(line.as_object().unwrap().len(), 2, "{line}");
    let flags = rustix::fs::fcntl_getfl(&found[0]).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
    assert!(rustix::net::sockopt::tcp_nodelay(&found[0]).unwrap());
}

#[tokio::test]
async fn a_manager_that_refuses_is_passed_over_in_the_same_request_and_known_as_down() {
    let closed = refusing();
    let setup = setup(&[manager(1, 0, closed.addr), manager(2, 1, service("far").await)]).await;
    assert_eq!(call(&mut setup.connect().await).await, "far hello");
    eventually("host1 is down", || {
        let route = setup.routes.get(&ty())?;
        let entry = route.entries.iter().find(|e| e.candidate.manager.host == host(1))?;
        (entry.state == CandidateState::Down).then_some(())
    })
    .await;
}

#[tokio::test]
async fn errors_come_with_no_descriptor_and_the_connection_serves_on() {
    let closed = refusing();
    let setup = setup(&[manager(1, 0, closed.addr)]).await;
    let mut stream = setup.connect().await;
    assert_eq!(refused(&ask(&mut stream, "audit\n").await), ("unknown-type", "pointless"));
    assert_eq!(refused(&ask(&mut stream, "Not a type!\n").await), ("unknown-type", "pointless"));
    assert_eq!(refused(&ask(&mut stream, "\n").await), ("unknown-type", "pointless"));
    assert_eq!(refused(&ask(&mut stream, "registry\n").await), ("registry", "pointless"));
    let unreachable = ask(&mut stream, "command-control\n").await;
    assert_eq!(refused(&unreachable), ("unreachable", "safe"));
    assert!(unreachable.0["message"].as_str().unwrap().contains("host1: connection refused"));
    let status = setup.direct.status();
    assert_eq!((status.open, status.served, status.failed), (1, 0, 5));
}

#[tokio::test]
async fn withdrawn_managers_serve_nobody() {
    let withdrawn = Manager { withdrawn: true, ..manager(1, 0, service("near").await) };
    let setup = setup(&[withdrawn]).await;
    let answer = ask(&mut setup.connect().await, "command-control\n").await;
    assert_eq!(refused(&answer), ("unserved", "safe"));
}

#[tokio::test]
async fn a_request_too_long_and_one_too_early_are_refused_and_end_the_connection() {
    let setup = setup(&[manager(1, 0, service("near").await)]).await;
    for request in ["x".repeat(256), "x".repeat(300), "command-control\ncommand-control\n".into()] {
        let mut stream = setup.connect().await;
        assert_eq!(refused(&ask(&mut stream, &request).await), ("bad-request", "pointless"));
        assert_eq!(stream.read(&mut [0; 1]).await.expect("an end, no reset"), 0);
    }
    let mut stream = setup.connect().await;
    let just_fits = format!("{}\n", "x".repeat(255));
    assert_eq!(refused(&ask(&mut stream, &just_fits).await), ("unknown-type", "pointless"));
    assert_eq!(call(&mut stream).await, "near hello");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_finish_its_request_is_told_so() {
    let setup = setup(&[]).await;
    let begin = tokio::time::Instant::now();
    let answer = ask(&mut setup.connect().await, "command-con").await;
    assert_eq!(refused(&answer), ("bad-request", "pointless"));
    assert!(begin.elapsed() >= Duration::from_secs(5), "{:?}", begin.elapsed());
    setup.open_is(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_question_is_closed_in_the_end() {
    let setup = setup(&[]).await;
    let mut stream = setup.connect().await;
    let begin = tokio::time::Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert!(begin.elapsed() >= Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_program_that_reads_no_answers_holds_few_of_them_and_is_closed() {
    let setup = setup(&[manager(1, 0, service("near").await)]).await;
    let mut stream = setup.connect().await;
    setup.open_is(1).await;
    let begin = Instant::now();
    let mut asked: u64 = 0;
    // Until it is closed, one at a time: the next after the answer is under way, or there is no room for it.
    loop {
        if stream.write_all(b"command-control\n").await.is_err() {
            break;
        }
        asked += 1;
        let answered =
            || (setup.direct.status().served == asked || setup.direct.status().open == 0).then_some(());
        eventually("an answer or an end", answered).await;
        assert!(begin.elapsed() < DEADLINE * 2 && asked < 32, "{asked} answers wait to be read");
    }
    assert!(asked > 3, "there is room for some");
}

/// What takes this process long to connect to, and a program that has asked for it.
async fn asked_for_a_silent_one() -> (Setup, UnixStream, crate::testing::Silent) {
    let silent = silent_listener();
    let settings = PolicySettings { connect_timeout: Some(Duration::from_secs(60)), ..Default::default() };
    let setup = setup_with(&[manager(1, 0, silent.addr)], settings).await;
    let mut stream = setup.connect().await;
    stream.write_all(b"command-control\n").await.unwrap();
    setup.open_is(1).await;
    (setup, stream, silent)
}

#[tokio::test]
async fn a_program_that_has_gone_away_is_not_connected_for() {
    let (setup, stream, _silent) = asked_for_a_silent_one().await;
    drop(stream);
    // Well before the connect ends by itself.
    setup.open_is(0).await;
    assert_eq!(setup.direct.status().served, 0);
}

#[tokio::test]
async fn the_next_request_before_the_answer_is_refused() {
    let (setup, mut stream, _silent) = asked_for_a_silent_one().await;
    let answer = ask(&mut stream, "command-control\n").await;
    assert_eq!(refused(&answer), ("bad-request", "pointless"));
    setup.open_is(0).await;
}

#[tokio::test]
async fn a_program_that_has_said_all_it_has_to_say_is_still_answered() {
    let setup = setup(&[manager(1, 0, service("near").await)]).await;
    let mut stream = setup.connect().await;
    stream.write_all(b"command-control\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let (line, found) = answer(&stream).await.unwrap();
    assert_eq!((found.len(), &line["host"]), (1, &"host1".into()));
    let end: io::Result<usize> = stream.read(&mut [0; 1]).await;
    assert_eq!(end.unwrap(), 0);
}
