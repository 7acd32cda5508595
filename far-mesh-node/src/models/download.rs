//! Downloads one file over HTTP into `FILE.part`, going on where an earlier attempt stopped.
//!
//! Beside the part lies `FILE.part.json`, which says what version of the file it is the beginning of (ETag, and the
//! SHA-256 where the server names one). A part is continued only where the server confirms that version (`If-Range`,
//! RFC 9110 section 13.1.5) or where the hash that is checked at the end is known; else the download starts over.

use std::{path::Path, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, IF_RANGE, RANGE},
};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{self, File},
    io::{AsyncSeekExt, AsyncWriteExt, SeekFrom},
};

use super::{
    answer::{self, Answer},
    download_error::{Broken, DownloadError},
    hub::Hub,
    store::{StoreError, beside, make_room_for, remove},
};
use crate::{config::Sha256, progress::Progress};

/// Most hops from the hub to where its files lie.
const MAX_REDIRECTS: usize = 8;

/// A server that sends nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// Largest file of a model: ten times the largest known today.
const MAX_FILE_BYTES: u64 = 4 << 40;

/// What to download and how hard to try.
#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) hub: &'a Hub,
    pub(super) url: Url,
    pub(super) target: &'a Path,
    /// The hash the caller wants.
    pub(super) wanted: Option<Sha256>,
    pub(super) progress: Progress,
    pub(super) retry: Retry,
}

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// Attempts in a row without progress.
    pub(super) attempts: u32,
    /// Before the second attempt; doubles each time.
    pub(super) pause: Duration,
    /// Most bytes of a file whose size nobody says.
    pub(super) max_bytes: u64,
}

/// A complete `FILE.part`, not yet verified.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The hash it must have, where the caller or the server said one.
    pub(super) sha256: Option<Sha256>,
    /// The hub's commit.
    pub(super) revision: Option<String>,
}

/// What a part is the beginning of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Version {
    url: String,
    etag: Option<String>,
    sha256: Option<Sha256>,
    total: Option<u64>,
    revision: Option<String>,
}

enum Attempt {
    Done(Fetched),
    Broken(Broken),
}

impl Default for Retry {
    fn default() -> Self {
        // 1 + 2 + 4 + 8 seconds outlast a restart of a router, not the patience of a user.
        Self { attempts: 5, pause: Duration::from_secs(1), max_bytes: MAX_FILE_BYTES }
    }
}

/// A client that follows no redirect by itself: the hub's answers to them name the file's hash.
pub(super) fn client() -> Result<Client, DownloadError> {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).read_timeout(SILENCE);
    builder
        .connect_timeout(SILENCE)
        .user_agent(concat!("far-mesh/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(DownloadError::Client)
}

impl Download<'_> {
    /// Downloads until the part is complete. A dropped future leaves a part that the next call continues.
    pub(super) async fn run(&self) -> Result<Fetched, DownloadError> {
        make_room_for(self.target)?;
        let (mut failures, mut pause, mut reached) = (0, self.retry.pause, self.part_bytes().await);
        loop {
            let broken = match self.attempt().await? {
                Attempt::Done(fetched) => return Ok(fetched),
                Attempt::Broken(broken) => broken,
            };
            let now = self.part_bytes().await;
            if now > reached {
                (failures, pause) = (0, self.retry.pause);
            }
            reached = now;
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(DownloadError::Network { url: self.url.to_string(), attempts: failures, source: broken });
            }
            tracing::warn!(error = %broken, kept_bytes = now, "download broke off, trying again");
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn attempt(&self) -> Result<Attempt, DownloadError> {
        let (offset, kept) = self.resume_point().await?;
        let answer = match self.ask(offset, &kept).await? {
            Ok(answer) => answer,
            Err(broken) => return Ok(Attempt::Broken(broken)),
        };
        if let (Some(wanted), Some(server)) = (self.wanted, answer.sha256)
            && wanted != server
        {
            return Err(DownloadError::OtherFile { url: self.url.to_string(), server, wanted });
        }
        let changed = offset > 0 && kept.sha256.is_some() && answer.sha256.is_some() && kept.sha256 != answer.sha256;
        let start = match answer.start {
            // The whole file, from its beginning.
            None => 0,
            Some(start) if start == offset && !changed => offset,
            Some(_) => {
                self.forget().await?;
                return Ok(Attempt::Broken(Broken::Range));
            }
        };
        self.refuse_large(answer.total)?;
        let version = Version {
            url: self.url.to_string(),
            etag: answer.etag.clone(),
            sha256: answer.sha256,
            total: answer.total,
            revision: answer.revision.clone(),
        };
        self.remember(&version).await?;
        self.receive(answer, start, version).await
    }

    /// Where to go on: the bytes of the part, if what it is the beginning of can be checked.
    async fn resume_point(&self) -> Result<(u64, Version), DownloadError> {
        let bytes = self.part_bytes().await;
        let kept: Option<Version> =
            fs::read(self.version_path()).await.ok().and_then(|text| serde_json::from_slice(&text).ok());
        let kept = kept.filter(|kept| bytes > 0 && kept.url == self.url.as_str());
        let Some(kept) = kept else { return Ok((0, Version::default())) };
        let checkable = kept.etag.is_some() || kept.sha256.is_some() || self.wanted.is_some();
        let fits = kept.total.is_none_or(|total| bytes < total);
        Ok(if checkable && fits { (bytes, kept) } else { (0, Version::default()) })
    }

    /// Asks for the file from `offset` on, through redirects; the inner error is worth another attempt.
    async fn ask(&self, offset: u64, kept: &Version) -> Result<Result<Answer, Broken>, DownloadError> {
        let (mut url, mut told) = (self.url.clone(), HeaderMap::new());
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.hub.token().filter(|_| same_origin(&url, &self.url)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
                if let Some(etag) = &kept.etag {
                    request = request.header(IF_RANGE, etag);
                }
            }
            let response = match request.send().await {
                Ok(response) => response,
                Err(err) => return Ok(Err(Broken::Connection(err.without_url()))),
            };
            for (name, value) in response.headers() {
                if name.as_str().starts_with("x-linked-") || name.as_str() == "x-repo-commit" {
                    told.entry(name).or_insert(value.clone());
                }
            }
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return self.judge(&url, response, &told).await;
            }
            url = self.next(&url, &response)?;
        }
        Err(self.redirect(format!("more than {MAX_REDIRECTS} times")))
    }

    async fn judge(
        &self,
        url: &Url,
        response: Response,
        told: &HeaderMap,
    ) -> Result<Result<Answer, Broken>, DownloadError> {
        // Where files lie is often an address with a signature in its query: not for a log.
        let mut shown = url.clone();
        shown.set_query(None);
        let (status, url) = (response.status(), shown.to_string());
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                if let Some(content_type) = answer::web_page(response.headers()) {
                    return Err(DownloadError::WebPage { url, content_type });
                }
                Ok(Answer::read(response, told).ok_or(Broken::Range))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.forget().await?;
                Ok(Err(Broken::Range))
            }
            StatusCode::NOT_FOUND => Err(DownloadError::NotFound { url }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(DownloadError::Forbidden { url, status: status.as_u16() })
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Ok(Err(Broken::Status { status: status.as_u16() }))
            }
            status if status.is_server_error() => Ok(Err(Broken::Status { status: status.as_u16() })),
            status => Err(DownloadError::Status { url, status: status.as_u16() }),
        }
    }

    fn next(&self, from: &Url, response: &Response) -> Result<Url, DownloadError> {
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| self.redirect("to nowhere: no Location".to_owned()))?;
        let to = from.join(location).map_err(|_| self.redirect(format!("to {location:?}, which is no address")))?;
        let safe = to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http");
        if safe {
            Ok(to)
        } else {
            Err(self.redirect(format!("from {} to {}, which is not safe", from.scheme(), to.scheme())))
        }
    }

    async fn receive(&self, mut answer: Answer, start: u64, version: Version) -> Result<Attempt, DownloadError> {
        let part = beside(self.target, ".part");
        let store = |doing| StoreError::io(doing, &part);
        let mut file =
            File::options().create(true).truncate(false).write(true).open(&part).await.map_err(store("open"))?;
        file.set_len(start).await.map_err(store("shorten"))?;
        file.seek(SeekFrom::Start(start)).await.map_err(store("seek in"))?;
        let meter = self.progress.begin(&format!("fetching {}", file_name(self.target)), answer.total);
        let mut at = start;
        let broken = loop {
            match answer.body.chunk().await {
                Ok(Some(bytes)) => {
                    at = at.saturating_add(bytes.len() as u64);
                    if answer.total.is_some_and(|total| at > total) || at > self.retry.max_bytes {
                        drop(file);
                        self.forget().await?;
                        self.refuse_large(Some(at))?;
                        return Err(self.too_large(answer.total.unwrap_or(at), "as the server said itself"));
                    }
                    file.write_all(&bytes).await.map_err(store("write"))?;
                    meter.set(at);
                }
                Ok(None) => match answer.total {
                    Some(want) if at < want => break Some(Broken::Truncated { got: at, want }),
                    _ => break None,
                },
                Err(err) => break Some(Broken::Connection(err.without_url())),
            }
        };
        file.flush().await.map_err(store("write"))?;
        if let Some(broken) = broken {
            return Ok(Attempt::Broken(broken));
        }
        Ok(Attempt::Done(Fetched { sha256: self.wanted.or(version.sha256), revision: version.revision }))
    }

    fn refuse_large(&self, bytes: Option<u64>) -> Result<(), DownloadError> {
        match bytes {
            Some(bytes) if bytes > self.retry.max_bytes => {
                Err(self.too_large(self.retry.max_bytes, "more than any model has"))
            }
            _ => Ok(()),
        }
    }

    fn too_large(&self, limit: u64, why: &'static str) -> DownloadError {
        DownloadError::TooLarge { url: self.url.to_string(), limit, why }
    }

    fn redirect(&self, reason: String) -> DownloadError {
        DownloadError::Redirect { url: self.url.to_string(), reason }
    }

    fn version_path(&self) -> std::path::PathBuf {
        beside(self.target, ".part.json")
    }

    async fn part_bytes(&self) -> u64 {
        fs::metadata(beside(self.target, ".part")).await.map_or(0, |metadata| metadata.len())
    }

    async fn remember(&self, version: &Version) -> Result<(), DownloadError> {
        let path = self.version_path();
        let text = serde_json::to_vec(version).unwrap_or_default();
        Ok(fs::write(&path, text).await.map_err(StoreError::io("write", &path))?)
    }

    /// Deletes the part: it is of no use.
    async fn forget(&self) -> Result<(), DownloadError> {
        discard(self.target)?;
        Ok(())
    }
}

/// Deletes the part of a file and what is known about it.
pub(super) fn discard(target: &Path) -> Result<(), StoreError> {
    remove(&beside(target, ".part"))?;
    remove(&beside(target, ".part.json"))
}

/// The last part of a path, for people.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}
