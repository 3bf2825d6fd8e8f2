//! The settings of the QUIC library, every one of which that bounds something set here.

use crate::limits;
use crate::settings::Settings;
use crate::tls;
use crate::verify::ServerVerifier;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, ValidationTokenConfig,
    VarInt,
};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// Longest idle time that can be set: beyond a day nothing is gained, and the protocol's field is bounded.
const MAX_IDLE: Duration = Duration::from_secs(24 * 3600);

/// A server that does not know its clients yet: what it grants them is what anybody gets.
pub(crate) fn server(identity: Arc<CertifiedKey>, trust: &tls::Trust, settings: &Settings) -> ServerConfig {
    let crypto =
        QuicServerConfig::try_from(tls::server(identity, trust)).expect("ring has QUIC's initial suite");
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport(settings);
    transport
        .max_concurrent_bidi_streams(limits::CHANNELS_FROM_ANONYMOUS.into())
        .max_concurrent_uni_streams(0_u8.into())
        .receive_window(limits::ANONYMOUS_WINDOW.into());
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(Arc::new(transport))
        .validation_token_config(tokens)
        .max_incoming(limits::MAX_WAITING)
        .incoming_buffer_size(limits::INCOMING_BUFFER)
        .incoming_buffer_size_total(limits::INCOMING_BUFFER_TOTAL);
    config
}

/// The same server with another certificate or other roots. Everything else stays, the key among it with
/// which clients prove their addresses.
pub(crate) fn replace_crypto(
    config: &ServerConfig,
    identity: Arc<CertifiedKey>,
    trust: &tls::Trust,
) -> ServerConfig {
    let crypto =
        QuicServerConfig::try_from(tls::server(identity, trust)).expect("ring has QUIC's initial suite");
    let mut config = config.clone();
    config.crypto = Arc::new(crypto);
    config
}

/// A client for one connection.
pub(crate) fn client(
    identity: Option<Arc<CertifiedKey>>,
    verifier: ServerVerifier,
    settings: &Settings,
) -> ClientConfig {
    let crypto =
        QuicClientConfig::try_from(tls::client(identity, verifier)).expect("ring has QUIC's initial suite");
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(settings);
    transport
        .max_concurrent_bidi_streams(limits::CHANNELS_FROM_SERVER.into())
        // One, for the server's welcome.
        .max_concurrent_uni_streams(1_u8.into())
        .receive_window(limits::CONNECTION_WINDOW.into())
        .keep_alive_interval(settings.keep_alive);
    config.transport_config(Arc::new(transport));
    config
}

/// Gives a peer that is known by now what known peers get.
pub(crate) fn raise_limits(connection: &quinn::Connection) {
    connection.set_receive_window(limits::CONNECTION_WINDOW.into());
    connection.set_max_concurrent_bi_streams(limits::CHANNELS_FROM_CLIENT.into());
}

fn transport(settings: &Settings) -> TransportConfig {
    let millis = u32::try_from(settings.idle.min(MAX_IDLE).as_millis()).unwrap_or(u32::MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(millis))))
        .stream_receive_window(limits::STREAM_WINDOW.into())
        .send_window(limits::SEND_WINDOW)
        .crypto_buffer_size(limits::CRYPTO_BUFFER)
        .initial_rtt(limits::INITIAL_RTT)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .enable_segmentation_offload(settings.segmentation)
        .mtu_discovery_config(settings.mtu_discovery.then(MtuDiscoveryConfig::default))
        .allow_spin(false);
    transport
}
