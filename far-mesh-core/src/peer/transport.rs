//! How bytes travel: TCP with noise and yamux, inside the mesh key where there is one, and QUIC where there is none. A
//! circuit through a relay is a connection of its own, with its own noise: the relay sees neither whose bytes nor which.

use std::time::Duration;

use futures::future::Either;
use libp2p::{
    PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, dummy::DummyTransport},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    noise,
    pnet::{PnetConfig, PreSharedKey},
    quic, relay, tcp, yamux,
};

use super::config::{DIAL_DEADLINE, MAX_STREAMS_PER_CONNECTION};

/// Bytes of one QUIC stream that may be under way: 100 ms at 1.3 Gbit/s, and four prefill chunks of a 4096-wide model.
const QUIC_STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes of one QUIC connection that may be under way: four streams at full speed.
const QUIC_CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// Silence after which a QUIC connection is dead. Hop deadlines find a failure first; this only clears up behind them,
/// and is long enough for a machine whose cores are all computing.
const QUIC_IDLE: Duration = Duration::from_secs(4);

/// Sign of life on a silent QUIC connection: four may be lost.
const QUIC_KEEP_ALIVE: Duration = Duration::from_millis(900);

/// The transports of a node; `circuits` are those of the relay client.
pub(super) fn build(
    key: &Keypair,
    psk: Option<PreSharedKey>,
    circuits: relay::client::Transport,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer())
        .timeout(DIAL_DEADLINE)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    // First: TCP would take the address of a relay for that of the node behind it.
    Ok(circuits.or_transport(direct(key, psk)?).map(|either, _| either.into_inner()).boxed())
}

fn muxer() -> yamux::Config {
    let mut muxer = yamux::Config::default();
    // Windows need no number here: yamux grows each stream's to the bandwidth-delay product.
    muxer.set_max_num_streams(MAX_STREAMS_PER_CONNECTION as usize);
    muxer
}

fn direct(key: &Keypair, psk: Option<PreSharedKey>) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .and_then(move |socket, _| async move {
            match psk {
                Some(psk) => PnetConfig::new(psk).handshake(socket).await.map(Either::Left),
                None => Ok(Either::Right(socket)),
            }
        })
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer())
        .timeout(DIAL_DEADLINE)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let transport = match psk {
        Some(_) => tcp.boxed(),
        None => {
            let mut config = quic::Config::new(key);
            config.handshake_timeout = DIAL_DEADLINE;
            config.max_idle_timeout = QUIC_IDLE.as_millis() as u32;
            config.keep_alive_interval = QUIC_KEEP_ALIVE;
            config.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
            config.max_connection_data = QUIC_CONNECTION_WINDOW_BYTES;
            config.max_concurrent_stream_limit = MAX_STREAMS_PER_CONNECTION;
            let quic = quic::tokio::Transport::new(config)
                .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
            tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed()
        }
    };
    Ok(with_names(transport))
}

/// Lets `/dns4/...` addresses be dialed, by the system's resolver or, where its configuration cannot be read, not at all.
fn with_names(transport: Boxed<(PeerId, StreamMuxerBox)>) -> Boxed<(PeerId, StreamMuxerBox)> {
    // Building consumes the transport even where it fails, so a dummy goes first.
    match dns::tokio::Transport::system(DummyTransport::<(PeerId, StreamMuxerBox)>::new()) {
        Ok(_) => match dns::tokio::Transport::system(transport) {
            Ok(named) => named.boxed(),
            Err(_) => DummyTransport::new().boxed(),
        },
        Err(error) => {
            tracing::warn!(%error, "no usable DNS configuration on this machine: /dns addresses cannot be dialed");
            transport
        }
    }
}
