//! Programs that call their manager through the forwarder on their host.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a caller waits for an answer; no call may come near it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two calls, so that a caller leaves the other processes some of the machine.
const PAUSE: Duration = Duration::from_millis(2);

/// One call: a new connection, one line, and who answered it.
///
/// # Errors
/// The connection failed, or ended without an answer.
pub fn call(at: SocketAddr) -> io::Result<String> {
    ask(TcpStream::connect(at)?)
}

/// One line over this connection, and who answered it.
///
/// # Errors
/// As [`call`].
pub fn ask(mut stream: TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"who\n")?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// A call that was made.
#[derive(Clone, Debug)]
pub struct Call {
    /// How long it took.
    pub took: Duration,
    /// Who answered, or what went wrong.
    pub answer: Result<String, String>,
}

/// Calls one after the other, without an end.
#[derive(Debug)]
pub struct Caller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Held during a call.
    calls: Mutex<Vec<Call>>,
}

impl Caller {
    /// Begins to call a forwarder.
    pub fn start(at: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.stop.load(Ordering::SeqCst) {
                    one_more(at, &mut shared.calls.lock().unwrap());
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Does something between two calls: what is under way in a service that dies cannot be saved.
    pub fn between_calls<T>(&self, act: impl FnOnce() -> T) -> T {
        let _no_call = self.shared.calls.lock().unwrap();
        act()
    }

    /// How many calls were made.
    pub fn count(&self) -> usize {
        self.shared.calls.lock().unwrap().len()
    }

    /// The newest call.
    pub fn last(&self) -> Option<Call> {
        self.shared.calls.lock().unwrap().last().cloned()
    }

    /// Waits until the newest call was answered by `name`.
    #[track_caller]
    pub fn wait_served_by(&self, name: &str) {
        crate::wait_for(&format!("a call answered by {name}"), || match self.last() {
            Some(Call { answer: Ok(who), .. }) if who == name => Ok(()),
            other => Err(other),
        });
    }

    /// Ends, and gives all calls in their order.
    pub fn stop(mut self) -> Vec<Call> {
        self.end();
        std::mem::take(&mut self.shared.calls.lock().unwrap())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.end();
    }
}

fn one_more(at: SocketAddr, calls: &mut Vec<Call>) {
    let begin = Instant::now();
    let answer = call(at).map_err(|e| e.to_string());
    calls.push(Call { took: begin.elapsed(), answer });
}

/// Every call must have been answered; gives who answered, in order, without repetitions.
#[track_caller]
pub fn all_answered(calls: &[Call]) -> Vec<String> {
    let mut who: Vec<String> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        match &call.answer {
            Ok(name) if who.last() != Some(name) => who.push(name.clone()),
            Ok(_) => {}
            Err(error) => panic!("call {at} of {} failed after {:?}: {error}", calls.len(), call.took),
        }
    }
    who
}
