//! Every fault at every moment for every hop, and for two hops at once.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use far_mesh_core::peer::StepTime;

use crate::{
    cluster::{Mishap, Setup},
    fault::{Fault, Moment},
    report::Tally,
};

/// Hops that fail: one of three, or two at once.
const HOPS: [(&str, &[u8]); 4] = [("first", &[0]), ("middle", &[1]), ("last", &[2]), ("two", &[0, 2])];

/// Sessions of a case that share a simulation: what strikes one strikes all of them.
const TOGETHER: usize = 20;

/// Sessions of a case, where `FAR_MESH_SIM_SESSIONS` does not say otherwise.
const SESSIONS: usize = 100;

fn setup(seed: u64) -> Setup {
    let ms = Duration::from_millis;
    Setup {
        seed,
        sessions: TOGETHER,
        // More chunks than may be on their way at once.
        prompt: 160,
        chunk: 8,
        steps: 32,
        copies: 2,
        time: StepTime { base: ms(2), per_token: Duration::from_micros(250) },
        latency: (ms(0), ms(1)),
        tick: ms(1),
        mishap: Mishap::None,
    }
}

fn sessions() -> usize {
    let asked = std::env::var("FAR_MESH_SIM_SESSIONS").ok();
    asked.map_or(SESSIONS, |text| text.parse().expect("FAR_MESH_SIM_SESSIONS is a number"))
}

#[derive(Clone, Debug)]
struct Case {
    fault: Fault,
    moment: Moment,
    hops: usize,
}

impl Case {
    /// Whether the pauses are short enough.
    fn is_in_time(&self, tally: &Tally) -> bool {
        let ms = Duration::from_millis;
        let median = ms(1000);
        tally.pause(0.5) < median && tally.pause(0.99) < ms(2000)
    }

    fn run(&self, sessions: usize) -> Tally {
        let mut tally = Tally::default();
        let mut seed = 0;
        while tally.sessions < sessions {
            let mishap = Mishap::Strike(self.fault, self.moment, HOPS[self.hops].1.to_vec());
            let together = TOGETHER.min(sessions - tally.sessions);
            let setup = Setup { sessions: together, mishap, ..setup(seed) };
            tally.add(&setup, &setup.run().outcomes);
            seed += 1;
        }
        tally
    }
}

/// All cases, on every core; in the order of the table.
fn run(sessions: usize) -> Vec<(Case, Tally)> {
    let cases: Vec<Case> = Fault::ALL
        .into_iter()
        .flat_map(|fault| Moment::ALL.into_iter().map(move |moment| (fault, moment)))
        .flat_map(|(fault, moment)| (0..HOPS.len()).map(move |hops| Case { fault, moment, hops }))
        .collect();
    let (next, tallies) = (Mutex::new(0), Mutex::new(vec![None; cases.len()]));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    let Some(case) = cases.get(at) else { break };
                    let tally = case.run(sessions);
                    tallies.lock().unwrap()[at] = Some(tally);
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    cases.into_iter().zip(tallies).map(|(case, tally)| (case, tally.unwrap())).collect()
}

#[test]
fn no_fault_loses_repeats_or_changes_a_token() {
    let started = Instant::now();
    let results = run(sessions());
    println!("{:<10} {:<8} {:<7} {}", "fault", "moment", "hop", Tally::HEAD);
    let mut all = Tally::default();
    for (case, tally) in &results {
        println!(
            "{:<10} {:<8} {:<7} {tally}",
            format!("{:?}", case.fault),
            format!("{:?}", case.moment),
            HOPS[case.hops].0
        );
        assert!(!case.fault.is_loss() || tally.failures >= tally.sessions, "{case:?}: only {}", tally.failures);
        all.merge(tally.clone());
    }
    println!("{:<27} {all}", "all");
    println!("{:.1} s of this machine's time", started.elapsed().as_secs_f64());
    let broken: Vec<_> = results.iter().filter(|(_, tally)| !tally.is_whole()).map(|(case, _)| case).collect();
    let slow: Vec<_> = results.iter().filter(|(case, tally)| !case.is_in_time(tally)).map(|(case, _)| case).collect();
    let unpaid: Vec<_> = results.iter().filter(|(_, tally)| !tally.is_paid()).map(|(case, _)| case).collect();
    assert!(unpaid.is_empty(), "receipts are missing: {unpaid:?}");
    assert!(slow.is_empty(), "longer than they may be: {slow:?}");
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn a_seed_decides_everything() {
    for fault in Fault::ALL {
        let run = |seed| Setup { mishap: Mishap::Strike(fault, Moment::Mid, vec![1]), ..setup(seed) }.run().trace;
        let (one, again, other) = (run(1), run(1), run(2));
        assert!(!one.is_empty());
        assert_eq!(one, again, "{fault:?}");
        assert_ne!(one, other, "{fault:?}");
    }
}

#[test]
fn nothing_is_lost_where_nothing_fails() {
    let setup = Setup { sessions: 100, ..setup(5) };
    let run = setup.run();
    let mut tally = Tally::default();
    tally.add(&setup, &run.outcomes);
    println!("{tally}");
    assert!(tally.is_whole() && tally.is_paid() && tally.failures == 0, "{:?}", run.trace);
    assert!(tally.pause(1.0) < Duration::from_millis(50));
}
