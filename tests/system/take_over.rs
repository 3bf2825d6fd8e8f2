//! A new process takes over from an agent that runs: no caller is refused, none is cut off, and one that fails takes
//! nothing away.

use crate::failover::{Scene, some_more};
use crate::reload::{reload, wait_alarm};
use echelon_client::blocking::LocalAgent;
use echelon_tests::caller::all_answered;
use echelon_tests::topology::PORT;
use echelon_tests::{
    Agent, Caller, Manager, Process, Sandbox, ServiceManager, Stub, TYPE, Topology, http, wait_for,
    wait_until,
};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

/// Longer than anything takes on a machine under load.
const AMPLE: Duration = Duration::from_secs(60);

/// Open connections are left longer than a test takes.
const SETTINGS: &str = "stop_grace = \"120s\"\n";

/// Callers at a time; together they make some hundreds of connections a second.
const CALLERS: usize = 4;

/// Where the child that speaks for a successor finds the socket.
const SOCKET: &str = "ECHELON_TEST_TAKE_OVER_SOCKET";

/// Does something again and again until it is stopped, and counts.
struct Busy {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn with(mut act: impl FnMut() + Send + 'static) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = spawn({
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            move || {
                while !stop.load(Ordering::SeqCst) {
                    act();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { stop, done, thread: Some(thread) }
    }

    /// How often it was done. Fails if it ever failed.
    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.done.load(Ordering::SeqCst)
    }
}

/// A connection through a forwarder that stays open.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn begin(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(AMPLE)).unwrap();
        let mut talk = Self(BufReader::new(stream));
        assert_eq!(talk.ask(), "near");
        talk
    }

    fn ask(&mut self) -> String {
        self.0.get_mut().write_all(b"who\n").unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Who reads from the lock file's directory as a third process would: it may never have the lock.
fn grabbing(agent: &Agent<'_>) -> Busy {
    let lock = File::open(agent.state().join("lock")).unwrap();
    Busy::with(move || {
        let taken = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!(!taken, "somebody else could have locked the state directory");
        std::thread::sleep(Duration::from_micros(200));
    })
}

/// Who asks on `direct.sock`, over a connection that is kept.
fn asking_directly(agent: &Agent<'_>) -> Busy {
    let client = LocalAgent::at(agent.api());
    let ty = TYPE.parse().unwrap();
    Busy::with(move || {
        client.connect(&ty).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    })
}

fn status(agent: &Agent<'_>) -> Value {
    agent.get("/v1/status").unwrap().json()
}

fn wait_session(agent: &Agent<'_>) {
    wait_for("a session", || {
        let status = status(agent);
        status["session"].is_object().then_some(()).ok_or(status)
    });
}

fn calls(scene: &Scene<'_>) -> Vec<Caller> {
    (0..CALLERS).map(|_| scene.calls()).collect()
}

fn scene(sandbox: &Sandbox) -> Scene<'_> {
    let mut scene = Scene::set(sandbox);
    scene.caller.set_settings(SETTINGS);
    reload(&mut scene.caller, SETTINGS);
    wait_until("the settings", || scene.caller.process().log().contains("The settings file was read again"));
    scene
}

/// Protects: an upgrade that nobody notices, twice in a row. Whoever connects meanwhile is served, whoever is
/// connected stays so, who waits at the API is answered, and the state directory is locked throughout.
#[test]
fn upgrades_under_load_refuse_nobody_and_cut_nobody() {
    let sandbox = Sandbox::new();
    let mut scene = scene(&sandbox);
    let (calls, direct, grabs) = (calls(&scene), asking_directly(&scene.caller), grabbing(&scene.caller));
    let mut open: Vec<Talk> = Vec::new();
    for _ in 0..2 {
        let at = scene.caller.forwarder(TYPE);
        open.extend((0..10).map(|_| Talk::begin(at)));
        let before = status(&scene.caller)["incarnation"].as_u64().unwrap();
        let tag = scene.caller.route(TYPE)["tag"].as_str().unwrap().to_owned();
        let api = scene.caller.api();
        let waiting = spawn({
            let (api, path) = (api.clone(), format!("/v1/routes/{TYPE}?after={tag}&wait=60s"));
            move || http::get_unix_within(&api, &path, AMPLE).unwrap().status
        });
        let mut stream = UnixStream::connect(&api).unwrap();
        stream.set_read_timeout(Some(AMPLE)).unwrap();
        stream.write_all(b"GET /v1/routes?stream HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        calls.iter().for_each(some_more);

        let mut old = scene.caller.take_over();
        calls.iter().for_each(some_more);
        assert_eq!(waiting.join().unwrap(), 200, "who waited for a change is answered");
        let mut events = String::new();
        stream.read_to_string(&mut events).unwrap();
        assert!(events.ends_with("0\r\n\r\n"), "the stream ends in good order: {events}");
        wait_session(&scene.caller);
        let now = status(&scene.caller);
        assert!(now["incarnation"].as_u64().unwrap() > before, "{now}");
        for talk in &mut open {
            assert_eq!(talk.ask(), "near");
        }
        assert!(old.is_running(), "it has connections to finish");
        open.clear();
        assert!(old.wait().success(), "{}", old.log());
    }
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
    let made: Vec<_> = calls.into_iter().map(Caller::stop).collect();
    made.iter().for_each(|calls| assert_eq!(all_answered(calls), ["near"]));
    let slowest = made.iter().flatten().map(|call| call.took).max().unwrap();
    let count: usize = made.iter().map(Vec::len).sum();
    println!(
        "2 upgrades: {count} calls, 0 refused, 0 cut, slowest {slowest:?}; {} hand-overs on direct.sock; {} tries to lock",
        direct.finish(),
        grabs.finish()
    );
    scene.near.kill();
    assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
    assert!(scene.caller.terminate().success());
    assert!(!scene.caller.api().exists() && !scene.caller.state().join("take-over.sock").exists());
}

/// A frame as two processes exchange them.
fn say(stream: &mut UnixStream, message: &str) {
    stream.write_all(&u32::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(message.as_bytes()).unwrap();
}

fn hear(stream: &mut UnixStream) -> String {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).unwrap();
    String::from_utf8(message).unwrap()
}

fn hello(lowest: u32, highest: u32) -> String {
    format!("{{\"hello\":{{\"versions\":{{\"lowest\":{lowest},\"highest\":{highest}}},\"build\":\"9\"}}}}")
}

/// Not a test of its own: the process that asks for everything, gets it, and goes no further.
#[test]
fn a_process_that_speaks_for_a_successor() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    say(&mut stream, &hello(1, 1));
    assert!(hear(&mut stream).starts_with("{\"offer\":"));
    eprintln!("was offered everything");
    std::thread::sleep(Duration::from_secs(600));
}

fn speaker(sandbox: &Sandbox, socket: &Path) -> Process {
    let mut command = sandbox.command(&std::env::current_exe().unwrap());
    command.args(["--exact", "take_over::a_process_that_speaks_for_a_successor", "--nocapture"]);
    command.env(SOCKET, socket);
    let process = Process::spawn("speaker", command, &sandbox.logs());
    let before = process.log().matches("was offered").count();
    wait_until("the offer", || process.log().matches("was offered").count() > before);
    process
}

/// Protects: whatever becomes of a successor that does not get as far as serving, the old process goes on with all it
/// had: its callers, its session, its state directory.
#[test]
fn a_successor_that_fails_takes_nothing_away() {
    let sandbox = Sandbox::new();
    let mut scene = scene(&sandbox);
    let (calls, grabs) = (scene.calls(), grabbing(&scene.caller));
    let process = scene.caller.process().id();
    let socket = scene.caller.state().join("take-over.sock");
    let goes_on = |scene: &Scene<'_>, words: &str| {
        wait_alarm(&scene.caller, "take-over-failed", words);
        wait_session(&scene.caller);
        assert_eq!(scene.caller.holder(), Some(process), "{words}");
        some_more(&calls);
    };

    // Killed while it has everything in hand.
    let mut killed = speaker(&sandbox, &socket);
    killed.kill9();
    goes_on(&scene, "the other process said nothing more");

    // Standing still for longer than anybody waits: it is ended, so that it cannot come back to it.
    let mut still = speaker(&sandbox, &socket);
    still.signal(Signal::STOP);
    assert!(!still.wait().success());
    goes_on(&scene, "it was not ready within 5s");

    // One that cannot listen where it is told to.
    let mut command = scene.caller.run_command();
    command.args(["--take-over", "--forward", &format!("audit={}", scene.registry.http())]);
    let mut unable = Process::spawn("unable", command, &sandbox.logs());
    assert_eq!(unable.wait().code(), Some(1), "{}", unable.log());
    goes_on(&scene, &format!("cannot listen at {}", scene.registry.http()));
    assert!(unable.log().contains("cannot listen at"), "{}", unable.log());

    // One that nobody here understands, and one that says nothing at all.
    let mut stranger = UnixStream::connect(&socket).unwrap();
    say(&mut stranger, &hello(7, 9));
    let refused = hear(&mut stranger);
    assert!(refused.contains("it speaks versions 7 to 9 of the take-over, this agent 1"), "{refused}");
    let mut silent = UnixStream::connect(&socket).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
    let mut garbage = UnixStream::connect(&socket).unwrap();
    garbage.write_all(&[0xff; 64]).unwrap();
    assert!(hear(&mut garbage).contains("bytes at once"));

    // An edit still arrives, and in the end somebody does take over.
    scene.registry.console().ok("domain add /later");
    scene.registry.wait_in_sync(1);
    assert_eq!(all_answered(&calls.stop()), ["near"]);
    println!("{} tries to lock", grabs.finish());
    assert!(scene.caller.take_over().wait().success());
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
}

/// Protects: what a host announced while no registry manager was there is not lost by an upgrade, and what is
/// announced to either process counts.
#[test]
fn an_announcement_that_waits_is_handed_over() {
    let sandbox = Sandbox::new();
    let mut registry = Manager::running(&sandbox);
    let mut agent = Agent::new(&sandbox, "svc");
    let _stub = Stub::start("svc", SocketAddr::new(agent.address(), PORT));
    registry.apply(&Topology::new().host("svc", "/x", agent.address()));
    let token = registry.token(&format!("--host svc --allow-type {TYPE} --allow-type audit"));
    assert_eq!(agent.enroll(registry.listen(), &token, "").code, 0);
    agent.start_ready();
    registry.wait_in_sync(1);
    registry.kill9();
    wait_until("the loss to be noticed", || agent.route("registry")["source"] == "replica");
    let first = agent.put(TYPE, &format!("{{\"port\":{PORT}}}"));
    assert_eq!(first.status, 202, "{first:?}");
    assert!(agent.take_over().wait().success());
    let kept = agent.package(TYPE);
    assert_eq!(kept.json()["pending"]["number"], first.json()["pending"]["number"], "{kept:?}");
    assert_eq!(agent.put("audit", &format!("{{\"port\":{PORT}}}")).status, 202);
    registry.start();
    for ty in [TYPE, "audit"] {
        wait_for("the announcement to be recorded", || {
            let all = registry.console().objects(&format!("package list --type {ty}"));
            (all.len() == 1 && all[0]["announced"] == true).then_some(()).ok_or(all)
        });
    }
}

/// Protects: `systemctl reload` upgrades. The process is told to start its own successor, systemd hears which process
/// goes on, and that one is watched as the first was. Settings that cannot be used change nothing.
#[test]
fn a_service_is_upgraded_by_a_signal_and_stays_watched() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.caller.terminate();
    let systemd = ServiceManager::new(&sandbox, "agent");
    let mut command = scene.caller.run_command();
    systemd.watch(&mut command, Duration::from_millis(400));
    let old = Process::spawn("agent-caller", command, &sandbox.logs());
    assert_eq!(systemd.hear_news(), "READY=1\n");
    let first = old.id();
    scene.caller.follow(old);
    let calls = scene.calls();

    scene.caller.configure("forwrad = []\n");
    scene.caller.process().signal(Signal::USR2);
    wait_alarm(&scene.caller, "take-over-failed", "ended: exit status: 1");
    assert!(systemd.hear_news().starts_with("RELOADING=1\n"));
    assert_eq!(systemd.hear_news(), "READY=1\n");
    some_more(&calls);

    scene.caller.configure("");
    scene.caller.process().signal(Signal::USR2);
    assert!(systemd.hear_news().starts_with("RELOADING=1\n"));
    let mut news = [systemd.hear_news(), systemd.hear_news()];
    news.sort();
    let main = news[0].strip_prefix("MAINPID=").unwrap_or_else(|| panic!("{news:?}"));
    let (second, rest) = main.split_once('\n').unwrap();
    assert_eq!((rest, news[1].as_str()), ("READY=1\nWATCHDOG=1\n", "READY=1\n"));
    assert_eq!(scene.caller.holder().map(|pid| pid.to_string()).as_deref(), Some(second));
    assert_ne!(second, first.to_string());
    assert!(scene.caller.process().wait().success());
    for _ in 0..4 {
        assert_eq!(systemd.hear(), "WATCHDOG=1\n");
    }
    some_more(&calls);
    assert_eq!(all_answered(&calls.stop()), ["near"]);
    let pid = rustix::process::Pid::from_raw(second.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(systemd.hear_news(), "STOPPING=1\n");
}

/// Where nobody runs, there is nobody to take over from.
#[test]
fn without_a_predecessor_it_starts_as_ever() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.caller.kill9();
    scene.caller.also_run_with(&["--take-over"]);
    scene.caller.start_ready();
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
}
