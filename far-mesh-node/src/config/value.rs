//! Small typed values of settings.

use std::{
    fmt,
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::error::ValueError;

/// Most sessions of a provider: their arena has 8 million positions.
const MAX_SESSIONS: u16 = 4096;

/// Longest time between two looks: a day.
const MAX_SECONDS: u32 = 86_400;

/// Most days that something is kept: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// Most threads that compute: more than the processors of any machine this runs on.
const MAX_THREADS: usize = 1024;

/// Where an HTTP server listens: a name or address, and a port (0: a free one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    host: String,
    port: u16,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Threads that compute, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threads(NonZeroUsize);

/// Sessions that a provider serves at once, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sessions(u16);

/// Seconds between two looks at something; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u32);

/// Days that something is kept; 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(Option<NonZeroU32>);

/// A SHA-256, in hexadecimal wherever it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

/// An address that may hold a password: it is shown only to who asks for it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl HttpAddress {
    /// An address on this machine alone.
    pub fn loopback(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port }
    }

    /// Name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether only this machine reaches it. A name other than `localhost` may be anywhere.
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().map_or(self.host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
    }

    /// Port; 0 is a free one.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HttpAddress {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (host, port) = text.rsplit_once(':').ok_or(ValueError::HttpAddress)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
        };
        if !valid || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ValueError::HttpAddress);
        }
        let port = port.parse().map_err(|_| ValueError::HttpAddress)?;
        Ok(Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| ValueError::ByteSize)?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(ValueError::ByteSize),
        };
        number.checked_mul(factor).filter(|bytes| *bytes > 0).map(Self).ok_or(ValueError::ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        indicatif::BinaryBytes(self.0).fmt(f)
    }
}

impl Threads {
    /// The processors this process may use.
    pub fn available() -> Self {
        Self(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// The number.
    pub fn get(self) -> NonZeroUsize {
        self.0
    }
}

impl FromStr for Threads {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number: Option<NonZeroUsize> = text.parse().ok();
        number.filter(|n| n.get() <= MAX_THREADS).map(Self).ok_or(ValueError::Threads { most: MAX_THREADS })
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Sessions {
    /// The number.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl FromStr for Sessions {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.parse().ok().filter(|number| (1..=MAX_SESSIONS).contains(number));
        number.map(Self).ok_or(ValueError::Sessions { most: MAX_SESSIONS })
    }
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Seconds {
    /// Five minutes: a span is loaded in less.
    pub(super) const FIVE_MINUTES: Self = Self(300);

    /// The time; `None` where it is never.
    pub fn interval(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0.into()))
    }
}

impl FromStr for Seconds {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.parse().ok().filter(|number| *number <= MAX_SECONDS);
        number.map(Self).ok_or(ValueError::Seconds { most: MAX_SECONDS })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Days {
    /// How many; `None` where it is for ever.
    pub fn get(self) -> Option<NonZeroU32> {
        self.0
    }
}

impl FromStr for Days {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.parse().ok().filter(|number| *number <= MAX_DAYS);
        number.map(|number| Self(NonZeroU32::new(number))).ok_or(ValueError::Days { most: MAX_DAYS })
    }
}

impl FromStr for Sha256 {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ValueError::Sha256)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = ValueError;
    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl SecretUrl {
    /// Checks that `text` begins with one of `schemes`, which `named` spells for the error.
    pub(super) fn new(text: &str, schemes: &[&str], named: &'static str) -> Result<Self, ValueError> {
        let known = schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        if known { Ok(Self(text.to_owned())) } else { Err(ValueError::Url { schemes: named }) }
    }

    /// The address, password included.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_addresses() {
        for good in ["127.0.0.1:8100", "localhost:0", "[::1]:8100", "node-1.example.org:65535"] {
            assert_eq!(good.parse::<HttpAddress>().unwrap().to_string(), good);
        }
        for bad in
            ["", "8100", ":8100", "::1:8100", "a b:1", "host:", "host:65536", "host:+1", "[host]:1", "http://h:1"]
        {
            assert!(bad.parse::<HttpAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.9.1:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("localhost.example.org:1", false),
        ] {
            assert_eq!(address.parse::<HttpAddress>().unwrap().is_loopback(), loopback, "{address}");
        }
    }

    #[test]
    fn memory_and_threads() {
        assert_eq!("6GiB".parse(), Ok(ByteSize(6 << 30)));
        assert_eq!("512 mb".parse(), Ok(ByteSize(512_000_000)));
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        for bad in ["", "GiB", "0", "1.5GiB", "-1", "99999999999TiB", "1 parsec"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
        assert_eq!("2".parse::<Threads>().unwrap().get().get(), 2);
        for bad in ["", "0", "-1", "1025", "two"] {
            assert!(bad.parse::<Threads>().is_err(), "{bad:?}");
        }
        assert_eq!("64".parse::<Sessions>().unwrap().get(), 64);
        assert_eq!("300".parse(), Ok(Seconds::FIVE_MINUTES));
        assert_eq!("0".parse::<Seconds>().unwrap().interval(), None);
        for bad in ["", "-1", "86401", "5m"] {
            assert!(bad.parse::<Seconds>().is_err(), "{bad:?}");
        }
        assert_eq!("0".parse::<Days>().unwrap().get(), None);
        assert_eq!("400".parse::<Days>().unwrap().get(), NonZeroU32::new(400));
        for bad in ["", "-1", "36501", "1.5", "a year"] {
            assert!(bad.parse::<Days>().is_err(), "{bad:?}");
        }
        for bad in ["", "0", "-1", "4097", "many"] {
            assert!(bad.parse::<Sessions>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = SecretUrl::new("postgres://far:geheim@db/far", &["postgres://"], "postgres://").unwrap();
        assert!(!format!("{url:?}").contains("geheim"));
        assert!(SecretUrl::new("mysql://x", &["postgres://"], "postgres://").is_err());
    }
}
