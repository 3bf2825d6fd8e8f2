//! A manager that packets do not reach any more.

use crate::failover::{Scene, some_more};
use echelon_tests::caller::all_answered;
use echelon_tests::namespace::{Cable, in_namespace};
use echelon_tests::topology::PORT;
use echelon_tests::{DEADLINE, Sandbox, TYPE};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No call may take as long as the connect timeout (1 s by default): the next candidate is tried beside the
/// silent one long before.
const MOST: Duration = Duration::from_millis(900);

/// A candidate that says nothing is overtaken by trying the next one beside it, and is not waited for by any
/// later call. When packets arrive again, it is used again.
#[test]
fn a_manager_behind_dropped_packets_is_overtaken() {
    in_namespace("dropped::a_manager_behind_dropped_packets_is_overtaken", |cable| {
        let sandbox = Sandbox::new();
        let scene = Scene::set_with(&sandbox, SocketAddr::new(Cable::FAR, PORT));
        let calls = scene.calls();
        calls.between_calls(|| cable.pull());
        calls.wait_served_by("hub");
        some_more(&calls);
        cable.plug();
        calls.wait_served_by("near");
        let calls = calls.stop();
        assert_eq!(all_answered(&calls), ["near", "hub", "near"]);
        let slowest = calls.iter().map(|call| call.took).max().unwrap();
        assert!(slowest < MOST, "a call took {slowest:?}");
    });
}

/// A connection that is open to it breaks soon after connects to it have failed, so that its caller can be served by
/// another one. It carries nothing meanwhile that could tell.
#[test]
fn an_open_connection_to_a_manager_behind_dropped_packets_is_reset() {
    in_namespace("dropped::an_open_connection_to_a_manager_behind_dropped_packets_is_reset", |cable| {
        let sandbox = Sandbox::new();
        let scene = Scene::set_with(&sandbox, SocketAddr::new(Cable::FAR, PORT));
        let calls = scene.calls();
        let mut open = BufReader::new(TcpStream::connect(scene.caller.forwarder(TYPE)).unwrap());
        open.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
        open.get_mut().write_all(b"who\n").unwrap();
        let mut who = String::new();
        open.read_line(&mut who).unwrap();
        assert_eq!(who.trim_end(), "near");
        calls.between_calls(|| cable.pull());
        calls.wait_served_by("hub");
        let end = open.read(&mut [0; 8]);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let metrics = scene.caller.get("/metrics").unwrap().body;
        let cut = format!("echelon_agent_connections_cut_total{{type=\"{TYPE}\",cause=\"unreachable\"}} 1");
        assert!(metrics.contains(&cut), "{metrics}");
        assert_eq!(all_answered(&calls.stop()), ["near", "hub"]);
    });
}
