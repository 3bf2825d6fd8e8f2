//! Direct hand-over: a program says a type and gets a connected descriptor, so that its data never passes
//! through the agent.
//!
//! On `direct.sock` the program sends `TYPE\n` and gets one line of JSON. With `{"host","endpoint"}` comes
//! exactly one descriptor (`SCM_RIGHTS`): a TCP socket connected to that manager, blocking, `TCP_NODELAY` set. With
//! `{"error","message","retry"}` comes none. Then it may ask again.

mod answer;
mod request;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use server::Direct;
pub use server::DirectStatus;
