//! Gives every process its configuration, logs, counted tasks, shutdown and exit codes.
