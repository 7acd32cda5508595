//! Norms and the gated activation.

use super::*;
use crate::kernel::KernelOps;

const EPS: f32 = 1e-5;

fn norm(x: &[f32], weight: &[f32]) -> Vec<f64> {
    x.chunks(weight.len())
        .flat_map(|x| {
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (mean + f64::from(EPS)).sqrt();
            x.iter().zip(weight).map(move |(x, w)| f64::from(*x) * scale * f64::from(*w))
        })
        .collect()
}

#[test]
fn norm_is_that_of_the_paper_on_every_path() {
    for (rows, width) in [(1, 576), (7, 40), (130, 100), (3, 1), (2, 16)] {
        let (x, weight) = (random(rows * width, 1), random(width, 2));
        let got =
            on_every_path(|| values(Flex::rms_norm(&matrix(x.clone(), [rows, width]), &vector(weight.clone()), EPS)));
        assert_close(&got, &norm(&x, &weight), 1e-6, &format!("[{rows}, {width}]"));
    }
}

#[test]
fn residual_norm_is_the_norm_of_the_sum() {
    let (rows, width) = (50, 200);
    let (x, delta, weight) = (random(rows * width, 3), random(rows * width, 4), random(width, 5));
    let sum: Vec<f32> = x.iter().zip(&delta).map(|(x, delta)| x + delta).collect();
    on_every_path(|| {
        let (x, delta) = (matrix(x.clone(), [rows, width]), matrix(delta.clone(), [rows, width]));
        let kept = x.clone();
        let (got, normed) = Flex::add_rms_norm(x, delta, &vector(weight.clone()), EPS);
        assert_same_bits(&values(kept), &self::random(rows * width, 3), "a tensor that shares the memory");
        let alone = Flex::rms_norm(&got, &vector(weight.clone()), EPS);
        let (got, normed) = (values(got), values(normed));
        assert_same_bits(&got, &sum, "sum");
        assert_same_bits(&normed, &values(alone), "norm");
        [got, normed].concat()
    });
}

#[test]
fn gated_activation_is_silu_of_the_gate_times_up() {
    for (rows, width) in [(1, 1536), (33, 50), (2, 1)] {
        let x: Vec<f32> = random(rows * 2 * width, 6).iter().map(|x| x * 20.0).collect();
        let got = on_every_path(|| values(Flex::silu_mul(matrix(x.clone(), [rows, 2 * width]))));
        let silu = |x: f32| f64::from(x) / (1.0 + (-f64::from(x)).exp());
        let want: Vec<f64> =
            x.chunks(2 * width).flat_map(|row| (0..width).map(|i| silu(row[i]) * f64::from(row[width + i]))).collect();
        assert_close(&got, &want, 1e-6, &format!("[{rows}, {width}]"));
    }
}

#[test]
fn rows_of_a_view_are_read_where_they_lie() {
    let (rows, width) = (6, 24);
    let all = random(rows * width, 7);
    let weight = vector(random(width, 8));
    let last = matrix(all.clone(), [rows, width]).narrow(0, rows - 1, 1);
    let want = Flex::rms_norm(&matrix(all[(rows - 1) * width..].to_vec(), [1, width]), &weight, EPS);
    assert_same_bits(&values(Flex::rms_norm(&last, &weight, EPS)), &values(want), "last row");
}

#[test]
fn numbers_beyond_all_measure_do_not_panic() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
        let x = vec![bad; 64];
        values(Flex::rms_norm(&matrix(x.clone(), [2, 32]), &vector(vec![1.0; 32]), EPS));
        values(Flex::silu_mul(matrix(x, [2, 32])));
    }
    assert!(values(Flex::silu_mul(matrix(vec![f32::NAN; 2], [1, 2])))[0].is_nan());
}
