//! Stores the hierarchy and its packages and pushes replicas to every agent.
