//! Who is primary of a type: how a promotion reaches the managers themselves, and what the number is that they show.

use echelon_client::{AgentError, LocalAgent};
use echelon_core::report::RoleReport;
use echelon_tests::binaries::workspace;
use echelon_tests::skip::have;
use echelon_tests::{Agent, DEADLINE, Manager, Process, Sandbox, TYPE, Topology, wait_for, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

/// A registry; two hosts with a manager each, `one` being primary; a host `plain` without packages.
struct Scene<'a> {
    registry: Manager<'a>,
    one: Agent<'a>,
    two: Agent<'a>,
}

impl<'a> Scene<'a> {
    fn set(sandbox: &'a Sandbox) -> Self {
        let registry = Manager::running(sandbox);
        let [mut one, mut two] = ["one", "two"].map(|name| Agent::new(sandbox, name));
        let topology = Topology::new()
            .manager("one", "/x", one.address())
            .manager("two", "/y", two.address())
            .host("plain", "/", sandbox.address());
        registry.apply(&topology);
        for agent in [&mut one, &mut two] {
            let token = registry.token(&format!("--host {} --allow-type audit", agent.name()));
            assert_eq!(agent.enroll(registry.listen(), &token, "").code, 0);
            agent.start_ready();
        }
        registry.wait_in_sync(2);
        Self { registry, one, two }
    }

    /// The number of the manager on this host, as operators see it.
    fn listed(&self, host: &str) -> Option<u64> {
        let packages = self.registry.console().objects(&format!("package list --type {TYPE}"));
        packages.iter().find(|package| package["host"] == host).unwrap()["fencing"].as_u64()
    }
}

fn role(agent: &Agent<'_>, of: &str) -> Value {
    agent.get(&format!("/v1/roles/{of}")).unwrap().json()
}

/// What a manager beside this agent is told of its role, as it is told. It gives up at the first error.
struct Told(mpsc::Receiver<Result<RoleReport, AgentError>>);

impl Told {
    fn by(agent: &Agent<'_>) -> Self {
        let (tell, told) = mpsc::channel();
        let local = LocalAgent::at(agent.api());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut watch = local.watch_role(TYPE.parse().unwrap());
            loop {
                let next = runtime.block_on(watch.next());
                let over = next.is_err();
                if tell.send(next).is_err() || over {
                    return;
                }
            }
        });
        Self(told)
    }

    fn next(&self) -> Result<RoleReport, AgentError> {
        self.0.recv_timeout(DEADLINE).expect("word of a role")
    }

    /// The number under which it is primary now; none of a backup.
    fn number(&self) -> Option<u64> {
        let report = self.next().unwrap();
        let role = report.role.map(|role| role.to_string());
        assert_eq!(role.as_deref(), Some(if report.fencing.is_some() { "primary" } else { "backup" }));
        report.fencing.map(u64::from)
    }

    fn says_nothing_more(&self) {
        assert!(self.0.try_recv().is_err());
    }
}

/// Both managers learn of a promotion without asking again; the number rises with each. Without a registry manager both
/// still read what they are, and so does an agent that starts anew.
#[test]
fn a_promotion_reaches_both_managers_and_raises_the_number() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let (one, two) = (Told::by(&scene.one), Told::by(&scene.two));
    let first = one.number().expect("the first of its type is primary");
    assert_eq!(two.number(), None);
    assert_eq!((scene.listed("one"), scene.listed("two")), (Some(first), None));

    let console = scene.registry.console();
    let dry = console.object(&format!("promote two --type {TYPE} --dry-run"));
    assert_eq!((dry["changed"].as_array().unwrap().len(), &dry["dry_run"]), (2, &json!(true)), "{dry}");
    let edit = console.object(&format!("promote two --type {TYPE}"));
    assert_eq!(
        edit["revision"].as_u64(),
        Some(dry["revision"].as_u64().unwrap() + 1),
        "the dry run did nothing"
    );
    let second = two.number().expect("it is promoted");
    assert!(second > first && one.number().is_none());
    assert_eq!(second, (edit["epoch"].as_u64().unwrap() << 32) + edit["revision"].as_u64().unwrap());
    assert_eq!(scene.listed("two"), Some(second));

    console.ok("promote one --from two");
    let third = one.number().expect("it is promoted");
    assert!(third > second && two.number().is_none());

    scene.registry.kill9();
    scene.two.kill9();
    scene.two.start_ready();
    wait_for("word that nobody is connected", || {
        let role = role(&scene.one, TYPE);
        (role["source"] == "replica").then_some(()).ok_or(role)
    });
    let here = role(&scene.one, TYPE);
    assert_eq!((&here["role"], here["fencing"].as_u64()), (&json!("primary"), Some(third)), "{here}");
    assert!(here["age_ms"].is_u64() && here["revision"].is_u64(), "{here}");
    assert_eq!(
        (&role(&scene.two, TYPE)["role"], &role(&scene.two, TYPE)["fencing"]),
        (&json!("backup"), &Value::Null)
    );
    one.says_nothing_more();
    two.says_nothing_more();

    scene.registry.start();
    let console = scene.registry.console();
    console.ok(&format!("package withdraw one {TYPE}"));
    assert_eq!(scene.listed("one"), Some(third), "withdrawing leaves the role where it is");
    let refused = console.fails(3, &format!("package remove one {TYPE} --allow-shrink"));
    assert!(refused.err.contains("--successor two"), "{refused:?}");
    console.ok(&format!("package remove one {TYPE} --successor two"));
    assert!(two.number().is_some_and(|number| number > third));
    let gone = loop {
        match one.next() {
            Ok(report) => assert_eq!(report.fencing, None, "it is primary no more"),
            Err(gone) => break gone,
        }
    };
    assert!(matches!(gone, AgentError::NoPackage { .. }), "{gone}");
}

/// What cannot be promoted is refused with what would help; nothing is changed.
#[test]
fn what_cannot_be_promoted_is_refused_with_what_would_help() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let console = scene.registry.console();
    let revision = || scene.registry.status()["revision"].clone();
    let before = revision();
    for (code, line, words) in [
        (1, format!("promote plain --type {TYPE}"), "echelon host show plain"),
        (1, format!("promote nobody --type {TYPE}"), "there is no host nobody"),
        (3, "promote two --type registry".into(), "echelon promote two"),
        (3, "promote two --from plain".into(), "echelon host show plain; echelon host show two"),
        (1, "promote two".into(), "name it: --type TYPE"),
        (3, format!("promote two --type {TYPE} --if-revision 1"), "--if-revision"),
    ] {
        let answer = console.fails(code, &line);
        assert!(answer.err.contains(words), "{line}: {answer:?}");
    }
    assert_eq!(revision(), before);
    let listed = console.ok(&format!("package list --type {TYPE}"));
    assert!(
        listed.contains("FENCING") && listed.contains(&scene.listed("one").unwrap().to_string()),
        "{listed}"
    );
    assert_eq!(console.object("host show one")["packages"][0]["fencing"].as_u64(), scene.listed("one"));
    for (path, status, error) in [
        (format!("/v1/roles/{TYPE}?after=x&wait=6m"), 400, "bad-query"),
        ("/v1/roles/audit".into(), 404, "unknown-package"),
        ("/v1/roles/audit?after=x&wait=5m".into(), 404, "unknown-package"),
        ("/v1/roles/No!".into(), 404, "unknown-package"),
    ] {
        let reply = scene.one.get(&path).unwrap();
        assert_eq!((reply.status, &reply.json()["error"]), (status, &json!(error)), "{path}");
    }
    let tag = role(&scene.one, TYPE)["tag"].as_str().unwrap().to_owned();
    let same = scene.one.get(&format!("/v1/roles/{TYPE}?after={tag}&wait=50ms")).unwrap();
    assert_eq!((same.status, same.json()["tag"].as_str()), (200, Some(tag.as_str())), "the end of the wait");
}

/// A manager that announces itself is primary once that is committed, and not before.
#[test]
fn who_announces_itself_is_primary_once_that_is_committed() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.registry.kill9();
    let said = scene.one.put("audit", "{\"port\":7001}");
    assert_eq!(said.status, 202, "{said:?}");
    let before = role(&scene.one, "audit");
    assert_eq!((&before["role"], &before["fencing"]), (&Value::Null, &Value::Null), "{before}");
    scene.registry.start();
    let path = format!("/v1/roles/audit?after={}&wait=60s", before["tag"].as_str().unwrap());
    let after = echelon_tests::http::get_unix_within(&scene.one.api(), &path, DEADLINE).unwrap().json();
    assert_eq!((&after["role"], after["fencing"].is_u64()), (&json!("primary"), true), "{after}");
}

const IN_PYTHON: &str = r#"
import sys
from echelon_agent import Agent, AgentError

agent = Agent()
print("now", agent.role(sys.argv[1])["role"], flush=True)
try:
    for role in agent.watch_role(sys.argv[1]):
        print("told", role["role"], role["fencing"], flush=True)
except AgentError as error:
    print("gone", error.error, error.retriable, flush=True)
"#;

/// A program in a language without a client of ours learns it as well.
#[test]
fn a_python_manager_follows_its_role() {
    if !have("the Python client", "python3", &["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let mut python = Command::new("python3");
    python
        .arg("-B")
        .env("PYTHONPATH", workspace().join("examples/python"))
        .arg("-c")
        .arg(IN_PYTHON)
        .arg(TYPE);
    python.env("ECHELON_AGENT_SOCKET", scene.two.api());
    let mut program = Process::spawn("manager-in-python", python, &sandbox.logs());
    let said = |line: &str| {
        wait_for(line, || {
            let out = fs::read_to_string(sandbox.logs().join("manager-in-python.out")).unwrap();
            if out.lines().any(|l| l == line) { Ok(()) } else { Err(out) }
        });
    };
    said("now backup");
    said("told backup None");
    let console = scene.registry.console();
    console.ok(&format!("promote two --type {TYPE}"));
    said(&format!("told primary {}", scene.listed("two").unwrap()));
    console.ok(&format!("package remove two {TYPE} --successor one"));
    said("gone unknown-package False");
    wait_until("its end", || !program.is_running());
}
