//! The Hosts console, as the command echelon.
