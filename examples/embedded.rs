//! An agent framework in Rust, with the registry agent inside its own process.
//!
//! ```console
//! $ cargo run --example embedded
//! ```
//!
//! Around it runs what a network would have: a real registry manager, and two hosts with managers of type
//! `command-control` (the lab gives them). This program is a third host. It enrols, runs the agent, and from
//! then on knows without asking anybody which manager is nearest; it is told of every change, and gets
//! connections that pass over managers that are dead.

use anyhow::{Context, Result, ensure};
use echelon_client::{ManagerClient, new_request_id};
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::DomainId;
use echelon_core::name::{DomainPath, HostName, ManagerType};
use echelon_core::route::Route;
use echelon_core::time::UnixMillis;
use echelon_identity::{IdentityDirectory, JoinToken};
use echelon_lab::{Lab, Options};
use registry_agent::{Agent, AgentConfig, EnrolOptions, Handle, RouteWatch, enroll};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

/// The network around this program. Its addresses are mapped into 127.0.0.0/8.
const NETWORK: &str = r#"
    framework = "embedded-example"

    [[host]]
    name = "center"
    domain = "/"
    address = "10.0.0.1"
    packages = ["command-control:7000"]

    [[host]]
    name = "neighbour"
    domain = "/site"
    address = "10.0.0.2"
    packages = ["command-control:7000"]
"#;

/// Answers that are timed.
const ANSWERS: u32 = 100_000;

/// Longest wait for a change of route; each takes well under three seconds.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let lab = Lab::start(echelon_topology::parse("NETWORK", NETWORK.as_bytes())?, Options::default()).await?;
    say("network", "a registry manager, center with a manager in /, neighbour with one in /site");

    // Once in a host's life: with a join token from an operator it gets its identity.
    let temporary = tempfile::tempdir()?;
    let state = temporary.path().join("agent");
    let console = lab.directory().join("manager/console");
    enrol(&console, "framework-host", "/site", &state).await?;
    say("enrolled", "framework-host in /site");

    // At every start: the framework starts its agent, here without any socket.
    let agent = Agent::start(AgentConfig::new(state), &CancellationToken::new()).await?;
    let framework = Framework { agent, ty: "command-control".parse()? };
    let story = tell(&framework, &lab).await;
    framework.agent.stop().await?;
    lab.stop().await;
    story
}

/// What a framework builds on the agent.
struct Framework {
    agent: Handle,
    ty: ManagerType,
}

impl Framework {
    /// The nearest live manager, from this process's memory.
    fn nearest(&self) -> Option<Endpoint> {
        Some(self.agent.routes().get(&self.ty)?.targets.first()?.endpoint.clone())
    }

    /// A line to the nearest live manager, and who answered.
    async fn call(&self, line: &str) -> Result<String> {
        let connected = self.agent.connector().connect(&self.ty).await?;
        let mut stream = BufReader::new(connected.stream);
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        Ok(answer.trim_end().to_owned())
    }
}

/// Managers and the registry come and go; the framework's calls go on.
async fn tell(framework: &Framework, lab: &Lab) -> Result<()> {
    // From the first `want` on, the agent keeps the route for this type up to date. Right after its very
    // first start it has no replica yet, which is why this example waits for one through the watch.
    let mut watch = framework.agent.routes().watch(framework.ty.clone());
    while framework.agent.routes().want(&framework.ty).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    served_by(&mut watch, "neighbour").await?;
    answer_fast(framework)?;
    answered_by(framework, "neighbour").await?;

    lab.run(&"down neighbour command-control".parse()?).await?;
    say("fault", "the manager on neighbour is killed");
    // The call itself finds out, and goes to the next manager.
    answered_by(framework, "center").await?;
    served_by(&mut watch, "center").await?;

    lab.run(&"registry down".parse()?).await?;
    say("fault", "the registry manager is killed");
    answered_by(framework, "center").await?;

    lab.run(&"up neighbour command-control".parse()?).await?;
    say("repair", "the manager on neighbour is back; the registry manager still is not");
    served_by(&mut watch, "neighbour").await?;
    answered_by(framework, "neighbour").await
}

fn answer_fast(framework: &Framework) -> Result<()> {
    let endpoint = framework.nearest().context("nobody is near")?;
    let began = Instant::now();
    for _ in 0..ANSWERS {
        std::hint::black_box(framework.nearest());
    }
    let each = began.elapsed() / ANSWERS;
    say("nearest", &format!("{endpoint}, answered {ANSWERS} times in this process, {each:?} each"));
    Ok(())
}

async fn answered_by(framework: &Framework, expected: &str) -> Result<()> {
    let began = Instant::now();
    let who = framework.call("hello").await?;
    say("call", &format!("answered by {who} in {:?}", began.elapsed()));
    ensure!(who == expected, "{who} answered instead of {expected}");
    Ok(())
}

/// Follows the route until it leads to this host.
async fn served_by(watch: &mut RouteWatch, expected: &str) -> Result<()> {
    let name = |route: &Route| route.chosen().map(|entry| entry.candidate.manager.name.clone());
    let following = async {
        loop {
            let route = watch.next().await;
            if name(&route).is_some_and(|name| name.as_str() == expected) {
                return route;
            }
        }
    };
    let route = tokio::time::timeout(PATIENCE, following).await;
    let route = route.with_context(|| format!("{expected} was not chosen within {PATIENCE:?}"))?;
    let why = if route.cause.as_str().is_empty() { "home".into() } else { route.cause.to_string() };
    say("route", &format!("now to {expected} ({why})"));
    Ok(())
}

/// What an operator does with `echelon token create`, and the host with `registry-agent enroll`.
async fn enrol(console: &Path, host: &str, domain: &str, state: &Path) -> Result<()> {
    let (host, domain): (HostName, DomainPath) = (host.parse()?, domain.parse()?);
    let console = IdentityDirectory::open(console)?;
    let token = JoinToken::generate(console.load_trust()?.root_hash())?;
    let hour = Duration::from_secs(3600);
    let row = Token {
        id: token.id,
        secret_hash: token.secret.hash(),
        access: Access::Agent,
        host: Some(host.clone()),
        domain: DomainId::ROOT,
        allow_types: Default::default(),
        replace: false,
        expires: now() + hour,
        uses_left: 1,
    };
    let change = Change::CreateToken { token: row, domain: domain.clone() };
    let set = ChangeSet {
        request: new_request_id(),
        if_revision: None,
        allow_shrink: false,
        changes: vec![change],
    };
    let client = ManagerClient::connect(&console, &[]).await?;
    client.edit(set, false).await?;
    client.close().await;
    let managers = console.load_managers()?;
    let state = state.to_owned();
    enroll(EnrolOptions { state, managers, host, domain: Some(domain), token }).await?;
    Ok(())
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn say(what: &str, text: &str) {
    println!("{what:9} {text}");
}
