//! The meters of those who open streams here.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use crate::{
    id::NodeId,
    peer::wire::{Allowance, Dialer, Meter},
};

/// Meters that are kept before those that nobody needs are thrown away.
const FEW: usize = 64;

/// One meter a peer, as long as it has streams here or has not earned what it took: coming back does not help.
#[derive(Debug, Default)]
pub(super) struct Meters {
    peers: HashMap<NodeId, Arc<Meter>>,
    sweep_at: usize,
}

impl Meters {
    /// The meter of `peer`, on whom `dialer` hangs up.
    pub(super) fn of(&mut self, peer: NodeId, dialer: &Arc<dyn Dialer>) -> Arc<Meter> {
        let now = Instant::now().into_std();
        if self.peers.len() >= self.sweep_at.max(FEW) {
            self.peers.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_rested(now));
            // So that the cost of a sweep is spread over as many newcomers as there are left.
            self.sweep_at = 2 * self.peers.len();
        }
        let new = || Arc::new(Meter::new(peer, Arc::clone(dialer), Allowance::default(), now));
        Arc::clone(self.peers.entry(peer).or_insert_with(new))
    }
}
