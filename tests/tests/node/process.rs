//! Programs that are run, asked to end, killed, and looked for afterwards.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// A run that takes longer hangs; the longest, a benchmark beside other tests, takes a third of it.
const PATIENCE: Duration = Duration::from_secs(100);

/// What a finished run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `far-mesh` with a data folder of its own, where no settings of the machine reach it.
pub(crate) fn far_mesh(data_dir: &TempDir) -> Command {
    let mut command = Command::new(far_mesh_tests::program());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("FAR_MESH_")) {
            command.env_remove(name);
        }
    }
    for name in ["PRICE_PER_TOKEN_FAR", "POSTGRES_URL", "REDIS_URL"] {
        command.env_remove(name);
    }
    // The current folder is where a configuration is looked for.
    command.current_dir(data_dir).env("FAR_MESH_DATA_DIR", data_dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs to the end.
pub(crate) async fn ran(mut command: Command) -> Ran {
    let output = timeout(PATIENCE, command.output()).await.unwrap_or_else(|_| panic!("{command:?} hangs"));
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|error| panic!("not text: {error}"));
    let ran = Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ran.stderr.contains("panicked at"), "{}", ran.stderr);
    ran
}

/// `far-mesh` with these arguments, run to the end.
pub(crate) async fn run(data_dir: &TempDir, args: &[impl AsRef<OsStr>]) -> Ran {
    let mut command = far_mesh(data_dir);
    command.args(args);
    ran(command).await
}

pub(crate) fn temporary() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for a test: {error}"))
}

/// A program that is running.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text).await;
            text
        });
        Self { child, lines, stderr }
    }

    /// The next line of its output; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("it says nothing").expect("its output is text")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// ctrl-C.
    pub(crate) async fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.pid().to_string()]).status().await;
        assert!(sent.expect("`kill` runs").success());
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Waits for its end: how, and what its log was.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        let log = self.stderr.await.unwrap();
        assert!(!log.contains("panicked at"), "{log}");
        (status, log)
    }
}

/// What [`processes_in`] finds when nothing runs there.
pub(crate) const NONE: [u32; 0] = [];

/// Processes whose command line names this folder: the parts of a mesh have theirs in it.
pub(crate) fn processes_in(dir: &Path) -> Vec<u32> {
    let dir = dir.to_str().expect("a temporary folder's name is text");
    let Ok(entries) = std::fs::read_dir("/proc") else { panic!("this test looks at processes in /proc") };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // One that ended meanwhile, reaped or not, has no command line.
    let named = |pid: &u32| {
        let line = std::fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(dir)
    };
    pids.filter(named).collect()
}

/// Looks until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let seen = timeout(Duration::from_secs(30), async {
        loop {
            ticks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    });
    seen.await.unwrap_or_else(|_| panic!("still not after 30 s: {what}"))
}
