//! Reads topology files, with line and column in every error, and writes them in canonical order.
