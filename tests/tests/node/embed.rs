//! The examples: a provider and a coordinator in programs of their own, as short as promised.

use std::{fs, path::Path, process::Stdio};

use tokio::process::Command;

use super::{
    process::{Running, ran},
    text::{ANSWER, PROMPT, PROMPT_TOKENS},
};

const MAX_LINES: usize = 40;

fn example(name: &str) -> Command {
    let program = far_mesh_tests::program().with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is missing: run `cargo build --release --workspace` first", program.display());
    let mut command = Command::new(program);
    command.arg(far_mesh_tests::model()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn provide(arguments: &[&str]) -> Running {
    let mut command = example("provide");
    command.args(arguments);
    Running::start(command)
}

#[tokio::test]
async fn programs_that_embed_providers_and_a_coordinator_answer_together() {
    let mut first = provide(&["0..13"]);
    let address = first.line().await.expect("its address");
    let mut second = provide(&["13..30", &address]);
    second.line().await.expect("its address");
    let mut coordinate = example("coordinate");
    coordinate.args([PROMPT, &address]);
    let answer = ran(coordinate).await;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.starts_with(ANSWER), "{answer:?}");
    let usage = format!("Usage {{ prompt_tokens: {PROMPT_TOKENS}, completion_tokens: 64 }}\n");
    assert!(answer.stdout.ends_with(&usage), "{answer:?}");
    for provider in [second, first] {
        provider.interrupt().await;
        let (status, log) = provider.end().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn an_embedded_node_takes_at_most_forty_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in ["provide.rs", "coordinate.rs"] {
        let lines = fs::read_to_string(folder.join(name)).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines");
    }
}
