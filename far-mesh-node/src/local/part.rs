//! One child process of a local mesh.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// Longest ready line that is read: a few addresses.
const MAX_READY_BYTES: u64 = 64 * 1024;
/// Last lines of a part's log that are kept for an error.
const KEPT_LOG_BYTES: usize = 4096;

/// The line a long-running command prints with `--json` once it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: String,
    /// `discovery`, `provider`, `coordinator` or `demo`.
    pub role: String,
    /// The node's identity.
    pub peer_id: String,
    /// Multiaddrs it can be dialled at, identity included.
    pub listen: Vec<String>,
    /// Base URL of its HTTP server, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
}

/// A running child and what it said when it was ready.
#[derive(Debug)]
pub struct Part {
    /// What the part is called in errors.
    pub name: String,
    /// Its ready line.
    pub ready: Ready,
    child: Child,
    log: Option<JoinHandle<String>>,
}

/// Why a part did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// The process could not be started.
    #[error("cannot start {name} with {}", program.display())]
    Spawn {
        /// The part.
        name: String,
        /// What was to run.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ended before it served.
    #[error("{name} ended before it served ({status}); its last words:\n{log}")]
    Ended {
        /// The part.
        name: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It did not serve in time.
    #[error("{name} does not serve after {seconds} s; FAR_MESH_LOG=info shows what it does")]
    Silent {
        /// The part.
        name: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Its first line was something else.
    #[error("{name} printed {line:?} where its ready line belongs")]
    NotReady {
        /// The part.
        name: String,
        /// What it printed.
        line: String,
    },
}

impl Ready {
    /// The line of a part that serves.
    pub fn new(role: &str, peer_id: String, listen: Vec<String>, http: Option<String>) -> Self {
        Self { event: "ready".into(), role: role.into(), peer_id, listen, http }
    }
}

impl Part {
    /// Starts `program` (a `far-mesh`) with `args` and waits for its ready line.
    ///
    /// # Errors
    /// [`PartError`] when it cannot be started, ends early or is silent for longer than `patience`.
    pub async fn start(program: &Path, name: &str, args: Vec<OsString>, patience: Duration) -> Result<Self, PartError> {
        let spawn = |source| PartError::Spawn { name: name.into(), program: program.into(), source };
        let mut child = Command::new(program)
            .args(args)
            .args(["--json", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn)?;
        let log = child.stderr.take().map(|stderr| tokio::spawn(tail(stderr)));
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout.take(MAX_READY_BYTES));
            if timeout(patience, stdout.read_line(&mut line)).await.is_err() {
                return Err(PartError::Silent { name: name.into(), seconds: patience.as_secs() });
            }
        }
        if line.is_empty() {
            let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
            let log = match log {
                Some(log) => log.await.unwrap_or_default(),
                None => String::new(),
            };
            return Err(PartError::Ended { name: name.into(), status, log });
        }
        match serde_json::from_str::<Ready>(&line) {
            Ok(ready) if ready.event == "ready" => Ok(Self { name: name.into(), ready, child, log }),
            _ => Err(PartError::NotReady { name: name.into(), line }),
        }
    }

    /// The process's number.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Takes a part out of the process's hands, as a crash would: kill -9, without a goodbye.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Asks the part to end and waits; kills it when it takes longer than `patience`.
    pub async fn stop(self, patience: Duration) -> Option<ExitStatus> {
        self.stop_for_log(patience).await.0
    }

    /// As [`Part::stop`], and the end of what it has logged.
    pub async fn stop_for_log(mut self, patience: Duration) -> (Option<ExitStatus>, String) {
        drop(self.child.stdin.take());
        let status = match timeout(patience, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                tracing::warn!(part = self.name, "does not end by itself, killing it");
                let _ = self.child.kill().await;
                None
            }
        };
        let log = match self.log.take() {
            Some(log) => log.await.unwrap_or_default(),
            None => String::new(),
        };
        (status, log)
    }
}

/// Keeps the end of a part's log; shows all of it to whoever asked for logs.
async fn tail(log: impl AsyncRead + Unpin) -> String {
    let shown = std::env::var_os("FAR_MESH_LOG").is_some();
    let mut lines = BufReader::new(log).lines();
    let mut kept = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if shown {
            eprintln!("{line}");
        }
        kept.push_str(&line);
        kept.push('\n');
        if kept.len() > 2 * KEPT_LOG_BYTES {
            let cut = kept.ceil_char_boundary(kept.len() - KEPT_LOG_BYTES);
            kept.drain(..cut);
        }
    }
    kept
}
