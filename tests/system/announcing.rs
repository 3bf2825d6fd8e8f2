//! Hosts that announce their own packages, from a program's request to the routes of other hosts.

use echelon_client::new_request_id;
use echelon_core::announce::{AnnouncedSpec, Announcement, HostWord};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::HostId;
use echelon_core::message::{Failure, FailureClass, Request, Response};
use echelon_identity::IdentityDirectory;
use echelon_tests::http::{Reply, ask_tcp};
use echelon_tests::skip::{have, skipped};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, Stub, TYPE, Topology, wait_for, wait_until};
use echelon_transport::{Connection, Endpoint, Settings, Target};
use echelon_wire::{MAX_AGENT_FRAME, MAX_SESSION_FRAME, Wire};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A registry; a host `svc` that may announce, a host `caller` beside it, and a manager above both, on `hub`.
struct Scene<'a> {
    registry: Manager<'a>,
    svc: Agent<'a>,
    caller: Agent<'a>,
    stubs: [Stub; 2],
}

impl<'a> Scene<'a> {
    fn set(sandbox: &'a Sandbox) -> Self {
        let registry = Manager::running(sandbox);
        let hub = SocketAddr::new(registry.listen().ip(), PORT);
        let (mut svc, mut caller) = (Agent::new(sandbox, "svc"), Agent::new(sandbox, "caller"));
        let own = SocketAddr::new(svc.address(), PORT);
        let topology = Topology::new()
            .policy("failback_hold = \"0s\"\nfailback_jitter = \"0s\"")
            .manager("hub", "/", hub.ip())
            .host("svc", "/x/y", svc.address())
            .host("caller", "/x/y", caller.address());
        registry.apply(&topology);
        let stubs = [Stub::start("hub", hub), Stub::start("svc", own)];
        let token = registry.token(&format!("--host svc --allow-type {TYPE} --allow-type audit"));
        assert_eq!(svc.enroll(registry.listen(), &token, "").code, 0);
        caller.enroll_with(&registry);
        svc.start_ready();
        caller.start_ready();
        caller.wait_served_by(TYPE, "hub");
        registry.wait_in_sync(2);
        Self { registry, svc, caller, stubs }
    }

    fn recorded(&self) -> Vec<Value> {
        let all = self.registry.console().objects(&format!("package list --type {TYPE}"));
        all.into_iter().filter(|package| package["host"] == "svc").collect()
    }

    fn revision(&self) -> Value {
        self.registry.status()["revision"].clone()
    }

    /// Waits until the registry manager sees the agent of `svc` as level, and it has nothing left to tell.
    fn settle(&self) {
        self.registry.wait_in_sync(2);
        wait_for("nothing pending", || {
            let packages = self.svc.get("/v1/packages").unwrap().json();
            let pending = packages["packages"].as_array().unwrap().iter().any(|p| !p["pending"].is_null());
            if pending { Err(packages) } else { Ok(()) }
        });
    }
}

#[track_caller]
fn assert_status(reply: &Reply, status: u16) -> Value {
    assert_eq!(reply.status, status, "{reply:?}");
    reply.json()
}

#[track_caller]
fn assert_error(reply: &Reply, status: u16, error: &str) {
    let body = assert_status(reply, status);
    assert_eq!(body["error"], error, "{body}");
    assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
}

/// What a program announces is what other hosts route to, and what it withdraws they leave at once; the same said
/// again is no second edit.
#[test]
fn a_put_becomes_a_route_on_another_host_and_a_delete_takes_it_away() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let body =
        format!("{{\"port\":{PORT},\"version\":\"1.2\",\"check\":{{\"tcp\":true,\"interval\":\"1s\"}}}}");
    let package = assert_status(&scene.svc.put(TYPE, &body), 201);
    assert_eq!((&package["role"], &package["state"]), (&json!("backup"), &json!("active")), "{package}");
    assert!(package["announced"] == true && package["pending"].is_null(), "{package}");
    scene.caller.wait_served_by(TYPE, "svc");
    let recorded = scene.recorded();
    assert_eq!(
        (&recorded[0]["announced"], &recorded[0]["version"]),
        (&json!(true), &json!("1.2")),
        "{recorded:?}"
    );

    let revision = scene.revision();
    assert_status(&scene.svc.put(TYPE, &body), 200);
    assert_eq!(scene.revision(), revision, "the same announcement");

    let package = assert_status(&scene.svc.delete(TYPE), 200);
    assert_eq!(package["withdrawn_by"], json!(["host"]), "{package}");
    scene.caller.wait_served_by(TYPE, "hub");
    scene.svc.wait_served_by(TYPE, "hub");
    let route = scene.registry.console().object(&format!("route --host caller --type {TYPE}"));
    let own = &route["candidates"][0];
    assert!(own["host"] == "svc" && own["state"] == "withdrawn", "{route}");
    assert!(own["reason"].as_str().unwrap().contains("withdrawn by its host"), "{route}");
    assert_eq!((&route["outcome"], &route["home"]), (&json!("home"), &json!("hub")), "{route}");
    assert_status(&scene.svc.delete(TYPE), 200);
    let revision = scene.revision();
    scene.registry.console().ok(&format!("package restore svc {TYPE}"));
    assert_eq!(scene.recorded()[0]["state"], "withdrawn", "the operator does not lift what the host wants");
    assert_eq!(scene.revision(), revision.as_u64().unwrap() + 1);

    assert_status(&scene.svc.put(TYPE, "{}"), 200);
    scene.caller.wait_served_by(TYPE, "svc");
    assert_eq!(scene.stubs.len(), 2);
}

/// With every registry manager dead, an announcement is kept, its own host goes by it, the agent's death loses
/// nothing of it; once there is a manager again it is told, without anybody asking.
#[test]
fn an_announcement_waits_for_a_manager_and_survives_the_agents_death() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.registry.kill9();
    wait_until("the loss to be noticed", || scene.svc.route(TYPE)["source"] == "replica");
    let body = format!("{{\"port\":{PORT}}}");
    let package = assert_status(&scene.svc.put(TYPE, &body), 202);
    let pending = &package["pending"];
    assert!(pending["since_ms"].is_u64() && pending["says"] == "runs", "{package}");
    assert!(pending["reason"].as_str().unwrap().contains("no registry manager"), "{package}");
    let number = pending["number"].clone();
    scene.svc.wait_served_by(TYPE, "svc");
    assert_eq!(scene.svc.route(TYPE)["candidates"][0]["same_host"], true);
    assert_eq!(scene.caller.served_by(TYPE).as_deref(), Some("hub"), "nobody else goes by it");
    assert_status(&scene.svc.put(TYPE, &body), 202);

    scene.svc.kill9();
    scene.svc.start_ready();
    let package = assert_status(&scene.svc.package(TYPE), 200);
    assert_eq!(package["pending"]["number"], number, "the same announcement: {package}");
    scene.svc.wait_served_by(TYPE, "svc");

    scene.registry.start();
    scene.caller.wait_served_by(TYPE, "svc");
    scene.settle();
    assert_eq!(scene.recorded()[0]["announced"], true);
    assert_status(&scene.svc.put(TYPE, &body), 200);
}

/// What a host withdrew is recorded: it stays withdrawn whatever becomes of the agent and of the manager's memory.
#[test]
fn a_withdrawal_outlives_the_agent_that_made_it() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    assert_status(&scene.svc.put(TYPE, &format!("{{\"port\":{PORT}}}")), 201);
    scene.caller.wait_served_by(TYPE, "svc");
    assert_status(&scene.svc.delete(TYPE), 200);
    scene.svc.kill9();
    scene.registry.kill9();
    scene.caller.kill9();
    scene.registry.start();
    scene.caller.start_ready();
    scene.registry.wait_in_sync(1);
    let route = scene.caller.route(TYPE);
    assert_eq!((&route["home"], &route["outcome"]), (&json!("hub"), &json!("home")), "{route}");
    let own = &route["candidates"][0];
    assert!(own["reason"].as_str().unwrap().contains("withdrawn by its host"), "{route}");
}

/// What the operator withdraws stays withdrawn: the announcement is kept and told so.
#[test]
fn an_announcement_never_lifts_an_operators_withdrawal() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let console = scene.registry.console();
    assert_status(&scene.svc.put(TYPE, &format!("{{\"port\":{PORT}}}")), 201);
    scene.caller.wait_served_by(TYPE, "svc");
    console.ok(&format!("package withdraw svc {TYPE} --reason maintenance"));
    scene.caller.wait_served_by(TYPE, "hub");
    scene.settle();
    let reply = scene.svc.put(TYPE, &format!("{{\"port\":{PORT},\"version\":\"2\"}}"));
    assert_error(&reply, 409, "withdrawn-by-operator");
    let body = reply.json();
    assert!(body["message"].as_str().unwrap().contains("maintenance"), "{body}");
    assert_eq!(body["package"]["withdrawn_by"], json!(["operator"]), "{body}");
    let recorded = scene.recorded();
    assert_eq!((&recorded[0]["state"], &recorded[0]["version"]), (&json!("withdrawn"), &json!("2")));
    assert_eq!(scene.caller.served_by(TYPE).as_deref(), Some("hub"));
    console.ok(&format!("package restore svc {TYPE}"));
    scene.caller.wait_served_by(TYPE, "svc");
    console.ok("host drain svc --reason kernel");
    scene.caller.wait_served_by(TYPE, "hub");
    scene.settle();
    let reply = scene.svc.put(TYPE, &format!("{{\"port\":{PORT},\"version\":\"3\"}}"));
    assert_error(&reply, 409, "withdrawn-by-operator");
    let message = reply.json()["message"].to_string();
    assert!(message.contains("kernel") && message.contains("host resume svc"), "{message}");
}

/// Bodies and types that are not taken, each with its own answer; none of them leaves a trace.
#[test]
fn what_may_not_be_announced_is_refused_and_leaves_no_trace() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let tcp = SocketAddr::new(scene.svc.address(), 29122);
    let unix = format!("unix:{}", scene.svc.api().display());
    scene.svc.terminate();
    scene.svc.also_run_with(&["--api", &unix, "--api", &tcp.to_string()]);
    scene.svc.start_ready();
    scene.settle();
    let revision = scene.revision();
    let put = |ty: &str, body: &str| scene.svc.put(ty, body);
    assert_error(&put("web", "{\"port\":1}"), 403, "type-not-allowed");
    assert_error(&put("registry", "{\"port\":1}"), 403, "type-not-allowed");
    assert_error(&put("NO", "{}"), 400, "bad-type");
    for key in ["priority", "weight", "role", "state", "endpoint"] {
        assert_error(&put(TYPE, &format!("{{\"{key}\":1}}")), 409, "owned-by-operator");
    }
    let long = format!("{{\"version\":\"{}\"}}", "x".repeat(20_000));
    let bodies = ["{\"prot\":1}", "{\"port\":0}", "{", "[]", "{\"check\":{\"exec\":[\"true\"]}}", &long];
    for body in bodies {
        assert_error(&put(TYPE, body), 400, "bad-announcement");
    }
    assert_error(&scene.svc.delete(TYPE), 404, "unknown-package");
    assert_error(&scene.svc.package(TYPE), 404, "unknown-package");
    for method in ["PUT", "DELETE"] {
        let reply = ask_tcp(tcp, method, &format!("/v1/packages/{TYPE}"), "{}").unwrap();
        assert_error(&reply, 403, "not-a-writer");
    }
    let list = ask_tcp(tcp, "GET", "/v1/packages", "").unwrap();
    assert_eq!(assert_status(&list, 200), json!({"packages": []}), "reading is for everybody");
    assert_eq!(scene.revision(), revision);
    assert!(!scene.svc.state().join("announced.json").exists());
}

/// A user that nobody has listed for a type may not announce it, one that is listed may: the kernel says who it is.
#[test]
fn only_listed_users_announce() {
    const NAME: &str = "announcing::only_listed_users_announce";
    if !rustix::process::geteuid().is_root() {
        return skipped(NAME, "only root can run programs as other users");
    }
    if !have(NAME, "curl", &["--version"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = directory.path().join("agent.sock");
    scene.svc.terminate();
    let api = format!("unix:{}", socket.display());
    scene.svc.also_run_with(&["--api", &format!("unix:{}", scene.svc.api().display()), "--api", &api]);
    scene.svc.set_settings(&format!("[api_writers]\n{TYPE} = [\"54321\"]\n"));
    scene.svc.start_ready();
    // The socket's mode keeps other users out on its own; here they are let in.
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let put_as = |user: u32, ty: &str| {
        let mut curl = Command::new("curl");
        curl.uid(user).gid(user).args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT"]);
        curl.args(["-d", &format!("{{\"port\":{PORT}}}"), "--unix-socket"]).arg(&socket);
        let output = curl.arg(format!("http://agent/v1/packages/{ty}")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(put_as(12345, TYPE), "403");
    assert_eq!(put_as(54321, "audit"), "403");
    assert_eq!(put_as(54321, TYPE), "201");
    scene.caller.wait_served_by(TYPE, "svc");
}

/// What an operator removes is announced no more, not even by an agent that was away meanwhile; a new request brings
/// it back.
#[test]
fn what_an_operator_removes_stays_removed_until_it_is_announced_anew() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let body = format!("{{\"port\":{PORT}}}");
    for away in [false, true] {
        assert_status(&scene.svc.put(TYPE, &body), 201);
        scene.caller.wait_served_by(TYPE, "svc");
        if away {
            scene.svc.kill9();
        }
        scene.registry.console().ok(&format!("package remove svc {TYPE}"));
        let revision = scene.revision();
        scene.caller.wait_served_by(TYPE, "hub");
        if away {
            scene.svc.start_ready();
        }
        wait_until("the removal to be noticed", || {
            let kept = std::fs::read_to_string(scene.svc.state().join("announced.json")).unwrap();
            scene.svc.package(TYPE).status == 404 && !kept.contains(TYPE)
        });
        scene.registry.kill9();
        scene.svc.kill9();
        scene.registry.start();
        scene.svc.start_ready();
        scene.settle();
        assert_eq!((scene.recorded(), scene.revision()), (vec![], revision), "nothing brings it back");
    }
    assert_status(&scene.svc.put(TYPE, &body), 201);
    scene.caller.wait_served_by(TYPE, "svc");
}

/// Operator and host have one package together: each changes what is its own, and neither undoes the other.
#[test]
fn two_owners_share_a_package() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let console = scene.registry.console();
    console.ok(&format!("package add svc {TYPE} --port 1 --priority 7 --weight 3 --version 1"));
    scene.settle();
    assert_status(&scene.svc.put(TYPE, &format!("{{\"port\":{PORT}}}")), 200);
    scene.caller.wait_served_by(TYPE, "svc");
    let package = &scene.recorded()[0];
    let (port, priority) = (format!("{}:{PORT}", scene.svc.address()), &package["priority"]);
    assert_eq!((&package["endpoint"], priority, &package["weight"]), (&json!(port), &json!(7), &json!(3)));
    assert_eq!(package["version"], "1", "what the host leaves out stays");
    let answer = console.fails(3, &format!("package add svc {TYPE} --port 1"));
    assert!(answer.err.contains("already"), "{answer:?}");

    let apply = |text: &str, arguments: &str| {
        let file = sandbox.file("again.toml", format!("framework = \"acme\"\n{text}"));
        console.ok(&format!("apply {} {arguments}", file.display()))
    };
    let svc = "[[host]]\nname = \"svc\"\n[[host.package]]\n";
    apply(&format!("{svc}type = \"{TYPE}\"\npriority = 9\n"), "");
    let package = &scene.recorded()[0];
    assert_eq!((&package["endpoint"], &package["priority"]), (&json!(port), &json!(9)), "{package}");
    let exported = sandbox.file("export.toml", console.ok("export"));
    let revision = scene.revision();
    console.ok(&format!("apply {} --prune", exported.display()));
    assert_eq!(scene.revision(), revision, "its own export changes nothing");

    let hub = scene.registry.listen().ip();
    let others = format!(
        "[[host]]\nname = \"hub\"\naddress = \"{hub}\"\npackages = [\"{TYPE}:{PORT}\"]\n[[host]]\nname = \"svc\"\n\
         domain = \"/x/y\"\n[[host]]\nname = \"caller\"\ndomain = \"/x/y\"\n"
    );
    apply(&others, "--prune");
    assert_eq!(scene.recorded().len(), 1, "what a host announced is not pruned");
    scene.caller.wait_served_by(TYPE, "svc");
}

/// Requests over the agents' protocol with one identity.
struct Peer(Connection);

impl Peer {
    async fn of(manager: &Manager<'_>, directory: &std::path::Path) -> Self {
        let identity = IdentityDirectory::open(directory).unwrap();
        let (credentials, trust) = (identity.load_credentials().unwrap(), identity.load_trust().unwrap());
        let endpoint = Endpoint::bind_client(Some(&credentials), Some(&trust), Settings::client()).unwrap();
        Self(endpoint.connect(manager.listen(), &Target::AnyManager).await.unwrap())
    }

    async fn ask(&self, request: &Request) -> Response {
        let mut channel = self.0.open().await.unwrap();
        channel.send(&request.encode()).await.unwrap();
        let answer = channel.recv(MAX_SESSION_FRAME).await.unwrap().unwrap();
        Response::decode(&answer).unwrap()
    }

    async fn refused(&self, request: &Request) -> Failure {
        match self.ask(request).await {
            Response::Failed(failure) => failure,
            other => panic!("{request:?}: {other:?}"),
        }
    }
}

fn says(ty: &str, word: HostWord) -> Request {
    Request::Announce(Announcement { number: new_request_id(), ty: ty.parse().unwrap(), word })
}

fn runs() -> HostWord {
    HostWord::Runs(AnnouncedSpec { port: Some(PORT.try_into().unwrap()), ..AnnouncedSpec::default() })
}

/// An agent that breaks the rules gets nowhere: the manager goes by the identity it gave out, whatever the agent
/// says. Nobody else announces at all.
#[test]
fn a_manager_takes_from_an_agent_only_what_its_identity_allows() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let revision = scene.revision();
    runtime.block_on(async {
        let svc = Peer::of(&scene.registry, &scene.svc.identity()).await;
        for ty in ["web", "registry"] {
            for word in [runs(), HostWord::Withdraws] {
                let failure = svc.refused(&says(ty, word)).await;
                assert_eq!(
                    (failure.error.as_str(), failure.class),
                    ("type-not-allowed", FailureClass::NotAllowed)
                );
            }
        }
        let caller = Peer::of(&scene.registry, &scene.caller.identity()).await;
        assert_eq!(caller.refused(&says(TYPE, runs())).await.error, "type-not-allowed");
        let console = Peer::of(&scene.registry, &scene.registry.console_identity()).await;
        assert_eq!(console.refused(&says(TYPE, runs())).await.class, FailureClass::NotAllowed);
        // The change itself, for another host: neither an agent nor an admin's console may make it.
        let changes = vec![Change::Announce {
            host: HostId(new_request_id().0),
            ty: TYPE.parse().unwrap(),
            word: runs(),
        }];
        let set = ChangeSet { allow_shrink: false, request: new_request_id(), if_revision: None, changes };
        let edit = Request::Edit { set, dry_run: false };
        for peer in [&svc, &console] {
            assert_eq!(peer.refused(&edit).await.class, FailureClass::NotAllowed);
        }
        let mut channel = svc.0.open().await.unwrap();
        let huge = vec![0; MAX_AGENT_FRAME + 1];
        let sent = channel.send(&huge.into()).await;
        let answer = channel.recv(MAX_SESSION_FRAME).await;
        assert!(sent.is_err() || !matches!(answer, Ok(Some(_))), "{answer:?}");
    });
    assert_eq!(scene.revision(), revision);
    assert_eq!(scene.caller.served_by(TYPE).as_deref(), Some("hub"));
}

/// A host whose package comes and goes without end keeps the registry busy only so much.
#[test]
fn a_host_that_announces_without_end_is_slowed_down_and_no_other_is() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let svc = Peer::of(&scene.registry, &scene.svc.identity()).await;
        let mut taken = 0;
        let failure = loop {
            assert!(taken < 2000, "nothing slows it down");
            match svc.ask(&says("audit", runs())).await {
                Response::Edited(_) => taken += 1,
                Response::Failed(failure) => break failure,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failure.error, "too-often", "{failure:?}");
        let caller = Peer::of(&scene.registry, &scene.caller.identity()).await;
        assert_eq!(
            caller.refused(&says(TYPE, runs())).await.error,
            "type-not-allowed",
            "another host is heard"
        );
    });
    scene.registry.console().ok("domain add /others-edit-on");
}
