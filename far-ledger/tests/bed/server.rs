//! A PostgreSQL server of a test's own, which may be killed.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Folder of the server's programs. `tests/run ledger` names it.
pub(crate) const PROGRAMS: &str = "FAR_MESH_TEST_PG_BIN";

/// The user `nobody`: the server refuses to be root's.
const NOBODY: u32 = 65_534;

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a socket in a folder of its own. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    programs: PathBuf,
    dir: TempDir,
    process: Option<Child>,
}

impl Server {
    /// A fresh server, running.
    pub(crate) fn start() -> Self {
        let programs = std::env::var(PROGRAMS).unwrap_or_else(|_| {
            panic!("{PROGRAMS} names no folder with the programs of PostgreSQL: use tests/run ledger")
        });
        // A short path: that of a socket has about a hundred characters.
        let dir = tempfile::Builder::new().prefix("far-pg.").tempdir_in("/tmp").unwrap();
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut server = Self { programs: programs.into(), dir, process: None };
        let mut init = server.command("initdb");
        init.args(["-U", "far", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(server.data());
        let done = init.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        server.run();
        server
    }

    /// URL of the server's first database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://far@localhost/postgres?host={}", self.dir.path().display())
    }

    /// Kills the server and all its processes at once, as a loss of power would.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let all = children(process.id()).into_iter().chain([process.id()]).map(|id| id.to_string());
        drop(Command::new("kill").arg("-9").args(all).stderr(Stdio::null()).status());
        process.wait().unwrap();
    }

    /// Starts the server again and waits until it lets somebody in.
    pub(crate) fn run(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Fails while a process of the one before still holds the folder.
            if self.process.as_mut().is_none_or(|process| process.try_wait().unwrap().is_some()) {
                let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
                let mut postgres = self.command("postgres");
                postgres.args(["-c", "listen_addresses=", "-c", "fsync=on", "-k"]).arg(self.dir.path());
                postgres.arg("-D").arg(self.data()).stdout(Stdio::null()).stderr(log);
                self.process = Some(postgres.spawn().unwrap());
            }
            let mut ready = self.command("pg_isready");
            ready.arg("-q").arg("-h").arg(self.dir.path());
            if ready.status().unwrap().success() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("no server: {}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The processes that a process started, by what the system says of each.
fn children(parent: u32) -> Vec<u32> {
    let parent_of = |dir: &Path| {
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        // "id (name) state parent ...": the name may hold anything.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let dirs = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    dirs.filter(|dir| parent_of(dir) == Some(parent))
        .filter_map(|dir| dir.file_name()?.to_str()?.parse().ok())
        .collect()
}
