//! A manager's service, as far as callers see it: it answers every line with its own name.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub struct Stub {
    at: SocketAddr,
    shared: Arc<Shared>,
    /// None while it is killed.
    listener: Option<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    name: String,
    stopped: AtomicBool,
    calls: AtomicU64,
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Stub {
    /// Starts the service of this name.
    pub fn start(name: &str, at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap_or_else(|e| panic!("{name} cannot listen at {at}: {e}"));
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        let thread = std::thread::spawn({
            let (listener, shared) = (listener.try_clone().unwrap(), Arc::clone(&shared));
            move || serve(&listener, &shared)
        });
        Self { at, shared, listener: Some(listener), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// How many lines it has answered.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Kills it: connects are refused, open connections are cut.
    pub fn kill(&mut self) {
        let (Some(listener), Some(thread)) = (self.listener.take(), self.thread.take()) else { return };
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for callers.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        thread.join().unwrap();
        for stream in std::mem::take(&mut *self.shared.open.lock().unwrap()).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Starts it again at the same address.
    pub fn revive(&mut self) {
        self.kill();
        *self = Self::start(&self.shared.name.clone(), self.at);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for (id, stream) in (0..).zip(listener.incoming()) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if let Ok(copy) = stream.try_clone() {
            shared.open.lock().unwrap().insert(id, copy);
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            answer(&stream, &shared);
            // The copy that `kill` would cut keeps the connection open otherwise.
            shared.open.lock().unwrap().remove(&id);
        });
    }
}

fn answer(stream: &TcpStream, shared: &Shared) {
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        if writeln!(&mut &*stream, "{}", shared.name).is_err() {
            break;
        }
        line.clear();
    }
}
