//! A node that is none, is broken, or lies: an error that says what came, nothing signed, nothing written.

use std::{sync::Arc, time::Duration};

use far_ledger::{
    Store,
    evm::{At, Chain, Fees, HttpOptions, HttpTransport, LocalSigner, RpcError, Signer, Transport, Unsigned},
    payout::{PayError, Payer, PayoutContract},
};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    both::{Kind, on_both},
    scene::{config, earn, now},
};

/// A server that answers every request with the same bytes.
async fn serving(status: &str, body: Vec<u8>) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    (url, server)
}

async fn answered(status: &str, body: impl Into<Vec<u8>>) -> RpcError {
    let (url, server) = serving(status, body.into()).await;
    let mut options = HttpOptions::default();
    options.max_answer_bytes = 10_000;
    options.timeout = Duration::from_secs(10);
    let chain = Chain::new(HttpTransport::new(&format!("{url}/secret-key"), options).unwrap());
    let error = chain.id().await.unwrap_err();
    assert!(!error.to_string().contains("secret-key"), "{error}");
    server.abort();
    error
}

#[tokio::test]
async fn what_is_no_node_is_told() {
    let html = answered("200 OK", "<html>Please log in</html>").await;
    assert!(matches!(&html, RpcError::NotJsonRpc { body, .. } if body.contains("log in")), "{html}");
    let gate = answered("502 Bad Gateway", "<html>bad gateway</html>").await;
    assert!(matches!(gate, RpcError::Status { status: 502, .. }), "{gate}");
    let huge = answered("200 OK", vec![b'a'; 1 << 20]).await;
    assert!(matches!(huge, RpcError::TooLarge { limit: 10_000, .. }), "{huge}");
    let bomb = answered("200 OK", "[".repeat(9_000)).await;
    assert!(matches!(bomb, RpcError::NotJsonRpc { .. }), "{bomb}");
    for body in ["[]", "3", "null", "{}", "\"x\"", "{\"jsonrpc\":\"2.0\",\"id\":1}"] {
        let none = answered("200 OK", body).await;
        assert!(matches!(none, RpcError::NotJsonRpc { .. } | RpcError::BadAnswer { .. }), "{body}: {none}");
    }
    let other = answered("200 OK", r#"{"jsonrpc":"2.0","id":77,"result":"0x1"}"#).await;
    assert!(matches!(other, RpcError::BadAnswer { .. }), "{other}");
    let moved = answered("301 Moved Permanently", "").await;
    assert!(matches!(moved, RpcError::Status { status: 301, .. }), "{moved}");
    let refused = answered("429 Too Many Requests", r#"{"id":1,"error":{"code":-32005,"message":"slow down"}}"#).await;
    assert!(matches!(&refused, RpcError::Status { status: 429, body, .. } if body.contains("slow down")), "{refused}");
    let nobody = Chain::new(HttpTransport::new("http://127.0.0.1:1/secret-key", HttpOptions::default()).unwrap());
    let nobody = nobody.id().await.unwrap_err();
    assert!(matches!(nobody, RpcError::Unreachable { .. }) && !nobody.to_string().contains("secret"), "{nobody}");
    for url in ["", "ftp://x", "file:///etc/passwd", "127.0.0.1:8545", "http://"] {
        assert!(matches!(HttpTransport::new(url, HttpOptions::default()), Err(RpcError::Address)), "{url}");
    }
}

/// A node whose every answer is what a test says.
#[derive(Debug)]
struct Says(fn(&str) -> Value);

impl Transport for Says {
    fn request(&self, method: &'static str, _: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
        let answer = (self.0)(method);
        async move { Ok(answer) }.boxed()
    }
}

#[tokio::test]
async fn values_that_cannot_be_are_named() {
    let quantities = [
        json!("0x"),
        json!("0xzz"),
        json!(7),
        json!(null),
        json!("7"),
        json!("0x+1"),
        json!("0x10000000000000000"),
        json!({}),
    ];
    for value in quantities {
        #[derive(Debug)]
        struct Same(Value);
        impl Transport for Same {
            fn request(&self, _: &'static str, _: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
                async move { Ok(self.0.clone()) }.boxed()
            }
        }
        let chain = Chain::new(Same(value.clone()));
        let error = chain.block_number().await.unwrap_err();
        assert!(matches!(error, RpcError::BadAnswer { .. }), "{value}: {error}");
        assert!(chain.nonce(ethers_core::types::Address::zero(), At::Latest).await.is_err());
        assert!(
            chain.fees().await.is_err()
                && chain
                    .logs(&far_ledger::evm::LogFilter {
                        address: ethers_core::types::Address::zero(),
                        from: 0,
                        to: 0,
                        topics: vec![],
                    })
                    .await
                    .is_err()
        );
    }
    // Another transaction's hash for ours.
    let signer = LocalSigner::from_secret(&[1; 32]).unwrap();
    let fees = Fees { max_fee: 1, tip: 1 };
    let body = Unsigned { chain_id: 1, nonce: 0, to: Some(signer.address()), data: vec![], gas: 21_000, fees };
    let tx = body.sign(&signer).await.unwrap();
    let liar = Chain::new(Says(|_| json!(format!("0x{}", "11".repeat(32)))));
    let lie = liar.send(tx.raw(), tx.hash()).await.unwrap_err();
    assert!(lie.to_string().contains("another transaction"), "{lie}");
    // A block of another number, and none at all.
    let block = |_: &str| json!({"number": "0x5", "hash": format!("0x{}", "22".repeat(32)), "timestamp": "0x1"});
    let liar = Chain::new(Says(block));
    assert_eq!(liar.block(At::Latest).await.unwrap().number, 5);
    assert!(matches!(liar.block(At::Number(4)).await, Err(RpcError::BadAnswer { .. })));
    assert!(matches!(liar.block(At::Hash(tx.hash())).await, Err(RpcError::BadAnswer { .. })));
    assert!(matches!(Chain::new(Says(|_| Value::Null)).block(At::Number(4)).await, Err(RpcError::NoBlock { .. })));
    assert!(Chain::new(Says(|_| Value::Null)).receipt(tx.hash()).await.unwrap().is_none());
}

on_both!(a_liar_changes_nothing);

/// The ledger stays as it was, whatever a node says instead of an answer.
async fn a_liar_changes_nothing(kind: Kind) {
    let answers: [fn(&str) -> Value; 5] = [
        |_| json!("<html>"),
        |_| Value::Null,
        |_| json!("0x1"),
        |method| if method == "eth_chainId" { json!("0x7a69") } else { json!("0x") },
        |method| if method == "eth_chainId" { json!("0x7a69") } else { json!({"number": "0x0"}) },
    ];
    let bed = kind.bed().await;
    let ledger = bed.open().await;
    earn(&ledger, 3).await;
    let contract =
        PayoutContract { chain_id: crate::anvil::CHAIN_ID, address: ethers_core::types::Address::repeat_byte(9) };
    for answer in answers {
        let signer = Arc::new(crate::scene::key(0));
        let payer = Payer::new(ledger.clone(), Chain::new(Says(answer)), signer, config(contract), "payer");
        let error = payer.tick(now()).await.unwrap_err();
        assert!(
            matches!(error, PayError::Rpc(_) | PayError::OtherChain { .. } | PayError::NoContract { .. }),
            "{error}"
        );
        assert!(ledger.payout_batches(1).await.unwrap().is_empty());
    }
    ledger.close().await;
}
