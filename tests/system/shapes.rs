//! The shapes of the console's and the agent's JSON, which scripts rely on: fields are added, never renamed and
//! never taken away. The files are in `tests/golden`; docs of the shapes are in the library's `shape`. Those of the lab
//! are compared in `lab_shapes`, those of several registry managers in `managers`.

use crate::follow::Stream;
use echelon_tests::http::Reply;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Follower, Manager, Sandbox, Shape, Stub, TYPE, shape, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// The shapes that were compared.
#[derive(Default)]
pub(crate) struct Compared(Mutex<BTreeSet<String>>);

impl Compared {
    /// Every part of the shape must be met in these.
    #[track_caller]
    pub(crate) fn all(&self, name: &str, values: &[Value]) {
        self.note(name);
        let shape = Shape::load(name);
        shape.check_all(values);
        shape.finish();
    }

    #[track_caller]
    pub(crate) fn one(&self, name: &str, value: Value) {
        self.all(name, &[value]);
    }

    /// A file was compared in another way.
    pub(crate) fn note(&self, name: &str) {
        self.0.lock().unwrap().insert(name.to_owned());
    }

    /// No file of those whose names this is true of may lie about that nothing is compared with.
    pub(crate) fn finish(self, is_mine: impl Fn(&str) -> bool) {
        let files = std::fs::read_dir(shape::directory()).unwrap();
        let files = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        let mine = files.filter(|name| is_mine(name));
        assert_eq!(mine.collect::<BTreeSet<_>>(), self.0.into_inner().unwrap());
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
    caller.also_run_with(&["--forward-http", &format!("{TYPE}={}:7400", caller.address())]);
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
        let token = manager.token(&format!("--host {} --allow-type audit --allow-type web", agent.name()));
        assert_eq!(agent.enroll(manager.listen(), &token, "").code, 0);
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
    let mut scene = scene(&sandbox);
    let (console, compared) = (scene.manager.console(), Compared::default());
    let mut watch = Follower::start(&console, "watch");

    routes(&scene, &compared);
    registry(&scene, &compared);
    edits(&scene, &compared);
    agents_api(&scene, &compared);
    direct(&scene, &compared);
    stream(&scene, &compared);

    scene_changes(&scene, &watch);
    // From nobody at first, and from `hub` back to `near`.
    let history = scene.caller.get(&format!("/v1/history/{TYPE}")).unwrap().json();
    compared.one("agent-history", history);
    compared.all("event", &watch.printed());
    assert_eq!(watch.interrupt(), Some(0));
    packages(&mut scene, &compared);
    exported(&compared);
    compared.finish(|name| ["lab-", "managers-", "lineages-"].iter().all(|of| !name.starts_with(of)));
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
    let out = scene.near.state().join("token");
    let token = console.object(&format!("token create --host kept --out {}", out.display()));
    compared.one("token-create-out", token);
    compared.one("man", console.object(&format!("man {}", scene.near.state().display())));
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
    let unsure = scene.near.state().join("unsure.toml");
    std::fs::write(&unsure, "framework = \"acme\"\n[[host]]\nname = \"h\"\npackages = [\"registry:1\"]\n")
        .unwrap();
    compared.one("edit-warned", console.object(&format!("apply {} --dry-run", unsure.display())));
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
    let near = scene.near.get(&format!("/v1/roles/{TYPE}")).unwrap().json();
    compared.all("agent-role", &[near, get("/v1/roles/audit")]);
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

/// The lines of the direct hand-over, with a descriptor and without one.
fn direct(scene: &Scene<'_>, compared: &Compared) {
    let mut socket = UnixStream::connect(scene.caller.api().with_file_name("direct.sock")).unwrap();
    socket.set_read_timeout(Some(echelon_tests::DEADLINE)).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut ask = |ty: &str| {
        socket.write_all(format!("{ty}\n").as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    };
    compared.one("direct", ask(TYPE));
    compared.all("direct-error", &["nothing", "NO TYPE"].map(ask));
}

/// What a stream of routes tells: what there is, and the end of a type.
fn stream(scene: &Scene<'_>, compared: &Compared) {
    let console = scene.manager.console();
    console.ok("package add caller soon --port 7003");
    wait_until("a route to what is soon gone", || scene.caller.get("/v1/routes/soon").unwrap().status != 404);
    let mut stream = Stream::open(&scene.caller.api(), "/v1/routes?stream&type=soon");
    let data = stream.event();
    compared.one("agent-event-route", json!({"event": stream.kind, "id": stream.id, "data": data}));
    console.ok("package remove caller soon --allow-shrink");
    loop {
        let data = stream.event();
        if stream.kind == "gone" {
            return compared.one("agent-event-gone", json!({"event": stream.kind, "data": data}));
        }
    }
}

/// What programs are told of their host's packages, while there is a registry manager and without one.
fn packages(scene: &mut Scene<'_>, compared: &Compared) {
    #[track_caller]
    fn body(reply: &Reply, status: u16) -> Value {
        assert_eq!(reply.status, status, "{reply:?}");
        reply.json()
    }
    let console = scene.manager.console();
    let put = |body: &str| scene.caller.put("web", body);
    let made = body(&put("{\"port\":7004}"), 201);
    let withdrawn = body(&scene.caller.delete("web"), 200);
    let alone = body(&scene.caller.put("nothing", "{}"), 403);
    compared.one("agent-error", alone);
    console.ok("package withdraw caller web --reason repair --allow-shrink");
    wait_until("word of the withdrawal", || scene.caller.package("web").json()["reason"] == "repair");
    let refused = put("{\"port\":7004}");
    let kept = body(&scene.caller.package("web"), 200);
    scene.manager.terminate();
    wait_until("the loss to be noticed", || scene.caller.route(TYPE)["source"] == "replica");
    let waiting = body(&scene.caller.delete("web"), 202);
    compared.one("agent-objection", body(&refused, 409));
    compared.all("agent-package", &[made, withdrawn, kept, waiting]);
    compared.one("agent-packages", body(&scene.caller.get("/v1/packages").unwrap(), 200));
}

/// A topology file in canonical order, word for word: `tests/golden/export.toml` as it comes back.
fn exported(compared: &Compared) {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let (file, wanted) = ("export.toml", "export.json");
    let path = |name: &str| shape::directory().join(name);
    manager.console().ok(&format!("apply {}", path(file).display()));
    let mut found = manager.console().object("export");
    // The registry's own host is at an address of this test's.
    found["host"].as_array_mut().unwrap().retain(|host| host["name"] != "hub");
    let wanted: Value = serde_json::from_slice(&std::fs::read(path(wanted)).unwrap()).unwrap();
    assert_eq!(found, wanted, "{found:#}");
    compared.note("export");
}
