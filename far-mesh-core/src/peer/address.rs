//! Which addresses make sense for whom. Nodes report what they listen on; much of that leads nowhere from elsewhere.

use std::net::{IpAddr, SocketAddr};

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::id::NodeId;

/// Whether `addr` is a way to `peer`: an IP or name, TCP or QUIC, and nobody else's identity at the end; or that of a relay,
/// with its identity, and a circuit from there.
pub(super) fn dialable(addr: &Multiaddr, peer: &NodeId) -> bool {
    let mut parts = addr.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_multicast(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    };
    let port = match parts.next() {
        Some(Protocol::Tcp(port)) => port != 0,
        Some(Protocol::Udp(port)) => port != 0 && parts.next() == Some(Protocol::QuicV1),
        _ => false,
    };
    let owner = match (parts.next(), parts.next()) {
        (None, _) => true,
        (Some(Protocol::P2p(id)), None) => id == *peer,
        (Some(Protocol::P2p(relay)), Some(Protocol::P2pCircuit)) => {
            let end = parts.next();
            relay != *peer && end.is_none_or(|end| end == Protocol::P2p(*peer)) && parts.next().is_none()
        }
        _ => false,
    };
    host && port && owner
}

/// How far an address is meant to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// This machine.
    Machine,
    /// The network this machine is in.
    Network,
    /// Anywhere. A name may turn out to be nearer; who dials it gets no further than a handshake.
    World,
}

/// How far `addr` is meant to lead.
pub(super) fn scope(addr: &Multiaddr) -> Scope {
    let Some(ip) = ip(addr) else { return Scope::World };
    let near = match ip {
        // 100.64.0.0/10 is shared by the customers of a carrier (RFC 6598), and by overlay networks.
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match ip.is_loopback() {
        true => Scope::Machine,
        false if near => Scope::Network,
        false => Scope::World,
    }
}

/// The IP address it begins with.
pub(super) fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// Whether the address leads to the machine it is used on.
pub(super) fn is_loopback(addr: &Multiaddr) -> bool {
    match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// Whether the address leads through a relay.
pub(super) fn is_circuit(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether the address needs UDP, which a mesh key cannot wrap.
pub(super) fn is_quic(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::Udp(_)))
}

/// The socket of a TCP address whose port is not left to the system.
pub(super) fn fixed_tcp_port(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if port != 0 => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The identity at the end, if there is one.
pub(super) fn peer_of(addr: &Multiaddr) -> Option<NodeId> {
    match addr.iter().last() {
        Some(Protocol::P2p(id)) => Some(id),
        _ => None,
    }
}

/// The address without an identity at its end.
pub(super) fn without_peer(addr: &Multiaddr) -> Multiaddr {
    let mut addr = addr.clone();
    if peer_of(&addr).is_some() {
        addr.pop();
    }
    addr
}

/// The address with the identity of `peer` at its end.
pub(super) fn with_peer(addr: &Multiaddr, peer: NodeId) -> Multiaddr {
    without_peer(addr).with(Protocol::P2p(peer))
}

/// The most useful of a node's own addresses for an advert: loopback only where there is nothing else.
pub(super) fn worth_advertising<'a>(
    addrs: impl Iterator<Item = &'a Multiaddr> + Clone,
    own: &NodeId,
    limit: usize,
) -> Vec<Multiaddr> {
    let usable = addrs.filter(|addr| dialable(addr, own));
    let far = usable.clone().filter(|addr| !is_loopback(addr)).map(without_peer).take(limit).collect::<Vec<_>>();
    if far.is_empty() { usable.map(without_peer).take(limit).collect() } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_of_the_peer_itself_are_dialed() {
        let (peer, other) = (NodeId::random(), NodeId::random());
        let check = |text: &str| dialable(&text.parse().unwrap(), &peer);
        for good in [
            "/ip4/127.0.0.1/tcp/1".to_owned(),
            "/ip6/::1/udp/9/quic-v1".to_owned(),
            format!("/dns4/far.example/tcp/31337/p2p/{peer}"),
            format!("/ip4/10.0.0.1/udp/9/quic-v1/p2p/{other}/p2p-circuit"),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{other}/p2p-circuit/p2p/{peer}"),
        ] {
            assert!(check(&good), "{good}");
        }
        for bad in [
            "/ip4/0.0.0.0/tcp/1".to_owned(),
            "/ip4/10.0.0.1/tcp/0".to_owned(),
            "/ip4/10.0.0.1/udp/5".to_owned(),
            "/memory/1".to_owned(),
            "/ip4/10.0.0.1".to_owned(),
            "/ip4/10.0.0.1/tcp/1/ws".to_owned(),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{other}"),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit"),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{other}/p2p-circuit/p2p/{other}"),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{other}/p2p-circuit/p2p/{peer}/p2p-circuit"),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{other}/p2p-circuit/ip4/10.0.0.2/tcp/2"),
            "/ip4/10.0.0.1/tcp/1/p2p-circuit".to_owned(),
            format!("/p2p/{other}/p2p-circuit"),
        ] {
            assert!(!check(&bad), "{bad}");
        }
    }

    #[test]
    fn addresses_lead_as_far_as_their_ranges_say() {
        let check = |texts: &[&str], want| {
            texts.iter().for_each(|text| assert_eq!(scope(&text.parse().unwrap()), want, "{text}"));
        };
        check(&["/ip4/127.0.0.2/tcp/1", "/ip6/::1/tcp/1", "/ip6/::ffff:127.0.0.1/tcp/1"], Scope::Machine);
        check(
            &[
                "/ip4/10.1.2.3/tcp/1",
                "/ip4/192.168.0.1/udp/1/quic-v1",
                "/ip4/169.254.169.254/tcp/80",
                "/ip4/100.100.0.1/tcp/1",
                "/ip6/fd00::1/tcp/1",
                "/ip6/fe80::1/tcp/1",
                "/ip6/::ffff:10.0.0.1/tcp/1",
            ],
            Scope::Network,
        );
        check(
            &["/ip4/100.128.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1", "/ip6/2001:db8::1/tcp/1", "/dns4/a.b/tcp/1"],
            Scope::World,
        );
    }

    #[test]
    fn loopback_is_advertised_only_when_there_is_nothing_else() {
        let own = NodeId::random();
        let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let lan: Multiaddr = "/ip4/192.168.1.5/tcp/1".parse().unwrap();
        assert_eq!(worth_advertising([&loopback, &lan].into_iter(), &own, 8), [lan]);
        assert_eq!(worth_advertising([&with_peer(&loopback, own)].into_iter(), &own, 8), [loopback]);
    }
}
