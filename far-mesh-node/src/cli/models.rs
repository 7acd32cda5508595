//! `far-mesh models`.

use clap::{Args, Subcommand};

use crate::config::Sha256;

/// List, fetch and inspect models.
#[derive(Clone, Debug, Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  far-mesh models list
  far-mesh models pull smollm2-135m-instruct                     from the catalogue
  far-mesh models pull hf:OWNER/REPO/FILE.gguf                   from the Hugging Face hub (HF_ENDPOINT, HF_TOKEN)
  far-mesh models pull ~/models/mine.gguf                        register a file where it lies
  far-mesh models pull ~/models/Qwen3-0.6B                       or a folder of config.json, tokenizer.json, *.safetensors
  far-mesh models inspect smollm2-135m-instruct --json"
)]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// What can be done with models.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the catalogue and what is on this machine
    List {
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Fetch a model, or register a file or folder
    ///
    /// An interrupted fetch goes on where it stopped. The file is used only once its size and SHA-256 are right.
    Pull {
        /// Name of the catalogue, hf:OWNER/REPO/FILE, or path of a GGUF file or of a folder as Hugging Face lays it out
        #[arg(value_name = "NAME|hf:OWNER/REPO/FILE|PATH")]
        model: String,
        /// SHA-256 the file or folder must have [default: the catalogue's, or the one the server names]
        #[arg(long, value_name = "HEX")]
        sha256: Option<Sha256>,
        /// Print one JSON object with name, path, bytes and sha256, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Show what a model holds
    Inspect {
        /// Name of a pulled model, or path of a file or folder
        #[arg(value_name = "PATH|NAME")]
        model: String,
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn all_commands() {
        let sha = "b1".repeat(32);
        let line = format!("far-mesh models pull hf:a/b/c.gguf --sha256 {sha} --json");
        let Command::Models(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        let ModelsCommand::Pull { model, sha256, json: true } = args.command else { panic!("{args:?}") };
        assert_eq!((model.as_str(), sha256.unwrap().to_string()), ("hf:a/b/c.gguf", sha));
        assert!(Cli::try_parse_from(["far-mesh", "models", "pull", "x", "--sha256", "b1"]).is_err());
        assert!(Cli::try_parse_from(["far-mesh", "models", "inspect"]).is_err());
        assert!(Cli::try_parse_from(["far-mesh", "models", "list", "--json"]).is_ok());
    }
}
