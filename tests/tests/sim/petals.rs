//! Petals' failure experiment: what is left of the throughput when hops die at a given rate.
//!
//! Borzunov et al., "Distributed Inference and Fine-tuning of Large Language Models Over The Internet" (NeurIPS 2023),
//! table 1: each hop fails at each step with a given chance, and a generation of 128 or 1024 tokens goes on.
//! Here a process dies, and one like it is there again a fifth of a second later.

use std::time::Duration;

use far_mesh_core::peer::StepTime;

use crate::{
    cluster::{Mishap, Setup},
    report::Tally,
};

/// Chance of a hop to die at a step, and the share of the throughput that must be left (Petals: 0.73-0.93 and 0.20-0.30).
const CHANCES: [(f64, f64); 2] = [(1e-3, 0.9), (1e-2, 0.6)];
/// Tokens, and how many generations of them are averaged.
const LENGTHS: [(usize, u32); 2] = [(128, 8), (1024, 3)];
const RESTART: Duration = Duration::from_millis(200);

/// What a mesh is made of: compute of a hop and one-way latency, in whole milliseconds as turmoil counts them.
struct World {
    name: &'static str,
    /// What a token really takes there, where the simulation rounds it up.
    token: Option<Duration>,
    tick: Duration,
    time: StepTime,
    latency: Duration,
}

const WORLDS: [World; 2] = [
    World {
        name: "loopback (a message takes up to 1 ms here, not 0.1), 10 layers of a small model a hop: 1 ms a token, 0.12 ms a position of a prompt",
        token: Some(Duration::from_micros(2800)),
        tick: Duration::from_millis(1),
        time: StepTime { base: Duration::from_micros(880), per_token: Duration::from_micros(120) },
        latency: Duration::ZERO,
    },
    World {
        name: "20 ms round trip, a large model: 20 ms a token, 1 ms a position of a prompt",
        token: None,
        tick: Duration::from_millis(5),
        time: StepTime { base: Duration::from_millis(19), per_token: Duration::from_millis(1) },
        latency: Duration::from_millis(10),
    },
];

fn run(world: &World, (steps, runs): (usize, u32), mishap: &Mishap, tally: &mut Tally) -> Duration {
    let took = (0..runs).map(|seed| {
        let setup = Setup {
            seed: seed.into(),
            sessions: 1,
            prompt: 16,
            chunk: 64,
            steps,
            copies: 6,
            tick: world.tick,
            time: world.time,
            latency: (world.latency, world.latency),
            mishap: mishap.clone(),
        };
        let outcomes = setup.run().outcomes;
        tally.add(&setup, &outcomes);
        outcomes[0].took
    });
    took.sum::<Duration>() / runs
}

#[test]
fn throughput_stays_when_hops_die() {
    for world in &WORLDS {
        println!("{}", world.name);
        for length in LENGTHS {
            let mut tally = Tally::default();
            let undisturbed = run(world, length, &Mishap::None, &mut tally);
            assert!(tally.is_whole() && tally.failures == 0);
            let steps = length.0;
            println!(
                "  {steps:>4} tokens undisturbed: {:.2} ms a token",
                undisturbed.as_secs_f64() * 1e3 / steps as f64
            );
            for (chance, least) in CHANCES {
                let mut tally = Tally::default();
                let took = run(world, length, &Mishap::Deaths { chance, restart: RESTART }, &mut tally);
                let share = undisturbed.as_secs_f64() / took.as_secs_f64();
                let failures = tally.failures;
                print!("  {steps:>4} tokens, a hop dies with {chance:.0e} a step: {share:.3} of it, {failures} losses");
                if let Some(token) = world.token {
                    let real = token * steps as u32;
                    let share = real.as_secs_f64() / (real + took.saturating_sub(undisturbed)).as_secs_f64();
                    print!("; {share:.3} where a token takes {token:?}");
                }
                println!();
                assert!(tally.is_whole(), "{tally}");
                assert!(share >= least, "{share:.3} where {least} is due");
            }
        }
    }
}
