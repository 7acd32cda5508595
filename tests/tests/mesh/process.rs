//! What can be done to a process and seen of it from outside.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use far_mesh_node::local::Part;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Time between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// Most that ever was resident.
    pub(crate) peak: u64,
}

/// What a provider says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) sessions: u64,
    pub(crate) free_tokens: u64,
}

/// Sends a signal such as `KILL` or `STOP`.
pub(crate) fn signal(part: &Part, name: &str) {
    let pid = part.pid().expect("the process runs").to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill can be run");
    assert!(sent.success(), "SIG{name} to {} ({pid}): {sent}", part.name);
}

pub(crate) fn memory(part: &Part) -> Memory {
    let pid = part.pid().expect("the process runs");
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux has /proc");
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} {text}"));
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    Memory { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
}

/// `GET` of a part's HTTP server: status and body.
pub(crate) async fn get(part: &Part, path: &str) -> (u16, Value) {
    let base = part.ready.http.as_deref().expect("the part serves HTTP");
    let host = base.strip_prefix("http://").unwrap();
    let asked = async {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let asked = within(Duration::from_secs(10), path, asked).await;
    let answer = asked.unwrap_or_else(|error| panic!("{} does not answer {path}: {error}", part.name));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not HTTP: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// What a provider's `/health` says.
pub(crate) async fn room(provider: &Part) -> Room {
    let (_, health) = get(provider, "/health").await;
    let number = |name: &str| health[name].as_u64().unwrap_or_else(|| panic!("no {name} in {health}"));
    Room { sessions: number("sessions"), free_tokens: number("free_tokens") }
}

/// Waits until every provider has this room again.
pub(crate) async fn until_room<'a>(
    limit: Duration,
    what: &str,
    providers: impl IntoIterator<Item = (&'a Part, Room)>,
) -> Duration {
    let providers: Vec<_> = providers.into_iter().collect();
    let started = Instant::now();
    until(limit, what, async || {
        let mut wrong = vec![];
        for (part, want) in &providers {
            let got = room(part).await;
            if got != *want {
                wrong.push(format!("{} has {got:?}, had {want:?}", part.name));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await;
    started.elapsed()
}

/// Looks until `check` gives a value; panics with the last of its complaints when that takes longer than `limit`.
pub(crate) async fn until<T>(limit: Duration, what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match check().await {
            Ok(value) => return value,
            Err(complaint) => assert!(started.elapsed() < limit, "{what}: not within {limit:?}: {complaint}"),
        }
    }
}

/// The future's value; panics when it takes longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}
