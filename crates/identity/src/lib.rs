//! Makes and reads identities: the authority, join tokens, certificates.
