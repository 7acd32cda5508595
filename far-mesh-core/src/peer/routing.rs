//! Whom this node keeps in Kademlia's routing table.
//!
//! Left to itself, Kademlia takes whom it is connected to and, where a bucket is full, dials the node in it that was silent
//! for longest, to see whether it can go. In a mesh larger than the buckets nearly every new connection meets a full one at
//! both of its ends, so each leads to further dials and those to others. Here a full bucket stays as it is, since who was
//! there for long will stay for long (P. Maymounkov and D. Mazières, Kademlia, IPTPS 2002, section 2.1), until somebody in
//! it could not be reached.

use std::collections::HashSet;

use libp2p::{
    Multiaddr,
    kad::{self, K_VALUE, QueryId},
};

use super::store::AdvertStore;
use crate::id::NodeId;

/// Nodes of the table that are remembered as out of reach; more make room when they are met there again.
const MAX_UNREACHED: usize = 1024;

type Kad = kad::Behaviour<AdvertStore>;

/// Which nodes of the table could not be reached when they were last dialed.
#[derive(Debug, Default)]
pub(super) struct Routing {
    unreached: HashSet<NodeId>,
}

impl Routing {
    /// Keeps a node that is there under its addresses, if its bucket has room for it.
    pub(super) fn keep(&mut self, kad: &mut Kad, peer: NodeId, addrs: impl IntoIterator<Item = Multiaddr>) {
        if self.has_room(kad, peer) {
            for addr in addrs {
                kad.add_address(&peer, addr);
            }
        }
    }

    /// Nobody answered where the node was dialed. It stays until there is another for its place: were this node cut off
    /// for a while, it would else forget the mesh.
    pub(super) fn unreached(&mut self, peer: NodeId) {
        if self.unreached.len() < MAX_UNREACHED {
            self.unreached.insert(peer);
        }
    }

    /// The node is connected.
    pub(super) fn reached(&mut self, peer: &NodeId) {
        self.unreached.remove(peer);
    }

    /// Kademlia looked for its own neighbours and would now look for some in each bucket. A table that is not small has them
    /// from other queries, or gets them: those of one announcement alone lead to both ends of the key space.
    pub(super) fn cut_walk(kad: &mut Kad, walk: &QueryId) {
        let known = kad.kbuckets().map(|bucket| bucket.num_entries()).sum::<usize>();
        if known >= K_VALUE.get()
            && let Some(mut walk) = kad.query_mut(walk)
        {
            walk.finish();
        }
    }

    fn has_room(&mut self, kad: &mut Kad, peer: NodeId) -> bool {
        // There is no bucket for this node itself.
        let Some(bucket) = kad.kbucket(peer) else { return false };
        let held = bucket.iter().map(|entry| *entry.node.key.preimage()).collect::<Vec<_>>();
        if held.len() < K_VALUE.get() || held.contains(&peer) {
            return true;
        }
        let Some(gone) = held.iter().find(|held| self.unreached.remove(held)) else { return false };
        kad.remove_peer(gone);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{super::behaviour::kademlia, *};

    fn addr() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    /// The nodes of a full bucket, and others that would be in it.
    fn crowded(kad: &mut Kad, routing: &mut Routing) -> (Vec<NodeId>, Vec<NodeId>) {
        let half = |kad: &mut Kad, peer: NodeId| kad.kbucket(peer).unwrap().range();
        let (mut held, mut others) = (Vec::<NodeId>::new(), Vec::new());
        while others.len() < 100 {
            let peer = NodeId::random();
            if held.first().is_some_and(|first| half(kad, *first) != half(kad, peer)) {
                continue;
            }
            routing.keep(kad, peer, [addr()]);
            if held.len() < K_VALUE.get() { held.push(peer) } else { others.push(peer) }
        }
        (held, others)
    }

    fn bucket(kad: &mut Kad, of: NodeId) -> HashSet<NodeId> {
        let bucket = kad.kbucket(of).unwrap();
        assert!(!bucket.has_pending(), "somebody is dialed to make room");
        bucket.iter().map(|entry| *entry.node.key.preimage()).collect()
    }

    #[test]
    fn a_full_bucket_stays_as_it_is_and_nobody_is_dialed_for_it() {
        let (mut kad, mut routing) = (kademlia(NodeId::random(), true), Routing::default());
        let (held, _) = crowded(&mut kad, &mut routing);
        assert_eq!(bucket(&mut kad, held[0]), held.into_iter().collect());
    }

    #[test]
    fn who_could_not_be_reached_makes_room() {
        let (mut kad, mut routing) = (kademlia(NodeId::random(), true), Routing::default());
        let (held, others) = crowded(&mut kad, &mut routing);
        routing.unreached(held[3]);
        routing.unreached(held[5]);
        routing.reached(&held[5]);
        assert!(bucket(&mut kad, held[0]).contains(&held[3]), "as long as nobody else is there");
        routing.keep(&mut kad, others[0], [addr()]);
        routing.keep(&mut kad, others[1], [addr()]);
        let now = bucket(&mut kad, held[0]);
        assert!(now.contains(&others[0]) && !now.contains(&held[3]) && now.contains(&held[5]));
        assert!(!now.contains(&others[1]) && now.len() == K_VALUE.get());
        assert!(routing.unreached.is_empty());
    }
}
