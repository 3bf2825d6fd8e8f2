//! Decides: hierarchy, registry, changes, the order of candidates and the choice among them.
//!
//! Everything here is deterministic: no async, no I/O, no clock, no randomness, no environment, no
//! logging. Time and random bits are handed in, effects leave as values, maps are ordered, so that a run
//! can be recorded, replayed and simulated.

pub mod access;
pub mod actual;
pub mod alarm;
pub mod announce;
pub mod announcements;
pub mod backup;
pub mod board;
pub mod change;
pub mod check;
pub mod choice;
pub mod describe;
pub mod digest;
pub mod duration;
pub mod edit;
pub mod endpoint;
pub mod event;
pub mod evidence;
pub mod fencing;
pub mod grant;
mod hashing;
mod hearsay;
pub mod hedge;
pub mod hierarchy;
pub mod id;
pub mod isolation;
pub mod issuer;
pub mod limits;
pub mod member;
pub mod message;
pub mod moves;
pub mod name;
pub mod names;
pub mod order;
pub mod package;
pub mod passphrase;
mod penalty;
pub mod policy;
pub mod position;
pub mod probe;
pub mod project;
pub mod promotion;
pub mod refusal;
pub mod registry;
pub mod repeat;
pub mod replication;
pub mod report;
mod roster;
pub mod route;
pub mod router;
pub mod row;
pub mod serving;
pub mod setting;
pub mod settled;
pub mod signed_mark;
mod spread;
pub mod survey;
mod tiers;
pub mod time;
mod track;
pub mod view;
pub mod witness;
