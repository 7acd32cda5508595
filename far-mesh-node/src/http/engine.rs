//! What the HTTP layer asks of the mesh: three questions, behind a trait, so that every route can be tried without one.

use std::{fmt, sync::Arc};

use far_mesh_client::schema::PartHealth;
use far_mesh_core::{
    coordinator::Prompt,
    id::{ModelHash, NodeId, SessionId, Span},
    route::RegionWish,
    session::{Event, GenerateError, Request, Sampling},
};
use futures::{future::BoxFuture, stream::BoxStream};
use tokio_util::sync::CancellationToken;

/// Tokens generated where the request does not say: enough for an answer of a few paragraphs.
pub const DEFAULT_MAX_TOKENS: u32 = 256;

/// The mesh, seen from a coordinator.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Whether requests can be routed at all.
    fn health(&self) -> BoxFuture<'_, PartHealth>;

    /// Every model known, with who serves what of it.
    fn models(&self) -> BoxFuture<'_, Vec<ServedModel>>;

    /// Checks a call and turns its prompt into tokens. Nothing is opened or computed: what it may cost is known then, and
    /// can be held before it is spent.
    ///
    /// # Errors
    /// [`EngineError`], by who can mend it.
    fn prepare(&self, call: GenerateCall) -> BoxFuture<'_, Result<Prepared, EngineError>>;

    /// Opens a session along a route; its first token need not be there yet.
    ///
    /// Cancel-safe: a dropped future leaves nothing open.
    ///
    /// # Errors
    /// [`EngineError`], by who can mend it.
    fn start(&self, prepared: Prepared) -> BoxFuture<'_, Result<Generation, EngineError>>;
}

/// A model, and who serves it.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// What requests call it.
    pub name: String,
    /// Hash of its file; requests may also call it by that.
    pub hash: ModelHash,
    /// Number of layers, at least 1.
    pub layers: u32,
    /// Positions that prompt and output may take together.
    pub context_tokens: u32,
    /// Offers of its layers.
    pub offers: Vec<Offer>,
}

/// A node's offer of a model's layers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Who.
    pub node: NodeId,
    /// Which layers.
    pub span: Span,
    /// Positions a second it says it can run, where known.
    pub tokens_per_second: Option<f64>,
    /// Where it stands, where it says so.
    pub region: Option<String>,
    /// It does not stand there.
    pub region_refuted: bool,
}

/// A generation to start. All numbers are within their ranges.
#[derive(Clone, Debug)]
pub struct GenerateCall {
    /// One of [`Engine::models`].
    pub model: ModelHash,
    /// What to go on from.
    pub prompt: Prompt,
    /// Most tokens to generate. `None`: [`DEFAULT_MAX_TOKENS`], or what is left of the context where that is less.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the output.
    pub stop: Vec<String>,
    /// Where the hops should stand.
    pub region: Option<RegionWish>,
    /// Report log-probabilities with this many alternatives.
    pub logprobs: Option<u8>,
}

/// A session that can be started.
#[derive(Clone)]
pub struct Prepared {
    /// The session: nobody used it before.
    pub session: SessionId,
    /// What is generated; it fits the model.
    pub request: Request,
    /// Where the hops should stand.
    pub region: Option<RegionWish>,
    /// The model's tokens.
    pub vocabulary: Arc<dyn Vocabulary>,
}

/// A session that runs.
pub struct Generation {
    /// Tokens, then [`Event::Done`]; or an error. Dropping it cancels the session on every hop.
    pub events: BoxStream<'static, Result<Event, GenerateError>>,
    /// Ends the events with [`Event::Done`] after the step on its way.
    pub cancel: CancellationToken,
}

/// A model's tokens, for log-probabilities.
pub trait Vocabulary: Send + Sync {
    /// The bytes a token stands for: often not a whole character. Empty for an id that is none.
    fn token_bytes(&self, id: u32) -> Vec<u8>;
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model was there and is gone.
    #[error("model {model} is no longer served: GET /models tells what is")]
    Gone {
        /// The model.
        model: ModelHash,
    },
    /// The chat template does not take these messages, or the model has none.
    #[error("the model's chat template refused the messages: {reason}")]
    Template {
        /// What it said.
        reason: String,
    },
    /// The request does not fit the model, or the route failed at once.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

impl ServedModel {
    /// Runs of layers that the same number of nodes serve, in order: every layer is in exactly one.
    pub fn coverage(&self) -> Vec<(Span, usize)> {
        let mut change = vec![0i64; self.layers as usize + 1];
        for offer in &self.offers {
            change[offer.span.start().min(self.layers) as usize] += 1;
            change[offer.span.end().min(self.layers) as usize] -= 1;
        }
        let mut runs = Vec::new();
        let (mut start, mut nodes) = (0, 0i64);
        for (layer, change) in (0..).zip(change) {
            if change == 0 && layer < self.layers {
                continue;
            }
            if let Ok(span) = Span::new(start, layer) {
                runs.push((span, usize::try_from(nodes).unwrap_or(0)));
            }
            start = layer;
            nodes += change;
        }
        runs
    }

    /// Layers that no one serves.
    pub fn gaps(&self) -> Vec<Span> {
        self.coverage().into_iter().filter(|(_, nodes)| *nodes == 0).map(|(span, _)| span).collect()
    }

    /// Nodes that serve something of it, each once.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.offers.iter().map(|offer| offer.node).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("session", &self.session).finish_non_exhaustive()
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(layers: u32, spans: &[&str]) -> ServedModel {
        let offer = |span: &&str| Offer {
            node: NodeId::random(),
            span: span.parse().unwrap(),
            tokens_per_second: None,
            region: None,
            region_refuted: false,
        };
        ServedModel {
            name: "m".into(),
            hash: ModelHash([0; 32]),
            layers,
            context_tokens: 8,
            offers: spans.iter().map(offer).collect(),
        }
    }

    #[test]
    fn coverage_is_a_partition_of_the_layers() {
        let check = |layers, spans: &[&str], want: &str| {
            let runs = model(layers, spans).coverage();
            let got = runs.iter().map(|(span, nodes)| format!("{span}x{nodes}")).collect::<Vec<_>>().join(" ");
            assert_eq!(got, want, "{spans:?}");
        };
        check(30, &[], "0..30x0");
        check(30, &["0..10", "10..20", "20..30"], "0..30x1");
        check(30, &["0..30", "5..6"], "0..5x1 5..6x2 6..30x1");
        check(30, &["0..10", "20..30", "20..30"], "0..10x1 10..20x0 20..30x2");
        check(4, &["0..9", "7..8"], "0..4x1");
        assert_eq!(model(30, &["3..10", "20..30"]).gaps(), ["0..3".parse().unwrap(), "10..20".parse().unwrap()]);
    }
}
