//! What the operator of a provider decides.

#[cfg(doc)]
use crate::peer::ServeConfig;
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
    /// KiB a second that its line carries; 0 says nothing.
    pub bandwidth_kib_s: u32,
    /// Sessions served at once; `None` leaves it to [`ServeConfig`]'s default.
    pub max_sessions: Option<usize>,
    /// Name of the device.
    pub device: String,
    /// Memory of the device in MiB.
    pub device_mib: u32,
}
