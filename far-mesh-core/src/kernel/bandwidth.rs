//! How fast this machine reads plain memory: the bound of decoding, which reads every weight once a token.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::pool::Pool;

/// Larger than the caches of any machine we know (the largest third-level caches hold about a gigabyte, but not for one
/// process).
const BUFFER_BYTES: usize = 512 << 20;
const TASK_BYTES: usize = 1 << 20;

/// Bytes a second that the threads of `pool` read together from a buffer larger than the caches: the best of a few
/// sweeps that take at most about `limit` together, since whatever else runs can only make one slower.
pub fn read_bandwidth(pool: &Pool, limit: Duration) -> f64 {
    let mut buffer = vec![0u64; BUFFER_BYTES / size_of::<u64>()];
    // Untouched memory is one page of zeros to the system.
    buffer.iter_mut().step_by(512).for_each(|word| *word = 1);
    let (begin, mut best) = (Instant::now(), 0f64);
    while best == 0.0 || begin.elapsed() < limit {
        let (start, total) = (Instant::now(), AtomicU64::new(0));
        let words = TASK_BYTES / size_of::<u64>();
        pool.run(buffer.len() / words, |i| {
            total.fetch_add(sum(&buffer[i * words..][..words]), Relaxed);
        });
        std::hint::black_box(total.into_inner());
        best = best.max(BUFFER_BYTES as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Many sums at once: one would wait for its own latency instead of for memory.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for words in words.as_chunks::<32>().0 {
        for i in 0..32 {
            sums[i] = sums[i].wrapping_add(words[i]);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
