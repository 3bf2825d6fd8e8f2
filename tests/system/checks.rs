//! Checks that demand an answer: what hangs or says that it is ill is left, wherever its callers are.

use echelon_tests::skip::{have, skipped};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Process, Sandbox, TYPE, Topology, wait_for};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// A server that answers each line a little later.
const SLOW_SERVER: &str = r#"
import socketserver, sys, time
class Slow(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        time.sleep(0.1)
        self.wfile.write(b"pong\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
host, port = sys.argv[1].rsplit(":", 1)
Server((host, int(port)), Slow).serve_forever()
"#;

/// For how long all cores are busy.
const BUSY: Duration = Duration::from_secs(4);

/// For how long a host is frozen, and how often: in half of these a check is under way.
const FROZEN: Duration = Duration::from_secs(1);
const FREEZES: usize = 4;

/// A server of gRPC's own library, which answers for one service. That one serves nothing while a file exists.
const GRPC_SERVER: &str = r#"
import os, sys, time
from concurrent import futures
import grpc
address, ill = sys.argv[1], sys.argv[2]
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"

class Health(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, request, context):
        if request != b"\x0a\x0cacme.Control":
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return NOT_SERVING if os.path.exists(ill) else SERVING

server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
server.add_generic_rpc_handlers((Health(),))
assert server.add_insecure_port(address)
server.start()
while True:
    time.sleep(60)
"#;

/// One domain with a manager (`near`, which has an agent) and a caller, and one manager (`hub`) above.
struct Scene<'a> {
    _registry: Manager<'a>,
    caller: Agent<'a>,
    near: Agent<'a>,
    /// Of the manager on `near`.
    process: Process,
}

impl<'a> Scene<'a> {
    /// With this check of `near` in the registry, these settings of its agent, and this program as its manager.
    fn set(
        sandbox: &'a Sandbox,
        check: &str,
        settings: &str,
        program: impl Fn(SocketAddr) -> Command,
    ) -> Self {
        Self::set_under("", sandbox, check, settings, program)
    }

    /// With these keys of the root's policy besides.
    fn set_under(
        policy: &str,
        sandbox: &'a Sandbox,
        check: &str,
        settings: &str,
        program: impl Fn(SocketAddr) -> Command,
    ) -> Self {
        let registry = Manager::running(sandbox);
        let (mut near, mut caller) =
            (Agent::new(sandbox, "near").with_settings(settings), Agent::new(sandbox, "caller"));
        let hub = sandbox.address();
        let topology = Topology::new()
            .policy(&format!("failback_hold = \"1s\"\nfailback_jitter = \"0s\"\n{policy}"))
            .manager("hub", "/", hub)
            .checked("near", "/x", near.address(), check)
            .host("caller", "/x", caller.address());
        registry.apply(&topology);
        let at = SocketAddr::new(near.address(), PORT);
        let process = Process::spawn("near-manager", program(at), &sandbox.logs());
        for agent in [&mut near, &mut caller] {
            agent.enroll_with(&registry);
            agent.start_ready();
        }
        let scene = Self { _registry: registry, caller, near, process };
        scene.wait_passing();
        scene
    }

    fn wait_passing(&self) {
        wait_for("the check to pass", || {
            let status = self.near.get("/v1/status").unwrap().json();
            (status["packages"][TYPE] == "passing").then_some(()).ok_or(status)
        });
        self.caller.wait_served_by(TYPE, "near");
    }

    /// Waits until the caller has left `near`, for this reason.
    fn wait_left(&self, why: &str) {
        self.caller.wait_served_by(TYPE, "hub");
        wait_for("the reason to be told", || {
            let route = self.caller.route(TYPE);
            let near = route["candidates"].as_array().unwrap().iter().find(|c| c["host"] == "near").unwrap();
            let told = near["state"] == "down" && near["reason"].as_str().unwrap().contains(why);
            told.then_some(()).ok_or_else(|| near.clone())
        });
    }
}

/// Keeps all cores busy as long as it is held, at the same priority as everybody.
fn burners(sandbox: &Sandbox) -> Vec<Process> {
    let cores = std::thread::available_parallelism().unwrap().get();
    let burner = |i: usize| {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        Process::spawn(&format!("burner{i}"), command, &sandbox.logs())
    };
    (0..2 * cores).map(burner).collect()
}

fn python(text: &str, arguments: &[&str]) -> Command {
    script("python3", text, arguments)
}

/// A program for this interpreter.
fn script(python: &str, text: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", text]).args(arguments);
    command
}

fn http_server(at: SocketAddr) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", &at.ip().to_string(), &at.port().to_string()]);
    command.current_dir("/proc/self/task");
    command
}

/// The kernel accepts connections for a process that hangs, so that a connect would pass for ever.
#[test]
fn a_manager_that_hangs_fails_its_http_check_and_is_left_until_it_answers_again() {
    if !have("a_manager_that_hangs_fails_its_http_check", "python3", &["-c", "import http.server"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox, "http = \"/\"", "", http_server);
    scene.process.signal(Signal::STOP);
    scene.wait_left("no answer within 500ms");
    scene.process.signal(Signal::CONT);
    scene.wait_passing();
}

#[test]
fn the_status_that_is_asked_for_passes() {
    if !have("the_status_that_is_asked_for_passes", "python3", &["-c", "import http.server"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox, "http = \"/none\", status = 404", "", http_server);
    scene.process.signal(Signal::STOP);
    scene.wait_left("no answer within 500ms");
}

/// Against a server of gRPC's own library.
#[test]
fn a_manager_that_says_it_does_not_serve_fails_its_grpc_check() {
    let name = "a_manager_that_says_it_does_not_serve_fails_its_grpc_check";
    // Debian's module belongs to Debian's interpreter, which may not be the first in PATH.
    let has_grpc = |python: &&str| {
        Command::new(python).args(["-c", "import grpc"]).output().is_ok_and(|run| run.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_grpc) else {
        return skipped(name, "no python3 here has the module grpc");
    };
    let sandbox = Sandbox::new();
    let ill = sandbox.path("ill");
    let server = |at: SocketAddr| script(python, GRPC_SERVER, &[&at.to_string(), &ill.to_string_lossy()]);
    let scene = Scene::set(&sandbox, "grpc = \"acme.Control\"", "", server);
    std::fs::write(&ill, "").unwrap();
    scene.wait_left("answered NOT_SERVING");
    std::fs::remove_file(&ill).unwrap();
    scene.wait_passing();
    scene.process.signal(Signal::STOP);
    scene.wait_left("no answer within 500ms");
    scene.process.signal(Signal::CONT);
    scene.wait_passing();
}

/// A command from the host's own settings goes before the registry's check, and its first line is the reason.
#[test]
fn a_command_of_the_host_decides_in_place_of_the_registrys_check() {
    if !have("a_command_of_the_host_decides", "python3", &["-c", "import http.server"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let ill = sandbox.path("ill");
    let script = sandbox.file(
        "check.sh",
        format!("test \"$ECHELON_CHECK_TYPE\" = {TYPE} || exit 9\ntest ! -e {} && exit\necho 'the disk is full'\nexit 1\n", ill.display()),
    );
    let settings =
        format!("[check.{TYPE}]\nexec = [\"/bin/sh\", \"{}\"]\ninterval = \"200ms\"\n", script.display());
    // The registry's own check could never pass.
    let scene = Scene::set(&sandbox, "http = \"/none\"", &settings, http_server);
    std::fs::write(&ill, "").unwrap();
    scene.wait_left("the disk is full");
    std::fs::remove_file(&ill).unwrap();
    scene.wait_passing();
}

/// Where no check of its host demands an answer, the users of a manager find out that it hangs: the policy `probe` has
/// them ask the one in use, too. A machine that is busy is no reason to leave anybody.
#[test]
fn users_find_out_that_the_manager_in_use_hangs_and_nobody_is_left_because_of_a_busy_machine() {
    if !have("users_find_out_that_the_manager_in_use_hangs", "python3", &["-c", "import http.server"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let policy = "probe = { http = \"/\" }";
    let mut scene = Scene::set_under(policy, &sandbox, "http = \"/\"", "", http_server);
    let before = (moves(&scene.caller), failures(&mut scene.near));
    let busy = burners(&sandbox);
    sleep(BUSY);
    drop(busy);
    assert_eq!((moves(&scene.caller), failures(&mut scene.near)), before, "moves and failed checks");

    // Nobody is left who would tell the caller.
    scene.near.terminate();
    scene.process.signal(Signal::STOP);
    scene.wait_left("probe failed: no answer within 500ms");
    scene.process.signal(Signal::CONT);
    scene.caller.wait_served_by(TYPE, "near");
}

/// When a whole host was frozen, as a virtual machine is that moves, its agent comes to before its manager does. That
/// it got no answer meanwhile proves nothing, and a single miss would be enough here.
#[test]
fn time_in_which_an_agent_did_not_run_is_no_miss_of_the_manager_that_it_checks() {
    if !have("time_in_which_an_agent_did_not_run_is_no_miss", "python3", &["-c", "import socketserver"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let check =
        "send = \"ping\\n\", expect = \"pong\", interval = \"100ms\", timeout = \"500ms\", misses = 1";
    let server = |at: SocketAddr| python(SLOW_SERVER, &[&at.to_string()]);
    let mut scene = Scene::set(&sandbox, check, "", server);
    // The first may have been made before the server was there.
    let failed = failures(&mut scene.near);
    for _ in 0..FREEZES {
        scene.near.process().signal(Signal::STOP);
        scene.process.signal(Signal::STOP);
        sleep(FROZEN);
        scene.near.process().signal(Signal::CONT);
        sleep(FROZEN / 20);
        scene.process.signal(Signal::CONT);
        // Until it has made another check.
        let made = |scene: &Scene<'_>| passed(&scene.near);
        let before = made(&scene);
        wait_for("another check", || (made(&scene) > before).then_some(()).ok_or(before));
    }
    assert_eq!(failures(&mut scene.near), failed, "the check failed");
    scene.process.signal(Signal::STOP);
    scene.wait_left("no answer within 500ms");
}

/// How often its checks have come to a failure.
fn failures(agent: &mut Agent<'_>) -> usize {
    agent.process().log().matches("failed its check").count()
}

/// How often its route has led elsewhere.
fn moves(agent: &Agent<'_>) -> usize {
    let history = agent.get(&format!("/v1/history/{TYPE}")).unwrap().json();
    history["history"].as_array().unwrap().len()
}

/// How many checks of its packages have passed.
fn passed(agent: &Agent<'_>) -> u64 {
    let metrics = agent.get("/metrics").unwrap().body;
    let passed = |line: &&str| line.starts_with("echelon_agent_checks_total") && line.contains("passed");
    let line = metrics.lines().find(passed).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
