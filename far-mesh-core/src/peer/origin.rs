//! Where peers come from, coarsely: identities cost nothing, networks do.

use std::net::IpAddr;

use libp2p::Multiaddr;

use super::address::{self, Scope};

/// A network of the open internet: 256 addresses of IPv4, or the prefix that one site of IPv6 gets. All who come through
/// relays count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Origin {
    V4([u8; 3]),
    V6([u8; 6]),
    Relayed,
    /// Neither an address nor a relay.
    Unknown,
}

/// Where who is at `remote` comes from; `None` for this machine and its network, whose owner can be asked.
pub(super) fn origin(remote: &Multiaddr) -> Option<Origin> {
    if address::is_circuit(remote) {
        return Some(Origin::Relayed);
    }
    if address::scope(remote) < Scope::World {
        return None;
    }
    Some(match address::ip(remote) {
        Some(IpAddr::V4(ip)) => {
            let [a, b, c, _] = ip.octets();
            Origin::V4([a, b, c])
        }
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            Origin::V6([a, b, c, d, e, f])
        }
        None => Origin::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_on_the_internet_are_of_one_origin() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("/ip4/8.8.8.8/tcp/1"), of("/ip4/8.8.8.200/udp/9/quic-v1"));
        assert_ne!(of("/ip4/8.8.8.8/tcp/1"), of("/ip4/8.8.9.8/tcp/1"));
        assert_eq!(of("/ip6/2001:db8:1::1/tcp/1"), of("/ip6/2001:db8:1:9::1/tcp/1"));
        assert_eq!(of("/ip6/::ffff:8.8.8.8/tcp/1"), of("/ip4/8.8.8.8/tcp/1"));
        for near in ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.7.7/tcp/1", "/ip6/fe80::1/tcp/1"] {
            assert_eq!(of(near), None, "{near}");
        }
        let peer = crate::id::NodeId::random();
        assert_eq!(of(&format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit")), Some(Origin::Relayed));
    }
}
