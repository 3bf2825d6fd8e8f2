//! Calls the local agent and, with feature manager, a registry manager.
