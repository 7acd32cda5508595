//! Settings that are one word of a few.

use std::{fmt, str::FromStr};

use far_mesh_core::id::Span;

use super::error::ValueError;

/// How a shard computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Weights stay as they are in the file, activations are rounded to 8 bits: the fast way.
    #[default]
    Packed,
    /// Dense f32 throughout: four to eight times the memory, for checking.
    Exact,
}

/// What dense weights are packed to while they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantize {
    /// Nothing: they stay as they are in the file.
    #[default]
    None,
    /// 8 bits and a scale for each 32.
    Q8_0,
    /// 4 bits and a scale for each 32.
    Q4_0,
}

impl Precision {
    /// What weights become on the device; a quantized model is never computed exactly, which [`super::Config`] holds.
    pub(super) fn with(self, quantize: Quantize) -> far_mesh_core::model::Precision {
        use far_mesh_core::model::{Precision as Weights, Quantize as Kind};
        match (self, quantize) {
            (Self::Exact, _) => Weights::Exact,
            (Self::Packed, Quantize::None) => Weights::Packed,
            (Self::Packed, Quantize::Q8_0) => Weights::Quantized(Kind::Q8_0),
            (Self::Packed, Quantize::Q4_0) => Weights::Quantized(Kind::Q4_0),
        }
    }
}

/// Where a shard computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The first GPU that runs a trial kernel, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU with this number, counted from 0 as the driver shows them.
    Cuda(usize),
}

/// Whose sessions share the cached beginnings of their prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixSharing {
    /// Nobody's.
    Off,
    /// Those of the same coordinator.
    #[default]
    Coordinator,
    /// Everybody's.
    All,
}

/// What becomes of a session whose lost layers only nodes of another kernel class serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherKernelClass {
    /// It goes on, and its account says so.
    #[default]
    Resume,
    /// It ends with an error.
    Refuse,
}

impl From<OtherKernelClass> for far_mesh_core::coordinator::OtherClass {
    fn from(choice: OtherKernelClass) -> Self {
        match choice {
            OtherKernelClass::Resume => Self::Resume,
            OtherKernelClass::Refuse => Self::Refuse,
        }
    }
}

impl From<PrefixSharing> for far_mesh_core::shard::PrefixSharing {
    fn from(sharing: PrefixSharing) -> Self {
        match sharing {
            PrefixSharing::Off => Self::Off,
            PrefixSharing::Coordinator => Self::Owner,
            PrefixSharing::All => Self::All,
        }
    }
}

/// Something that is done where it makes sense, unless somebody decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// Where it makes sense.
    #[default]
    Auto,
    /// In any case.
    On,
    /// In no case.
    Off,
}

/// Whether the ledger keeps the texts of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorePrompts {
    /// No.
    #[default]
    Off,
    /// Yes.
    On,
}

/// The layers a provider serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// As many as fit in memory, where the mesh needs them most.
    #[default]
    Auto,
    /// These.
    Span(Span),
}

macro_rules! words {
    ($type:ident, $known:literal, $($variant:ident = $word:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
        impl FromStr for $type {
            type Err = ValueError;
            fn from_str(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ValueError::Choice { known: $known }),
                }
            }
        }
    };
}
words!(Switch, "auto, on or off", Auto = "auto", On = "on", Off = "off");
words!(Precision, "packed or exact", Packed = "packed", Exact = "exact");
words!(OtherKernelClass, "resume or refuse", Resume = "resume", Refuse = "refuse");
words!(StorePrompts, "off or on", Off = "off", On = "on");
words!(PrefixSharing, "off, coordinator or all", Off = "off", Coordinator = "coordinator", All = "all");
words!(Quantize, "none, q8_0 or q4_0", None = "none", Q8_0 = "q8_0", Q4_0 = "q4_0");

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let index = |digits: &str| digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").and_then(index);
                index.map(Self::Cuda).ok_or(ValueError::Choice { known: "auto, cpu, cuda or cuda:N" })
            }
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Span(span) => span.fmt(f),
        }
    }
}

impl FromStr for Layers {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Span).map_err(|_| ValueError::Layers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_their_text_form() {
        for precision in [Precision::Packed, Precision::Exact] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for sharing in [PrefixSharing::Off, PrefixSharing::Coordinator, PrefixSharing::All] {
            assert_eq!(sharing.to_string().parse(), Ok(sharing));
        }
        for quantize in [Quantize::None, Quantize::Q8_0, Quantize::Q4_0] {
            assert_eq!(quantize.to_string().parse(), Ok(quantize));
        }
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(7)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for bad in ["cuda:", "cuda:-1", "cuda:+1", "cuda0", "gpu"] {
            assert!(bad.parse::<Device>().unwrap_err().to_string().contains("cuda:N"), "{bad}");
        }
        for layers in ["auto", "0..10", "29..30"] {
            assert_eq!(layers.parse::<Layers>().unwrap().to_string(), layers);
        }
        for bad in ["", "AUTO", "10", "10..10", "3..1"] {
            assert_eq!(bad.parse::<Layers>(), Err(ValueError::Layers), "{bad:?}");
        }
        assert!("fast".parse::<Precision>().unwrap_err().to_string().contains("packed or exact"));
    }
}
