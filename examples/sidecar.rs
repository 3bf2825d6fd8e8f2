//! A program beside a registry agent, in a process of its own: it asks the agent over its unix sockets, and gets
//! connections that do not pass through it.
//!
//! ```console
//! $ ECHELON_AGENT_SOCKET=/tmp/echelon/web2/agent.sock cargo run --example sidecar -- audit
//! ```
//!
//! It says a line to the nearest manager of the type, and does so again over a new connection whenever the
//! route has changed, until it is interrupted.

use anyhow::{Context, Result};
use echelon_client::{LocalAgent, Way};
use echelon_core::name::ManagerType;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let ty: ManagerType = arguments.next().context("usage: sidecar TYPE [LINE]")?.parse()?;
    let line = arguments.next().unwrap_or_else(|| "who".into());

    // At ECHELON_AGENT_SOCKET, or where agents listen that were not told otherwise.
    let agent = LocalAgent::from_env();
    let nearest = agent.nearest(&ty).await?;
    println!("nearest   {} at {}", nearest.host, nearest.endpoint);

    let mut watch = agent.watch(ty.clone());
    loop {
        // At first the present route, then each change; also while the agent is started anew.
        let route = watch.next().await?;
        match route.chosen {
            Some(chosen) => println!("route     {} {}", chosen.host, route.cause),
            None => println!("route     nobody: {}", route.cause),
        }
        if let Err(error) = call(&agent, &ty, &line).await {
            println!("no answer {error:#}");
        }
    }
}

/// Says a line to the nearest live manager.
async fn call(agent: &LocalAgent, ty: &ManagerType, line: &str) -> Result<()> {
    let connection = agent.connect(ty).await?;
    let way = match connection.way {
        Way::Direct => "handed over by the agent",
        Way::Route => "made by the agent's route",
    };
    println!("connected to {} ({way})", connection.endpoint);
    let mut stream = BufReader::new(connection.stream);
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    println!("answered  {}", answer.trim_end());
    Ok(())
}
