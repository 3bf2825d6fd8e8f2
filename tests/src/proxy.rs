//! A network between one peer and a manager that can lose answers.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long every answer is under way: long enough for a test to act between what a manager does and what
/// its peer hears of it.
const DELAY: Duration = Duration::from_millis(500);

/// How long the threads wait for a datagram before they look around.
const TICK: Duration = Duration::from_millis(5);

/// Shortest datagram that a connection may be known by (RFC 9000, section 10.3). Who sends less only looks whether
/// somebody listens, and is not the peer.
const SHORTEST: usize = 21;

/// Longest datagram.
const LONGEST: usize = 65_535;

/// Passes datagrams on between one peer and a manager. Answers come late, and while it is mute not at all.
#[derive(Debug)]
pub struct Proxy {
    at: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    back: UdpSocket,
    peer: Mutex<Option<SocketAddr>>,
    mute: AtomicBool,
    stop: AtomicBool,
}

impl Proxy {
    /// Listens at `at` and passes on to the manager.
    pub fn start(at: SocketAddr, manager: SocketAddr) -> Self {
        let (front, back) = (UdpSocket::bind(at).unwrap(), UdpSocket::bind((at.ip(), 0)).unwrap());
        back.connect(manager).unwrap();
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(TICK)).unwrap();
        }
        let (mute, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { front, back, peer: Mutex::new(None), mute, stop });
        let threads = [Shared::questions as fn(&Shared), Shared::answers].map(|work| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || work(&shared))
        });
        Self { at, shared, threads: threads.into() }
    }

    /// Where the peer finds it.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Loses all answers from now on, those under way too; or none any more.
    pub fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn questions(&self) {
        let mut datagram = vec![0; LONGEST];
        while !self.stop.load(Ordering::SeqCst) {
            if let Ok((length @ SHORTEST.., peer)) = self.front.recv_from(&mut datagram) {
                *self.peer.lock().unwrap() = Some(peer);
                let _ = self.back.send(&datagram[..length]);
            }
        }
    }

    fn answers(&self) {
        let (mut datagram, mut late) = (vec![0; LONGEST], VecDeque::new());
        while !self.stop.load(Ordering::SeqCst) {
            if let Ok(length) = self.back.recv(&mut datagram) {
                late.push_back((Instant::now() + DELAY, datagram[..length].to_vec()));
            }
            while late.front().is_some_and(|(due, _)| *due <= Instant::now()) {
                self.pass_on(late.pop_front().map(|(_, answer)| answer).unwrap_or_default());
            }
        }
    }

    fn pass_on(&self, answer: Vec<u8>) {
        let peer = *self.peer.lock().unwrap();
        if let Some(peer) = peer.filter(|_| !self.mute.load(Ordering::SeqCst)) {
            let _ = self.front.send_to(&answer, peer);
        }
    }
}
