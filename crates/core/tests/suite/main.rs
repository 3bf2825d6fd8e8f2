//! What `echelon-core` promises, from outside: routing.md's rules, and invariants over whole histories.
#![allow(clippy::unwrap_used)] // These are tests; clippy only sees that of functions marked as such.

mod announcing;
mod board;
mod boards;
mod choice_reference;
mod commits;
mod drains;
mod edits;
mod enrolment;
mod failback;
mod hearsay;
mod managers;
mod moves;
mod names;
mod order_reference;
mod order_rules;
mod penalties;
mod rendezvous;
mod repeats;
mod replication;
mod requests;
mod rig;
mod roles;
mod router_follow;
mod router_properties;
mod support;
mod witness;
mod worked_example;
