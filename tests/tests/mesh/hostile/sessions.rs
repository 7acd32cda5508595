//! Steps that break the protocol in a session that was rightly opened.

use far_mesh_core::{
    activation::{Activation, Dtype},
    hop::{Input, Rows, Step},
    peer::wire::{Fault, Frame},
};

use super::{ANSWER, Targets, good_open, next_fault};
use crate::process::within;

const HIDDEN: usize = 576;
const VOCABULARY: u32 = 49_152;

fn tokens(seq: u64, position: u32, ids: &[u32]) -> Step {
    Step { seq, position, input: Input::Tokens(ids.to_vec()), output: Rows::Last }
}

fn states(hidden: usize, dtype: Dtype) -> Step {
    let activation = Activation::new(2, hidden, dtype, vec![0; 2 * hidden * dtype.bytes()].into()).unwrap();
    Step { seq: 0, position: 0, input: Input::Activation(activation), output: Rows::Last }
}

#[tokio::test]
async fn a_step_that_does_not_fit_ends_its_session_with_both_values() {
    let targets = Targets::start().await;
    let (first, second) = (targets.first(), targets.second());
    let cases = [
        (first, tokens(1, 0, &[1]), ["step 1", "step 0"]),
        (first, tokens(u64::MAX, 0, &[1]), ["step 18446744073709551615", "step 0"]),
        (first, tokens(0, 7, &[1]), ["position 7", "position 0"]),
        (first, tokens(0, u32::MAX, &[1]), ["position 4294967295", "position 0"]),
        (first, tokens(0, 0, &[1; 65]), ["65 tokens", "64"]),
        (first, tokens(0, 0, &[1, VOCABULARY]), ["49152", "49152 tokens"]),
        (first, tokens(0, 0, &[u32::MAX]), ["4294967295", "49152"]),
        (first, states(HIDDEN, Dtype::F32), ["hidden states", "token ids"]),
        (second, tokens(0, 0, &[1]), ["token ids", "hidden states"]),
        (second, states(HIDDEN, Dtype::F16), ["F16", "F32"]),
        (second, states(HIDDEN - 1, Dtype::F32), ["575", "576"]),
        (second, states(16_384, Dtype::F32), ["16384", "576"]),
    ];
    for (to, step, values) in cases {
        let open = good_open(if std::ptr::eq(to, first) { "0..10" } else { "10..20" });
        let mut link = targets.opened(to, &open).await;
        let what = format!("step {} at {} of {}", step.seq, step.position, step.input.tokens());
        link.send(Frame::Step(step)).await.unwrap();
        let fault = next_fault(&mut link).await;
        let Fault::BadStep(reason) = &fault else { panic!("{fault:?} to {what}") };
        assert!(values.iter().all(|value| reason.contains(value)), "{what}: {reason}, {values:?}");
    }
    targets.unharmed("steps that do not fit").await;
    targets.stop().await;
}

#[tokio::test]
async fn nine_steps_at_once_are_one_too_many() {
    let targets = Targets::start().await;
    let mut link = targets.opened(targets.first(), &good_open("0..10")).await;
    // In one write, so that none is done before the last has come.
    for at in 0..16 {
        link.queue(Frame::Step(tokens(at, at as u32 * 4, &[1; 4]))).unwrap();
    }
    let _ = link.send(Frame::Probe { number: 1 }).await;
    let Fault::BadStep(reason) = next_fault(&mut link).await else { panic!() };
    assert!(reason.contains("8 are on their way"), "{reason}");
    targets.unharmed("too many steps").await;
    targets.stop().await;
}

#[tokio::test]
async fn values_that_are_no_numbers_stay_in_their_session() {
    let targets = Targets::start().await;
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0] {
        let mut link = targets.opened(targets.second(), &good_open("10..20")).await;
        let attack = async {
            for at in 0..16_u32 {
                let activation = Activation::from_f32(4, HIDDEN, vec![poison; 4 * HIDDEN]).unwrap();
                let input = Input::Activation(activation);
                let step = Step { seq: at.into(), position: at * 4, input, output: Rows::All };
                link.send(Frame::Step(step)).await.unwrap();
                let answer = loop {
                    match within(ANSWER, "an output", link.recv()).await.unwrap() {
                        // To be signed by who is no hostile one.
                        Frame::Work(_) => {}
                        answer => break answer,
                    }
                };
                match answer {
                    Frame::Output(done) => assert_eq!(done.output.map(|rows| rows.tokens()), Some(4)),
                    // What is no number does not reach the device.
                    Frame::Fault(Fault::BadStep(reason)) if !poison.is_finite() => {
                        assert!(reason.contains("no numbers"), "{reason}");
                        return;
                    }
                    other => panic!("{other:?} to {poison}"),
                }
            }
        };
        // Beside it an honest session, whose steps may meet the others in one forward.
        let beside = format!("beside activations of {poison}");
        tokio::join!(attack, targets.serve_honestly(&targets.honest, &beside));
    }
    targets.unharmed("values that are no numbers").await;
    targets.stop().await;
}
