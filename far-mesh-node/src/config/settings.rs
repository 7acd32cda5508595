//! The settings of a process, typed and checked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

use far_ledger::{Amount, FeeRate, WalletAddress, cost::Price};
use far_mesh_core::peer::RelayRole;
use multiaddr::{Multiaddr, Protocol};

use super::{
    choice::{Device, Layers, OtherKernelClass, Precision, PrefixSharing, Quantize, StorePrompts, Switch},
    entry::{Entries, Entry, Origin, Text},
    error::{ConfigError, ValueError},
    flags::Flags,
    key::Role,
    payments::Payments,
    sources::Sources,
    value::{ByteSize, Days, HttpAddress, Seconds, SecretUrl, Sessions, Threads},
};

/// The model where nobody names one: small enough for any machine.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// 0.0001 FAR, the price of a token where nobody set one.
pub const DEFAULT_PRICE: Price = Price::new(Amount::from_nano_u32(100_000));

/// Longest name of a region: an advert has little room.
pub const MAX_REGION_CHARS: usize = 32;

/// Longest name or path of a model.
const MAX_MODEL_CHARS: usize = 4096;

/// Who set a setting, by its name in the file.
pub(super) type Origins = BTreeMap<&'static str, Origin>;

/// What a process runs with. [`super::KEYS`] says what each setting means and why its default is what it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What the process is.
    pub role: Role,
    /// Folder of models, keys and the database.
    pub data_dir: PathBuf,
    /// Addresses to join the mesh through.
    pub bootstrap: Vec<Multiaddr>,
    /// Addresses to be reached at.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach the node.
    pub external: Vec<Multiaddr>,
    /// Whether to pass on what nodes behind a NAT say.
    pub relay: Switch,
    /// Whether to ask the router to open a port.
    pub upnp: Switch,
    /// Address of the HTTP server.
    pub http: HttpAddress,
    /// File with the pre-shared key of a private mesh.
    pub psk: Option<PathBuf>,
    /// File with the nodes of the mesh, signed by its operator.
    pub members: Option<PathBuf>,
    /// Threads that compute.
    pub threads: Threads,
    /// Model by name or path.
    pub model: String,
    /// How shards compute.
    pub precision: Precision,
    /// What dense weights are packed to.
    pub quantize: Quantize,
    /// Price of a token.
    pub price_per_token: Price,
    /// Layers a provider serves.
    pub layers: Layers,
    /// Device that layers are computed on.
    pub device: Device,
    /// Who is paid.
    pub wallet: Option<WalletAddress>,
    /// Where the node stands.
    pub region: Option<String>,
    /// What its line carries in a second.
    pub bandwidth: Option<ByteSize>,
    /// Most memory for weights and caches.
    pub max_memory: Option<ByteSize>,
    /// Most sessions served at once.
    pub max_sessions: Option<Sessions>,
    /// How often a provider with `layers = 'auto'` looks for a better place.
    pub rebalance_interval: Seconds,
    /// Whose sessions share the beginnings of their prompts.
    pub prefix_sharing: PrefixSharing,
    /// Whether requests need an API key.
    pub require_keys: Switch,
    /// What the operator keeps of every cost.
    pub fee: FeeRate,
    /// Whether the ledger keeps the texts of prompts.
    pub store_prompts: StorePrompts,
    /// How long it keeps them; `None` leaves that to the ledger.
    pub keep_prompts: Option<Days>,
    /// How long the ledger keeps receipts.
    pub keep_receipts: Option<Days>,
    /// How long the ledger keeps the figures of every minute.
    pub keep_metrics: Option<Days>,
    /// What becomes of a session whose lost layers only nodes of another kernel class serve.
    pub other_kernel_class: OtherKernelClass,
    /// Database of the ledger; SQLite in the data folder where absent.
    pub postgres_url: Option<SecretUrl>,
    /// What several coordinators share.
    pub redis_url: Option<SecretUrl>,
    /// What `far-mesh payments` works with.
    pub payments: Payments,
    origins: Origins,
}

impl Config {
    /// Reads file and environment, lets `flags` win, fills in the defaults of `role` and checks what must fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the source, the value and the remedy.
    pub fn load(role: Role, sources: &Sources, flags: Flags) -> Result<Self, ConfigError> {
        let entries = sources.entries()?;
        let mut reader = Reader { role, entries: &entries, sources, origins: BTreeMap::new() };
        let data_dir = match (reader.path("data_dir")?, &flags.data_dir) {
            (_, Some(flag)) => sources.directory.join(flag),
            (Some(set), None) => set,
            (None, None) => sources.user_dir("XDG_DATA_HOME", ".local/share")?.ok_or(ConfigError::NoDataDir)?,
        };
        let mut config = Self {
            role,
            data_dir,
            bootstrap: reader.many("bootstrap", parse_multiaddr)?,
            listen: reader.many("listen", parse_multiaddr)?,
            external: reader.many("external", parse_multiaddr)?,
            relay: reader.parsed("relay")?.unwrap_or_default(),
            upnp: reader.parsed("upnp")?.unwrap_or_default(),
            http: reader.parsed("http")?.unwrap_or_else(|| HttpAddress::loopback(default_http_port(role))),
            psk: reader.path("psk")?,
            members: reader.path("members")?,
            threads: reader.parsed("threads")?.unwrap_or_else(Threads::available),
            model: reader
                .one("model", |text| bounded(text, MAX_MODEL_CHARS))?
                .unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            precision: reader.parsed("precision")?.unwrap_or_default(),
            quantize: reader.parsed("quantize")?.unwrap_or_default(),
            price_per_token: reader.one("price_per_token_far", parse_money)?.unwrap_or(DEFAULT_PRICE),
            layers: reader.parsed("layers")?.unwrap_or_default(),
            device: reader.parsed("device")?.unwrap_or_default(),
            wallet: reader.one("wallet", parse_money)?,
            region: reader.one("region", parse_region)?,
            bandwidth: reader.parsed("bandwidth")?,
            max_memory: reader.parsed("max_memory")?,
            max_sessions: reader.parsed("max_sessions")?,
            require_keys: reader.parsed("require_keys")?.unwrap_or_default(),
            fee: reader.one("fee_basis_points", |text| text.parse().map_err(|_| ValueError::Fee))?.unwrap_or_default(),
            store_prompts: reader.parsed("store_prompts")?.unwrap_or_default(),
            keep_prompts: reader.parsed("keep_prompts_days")?,
            keep_receipts: reader.parsed("keep_receipts_days")?,
            keep_metrics: reader.parsed("keep_metrics_days")?,
            other_kernel_class: reader.parsed("other_kernel_class")?.unwrap_or_default(),
            rebalance_interval: reader.parsed("rebalance_interval")?.unwrap_or(Seconds::FIVE_MINUTES),
            prefix_sharing: reader.parsed("prefix_sharing")?.unwrap_or_default(),
            postgres_url: reader.one("postgres_url", |text| {
                SecretUrl::new(text, &["postgres://", "postgresql://"], "postgres:// or postgresql://")
            })?,
            redis_url: reader
                .one("redis_url", |text| SecretUrl::new(text, &["redis://", "rediss://"], "redis:// or rediss://"))?,
            payments: Payments::read(&mut reader)?,
            origins: reader.origins,
        };
        config.apply(flags, &sources.directory);
        if config.listen.is_empty() {
            config.listen = default_listen(role, config.psk.is_some());
        }
        config.check()?;
        Ok(config)
    }

    /// Who set a setting, by its name in the file.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// What weights become on the device.
    pub fn weights(&self) -> far_mesh_core::model::Precision {
        self.precision.with(self.quantize)
    }

    /// Whether to pass on what nodes behind a NAT say.
    pub fn relay_role(&self) -> RelayRole {
        match (self.relay, self.role) {
            (Switch::On, _) | (Switch::Auto, Role::Discovery) => RelayRole::Always,
            (Switch::Auto, _) => RelayRole::Auto,
            (Switch::Off, _) => RelayRole::Never,
        }
    }

    /// Whether requests need an API key: where nobody decided, not on this machine alone.
    pub fn keys_required(&self) -> bool {
        match self.require_keys {
            Switch::On => true,
            Switch::Off => false,
            Switch::Auto => !self.http.is_loopback(),
        }
    }

    /// Whether to ask the router to open a port: not for a mesh that is private or on this machine alone.
    pub fn asks_router(&self) -> bool {
        let loopback = |addr: &Multiaddr| match addr.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.is_loopback(),
            Some(Protocol::Ip6(ip)) => ip.is_loopback(),
            _ => false,
        };
        match self.upnp {
            Switch::On => true,
            Switch::Off => false,
            Switch::Auto => self.role == Role::Provider && self.psk.is_none() && !self.listen.iter().all(loopback),
        }
    }

    fn apply(&mut self, flags: Flags, directory: &Path) {
        macro_rules! take {
            ($($field:ident => $target:expr, $key:literal, $flag:literal, $wrap:expr;)+) => {$(
                if let Some(value) = flags.$field {
                    $target = $wrap(value);
                    self.origins.insert($key, Origin::Flag($flag));
                }
            )+};
        }
        self.payments.apply(flags.payments, directory, &mut self.origins);
        let list = |items: Vec<Multiaddr>| (!items.is_empty()).then_some(items);
        let (bootstrap, listen, external) = (list(flags.bootstrap), list(flags.listen), list(flags.external));
        if let Some(bootstrap) = bootstrap {
            self.bootstrap = bootstrap;
            self.origins.insert("bootstrap", Origin::Flag("--bootstrap"));
        }
        if let Some(listen) = listen {
            self.listen = listen;
            self.origins.insert("listen", Origin::Flag("--listen"));
        }
        if let Some(external) = external {
            self.external = external;
            self.origins.insert("external", Origin::Flag("--external"));
        }
        if flags.data_dir.is_some() {
            self.origins.insert("data_dir", Origin::Flag("--data-dir"));
        }
        take! {
            relay => self.relay, "relay", "--relay", |value| value;
            upnp => self.upnp, "upnp", "--upnp", |value| value;
            http => self.http, "http", "--http", |value| value;
            psk => self.psk, "psk", "--psk", |path: PathBuf| Some(directory.join(path));
            members => self.members, "members", "--members", |path: PathBuf| Some(directory.join(path));
            threads => self.threads, "threads", "--threads", |value| value;
            model => self.model, "model", "--model", |value| value;
            precision => self.precision, "precision", "--precision", |value| value;
            quantize => self.quantize, "quantize", "--quantize", |value| value;
            require_keys => self.require_keys, "require_keys", "--require-keys", |value| value;
            price => self.price_per_token, "price_per_token_far", "--price", |value| value;
            layers => self.layers, "layers", "--layers", |value| value;
            device => self.device, "device", "--device", |value| value;
            wallet => self.wallet, "wallet", "--wallet", Some;
            region => self.region, "region", "--region", Some;
            bandwidth => self.bandwidth, "bandwidth", "--bandwidth", Some;
            max_memory => self.max_memory, "max_memory", "--max-memory", Some;
            max_sessions => self.max_sessions, "max_sessions", "--max-sessions", Some;
            rebalance_interval => self.rebalance_interval, "rebalance_interval", "--rebalance-interval", |value| value;
        }
    }

    /// What no single value shows.
    fn check(&self) -> Result<(), ConfigError> {
        let quic = |address: &&Multiaddr| address.iter().any(|part| matches!(part, Protocol::QuicV1 | Protocol::Quic));
        if let (Some(_), Some(address)) = (&self.psk, self.listen.iter().find(quic)) {
            return Err(ConfigError::PrivateQuic {
                listen: self.origin("listen").clone(),
                address: address.to_string(),
                psk: self.origin("psk").clone(),
            });
        }
        if self.precision == Precision::Exact && self.quantize != Quantize::None {
            return Err(ConfigError::ExactQuantized {
                precision: self.origin("precision").clone(),
                quantize: self.origin("quantize").clone(),
                kind: self.quantize.to_string(),
            });
        }
        Ok(())
    }
}

/// Looks settings up for a role.
pub(super) struct Reader<'a> {
    role: Role,
    entries: &'a Entries,
    sources: &'a Sources,
    origins: Origins,
}

impl<'a> Reader<'a> {
    fn entry(&mut self, name: &str) -> Option<&'a Entry> {
        let entry = self.entries.find(name, self.role)?;
        self.origins.insert(entry.key.name, entry.origin.clone());
        Some(entry)
    }

    pub(super) fn one<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        match &entry.text {
            Text::One(text) => parse(text).map(Some).map_err(|problem| refused(entry, text, problem)),
            Text::Many(_) => Ok(None),
        }
    }

    pub(super) fn parsed<T: FromStr<Err = ValueError>>(&mut self, name: &str) -> Result<Option<T>, ConfigError> {
        self.one(name, str::parse)
    }

    fn many<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, ValueError>) -> Result<Vec<T>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(Vec::new()) };
        let texts = match &entry.text {
            Text::One(text) => std::slice::from_ref(text),
            Text::Many(texts) => texts,
        };
        texts.iter().map(|text| parse(text).map_err(|problem| refused(entry, text, problem))).collect()
    }

    /// A path of a file's setting is relative to that file, any other to where the process was started.
    pub(super) fn path(&mut self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        let sources = self.sources;
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let Text::One(text) = &entry.text else { return Ok(None) };
        let text = bounded(text, MAX_MODEL_CHARS).map_err(|problem| refused(entry, text, problem))?;
        let base = match &entry.origin {
            Origin::File { path, .. } => path.parent().unwrap_or(&sources.directory),
            _ => &sources.directory,
        };
        sources.place(base, &text).map(Some)
    }
}

fn refused(entry: &Entry, text: &str, problem: ValueError) -> ConfigError {
    let value = if entry.key.secret { "(hidden)".to_owned() } else { format!("{text:?}") };
    ConfigError::Value { origin: entry.origin.clone(), key: entry.key.name, value, problem }
}

/// An address of the mesh.
///
/// # Errors
/// [`ValueError::Multiaddr`] with what the parser said and an example.
pub fn parse_multiaddr(text: &str) -> Result<Multiaddr, ValueError> {
    text.parse().map_err(|err: multiaddr::Error| ValueError::Multiaddr { reason: err.to_string() })
}

/// A price or the address of a wallet.
///
/// # Errors
/// [`ValueError::Price`] or [`ValueError::Wallet`] with what is wrong.
pub fn parse_money<T: FromStr<Err: Into<ValueError>>>(text: &str) -> Result<T, ValueError> {
    text.parse().map_err(Into::into)
}

fn bounded(text: &str, most: usize) -> Result<String, ValueError> {
    if text.is_empty() || text.chars().count() > most {
        return Err(ValueError::Length { most });
    }
    Ok(text.to_owned())
}

/// The name of a region as an advert carries it.
///
/// # Errors
/// [`ValueError::Length`] when it is empty or too long for an advert.
pub fn parse_region(text: &str) -> Result<String, ValueError> {
    bounded(text, MAX_REGION_CHARS)
}

fn default_http_port(role: Role) -> u16 {
    match role {
        Role::Coordinator => 8100,
        Role::Discovery => 8101,
        Role::Provider => 8102,
        Role::Payments | Role::Tool => 0,
    }
}

/// Every interface on TCP, and on QUIC unless the mesh is private: a pre-shared key wraps TCP only.
fn default_listen(role: Role, private: bool) -> Vec<Multiaddr> {
    let port = match role {
        Role::Discovery => 31337,
        Role::Provider => 31330,
        Role::Coordinator | Role::Payments | Role::Tool => 0,
    };
    let any = || Multiaddr::empty().with(Protocol::Ip4(std::net::Ipv4Addr::UNSPECIFIED));
    let tcp = any().with(Protocol::Tcp(port));
    let quic = any().with(Protocol::Udp(port)).with(Protocol::QuicV1);
    if private { vec![tcp] } else { vec![tcp, quic] }
}
