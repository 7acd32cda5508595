//! The task that owns the swarm.
//!
//! ```text
//! Node (handles) --Command--> EventLoop --> Swarm<Behaviour> --> sockets
//!                <--replies--     |    <-- SwarmEvent
//!                                 +-- Bootstrap, Announcer, Quota, Traversal (pure), Lookups, Routing, Publisher, Dialer
//! ```
//!
//! Invariant: nothing here waits for anything but the next command, swarm event or due time, so no peer can hold up
//! another. Signatures of what others announce are checked here, at most as many as [`Quota`] lets through.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm,
    core::ConnectedPoint,
    identify, kad, ping,
    swarm::{ConnectionId, DialError, ListenError, SwarmEvent},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    address::{self, Scope},
    advert::MAX_ADDRS,
    announce::Announcer,
    behaviour::{AGENT, Behaviour, BehaviourEvent, IDENTIFY_VERSION, KAD},
    bootstrap::{Bootstrap, Progress},
    command::Command,
    dialer::{self, Dialer},
    links::Links,
    lookup::Lookups,
    members::{Members, NotAMember},
    nat::{RelayRole, Traversal},
    publish::{Publisher, Reach},
    quota::{Pace, Quota, Verdict},
    routing::Routing,
};
use crate::id::{ModelHash, NodeId};

/// How often expired adverts and full buckets are thrown away.
const SWEEP: Duration = Duration::from_secs(30);

/// How long a node that shuts down spends at most on telling the others.
const FAREWELL: Duration = Duration::from_secs(1);

/// Characters of a stranger's words in the log.
const MAX_QUOTED: usize = 64;

/// Addresses of one peer that are fed into Kademlia; a liar could send thousands.
const MAX_PEER_ADDRS: usize = 16;

pub(super) struct EventLoop {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) links: Arc<Links>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) bootstrap: Bootstrap,
    pub(super) announcer: Announcer,
    pub(super) publisher: Publisher,
    pub(super) dialer: Dialer,
    pub(super) quota: Quota,
    /// Refusals that are worth a line in the log; a flood of strangers is not.
    pub(super) refusals: Pace,
    pub(super) lookups: Lookups,
    pub(super) routing: Routing,
    pub(super) traversal: Traversal,
    /// Whether this node leaves the DHT's routing to others, since they cannot dial it.
    pub(super) hidden: bool,
    pub(super) relay: RelayRole,
    pub(super) relaying: bool,
    pub(super) external: Vec<Multiaddr>,
    pub(super) private: bool,
    /// How near the mesh is that this node was told to join.
    pub(super) nearest: Scope,
    pub(super) next_sweep: Instant,
    /// What happened while the listen addresses were bound.
    pub(super) early: Vec<SwarmEvent<BehaviourEvent>>,
}

impl EventLoop {
    /// Runs until told to shut down or every handle is gone, then says goodbye.
    pub(super) async fn run(mut self) {
        for event in std::mem::take(&mut self.early) {
            self.on_event(event);
        }
        self.reach_changed();
        loop {
            let due = [
                self.bootstrap.next_due(),
                self.announcer.next_due(),
                self.lookups.next_due(),
                self.traversal.next_due(),
            ];
            let due = due.into_iter().flatten().fold(self.next_sweep, Instant::min);
            tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.on_command(command),
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = tokio::time::sleep_until(due.into()) => {}
            }
            self.on_time(Instant::now());
        }
        // Handles learn at once that nobody answers any more.
        self.commands.close();
        self.lookups.clear();
        self.dialer = Dialer::default();
        if tokio::time::timeout(FAREWELL, self.farewell()).await.is_err() {
            tracing::debug!("not everybody could be told that this node leaves");
        }
    }

    /// Withdraws all adverts, then closes all connections.
    async fn farewell(&mut self) {
        let models = self.announcer.models();
        self.withdraw(&models, None);
        while !self.publisher.is_idle() {
            let event = self.swarm.select_next_some().await;
            self.on_event(event);
        }
        for peer in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        while self.swarm.network_info().num_peers() > 0 {
            self.swarm.select_next_some().await;
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { addr, reply } => self.dialer.dial(&mut self.swarm, addr, reply),
            Command::OpenStream { peer, addrs, protocol, reply } => {
                let addrs =
                    addrs.into_iter().filter(|addr| self.usable(addr, &peer) && self.may_dial(addr, &peer)).collect();
                self.dialer.open(&mut self.swarm, peer, addrs, protocol, reply);
            }
            Command::Find { key, found } => {
                let kad = &mut self.swarm.behaviour_mut().kad;
                self.lookups.start(kad, key, found, Instant::now());
            }
            Command::Announce { offer, reply, placed } => {
                let model = offer.model;
                let sealed = self.announcer.offer(*offer, self.own_addrs(), Instant::now());
                let _ = reply.send(sealed.map(|records| {
                    self.publisher.publish(&mut self.swarm, vec![model], records, Reach::Urgent, Some(placed));
                }));
            }
            Command::Withdraw { model, told } => {
                let models = model.map_or_else(|| self.announcer.models(), |model| vec![model]);
                self.withdraw(&models, Some(told));
            }
            // An error means that it hung up itself.
            Command::HangUp { peer } => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Members(members) => self.on_members(members),
            Command::Shutdown => {}
        }
    }

    /// A new member list: who is on it no longer is disconnected.
    fn on_members(&mut self, members: Members) {
        self.swarm.behaviour_mut().gate.replace(members);
        for peer in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
            if !self.swarm.behaviour().gate.admits(&peer) {
                tracing::info!(%peer, "disconnected: it is no longer on the member list");
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
    }

    fn withdraw(&mut self, models: &[ModelHash], told: Option<oneshot::Sender<usize>>) {
        let records = models.iter().filter_map(|model| self.announcer.withdraw(*model)).flatten().collect();
        self.publisher.publish(&mut self.swarm, models.to_vec(), records, Reach::Urgent, told);
    }

    fn on_time(&mut self, now: Instant) {
        for (index, addr) in self.bootstrap.due(now) {
            self.dial_bootstrap(index, addr, now);
        }
        for (model, records, reach) in self.announcer.due(now) {
            self.publisher.publish(&mut self.swarm, vec![model], records, reach, None);
        }
        self.lookups.check(&mut self.swarm.behaviour_mut().kad, now);
        self.seek_relays(now);
        if now >= self.next_sweep {
            self.swarm.behaviour_mut().kad.store_mut().sweep();
            self.quota.sweep(now);
            self.dialer.sweep();
            self.next_sweep = now + SWEEP;
        }
    }

    fn dial_bootstrap(&mut self, index: usize, addr: Multiaddr, now: Instant) {
        if let Some(peer) = address::peer_of(&addr) {
            // Known before it answers, so that the first announcement waits for it instead of failing.
            let kad = &mut self.swarm.behaviour_mut().kad;
            self.routing.keep(kad, peer, [address::without_peer(&addr)]);
        }
        // Relays bootstrap from each other and know where they are.
        let options = if self.relaying { dialer::options(addr) } else { dialer::options_to_observer(addr) };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.bootstrap.dialing(index, connection),
            Err(error) => self.bootstrap.undialed(index, dialer::reason(&error), now),
        }
        self.report_progress();
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event, now),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.on_neighbour(peer_id, &info, now);
                self.on_identified(peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::AutonatClient(probe)) => self.on_probe(&probe),
            SwarmEvent::Behaviour(BehaviourEvent::RelayClient(event)) => self.on_relay_client(event),
            SwarmEvent::Behaviour(BehaviourEvent::Dcutr(event)) => self.on_punch(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Upnp(event)) => self.on_router(&event),
            SwarmEvent::ExternalAddrConfirmed { address } => self.on_external(address),
            SwarmEvent::ExternalAddrExpired { address } => self.on_external_gone(&address),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => match event.result {
                Ok(rtt) => self.links.measured(&event.peer, rtt),
                Err(ping::Failure::Timeout) => {
                    tracing::debug!(peer = %event.peer, "no answer to a ping: the connection is closed");
                    self.swarm.close_connection(event.connection);
                }
                Err(_) => {}
            },
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let addr = match &endpoint {
                    // Who comes through a relay is seen under its name alone: the relay's address says how it came.
                    ConnectedPoint::Listener { local_addr, .. } if address::is_circuit(local_addr) => {
                        local_addr.clone()
                    }
                    other => other.get_remote_address().clone(),
                };
                if self.links.established(peer_id, connection_id, addr, endpoint.is_dialer()) {
                    self.on_improved(peer_id);
                }
                self.routing.reached(&peer_id);
                self.bootstrap.established(connection_id, peer_id);
                self.dialer.established(&mut self.swarm, connection_id, peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                self.links.closed(&peer_id, connection_id);
                if num_established == 0 {
                    let reason = cause.map_or_else(|| "the connection was closed".into(), |cause| cause.to_string());
                    self.bootstrap.lost(peer_id, &reason, now);
                    self.report_progress();
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                let reason = dialer::reason(&error);
                if let (Some(peer), DialError::Transport(_)) = (peer_id, &error) {
                    self.routing.unreached(peer);
                }
                self.bootstrap.failed(connection_id, &reason, now);
                self.dialer.failed(&mut self.swarm, connection_id, peer_id, &reason);
                self.report_progress();
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error: ListenError::Denied { cause }, .. } => {
                let refusal = std::error::Error::source(&cause);
                let stranger = refusal.and_then(|refusal| refusal.downcast_ref::<NotAMember>());
                match stranger.filter(|_| self.refusals.take(1, now) == Verdict::Now) {
                    Some(stranger) => {
                        tracing::warn!(from = %send_back_addr, node = %stranger.node, "refused: {stranger}")
                    }
                    None => tracing::debug!(from = %send_back_addr, ?cause, "incoming connection refused"),
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "incoming connection failed; a mesh key that differs looks like this");
            }
            // Circuits are the traversal's: a relay names them as it likes.
            SwarmEvent::NewListenAddr { address, .. } if !address::is_circuit(&address) => {
                if self.relay == RelayRole::Always {
                    self.swarm.add_external_address(address.clone());
                }
                self.links.listening(address);
                self.reach_changed();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.links.not_listening(&address);
                self.reach_changed();
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                tracing::debug!(?addresses, ?reason, "a listener closed");
                addresses.iter().for_each(|address| self.links.not_listening(address));
                self.on_listener_closed(listener_id, now);
            }
            _ => {}
        }
    }

    fn on_kad(&mut self, event: kad::Event, now: Instant) {
        if matches!(event, kad::Event::InboundRequest { .. }) {
            self.links.count_request();
        }
        match event {
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { source, connection, record: Some(record) },
            } => self.on_put(source, connection, &record, now),
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => self.announcer.retry_unplaced(now),
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => match result {
                kad::QueryResult::GetRecord(result) => self.lookups.on_result(id, result, step.last),
                kad::QueryResult::Bootstrap(_) if !step.last => {
                    Routing::cut_walk(&mut self.swarm.behaviour_mut().kad, &id);
                }
                kad::QueryResult::PutRecord(result) if step.last => {
                    if let Some((models, spread)) = self.publisher.on_put(id, &result) {
                        models.into_iter().for_each(|model| self.announcer.placed(model, spread, now));
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// A peer announces. It may speak for itself alone: what others hand on could be old, and would evade its quota.
    fn on_put(&mut self, source: NodeId, connection: ConnectionId, record: &kad::Record, now: Instant) {
        if !self.quota.take(source, now) {
            tracing::debug!(%source, "announcement refused: too many");
            return;
        }
        let origin = self.links.origin(&source, connection);
        match self.swarm.behaviour_mut().kad.store_mut().admit(&source, origin, &record.key, &record.value) {
            Ok(()) => {}
            Err(refusal) => tracing::debug!(%source, %refusal, "announcement refused"),
        }
    }

    /// Feeds Kademlia: identify does not do it by itself.
    fn on_identified(&mut self, peer: NodeId, info: identify::Info) {
        if info.protocol_version != IDENTIFY_VERSION {
            let theirs = info.protocol_version.chars().take(MAX_QUOTED).collect::<String>();
            let build = info.agent_version.chars().take(MAX_QUOTED).collect::<String>();
            let reason =
                format!("it speaks {theirs:?} ({build:?}), this node {IDENTIFY_VERSION} ({AGENT}): run one version");
            let now = Instant::now();
            self.bootstrap.useless(peer, &reason, now);
            self.report_progress();
            if self.refusals.take(1, now) == Verdict::Now {
                tracing::warn!(%peer, "disconnected: {reason}");
            }
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        if !info.protocols.contains(&KAD) {
            tracing::debug!(%peer, "peer keeps no part of the DHT");
            return;
        }
        // What leads nearer than the peer itself is, leads to somebody else.
        let scope = self.links.scope(&peer);
        let listed = info.listen_addrs.into_iter().take(MAX_PEER_ADDRS);
        let listed = listed.filter(|addr| address::scope(addr) >= scope);
        // The address that was dialed is proven, whatever the peer says about itself.
        let all = self.links.dialed(&peer).into_iter().chain(listed).filter(|addr| self.usable(addr, &peer));
        let all = all.map(|addr| address::without_peer(&addr)).collect::<Vec<_>>();
        self.routing.keep(&mut self.swarm.behaviour_mut().kad, peer, all);
        self.bootstrap.identified(peer);
        self.report_progress();
    }

    fn usable(&self, addr: &Multiaddr, peer: &NodeId) -> bool {
        address::dialable(addr, peer) && !(self.private && address::is_quic(addr))
    }

    /// Whether an address that a peer's advert names may be dialed: not one that leads nearer than the peer is or, where it
    /// is not connected, nearer than the mesh this node was told to join. It could be anything that trusts this machine.
    fn may_dial(&self, addr: &Multiaddr, peer: &NodeId) -> bool {
        let connected = self.links.way(peer).is_some();
        let nearest = if connected { self.links.scope(peer) } else { self.nearest };
        address::scope(addr) >= nearest
    }

    /// Where others reach this node: where the operator says, where somebody did, then wherever it listens.
    pub(super) fn own_addrs(&self) -> Vec<Multiaddr> {
        let (found, listening) = (self.traversal.addrs(), self.links.listen_addrs());
        let own = self.swarm.local_peer_id();
        let mut known = HashSet::new();
        let all = self.external.iter().chain(&found).chain(&listening).map(address::without_peer);
        let all = all.filter(|addr| known.insert(addr.clone())).collect::<Vec<_>>();
        address::worth_advertising(all.iter(), own, MAX_ADDRS)
    }

    fn report_progress(&self) {
        self.progress.send_replace(self.bootstrap.progress());
    }
}
