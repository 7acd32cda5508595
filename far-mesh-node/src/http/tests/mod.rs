//! The whole HTTP layer over real sockets, with a mock in the mesh's place and a real ledger.

mod connections;
mod errors;
mod far;
mod keys;
mod mock;
mod openai;

use std::{future::Future, sync::Arc, time::Duration};

use far_ledger::{Ledger, Store};
use far_mesh_client::Client;
use far_mesh_core::{id::NodeId, task::Tasks};
use mock::MockEngine;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Access, OpenAccess, Options, Server};
use crate::metering::{Meter, Terms};

/// A server with everything that a test looks at.
struct Rig {
    url: String,
    client: Client,
    http: reqwest::Client,
    engine: Arc<MockEngine>,
    store: Arc<Ledger>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    writers: Tasks,
    _dir: TempDir,
}

impl Rig {
    async fn new(engine: MockEngine) -> Self {
        Self::with(engine, Options::default(), Arc::new(OpenAccess)).await
    }

    async fn with(engine: MockEngine, options: Options, access: Arc<dyn Access>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Ledger::open(dir.path().join("ledger.db")).await.unwrap();
        Self::over(dir, store, engine, options, access, Terms::default()).await
    }

    /// The same over a ledger that is there; the price is always 0.0001 FAR.
    async fn over(
        dir: TempDir,
        store: Ledger,
        engine: MockEngine,
        options: Options,
        access: Arc<dyn Access>,
        terms: Terms,
    ) -> Self {
        let terms = Terms { price: "0.0001".parse().unwrap(), ..terms };
        let (meter, scribes) = Meter::new(store.clone(), terms, NodeId::random());
        let (store, writers) = (Arc::new(store), Tasks::new());
        writers.spawn_graceful(scribes.run(writers.cancelled()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let engine = Arc::new(engine);
        let server = Server::new(engine.clone(), meter, access, options);
        Self {
            client: Client::new(&url).unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url,
            engine,
            store,
            server: tokio::spawn(server.serve(listener, shutdown.clone())),
            shutdown,
            writers,
            _dir: dir,
        }
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        within(self.http.post(format!("{}{path}", self.url)).json(body).send()).await.unwrap()
    }

    /// Posts, expects this status, and gives the body back.
    async fn post_json(&self, path: &str, body: Value, status: u16) -> Value {
        let response = self.post(path, &body).await;
        let got = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert_eq!(got, status, "{body} -> {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn get_json(&self, path: &str, status: u16) -> Value {
        let response = within(self.http.get(format!("{}{path}", self.url)).send()).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
        response.json().await.unwrap()
    }

    /// Posts and reads the data of all events.
    async fn stream(&self, path: &str, body: Value) -> Vec<String> {
        let response = self.post(path, &body).await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut parser = far_mesh_client::sse::Parser::default();
        parser.push(&within(response.bytes()).await.unwrap()).unwrap();
        std::iter::from_fn(|| parser.take()).map(|message| message.data).collect()
    }

    /// Ends the server; every session is recorded when this returns.
    async fn end(self) -> Ended {
        self.shutdown.cancel();
        drop((self.client, self.http));
        within(self.server).await.unwrap();
        within(self.writers.shutdown()).await;
        Ended { store: self.store, _dir: self._dir }
    }
}

/// What is left of a server.
struct Ended {
    store: Arc<Ledger>,
    _dir: TempDir,
}

/// Fails a test that hangs.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it hangs")
}

/// The JSON of each event but the last, which is `[DONE]`.
fn json_lines(mut lines: Vec<String>) -> Vec<Value> {
    assert_eq!(lines.pop().as_deref(), Some("[DONE]"), "{lines:?}");
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The ledger's view of a session.
async fn recorded(store: &Ledger, session: &str) -> (far_ledger::Session, Vec<far_ledger::ContributionRow>) {
    let found = store.session(session).await.unwrap().expect("the session is in the ledger");
    (found, store.contributions(session).await.unwrap())
}
