//! How much memory programs can have.

use std::fs;

/// Bytes of this machine's memory, and those that programs can have without swapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
}

impl Memory {
    /// What the system says now; `None` where it does not.
    pub(super) fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    /// Reads the form of Linux's `/proc/meminfo`.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total_bytes: field("MemTotal")?, available_bytes: field("MemAvailable")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read_and_nonsense_is_not() {
        let text = "MemTotal:       24573904 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(memory, Memory { total_bytes: 24_573_904 << 10, available_bytes: 23_000_000 << 10 });
        for bad in ["", "MemTotal: 1 kB", "MemTotal: x kB\nMemAvailable: 1 kB", "MemTotal: 1\nMemAvailable: 1"] {
            assert_eq!(Memory::parse(bad), None, "{bad}");
        }
        let now = Memory::read().unwrap();
        assert!(0 < now.available_bytes && now.available_bytes <= now.total_bytes);
    }
}
