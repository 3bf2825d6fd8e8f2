//! File descriptors: a lab needs many, and most systems let a process have few until it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What an agent holds open: its UDP socket, its database with log and index, its lock, its API, and a few
/// for calls and probes under way.
const PER_AGENT: u64 = 12;

/// What the lab itself holds open: the manager's socket and database, standard streams, the runtime.
const BASE: u64 = 100;

/// The system does not let this process have as many open files as the topology needs. Nothing was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this topology needs about {needed} open files, and this process may have {allowed}: type ulimit -Hn \
     {needed} as root (or raise nofile in /etc/security/limits.conf), or try a smaller topology"
)]
pub struct DescriptorsError {
    /// How many are needed.
    pub needed: u64,
    /// How many the system allows.
    pub allowed: u64,
}

/// Makes sure that so many agents, each with a forwarder for so many types, and stubs fit, and raises this
/// process's own limit as far as the system lets it.
///
/// # Errors
/// The system's limit is too low.
pub(crate) fn ensure(agents: usize, types: usize, stubs: usize) -> Result<(), DescriptorsError> {
    let needed = needed(agents, types, stubs);
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // A system that refuses leaves the limit as it was, and that is looked at next.
    let _ = setrlimit(Resource::Nofile, raised);
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < needed => Err(DescriptorsError { needed, allowed }),
        _ => Ok(()),
    }
}

fn needed(agents: usize, types: usize, stubs: usize) -> u64 {
    let [agents, types, stubs] = [agents, types, stubs].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
    let per_agent = PER_AGENT.saturating_add(types);
    BASE.saturating_add(agents.saturating_mul(per_agent)).saturating_add(stubs.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_a_topology_beyond_it_is_refused_with_numbers() {
        ensure(1, 1, 1).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        let Some(allowed) = limit.current else { return println!("SKIPPED the rest: no limit here") };
        let too_many = usize::try_from(allowed).unwrap();
        let error = ensure(too_many, 1, 1).unwrap_err();
        assert_eq!(error, DescriptorsError { needed: needed(too_many, 1, 1), allowed });
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        assert_eq!(needed(usize::MAX, usize::MAX, usize::MAX), u64::MAX);
    }
}
