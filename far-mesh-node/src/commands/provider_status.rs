//! `far-mesh provider status`.

use std::{fmt::Write as _, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{CommandError, print, print_json};
use crate::{cli::ProviderStatusArgs, config::Config};

/// How long a provider may take to answer: it is on this machine or near.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why a provider's state is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// Nobody answers there.
    #[error("no provider answers at {url}: is it running, and is this its --http address?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What was seen.
        #[source]
        source: reqwest::Error,
    },
    /// Somebody else does.
    #[error("{url} is not a provider's: {reason}")]
    NotAProvider {
        /// What was asked.
        url: String,
        /// What was seen.
        reason: String,
    },
}

/// What a provider says of itself; programs get all of it, people this.
#[derive(Debug, Deserialize)]
struct Health {
    role: String,
    peer_id: String,
    connected: usize,
    layers: Option<[u32; 2]>,
    sessions: Option<usize>,
    free_tokens: Option<u64>,
    #[serde(default)]
    reachability: String,
    #[serde(default)]
    addresses: Vec<String>,
}

/// Asks a running provider how it does and prints it.
///
/// # Errors
/// [`CommandError::Status`] when it does not answer.
pub async fn run(args: ProviderStatusArgs, config: Config) -> Result<(), CommandError> {
    let url = format!("http://{}/health", config.http);
    let answer = ask(&url).await?;
    if args.json {
        return print_json(&answer);
    }
    print(&table(&url, answer)?)
}

async fn ask(url: &str) -> Result<Value, StatusError> {
    let unreachable = |source| StatusError::Unreachable { url: url.to_owned(), source };
    let not = |reason: String| StatusError::NotAProvider { url: url.to_owned(), reason };
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(unreachable)?;
    let mut answer = http.get(url).send().await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(not(format!("its answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&part);
    }
    serde_json::from_slice(&body).map_err(|error| not(format!("status {}, {error}", answer.status())))
}

fn table(url: &str, answer: Value) -> Result<String, StatusError> {
    let not = |reason: String| StatusError::NotAProvider { url: url.to_owned(), reason };
    let health: Health = serde_json::from_value(answer).map_err(|error| not(error.to_string()))?;
    if health.role != "provider" {
        return Err(not(format!("it is a {}", health.role)));
    }
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let layers = or_none(health.layers.map(|[first, last]| format!("{first} to {last}")));
    let mut rows = vec![
        ("node", health.peer_id),
        ("layers", layers),
        ("sessions", or_none(health.sessions.map(|sessions| sessions.to_string()))),
        ("free positions", or_none(health.free_tokens.map(|tokens| tokens.to_string()))),
        ("connected nodes", health.connected.to_string()),
        ("reachability", explained(&health.reachability)),
    ];
    let mut label = "reached at";
    for addr in health.addresses {
        rows.push((std::mem::take(&mut label), addr));
    }
    Ok(rows.into_iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16} {value}");
        text
    }))
}

/// The word, and what to do about it where something can be done.
fn explained(reachability: &str) -> String {
    let more = match reachability {
        "direct" => "others dial it",
        "hole-punched" => "behind a NAT that lets others through",
        "relayed" => "behind a NAT; forward a port and name it with --external to be faster",
        "unreachable" => "behind a NAT, and no relay has a place: forward a port and name it with --external",
        "unknown" => "nobody has tried yet",
        _ => return reachability.to_owned(),
    };
    format!("{reachability} ({more})")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_reads_how_the_node_is_reached() {
        let answer = json!({
            "ok": true, "role": "provider", "peer_id": "12D3", "connected": 3, "layers": [0, 9], "sessions": 2,
            "free_tokens": 4096, "reachability": "relayed", "addresses": ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1"],
        });
        let text = table("http://x", answer).unwrap();
        assert!(text.contains("layers           0 to 9\n"), "{text}");
        assert!(text.contains("reachability     relayed (behind a NAT; forward a port"), "{text}");
        assert!(
            text.contains("reached at       /ip4/192.0.2.1/tcp/1\n                 /ip4/192.0.2.2/tcp/1\n"),
            "{text}"
        );
    }

    #[test]
    fn another_program_is_named() {
        for answer in [json!({"role": "discovery", "peer_id": "1", "connected": 0}), json!([1]), json!({})] {
            assert!(matches!(table("http://x", answer), Err(StatusError::NotAProvider { .. })));
        }
    }
}
