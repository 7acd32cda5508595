use super::*;

const PATIENCE: Duration = Duration::from_millis(250);

/// A clock that only this test moves.
struct Clock {
    watch: Watch,
    now: Instant,
    step: Awaited,
}

impl Clock {
    fn new(hops: usize, expected: Duration) -> Self {
        let now = Instant::now();
        let expected = StepTime { base: expected, per_token: Duration::ZERO };
        let watch = Watch::new(vec![Allowance { patience: PATIENCE, expected }; hops], now);
        Self { watch, now, step: Awaited { seq: 5, tokens: 1, submitted: now } }
    }

    fn look(&mut self) -> Verdict {
        self.watch.look(self.now, self.step)
    }

    /// Waits as told until something else is said; the time that took.
    fn wait(&mut self) -> (Duration, Verdict) {
        let start = self.now;
        loop {
            match self.look() {
                Verdict::Wait(until) => {
                    assert!(until > self.now, "a wait without end");
                    self.now = until;
                }
                verdict => return (self.now - start, verdict),
            }
        }
    }

    /// Waits for the next probe and answers it with (received, finished, bytes) of each hop.
    fn round(&mut self, states: &[(u64, u64, u64)]) -> Duration {
        let (waited, verdict) = self.wait();
        let Verdict::Probe(probe) = verdict else { panic!("{verdict:?}") };
        for (at, (received, finished, received_bytes)) in states.iter().copied().enumerate() {
            self.watch.answer(at, State { probe, received, finished, received_bytes, busy: 0 });
        }
        waited
    }
}

#[test]
fn a_step_gets_the_greatest_patience_and_the_time_of_every_hop() {
    let mut clock = Clock::new(3, Duration::from_secs(2));
    let (waited, verdict) = clock.wait();
    assert_eq!((waited, verdict), (PATIENCE + 3 * Duration::from_secs(2), Verdict::Probe(1)));
}

#[test]
fn progress_starts_the_clock_anew() {
    let mut clock = Clock::new(2, Duration::ZERO);
    clock.now += 2 * PATIENCE;
    clock.watch.progress(clock.now);
    assert_eq!(clock.wait(), (PATIENCE, Verdict::Probe(1)));
    // A round that was under way is forgotten with its answers.
    clock.watch.progress(clock.now);
    clock.watch.answer(0, State { probe: 1, ..State::default() });
    assert_eq!(clock.wait(), (PATIENCE, Verdict::Probe(2)));
}

#[test]
fn who_does_not_answer_is_lost() {
    let mut clock = Clock::new(3, Duration::ZERO);
    assert_eq!(clock.wait().1, Verdict::Probe(1));
    for at in [0, 2] {
        clock.watch.answer(at, State { probe: 1, ..State::default() });
    }
    clock.watch.answer(1, State { probe: 0, ..State::default() });
    let (waited, verdict) = clock.wait();
    assert_eq!(waited, PATIENCE);
    assert_eq!(verdict, Verdict::Silent(vec![(1, PATIENCE)]));
}

#[test]
fn who_falls_silent_together_is_lost_together() {
    let mut clock = Clock::new(3, Duration::ZERO);
    assert_eq!(clock.wait().1, Verdict::Probe(1));
    clock.watch.answer(1, State { probe: 1, ..State::default() });
    assert_eq!(clock.wait(), (PATIENCE, Verdict::Silent(vec![(0, PATIENCE), (2, PATIENCE)])));
}

#[test]
fn who_computes_is_asked_again_until_the_ceiling() {
    let mut clock = Clock::new(2, Duration::from_secs(1));
    let start = clock.now;
    while clock.now - start < STEP_CEILING {
        clock.round(&[(6, 6, 100), (6, 5, 100)]);
    }
    let (_, verdict) = clock.wait();
    assert!(matches!(&verdict, Verdict::Lost { at: 1, reason } if reason.contains("120s")), "{verdict:?}");
    assert!(clock.now - start <= STEP_CEILING + 2 * PATIENCE);
}

#[test]
fn a_link_is_stuck_when_no_byte_of_the_step_arrives() {
    let mut clock = Clock::new(3, Duration::ZERO);
    clock.round(&[(6, 6, 9), (5, 5, 70), (5, 5, 70)]);
    // A long frame on a slow link: bytes still arrive.
    for bytes in 71..90 {
        assert_eq!(clock.round(&[(6, 6, 9), (5, 5, bytes), (5, 5, 70)]), PATIENCE);
    }
    assert_eq!(clock.round(&[(6, 6, 9), (5, 5, 89), (5, 5, 70)]), PATIENCE);
    let (_, verdict) = clock.wait();
    assert!(matches!(&verdict, Verdict::Lost { at: 1, reason } if reason.contains("left hop 0")), "{verdict:?}");
}

#[test]
fn a_step_that_moves_on_between_two_probes_is_not_stuck() {
    let mut clock = Clock::new(3, Duration::ZERO);
    clock.round(&[(6, 6, 9), (5, 5, 70), (5, 5, 70)]);
    clock.round(&[(6, 6, 9), (6, 5, 80), (5, 5, 70)]);
    clock.round(&[(6, 6, 9), (6, 6, 80), (5, 5, 70)]);
    assert!(matches!(clock.wait().1, Verdict::Probe(4)));
}

#[test]
fn the_first_link_and_the_way_back_can_be_stuck_too() {
    for (states, to, why) in
        [([(5, 5, 3), (5, 5, 3)], 0, "does not reach it"), ([(6, 6, 3), (6, 6, 3)], 1, "does not send it")]
    {
        let mut clock = Clock::new(2, Duration::ZERO);
        clock.round(&states);
        clock.round(&states);
        let (_, verdict) = clock.wait();
        assert!(matches!(&verdict, Verdict::Lost { at, reason } if *at == to && reason.contains(why)), "{verdict:?}");
    }
}

#[test]
fn a_link_on_which_bytes_move_is_alive_until_the_ceiling() {
    let mut clock = Clock::new(1, Duration::ZERO);
    let start = clock.now;
    clock.watch.observe(0, PATIENCE, 100);
    assert_eq!(clock.wait().1, Verdict::Probe(1));
    clock.watch.observe(0, PATIENCE, 136);
    for bytes in 200..210 {
        let Verdict::Wait(until) = clock.look() else { panic!("bytes moved") };
        clock.now = until;
        clock.watch.observe(0, PATIENCE, bytes);
    }
    // Nothing moves any more.
    let (waited, verdict) = clock.wait();
    assert!(matches!(verdict, Verdict::Silent(_)) && waited <= PATIENCE, "{verdict:?} after {waited:?}");

    let mut clock = Clock::new(1, Duration::ZERO);
    assert_eq!(clock.wait().1, Verdict::Probe(1));
    let verdict = (0..).find_map(|bytes| {
        clock.watch.observe(0, PATIENCE, bytes);
        match clock.look() {
            Verdict::Wait(until) => {
                clock.now = until;
                None
            }
            verdict => Some(verdict),
        }
    });
    assert!(matches!(&verdict, Some(Verdict::Lost { at: 0, reason }) if reason.contains("120s")), "{verdict:?}");
    assert!(clock.now - start < 2 * STEP_CEILING + 10 * PATIENCE, "{:?}", clock.now - start);
}
