//! The figures, for programs and for people.

use std::fs;

use serde::Serialize;

use super::measure::{Speed, median};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) one_process: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mesh: Option<MeshFigures>,
    /// Bytes of weights, head and all layers.
    pub(super) packed_bytes: usize,
    /// Most memory this process ever had.
    pub(super) peak_rss_bytes: u64,
    /// Plain reading of more memory than the caches hold, with all threads.
    pub(super) read_bandwidth_gb_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sessions: Option<Sessions>,
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) decode_tokens_per_s: f64,
    pub(super) prefill_tokens_per_s: f64,
    pub(super) first_token_ms: FirstTokenMs,
}

/// How long a prompt of 512 tokens waits for its first token.
#[derive(Debug, Serialize)]
pub(super) struct FirstTokenMs {
    /// Never seen before.
    pub(super) new_prompt: f64,
    /// Asked just before in another session: its pages are there.
    pub(super) repeated_prompt: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct MeshFigures {
    #[serde(flatten)]
    pub(super) figures: Figures,
    pub(super) providers: u8,
    /// Median of the ratios of neighbouring measurements, mesh to one process.
    pub(super) decode_ratio: f64,
    pub(super) prefill_ratio: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Sessions {
    pub(super) count: u16,
    pub(super) total_tokens_per_s: f64,
}

impl Report {
    pub(super) fn table(&self) -> String {
        let limit = self.read_bandwidth_gb_per_s * 1e9 / self.packed_bytes.max(1) as f64;
        let row = |name: &str, figures: &Figures| {
            let FirstTokenMs { new_prompt, repeated_prompt } = figures.first_token_ms;
            let (decode, prefill) = (figures.decode_tokens_per_s, figures.prefill_tokens_per_s);
            format!(
                "{name:24} {decode:>10.1} tok/s {prefill:>14.1} tok/s {new_prompt:>8.0} ms {repeated_prompt:>12.0} ms\n"
            )
        };
        let titles = ["decode", "prefill 512", "first token", "asked again"];
        let mut text = format!("{:24} {:>16} {:>20} {:>11} {:>15}\n", "", titles[0], titles[1], titles[2], titles[3]);
        text.push_str(&row("one process", &self.one_process));
        if let Some(mesh) = &self.mesh {
            text.push_str(&row(&format!("{} providers", mesh.providers), &mesh.figures));
            text.push_str(&format!("{:24} {:>16.2} {:>20.2}\n", "ratio", mesh.decode_ratio, mesh.prefill_ratio));
        }
        if let Some(sessions) = &self.sessions {
            text.push_str(&format!(
                "{} sessions at once {:>10.1} tok/s in all\n",
                sessions.count, sessions.total_tokens_per_s
            ));
        }
        text.push_str(&format!(
            "\nweights {:.1} MB, peak memory {:.1} MB, reading {:.1} GB/s: at most {limit:.0} tok/s\n",
            self.packed_bytes as f64 / 1e6,
            self.peak_rss_bytes as f64 / 1e6,
            self.read_bandwidth_gb_per_s,
        ));
        text
    }
}

impl Figures {
    pub(super) fn of(speeds: &[Speed]) -> Self {
        let middle = |of: &dyn Fn(&Speed) -> f64| round(median(speeds.iter().map(of).collect()));
        Self {
            decode_tokens_per_s: middle(&|speed| speed.decode),
            prefill_tokens_per_s: middle(&Speed::prefill),
            first_token_ms: FirstTokenMs {
                new_prompt: middle(&|speed| speed.first_token.as_secs_f64() * 1e3),
                repeated_prompt: middle(&|speed| speed.first_token_repeated.as_secs_f64() * 1e3),
            },
        }
    }
}

pub(super) fn ratio(pairs: &[(Speed, Speed)], of: impl Fn(&Speed) -> f64) -> f64 {
    let ratio = median(pairs.iter().map(|(one, mesh)| of(mesh) / of(one)).collect());
    (ratio * 1000.0).round() / 1000.0
}

pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The process's greatest resident memory; 0 where the system does not say.
pub(super) fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().strip_suffix(" kB").and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
