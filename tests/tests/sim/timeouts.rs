//! Deadlines: whoever is far, slow or unsteady is waited for, whoever is silent is not.

use std::time::Duration;

use far_mesh_core::peer::StepTime;

use crate::{
    cluster::{Mishap, Setup},
    fault::{Fault, Moment},
    report::Tally,
};

const SESSIONS: usize = 10;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn setup(latency: (Duration, Duration), mishap: Mishap) -> Setup {
    Setup {
        seed: 3,
        sessions: SESSIONS,
        prompt: 32,
        chunk: 8,
        steps: 24,
        copies: 2,
        time: StepTime { base: ms(20), per_token: ms(1) },
        latency,
        tick: ms(1),
        mishap,
    }
}

fn run(setup: &Setup) -> Tally {
    let mut tally = Tally::default();
    let run = setup.run();
    tally.add(setup, &run.outcomes);
    assert!(tally.is_whole(), "{tally}\n{:#?}", run.trace);
    tally
}

#[test]
fn neither_distance_nor_jitter_is_taken_for_a_loss() {
    for latency in [(0, 1), (75, 75), (150, 150), (0, 100), (20, 300)] {
        let setup = setup((ms(latency.0), ms(latency.1)), Mishap::None);
        let tally = run(&setup);
        println!("{latency:?} ms one way: {tally}");
        assert_eq!(tally.failures, 0, "{latency:?}");
    }
}

#[test]
fn a_device_that_turns_slow_is_not_taken_for_lost() {
    // 210 ms a step where 21 are expected: overdue, probed, and found at work.
    let tally = run(&setup((ms(10), ms(10)), Mishap::Strike(Fault::Slow, Moment::Mid, vec![0, 1, 2])));
    println!("{tally}");
    assert_eq!(tally.failures, 0);
    assert!(tally.pause(1.0) >= ms(600), "three hops of 210 ms a step: {tally}");
}

#[test]
fn silence_is_noticed_the_later_the_farther_a_node_is() {
    let pause = |way: u64| {
        let tally = run(&setup((ms(way), ms(way)), Mishap::Strike(Fault::Blackhole, Moment::Mid, vec![1])));
        println!("{way} ms one way: {tally}");
        tally.pause(1.0)
    };
    let (near, far) = (pause(1), pause(200));
    assert!(near < far);
    // Four round trips for each of three hops and for the probe, and the way through the mesh again.
    assert!(far < 16 * ms(400) + 8 * ms(400), "{far:?}");
}
