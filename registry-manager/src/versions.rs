//! Which builds of registry managers work together.

use echelon_core::grant::{Chain, trail};
use echelon_core::message::{Greeting, PROTOCOL, PROTOCOL_LOWEST};

/// How many minor versions managers may be apart; availability.md.
const MOST_APART: u64 = 1;

/// What this build says of itself, and of the grants that it goes by, where there are any yet.
pub(crate) fn greeting(chain: Option<&Chain>) -> Greeting {
    let build = env!("CARGO_PKG_VERSION").parse().expect("a version is a valid text");
    let grants = chain.map_or_else(Vec::new, |chain| trail(Some(chain)));
    Greeting { protocol: (PROTOCOL_LOWEST, PROTOCOL), build, grants }
}

/// Whether this build and another's can work together.
///
/// # Errors
/// Says why not, and what to do.
pub(crate) fn check(theirs: &Greeting) -> Result<(), String> {
    let common = theirs.protocol.1.min(PROTOCOL) >= theirs.protocol.0.max(PROTOCOL_LOWEST);
    let minor = |build: &str| -> Option<(u64, u64)> {
        let mut parts = build.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let near = match (minor(env!("CARGO_PKG_VERSION")), minor(theirs.build.as_str())) {
        (Some(ours), Some(theirs)) => ours.0 == theirs.0 && ours.1.abs_diff(theirs.1) <= MOST_APART,
        _ => false,
    };
    match common && near {
        true => Ok(()),
        false => Err(format!(
            "registry managers of {} and {} do not work together: upgrade by one minor version at a time, standbys \
             first",
            env!("CARGO_PKG_VERSION"),
            theirs.build
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn builds_work_with_their_neighbours_and_no_others() {
        let of = |protocol, build: &str| Greeting { protocol, build: build.parse().unwrap(), grants: vec![] };
        let ours = (PROTOCOL_LOWEST, PROTOCOL);
        check(&of(ours, env!("CARGO_PKG_VERSION"))).unwrap();
        let (major, minor) = env!("CARGO_PKG_VERSION").split_once('.').unwrap();
        let minor: u64 = minor.split('.').next().unwrap().parse().unwrap();
        check(&of(ours, &format!("{major}.{}.7", minor + 1))).unwrap();
        let refused = check(&of(ours, &format!("{major}.{}.0", minor + 2))).unwrap_err();
        assert!(refused.contains("one minor version at a time"), "{refused}");
        check(&of(ours, "9.9.9")).unwrap_err();
        check(&of(ours, "x")).unwrap_err();
        check(&of((PROTOCOL + 1, PROTOCOL + 2), env!("CARGO_PKG_VERSION"))).unwrap_err();
    }
}
