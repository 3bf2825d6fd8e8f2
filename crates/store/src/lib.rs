//! Keeps registry, journal and replica in SQLite.
