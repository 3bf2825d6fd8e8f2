//! Registry managers that belong together, as processes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod pair;
mod promotion;
mod standby;
