//! Carries core's messages as bounded, versioned bytes, and back.
