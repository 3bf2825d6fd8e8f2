//! Moves frames between hosts over mutual TLS.
