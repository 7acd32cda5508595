//! The settings there are: one row each, used to read files and variables and to name what is unknown.

/// What a process is in the mesh; each has its own section in the file and its own defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Turns requests into routes and streams tokens.
    Coordinator,
    /// Serves a span of layers.
    Provider,
    /// Lets nodes find each other.
    Discovery,
    /// Pays providers from a coordinator's ledger.
    Payments,
    /// Everything that does not serve: `demo`, `bench`, `models`.
    Tool,
}

/// A setting.
#[derive(Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// The environment variables that set it; they must agree where several are set.
    pub variables: &'static [&'static str],
    /// The sections it may stand in; the top level is always allowed.
    pub roles: &'static [Role],
    /// Whether it holds several values: an array in the file, separated by commas in a variable.
    pub many: bool,
    /// Whether its value may hold a password, so that errors do not show it.
    pub secret: bool,
    /// What it means.
    pub meaning: &'static str,
    /// Its default, and why.
    pub default: &'static str,
}

const EVERYBODY: &[Role] = &[Role::Coordinator, Role::Provider, Role::Discovery, Role::Payments];
const SERVERS: &[Role] = &[Role::Coordinator, Role::Provider, Role::Discovery];
const COMPUTING: &[Role] = &[Role::Coordinator, Role::Provider];
const PROVIDER: &[Role] = &[Role::Provider];
const COORDINATOR: &[Role] = &[Role::Coordinator];
const LEDGER: &[Role] = &[Role::Coordinator, Role::Payments];
const PAYMENTS: &[Role] = &[Role::Payments];

/// All settings.
pub const KEYS: &[Key] = &[
    Key {
        meaning: "folder of models, keys and the database",
        default: "$XDG_DATA_HOME/far-mesh, else ~/.local/share/far-mesh: where a user's programs keep their data",
        ..one("data_dir", &["FAR_MESH_DATA_DIR"], EVERYBODY)
    },
    Key {
        many: true,
        meaning: "addresses of nodes to join the mesh through",
        default: "none: a node without them waits to be found",
        ..one("bootstrap", &["FAR_MESH_BOOTSTRAP", "FAR_MESH_DHT_BOOTSTRAP"], SERVERS)
    },
    Key {
        many: true,
        meaning: "addresses to be reached at",
        default: "every interface on TCP and QUIC, port 31337 for discovery and 31330 for a provider, because \
                  firewalls and bootstrap lists name them; a free port for a coordinator, which nobody looks for",
        ..one("listen", &["FAR_MESH_LISTEN"], SERVERS)
    },
    Key {
        many: true,
        meaning: "addresses under which others reach the node, where a port is forwarded to it",
        default: "none: others tell it what they see, and try to dial it",
        ..one("external", &["FAR_MESH_EXTERNAL"], SERVERS)
    },
    Key {
        meaning: "whether to pass on what nodes behind a NAT send and are sent: auto, on or off",
        default: "auto: discovery nodes do, which others can dial in any case, and whoever finds that the whole world \
                  reaches it",
        ..one("relay", &["FAR_MESH_RELAY"], SERVERS)
    },
    Key {
        meaning: "whether to ask the router to open a port, by UPnP: auto, on or off",
        default: "auto: providers of a public mesh do, unless they listen on loopback alone",
        ..one("upnp", &["FAR_MESH_UPNP"], SERVERS)
    },
    Key {
        meaning: "address of the HTTP server",
        default: "127.0.0.1 with port 8100 (coordinator), 8101 (discovery) or 8102 (provider): loopback, because \
                  what is open to the world should be opened by hand",
        ..one("http", &["FAR_MESH_HTTP"], SERVERS)
    },
    Key {
        meaning: "file with the pre-shared key of a private mesh",
        default: "none: the mesh is public",
        ..one("psk", &["FAR_MESH_PSK"], SERVERS)
    },
    Key {
        meaning: "file with the nodes of the mesh, signed by its operator",
        default: "none: anybody may join",
        ..one("members", &["FAR_MESH_MEMBERS"], SERVERS)
    },
    Key {
        meaning: "threads that compute",
        default: "the processors this process may use: more only take turns",
        ..one("threads", &["FAR_MESH_THREADS"], COMPUTING)
    },
    Key {
        meaning: "model to serve: a name of the catalogue or of a pulled model, or a path",
        default: "smollm2-135m-instruct: small enough for any machine",
        ..one("model", &["FAR_MESH_MODEL"], COMPUTING)
    },
    Key {
        meaning: "packed or exact arithmetic",
        default: "packed: a quarter of the memory and many times the speed of exact",
        ..one("precision", &["FAR_MESH_PRECISION"], COMPUTING)
    },
    Key {
        meaning: "what dense weights are packed to while they are loaded: none, q8_0 or q4_0",
        default: "none: what a file holds is served with its bits; nodes that pack serve another model",
        ..one("quantize", &["FAR_MESH_QUANTIZE"], COMPUTING)
    },
    Key {
        meaning: "price of a token in FAR",
        default: "0.0001: the price a request has where nobody set one",
        ..one("price_per_token_far", &["PRICE_PER_TOKEN_FAR", "FAR_MESH_PRICE_PER_TOKEN_FAR"], COMPUTING)
    },
    Key {
        meaning: "layers to serve, A..B or auto",
        default: "auto: as many as fit in memory, where the mesh needs them most",
        ..one("layers", &["FAR_MESH_LAYERS"], PROVIDER)
    },
    Key {
        meaning: "device to compute on: auto, cpu, cuda or cuda:N",
        default: "auto: the first GPU that runs a trial kernel, else the processor; far-mesh doctor says which and why",
        ..one("device", &["FAR_MESH_DEVICE"], PROVIDER)
    },
    Key {
        meaning: "Ethereum address that earnings are recorded for",
        default: "none: they are recorded for the node alone",
        ..one("wallet", &["FAR_MESH_WALLET"], PROVIDER)
    },
    Key {
        meaning: "where the node stands, like eu-west; a provider advertises it, a coordinator finds out by the speed of \
                  light who does not stand where he says",
        default: "none: a provider does not advertise it, a coordinator believes what others say",
        ..one("region", &["FAR_MESH_REGION"], COMPUTING)
    },
    Key {
        meaning: "what the node's line carries in a second, as its advert says",
        default: "none: routes count on 100 Mbit/s, what most homes can send",
        ..one("bandwidth", &["FAR_MESH_BANDWIDTH"], PROVIDER)
    },
    Key {
        meaning: "most memory that layers = 'auto' fills with weights and caches",
        default: "four fifths of what is free when the node starts: the rest is for buffers and other programs",
        ..one("max_memory", &["FAR_MESH_MAX_MEMORY"], PROVIDER)
    },
    Key {
        meaning: "most sessions served at once; the arena has room for 2,048 positions of each",
        default: "room for 16, and as many more as are shorter: a dozen conversations and some to spare",
        ..one("max_sessions", &["FAR_MESH_MAX_SESSIONS"], PROVIDER)
    },
    Key {
        meaning: "seconds between two looks at whether the mesh needs this node elsewhere, with layers = 'auto'; 0 is never. \
                  While it moves it holds both spans, where the free memory has room for them",
        default: "300: a span is loaded in less, and a mesh changes in hours",
        ..one("rebalance_interval", &["FAR_MESH_REBALANCE_INTERVAL"], PROVIDER)
    },
    Key {
        meaning: "whose sessions share the cached beginnings of their prompts: off, coordinator or all",
        default: "coordinator: who repeats the beginning of a prompt hears from the haste of the answer that it was \
                  asked before, so coordinators are kept apart; all where they trust each other",
        ..one("prefix_sharing", &["FAR_MESH_PREFIX_SHARING"], PROVIDER)
    },
    Key {
        meaning: "whether requests need an API key: auto, on or off; what comes with one is charged to its account in any case",
        default: "auto: they do where the HTTP address is not loopback, because who reaches it is then not known",
        ..one("require_keys", &["FAR_MESH_REQUIRE_KEYS"], COORDINATOR)
    },
    Key {
        meaning: "what the operator keeps of every session's cost, in basis points: hundredths of a percent",
        default: "0: all of it goes to the providers",
        ..one("fee_basis_points", &["FAR_MESH_FEE_BASIS_POINTS"], COORDINATOR)
    },
    Key {
        meaning: "whether the ledger keeps the texts of prompts: off or on",
        default: "off: they are their authors' own",
        ..one("store_prompts", &["FAR_MESH_STORE_PROMPTS"], COORDINATOR)
    },
    Key {
        meaning: "days that the ledger keeps the texts of prompts; 0 is for ever. It stays in the ledger until it is set anew",
        default: "what the ledger has, which is for ever at first: nothing is deleted that nobody asked to delete",
        ..one("keep_prompts_days", &["FAR_MESH_KEEP_PROMPTS_DAYS"], COORDINATOR)
    },
    Key {
        meaning: "days that the ledger keeps signed receipts, the evidence behind contributions; 0 is for ever. It stays in the \
                  ledger until it is set anew",
        default: "what the ledger has, which is for ever at first; a receipt takes about a kilobyte, a session one for each hop \
                  and 32 positions",
        ..one("keep_receipts_days", &["FAR_MESH_KEEP_RECEIPTS_DAYS"], COORDINATOR)
    },
    Key {
        meaning: "days that the ledger keeps the figures of every minute; 0 is for ever. It stays in the ledger until it is set \
                  anew",
        default: "what the ledger has, which is for ever at first: a year of them takes 50 MB",
        ..one("keep_metrics_days", &["FAR_MESH_KEEP_METRICS_DAYS"], COORDINATOR)
    },
    Key {
        meaning: "whether a session goes on when only nodes of another kernel class can take a lost one's place: resume or \
                  refuse",
        default: "resume: it loses nothing but the promise of equal bits, and its account says so",
        ..one("other_kernel_class", &["FAR_MESH_OTHER_KERNEL_CLASS"], COORDINATOR)
    },
    Key {
        secret: true,
        meaning: "PostgreSQL database of the ledger: postgres://user:password@host/database, with sslmode=verify-full for TLS",
        default: "none: SQLite in the data folder, which needs no server",
        ..one("postgres_url", &["POSTGRES_URL", "FAR_MESH_POSTGRES_URL"], LEDGER)
    },
    Key {
        secret: true,
        meaning: "Redis server that several coordinators share, which this version has no use for",
        default: "none: one coordinator needs no shared state",
        ..one("redis_url", &["REDIS_URL", "FAR_MESH_REDIS_URL"], COORDINATOR)
    },
    Key {
        secret: true,
        meaning: "JSON-RPC endpoint of a node of the chain, http:// or https://",
        default: "none: nothing is paid without one",
        ..one("rpc_url", &["FAR_MESH_RPC_URL"], PAYMENTS)
    },
    Key {
        meaning: "number of the chain; a node that serves another is refused",
        default: "none: it must be said, so that an endpoint of another chain is never paid on",
        ..one("chain_id", &["FAR_MESH_CHAIN_ID"], PAYMENTS)
    },
    Key {
        meaning: "address of FAR on the chain; a payout contract that pays in another token is refused",
        default: "none: whatever the payout contract pays in",
        ..one("token_contract", &["FAR_MESH_TOKEN_CONTRACT"], PAYMENTS)
    },
    Key {
        meaning: "address of the payout contract",
        default: "none: far-mesh payments deploy makes one and prints it",
        ..one("payout_contract", &["FAR_MESH_PAYOUT_CONTRACT"], PAYMENTS)
    },
    Key {
        meaning: "block in which the payout contract was deployed: audit and deposits look at none before it",
        default: "0: right for every chain, and slow on a long one",
        ..one("deployment_block", &["FAR_MESH_DEPLOYMENT_BLOCK"], PAYMENTS)
    },
    Key {
        meaning: "encrypted file of the payer's key (Web3 secret storage, version 3, as geth and foundry write it)",
        default: "none: there is no other way to hand over a key",
        ..one("keystore", &["FAR_MESH_KEYSTORE"], PAYMENTS)
    },
    Key {
        meaning: "file whose first line is the password of the keystore",
        default: "none: FAR_MESH_KEYSTORE_PASSWORD, else it is asked for on the terminal",
        ..one("keystore_password_file", &["FAR_MESH_KEYSTORE_PASSWORD_FILE"], PAYMENTS)
    },
    Key {
        meaning: "least FAR that a wallet is paid; less carries over to the next week",
        default: "1: half of what a transfer costs is a good start",
        ..one("payout_minimum_far", &["FAR_MESH_PAYOUT_MINIMUM_FAR"], PAYMENTS)
    },
    Key {
        meaning: "wallets paid by one transaction, at most 500",
        default: "400: paying that many new holders takes 13.9 million gas, and a transaction may take 16.8",
        ..one("payout_batch_items", &["FAR_MESH_PAYOUT_BATCH_ITEMS"], PAYMENTS)
    },
    Key {
        meaning: "weeks between two payouts, which are closed on a Monday, 00:00 UTC",
        default: "1: what providers are used to, and a fraction of what paying every day would cost",
        ..one("payout_weeks", &["FAR_MESH_PAYOUT_WEEKS"], PAYMENTS)
    },
    Key {
        meaning: "what counts as settled, for payouts and deposits: finalized, or a number of blocks above it",
        default: "finalized: what the chain itself promises never to take back",
        ..one("confirmations", &["FAR_MESH_CONFIRMATIONS"], PAYMENTS)
    },
    Key {
        meaning: "most that a transaction pays per gas, in gwei; where the chain asks for more, payouts wait",
        default: "200: ten times what Ethereum asks for on a busy day",
        ..one("max_fee_gwei", &["FAR_MESH_MAX_FEE_GWEI"], PAYMENTS)
    },
    Key {
        meaning: "most of it that goes to the proposer of the block, in gwei",
        default: "10: enough to be taken into the next block",
        ..one("max_tip_gwei", &["FAR_MESH_MAX_TIP_GWEI"], PAYMENTS)
    },
    Key {
        meaning: "seconds between two looks at the chain",
        default: "12: a block of Ethereum",
        ..one("poll_seconds", &["FAR_MESH_POLL_SECONDS"], PAYMENTS)
    },
    Key {
        meaning: "address that users send FAR to; what comes in is credited to the account of the sender's wallet",
        default: "none: no deposits are looked for",
        ..one("deposit_address", &["FAR_MESH_DEPOSIT_ADDRESS"], PAYMENTS)
    },
];

const fn one(name: &'static str, variables: &'static [&'static str], roles: &'static [Role]) -> Key {
    Key { name, variables, roles, many: false, secret: false, meaning: "", default: "" }
}

impl Role {
    /// The roles that have a section in the file.
    pub(super) const SECTIONS: &[Role] = EVERYBODY;

    /// Whether a role heeds a section: its own; payments are made from the ledger of the coordinator, so where
    /// `[payments]` says nothing, `[coordinator]` does.
    pub(super) fn reads(self, section: Self) -> bool {
        section == self || (self == Self::Payments && section == Self::Coordinator)
    }

    /// Its section in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Provider => "provider",
            Self::Discovery => "discovery",
            Self::Payments => "payments",
            Self::Tool => "tool",
        }
    }
}

impl Key {
    /// The setting with this name.
    pub(super) fn named(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }
}

/// The known name nearest to `name`, if it may have been meant: at most a third of its letters differ.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented_and_named_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(!key.meaning.is_empty() && !key.default.is_empty(), "{}", key.name);
            assert!(!key.roles.is_empty() && !key.variables.is_empty(), "{}", key.name);
            assert!(KEYS[index + 1..].iter().all(|other| other.name != key.name), "{}", key.name);
            let derived = format!("FAR_MESH_{}", key.name.to_uppercase());
            assert!(key.variables.contains(&derived.as_str()), "{derived}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_name_and_a_stranger_none() {
        let names = || KEYS.iter().map(|key| key.name);
        assert_eq!(nearest("treads", names()), Some("threads"));
        assert_eq!(nearest("data-dir", names()), Some("data_dir"));
        assert_eq!(nearest("bootsrtap", names()), Some("bootstrap"));
        assert_eq!(nearest("colour", names()), None);
    }
}
