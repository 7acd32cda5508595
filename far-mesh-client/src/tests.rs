//! Calls over real sockets, to a server that says word for word what the test wrote down.

use std::time::Duration;

use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    Client, Error, Options,
    schema::{Event, GenerateRequest},
};

/// Answers one connection with each text, then takes no more; gives back what was asked.
async fn saying(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            asked.push(request(&mut socket).await);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (url, task)
}

async fn request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !whole(&request) {
        assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
    }
    String::from_utf8(request).unwrap()
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

fn events(body: &str) -> String {
    answer("200 OK", "content-type: text/event-stream\r\n", body)
}

fn refusal(status: &str, retry_after: &str) -> String {
    let body = r#"{"error": {"message": "no", "type": "server_error", "code": "c", "param": null}}"#;
    answer(status, &format!("{retry_after}content-type: application/json\r\n"), body)
}

const TOKEN: &str = "data: {\"token\": \"hé\", \"index\": 0, \"cost_far\": \"0.1\"}\n\n";
const DONE: &str = "data: {\"done\": true, \"session_id\": \"s\", \"model\": \"m\", \"finish_reason\": \"stop\", \"usage\": \
{\"prompt_tokens\": 1, \"completion_tokens\": 1, \"total_tokens\": 2}, \"cost_far\": \"0.1\", \"contributions\": []}\n\n";

/// The events of an answer and the error that ends them, if one does.
async fn collect(answer: String) -> (usize, Option<Error>) {
    let (url, server) = saying(vec![answer]).await;
    let options = Options { idle_timeout: Duration::from_secs(20), ..Options::default() };
    let client = Client::with_options(&url, options).unwrap();
    let mut stream = client.generate(&GenerateRequest::text("x")).await.unwrap();
    let (mut good, mut failed) = (0, None);
    while let Some(event) = stream.next().await {
        assert!(failed.is_none(), "nothing comes after an error");
        match event {
            Ok(_) => good += 1,
            Err(error) => failed = Some(error),
        }
    }
    server.await.unwrap();
    (good, failed)
}

#[tokio::test]
async fn a_stream_is_read_to_its_end() {
    let (good, failed) = collect(events(&format!(": hi\n\n{TOKEN}{DONE}data: [DONE]\n\n"))).await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(good, 2);
    let (good, failed) = collect(events(&format!("{TOKEN}{DONE}"))).await;
    assert!(failed.is_none() && good == 2, "the account is what counts: {failed:?}");
}

#[tokio::test]
async fn a_stream_that_does_not_end_well_says_how() {
    let failure = "data: {\"error\": {\"message\": \"lost\", \"type\": \"server_error\"}}\n\n";
    let (good, failed) = collect(events(&format!("{TOKEN}{failure}{TOKEN}"))).await;
    assert!(good == 1 && matches!(&failed, Some(Error::Generation(detail)) if detail.message == "lost"), "{failed:?}");
    for cut in [TOKEN.to_owned(), format!("{TOKEN}data: [DONE]\n\n"), String::new(), DONE.trim_end().to_owned()] {
        let (_, failed) = collect(events(&cut)).await;
        assert!(matches!(failed, Some(Error::Truncated)), "{cut:?}: {failed:?}");
    }
    let (_, failed) = collect(events("data: {\"what\": 1}\n\n")).await;
    assert!(matches!(failed, Some(Error::Protocol { .. })), "{failed:?}");
    let (_, failed) = collect(events(&format!("data: {}\n\n", "x".repeat(crate::sse::MAX_EVENT_BYTES)))).await;
    assert!(matches!(failed, Some(Error::TooLong(_))), "{failed:?}");
    let short = events(TOKEN).replace("content-length: ", "content-length: 9");
    let (good, failed) = collect(short).await;
    assert!(good == 1 && matches!(failed, Some(Error::Transport(_))), "{failed:?}");
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        request(&mut socket).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(format!("{head}{:x}\r\n{TOKEN}\r\n", TOKEN.len()).as_bytes()).await.unwrap();
        // Until the client hangs up.
        socket.read_to_end(&mut Vec::new()).await.ok();
    });
    let options = Options { idle_timeout: Duration::from_millis(300), ..Options::default() };
    let mut stream = Client::with_options(&url, options).unwrap().chat(&GenerateRequest::text("x")).await.unwrap();
    let Some(Ok(Event::Token(token))) = stream.next().await else { panic!("a token is first") };
    assert_eq!(token.token, "hé");
    assert!(matches!(stream.next().await, Some(Err(Error::Timeout { .. }))));
    assert!(stream.next().await.is_none());
    drop(stream);
    server.await.unwrap();
}

#[tokio::test]
async fn a_refusal_that_asks_for_patience_gets_it() {
    let wait = "retry-after: 0\r\n";
    let fine = events(&format!("{DONE}data: [DONE]\n\n"));
    let (url, server) = saying(vec![refusal("503 x", wait), refusal("429 x", wait), fine]).await;
    let client = Client::new(&url).unwrap();
    let mut stream = client.generate(&GenerateRequest::text("x").max_tokens(3)).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Event::Done(_)))));
    let asked = server.await.unwrap();
    assert_eq!(asked.len(), 3);
    for request in &asked {
        assert!(request.starts_with("POST /inference/generate HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("{\"prompt\":\"x\",\"max_tokens\":3,\"stream\":true}"), "{request}");
    }
}

#[tokio::test]
async fn other_refusals_are_told_at_once() {
    for (status, retry) in [("503 x", ""), ("429 x", "retry-after: 3600\r\n"), ("500 x", "retry-after: 0\r\n")] {
        let (url, server) = saying(vec![refusal(status, retry)]).await;
        let error = Client::new(&url).unwrap().models().await.unwrap_err();
        let Error::Refused { status: got, detail, .. } = &error else { panic!("{error:?}") };
        assert_eq!((got.to_string().as_str(), detail.code.as_deref()), (&status[..3], Some("c")));
        server.await.unwrap();
    }
    let (url, server) = saying(vec![answer("502 Bad Gateway", "", "<html>proxy</html>")]).await;
    let error = Client::new(&url).unwrap().status().await.unwrap_err();
    assert!(error.to_string().contains("502") && error.to_string().contains("proxy"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn names_are_escaped_and_the_base_may_have_a_path() {
    let (url, server) = saying(vec![answer("200 OK", "", r#"{"model": "a/b", "nodes": []}"#)]).await;
    let options = Options { api_key: Some("fl_secret".into()), ..Options::default() };
    let client = Client::with_options(&format!("{url}/far"), options.clone()).unwrap();
    assert!(client.nodes("a/b ?").await.unwrap().nodes.is_empty());
    let asked = server.await.unwrap().remove(0);
    assert!(asked.starts_with("GET /far/models/a%2Fb%20%3F/nodes HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer fl_secret\r\n"), "{asked}");
    assert!(!format!("{client:?} {options:?}").contains("fl_secret"));
}

#[tokio::test]
async fn no_connection_is_told_after_a_few_tries() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let options = Options { max_pause: Duration::from_millis(1), ..Options::default() };
    let error = Client::with_options(&url, options).unwrap().health().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    for wrong in ["", "127.0.0.1:8100", "ftp://x", "http://", "mailto:x"] {
        assert!(matches!(Client::new(wrong), Err(Error::BaseUrl { .. })), "{wrong:?}");
    }
}
