//! Who computed what and earned how much: a table for people, an object for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::answer::Answer;

/// The object that `demo --json` prints.
pub(super) fn json(answer: &Answer) -> Value {
    let done = &answer.done;
    json!({
        "text": answer.text,
        "usage": done.usage,
        "cost_far": done.cost_far,
        "ttft_ms": round(answer.time_to_first_token.as_secs_f64() * 1e3),
        "decode_tokens_per_s": round(decode_rate(answer)),
        "contributions": done.contributions,
    })
}

/// The table that `demo` prints.
pub(super) fn table(answer: &Answer) -> String {
    let done = &answer.done;
    let mut text = format!("\n{:54} {:>8} {:>7} {:>8} {:>12}\n", "node", "layers", "tokens", "ms", "FAR");
    for part in &done.contributions {
        let [first, last] = part.layers;
        let layers = format!("{first}..{}", last + 1);
        let _ = writeln!(
            text,
            "{:54} {layers:>8} {:>7} {:>8} {:>12}",
            part.node_id, part.tokens, part.compute_ms, part.payment_far
        );
    }
    let cost = format!("cost of {} generated tokens", done.usage.completion_tokens);
    let _ = writeln!(text, "{cost:54} {:>8} {:>7} {:>8} {:>12}", "", "", "", done.cost_far);
    let _ = writeln!(
        text,
        "\nfirst token after {:.0} ms, then {:.1} tokens/s",
        answer.time_to_first_token.as_secs_f64() * 1e3,
        decode_rate(answer)
    );
    text
}

/// Tokens a second after the first; 0 for an answer of one token.
fn decode_rate(answer: &Answer) -> f64 {
    let later = answer.done.usage.completion_tokens.saturating_sub(1);
    let seconds = answer.decode.as_secs_f64();
    if later == 0 || seconds <= 0.0 { 0.0 } else { f64::from(later) / seconds }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
