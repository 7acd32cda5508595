//! Why settings are refused: each names its source, the value and what to do.

use std::{io, path::PathBuf};

use far_ledger::{amount::ParseAmountError, wallet::ParseWalletError};

use super::entry::Origin;

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a configuration.
    #[error("{} has {bytes} bytes, more than the {limit} of any configuration: name the right file with --config", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Most bytes.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// Counts from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// There is no such setting.
    #[error("{origin}: unknown {what} `{name}`{}", meant(nearest))]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// `setting`, `section` or `variable`.
        what: &'static str,
        /// What was written.
        name: String,
        /// The known name nearest to it.
        nearest: Option<&'static str>,
    },
    /// The setting means nothing to this role.
    #[error("{origin}: `{key}` has no effect in [{section}]: move it to {belongs} or to the top level")]
    Misplaced {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// The section it stands in.
        section: &'static str,
        /// The sections it may stand in.
        belongs: String,
    },
    /// The value has the wrong type.
    #[error("{origin}: {key} is {found}, must be {wanted}")]
    Type {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// What it is.
        found: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// The value is not acceptable.
    #[error("{origin}: {key} = {value}: {problem}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// What was written, quoted; hidden where it may hold a password.
        value: String,
        /// What is wrong and what to write.
        problem: ValueError,
    },
    /// Two variables of the same setting differ.
    #[error("environment variables {first} and {second} set {key} to different values: unset one of them")]
    Contradiction {
        /// One variable.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The setting.
        key: &'static str,
    },
    /// A variable is not UTF-8.
    #[error("environment variable {name} is not valid UTF-8: set it to plain text")]
    NotText {
        /// The variable.
        name: String,
    },
    /// No folder for data can be named.
    #[error("no home folder: set --data-dir or FAR_MESH_DATA_DIR to the folder for models, keys and the database")]
    NoDataDir,
    /// A private mesh cannot listen on QUIC.
    #[error(
        "{listen}: {address} is QUIC, which a private mesh ({psk}) cannot use: listen on /ip4/.../tcp/PORT or drop the pre-shared key"
    )]
    PrivateQuic {
        /// Who set the address.
        listen: Origin,
        /// The address.
        address: String,
        /// Who set the key.
        psk: Origin,
    },
    /// Weights that lose bits while they are loaded are not exact.
    #[error("{precision}: exact arithmetic, but {quantize} packs the weights to {kind}: drop one of the two")]
    ExactQuantized {
        /// Who asked for exact arithmetic.
        precision: Origin,
        /// Who asked for packing.
        quantize: Origin,
        /// To what.
        kind: String,
    },
}

/// What is wrong with one value, and what to write instead. The value itself is named by who reports this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not an address of an HTTP server.
    #[error("not HOST:PORT; write for example 127.0.0.1:8100 or [::1]:8100, port 0 for a free one")]
    HttpAddress,
    /// Not an address of the mesh.
    #[error("not an address of the mesh ({reason}); write for example /ip4/192.0.2.7/tcp/31337/p2p/12D3Koo...")]
    Multiaddr {
        /// What the parser said.
        reason: String,
    },
    /// Not a fee.
    #[error("not a fee; write basis points from 0 to 10000, for example 250 for 2.5 %")]
    Fee,
    /// Not a number of days.
    #[error("not a number of days; write 1 to {most}, or 0 for ever")]
    Days {
        /// Most days.
        most: u32,
    },
    /// Not a price.
    #[error("not an amount of FAR ({reason}); write a decimal number such as 0.0001")]
    Price {
        /// What is wrong.
        reason: &'static str,
    },
    /// Not an Ethereum address.
    #[error("not an Ethereum address ({reason}); write its 0x and 40 hexadecimal digits")]
    Wallet {
        /// What is wrong.
        reason: &'static str,
    },
    /// Not an amount of memory.
    #[error("not an amount of memory; write for example 6GiB, 512MiB or 2GB")]
    ByteSize,
    /// Not layers.
    #[error("not layers; write auto or A..B, for example 0..10 for the first ten")]
    Layers,
    /// Not one of the words that are known.
    #[error("not known; write {known}")]
    Choice {
        /// What may be written.
        known: &'static str,
    },
    /// Not a number of threads.
    #[error("not a number of threads; write 1 to {most}")]
    Threads {
        /// Most threads.
        most: usize,
    },
    /// Not a number of sessions.
    #[error("not a number of sessions; write 1 to {most}")]
    Sessions {
        /// Most sessions.
        most: u16,
    },
    /// Not a time between two looks.
    #[error("not a number of seconds; write 1 to {most}, or 0 for never")]
    Seconds {
        /// Longest time.
        most: u32,
    },
    /// Not a number, or one out of bounds.
    #[error("not {what}; write a whole number from {least} to {most}")]
    Number {
        /// What it should be.
        what: &'static str,
        /// Least.
        least: u64,
        /// Most.
        most: u64,
    },
    /// Not a depth in a chain.
    #[error("not a depth in the chain; write finalized, or a number of blocks from 1 to {most}")]
    Confirmations {
        /// Most blocks.
        most: u64,
    },
    /// Not a fee.
    #[error("not a fee in gwei; write a decimal number above 0 such as 30 or 0.05")]
    Gwei,
    /// Not an address of a database or a node.
    #[error("not an address that begins with {schemes}")]
    Url {
        /// What it may begin with.
        schemes: &'static str,
    },
    /// Not a day.
    #[error("not a day from 1970-01-01 on; write YYYY-MM-DD")]
    Day,
    /// Not a SHA-256.
    #[error("not a SHA-256; write its 64 hexadecimal digits")]
    Sha256,
    /// Empty or too long.
    #[error("must have 1 to {most} characters")]
    Length {
        /// Most characters.
        most: usize,
    },
}

impl From<ParseAmountError> for ValueError {
    fn from(error: ParseAmountError) -> Self {
        let reason = match error {
            ParseAmountError::Empty => "it is empty",
            ParseAmountError::TooFine { .. } => "it has more than 9 decimals",
            ParseAmountError::TooLarge { .. } => "it is too large",
            _ => "it has more than digits and one decimal point",
        };
        Self::Price { reason }
    }
}

impl From<ParseWalletError> for ValueError {
    fn from(error: ParseWalletError) -> Self {
        let reason = match error {
            ParseWalletError::Checksum { .. } => "its checksum is wrong, so a character may be: copy it again",
            ParseWalletError::Zero => "the zero address belongs to nobody",
            _ => "it does not have that form",
        };
        Self::Wallet { reason }
    }
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(
        || "; `far-mesh --help` lists what there is".to_owned(),
        |name| format!(", did you mean `{name}`?"),
    )
}
