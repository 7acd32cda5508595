//! `far-mesh demo`.

use clap::Args;

use crate::config::{Flags, Precision, Quantize, Threads};

/// What is asked where nobody asks anything and the demo is not to stay.
pub const DEFAULT_PROMPT: &str = "Explain quantum computing";

/// Answer a prompt with three providers on this machine.
///
/// Fetches the model where it is absent, starts discovery, providers and a coordinator as processes of a private mesh
/// on loopback, streams the answer with its cost and prints who computed what and earned how much.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh demo \"Explain quantum computing\"
  far-mesh demo --keep --port 8100              stay up: HTTP API on 127.0.0.1:8100
  far-mesh demo --providers 5 --json \"Hi\" | jq .contributions")]
pub struct DemoArgs {
    /// What to ask [default: "Explain quantum computing", nothing with --keep]
    pub prompt: Option<String>,

    /// Stay up until ctrl-C, with or without a prompt
    #[arg(long)]
    pub keep: bool,

    /// Port of the coordinator's HTTP API on 127.0.0.1; 0 takes a free one, so that a demo never
    /// collides with what already runs
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,

    /// Providers to cut the model across; three show a first, an inner and a last hop
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub providers: u8,

    /// Model by name or path [default: smollm2-135m-instruct, small enough for any machine]
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    /// packed: weights as in the file, 8-bit activations, fast; exact: dense f32, for checking [default: packed]
    #[arg(long, value_name = "packed|exact")]
    pub precision: Option<Precision>,

    /// none, or what F32, F16 and BF16 weights are packed to while they are loaded: q8_0 halves bf16, q4_0 quarters it. All
    /// nodes of a model must pack it alike: packed, it counts as another model [default: none]
    #[arg(long, value_name = "none|q8_0|q4_0")]
    pub quantize: Option<Quantize>,

    /// Most tokens of the answer; a paragraph or two
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,

    /// Threads of each provider that compute [default: the processors, shared among the providers in turn]
    #[arg(long, value_name = "N")]
    pub threads: Option<Threads>,

    /// Print one JSON object with text, usage, cost, speed and contributions, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// End when standard input closes, as the parts of a local mesh do
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

impl DemoArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags {
            model: self.model.clone(),
            precision: self.precision,
            quantize: self.quantize,
            threads: self.threads,
            ..Flags::default()
        }
    }

    /// What to ask, if anything.
    pub fn question(&self) -> Option<&str> {
        self.prompt.as_deref().or((!self.keep).then_some(DEFAULT_PROMPT))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(words: &[&str]) -> Result<DemoArgs, clap::Error> {
        let line = ["far-mesh", "demo"].iter().chain(words);
        match Cli::try_parse_from(line)?.command {
            Command::Demo(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_flags() {
        let args = parse(&[
            "Why?",
            "--keep",
            "--port",
            "8100",
            "--providers",
            "5",
            "--model",
            "m.gguf",
            "--precision",
            "exact",
            "--json",
            "--max-tokens",
            "12",
            "--threads",
            "2",
        ])
        .unwrap();
        assert_eq!((args.question(), args.keep, args.json), (Some("Why?"), true, true));
        assert_eq!((args.port, args.providers, args.max_tokens), (8100, 5, 12));
        assert_eq!(args.flags().precision, Some(Precision::Exact));
        assert_eq!(args.flags().model.as_deref(), Some("m.gguf"));
    }

    #[test]
    fn without_a_prompt_it_asks_something_unless_it_stays() {
        assert_eq!(parse(&[]).unwrap().question(), Some(DEFAULT_PROMPT));
        assert_eq!(parse(&["--keep"]).unwrap().question(), None);
    }

    #[test]
    fn wrong_values_name_the_flag_and_what_to_write() {
        for (words, hint) in [
            (&["--precision", "half"], "packed or exact"),
            (&["--providers", "0"], "1..=64"),
            (&["--max-tokens", "0"], "--max-tokens"),
            (&["--threads", "0"], "1 to 1024"),
            (&["--port", "70000"], "--port"),
        ] {
            let err = parse(words).unwrap_err();
            assert_eq!(err.exit_code(), 2);
            assert!(err.to_string().contains(hint) && err.to_string().contains(words[0]), "{err}");
        }
    }
}
