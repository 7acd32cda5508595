//! Whose rows go into the next forward. Pure: no device, no clock.
//!
//! Who decodes comes first, one position each and all together: that is what everybody waits for at the pace of reading,
//! and it costs little. What is left of the budget goes to longer steps by deficit round robin (Shreedhar & Varghese
//! 1995): the session whose turn it is has a credit of rows, spends it over as many forwards as it takes, and then goes
//! to the end of the line. So a long prompt is cut to fit, several short ones share a forward, and none waits for longer
//! than the others' credits take.

use std::collections::VecDeque;

/// Rows that a session may have computed before the next one's turn: a chunk of a prompt as it is usually sent.
const CREDIT: usize = 64;

/// Part of a forward that is kept for longer steps when there are any, however many sessions decode.
const KEPT_FOR_PROMPTS: usize = 4;

/// Something that waits with rows to compute.
pub(super) trait Rows {
    /// Rows not yet computed, at least one.
    fn rows(&self) -> usize;
}

/// Jobs that wait, by session. Only the first of each session may be computed next.
#[derive(Debug)]
pub(super) struct Line<J> {
    /// Who has waited longest comes first. Invariant: none is without a job, but those whose job is being computed in part.
    places: VecDeque<Place<J>>,
    waiting: usize,
}

#[derive(Debug)]
struct Place<J> {
    session: u64,
    jobs: VecDeque<J>,
    credit: usize,
}

impl<J> Default for Line<J> {
    fn default() -> Self {
        Self { places: VecDeque::new(), waiting: 0 }
    }
}

impl<J: Rows> Line<J> {
    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a job after those of its session.
    pub(super) fn push(&mut self, session: u64, job: J) {
        self.waiting += 1;
        match self.places.iter_mut().find(|place| place.session == session) {
            Some(place) => place.jobs.push_back(job),
            None => self.places.push_back(Place { session, jobs: VecDeque::from([job]), credit: 0 }),
        }
    }

    /// Puts a job that was computed in part back before those of its session, which keeps its place in the line.
    pub(super) fn put_back(&mut self, session: u64, job: J) {
        self.waiting += 1;
        match self.places.iter_mut().find(|place| place.session == session) {
            Some(place) => place.jobs.push_front(job),
            // The place was kept, see `take`.
            None => self.places.push_front(Place { session, jobs: VecDeque::from([job]), credit: 0 }),
        }
    }

    /// Takes jobs with `budget` rows in all, each with the rows that may be computed of it now: of a session its first,
    /// where it `joins` those taken before. Asked in the order of the line, first for jobs of one row, then for others.
    /// What is cut comes back with [`Line::put_back`] before the next call.
    pub(super) fn take(&mut self, budget: usize, mut joins: impl FnMut(&J) -> bool) -> Vec<(J, usize)> {
        self.places.retain(|place| !place.jobs.is_empty());
        let rows: Vec<usize> = self.places.iter().map(|place| place.jobs.front().map_or(0, J::rows)).collect();
        let longer = rows.iter().any(|rows| *rows > 1);
        let mut left = if longer { budget - budget / KEPT_FOR_PROMPTS } else { budget };
        let mut granted = vec![0; rows.len()];
        for (at, place) in self.places.iter().enumerate().filter(|(at, _)| rows[*at] == 1) {
            if left == 0 {
                break;
            }
            if place.jobs.front().is_some_and(&mut joins) {
                (granted[at], left) = (1, left - 1);
            }
        }
        let mut left = budget - granted.iter().sum::<usize>();
        let mut eager: Vec<usize> = vec![];
        for (at, place) in self.places.iter().enumerate().filter(|(at, _)| rows[*at] > 1) {
            // Who cannot get a row is not asked: to join binds those after it.
            if left > eager.len() && place.jobs.front().is_some_and(&mut joins) {
                eager.push(at);
            }
        }
        while left > 0 && eager.iter().any(|&at| granted[at] < rows[at]) {
            for &at in &eager {
                let place = &mut self.places[at];
                if place.credit == 0 {
                    place.credit = CREDIT;
                }
                let grant = left.min(place.credit).min(rows[at] - granted[at]);
                granted[at] += grant;
                place.credit -= grant;
                left -= grant;
            }
        }
        self.remove(&rows, &granted)
    }

    /// Takes the first job of each session that was granted rows. Who decoded or spent its credit goes to the end.
    fn remove(&mut self, rows: &[usize], granted: &[usize]) -> Vec<(J, usize)> {
        let mut taken = vec![];
        let mut served = vec![];
        for (at, mut place) in std::mem::take(&mut self.places).into_iter().enumerate() {
            match place.jobs.pop_front_if(|_| granted[at] > 0) {
                None => self.places.push_back(place),
                Some(job) => {
                    taken.push((job, granted[at]));
                    let is_over = granted[at] == rows[at] && place.jobs.is_empty();
                    match place.credit {
                        _ if is_over => {}
                        0 => served.push(place),
                        _ => self.places.push_back(place),
                    }
                }
            }
        }
        self.places.extend(served);
        self.waiting -= taken.len();
        taken
    }

    /// Calls `keep` with the first job of each session, which may go on with the next once one is done with. Drops the
    /// sessions that it wants nothing more of.
    pub(super) fn review(&mut self, mut keep: impl FnMut(J) -> Review<J>) {
        let waiting = &mut self.waiting;
        self.places.retain_mut(|place| {
            while let Some(job) = place.jobs.pop_front() {
                match keep(job) {
                    Review::Keep(job) => {
                        place.jobs.push_front(job);
                        return true;
                    }
                    Review::Done => *waiting -= 1,
                    Review::Gone => {
                        *waiting -= 1 + place.jobs.len();
                        return false;
                    }
                }
            }
            false
        });
    }
}

/// What [`Line::review`] makes of a job.
#[derive(Debug)]
pub(super) enum Review<J> {
    /// It waits on.
    Keep(J),
    /// It was taken out; the next of the session is looked at.
    Done,
    /// The session is over, with all its jobs.
    Gone,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Session, number and rows left.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Job(u64, u64, usize);

    impl Rows for Job {
        fn rows(&self) -> usize {
            self.2
        }
    }

    fn line(jobs: &[(u64, usize)]) -> Line<Job> {
        let mut line = Line::default();
        for (number, (session, rows)) in jobs.iter().enumerate() {
            line.push(*session, Job(*session, number as u64, *rows));
        }
        line
    }

    /// One forward; sessions and their rows.
    fn forward(line: &mut Line<Job>, budget: usize) -> Vec<(u64, usize)> {
        let taken = line.take(budget, |_| true);
        for (job, rows) in &taken {
            if *rows < job.2 {
                line.put_back(job.0, Job(job.0, job.1, job.2 - rows));
            }
        }
        taken.iter().map(|(job, rows)| (job.0, *rows)).collect()
    }

    #[test]
    fn who_decodes_is_in_every_forward_and_a_long_step_is_cut_to_what_is_left() {
        let mut line = line(&[(1, 300), (2, 1), (3, 1), (2, 1), (3, 1), (2, 1)]);
        assert_eq!(forward(&mut line, 100), [(1, 98), (2, 1), (3, 1)]);
        assert_eq!(forward(&mut line, 100), [(1, 98), (2, 1), (3, 1)]);
        assert_eq!(forward(&mut line, 100), [(1, 99), (2, 1)]);
        assert_eq!(forward(&mut line, 100), [(1, 5)]);
        assert_eq!((forward(&mut line, 100), line.waiting()), (vec![], 0));
    }

    #[test]
    fn short_prompts_share_a_forward_and_a_long_one_does_not_hold_them_up() {
        let mut line = line(&[(1, 512), (2, 20), (3, 30), (4, 90)]);
        assert_eq!(forward(&mut line, 128), [(1, 64), (2, 20), (3, 30), (4, 14)]);
        // Session 4 has 50 rows of its turn left, and stands before the first, whose turn is over.
        assert_eq!(forward(&mut line, 64), [(4, 50), (1, 14)]);
        assert_eq!(forward(&mut line, 64), [(1, 50), (4, 14)]);
        assert_eq!(forward(&mut line, 64), [(4, 12), (1, 52)]);
        assert_eq!(forward(&mut line, 500), [(1, 332)]);
    }

    #[test]
    fn prompts_keep_their_part_beside_any_number_of_sessions_that_decode() {
        let mut jobs: Vec<(u64, usize)> = (0..100).map(|session| (session, 1)).collect();
        jobs.push((100, 40));
        let mut line = line(&jobs);
        let first = forward(&mut line, 32);
        assert_eq!(first.iter().filter(|(_, rows)| *rows == 1).count(), 24);
        assert_eq!(first.last(), Some(&(100, 8)));
        assert_eq!(forward(&mut line, 32)[0].0, 24, "who was not served is next");
    }

    #[test]
    fn turns_are_worth_nearly_the_same_whatever_the_length_of_steps() {
        let mut line = Line::default();
        let mut served = [0; 3];
        for number in 0..400 {
            let lengths = [512, 65, 300];
            (0..3).for_each(|session| line.push(session, Job(session, number, lengths[session as usize])));
            for (session, rows) in forward(&mut line, 50) {
                served[session as usize] += rows;
            }
        }
        assert_eq!(served.iter().sum::<usize>(), 400 * 50);
        // A last row that goes with those who decode costs a place in the line.
        assert!(served.iter().all(|rows| rows.abs_diff(400 * 50 / 3) < 400 * 50 / 3 / 5), "{served:?}");
    }

    #[test]
    fn who_may_not_join_keeps_its_turn() {
        let mut line = line(&[(1, 40), (2, 40), (3, 1)]);
        let taken = line.take(128, |job| job.0 != 1);
        assert_eq!(taken, [(Job(2, 1, 40), 40), (Job(3, 2, 1), 1)]);
        assert_eq!(forward(&mut line, 128), [(1, 40)]);
    }

    #[test]
    fn a_session_that_is_gone_leaves_the_line_with_its_jobs() {
        let mut line = line(&[(1, 9), (1, 9), (2, 5), (2, 6)]);
        line.review(|job| match job {
            Job(1, ..) => Review::Gone,
            Job(_, _, 5) => Review::Done,
            job => Review::Keep(job),
        });
        assert_eq!((line.waiting(), forward(&mut line, 64)), (1, vec![(2, 6)]));
    }

    proptest! {
        /// Steps of all lengths arrive all the time: no forward passes its budget or leaves room that somebody wants, and
        /// everybody is served, with a fair share of the rows at that.
        #[test]
        fn no_session_starves(
            budget in 8usize..200,
            sessions in prop::collection::vec(prop::collection::vec(1usize..300, 1..4), 2..12),
        ) {
            const FORWARDS: usize = 300;
            let mut line = Line::default();
            let mut sent = vec![0; sessions.len()];
            let mut served = vec![0; sessions.len()];
            let mut waits = vec![0; sessions.len()];
            for _ in 0..FORWARDS {
                for (session, steps) in sessions.iter().enumerate() {
                    let queued = |line: &Line<Job>| line.places.iter().find(|place| place.session == session as u64).map_or(0, |place| place.jobs.len());
                    while queued(&line) < 2 {
                        line.push(session as u64, Job(session as u64, sent[session], steps[sent[session] as usize % steps.len()]));
                        sent[session] += 1;
                    }
                }
                let wanted: usize = line.places.iter().map(|place| place.jobs[0].2).sum();
                let ones = line.places.iter().filter(|place| place.jobs[0].2 == 1).count();
                let taken = forward(&mut line, budget);
                let rows: usize = taken.iter().map(|(_, rows)| rows).sum();
                prop_assert!(rows <= budget);
                prop_assert!(rows == budget.min(wanted) || ones > budget - budget / 4, "{} of {} of {}", rows, budget, wanted);
                waits.iter_mut().for_each(|wait| *wait += 1);
                for (session, rows) in taken {
                    (served[session as usize], waits[session as usize]) = (served[session as usize] + rows, 0);
                }
                // Every other's credit, at the least share that a forward keeps for prompts.
                let most = 2 + sessions.len() * CREDIT / (budget / 4);
                prop_assert!(waits.iter().all(|wait| *wait <= most), "{:?}, at most {}", waits, most);
            }
            let fair = FORWARDS * (budget / 4) / sessions.len();
            for (session, steps) in sessions.iter().enumerate().filter(|(_, steps)| steps.iter().all(|rows| *rows >= CREDIT)) {
                prop_assert!(served[session] + 2 * CREDIT >= fair, "{} rows for {:?}, {} are fair", served[session], steps, fair);
            }
        }
    }
}
