//! How long to wait for more jobs before computing those there are.
//!
//! Sessions that were answered together ask again together, but not in the same microsecond: each first chooses its token.
//! The first to ask would be computed by itself, which takes a good part of the time that all take. So whoever was just
//! answered is waited for, as long as they keep coming.

use std::time::Duration;

/// How long none may come before those that did are computed: choosing a token takes some 100 us.
const QUIET: Duration = Duration::from_micros(200);

/// The part of the last computation's time that waiting may take, whoever keeps coming.
const PART: u32 = 2;

/// How often a look is taken. Sleeping meanwhile leaves the cores to those that are waited for.
pub(super) const LOOK: Duration = Duration::from_micros(40);

/// Whom to wait for after a computation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gather {
    /// Jobs that will probably come.
    wanted: usize,
    most: Duration,
}

impl Gather {
    /// After a computation that took `took` and answered `answered` sessions with something to go on with.
    pub(super) fn after(answered: usize, took: Duration) -> Self {
        // One alone has nobody to wait for.
        Self { wanted: if answered > 1 { answered } else { 0 }, most: took / PART }
    }

    /// Whether to wait on, with so many jobs `waiting`, the last of which came `quiet` ago, `total` since the first look.
    pub(super) fn waits(&self, waiting: usize, quiet: Duration, total: Duration) -> bool {
        waiting < self.wanted && quiet < QUIET && total < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_answered_are_waited_for_while_they_keep_coming() {
        let (us, ms) = (Duration::from_micros, Duration::from_millis);
        let gather = Gather::after(8, ms(10));
        assert!(gather.waits(1, us(50), us(50)) && gather.waits(7, us(199), ms(4)));
        assert!(!gather.waits(8, us(0), us(60)), "all are there");
        assert!(!gather.waits(7, us(200), us(900)), "nobody comes any more");
        assert!(!gather.waits(7, us(0), ms(5)), "half of the time that they save at best");
        assert!(!Gather::after(1, ms(10)).waits(0, us(0), us(0)), "one alone is not held up");
        assert!(!Gather::default().waits(0, us(0), us(0)));
    }
}
