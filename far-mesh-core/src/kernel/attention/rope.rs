//! Rotary position embedding (Su et al. 2021), pairing element `i` with `i + head_dim / 2`.

/// Rotates one head by the angles of its position and multiplies it with `scale`. Products and sums are rounded one by
/// one, so every instruction set gives the same bits.
#[inline(always)]
pub(super) fn rotate(head: &[f32], cos: &[f32], sin: &[f32], scale: f32, out: &mut [f32]) {
    let half = head.len() / 2;
    let (cos, sin) = (&cos[..half], &sin[..half]);
    let (first, second) = (&head[..half], &head[half..2 * half]);
    let (out_first, out_second) = out[..2 * half].split_at_mut(half);
    for i in 0..half {
        out_first[i] = (first[i] * cos[i] - second[i] * sin[i]) * scale;
        out_second[i] = (second[i] * cos[i] + first[i] * sin[i]) * scale;
    }
}
