//! Requests as bytes and answers as they come, without the client that knows the schema.

use std::time::Duration;

use far_mesh_tests::Testnet;
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

/// A client of one coordinator.
#[derive(Debug)]
pub(crate) struct Wire {
    base: String,
    http: reqwest::Client,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Wire {
    pub(crate) fn new(net: &Testnet) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { base: net.http().to_owned(), http }
    }

    /// Sends a body as it is; none where it is empty.
    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request =
            self.http.request(method, format!("{}{path}", self.base)).header(CONTENT_TYPE, "application/json");
        let response = request.body(body).send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        Answer { status, headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// An answer that is not streamed and goes well.
    pub(crate) async fn whole(&self, path: &str, mut body: Value) -> Value {
        body["stream"] = json!(false);
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}
