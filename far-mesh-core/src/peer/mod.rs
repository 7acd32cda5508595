//! The network: libp2p node, discovery of adverts, the shard protocol and remote hops.
