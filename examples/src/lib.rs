//! Runnable stories and topologies.
