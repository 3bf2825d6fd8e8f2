//! What only a machine of one's own can have: a network in which packets can be lost, small disks.

use crate::binaries::{GIVEN, binaries};
use crate::skip::{have, skipped};
pub use echelon_lab::cable::Cable;
use echelon_lab::cable::UNSHARE;
use std::env;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "ECHELON_TEST_NAMESPACE";

/// What makes a namespace in which disks can be mounted, before the command that is to run in it: for root and for
/// users who may have namespaces.
const UNSHARE_MOUNTS: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// Runs the test `name` (its full path) again in a network namespace of its own, and there `test`. Where
/// that cannot be, says so.
pub fn in_namespace(name: &str, test: impl FnOnce(&Cable)) {
    inside(name, &UNSHARE, &Cable::trial(), || test(&Cable::lay()));
}

/// Runs the test `name` (its full path) again where it may mount a [`crate::Disk`], and there `test`. Where that cannot
/// be, says so.
pub fn with_disks(name: &str, test: impl FnOnce()) {
    let anywhere = env::temp_dir().display().to_string();
    inside(name, &UNSHARE_MOUNTS, &["mount", "-t", "tmpfs", "tmpfs", &anywhere], test);
}

/// Runs the test of this name again behind `unshare`, and there `test`, where `trial` can be run behind it.
fn inside(name: &str, unshare: &[&str], trial: &[&str], test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let (program, options) = unshare.split_first().unwrap();
    if !have(name, program, &[options, trial].concat()) {
        return;
    }
    let Ok(this) = env::current_exe() else { return skipped(name, "this program is not found") };
    let mut again = Command::new(program);
    again.args(options).arg(this).args(["--exact", name, "--nocapture"]);
    again.env(INSIDE, "1").env(GIVEN, binaries().directory());
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "inside the namespace:\n{}\n{}", said[0], said[1]);
    assert!(said[0].contains("1 passed"), "the test did not run inside: {said:?}");
}
