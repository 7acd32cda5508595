//! What befalls a host, and when.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use turmoil::Sim;

use crate::{
    cluster::{Board, Host, Mishap, Setup, holder},
    net::{Condition, name},
};

/// How long a stopped host stands still before it goes on with what it had: long after it was given up.
const STANDSTILL: Duration = Duration::from_secs(3);

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies; its system closes its connections.
    Kill,
    /// As `SIGSTOP`: connections stay open, nobody answers; after a while it goes on.
    Stop,
    /// Nothing gets to it or from it any more, and nobody is told.
    Blackhole,
    /// It hears everything, and nothing of what it says arrives.
    HalfOpen,
    /// It sends noise.
    Garbage,
    /// Its device takes ten times as long.
    Slow,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] =
        [Self::Kill, Self::Stop, Self::Blackhole, Self::HalfOpen, Self::Garbage, Self::Slow];

    /// Whether a host with this fault is of no more use.
    pub(crate) fn is_loss(self) -> bool {
        self != Self::Slow
    }
}

/// How far a generation is when a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Within the prompt.
    Prefill,
    /// Behind the first tokens.
    Early,
    /// Half way.
    Mid,
    /// Before the last tokens.
    Late,
}

impl Moment {
    pub(crate) const ALL: [Self; 4] = [Self::Prefill, Self::Early, Self::Mid, Self::Late];

    /// Results that have come back of a prompt of `chunks` and of `steps` tokens when it strikes.
    pub(crate) fn results(self, chunks: usize, steps: usize, random: &mut impl Rng) -> usize {
        match self {
            Self::Prefill => random.random_range(0..chunks - 1),
            Self::Early => chunks + random.random_range(0..3),
            Self::Mid => chunks + steps / 2 + random.random_range(0..5) - 2,
            Self::Late => chunks + steps - random.random_range(4..7),
        }
    }
}

/// Strikes between two ticks, as a [`Mishap`] says.
pub(crate) struct Misfortune<'a> {
    conditions: &'a [Arc<Condition>],
    random: ChaCha8Rng,
    kind: Kind,
}

enum Kind {
    Nothing,
    Strike { fault: Fault, results: usize, hosts: Vec<Host>, struck: Option<Duration> },
    Deaths { chance: f64, restart: Duration, drawn: usize, dead: Vec<(Host, Duration)> },
}

impl<'a> Misfortune<'a> {
    pub(crate) fn new(setup: &Setup, conditions: &'a [Arc<Condition>]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(setup.seed);
        let kind = match &setup.mishap {
            Mishap::None => Kind::Nothing,
            Mishap::Strike(fault, moment, hops) => Kind::Strike {
                fault: *fault,
                results: moment.results(setup.chunks(), setup.steps, &mut random),
                hosts: hops.iter().map(|hop| holder(*hop, 0)).collect(),
                struck: None,
            },
            Mishap::Deaths { chance, restart } => {
                Kind::Deaths { chance: *chance, restart: *restart, drawn: setup.chunks(), dead: vec![] }
            }
        };
        Self { conditions, random, kind }
    }

    /// Looks at how far the sessions are, and does what is due.
    pub(crate) fn between_ticks(&mut self, sim: &mut Sim<'_>, board: &Board) {
        let Self { conditions, random, kind } = self;
        let now = sim.elapsed();
        match kind {
            Kind::Nothing => {}
            Kind::Strike { fault, results, hosts, struck: struck @ None } => {
                if board.begun() && board.furthest() >= *results {
                    board.note(now, format!("{fault:?} befalls {hosts:?}"));
                    hosts.iter().for_each(|host| strike(sim, *fault, *host, conditions));
                    *struck = Some(now);
                }
            }
            Kind::Strike { fault, hosts, struck: Some(at), .. } => {
                hosts.iter().for_each(|host| after(sim, *fault, *host, now - *at, conditions));
            }
            Kind::Deaths { chance, restart, drawn, dead } => {
                for host in dead.iter().filter(|(_, since)| *since < now).map(|(host, _)| *host) {
                    after(sim, Fault::Kill, host, Duration::ZERO, conditions);
                }
                for (host, _) in dead.extract_if(.., |(_, since)| *since + *restart <= now) {
                    sim.bounce(name(host));
                    conditions[usize::from(host)].revive();
                }
                for _ in *drawn..board.furthest() {
                    for host in board.route() {
                        let dies = random.random_bool(*chance);
                        if dies && dead.iter().all(|(other, _)| *other != host) {
                            strike(sim, Fault::Kill, host, conditions);
                            dead.push((host, now));
                        }
                    }
                }
                *drawn = (*drawn).max(board.furthest());
            }
        }
    }

    /// The sessions are over.
    pub(crate) fn end(self) {
        let missed = matches!(self.kind, Kind::Strike { struck: None, .. });
        assert!(!missed, "the fault came too late");
    }
}

/// Lets `fault` befall `host`.
fn strike(sim: &mut Sim<'_>, fault: Fault, host: Host, conditions: &[Arc<Condition>]) {
    let condition = &conditions[usize::from(host)];
    let others = || (0..conditions.len() as u8).filter(|other| *other != host);
    match fault {
        Fault::Kill => condition.kill(),
        Fault::Stop => condition.stop(),
        // Held and not dropped: TCP sends again what a blackhole swallows, so all of it would arrive at its end.
        Fault::Blackhole => others().for_each(|other| sim.hold(name(host), name(other))),
        Fault::HalfOpen => others().for_each(|other| sim.partition_oneway(name(host), name(other))),
        Fault::Garbage => condition.send_garbage(),
        Fault::Slow => condition.slow_down(10),
    }
}

/// What happens to the host later.
fn after(sim: &mut Sim<'_>, fault: Fault, host: Host, since: Duration, conditions: &[Arc<Condition>]) {
    match fault {
        Fault::Kill if sim.is_host_running(name(host)) => sim.crash(name(host)),
        Fault::Stop if since >= STANDSTILL => conditions[usize::from(host)].go_on(),
        _ => {}
    }
}
