//! What receipts cost.

use std::time::{Duration, Instant};

use super::*;

/// Prints what receipts cost; a bound far above it, so that a busy machine does not fail it.
#[test]
fn the_cost_of_a_token_is_small_beside_its_compute() {
    let rounds = 400u32;
    let time = |mut work: Box<dyn FnMut()>| {
        let started = Instant::now();
        (0..rounds).for_each(|_| work());
        started.elapsed() / rounds
    };
    let wide = Activation::from_f32(1, 576, vec![0.25; 576]).unwrap();
    let (mut commits, mut position) = (Committer::new(SESSION), 0);
    let row = time(Box::new(move || {
        commits.output(position, 1, Some(&wide)).unwrap();
        position += 1;
    }));
    let session = run(&[32]);
    let work = session.receipts[0].work().clone();
    let (own, next) = (key(1), key(2));
    let sign = time(Box::new({
        let work = work.clone();
        move || drop(Signed::sign(work.clone(), &own).unwrap())
    }));
    let mut received = Committer::new(SESSION);
    received.input(0, &Input::Activation(rows(1, 0, 32))).unwrap();
    let signed = Signed::sign(work, &key(1)).unwrap();
    let hop_id = id(1);
    let witness = time(Box::new(move || drop(signed.clone().witness(&hop_id, &received, &next).unwrap())));
    let receipt = session.receipts[0].clone();
    let verify = time(Box::new(move || receipt.verify().unwrap()));
    let hop = 2 * row + (sign + witness) / MAX_RECEIPT_TOKENS;
    println!("a row of 576 f32 {row:?}, sign {sign:?}, witness {witness:?}, verify both {verify:?}");
    println!("a token: {hop:?} at a hop, {:?} at the coordinator for a hop", verify / MAX_RECEIPT_TOKENS);
    assert!(hop < Duration::from_millis(1), "{hop:?}");
}
