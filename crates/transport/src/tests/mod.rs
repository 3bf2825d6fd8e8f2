//! Real handshakes and real frames on the loopback interface.

mod channels;
mod closing;
mod handshakes;
mod support;
