//! A whole topology, running on this machine.

use crate::answer::{AgentPower, Answer, Call, Edit, Expect, RegistryPower, RouteLine, Stubs};
use crate::caller::{self, CallError};
use crate::command::{Command, Power};
use crate::directory::Directory;
use crate::error::CommandError;
use crate::host_agent::HostAgent;
use crate::registry::Registry;
use crate::script::Names;
use crate::start::Started;
use crate::stub::{Stub, StubState};
use echelon_core::change::Change;
use echelon_core::name::{HostName, ManagerType};
use echelon_core::route::Route;
use futures::future::join_all;
use registry_agent::{Listen, Routes};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::DropGuard;

/// How long a call waits for an answer. Whoever typed `call` would rather be told that nobody answers.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// How long one of the calls of `expect` waits: a manager that hangs must not use up the whole time.
const TRY_LIMIT: Duration = Duration::from_secs(1);

/// How long it waits at least: the last call of an `expect` is to tell who answers, not how little time was
/// left.
const TRY_LEAST: Duration = Duration::from_millis(100);

/// Longest time between two calls of `expect`; a route that changes is called along at once.
const POLL: Duration = Duration::from_millis(20);

/// A whole topology, running on this machine: a real registry manager, a real agent for every host, and a
/// stub service for every manager. [`Lab::start`] starts it; dropping it ends everything in it.
pub struct Lab {
    pub(crate) names: Names,
    pub(crate) registry: Registry,
    pub(crate) agents: BTreeMap<HostName, Arc<HostAgent>>,
    pub(crate) stubs: BTreeMap<(HostName, ManagerType), Stub>,
    pub(crate) started: Started,
    pub(crate) fault: Mutex<Option<Fault>>,
    pub(crate) _shutdown: DropGuard,
    /// Last, so that it is removed after everything that writes into it has ended.
    pub(crate) directory: Directory,
}

/// The last command that changed something.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    command: String,
    at: Instant,
}

impl Lab {
    /// What was started, where, and how long it took.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// What commands can speak of.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The directory with the state of everything: `manager/console` in it is the identity of a console.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// See [`CommandError`]. A failed `expect` is an answer, no error.
    pub async fn run(&self, command: &Command) -> Result<Answer, CommandError> {
        self.names.check(command)?;
        let answer = self.carry_out(command).await?;
        if command.is_fault() {
            self.set_fault(command.to_string());
        }
        Ok(answer)
    }

    async fn carry_out(&self, command: &Command) -> Result<Answer, CommandError> {
        Ok(match command {
            Command::Down { host, ty } => {
                Answer::Stubs(self.set_stubs(host, ty.as_ref(), StubState::Down).await?)
            }
            Command::Up { host, ty } => {
                Answer::Stubs(self.set_stubs(host, ty.as_ref(), StubState::Up).await?)
            }
            Command::Hang { host, ty } => {
                Answer::Stubs(self.set_stubs(host, Some(ty), StubState::Hung).await?)
            }
            Command::Withdraw { host, ty } => {
                let change = Change::WithdrawPackage { host: host.clone(), ty: ty.clone(), reason: None };
                Answer::Edit(self.edit(host, ty, change).await?)
            }
            Command::Restore { host, ty } => {
                let change = Change::RestorePackage { host: host.clone(), ty: ty.clone() };
                Answer::Edit(self.edit(host, ty, change).await?)
            }
            Command::Registry(power) => Answer::Registry(self.switch_registry(*power).await?),
            Command::Agent(power, host) => Answer::Agent(self.switch_agent(*power, host).await?),
            Command::Call { host, ty } => Answer::Call(self.call(host, ty).await?),
            Command::Expect { host, ty, manager, within } => {
                Answer::Expect(self.expect(host, ty, manager, *within).await?)
            }
            Command::Routes { ty } => Answer::Routes(self.routes(ty).await),
            Command::Help | Command::Quit => Answer::Nothing,
        })
    }

    /// Sets the stub of a type on a host, or all of the host's.
    ///
    /// # Errors
    /// The host has no such manager, or its stub cannot listen any more.
    pub async fn set_stubs(
        &self,
        host: &HostName,
        ty: Option<&ManagerType>,
        state: StubState,
    ) -> Result<Stubs, CommandError> {
        let wanted = |stub: &&Stub| stub.host() == host && ty.is_none_or(|ty| stub.ty() == ty);
        let stubs: Vec<&Stub> = self.stubs.values().filter(wanted).collect();
        if stubs.is_empty() {
            return Err(CommandError::NoStub(host.clone()));
        }
        for stub in &stubs {
            match state {
                StubState::Down => stub.down().await,
                StubState::Hung => stub.hang().await?,
                StubState::Up => stub.up().await?,
            }
        }
        Ok(Stubs { host: host.clone(), types: stubs.iter().map(|s| s.ty().clone()).collect(), state })
    }

    async fn edit(&self, host: &HostName, ty: &ManagerType, change: Change) -> Result<Edit, CommandError> {
        let began = Instant::now();
        let answer = self.registry.edit(change).await?;
        Ok(Edit {
            host: host.clone(),
            ty: ty.clone(),
            revision: answer.position.revision,
            changed: !answer.rows.is_empty(),
            took_ms: millis(began.elapsed()),
        })
    }

    /// Ends or starts the registry manager; nothing where it is so already.
    ///
    /// # Errors
    /// It does not start any more.
    pub async fn switch_registry(&self, power: Power) -> Result<RegistryPower, CommandError> {
        let began = Instant::now();
        match power {
            Power::Down => self.registry.down().await,
            Power::Up => self.registry.up().await?,
        }
        Ok(RegistryPower {
            manager: self.registry.host().clone(),
            listen: self.registry.addr(),
            running: power == Power::Up,
            took_ms: millis(began.elapsed()),
        })
    }

    /// Ends or starts a host's agent; nothing where it is so already.
    ///
    /// # Errors
    /// There is no such host, or its agent does not start any more.
    pub async fn switch_agent(&self, power: Power, host: &HostName) -> Result<AgentPower, CommandError> {
        let (agent, began) = (self.agent(host)?, Instant::now());
        match power {
            Power::Down => agent.down().await,
            Power::Up => agent.up().await?,
        }
        Ok(AgentPower { host: host.clone(), running: power == Power::Up, took_ms: millis(began.elapsed()) })
    }

    /// Calls the manager of a type through a host's forwarder.
    ///
    /// # Errors
    /// There is no such host or type, or the host's agent is down. That nobody answers is no error.
    pub async fn call(&self, host: &HostName, ty: &ManagerType) -> Result<Call, CommandError> {
        let routes = self.agent_routes(host)?;
        Ok(self.try_call(host, ty, &routes, CALL_LIMIT).await?.0)
    }

    /// Where callers of a type connect on a host: its forwarder.
    ///
    /// # Errors
    /// There is no such host or type.
    pub fn forward(&self, host: &HostName, ty: &ManagerType) -> Result<&Listen, CommandError> {
        self.agent(host)?.forward(ty).ok_or_else(|| CommandError::NoForwarder(ty.clone()))
    }

    /// One call, and the route that the agent had right after it.
    async fn try_call(
        &self,
        host: &HostName,
        ty: &ManagerType,
        routes: &Routes,
        limit: Duration,
    ) -> Result<(Call, Option<Arc<Route>>), CommandError> {
        let (answered, took) = caller::call(self.forward(host, ty)?, limit).await;
        let route = routes.get(ty);
        let cause = answered.as_ref().err().map(|error| cause_of(error, route.as_deref()));
        let call = Call {
            host: host.clone(),
            ty: ty.clone(),
            answered: answered.ok(),
            took_ms: millis(took),
            cause: cause.unwrap_or_default(),
        };
        Ok((call, route))
    }

    /// Waits until a manager answers a host's calls, and the host's route names it.
    ///
    /// # Errors
    /// As [`Self::call`]. That it does not come to be within the time is no error.
    pub async fn expect(
        &self,
        host: &HostName,
        ty: &ManagerType,
        manager: &HostName,
        within: Duration,
    ) -> Result<Expect, CommandError> {
        let (began, routes) = (tokio::time::Instant::now(), self.agent_routes(host)?);
        let (deadline, mut watch) = (began + within, routes.watch(ty.clone()));
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let limit = left.clamp(TRY_LEAST, TRY_LIMIT);
            let (call, route) = self.try_call(host, ty, &routes, limit).await?;
            let chosen = route.as_deref().and_then(chosen);
            let met = call.answered.as_ref() == Some(manager) && chosen.as_ref() == Some(manager);
            if met || tokio::time::Instant::now() >= deadline {
                let cause = if met { String::new() } else { why_not(manager, &call, route.as_deref()) };
                let fault = self.fault();
                return Ok(Expect {
                    host: host.clone(),
                    ty: ty.clone(),
                    manager: manager.clone(),
                    met,
                    answered: call.answered,
                    chosen,
                    cause,
                    took_ms: millis(began.elapsed()),
                    since_fault_ms: fault.as_ref().map(|fault| millis(fault.at.elapsed())),
                    fault: fault.map(|fault| fault.command),
                });
            }
            // The first of these is the present route, so that every change is seen.
            tokio::select! {
                _ = watch.next() => {}
                () = sleep_until(deadline.min(tokio::time::Instant::now() + POLL)) => {}
            }
        }
    }

    /// Who serves each host, by name.
    pub async fn routes(&self, ty: &ManagerType) -> Vec<RouteLine> {
        let lines = self.agents.values().map(|agent| async move {
            let route = match agent.routes() {
                Some(routes) => timeout(CALL_LIMIT, routes.want(ty)).await.ok().and_then(Result::ok),
                None => None,
            };
            route_line(agent, ty, route.as_deref())
        });
        join_all(lines).await
    }

    /// Who serves each host, as far as its agent has been asked; never waits.
    pub fn known_routes(&self, ty: &ManagerType) -> Vec<RouteLine> {
        let known = |agent: &HostAgent| agent.routes().and_then(|routes| routes.get(ty));
        self.agents.values().map(|agent| route_line(agent, ty, known(agent).as_deref())).collect()
    }

    /// Ends everything, and removes the state unless it is to be kept. Once this returns, another lab may
    /// use the same addresses.
    pub async fn stop(self) {
        self.cut_off().await;
        self.registry.down().await;
    }

    /// As [`Self::stop`], for a process that ends: what is left to the system is to close the registry
    /// manager's socket, on which it would else wait for seconds.
    pub async fn stop_for_good(self) {
        self.cut_off().await;
    }

    async fn cut_off(&self) {
        let agents = join_all(self.agents.values().map(|agent| agent.down()));
        let stubs = join_all(self.stubs.values().map(Stub::down));
        tokio::join!(agents, stubs, self.registry.cut_off());
    }

    fn agent(&self, host: &HostName) -> Result<&HostAgent, CommandError> {
        self.agents.get(host).map(Arc::as_ref).ok_or_else(|| CommandError::NoHost(host.clone()))
    }

    /// A host's routes, for which its agent has to run.
    fn agent_routes(&self, host: &HostName) -> Result<Routes, CommandError> {
        self.agent(host)?.routes().ok_or_else(|| CommandError::AgentDown(host.clone()))
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_fault(&self, command: String) {
        let fault = Fault { command, at: Instant::now() };
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

fn chosen(route: &Route) -> Option<HostName> {
    route.chosen().map(|entry| entry.candidate.manager.name.clone())
}

/// Why nobody answered: what the caller saw, and what the agent knows.
fn cause_of(error: &CallError, route: Option<&Route>) -> String {
    match route {
        Some(route) if !route.cause.as_str().is_empty() => format!("{error} ({})", route.cause),
        Some(_) => error.to_string(),
        None => format!("{error} (the agent has no route yet)"),
    }
}

/// Why a manager does not serve a host: what the host's agent knows of it.
fn why_not(manager: &HostName, call: &Call, route: Option<&Route>) -> String {
    let Some(route) = route else { return "the agent has no route yet".to_owned() };
    let entry = route.entries.iter().find(|e| e.candidate.manager.name == *manager);
    let of_manager = match entry {
        None => format!("{manager} is not known to the agent"),
        Some(entry) if entry.reason.is_empty() => format!("{manager} is {}", entry.state),
        Some(entry) => format!("{manager} is {} ({})", entry.state, entry.reason),
    };
    let of_route = match (call.cause.as_str(), route.cause.as_str()) {
        ("", "") => String::new(),
        ("", cause) | (cause, _) => format!("; {cause}"),
    };
    format!("{of_manager}{of_route}")
}

fn route_line(agent: &HostAgent, ty: &ManagerType, route: Option<&Route>) -> RouteLine {
    let (host, ty) = (agent.name().clone(), ty.clone());
    match route {
        Some(route) => RouteLine {
            host,
            ty,
            chosen: chosen(route),
            home: route.home().map(|entry| entry.candidate.manager.name.clone()),
            outcome: Some(route.outcome),
            cause: route.cause.to_string(),
        },
        None => {
            let cause = if agent.routes().is_some() { "no route yet" } else { "the agent is down" };
            RouteLine { host, ty, chosen: None, home: None, outcome: None, cause: cause.to_owned() }
        }
    }
}

/// Milliseconds with microseconds behind the point, for people and JSON.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
