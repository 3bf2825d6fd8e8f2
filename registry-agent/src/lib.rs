//! Routes one host's callers to the nearest live manager, with or without a registry.
