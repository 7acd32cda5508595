//! A chain of its own for each test.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use far_ledger::{
    UnixMillis,
    evm::{Address, Chain, HttpOptions, HttpTransport, Transport},
};
use serde_json::{Value, json};

/// The program.
const PROGRAM: &str = "FAR_MESH_TEST_ANVIL";

pub(crate) const CHAIN_ID: u64 = 31_337;

/// An anvil that mines only when it is told to, on a free port. It ends with the test.
#[derive(Debug)]
pub(crate) struct Anvil {
    process: Child,
    pub(crate) url: String,
    pub(crate) chain_id: u64,
    client: reqwest::Client,
}

impl Anvil {
    /// Its blocks are of the time since `from`, or of this machine's.
    pub(crate) fn start(chain_id: u64, from: Option<UnixMillis>) -> Self {
        let program = std::env::var(PROGRAM).unwrap_or_else(|_| {
            panic!("{PROGRAM} names no anvil to test with: use tests/run ledger, which fetches one")
        });
        let mut process = Command::new(program)
            .args([
                "--port",
                "0",
                "--no-mining",
                "--chain-id",
                &chain_id.to_string(),
                "--accounts",
                "1",
                "--order",
                "fifo",
            ])
            .args(from.map(|from| format!("--timestamp={}", from.get() / 1000)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned))
            .expect("anvil says where it listens");
        // It goes on writing; nobody may stop reading.
        std::thread::spawn(move || lines.for_each(drop));
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { process, url: format!("http://{address}"), chain_id, client }
    }

    pub(crate) fn transport(&self) -> HttpTransport {
        HttpTransport::new(&self.url, HttpOptions::default()).unwrap()
    }

    pub(crate) fn chain(&self) -> Chain {
        Chain::new(self.transport())
    }

    /// A call that only anvil knows.
    pub(crate) async fn tell(&self, method: &'static str, params: Value) -> Value {
        let answer = self.transport().request(method, params).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.tell("evm_mine", json!([])).await;
        }
    }

    /// A block of that time.
    pub(crate) async fn mine_at(&self, time: UnixMillis) {
        self.tell("evm_setNextBlockTimestamp", json!([time.get() / 1000])).await;
        self.mine(1).await;
    }

    pub(crate) async fn fund(&self, account: Address) {
        self.tell("anvil_setBalance", json!([account, "0x21e19e0c9bab2400000"])).await;
    }

    pub(crate) async fn snapshot(&self) -> Value {
        self.tell("evm_snapshot", json!([])).await
    }

    /// Goes back to a snapshot, which is used up, and forgets all transactions that wait.
    pub(crate) async fn revert(&self, snapshot: Value) {
        self.forget_waiting().await;
        assert_eq!(self.tell("evm_revert", json!([snapshot])).await, json!(true));
    }

    pub(crate) async fn forget_waiting(&self) {
        self.tell("anvil_dropAllTransactions", json!([])).await;
    }

    /// The newest blocks go away and empty ones come in their place; their transactions are not given back.
    pub(crate) async fn reorganise(&self, depth: u64) {
        self.tell("anvil_reorg", json!([depth, []])).await;
    }

    /// Many calls in one request, which the tests' own reading needs for speed.
    pub(crate) async fn batch(&self, calls: Vec<Value>) -> Vec<Value> {
        let requests: Vec<Value> = (0..).zip(calls).map(|(id, call): (u64, Value)| {
            json!({"jsonrpc": "2.0", "id": id, "method": "eth_call", "params": [call, "latest"]})
        }).collect();
        let answers = self.client.post(&self.url).json(&requests).send().await.unwrap();
        let mut answers: Vec<Value> = answers.json().await.unwrap();
        answers.sort_by_key(|answer| answer["id"].as_u64());
        answers.into_iter().map(|mut answer| answer["result"].take()).collect()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
