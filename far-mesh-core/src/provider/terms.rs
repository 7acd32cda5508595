//! What the operator of a provider decides.

use crate::peer::Wallet;

/// Price, pay and what people are told.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Name of the model, for people.
    pub model_name: String,
    /// Where earnings go; none serves for free.
    pub wallet: Option<Wallet>,
    /// Price of all layers of this shard for one token, in nano-FAR.
    pub price_nano_far: u64,
    /// Where the machine stands; may be empty.
    pub region: String,
    /// Name of the device.
    pub device: String,
    /// Memory of the device in MiB.
    pub device_mib: u32,
}
