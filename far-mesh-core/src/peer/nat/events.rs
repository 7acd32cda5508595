//! What the event loop does about NATs.

use std::time::Instant;

use libp2p::{Multiaddr, autonat, core::transport::ListenerId, dcutr, identify, kad, relay, upnp};

use crate::{
    id::NodeId,
    peer::{
        address,
        event_loop::EventLoop,
        nat::{RelayRole, Way},
    },
};

impl EventLoop {
    /// Asks relays for places where some are needed.
    pub(in crate::peer) fn seek_relays(&mut self, now: Instant) {
        for (peer, circuit) in self.traversal.due(now) {
            let listener = self.swarm.listen_on(circuit.clone());
            if let Err(error) = &listener {
                tracing::debug!(%circuit, %error, "a relay cannot be asked");
            }
            self.traversal.asked(peer, listener.ok(), now);
        }
    }

    /// What a peer says of us and of itself.
    pub(in crate::peer) fn on_neighbour(&mut self, peer: NodeId, info: &identify::Info, now: Instant) {
        // Whom we dialed we chose ourselves; who dials us could want us to believe anything.
        let Some(dialed) = self.links.dialed(&peer).into_iter().find(|addr| !address::is_circuit(addr)) else { return };
        if !address::is_circuit(&info.observed_addr) {
            self.traversal.observed(&info.observed_addr, &self.links.listen_addrs());
        }
        if info.protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            self.traversal.relay(peer, address::without_peer(&dialed), now);
        }
        self.reach_changed();
        self.seek_relays(now);
    }

    pub(in crate::peer) fn on_probe(&mut self, probe: &autonat::v2::client::Event) {
        match &probe.result {
            Ok(()) => tracing::debug!(addr = %probe.tested_addr, server = %probe.server, "reached from outside"),
            Err(error) => {
                tracing::debug!(addr = %probe.tested_addr, server = %probe.server, %error, "not reached from outside");
                self.traversal.refuted(&probe.tested_addr);
            }
        }
        self.reach_changed();
    }

    pub(in crate::peer) fn on_external(&mut self, addr: Multiaddr) {
        self.traversal.confirmed(addr);
        self.reach_changed();
    }

    pub(in crate::peer) fn on_external_gone(&mut self, addr: &Multiaddr) {
        self.traversal.expired(addr);
        self.reach_changed();
    }

    pub(in crate::peer) fn on_relay_client(&mut self, event: relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } = event
            && self.traversal.held(relay_peer_id)
        {
            tracing::info!(relay = %relay_peer_id, "behind a NAT: reached through a relay");
            self.reach_changed();
        }
    }

    /// A direct connection came up beside a relayed one, whoever dialed it: both sides do, and one of them is first.
    pub(in crate::peer) fn on_improved(&mut self, peer: NodeId) {
        tracing::info!(%peer, "through the NAT: connected without the relay");
        self.traversal.punched(true);
        self.reach_changed();
    }

    pub(in crate::peer) fn on_punch(&mut self, event: &dcutr::Event) {
        let peer = event.remote_peer_id;
        if let Err(error) = &event.result
            && self.links.way(&peer) != Some(Way::Direct)
        {
            tracing::info!(%peer, %error, "no way through the NAT: relayed");
            self.traversal.punched(false);
            self.reach_changed();
        }
    }

    pub(in crate::peer) fn on_router(&mut self, event: &upnp::Event) {
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                tracing::info!(addr = %external_addr, "the router opened a port");
            }
            upnp::Event::NonRoutableGateway => tracing::info!("the router is behind a NAT itself: it can open no port"),
            other => tracing::debug!(?other, "router"),
        }
    }

    pub(in crate::peer) fn on_listener_closed(&mut self, listener: ListenerId, now: Instant) {
        if self.traversal.closed(listener, now) {
            tracing::info!("a relay is gone");
            self.reach_changed();
        }
    }

    /// Everything that follows from how this node is reached.
    pub(in crate::peer) fn reach_changed(&mut self) {
        let hidden = self.traversal.is_hidden();
        if hidden != self.hidden {
            self.hidden = hidden;
            // Others would wait in vain for a node of the DHT that they cannot dial.
            let mode = if hidden { kad::Mode::Client } else { kad::Mode::Server };
            self.swarm.behaviour_mut().kad.set_mode(Some(mode));
        }
        if self.relay == RelayRole::Auto && self.traversal.is_public() && !self.relaying {
            self.relaying = true;
            tracing::info!("the world reaches this node: it relays for those behind a NAT");
            self.swarm.behaviour_mut().relay.set_status(Some(relay::Status::Enable));
        }
        let addrs = self.own_addrs();
        let own = *self.swarm.local_peer_id();
        let full = addrs.iter().map(|addr| address::with_peer(addr, own)).collect();
        if self.links.reached(self.traversal.reachability(), full) {
            self.announcer.readdress(&addrs, Instant::now());
        }
    }
}
