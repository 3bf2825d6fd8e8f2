//! Connections that the shipped agent hands over, beside direct ones and such through its forwarder: set-up, first
//! request, later requests, one stream; one sample of each in turn, medians of all samples.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::report::{beside, show};
use echelon_bench::{Registry, Samples, service};
use echelon_client::blocking::LocalAgent;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Samples of each, where the first argument says nothing else.
const ROUNDS: usize = 8;

/// Connections, and requests, in a sample.
const COUNT: usize = 2000;

/// How long a stream is measured.
const TIME: Duration = Duration::from_millis(1000);

const TYPE: &str = "command-control";

/// A way to a connection.
type Way<'a> = Box<dyn Fn() -> TcpStream + 'a>;

/// What one way came to: in seconds, and bytes a second.
#[derive(Default)]
struct Figures {
    set_up: Vec<f64>,
    first: Vec<f64>,
    later: Vec<f64>,
    stream: Vec<f64>,
}

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let (service, registry) = (service::start(), Registry::start());
    let relay = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _agent = registry.forwarding(TYPE, service, relay);
    let (local, ty) = (LocalAgent::at(registry.path("agent-asker/agent.sock")), TYPE.parse().unwrap());
    let connect = |addr| {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let ways: [(&str, Way<'_>); 3] = [
        ("direct", Box::new(|| connect(service))),
        ("handed over", Box::new(|| local.connect(&ty).unwrap().stream)),
        ("forwarder", Box::new(|| connect(relay))),
    ];
    let mut figures: [Figures; 3] = Default::default();
    for _ in 0..rounds {
        for ((_, way), figures) in ways.iter().zip(&mut figures) {
            measure(way, figures);
        }
    }
    let [direct, handed, relayed] = figures.map(|f| [f.set_up, f.first, f.later, f.stream].map(median));
    for (name, [set_up, first, later, stream]) in
        [("direct", direct), ("handed over", handed), ("forwarder", relayed)]
    {
        let micros = |seconds: f64| format!("{:.1} µs", seconds * 1e6);
        let figure = format!(
            "set-up {}, with first request {}, later request {}, stream {:.0} MB/s",
            micros(set_up),
            micros(first),
            micros(later),
            stream / 1e6
        );
        beside(name, figure);
    }
    let set_up = handed[0] / direct[0];
    show("set-up", format!("{set_up:.2} of direct"), "3 of direct", set_up <= 3.0);
    let first = relayed[1] / handed[1];
    show("first request", format!("{first:.2} times as fast as a relay"), "faster than a relay", first > 1.0);
    let later = direct[2] / handed[2];
    show("later request", format!("{later:.3} of direct"), "0.95 of direct", later >= 0.95);
    let stream = handed[3] / direct[3];
    show("one stream", format!("{stream:.3} of direct"), "0.95 of direct", stream >= 0.95);
}

fn measure(connect: &dyn Fn() -> TcpStream, figures: &mut Figures) {
    let seconds = |samples: Samples| samples.median().as_secs_f64();
    let (set_up, first) = service::set_ups(COUNT, connect);
    figures.set_up.push(seconds(set_up));
    figures.first.push(seconds(first));
    figures.later.push(seconds(service::later_requests_on(connect(), COUNT * 4)));
    figures.stream.push(service::stream_on(connect(), TIME));
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
