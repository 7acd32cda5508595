//! The calls.

use std::time::Duration;

use reqwest::{Method, Response, Url};
use serde::de::DeserializeOwned;

use crate::{
    Error, EventStream, retry,
    schema::{
        AccountInfo, ErrorBody, ErrorDetail, GenerateRequest, Generated, Health, MeshStatus, ModelList, NodeList,
        SessionAccount,
    },
};

/// Longest body of an answer that is read whole: the account of a session over very many hops is a tenth of it.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Longest part of an answer quoted when it is not a coordinator's.
const QUOTED_CHARS: usize = 200;

/// How a client waits and tries again.
#[derive(Clone)]
pub struct Options {
    /// Key, sent as `Authorization: Bearer`; none where the coordinator asks for none.
    pub api_key: Option<String>,
    /// How long a connection may take to be made: hosts that answer at all do so in less.
    pub connect_timeout: Duration,
    /// Longest silence, in a stream as well as before an answer. A coordinator sends a comment every 15 s of a stream;
    /// an answer that is not streamed comes only when all of it is generated.
    pub idle_timeout: Duration,
    /// How often a call is sent at most. It is sent again only where nothing can have been run: the connection was not
    /// made, or the answer was 429 or 503 with `Retry-After`.
    pub attempts: u32,
    /// Longest pause before another attempt; an answer that asks for a longer one is an error at once.
    pub max_pause: Duration,
}

/// The key is not shown.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("api_key", &self.api_key.as_ref().map(|_| "..."))
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("attempts", &self.attempts)
            .field("max_pause", &self.max_pause)
            .finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_key: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(120),
            attempts: 3,
            max_pause: Duration::from_secs(10),
        }
    }
}

/// A coordinator's client. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    options: Options,
}

impl Client {
    /// A client of the coordinator at `base_url`, for example `http://127.0.0.1:8100`.
    ///
    /// # Errors
    /// [`Error::BaseUrl`] when that is no address.
    pub fn new(base_url: &str) -> Result<Self, Error> {
        Self::with_options(base_url, Options::default())
    }

    /// A client with other than the usual patience.
    ///
    /// # Errors
    /// [`Error::BaseUrl`] when `base_url` is no address, [`Error::Transport`] when TLS cannot be set up.
    pub fn with_options(base_url: &str, options: Options) -> Result<Self, Error> {
        let wrong = || Error::BaseUrl { url: base_url.to_owned() };
        let mut base = Url::parse(base_url).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong());
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let mut builder = reqwest::Client::builder().connect_timeout(options.connect_timeout);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(Error::Transport)?;
        Ok(Self { base, http, options })
    }

    /// Goes on from a raw text, without a chat template.
    ///
    /// # Errors
    /// [`Error::Refused`] when the coordinator does not begin; what fails later is an item of the stream.
    pub async fn generate(&self, request: &GenerateRequest) -> Result<EventStream, Error> {
        self.stream(&["inference", "generate"], request).await
    }

    /// Answers a conversation through the model's chat template.
    ///
    /// # Errors
    /// As [`Client::generate`].
    pub async fn chat(&self, request: &GenerateRequest) -> Result<EventStream, Error> {
        self.stream(&["api", "inference", "chat"], request).await
    }

    /// As [`Client::generate`], but waits for the whole.
    ///
    /// # Errors
    /// [`Error::Refused`], also when the generation fails on its way.
    pub async fn generate_whole(&self, request: &GenerateRequest) -> Result<Generated, Error> {
        let request = GenerateRequest { stream: Some(false), ..request.clone() };
        self.read(self.send(Method::POST, &["inference", "generate"], Some(&request)).await?).await
    }

    /// As [`Client::chat`], but waits for the whole.
    ///
    /// # Errors
    /// As [`Client::generate_whole`].
    pub async fn chat_whole(&self, request: &GenerateRequest) -> Result<Generated, Error> {
        let request = GenerateRequest { stream: Some(false), ..request.clone() };
        self.read(self.send(Method::POST, &["api", "inference", "chat"], Some(&request)).await?).await
    }

    /// The models known and whether they are complete.
    ///
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn models(&self) -> Result<ModelList, Error> {
        self.get(&["models"]).await
    }

    /// Who serves a model.
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 when the model is not known.
    pub async fn nodes(&self, model: &str) -> Result<NodeList, Error> {
        self.get(&["models", model, "nodes"]).await
    }

    /// The mesh as the coordinator sees it.
    ///
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn status(&self) -> Result<MeshStatus, Error> {
        self.get(&["mesh", "status"]).await
    }

    /// Whether the coordinator can serve; a 503 with a state is an answer, not an error.
    ///
    /// # Errors
    /// When the coordinator cannot be asked.
    pub async fn health(&self) -> Result<Health, Error> {
        let response = self.send_once(Method::GET, &["health"], None).await?;
        if !matches!(response.status().as_u16(), 200 | 503) {
            return Err(self.refusal(response).await);
        }
        self.read(response).await
    }

    /// A session's account.
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 when the session is not known.
    pub async fn session(&self, id: &str) -> Result<SessionAccount, Error> {
        self.get(&["sessions", id]).await
    }

    /// What the account of the client's key has, and what the key used in the last 30 days.
    ///
    /// # Errors
    /// [`Error::Refused`] with 401 when the client has no key, or one that is not valid.
    pub async fn account(&self) -> Result<AccountInfo, Error> {
        self.get(&["account"]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        self.read(self.send(Method::GET, path, None).await?).await
    }

    async fn stream(&self, path: &[&str], request: &GenerateRequest) -> Result<EventStream, Error> {
        let request = GenerateRequest { stream: Some(true), ..request.clone() };
        let response = self.send(Method::POST, path, Some(&request)).await?;
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(Error::Protocol { reason: format!("content type {kind:?}, not text/event-stream") });
        }
        Ok(EventStream::new(response, self.options.idle_timeout))
    }

    /// Sends until there is a success, a refusal or no more patience.
    async fn send(&self, method: Method, path: &[&str], body: Option<&GenerateRequest>) -> Result<Response, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.send_once(method.clone(), path, body).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => self.refusal(response).await,
                Err(error) => error,
            };
            attempt += 1;
            match retry::pause(&error, attempt, &self.options) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&GenerateRequest>,
    ) -> Result<Response, Error> {
        let mut request = self.http.request(method, self.url(path)?);
        if let Some(key) = &self.options.api_key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let sent = tokio::time::timeout(self.options.idle_timeout, request.send()).await;
        sent.map_err(|_| self.silent())?.map_err(|source| {
            if source.is_connect() {
                Error::Connect { url: self.base.to_string(), source }
            } else {
                Error::Transport(source)
            }
        })
    }

    /// Segments are escaped, so that a model's name may hold a slash.
    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::BaseUrl { url: self.base.to_string() })?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let body = self.body(response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Protocol { reason: format!("{error} in {:?}", quote(&body)) })
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status().as_u16();
        let retry_after = retry::retry_after(response.headers());
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        let detail = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => body.error,
            Err(_) => ErrorDetail { message: quote(&body), kind: "unknown".to_owned(), code: None, param: None },
        };
        Error::Refused { status, detail, retry_after }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let chunk = tokio::time::timeout(self.options.idle_timeout, response.chunk()).await;
            let Some(chunk) = chunk.map_err(|_| self.silent())?.map_err(Error::Transport)? else {
                return Ok(body);
            };
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(Error::Protocol { reason: format!("it passes {MAX_ANSWER_BYTES} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn silent(&self) -> Error {
        Error::Timeout { after: self.options.idle_timeout }
    }
}

/// A proxy named in the environment is no way to this very machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(QUOTED_CHARS).collect()
}

/// The key is not shown.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
