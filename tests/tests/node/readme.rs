//! What README and help tell people to type exists.

use std::{collections::BTreeSet, fs, path::Path};

use clap::{CommandFactory, Parser, error::ErrorKind};
use far_mesh_node::cli::Cli;

/// Stands for what a reader fills in.
const FILLED_IN: &[(&str, &str)] = &[
    ("$BOOTSTRAP", "/ip4/10.0.0.1/tcp/31337/p2p/12D3KooWHHR7ADWeU6DvW7iraMnWYVfvk9u7zRJwdd9qtqo9rzsi"),
    ("0x5290...9ee7", "0x52908400098527886e0f7030069857d2e4169ee7"),
    ("0x...", "0x00000000000000000000000000000000000000a1"),
    ("OWNER/REPO/FILE.gguf", "owner/repo/file.gguf"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The words of a line of shell, up to a comment that two spaces set off, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let line = FILLED_IN.iter().fold(line.to_owned(), |line, (what, with)| line.replace(what, with));
    let (mut words, mut quoted, mut spaces) = (vec![String::new()], false, 0);
    for character in line.trim().chars() {
        spaces = if character == ' ' { spaces + 1 } else { 0 };
        match character {
            '"' => quoted = !quoted,
            '|' | '>' if !quoted => break,
            ' ' if !quoted && spaces == 2 => break,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Joins lines that end with a backslash.
fn joined(text: &str) -> String {
    let mut whole = String::new();
    for line in text.lines() {
        let line = if whole.ends_with(' ') { line.trim_start() } else { line };
        match line.split_once(" \\") {
            Some((start, "")) => {
                whole.push_str(start.trim_end());
                whole.push(' ');
            }
            _ => {
                whole.push_str(line);
                whole.push('\n');
            }
        }
    }
    whole
}

fn check(line: &str) {
    let words = words(line);
    let asked = ErrorKind::DisplayHelp;
    if let Err(error) = Cli::try_parse_from(&words)
        && error.kind() != asked
    {
        panic!("{line:?} is not a command, read as {words:?}:\n{error}");
    }
}

/// Texts between backticks, outside of blocks.
fn inline(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_command_of_the_readme_is_one() {
    let text = readme();
    let blocks = joined(&text.split("```").skip(1).step_by(2).collect::<Vec<_>>().join("\n"));
    let typed = blocks.lines().filter_map(|line| line.split_once("$ ").map(|(_, typed)| typed));
    let (mut ours, mut cargo) = (0, 0);
    for line in typed.chain(inline(&text)) {
        if line.starts_with("far-mesh ") {
            (ours, _) = (ours + 1, check(line));
        } else if let Some(rest) = line.strip_prefix("cargo run --release -- ") {
            (cargo, _) = (cargo + 1, check(&format!("far-mesh {rest}")));
        }
    }
    assert!(ours >= 5 && cargo >= 1, "found {ours} and {cargo}: the README has its commands in blocks after `$ `");
}

#[test]
fn every_flag_and_file_of_the_readme_is_there() {
    let command = Cli::command();
    let mut known = BTreeSet::new();
    let mut open = vec![&command];
    while let Some(command) = open.pop() {
        known
            .extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}")));
        open.extend(command.get_subcommands());
    }
    let text = readme();
    for flag in inline(&text).iter().filter_map(|code| code.split(' ').next()).filter(|word| word.starts_with("--")) {
        assert!(known.contains(flag), "no command has the flag {flag}");
    }
    let links: Vec<_> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 6);
    for link in links.iter().filter(|link| !link.contains("://")) {
        assert!(root().join(link).exists(), "the README links {link}");
    }
}

#[test]
fn every_example_of_the_help_is_a_command() {
    let (mut open, mut found) = (vec![Cli::command()], 0);
    while let Some(command) = open.pop() {
        let text = joined(&command.get_after_help().map(ToString::to_string).unwrap_or_default());
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("far-mesh ")) {
            (found, _) = (found + 1, check(line));
        }
        open.extend(command.get_subcommands().cloned());
    }
    assert!(found >= 12, "{found}");
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    assert_eq!(words("far-mesh demo --json \"Hi there\" | jq .x"), ["far-mesh", "demo", "--json", "Hi there"]);
    assert_eq!(words("far-mesh demo --keep    stays up"), ["far-mesh", "demo", "--keep"]);
    assert_eq!(joined("a \\\n   b\nc"), "a b\nc\n");
}
