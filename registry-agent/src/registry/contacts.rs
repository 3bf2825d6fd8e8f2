//! Where registry managers may be found, and connecting to one of them.

use crate::connect::{NoConnection, resolve};
use crate::race::{Attempt, Race, race};
use crate::registry::Identity;
use crate::routes::Routes;
use echelon_core::endpoint::Endpoint;
use echelon_core::evidence::Seen;
use echelon_core::id::HostId;
use echelon_core::name::{ManagerType, Text};
use echelon_identity::Spiffe;
use echelon_transport::{Connection, Target};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a silent registry manager is waited for before the next is tried beside it. A handshake is
/// computed by a machine that may be serving thousands at the moment, so this is more than callers get.
const HEDGE: Duration = Duration::from_secs(1);

/// With which a connection to a manager is closed that has left the registry.
const NO_MANAGER: u32 = 4;

/// Where to look for a registry manager, in order: along the route to the type `registry`, then at the
/// addresses of first contact.
#[derive(Clone)]
pub(crate) struct Contacts {
    routes: Routes,
    identity: Arc<Identity>,
    first: Vec<Endpoint>,
}

/// One place to look.
#[derive(Clone, PartialEq, Debug)]
struct Contact {
    endpoint: Endpoint,
    /// Which manager should be there; any, at an address of first contact.
    host: Option<HostId>,
}

impl Contacts {
    pub(crate) fn new(routes: Routes, identity: Arc<Identity>, first: Vec<Endpoint>) -> Self {
        Self { routes, identity, first }
    }

    /// A connection to the first registry manager that answers; those that are `shunned` are tried last.
    ///
    /// # Errors
    /// Says for each place why there is none.
    pub(crate) async fn connect(&self, shunned: impl Fn(HostId) -> bool) -> Result<Connection, String> {
        let mut contacts = self.list();
        contacts.sort_by_key(|contact| contact.host.is_some_and(&shunned));
        let attempt = |i: usize| -> Attempt<Connection> {
            let (contact, identity) = (contacts.get(i).cloned(), Arc::clone(&self.identity));
            Box::pin(async move {
                let no_place = || Text::lossy("no such place");
                let connected = match contact.ok_or_else(no_place) {
                    Ok(contact) => connect(&identity, &contact).await,
                    Err(why) => Err(why),
                };
                connected.map_err(NoConnection::Refused)
            })
        };
        let saw = |i: usize, seen: Seen, took: Duration| {
            if let Some((host, at)) = contacts.get(i).and_then(|c| Some((c.host?, c.endpoint.clone()))) {
                self.routes.saw(&ManagerType::registry(), host, Some(at), seen, took);
            }
        };
        // Nobody else looks for one.
        let beside = Semaphore::new(Semaphore::MAX_PERMITS);
        match race(contacts.len(), &beside, |_| HEDGE, attempt, saw).await {
            Race::Won { stream, .. } => {
                self.reached(&stream);
                Ok(stream)
            }
            Race::Lost(failures) if failures.is_empty() => {
                Err("no address of a registry manager is known; give one with --manager".into())
            }
            Race::Lost(failures) => {
                let why = |(i, why): &(usize, Text)| {
                    contacts.get(*i).map(|contact| format!("{}: {why}", contact.endpoint))
                };
                Err(failures.iter().filter_map(why).collect::<Vec<_>>().join("; "))
            }
        }
    }

    /// What was seen of the manager that a connection has reached, whatever address led there.
    fn reached(&self, connection: &Connection) {
        if let Some(Spiffe::Manager(host)) = connection.peer().map(|peer| &peer.subject) {
            self.routes.saw(&ManagerType::registry(), *host, None, Seen::Connected, Duration::ZERO);
        }
    }

    fn list(&self) -> Vec<Contact> {
        let route = self.routes.get(&ManagerType::registry());
        let targets = route.iter().flat_map(|route| route.targets.iter());
        let mut contacts: Vec<_> =
            targets.map(|t| Contact { endpoint: t.endpoint.clone(), host: Some(t.host) }).collect();
        for endpoint in &self.first {
            if !contacts.iter().any(|c| c.endpoint == *endpoint) {
                contacts.push(Contact { endpoint: endpoint.clone(), host: None });
            }
        }
        contacts
    }
}

async fn connect(identity: &Identity, contact: &Contact) -> Result<Connection, Text> {
    let target = contact.host.map_or(Target::AnyManager, Target::Manager);
    let mut why = Text::lossy("no address");
    for addr in resolve(&contact.endpoint).await? {
        match identity.endpoint().connect(addr, &target).await {
            Ok(connection) if connection.peer().is_some_and(|peer| identity.counts(peer)) => {
                return Ok(connection);
            }
            Ok(connection) => {
                connection.close(NO_MANAGER, "this manager has left the registry");
                why = Text::lossy("whoever answers there is no registry manager any more");
            }
            Err(error) => why = Text::lossy(&error.problem.to_string()),
        }
    }
    Err(why)
}
