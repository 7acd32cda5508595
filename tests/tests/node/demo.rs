//! `far-mesh demo`: from nothing to a paid answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    process::{NONE, Ran, far_mesh, processes_in, ran, temporary},
    text::{ANSWER, ANSWER_TOKENS, LAYERS, PRICE_NANO, PROMPT, PROMPT_TOKENS, nano},
};

/// Runs a demo that must go well in a folder of its own, and looks at what it leaves there.
async fn demo(args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let dir = temporary();
    let mut command = far_mesh(&dir);
    command.arg("demo").arg("--model").arg(far_mesh_tests::model()).args(args).envs(variables.iter().copied());
    let ran = ran(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(processes_in(dir.path()), NONE, "no part outlives the demo");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("demo-")), "{left:?}");
    ran
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The object of `demo --json`, with everything checked that does not depend on the question.
pub(super) fn account(line: &str, providers: usize, price_nano: i64) -> Value {
    let object: Value = serde_json::from_str(line).unwrap();
    let wanted = ["text", "usage", "cost_far", "ttft_ms", "decode_tokens_per_s", "contributions"];
    assert_eq!(keys(&object), BTreeSet::from(wanted));
    let usage = &object["usage"];
    let (prompt, completion) = (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap());
    assert_eq!(usage["total_tokens"], prompt + completion);
    let cost = nano(object["cost_far"].as_str().unwrap());
    assert_eq!(cost, i64::try_from(completion).unwrap() * price_nano, "the price of every token");
    assert!(object["ttft_ms"].as_f64().unwrap() > 0.0 && object["decode_tokens_per_s"].as_f64().unwrap() > 0.0);

    let parts = object["contributions"].as_array().unwrap();
    assert_eq!(parts.len(), providers, "{parts:?}");
    let (mut next, mut paid, mut nodes) = (0, 0, BTreeSet::new());
    for part in parts {
        assert_eq!(keys(part), BTreeSet::from(["node_id", "layers", "tokens", "payment_far", "compute_ms"]));
        let [first, last] = [0, 1].map(|at| part["layers"][at].as_u64().unwrap());
        assert!(first == next && first <= last, "every layer once, in order: {parts:?}");
        next = last + 1;
        // The last token is sampled and not run.
        assert_eq!(part["tokens"], prompt + completion - 1);
        let payment = nano(part["payment_far"].as_str().unwrap());
        let share = cost * i64::try_from(last + 1 - first).unwrap() / i64::try_from(LAYERS).unwrap();
        assert!((share..=share + 1).contains(&payment), "{payment} of {cost} for {first} to {last}");
        paid += payment;
        assert!(part["compute_ms"].as_u64().is_some());
        nodes.insert(part["node_id"].as_str().unwrap());
    }
    assert_eq!((next, paid, nodes.len()), (LAYERS, cost, providers), "{parts:?}");
    object
}

#[tokio::test]
async fn a_program_gets_one_object_with_answer_and_account() {
    let ran = demo(&["--json", PROMPT], &[]).await;
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let object = account(&ran.stdout, 3, PRICE_NANO);
    assert!(object["text"].as_str().unwrap().starts_with(ANSWER), "{object}");
    assert_eq!(object["usage"]["prompt_tokens"], PROMPT_TOKENS);
}

#[tokio::test]
async fn exact_arithmetic_says_what_the_reference_says() {
    let ran = demo(&["--json", "--precision", "exact", "--max-tokens", "48", PROMPT], &[]).await;
    let object = account(&ran.stdout, 3, PRICE_NANO);
    assert_eq!((object["text"].as_str(), &object["usage"]["completion_tokens"]), (Some(ANSWER), &ANSWER_TOKENS.into()));
}

#[tokio::test]
async fn the_mesh_may_be_cut_otherwise_and_the_price_be_another() {
    let ran =
        demo(&["--json", "--providers", "5", "--max-tokens", "8", PROMPT], &[("PRICE_PER_TOKEN_FAR", "0.25")]).await;
    let object = account(&ran.stdout, 5, 250_000_000);
    assert_eq!(
        (object["cost_far"].as_str(), object["text"].as_str().unwrap()),
        (Some("2"), "Quantum computing is a rapidly evolving field that")
    );
}

#[tokio::test]
async fn a_person_sees_answer_running_cost_and_who_earned_what() {
    let ran = demo(&["--max-tokens", "48"], &[]).await;
    let (answer, report) = ran.stdout.split_once("\nnode ").expect("the table follows the answer");
    let mut lines = answer.lines().filter(|line| !line.is_empty());
    assert_eq!(lines.next(), Some(format!("> {PROMPT}").as_str()), "what is asked where nobody asks");
    let (mut text, mut costs) = (Vec::new(), Vec::new());
    for line in lines {
        let (words, cost) = line.strip_suffix(" FAR").unwrap().rsplit_once(' ').unwrap();
        text.extend(words.split_whitespace());
        costs.push(nano(cost));
    }
    assert_eq!(text.join(" "), ANSWER);
    assert!(costs.len() > 2 && costs.is_sorted() && costs.last() == Some(&4_800_000), "{costs:?}");

    let rows: Vec<Vec<_>> = report.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let parts: Vec<_> = rows.iter().filter(|row| row.first().is_some_and(|word| word.starts_with("12D3Koo"))).collect();
    let layers: Vec<_> = parts.iter().map(|row| (row[1], row[2])).collect();
    assert_eq!(layers, [("0..10", "80"), ("10..20", "80"), ("20..30", "80")]);
    assert_eq!(parts.iter().map(|row| nano(row[4])).sum::<i64>(), 4_800_000);
    let cost = rows.iter().find(|row| row.starts_with(&["cost", "of", "48", "generated", "tokens"]));
    assert_eq!(cost.and_then(|row| row.last()), Some(&"0.0048"), "{report}");
    assert!(
        report.contains("first token after ") && report.contains(" tokens/s") && report.contains("http://127.0.0.1:")
    );
}
