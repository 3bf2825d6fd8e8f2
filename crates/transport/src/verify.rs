//! Whether to believe a certificate.

use crate::connect::Distrust;
use crate::tls::provider;
use echelon_core::id::HostId;
use echelon_core::limits::RENEW_GRACE;
use echelon_core::name::FrameworkName;
use echelon_identity::chain::MAX_CHAIN;
use echelon_identity::trust::{framework_of_root, root_hash};
use echelon_identity::{PeerIdentity, Spiffe};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a server's certificate must be.
#[derive(Clone, Debug)]
pub(crate) enum Expectation {
    /// A manager of this framework under these roots; this very one, if named.
    Manager { roots: Arc<RootCertStore>, framework: FrameworkName, id: Option<HostId> },
    /// A manager whose chain ends in the root with this hash.
    Pinned([u8; 32]),
}

/// Judges one server's certificate and remembers what was wrong with it. One for each connection.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    expectation: Expectation,
    distrust: Arc<OnceLock<Distrust>>,
}

impl ServerVerifier {
    /// The verifier, and where it will say why it did not believe.
    pub(crate) fn new(expectation: Expectation) -> (Self, Arc<OnceLock<Distrust>>) {
        let distrust = Arc::new(OnceLock::new());
        (Self { expectation, distrust: distrust.clone() }, distrust)
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Distrust> {
        if others.len() >= MAX_CHAIN {
            return Err(Distrust::Unreadable);
        }
        match &self.expectation {
            Expectation::Manager { roots, framework, id } => {
                is_signed(leaf, others, roots, now)?;
                is_manager(leaf, framework, *id)
            }
            Expectation::Pinned(pin) => {
                let root = others.iter().find(|c| root_hash(c) == *pin).ok_or(Distrust::Pin)?;
                let mut roots = RootCertStore::empty();
                roots.add(root.clone().into_owned()).map_err(|_| Distrust::Unreadable)?;
                let framework = framework_of_root(root).map_err(|_| Distrust::Unreadable)?;
                is_signed(leaf, others, &roots, now)?;
                is_manager(leaf, &framework, None)
            }
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.judge(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(distrust) => {
                let error = distrust.to_tls();
                // The first reason stays; there is one handshake for each verifier.
                let _ = self.distrust.set(distrust);
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Judges clients' certificates: none is fine, one that is shown must be of this framework and hold.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    /// The library's own verifier of chains.
    chains: Arc<dyn ClientCertVerifier>,
    framework: FrameworkName,
}

impl ClientVerifier {
    pub(crate) fn new(chains: Arc<dyn ClientCertVerifier>, framework: FrameworkName) -> Self {
        Self { chains, framework }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(CertificateError::BadEncoding.into());
        }
        let peer = PeerIdentity::from_certificate(end_entity);
        let at = peer.as_ref().map_or(now, |peer| judged_at(peer, now));
        let verified = self.chains.verify_client_cert(end_entity, intermediates, at)?;
        match peer {
            Ok(peer) if peer.framework == self.framework => Ok(verified),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// The time at which a client's chain is judged: now; for a host's certificate that expired not too long ago its last
/// second, since it may still be renewed. Whoever lets it in sees that it has expired, and lets it do nothing else.
fn judged_at(peer: &PeerIdentity, now: UnixTime) -> UnixTime {
    let last = Duration::from_millis(peer.not_after.0);
    let ago = Duration::from_secs(now.as_secs()).saturating_sub(last);
    match &peer.subject {
        Spiffe::Host(_) if !ago.is_zero() && ago <= RENEW_GRACE => UnixTime::since_unix_epoch(last),
        _ => now,
    }
}

/// Whether the chain holds, for a server, at this time. Names are not looked at.
fn is_signed(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Distrust> {
    let algorithms = provider().signature_verification_algorithms.all;
    ParsedCertificate::try_from(leaf)
        .and_then(|leaf| verify_server_cert_signed_by_trust_anchor(&leaf, roots, others, now, algorithms))
        .map_err(|error| Distrust::of_chain(&error))
}

fn is_manager(
    leaf: &CertificateDer<'_>,
    framework: &FrameworkName,
    expected: Option<HostId>,
) -> Result<(), Distrust> {
    let peer = PeerIdentity::from_certificate(leaf).map_err(|_| Distrust::Unreadable)?;
    if peer.framework != *framework {
        return Err(Distrust::Framework { found: peer.framework });
    }
    match (peer.subject, expected) {
        (Spiffe::Manager(found), Some(expected)) if found != expected => {
            Err(Distrust::OtherManager { expected, found })
        }
        (Spiffe::Manager(_), _) => Ok(()),
        (Spiffe::Host(_) | Spiffe::Console(_), _) => Err(Distrust::NotManager),
    }
}
