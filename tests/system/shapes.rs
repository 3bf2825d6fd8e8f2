//! The shapes of the console's and the agent's JSON, which scripts rely on: fields are added, never renamed and
//! never taken away. The files are in `tests/golden`; docs of the shapes are in the library's `shape`.

use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Follower, Manager, Sandbox, Shape, Stub, TYPE, shape, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

/// The shapes that were compared.
#[derive(Default)]
struct Compared(Mutex<BTreeSet<String>>);

impl Compared {
    /// Every part of the shape must be met in these.
    #[track_caller]
    fn all(&self, name: &str, values: &[Value]) {
        self.0.lock().unwrap().insert(name.to_owned());
        let shape = Shape::load(name);
        shape.check_all(values);
        shape.finish();
    }

    #[track_caller]
    fn one(&self, name: &str, value: Value) {
        self.all(name, &[value]);
    }

    /// No file may lie about that nothing is compared with.
    fn finish(self) {
        let files = std::fs::read_dir(shape::directory()).unwrap();
        let files = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        assert_eq!(files.collect::<BTreeSet<_>>(), self.0.into_inner().unwrap());
    }
}

/// `near` serves `/x`, and is down; `hub` above serves in its place.
struct Scene<'a> {
    manager: Manager<'a>,
    caller: Agent<'a>,
    topology: std::path::PathBuf,
    near: Agent<'a>,
    _hub: Stub,
}

fn scene(sandbox: &Sandbox) -> Scene<'_> {
    let manager = Manager::running(sandbox);
    let hub = SocketAddr::new(manager.listen().ip(), PORT);
    let mut near = Agent::new(sandbox, "near");
    let mut caller = Agent::new(sandbox, "caller").forwarding(TYPE);
    let text = format!(
        "framework = \"acme\"\n[[policy]]\nwalk = \"subtree\"\nfailback_hold = \"1s\"\nfailback_jitter = \"0s\"\n\
         [[host]]\nname = \"hub\"\naddress = \"{}\"\npackages = [\"{TYPE}:{PORT}\"]\n\
         [[host]]\nname = \"near\"\ndomain = \"/x\"\naddress = \"{}\"\npackages = [\"{TYPE}:{PORT}\"]\n\
         [[host]]\nname = \"caller\"\ndomain = \"/x\"\npackages = [\"audit\"]\n\
         [[host]]\nname = \"spare\"\n",
        hub.ip(),
        near.address(),
    );
    let topology = sandbox.file("shapes.toml", text);
    manager.console().ok(&format!("apply {}", topology.display()));
    manager.console().ok("host drain spare --for 1h --reason repair");
    let hub = Stub::start("hub", hub);
    for agent in [&mut near, &mut caller] {
        agent.enroll_with(&manager);
        agent.start_ready();
    }
    caller.wait_served_by(TYPE, "hub");
    let told = || manager.console().objects("host list --not-home").len() == 1;
    wait_until("word of the failover", told);
    Scene { manager, caller, topology, near, _hub: hub }
}

#[test]
fn every_shape_is_as_its_file_says() {
    let sandbox = Sandbox::new();
    let scene = scene(&sandbox);
    let (console, compared) = (scene.manager.console(), Compared::default());
    let mut watch = Follower::start(&console, "watch");

    routes(&scene, &compared);
    registry(&scene, &compared);
    edits(&scene, &compared);
    agents_api(&scene, &compared);

    scene_changes(&scene, &watch);
    compared.all("event", &watch.printed());
    assert_eq!(watch.interrupt(), Some(0));
    compared.finish();
}

/// The route as JSON, word for word the contract of docs/routing.md.
fn routes(scene: &Scene<'_>, compared: &Compared) {
    let (console, file) = (scene.manager.console(), scene.topology.display());
    let one = console.object(&format!("route --host caller --type {TYPE}"));
    compared.all("route", &[one, console.objects(&format!("route --all --type {TYPE}")).remove(0)]);
    compared.all("route-of-file", &console.objects(&format!("route --all --type {TYPE} --file {file}")));
    compared.one("route-actual", console.object(&format!("route --host caller --type {TYPE} --actual")));
}

fn registry(scene: &Scene<'_>, compared: &Compared) {
    let (console, file) = (scene.manager.console(), scene.topology.display());
    compared.one("status", console.object("status"));
    compared.all("alarm", &console.objects("alarm list"));
    compared.all("host", &console.objects("host list"));
    compared.all("host-of-file", &console.objects(&format!("host list --file {file}")));
    compared.all("host-show", &["caller", "spare"].map(|name| console.object(&format!("host show {name}"))));
    compared.all("policy", &console.objects("policy list"));
    compared.all("package", &console.objects("package list"));
    let (domains, hosts): (Vec<_>, Vec<_>) =
        console.objects("tree").into_iter().partition(|entry| entry["kind"] == "domain");
    compared.all("tree-domain", &domains);
    compared.all("tree-host", &hosts);
    let token = console.object("token create --host new --allow-type audit");
    compared.one("token-create", token);
    let tokens = console.objects("token list");
    compared.all("token", &tokens.into_iter().filter(|t| t["host"] == "new").collect::<Vec<_>>());
}

fn edits(scene: &Scene<'_>, compared: &Compared) {
    let console = scene.manager.console();
    let lines = [
        "domain add /y".to_owned(),
        "domain rename /y z".to_owned(),
        "host add other --domain /z --dry-run".to_owned(),
        "domain remove /z".to_owned(),
        format!("apply {}", scene.topology.display()),
    ];
    let answers: Vec<_> = lines.iter().map(|line| console.object(line)).collect();
    compared.all("edit", &answers);
    compared.all("history", &console.objects("history"));
    let errors = ["host show nobody", "domain remove /nowhere", "route --host a", "host remove near"];
    let error = |line: &str| {
        let answer = console.run(&format!("{line} --output json"));
        assert_ne!(answer.code, 0, "{answer:?}");
        answer.error()
    };
    compared.all("error", &errors.map(error));
}

fn agents_api(scene: &Scene<'_>, compared: &Compared) {
    let get = |path: &str| scene.caller.get(path).unwrap().json();
    compared.one("agent-route", get(&format!("/v1/routes/{TYPE}")));
    scene.caller.call(TYPE).unwrap();
    compared.all("agent-status", &[get("/v1/status"), scene.near.get("/v1/status").unwrap().json()]);
    compared.one("agent-error", get("/v1/routes/nothing"));
}

/// Makes something of each kind happen.
fn scene_changes(scene: &Scene<'_>, watch: &Follower) {
    let console = scene.manager.console();
    console.ok("domain add /watched");
    let near = Stub::start("near", (scene.near.address(), PORT).into());
    watch.wait_for("an edit", |event| event["event"] == "edit");
    watch.wait_for("the end of an alarm", |event| event["event"] == "alarm-cleared");
    watch.wait_for("a host back at home", |event| event["event"] == "home");
    drop(near);
}
