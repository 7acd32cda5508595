//! Who takes the place of a node that a session lost.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{
    router::{Need, remote_hops},
    table::Table,
};
use crate::{
    hop::HopError,
    id::NodeId,
    peer::{Loss, Mender, RemoteHop},
    route::{Offer, PlanRequest, RegionWish, Route, plan},
};

/// How often the mesh is asked again where nobody can take the place, and it may be waited: a node that was started anew
/// announces itself within this time.
const LOOKS: u32 = 3;

/// How long it is waited between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// What becomes of a session when only nodes of another kernel class can take a lost one's place: the bits of what follows
/// may differ from those of the undisturbed run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherClass {
    /// It goes on, and its account says so.
    #[default]
    Resume,
    /// It ends with an error.
    Refuse,
}

/// Finds nodes in the coordinator's table.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    pub(super) table: Arc<Table>,
    pub(super) model: String,
    pub(super) layers: u32,
    pub(super) need: Need,
    pub(super) seed: u64,
    pub(super) region: Option<RegionWish>,
    pub(super) other_class: OtherClass,
}

impl Mender for Repair {
    fn replace(&self, loss: Loss) -> BoxFuture<'static, Result<Vec<RemoteHop>, HopError>> {
        let repair = self.clone();
        async move { repair.find(&loss).await }.boxed()
    }

    fn slow(&self, node: NodeId, factor: f64) {
        self.table.slow(node, factor);
    }

    fn lost(&self, node: NodeId, _: &HopError) {
        self.table.set_aside(node);
    }
}

impl Repair {
    async fn find(&self, loss: &Loss) -> Result<Vec<RemoteHop>, HopError> {
        let mut look = 0;
        loop {
            let error = match self.plan(loss, self.table.offers()) {
                Ok(route) => return Ok(remote_hops(&route)),
                Err(error) => error,
            };
            look += 1;
            if look > LOOKS || !loss.wait {
                return Err(error);
            }
            if look > 1 {
                tokio::time::sleep(PAUSE).await;
            }
            if let Err(error) = self.table.look().await {
                tracing::debug!(%error, "no fresh look at the mesh");
            }
        }
    }

    /// A route over the lost layers on nodes of the class that ran them; else, where the operator allows it, on others.
    fn plan(&self, loss: &Loss, mut offers: Vec<Offer>) -> Result<Route, HopError> {
        for offer in offers.iter_mut().filter(|offer| loss.leaving.contains(&offer.node)) {
            offer.free_tokens = offer.free_tokens.saturating_add(loss.context_tokens.into());
        }
        if loss.kernel_class.is_none() && self.other_class == OtherClass::Refuse {
            let reason = format!("nodes of several kernel classes ran layers {}: no one gives their bits", loss.span);
            return Err(HopError::Refused { reason });
        }
        let same = PlanRequest {
            model: self.model.clone(),
            span: loss.span,
            from: loss.before,
            to: loss.after,
            busy: loss.without.clone(),
            max_hops: loss.max_hops,
            kernel_class: loss.kernel_class.clone(),
            dtype: loss.dtype,
            hidden: self.need.hidden,
            region: self.region.clone(),
            // What was done is sent again as a prompt is.
            prompt_tokens: loss.done_tokens,
            max_tokens: self.need.prompt_tokens.saturating_add(self.need.max_tokens).saturating_sub(loss.done_tokens),
            context_tokens: loss.context_tokens,
            seed: self.seed,
        };
        match plan(self.layers, &offers, &same) {
            Err(_) if self.other_class == OtherClass::Resume => {
                Ok(plan(self.layers, &offers, &PlanRequest { kernel_class: None, ..same })?)
            }
            planned => Ok(planned?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        activation::Dtype,
        id::{ModelHash, Span},
        peer::{Advert, Config, Keypair, Node, ShardOffer, offer},
        route::PlanError,
    };

    const CPU: &str = "cpu-f32-1";

    fn serves(span: (u32, u32)) -> Offer {
        let shard = ShardOffer { kernel_class: CPU.into(), links: vec![], ..offer(span) };
        Offer::from_advert(&Advert { peer: NodeId::random(), seq: 1, expires_unix_s: u64::MAX, shard }, None)
    }

    fn loss(kernel_class: Option<&str>, max_hops: usize) -> Loss {
        Loss {
            span: Span::new(10, 20).unwrap(),
            before: None,
            after: None,
            without: vec![],
            leaving: vec![],
            max_hops,
            kernel_class: kernel_class.map(str::to_owned),
            dtype: Dtype::F32,
            context_tokens: 120,
            done_tokens: 20,
            wait: false,
        }
    }

    async fn repair(other_class: OtherClass) -> (Node, Repair) {
        let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
        let repair = Repair {
            table: Arc::new(Table::new(node.clone(), ModelHash([7; 32]), None)),
            model: "smollm2-135m-instruct".into(),
            layers: 30,
            need: Need { hidden: 576, prompt_tokens: 20, max_tokens: 100 },
            seed: 0,
            region: None,
            other_class,
        };
        (node, repair)
    }

    fn spans(route: Result<Route, HopError>) -> Vec<(u32, u32)> {
        route.unwrap().hops.iter().map(|hop| hop.span.into()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn layers_of_several_kernel_classes_go_to_one_only_where_the_operator_allows_it() {
        let (node, resume) = repair(OtherClass::Resume).await;
        let refuse = Repair { other_class: OtherClass::Refuse, ..resume.clone() };
        let offers = || vec![serves((10, 20))];
        let several = loss(None, 1);
        match refuse.plan(&several, offers()) {
            Err(HopError::Refused { reason }) => {
                assert_eq!(reason, "nodes of several kernel classes ran layers 10..20: no one gives their bits");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(spans(resume.plan(&several, offers())), [(10, 20)]);
        assert_eq!(spans(refuse.plan(&loss(Some(CPU), 1), offers())), [(10, 20)]);
        let another = loss(Some("cuda-bf16-1"), 1);
        match refuse.plan(&another, offers()) {
            Err(HopError::NoRoute(PlanError::KernelClass { class, .. })) => assert_eq!(class, "cuda-bf16-1"),
            other => panic!("{other:?}"),
        }
        assert_eq!(spans(resume.plan(&another, offers())), [(10, 20)]);
        node.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_hops_take_the_places_than_the_loss_allows() {
        for other_class in [OtherClass::Resume, OtherClass::Refuse] {
            let (node, repair) = repair(other_class).await;
            let mut offers = vec![serves((10, 15)), serves((15, 20))];
            match repair.plan(&loss(Some(CPU), 1), offers.clone()) {
                Err(HopError::NoRoute(PlanError::TooManyHops { most, .. })) => assert_eq!(most, 1),
                other => panic!("{other_class:?}: {other:?}"),
            }
            // It takes far longer than both together.
            offers.push(Offer { layer_time_ns: 100_000_000, ..serves((10, 20)) });
            assert_eq!(spans(repair.plan(&loss(Some(CPU), 2), offers.clone())), [(10, 15), (15, 20)]);
            assert_eq!(spans(repair.plan(&loss(Some(CPU), 1), offers)), [(10, 20)]);
            node.shutdown().await;
        }
    }
}
