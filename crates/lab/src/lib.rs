//! Runs a whole topology on one machine: a real manager, real agents, stub managers.
