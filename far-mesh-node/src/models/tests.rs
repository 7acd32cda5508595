//! Pulls from a hub on loopback that misbehaves in the ways hubs and proxies do.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State as Shared,
    http::{HeaderMap, Response, Uri},
};
use futures::StreamExt;
use sha2::{Digest, Sha256 as Hasher};
use tempfile::TempDir;

use super::{
    download::Retry,
    hub::{Hub, HubFile},
    pull::{Model, PullError, Puller},
    store::{Store, beside},
    *,
};
use crate::{config::Sha256, progress::Progress};

/// What the hub does with the next requests, then it behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// Sends half of what was asked for, then hangs up.
    Half,
    /// 503.
    Busy,
    /// A login page.
    Page,
    /// A permanent status.
    Status(u16),
    /// Ignores the range and sends everything.
    NoRange,
    /// Sends a part that was not asked for.
    WrongRange,
    /// Sends without a length, forever.
    Endless,
    /// Leads to another path first, naming the hash there.
    Redirect,
    /// Leads in a circle.
    Circle,
}

#[derive(Debug)]
struct Content {
    body: Vec<u8>,
    hash: Option<String>,
    moods: Vec<Mood>,
    /// The `Range` header of each request.
    asked: Vec<Option<String>>,
}

type HubState = Arc<Mutex<Content>>;

struct Site {
    dir: TempDir,
    puller: Puller,
    content: HubState,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Site {
    async fn new(body: &[u8], moods: &[Mood]) -> Self {
        let content = Arc::new(Mutex::new(Content {
            body: body.to_vec(),
            hash: Some(sha256(body).to_string()),
            moods: moods.iter().rev().copied().collect(),
            asked: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(content.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let puller = Puller {
            store: Store::new(dir.path()),
            progress: Progress::Silent,
            retry: Retry { attempts: 3, pause: Duration::ZERO, max_bytes: 1 << 20 },
            server: Some((Hub::new(&endpoint, None).unwrap(), client)),
        };
        Self { dir, puller, content, server }
    }

    fn file() -> HubFile {
        HubFile::parse("owner/repo/m.gguf").unwrap()
    }

    fn target(&self) -> std::path::PathBuf {
        self.dir.path().join("models/owner/repo/m.gguf")
    }

    async fn pull(&self) -> Result<Model, PullError> {
        self.puller.hub(&Self::file(), None).await
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.content.lock().unwrap().asked.clone()
    }

    fn set(&self, moods: &[Mood]) {
        self.content.lock().unwrap().moods = moods.iter().rev().copied().collect();
    }
}

async fn answer(Shared(content): Shared<HubState>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let mut content = content.lock().unwrap();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    content.asked.push(text("range"));
    let mood = content.moods.pop();
    let etag = format!("\"{}\"", content.hash.clone().unwrap_or_else(|| "v1".into()));
    let range: Option<usize> =
        text("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let fresh = text("if-range").is_none_or(|known| known == etag);
    let from = range.filter(|_| fresh && mood != Some(Mood::NoRange)).unwrap_or(0);
    let response = Response::builder().header("etag", &etag);
    let body = content.body.clone();
    let all = body.len();
    match mood {
        Some(Mood::Busy) => response.status(503).body(Body::empty()),
        Some(Mood::Status(status)) => response.status(status).body(Body::empty()),
        Some(Mood::Page) => {
            response.header("content-type", "text/html; charset=utf-8").body("<html>log in</html>".into())
        }
        Some(Mood::Redirect) => response
            .status(302)
            .header("location", "/cdn/blob")
            .header("x-linked-etag", &etag)
            .header("x-linked-size", all)
            .header("x-repo-commit", "abc123")
            .body(Body::empty()),
        Some(Mood::Circle) => response.status(302).header("location", uri.path()).body(Body::empty()),
        Some(Mood::WrongRange) => response
            .status(206)
            .header("content-range", format!("bytes 1-{}/{all}", all - 1))
            .body(body[1..].to_vec().into()),
        Some(Mood::Endless) => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 65_536])));
            response.body(Body::from_stream(chunks))
        }
        Some(Mood::Half) => {
            let half = body[from..from + (all - from) / 2].to_vec();
            let hang_up = async {
                // Once the body waits, what was sent goes out before the connection ends.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cable pulled"))
            };
            let broken = futures::stream::iter([Ok(Bytes::from(half))]).chain(futures::stream::once(hang_up));
            let response = response.header("content-length", all - from);
            if from > 0 {
                response
                    .status(206)
                    .header("content-range", format!("bytes {from}-{}/{all}", all - 1))
                    .body(Body::from_stream(broken))
            } else {
                response.body(Body::from_stream(broken))
            }
        }
        None if from > 0 => response
            .status(206)
            .header("content-range", format!("bytes {from}-{}/{all}", all - 1))
            .body(body[from..].to_vec().into()),
        None | Some(Mood::NoRange) => response.body(body.into()),
    }
    .unwrap()
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(Hasher::digest(bytes).into())
}

fn model(bytes: usize) -> Vec<u8> {
    let mut model = b"GGUF".to_vec();
    model.extend((0..bytes).map(|i| (i * 31 % 251) as u8));
    model
}

#[tokio::test]
async fn a_file_is_pulled_once_and_recorded() {
    let body = model(100_000);
    let site = Site::new(&body, &[]).await;
    let pulled = site.pull().await.unwrap();
    assert_eq!((pulled.name.as_str(), pulled.hash.0), ("m", sha256(&body).0));
    assert_eq!(fs::read(&pulled.path).unwrap(), body);
    assert_eq!(site.pull().await.unwrap(), pulled);
    assert_eq!(site.asked().len(), 1, "the second pull asks nobody");
    let manifest = Manifest::of(&pulled.path).unwrap().unwrap();
    assert_eq!((manifest.source.as_str(), manifest.sha256), ("hf:owner/repo/m.gguf", sha256(&body)));
    assert!(!beside(&pulled.path, ".part").exists() && !beside(&pulled.path, ".part.json").exists());
    let found = resolve("m", site.dir.path(), Progress::Silent).await.unwrap();
    assert_eq!(found, pulled);
    let listed = list(site.dir.path()).unwrap();
    assert!(listed.iter().any(|model| model.name == "m" && model.state == State::Ready));
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let body = model(100_000);
    let site = Site::new(&body, &[Mood::Half, Mood::Busy, Mood::Half]).await;
    let pulled = site.pull().await.unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), body);
    let half = format!("bytes={}-", body.len() / 2);
    assert_eq!(site.asked()[..3], [None, Some(half.clone()), Some(half)]);
    assert_eq!(site.asked().len(), 4);
}

#[tokio::test]
async fn a_later_run_continues_an_interrupted_one() {
    let body = model(50_000);
    let site = Site::new(&body, &[Mood::Half, Mood::Busy, Mood::Busy, Mood::Busy]).await;
    let err = site.pull().await.unwrap_err();
    assert!(matches!(err, PullError::Download(DownloadError::Network { .. })), "{err}");
    let kept = fs::metadata(beside(&site.target(), ".part")).unwrap().len();
    assert_eq!(kept, body.len() as u64 / 2);
    site.set(&[]);
    assert_eq!(fs::read(site.pull().await.unwrap().path).unwrap(), body);
    assert_eq!(site.asked().last().unwrap(), &Some(format!("bytes={kept}-")));
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_starts_over() {
    let (old, new) = (model(50_000), model(60_000));
    let site = Site::new(&old, &[Mood::Half, Mood::Busy, Mood::Busy, Mood::Busy]).await;
    site.pull().await.unwrap_err();
    {
        let mut content = site.content.lock().unwrap();
        content.hash = Some(sha256(&new).to_string());
        content.body = new.clone();
    }
    site.set(&[]);
    assert_eq!(fs::read(site.pull().await.unwrap().path).unwrap(), new);
}

#[tokio::test]
async fn servers_that_ignore_or_mistake_the_range_do_no_harm() {
    for mood in [Mood::NoRange, Mood::WrongRange, Mood::Status(416)] {
        let body = model(40_000);
        let site = Site::new(&body, &[Mood::Half, mood]).await;
        assert_eq!(fs::read(site.pull().await.unwrap().path).unwrap(), body, "{mood:?}");
    }
}

#[tokio::test]
async fn the_hash_of_a_redirect_is_checked() {
    let body = model(10_000);
    let site = Site::new(&body, &[Mood::Redirect]).await;
    let pulled = site.pull().await.unwrap();
    assert_eq!(Manifest::of(&pulled.path).unwrap().unwrap().revision.as_deref(), Some("abc123"));

    let site = Site::new(&body, &[]).await;
    let wrong = sha256(b"other");
    site.content.lock().unwrap().hash = Some(wrong.to_string());
    let err = site.pull().await.unwrap_err();
    let text = err.to_string();
    assert!(matches!(err, PullError::WrongHash { deleted: true, .. }), "{text}");
    assert!(text.contains(&wrong.to_string()) && text.contains(&sha256(&body).to_string()), "{text}");
    assert!(!site.target().exists() && !beside(&site.target(), ".part").exists());
}

#[tokio::test]
async fn the_callers_hash_is_checked_before_and_after() {
    let body = model(10_000);
    let site = Site::new(&body, &[]).await;
    let err = site.puller.hub(&Site::file(), Some(sha256(b"other"))).await.unwrap_err();
    assert!(matches!(err, PullError::Download(DownloadError::OtherFile { .. })), "{err}");
    site.content.lock().unwrap().hash = None;
    let err = site.puller.hub(&Site::file(), Some(sha256(b"other"))).await.unwrap_err();
    assert!(matches!(err, PullError::WrongHash { deleted: true, .. }), "{err}");
    site.puller.hub(&Site::file(), Some(sha256(&body))).await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_is_refused_with_the_reason() {
    for (mood, part) in [
        (Mood::Page, "web page"),
        (Mood::Status(404), "404"),
        (Mood::Status(401), "HF_TOKEN"),
        (Mood::Status(400), "400"),
        (Mood::Endless, "more than 1048576 bytes"),
        (Mood::Circle, "redirected more than"),
    ] {
        let site = Site::new(&model(10), &[mood; 20]).await;
        let err = site.pull().await.unwrap_err().to_string();
        assert!(err.contains(part), "{mood:?}: {err}");
        assert!(!site.target().exists() && !beside(&site.target(), ".part").exists(), "{mood:?}");
    }
    let site = Site::new(&vec![b'G'; 2 << 20], &[]).await;
    assert!(matches!(site.pull().await, Err(PullError::Download(DownloadError::TooLarge { .. }))));
    let site = Site::new(b"not a model", &[]).await;
    assert!(matches!(site.pull().await, Err(PullError::NotGguf { deleted: true, .. })));
}

#[tokio::test]
async fn two_pulls_at_once_fetch_once() {
    let site = Site::new(&model(100_000), &[]).await;
    let (one, other) = tokio::join!(site.pull(), site.pull());
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(site.asked().len(), 1);
}

#[tokio::test]
async fn a_registered_file_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("mine.gguf"));
    fs::write(&file, model(100)).unwrap();
    let path = file.to_str().unwrap();
    let registered = pull(path, &data, None, Progress::Silent).await.unwrap();
    assert_eq!(registered.path, fs::canonicalize(&file).unwrap());
    assert_eq!(resolve("mine", &data, Progress::Silent).await.unwrap(), registered);
    let wrong = pull(path, &data, Some(sha256(b"")), Progress::Silent).await.unwrap_err();
    assert!(matches!(wrong, PullError::WrongHash { deleted: false, .. }), "{wrong}");
    assert!(file.exists());
    fs::write(&file, model(200)).unwrap();
    assert!(resolve("mine", &data, Progress::Silent).await.is_err(), "the file is another one now");
    fs::remove_file(&file).unwrap();
    assert_eq!(list(&data).unwrap().iter().find(|model| model.name == "mine").unwrap().state, State::Missing);
}

#[tokio::test]
async fn what_is_no_model_on_this_machine_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.gguf");
    fs::write(&text, "hello").unwrap();
    for (name, part) in [
        (text.to_str().unwrap(), "not a GGUF file"),
        (dir.path().join("").to_str().unwrap(), "no config.json"),
        ("./absent.gguf", "does not exist"),
        ("smollm2-135m-instrct", "did you mean smollm2-135m-instruct"),
        ("hf:../../etc/passwd", "hf:OWNER/REPO/FILE"),
    ] {
        let err = resolve(name, dir.path(), Progress::Silent).await.unwrap_err().to_string();
        assert!(err.contains(part), "{name}: {err}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named_with_the_remedy() {
    let site = Site::new(&model(10), &[]).await;
    fs::write(site.dir.path().join("models"), "a file in the way").unwrap();
    let err = site.pull().await.unwrap_err().to_string();
    assert!(err.contains("models") && err.contains("--data-dir"), "{err}");
}
