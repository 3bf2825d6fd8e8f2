//! A network of a test's own, in which packets can be lost.

use crate::binaries::{GIVEN, binaries};
use crate::skip::{have, skipped};
pub use echelon_lab::cable::Cable;
use echelon_lab::cable::UNSHARE;
use std::env;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "ECHELON_TEST_NAMESPACE";

/// Runs the test `name` (its full path) again in a network namespace of its own, and there `test`. Where
/// that cannot be, says so.
pub fn in_namespace(name: &str, test: impl FnOnce(&Cable)) {
    if env::var_os(INSIDE).is_some() {
        return test(&Cable::lay());
    }
    let [unshare, options @ ..] = UNSHARE;
    let trial: Vec<_> = options.into_iter().chain(Cable::trial()).collect();
    if !have(name, unshare, &trial) {
        return;
    }
    let Ok(this) = env::current_exe() else { return skipped(name, "this program is not found") };
    let mut again = Command::new(unshare);
    again.args(options).arg(this).args(["--exact", name, "--nocapture"]);
    again.env(INSIDE, "1").env(GIVEN, binaries().directory());
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "inside the namespace:\n{}\n{}", said[0], said[1]);
    assert!(said[0].contains("1 passed"), "the test did not run inside: {said:?}");
}
