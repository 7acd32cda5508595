//! `far-mesh models`.

use std::fmt::Write;

use indicatif::HumanBytes;
use serde_json::json;

use super::{CommandError, print, print_json, until_interrupted};
use crate::{
    cli::{ModelsArgs, ModelsCommand},
    config::{Config, Sha256},
    models::{self, Inspection, Listed, Model, Reference, State},
    progress::Progress,
};

/// Lists, fetches or inspects models.
///
/// # Errors
/// [`CommandError`] with the remedy; interrupted, it says what is kept.
pub async fn run(args: ModelsArgs, config: Config) -> Result<(), CommandError> {
    match args.command {
        ModelsCommand::List { json } => list(&config, json),
        ModelsCommand::Pull { model, sha256, json } => pull(&config, &model, sha256, json).await,
        ModelsCommand::Inspect { model, json } => inspect(&config, &model, json).await,
    }
}

fn list(config: &Config, json: bool) -> Result<(), CommandError> {
    let models = models::list(&config.data_dir)?;
    if json { print_json(&json!({ "models": models })) } else { print(&table(&models)) }
}

async fn pull(config: &Config, model: &str, sha256: Option<Sha256>, json: bool) -> Result<(), CommandError> {
    let remedy = "what was downloaded is kept: run this again to go on where it stopped";
    let work = async { Ok(models::pull(model, &config.data_dir, sha256, Progress::detect()).await?) };
    let Model { name, path, hash, bytes } = until_interrupted(remedy, work).await?;
    if json {
        return print_json(&json!({ "name": name, "path": path, "bytes": bytes, "sha256": hash.to_string() }));
    }
    print(&format!("{name}  {}  sha256 {hash}\n{}\n", HumanBytes(bytes), path.display()))
}

async fn inspect(config: &Config, model: &str, json: bool) -> Result<(), CommandError> {
    // The header is all that is read: a path needs no hash.
    let path = match Reference::parse(model).map_err(models::PullError::from)? {
        Reference::Path(path) => path,
        _ => {
            let remedy = "what was downloaded is kept: run this again to go on where it stopped";
            let work = async { Ok(models::resolve(model, &config.data_dir, Progress::detect()).await?) };
            until_interrupted(remedy, work).await?.path
        }
    };
    let inspection = models::inspect(&path)?;
    if json { print_json(&inspection) } else { print(&describe(&inspection)) }
}

fn table(models: &[Listed]) -> String {
    let wide = models.iter().map(|model| model.name.chars().count()).max().unwrap_or(0).max("NAME".len());
    let mut text = format!("{:wide$}  {:>12}  {:24}  SOURCE\n", "NAME", "SIZE", "STATE");
    for model in models {
        let state = match model.state {
            State::Ready => "ready".to_owned(),
            State::Partial { done_bytes } => format!("partial, {} done", HumanBytes(done_bytes)),
            State::Changed => "changed, to be checked".to_owned(),
            State::Missing => "file is gone".to_owned(),
            State::Absent => "not pulled".to_owned(),
        };
        let size = HumanBytes(model.bytes).to_string();
        let _ = writeln!(text, "{:wide$}  {size:>12}  {state:24}  {}", model.name, model.source);
    }
    text
}

fn describe(model: &Inspection) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:14}{value}");
    };
    row("file", format!("{} ({})", model.path.display(), HumanBytes(model.file_bytes)));
    row("name", model.name.clone().unwrap_or_else(|| "none".to_owned()));
    row("architecture", model.architecture.clone());
    row("layers", model.layers.to_string());
    row("hidden", model.hidden.to_string());
    row("heads", format!("{} ({} of keys and values)", model.heads, model.kv_heads));
    row("context", format!("{} tokens", model.context));
    row("vocabulary", model.vocabulary.map_or_else(|| "none".to_owned(), |tokens| format!("{tokens} tokens")));
    for kind in &model.tensors {
        let bytes = kind.bytes.map_or_else(|| "unknown size".to_owned(), |bytes| HumanBytes(bytes).to_string());
        row("tensors", format!("{:8} {:>5}  {bytes}", kind.encoding, kind.count));
    }
    // Most models have the same bytes in every layer: runs are shown as one line.
    for run in model.layer_bytes.chunk_by(|one, other| one.bytes == other.bytes) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            row(
                "layer bytes",
                format!("{}..{}  {} each", first.layer, last.layer.saturating_add(1), HumanBytes(first.bytes)),
            );
        }
    }
    row("other bytes", format!("{} (embedding, final norm, head)", HumanBytes(model.other_bytes)));
    text
}
