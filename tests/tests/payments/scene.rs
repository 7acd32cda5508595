//! A chain, a ledger in which nodes have earned, and the program beside them.

use std::fs;

use far_ledger::{
    Amount, Contribution, Ledger, NewSession, Node, Outcome, Store, UnixMillis, WalletAddress,
    evm::{Address, LocalSigner, Password, Signer, U256, token},
    payout::Epoch,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    anvil::{Anvil, CHAIN_ID},
    bed::Bed,
    both::{Kind, artifacts},
    process::{Ran, far_mesh, ran, temporary},
};

/// Nodes that earn; the first three are not paid alone.
pub(crate) const NODES: usize = 30;

/// Has less than the minimum.
pub(crate) const POOR: usize = 0;

/// Named no wallet.
pub(crate) const HOMELESS: usize = 1;

/// These two have one wallet, and less than the minimum each.
pub(crate) const PARTNERS: [usize; 2] = [2, 3];

/// Sessions that they earned in.
pub(crate) const SESSIONS: usize = 4;

/// Wallets of a batch: three batches.
pub(crate) const BATCH_ITEMS: usize = 10;

pub(crate) struct Scene {
    pub(crate) anvil: Anvil,
    pub(crate) bed: Bed,
    pub(crate) ledger: Ledger,
    /// Settings and key.
    pub(crate) dir: TempDir,
    /// The payer's account, which deploys too.
    pub(crate) account: Address,
}

pub(crate) fn node(index: usize) -> String {
    format!("node-{index:02}")
}

/// Where a node is paid.
pub(crate) fn wallet(index: usize) -> Option<WalletAddress> {
    if index == HOMELESS {
        return None;
    }
    let index = if index == PARTNERS[1] { PARTNERS[0] } else { index };
    let mut bytes = [0xa7; 20];
    bytes[0] = u8::try_from(index).unwrap();
    Some(WalletAddress::from_bytes(bytes).unwrap())
}

/// What a node earned in each session, in nano-FAR: uneven, so that a payment to another shows.
pub(crate) fn earned(index: usize) -> i64 {
    let part = i64::try_from(index).unwrap();
    match index {
        POOR => 100_000_000,
        index if PARTNERS.contains(&index) => 150_000_000 + part,
        _ => 300_000_000 + part * 7,
    }
}

/// What each wallet is to have, in nano-FAR.
pub(crate) fn due() -> Vec<(WalletAddress, i64)> {
    let paid = |index: &usize| ![POOR, HOMELESS, PARTNERS[1]].contains(index);
    let sum = |index: usize| {
        let nodes = if index == PARTNERS[0] { PARTNERS.to_vec() } else { vec![index] };
        nodes.into_iter().map(earned).sum::<i64>() * i64::try_from(SESSIONS).unwrap()
    };
    (0..NODES).filter(paid).map(|index| (wallet(index).unwrap(), sum(index))).collect()
}

async fn earn(ledger: &Ledger) {
    let at = Epoch::due(UnixMillis::now()).unwrap().end().before(std::time::Duration::from_secs(3600));
    for index in 0..NODES {
        let mut known = Node::new(node(index), at);
        known.wallet = wallet(index);
        ledger.upsert_node(&known).await.unwrap();
    }
    for session in 0..SESSIONS {
        let id = format!("session-{session}");
        ledger.begin_session(&NewSession::new(&id, "model", at)).await.unwrap();
        let parts: Vec<Contribution> = (0..NODES)
            .map(|index| Contribution {
                node_id: node(index),
                layers_start: u32::try_from(index).unwrap(),
                layers_end: u32::try_from(index + 1).unwrap(),
                tokens: 3,
                token_layers: 3,
                compute_ms: 1,
                exact: true,
                payment: Amount::from_nano(earned(index)).unwrap(),
            })
            .collect();
        let cost = Amount::checked_sum(parts.iter().map(|part| part.payment)).unwrap();
        ledger.finalize_session(&id, &Outcome::new(3, cost, parts, at).unwrap()).await.unwrap();
    }
}

impl Scene {
    /// Nodes have earned; nothing is deployed.
    pub(crate) async fn new(kind: Kind) -> Self {
        let anvil = Anvil::start(CHAIN_ID, None);
        let bed = kind.bed().await;
        let ledger = bed.open().await;
        earn(&ledger).await;
        let dir = temporary();
        let password = Password::File(dir.path().join("password"));
        fs::write(dir.path().join("password"), "correct horse\n").unwrap();
        close_to_others(&dir.path().join("password"));
        let account = LocalSigner::create(&dir.path().join("payer.json"), &password).unwrap().address();
        anvil.fund(account).await;
        let scene = Self { anvil, bed, ledger, dir, account };
        scene.configure("");
        scene
    }

    /// The same with contracts.
    pub(crate) async fn deployed(kind: Kind) -> Self {
        let scene = Self::new(kind).await;
        let deployed = scene.deploy(&[]).await;
        scene.configure(&deployed.stdout);
        scene
    }

    /// Puts the contracts on the chain.
    pub(crate) async fn deploy(&self, more: &[&str]) -> Ran {
        self.anvil.tell("evm_setAutomine", json!([true])).await;
        let artifacts = artifacts();
        let mut line = vec!["deploy", "--artifacts", artifacts.to_str().unwrap()];
        line.extend(more);
        let deployed = self.payments(&line).await;
        assert_eq!(deployed.code, Some(0), "{}", deployed.stderr);
        self.anvil.tell("evm_setAutomine", json!([false])).await;
        deployed
    }

    /// Writes settings: what a deployment printed, and what it cannot know.
    pub(crate) fn configure(&self, deployed: &str) {
        let section =
            if deployed.is_empty() { "[payments]\nchain_id = 31337\nkeystore = 'payer.json'\n" } else { deployed };
        let text = format!(
            "{section}rpc_url = '{}'\nkeystore_password_file = 'password'\nconfirmations = 2\npoll_seconds = 1\n\
             payout_batch_items = {BATCH_ITEMS}\n",
            self.anvil.url
        );
        fs::write(self.dir.path().join("far-mesh.toml"), text).unwrap();
    }

    /// Replaces a line of the settings.
    pub(crate) fn set(&self, key: &str, value: &str) {
        let path = self.dir.path().join("far-mesh.toml");
        let text = fs::read_to_string(&path).unwrap();
        let others = text.lines().filter(|line| line.split(" = ").next() != Some(key));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        if !value.is_empty() {
            text.push_str(&format!("{key} = {value}\n"));
        }
        fs::write(path, text).unwrap();
    }

    pub(crate) fn setting(&self, key: &str) -> String {
        let text = fs::read_to_string(self.dir.path().join("far-mesh.toml")).unwrap();
        let line = text.lines().find(|line| line.split(" = ").next() == Some(key));
        line.unwrap().split(" = ").nth(1).unwrap().trim_matches(['"', '\'']).to_owned()
    }

    /// The program with the ledger of this scene.
    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = far_mesh(&self.dir);
        match &self.bed {
            Bed::Sqlite(dir) => command.env("FAR_MESH_DATA_DIR", dir.path()),
            Bed::Postgres { .. } => command.env("POSTGRES_URL", self.bed.url()),
        };
        command.arg("payments").args(line);
        command
    }

    /// Runs `far-mesh payments` to its end.
    pub(crate) async fn payments(&self, line: &[&str]) -> Ran {
        ran(self.command(line)).await
    }

    /// The same where it must end well; what it printed.
    pub(crate) async fn json(&self, line: &[&str]) -> Value {
        let ran = self.payments(line).await;
        assert_eq!(ran.code, Some(0), "{line:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{line:?}: {error}: {}", ran.stdout))
    }

    /// A block every second from now on.
    pub(crate) async fn mine_on(&self) {
        self.anvil.tell("evm_setIntervalMining", json!([1])).await;
    }

    /// Sends from any account, without its key.
    pub(crate) async fn send(&self, from: Address, to: Address, data: Vec<u8>) {
        self.anvil.fund(from).await;
        self.anvil.tell("anvil_impersonateAccount", json!([from])).await;
        let call = json!({ "from": from, "to": to, "data": format!("0x{}", hex_of(&data)), "gas": "0x30000" });
        self.anvil.tell("eth_sendTransaction", json!([call])).await;
    }

    pub(crate) fn token(&self) -> Address {
        self.setting("token_contract").parse().unwrap()
    }

    pub(crate) async fn balance(&self, account: Address) -> U256 {
        let data = format!("0x{}", hex_of(&token::balance_of(account)));
        let answer = self.anvil.batch(vec![json!({ "to": self.token(), "data": data })]).await;
        U256::from_str_radix(answer[0].as_str().unwrap(), 16).unwrap()
    }

    /// Every wallet has what it earned and no more, to the unit.
    pub(crate) async fn assert_paid_once(&self) {
        let mut all = U256::zero();
        for (wallet, nano) in due() {
            let expected = U256::from(nano) * U256::exp10(9);
            assert_eq!(self.balance(Address::from(*wallet.as_bytes())).await, expected, "{wallet}");
            all += expected;
        }
        assert_eq!(self.balance(self.account).await, U256::exp10(27) - all, "what the treasury still has");
        let poor = Address::from(*wallet(POOR).unwrap().as_bytes());
        assert_eq!(self.balance(poor).await, U256::zero(), "less than the minimum waits");
    }

    /// Nothing was planned, signed or closed.
    pub(crate) async fn assert_untouched(&self) {
        for table in ["payout_epoch", "payout_batch", "payout_tx", "nonce_owner"] {
            let count = self.bed.other().await.number(&format!("SELECT COUNT(*) FROM {table}")).await;
            assert_eq!(count, Some(0), "{table}");
        }
    }
}

#[cfg(unix)]
fn close_to_others(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The chain of all scenes.
pub(crate) const fn chain_id() -> u64 {
    CHAIN_ID
}
