//! Who computes and is paid for it.

use crate::{
    amount::Amount,
    field::{self, FieldError},
    time::UnixMillis,
    wallet::WalletAddress,
};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node, by its identifier in the mesh.
    pub node_id: String,
    /// Where it is paid. A node that names none earns, but is not paid before it names one.
    pub wallet: Option<WalletAddress>,
    /// Name of its accelerator, if it has one.
    pub gpu_model: Option<String>,
    /// Memory of the accelerator in GB, rounded down.
    pub vram_gb: Option<u32>,
    /// Region it names.
    pub location: Option<String>,
    /// When it was heard of.
    pub last_seen: UnixMillis,
}

/// Layers of a model that a node offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeModel {
    /// The node.
    pub node_id: String,
    /// The model.
    pub model_id: String,
    /// First layer.
    pub layers_start: u32,
    /// Layer after the last.
    pub layers_end: u32,
    /// How its weights are packed, for example `Q4_1`.
    pub quantization: String,
}

/// A node in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// What it said of itself last.
    pub node: Node,
    /// Positions it ran its layers for, over all finished sessions.
    pub total_tokens_served: u64,
    /// What it earned in them, paid or not.
    pub total_earned: Amount,
}

/// What a node earned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEarnings {
    /// The node.
    pub node_id: String,
    /// Where it is paid.
    pub wallet: Option<WalletAddress>,
    /// Sessions it took part in.
    pub sessions: u64,
    /// Positions it ran its layers for.
    pub tokens: u64,
    /// All it earned.
    pub earned: Amount,
    /// What of it was paid.
    pub paid: Amount,
    /// What of it is still owed.
    pub unpaid: Amount,
}

impl Node {
    /// A node of which only the identifier is known.
    pub fn new(node_id: impl Into<String>, last_seen: UnixMillis) -> Self {
        Self { node_id: node_id.into(), wallet: None, gpu_model: None, vram_gb: None, location: None, last_seen }
    }

    pub(crate) fn check(&self) -> Result<(), FieldError> {
        field::id("node_id", &self.node_id)?;
        field::optional("gpu_model", self.gpu_model.as_deref())?;
        field::optional("location", self.location.as_deref())
    }
}

impl NodeModel {
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        field::id("node_id", &self.node_id)?;
        field::id("model_id", &self.model_id)?;
        field::layers(self.layers_start, self.layers_end)?;
        field::id("quantization", &self.quantization)
    }
}
