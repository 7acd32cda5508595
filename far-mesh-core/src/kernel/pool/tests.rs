//! The protocol between the threads, crowded, interrupted and panicking.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::*},
    thread,
};

use super::{Pool, job::MAX_TASKS, threads};

fn count(pool: &Pool, tasks: usize) {
    let calls: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, |i| {
        calls[i].fetch_add(1, Relaxed);
    });
    assert!(calls.iter().all(|calls| calls.load(Relaxed) == 1), "{tasks} tasks on {pool:?}");
}

#[test]
fn every_task_runs_once() {
    for threads in [0, 1, 2, 3, 5] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 17, 1000, MAX_TASKS + 10] {
            count(&pool, tasks);
        }
        for _ in 0..2000 {
            count(&pool, 3);
        }
    }
}

#[test]
fn workers_wake_after_they_slept() {
    let pool = Pool::new(3);
    for _ in 0..20 {
        while !pool.owner.shared.beds.all_asleep() {
            thread::yield_now();
        }
        // Every task waits for the others: all three threads must take part.
        let barrier = std::sync::Barrier::new(3);
        pool.run(3, |_| {
            barrier.wait();
        });
    }
}

#[test]
fn crowded_pools_lose_no_wake() {
    // More threads than cores: they are interrupted at every point of their protocol.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let pool = Pool::new(4);
                    (0..50).for_each(|_| count(&pool, 4));
                }
            });
        }
    });
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_leaves_the_pool_usable() {
    let pool = Pool::new(3);
    for bad in [0, 7, 63] {
        let ran = AtomicUsize::new(0);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, |i| {
                ran.fetch_add(1, Relaxed);
                assert!(i != bad, "task {i}");
            });
        }));
        assert!(caught.is_err());
        assert_eq!(ran.load(Relaxed), 64);
        count(&pool, 100);
    }
}

#[test]
fn a_run_inside_a_run_and_runs_of_two_threads_do_not_deadlock() {
    let pool = Pool::new(2);
    pool.run(4, |_| count(&pool, 8));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..500).for_each(|_| count(&pool, 5)));
        }
    });
}

#[test]
fn a_pool_is_installed_on_one_thread_and_gives_way_to_the_one_before() {
    let (two, three) = (Pool::new(2), Pool::new(3));
    assert_eq!(threads(), 1);
    let outer = two.install();
    {
        let _inner = three.install();
        assert_eq!(threads(), 3);
        assert_eq!(thread::spawn(threads).join().unwrap(), 1);
    }
    assert_eq!(threads(), 2);
    drop(outer);
    assert!(Pool::installed().is_none());
}
