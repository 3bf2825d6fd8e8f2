//! Keys and roots in the form the TLS library wants, and the configurations made of them.

use crate::verify::{ClientVerifier, ServerVerifier};
use echelon_core::name::FrameworkName;
use echelon_identity::{Credentials, TrustBundle};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ConfigBuilder, ConfigSide, RootCertStore, WantsVerifier};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::sync::{Arc, LazyLock};

/// The protocol's name in the handshake (ALPN, RFC 7301); the number rises when frames change.
const ALPN: &[u8] = b"echelon/1";

/// The one source of cryptography; the process-wide default is never asked.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    &PROVIDER
}

/// Who this endpoint is and whom it trusts. Replaced whole when either changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Material {
    pub(crate) identity: Option<Arc<CertifiedKey>>,
    pub(crate) trust: Option<Trust>,
}

/// The roots, in the two forms the library wants.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) framework: FrameworkName,
    pub(crate) roots: Arc<RootCertStore>,
    clients: Arc<ClientVerifier>,
}

impl Trust {
    pub(crate) fn new(bundle: &TrustBundle) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for root in bundle.roots() {
            roots.add(CertificateDer::from(root.clone()))?;
        }
        let roots = Arc::new(roots);
        let chains = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider().clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let framework = bundle.framework().clone();
        let clients = Arc::new(ClientVerifier::new(chains, framework.clone()));
        Ok(Self { framework, roots, clients })
    }
}

/// A key and its chain, the root included: whoever enrols finds the pinned root in it.
pub(crate) fn certified_key(credentials: &Credentials) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = PrivatePkcs8KeyDer::from(credentials.key().expose_pkcs8().to_vec());
    let key = provider().key_provider.load_private_key(key.into())?;
    let chain = credentials.chain().certificates().iter().cloned().map(CertificateDer::from).collect();
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// What a server shows and asks for.
pub(crate) fn server(identity: Arc<CertifiedKey>, trust: &Trust) -> ServerConfig {
    let mut config = tls13(ServerConfig::builder_with_provider(provider().clone()))
        .with_client_cert_verifier(trust.clients.clone())
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // No resumption: every handshake shows a certificate, so that a denial is never stepped over.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// What a client shows and asks for.
pub(crate) fn client(identity: Option<Arc<CertifiedKey>>, verifier: ServerVerifier) -> ClientConfig {
    let builder = tls13(ClientConfig::builder_with_provider(provider().clone()))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config
}

fn tls13<S: ConfigSide>(builder: ConfigBuilder<S, rustls::WantsVersions>) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_protocol_versions(&[&TLS13]).expect("ring has cipher suites for TLS 1.3")
}
