//! A manager that packets do not reach any more.

use crate::failover::{Scene, some_more};
use echelon_tests::Sandbox;
use echelon_tests::caller::all_answered;
use echelon_tests::namespace::{Cable, in_namespace};
use echelon_tests::topology::PORT;
use std::net::SocketAddr;
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
