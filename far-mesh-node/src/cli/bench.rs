//! `far-mesh bench`.

use clap::Args;

use crate::config::{Device, Flags, Precision, Quantize, Threads};

/// Measure this machine, alone and as a mesh.
///
/// Decode and prefill (512 tokens) in tokens a second in one process and over local providers, packed bytes of the
/// weights, peak memory, and the memory bandwidth that bounds decoding.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh bench
  far-mesh bench --providers 0 --sessions 32      one process alone, then 32 sessions at once
  far-mesh bench --providers 3 --sessions 8 --threads 2 --json | jq .mesh.decode_tokens_per_s")]
pub struct BenchArgs {
    /// Local providers to cut the model across; 0 measures one process alone
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=64))]
    pub providers: u8,

    /// Measurements of each kind, taken in turn; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,

    /// Sessions to run at once for the total of tokens a second [default: not measured]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub sessions: Option<u16>,

    /// Model by name or path [default: smollm2-135m-instruct]
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    /// Device of one process and of the providers; auto takes a GPU that runs a trial kernel [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]")]
    pub device: Option<Device>,

    /// packed or exact arithmetic [default: packed]
    #[arg(long, value_name = "packed|exact")]
    pub precision: Option<Precision>,

    /// none, or what F32, F16 and BF16 weights are packed to while they are loaded: q8_0 halves bf16, q4_0 quarters it. All
    /// nodes of a model must pack it alike: packed, it counts as another model [default: none]
    #[arg(long, value_name = "none|q8_0|q4_0")]
    pub quantize: Option<Quantize>,

    /// Threads that compute [default: the processors this process may use]
    #[arg(long, value_name = "N")]
    pub threads: Option<Threads>,

    /// Print one JSON object, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

impl BenchArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags {
            model: self.model.clone(),
            device: self.device,
            precision: self.precision,
            quantize: self.quantize,
            threads: self.threads,
            ..Flags::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn all_flags() {
        let line = "far-mesh bench --providers 2 --sessions 8 --json --threads 2";
        let Command::Bench(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!((args.providers, args.sessions, args.json), (2, Some(8), true));
        assert!(Cli::try_parse_from(["far-mesh", "bench", "--sessions", "0"]).is_err());
    }
}
