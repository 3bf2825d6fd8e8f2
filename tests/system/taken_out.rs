//! Registry managers that are taken out, as those see it who hold certificates of them.

use crate::managers::primary;
use echelon_tests::{Answer, Cluster, Sandbox, wait_for, wait_until};

/// The primary hands over, and the others know.
#[track_caller]
fn promote(cluster: &Cluster<'_>, at: usize, to: &str, known_at: &[usize]) {
    cluster.console_at(at).ok(&format!("promote {to}"));
    for at in known_at {
        wait_for("the new primary to be known", || match primary(cluster, *at)? {
            host if host == to => Ok(()),
            other => Err(other),
        });
    }
}

/// The manager that has signed the console's own certificate is removed, and the next one that has, as compromised:
/// whoever does so is told that it is done, and is not locked out; where that cannot be helped, nothing is done. What
/// managers keep that are out of reach is not known.
#[test]
fn a_console_takes_out_the_managers_that_signed_its_own_certificate() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 2);
    promote(&cluster, 0, "spare1", &[1, 2]);
    cluster.console_at(1).ok("manager remove hub");
    wait_until("the manager that was taken out to end", || !cluster[0].process().is_running());
    let again = Answer::of(cluster[0].run_command());
    assert!(again.code == 5 && again.err.contains("it was taken out by revision"), "{again:?}");

    // Its certificate is renewed at the one that it asks next.
    cluster.console_at(1).ok("status");
    promote(&cluster, 1, "spare2", &[1, 2]);
    cluster[2].kill9();
    let remove = "manager remove spare1 --compromised";
    let refused = cluster.console_at(1).fails(4, &format!("{remove} --output json")).error();
    assert_eq!(refused["error"], "own-issuer", "{refused}");
    let kept = cluster.console_at(1).fails(4, "edits lost");
    assert_eq!(kept.out.trim(), "spare1 keeps no edit that was given up");
    assert!(kept.err.contains("they were not reached: spare2"), "{kept:?}");

    cluster[2].start();
    cluster.wait_accepts(2);
    cluster.console_at(1).ok(remove);
    cluster.console_at(2).ok("host list");
    wait_until("the compromised one to end", || !cluster[1].process().is_running());
}
