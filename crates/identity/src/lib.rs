//! Makes and reads identities: the authority, join tokens, certificates.
//!
//! An identity is a key and a certificate chain ([`Credentials`]). The certificate names its holder by a
//! SPIFFE URI ([`SpiffeId`]) and an enrolment number; addresses and host names play no part. Chains are
//! `leaf, issuer, root`: the root ([`Authority`]) signs one [`Issuer`] for each registry manager, and
//! issuers sign everybody's leaf certificates.
//!
//! Nothing here does network I/O or reads the clock; time is handed in.

pub mod authority;
pub mod chain;
pub mod credentials;
pub mod directory;
pub mod file;
pub mod issuer;
pub mod key;
pub mod lifetime;
pub mod peer;
pub mod proof;
pub mod request;
pub mod sealed;
mod sign;
pub mod spiffe;
pub mod token;
pub mod trust;

pub use authority::Authority;
pub use chain::CertificateChain;
pub use credentials::Credentials;
pub use directory::IdentityDirectory;
pub use issuer::{Issuer, Leaf};
pub use key::{KeyPair, PublicKey};
pub use peer::PeerIdentity;
pub use proof::check_chain;
pub use request::CertificateRequest;
pub use sign::IssueError;
pub use spiffe::{Spiffe, SpiffeId};
pub use token::{JoinToken, TokenSecret};
pub use trust::TrustBundle;
