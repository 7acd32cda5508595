//! Rotary position embedding (Su et al. 2021): its table, and the order of rows GGUF stores it for.

use crate::kernel::RopeTable;

/// Cosines and sines of positions `0..positions`, computed in f64 and rounded once. `divisor` gives what each of the
/// `head_dim / 2` frequencies is divided by.
pub(super) fn table(head_dim: usize, theta: f32, divisor: impl Fn(usize) -> f32, positions: usize) -> RopeTable {
    let frequency = |i: usize| f64::from(theta).powf(-2.0 * i as f64 / head_dim as f64) / f64::from(divisor(i));
    let frequencies: Vec<f64> = (0..head_dim / 2).map(frequency).collect();
    let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
    let (sin, cos) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
    RopeTable { cos, sin, head_dim }
}

/// Divisors of the frequencies of Llama 3.1, by the rule of its authors (`apply_scaling` in `llama3/model.py`).
pub(super) fn llama3_divisor(
    head_dim: usize,
    theta: f32,
    (factor, low, high): (f32, f32, f32),
    context_tokens: f32,
) -> impl Fn(usize) -> f32 {
    let (factor, low, high) = (f64::from(factor), f64::from(low), f64::from(high));
    move |i| {
        let wave = 2.0 * std::f64::consts::PI * f64::from(theta).powf(2.0 * i as f64 / head_dim as f64);
        let waves = f64::from(context_tokens) / wave;
        let divisor = if waves > high {
            1.0
        } else if waves < low {
            factor
        } else {
            let smooth = (waves - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        divisor as f32
    }
}

/// Brings the rows of a query or key matrix into half-split order.
///
/// GGUF files of Llama models store each head's rows so that rotation pairs neighbours `2i, 2i + 1`; our kernels pair
/// `i` with `i + head_dim / 2`, as the original checkpoints do. Row `2i + j` of a head goes to `j * head_dim / 2 + i`.
pub(super) fn unpermute_rows(rows: &mut [u8], head_dim: usize, row_bytes: usize) {
    let mut head_copy = vec![0; head_dim * row_bytes];
    for head in rows.chunks_exact_mut(head_dim * row_bytes) {
        head_copy.copy_from_slice(head);
        for (from, row) in head_copy.chunks_exact(row_bytes).enumerate() {
            let to = (from % 2) * (head_dim / 2) + from / 2;
            head[to * row_bytes..(to + 1) * row_bytes].copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_each_head_are_brought_into_half_split_order() {
        let mut rows: Vec<u8> = (0..8).flat_map(|row| [row, row]).collect();
        unpermute_rows(&mut rows, 4, 2);
        let order: Vec<u8> = rows.chunks(2).map(|row| row[0]).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn the_first_position_is_not_turned_and_the_first_pair_turns_by_one_radian() {
        let table = table(8, 10_000.0, |i| [1.0, 2.0, 1.0, 1.0][i], 3);
        assert_eq!((table.cos.len(), table.sin.len()), (12, 12));
        assert!(table.cos[..4].iter().all(|&c| c == 1.0) && table.sin[..4].iter().all(|&s| s == 0.0));
        assert_eq!((table.cos[4], table.sin[8]), (1f64.cos() as f32, 2f64.sin() as f32));
        assert_eq!(table.sin[5], 0.05f64.sin() as f32, "divided by 2");
    }
}
