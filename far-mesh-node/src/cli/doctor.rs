//! `far-mesh doctor`.

use clap::Args;

use crate::config::{Device, Flags};

/// Say what this machine can serve with, and what is missing.
///
/// Looks at the processor, memory and its bandwidth, the data folder, and for GPUs at the driver, the kernel compiler
/// NVRTC, the header files of CUDA and each GPU, on which it runs a trial kernel. Nothing is changed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh doctor
  far-mesh doctor --device cuda     fails where no GPU can be used
  far-mesh doctor --json | jq .device

Exit: 0 when the device can be used, 1 when not.")]
pub struct DoctorArgs {
    /// Device to judge; auto takes the first GPU that runs a trial kernel, else the processor [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]")]
    pub device: Option<Device>,

    /// Print one JSON object, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

impl DoctorArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags { device: self.device, ..Flags::default() }
    }
}
