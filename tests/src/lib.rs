//! Whole-system tests with the shipped binaries.
