//! Callers of a forwarder who do what programs do to connections, while its managers come and go: nothing of that may
//! leave anything behind in the agent, and no answer may end early without an error.
//!
//! The benchmark `soak` runs it for minutes, a system test for seconds.

use crate::random::Random;
use rustix::net::sockopt::set_socket_linger;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of a long answer: enough to become a stream.
const LONG: usize = 3 << 20;

/// Bytes of an upload.
const UPLOAD: usize = 200_000;

/// Longest wait for anything from the other side.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the agent may take to let go of everything once nobody calls any more.
const SETTLE: Duration = Duration::from_secs(90);

/// What a caller wants of the service; the first byte that it sends.
#[derive(Clone, Copy, Debug)]
enum Wish {
    /// Everything back, until the caller ends.
    Echo,
    /// A long answer, then the end.
    Long,
    /// The end at once, while the caller goes on.
    EndFirst,
    /// A reset in the middle of an answer.
    Reset,
    /// A short answer, and the end while there is something to read.
    Refuse,
}

const WISHES: [Wish; 5] = [Wish::Echo, Wish::Long, Wish::EndFirst, Wish::Reset, Wish::Refuse];

/// A manager's service, which grants wishes.
#[derive(Debug)]
pub struct Service {
    at: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Service {
    /// Listens there; port 0 is any.
    pub fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let (at, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let theirs = Arc::clone(&shared);
        let listening = thread::spawn(move || listen(&listener, &theirs));
        Self { at, shared, listening: Some(listening) }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Ends it as a crash does: connects are refused, open connections reset.
    pub fn kill(&mut self) {
        let Some(listening) = self.listening.take() else { return };
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread; refused where it has ended.
        let _ = TcpStream::connect(self.at);
        listening.join().unwrap();
        for stream in std::mem::take(&mut *self.shared.open.lock().unwrap()).values() {
            reset(stream);
            // Whoever reads from it finds an end, and closes it.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Starts it again where it was.
    pub fn revive(&mut self) {
        if self.listening.is_none() {
            *self = Self::start(self.at);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for (id, stream) in (0..).zip(listener.incoming()) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        shared.open.lock().unwrap().extend(stream.try_clone().map(|copy| (id, copy)));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Callers break off as they please.
            let _ = grant(&stream);
            // With the copy open it would not be closed.
            shared.open.lock().unwrap().remove(&id);
        });
    }
}

fn grant(mut stream: &TcpStream) -> io::Result<()> {
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    match WISHES.get(usize::from(wish[0])) {
        Some(Wish::Echo) => io::copy(&mut &*stream, &mut stream).map(drop),
        Some(Wish::Long) => stream.write_all(&long()),
        Some(Wish::EndFirst) => {
            stream.shutdown(Shutdown::Write)?;
            io::copy(&mut stream, &mut io::sink()).map(drop)
        }
        Some(Wish::Reset) => {
            stream.write_all(&long()[..LONG / 2])?;
            reset(stream);
            Ok(())
        }
        Some(Wish::Refuse) => {
            stream.write_all(b"no")?;
            reset(stream);
            Ok(())
        }
        None => Ok(()),
    }
}

/// From now on closing means a reset.
fn reset(stream: &TcpStream) {
    // One that is closed already needs none.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

fn long() -> Vec<u8> {
    (0..LONG).map(|i| (i % 251) as u8).collect()
}

/// What is soaked.
pub struct Soaked<'a> {
    /// The forwarder.
    pub at: SocketAddr,
    /// The agent's process.
    pub process: u32,
    /// The agent's metrics.
    pub metrics: &'a dyn Fn() -> String,
    /// Does something to the managers; called again and again, with how often before.
    pub disturb: &'a mut dyn FnMut(usize),
}

/// What a soak came to.
#[derive(Debug)]
pub struct Soak {
    /// Connections made.
    pub connections: u64,
    /// Of these, how many came to what they wanted.
    pub complete: u64,
    /// How often managers were disturbed.
    pub disturbances: usize,
    /// The agent's descriptors and tasks before.
    pub before: Held,
    /// And after.
    pub after: Held,
}

/// What an agent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Descriptors.
    pub descriptors: usize,
    /// Tasks of connections, and of attempts and probes.
    pub tasks: u64,
    /// Connections that it counts as open.
    pub open: u64,
}

impl Soaked<'_> {
    /// Has so many callers call for so long, and waits until the agent has let go of everything.
    ///
    /// # Panics
    /// An answer ended early without an error; or the agent holds more than before.
    pub fn soak(&mut self, callers: u64, time: Duration) -> Soak {
        // What is opened once and for all is open after one of each.
        let complete = AtomicU64::new(0);
        (0..WISHES.len()).for_each(|_| call_once(self.at, &mut Random::new(1), &complete));
        let before = self.wait_settled(None);
        let (connections, complete) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut disturbances = 0;
        let end = Instant::now() + time;
        thread::scope(|scope| {
            for seed in 0..callers {
                let (at, connections, complete) = (self.at, &connections, &complete);
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    while Instant::now() < end {
                        connections.fetch_add(1, Ordering::Relaxed);
                        call_once(at, &mut random, complete);
                    }
                });
            }
            while Instant::now() < end {
                thread::sleep(Duration::from_millis(300));
                (self.disturb)(disturbances);
                disturbances += 1;
            }
        });
        let after = self.wait_settled(Some(before));
        let count = |counter: AtomicU64| counter.into_inner();
        Soak { connections: count(connections), complete: count(complete), disturbances, before, after }
    }

    /// What the agent holds once it holds no connections any more, and no more than `most`.
    fn wait_settled(&self, most: Option<Held>) -> Held {
        let begin = Instant::now();
        loop {
            let held = self.held();
            let settled = held.tasks == 0 && held.open == 0;
            if settled && most.is_none_or(|most| held.descriptors <= most.descriptors) {
                return held;
            }
            assert!(begin.elapsed() < SETTLE, "left behind: {held:?}, before: {most:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn held(&self) -> Held {
        let text = (self.metrics)();
        let sum = |begin: &str| -> u64 {
            let lines = text.lines().filter_map(|line| line.strip_prefix(begin)?.rsplit_once(' '));
            lines.map(|(_, value)| value.parse::<f64>().unwrap() as u64).sum()
        };
        let roles = ["connection", "overtaken", "probe"];
        let tasks = roles.map(|role| sum(&format!("echelon_agent_tasks{{role=\"{role}\"}}")));
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.process)).unwrap().count();
        let open = sum("echelon_agent_connections_open{");
        Held { descriptors, tasks: tasks.iter().sum(), open }
    }
}

/// One caller's connection, whatever becomes of it.
///
/// # Panics
/// The answer ended early without an error, or is another one.
fn call_once(at: SocketAddr, random: &mut Random, complete: &AtomicU64) {
    let wish = random.below(WISHES.len());
    match call(at, wish, random) {
        Ok(()) => {
            complete.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => assert_ne!(error.kind(), ErrorKind::UnexpectedEof, "{:?} ended early", WISHES[wish]),
    }
}

fn call(at: SocketAddr, wish: usize, random: &mut Random) -> io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[wish as u8])?;
    match WISHES[wish] {
        Wish::Echo => echo(&mut stream, random),
        Wish::Long => read_long(&mut stream, random),
        Wish::EndFirst => {
            let ended = stream.read(&mut [0; 8])?;
            assert_eq!(ended, 0, "nothing was to come");
            stream.write_all(&vec![7; UPLOAD])
        }
        Wish::Reset => {
            let read = io::copy(&mut stream, &mut io::sink());
            assert!(read.is_err(), "a reset became an end");
            Ok(())
        }
        Wish::Refuse => {
            // The rest of what is sent meets a reset.
            let _ = stream.write_all(&vec![7; UPLOAD]);
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).or_else(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Err(error),
                // A reset may overtake the answer.
                _ => Ok(()),
            })
        }
    }
}

/// Says something and hears it again; then ends its half first, or leaves in one of two ways.
fn echo(stream: &mut TcpStream, random: &mut Random) -> io::Result<()> {
    let said = vec![random.below(251) as u8; 1 + random.below(10_000)];
    stream.write_all(&said)?;
    let way = random.below(3);
    if way == 0 {
        // Gone, perhaps with an answer under way.
        reset(stream);
        return Ok(());
    }
    if way == 1 {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut heard = vec![0; said.len()];
    stream.read_exact(&mut heard)?;
    assert!(heard == said, "another answer");
    Ok(())
}

/// Reads a long answer to its end, or leaves in the middle of it.
fn read_long(stream: &mut TcpStream, random: &mut Random) -> io::Result<()> {
    if random.below(3) == 0 {
        return stream.read_exact(&mut vec![0; 100_000]);
    }
    let mut answer = vec![0; LONG];
    stream.read_exact(&mut answer)?;
    assert!(answer == long(), "another answer");
    Ok(())
}
