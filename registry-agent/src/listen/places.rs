//! The places that an agent listens at: those that it opened, and those that it was given open.

use crate::listen::{BindError, Listen, Listener, ask_seldom, give_to_group, listen_tcp};
use echelon_daemon::{BindUnixError, bind_unix};
use socket2::{Domain, Socket};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tracing::{info, warn};

/// Callers of the same user or group only.
const SOCKET_MODE: u32 = 0o660;

/// One place where callers wait to be let in. It is closed once nobody holds it any more, and the file of a unix
/// socket goes with it, unless it is somebody else's.
#[derive(Debug)]
pub(crate) struct Place {
    /// What it was opened for, which tells places apart for which the system chose the port.
    asked: String,
    at: Listen,
    queue: Queue,
    /// Whether the service manager opened it, and keeps it open.
    activated: bool,
    /// Whether its file is another process's to remove.
    ceded: AtomicBool,
}

/// A queue of callers, not bound to any runtime.
#[derive(Debug)]
pub(super) enum Queue {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All places of one agent.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Open, and for whoever asks for them. The service manager's stay here.
    waiting: Vec<Arc<Place>>,
    /// In use.
    used: Vec<Weak<Place>>,
}

/// Why a socket that was given is no place to listen at. It was closed here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenError {
    /// The system does not tell what it is.
    #[error("the system does not tell what it is")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is no listening TCP or unix socket with an address")]
    Kind,
}

impl Place {
    /// Opens a place. Must run inside a tokio runtime.
    fn open(asked: &str, listen: &Listen) -> Result<Self, BindError> {
        let (at, queue) = match listen {
            Listen::Unix(path) => {
                let failed = |source| BindUnixError::Io { action: "use", path: path.clone(), source };
                let queue = Queue::Unix(bind_unix(path, SOCKET_MODE)?.into_std().map_err(failed)?);
                give_to_group(path);
                (listen.clone(), queue)
            }
            Listen::Tcp(addr) => {
                let (queue, at) =
                    listen_tcp(*addr).map_err(|source| BindError::Tcp { addr: *addr, source })?;
                (Listen::Tcp(at), Queue::Tcp(queue))
            }
        };
        Ok(Self { asked: asked.to_owned(), at, queue, activated: false, ceded: AtomicBool::new(false) })
    }

    /// A socket that another process opened. Until [`Places::cede`] says otherwise, its file is not removed.
    pub(crate) fn given(asked: String, socket: OwnedFd, activated: bool) -> Result<Self, GivenError> {
        let socket = Socket::from(socket);
        if !socket.is_listener()? {
            return Err(GivenError::Kind);
        }
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let (at, queue) = match (address.as_socket(), address.as_pathname()) {
            (Some(addr), _) => {
                socket.set_tcp_nodelay(true)?;
                ask_seldom(&socket)?;
                (Listen::Tcp(addr), Queue::Tcp(socket.into()))
            }
            (None, Some(path)) if socket.domain()? == Domain::UNIX => {
                (Listen::Unix(path.into()), Queue::Unix(socket.into()))
            }
            _ => return Err(GivenError::Kind),
        };
        Ok(Self { asked, at, queue, activated, ceded: AtomicBool::new(true) })
    }

    /// Where it is.
    pub(crate) fn at(&self) -> &Listen {
        &self.at
    }

    /// What it was opened for.
    pub(crate) fn asked(&self) -> &str {
        &self.asked
    }

    /// Whether the service manager opened it, and keeps it open.
    pub(crate) fn is_activated(&self) -> bool {
        self.activated
    }

    /// One more descriptor of its queue.
    pub(super) fn queue(&self) -> Result<Queue, BindError> {
        match (&self.queue, &self.at) {
            (Queue::Tcp(socket), _) => {
                let addr = || socket.local_addr().unwrap_or_else(|_| ([0; 4], 0).into());
                let shared = socket.try_clone();
                shared.map(Queue::Tcp).map_err(|source| BindError::Tcp { addr: addr(), source })
            }
            (Queue::Unix(socket), at) => {
                let path = match at {
                    Listen::Unix(path) => path.clone(),
                    Listen::Tcp(_) => PathBuf::new(),
                };
                let failed = |source| BindUnixError::Io { action: "share", path, source };
                Ok(Queue::Unix(socket.try_clone().map_err(failed)?))
            }
        }
    }

    /// Whether it is what this is asked for. A port of 0 says nothing of where that may be.
    fn suits(&self, asked: &str, listen: &Listen) -> bool {
        self.asked == asked || self.at == *listen
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.queue {
            Queue::Tcp(socket) => socket.as_fd(),
            Queue::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.at
            && !self.activated
            && !self.ceded.load(Ordering::SeqCst)
        {
            // One that stays is found stale, and removed, by the next who listens there.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Places {
    /// Places that are open already.
    pub(crate) fn given(waiting: Vec<Place>) -> Self {
        let waiting = waiting.into_iter().map(Arc::new).collect();
        Self(Mutex::new(Known { waiting, used: Vec::new() }))
    }

    /// Listens where this is asked for: at a place that is open already, or else at a new one. `asked` is what is
    /// asked for in words, which nothing else is asked for in. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// It cannot listen there.
    pub(crate) fn listen(&self, asked: &str, listen: &Listen) -> Result<Listener, BindError> {
        let mut known = self.known();
        let place = match known.take(asked, listen) {
            Some(place) => place,
            None => Arc::new(Place::open(asked, listen)?),
        };
        let listener = Listener::at_place(Arc::clone(&place))?;
        known.used.retain(|place| place.strong_count() > 0);
        known.used.push(Arc::downgrade(&place));
        Ok(listener)
    }

    /// Opens a place that is not open yet, for whoever asks for it next.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn reserve(&self, asked: &str, listen: &Listen) -> Result<(), BindError> {
        let mut known = self.known();
        if !known.waiting.iter().any(|place| place.suits(asked, listen)) {
            known.waiting.push(Arc::new(Place::open(asked, listen)?));
        }
        Ok(())
    }

    /// Closes what nobody has asked for. What the service manager opened stays, as it does there: a reload may ask
    /// for it.
    pub(crate) fn settle(&self) {
        let mut known = self.known();
        for place in known.waiting.extract_if(.., |place| !place.activated) {
            info!(listen = %place.at, "Closing a place that is asked for no more");
        }
        let idle: Vec<_> = known.waiting.iter().filter(|place| !known.is_used(place)).collect();
        for place in idle {
            warn!(
                listen = %place.at, socket = %place.asked,
                "The service manager opened a socket that no setting names: whoever connects there waits for ever. \
                 Name it under forward or api in the settings, or remove it from the socket unit"
            );
        }
    }

    /// Whether the service manager keeps any of them open.
    pub(crate) fn are_activated(&self) -> bool {
        self.known().waiting.iter().any(|place| place.activated)
    }

    /// All of them, as they are handed over.
    pub(crate) fn all(&self) -> Vec<Arc<Place>> {
        let known = self.known();
        let used = known.used.iter().filter_map(Weak::upgrade).filter(|place| !place.activated);
        used.chain(known.waiting.iter().cloned()).collect()
    }

    /// From now on files of unix sockets are another process's to remove, or this one's again.
    pub(crate) fn cede(&self, ceded: bool) {
        self.all().iter().for_each(|place| place.ceded.store(ceded, Ordering::SeqCst));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing under this lock can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn take(&mut self, asked: &str, listen: &Listen) -> Option<Arc<Place>> {
        let at = self.waiting.iter().position(|place| place.suits(asked, listen))?;
        let place = self.waiting.get(at)?;
        if place.activated { Some(Arc::clone(place)) } else { Some(self.waiting.remove(at)) }
    }

    fn is_used(&self, place: &Arc<Place>) -> bool {
        self.used.iter().any(|used| std::ptr::eq(used.as_ptr(), Arc::as_ptr(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpStream};
    use std::path::Path;

    fn any_port() -> Listen {
        "127.0.0.1:0".parse().unwrap()
    }

    fn address(listener: &Listener) -> SocketAddr {
        match listener.at() {
            Listen::Tcp(addr) => *addr,
            Listen::Unix(path) => panic!("at {path:?}"),
        }
    }

    /// What a successor is given.
    fn handed(places: &Places) -> Places {
        let copy = |place: Arc<Place>| {
            let socket = place.as_fd().try_clone_to_owned().unwrap();
            Place::given(place.asked().to_owned(), socket, place.is_activated()).unwrap()
        };
        Places::given(places.all().into_iter().map(copy).collect())
    }

    #[tokio::test]
    async fn what_is_handed_over_is_found_by_its_address_and_ports_of_0_by_what_they_are_for() {
        let old = Places::default();
        let [a, b] = ["a=127.0.0.1:0", "b=127.0.0.1:0"].map(|asked| old.listen(asked, &any_port()).unwrap());
        let new = handed(&old);
        let again = new.listen("b=127.0.0.1:0", &any_port()).unwrap();
        assert_eq!(address(&again), address(&b));
        let fixed = new.listen("c", a.at()).unwrap();
        assert_eq!(address(&fixed), address(&a));
        // Both are taken now; a third is a new one.
        let other = new.listen("a=127.0.0.1:0", &any_port()).unwrap();
        assert!(address(&other) != address(&a) && address(&other) != address(&b));
    }

    #[tokio::test]
    async fn the_file_of_a_socket_goes_with_the_process_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let listen = Listen::Unix(path.clone());
        let (old, new) = {
            let old = Places::default();
            let listener = old.listen("a", &listen).unwrap();
            let new = handed(&old);
            ((old, listener), new)
        };
        // A successor that gives up leaves everything as it was.
        drop(new);
        assert!(path.exists());
        let new = handed(&old.0);
        old.0.cede(true);
        new.cede(false);
        drop(old);
        assert!(path.exists());
        drop(new.listen("a", &listen).unwrap());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_closed_but_the_service_managers_stay() {
        let sockets = [
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        ];
        let at = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let [one, two] = sockets;
        let one = Place::given("one".into(), one.into(), false).unwrap();
        let two = Place::given("two".into(), two.into(), true).unwrap();
        let places = Places::given(vec![one, two]);
        places.settle();
        assert!(TcpStream::connect(at[0]).is_err());
        for _ in 0..2 {
            // Each time it is closed it can be opened again.
            drop(places.listen("b", &Listen::Tcp(at[1])).unwrap());
            TcpStream::connect(at[1]).unwrap();
        }
        assert_eq!(places.all().len(), 1);
        assert!(places.are_activated());
    }

    #[tokio::test]
    async fn what_does_not_listen_is_no_place() {
        let unbound = Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert!(matches!(Place::given(String::new(), unbound.into(), true), Err(GivenError::Kind)));
        let file = std::fs::File::open(Path::new("/dev/null")).unwrap();
        assert!(matches!(Place::given(String::new(), file.into(), true), Err(GivenError::Io(_))));
    }
}
