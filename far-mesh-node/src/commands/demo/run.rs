//! Starts the parts, asks, reports, ends the parts.

use std::path::Path;

use far_mesh_core::peer::identity;

use super::{
    answer::{Answer, Column, ask},
    report,
};
use crate::{
    cli::DemoArgs,
    commands::{CommandError, Stop, parts, print, print_json, shard::all_layers, until_interrupted},
    config::Config,
    local::{LocalConfig, LocalMesh, Part, Ready, stop},
    models::{self, Model},
    progress::Progress,
};

/// Runs the demo.
///
/// # Errors
/// [`CommandError`]; whatever was started is ended before it returns.
pub async fn run(args: DemoArgs, config: Config) -> Result<(), CommandError> {
    let mut end = Stop::listen()?;
    let remedy = "every part of the demo has ended";
    let dir = parts::folder(&config, "demo-")?;
    let (mesh, coordinator) = until_interrupted(remedy, start(&args, &config, dir.path())).await?;
    let http = coordinator.ready.http.clone().unwrap_or_default();
    let shown = until_interrupted(remedy, show(&args, &coordinator.ready, &http)).await;
    if shown.is_ok() && args.keep {
        end.asked(args.until_stdin_closes).await;
    }
    stop(coordinator).await;
    mesh.stop().await;
    shown
}

async fn start(args: &DemoArgs, config: &Config, dir: &Path) -> Result<(LocalMesh, Part), CommandError> {
    let progress = Progress::detect();
    let Model { path, .. } = models::resolve(&config.model, &config.data_dir, progress).await?;
    let layers = all_layers(&path)?.len();
    let psk = dir.join("mesh.key");
    identity::load_or_create_psk(&psk)?;
    progress.say(&format!("starting discovery, {} providers and a coordinator", args.providers));
    // It asks its own coordinator, whatever a file says of those that serve others.
    let mut computing = parts::computing_flags(config);
    computing.extend(["--require-keys".into(), "off".into()]);
    let mesh = LocalMesh::start(LocalConfig {
        program: parts::own_program()?,
        model: path,
        layers,
        providers: args.providers.into(),
        dir: dir.to_owned(),
        psk,
        provider_flags: parts::provider_flags(config),
    })
    .await?;
    let coordinator = mesh.coordinator(&format!("127.0.0.1:{}", args.port), computing).await?;
    Ok((mesh, coordinator))
}

async fn show(args: &DemoArgs, ready: &Ready, http: &str) -> Result<(), CommandError> {
    if args.json && args.keep {
        print_json(&Ready { role: "demo".into(), ..ready.clone() })?;
    }
    if let Some(question) = args.question() {
        if args.json {
            let answer = ask(http, question, args.max_tokens, &mut |_| Ok(())).await?;
            print_json(&report::json(&answer))?;
        } else {
            print(&format!("\n> {question}\n\n"))?;
            let mut column = Column::default();
            let answer: Answer = ask(http, question, args.max_tokens, &mut |token| column.token(token)).await?;
            column.end()?;
            print(&report::table(&answer))?;
        }
    }
    if args.keep && !args.json {
        print(&format!("\nHTTP API  {http}  (OpenAI clients: {http}/v1)\nctrl-C ends the mesh\n"))?;
    } else if !args.json {
        print(&format!("\nthe coordinator was at {http}; --keep leaves it running\n"))?;
    }
    Ok(())
}
