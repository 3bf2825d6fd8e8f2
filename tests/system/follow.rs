//! What programs beside an agent are told of their routes, without asking again and again.

use crate::failover::Scene;
use echelon_tests::http::{Reply, get_unix_within};
use echelon_tests::{Sandbox, TYPE, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than any change takes on a machine under load.
const AMPLE: Duration = Duration::from_secs(90);

fn tag_of(route: &Value) -> String {
    route["tag"].as_str().unwrap_or_else(|| panic!("no tag: {route}")).to_owned()
}

/// Whoever waits after a tag is answered once the choice is another one; a tag is good after a restart, too.
#[test]
fn a_caller_who_waits_is_answered_when_the_choice_changes() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let tag = tag_of(&scene.caller.route(TYPE));
    let same = scene.caller.get(&format!("/v1/routes/{TYPE}?after={tag}&wait=100ms")).unwrap();
    assert_eq!((same.status, tag_of(&same.json())), (200, tag.clone()), "the end of the wait");
    let other = scene.caller.get(&format!("/v1/routes/{TYPE}?after=other&wait=5m")).unwrap();
    assert_eq!(tag_of(&other.json()), tag, "another tag than the present one is no reason to wait");

    let (socket, path) = (scene.caller.api(), format!("/v1/routes/{TYPE}?after={tag}&wait=5m"));
    let waiting = std::thread::spawn(move || get_unix_within(&socket, &path, AMPLE).unwrap());
    scene.caller.kill9();
    let gone = waiting.join();
    assert!(gone.is_err() || gone.unwrap().status != 200, "an agent that was killed answers nobody");
    scene.caller.start_ready();
    wait_for("the same choice after a restart", || {
        let route = scene.caller.route(TYPE);
        (tag_of(&route) == tag).then_some(()).ok_or(route)
    });

    let (socket, path) = (scene.caller.api(), format!("/v1/routes/{TYPE}?after={tag}&wait=5m"));
    let waiting = std::thread::spawn(move || get_unix_within(&socket, &path, AMPLE).unwrap());
    scene.near.kill();
    // Somebody has to notice.
    let _ = scene.caller.call(TYPE);
    let answer = waiting.join().unwrap().json();
    assert_eq!(answer["chosen"]["host"], "hub", "{answer}");
    assert_ne!(tag_of(&answer), tag);
}

/// A caller who waits does not hold up the end of the agent: it is answered with what there is.
#[test]
fn whoever_waits_is_answered_when_the_agent_ends() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let tag = tag_of(&scene.caller.route(TYPE));
    let path = format!("/v1/routes/{TYPE}?after={tag}&wait=5m");
    let mut waiting = Stream::open(&scene.caller.api(), &path);
    let mut stream = Stream::open(&scene.caller.api(), &format!("/v1/routes?stream&type={TYPE}"));
    assert_eq!(stream.event()["chosen"]["host"], "near");
    assert!(scene.caller.terminate().success());
    assert!(waiting.rest().contains(&tag), "it is answered in order");
    assert_eq!(stream.rest().lines().filter(|l| l.starts_with("data:")).count(), 0, "it ends");
}

/// Server-sent events: what is there at first, then each change, with the tag as its id.
#[test]
fn a_stream_tells_every_change_of_a_choice() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let mut one = Stream::open(&scene.caller.api(), &format!("/v1/routes?stream&type={TYPE}"));
    let mut all = Stream::open(&scene.caller.api(), "/v1/routes?stream");
    assert!(one.head.starts_with("HTTP/1.1 200") && one.head.contains("text/event-stream"), "{}", one.head);
    let near = one.event();
    assert_eq!((near["type"].as_str(), near["chosen"]["host"].as_str()), (Some(TYPE), Some("near")));
    assert_eq!(one.id, tag_of(&near));
    let types = [all.event(), all.event()].map(|e| e["type"].as_str().unwrap().to_owned());
    assert_eq!(types, [TYPE, "registry"], "all types there are, in order");

    scene.near.kill();
    let _ = scene.caller.call(TYPE);
    for stream in [&mut one, &mut all] {
        stream.until(|event| event["type"] == TYPE && event["chosen"]["host"] == "hub");
    }
    let console = scene.registry.console();
    // Its primary goes last.
    console.ok(&format!("package remove near {TYPE}"));
    console.ok(&format!("package remove hub {TYPE} --allow-shrink"));
    for stream in [&mut one, &mut all] {
        stream.until(|event| event["error"] == "unknown-type" && event["type"] == TYPE);
    }
}

/// What cannot be answered is refused at once, with the reason.
#[test]
fn questions_that_make_no_sense_are_refused_at_once() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let status = |path: &str| {
        let Reply { status, body } = scene.caller.get(path).unwrap();
        (status, body)
    };
    for (path, code, words) in [
        ("/v1/routes/none?after=x&wait=5m", 404, "unknown-type"),
        (&format!("/v1/routes/{TYPE}?after=x&wait=6m"), 400, "wait is 6m: use 0s to 5m"),
        (&format!("/v1/routes/{TYPE}?wiat=1s"), 400, "use after and wait"),
        ("/v1/routes", 400, "/v1/routes?stream"),
        ("/v1/routes?stream&type=%2e%2e", 400, "manager type"),
    ] {
        let (found, body) = status(path);
        assert!(found == code && body.contains(words), "{path}: {found} {body}");
    }
}

/// A response that goes on.
pub(crate) struct Stream {
    head: String,
    reader: BufReader<UnixStream>,
    /// Of the newest event: what it is called, and its id.
    pub(crate) kind: String,
    pub(crate) id: String,
}

impl Stream {
    pub(crate) fn open(socket: &Path, path: &str) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(AMPLE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        if path.contains("stream") {
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
            }
        }
        Self { head, reader, kind: String::new(), id: String::new() }
    }

    /// The data of the next event.
    pub(crate) fn event(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "the stream ended");
            // Between the lines of events stand those of the chunks.
            if let Some(kind) = line.strip_prefix("event:") {
                self.kind = kind.trim().to_owned();
            } else if let Some(id) = line.strip_prefix("id:") {
                self.id = id.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:") {
                return serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
            }
        }
    }

    pub(crate) fn until(&mut self, is: impl Fn(&Value) -> bool) {
        while !is(&self.event()) {}
    }

    pub(crate) fn rest(&mut self) -> String {
        let (mut rest, mut part, begin) = (Vec::new(), [0; 4096], Instant::now());
        loop {
            match self.reader.read(&mut part).unwrap() {
                0 => return String::from_utf8(rest).unwrap(),
                read => rest.extend_from_slice(&part[..read]),
            }
            // Signs of life alone would keep a stream going for ever.
            assert!(begin.elapsed() < AMPLE, "it goes on");
        }
    }
}
