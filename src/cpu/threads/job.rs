//! The tasks of one call, which any thread with a ticket may take.

use core::any::Any;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::modes::Modes;

/// How often the calling thread looks whether the others are done before it sleeps: some microseconds, which is less than
/// sleeping and waking take.
const LOOKS: usize = 2000;

type Task = dyn Fn(usize) + Sync;

/// Tasks by index, each taken once.
pub(super) struct Job {
    task: *const Task,
    tasks: usize,
    /// The next index that nobody has taken.
    next: AtomicUsize,
    done: AtomicUsize,
    outcome: Mutex<Outcome>,
    ended: Condvar,
    /// Those of the calling thread, so that bits do not depend on who runs a task.
    modes: Modes,
}

#[derive(Default)]
struct Outcome {
    ended: bool,
    /// What the first task that panicked panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

// SAFETY: the task is `Sync`, and nobody calls it after `finish` has returned.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// # Safety
    /// [`Self::finish`] returns before `task` is dropped.
    pub(super) unsafe fn new<'a>(tasks: usize, task: &'a (dyn Fn(usize) + Sync + 'a)) -> Arc<Self> {
        // SAFETY: only the lifetime differs, and the caller promises that it is long enough.
        let task = unsafe { core::mem::transmute::<&'a (dyn Fn(usize) + Sync + 'a), &'static Task>(task) };
        Arc::new(Self {
            task,
            tasks,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            outcome: Mutex::default(),
            ended: Condvar::new(),
            modes: Modes::of_this_thread(),
        })
    }

    pub(super) const fn tasks(&self) -> usize {
        self.tasks
    }

    /// Takes tasks on another thread until none is left.
    pub(super) fn help(&self) {
        if self.next.load(Ordering::Relaxed) < self.tasks {
            self.modes.during(|| self.work());
        }
    }

    /// Takes tasks on the calling thread, then waits until every task is done.
    ///
    /// # Panics
    /// As the first task that panicked did.
    pub(super) fn finish(&self) {
        self.work();
        let is_done = || self.done.load(Ordering::Acquire) == self.tasks;
        if !(0..LOOKS).any(|_| {
            is_done() || {
                core::hint::spin_loop();
                false
            }
        }) {
            let mut outcome = self.outcome();
            while !outcome.ended {
                outcome = self.ended.wait(outcome).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let panic = self.outcome().panic.take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn work(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.tasks {
                return;
            }
            // SAFETY: the task with this index is not done, so that `finish` has not returned.
            let task = AssertUnwindSafe(|| unsafe { (*self.task)(index) });
            if let Err(panic) = catch_unwind(task) {
                self.outcome().panic.get_or_insert(panic);
            }
            // Orders what the task wrote before what follows `finish`.
            if self.done.fetch_add(1, Ordering::AcqRel) + 1 == self.tasks {
                self.outcome().ended = true;
                self.ended.notify_one();
            }
        }
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_reaches_the_caller_when_all_tasks_are_done() {
        let count = AtomicUsize::new(0);
        let task = |index| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_ne!(index, 3, "the third");
        };
        // SAFETY: `finish` is called below, before `task` goes.
        let job = unsafe { Job::new(10, &task) };
        let late = Arc::clone(&job);
        std::thread::scope(|scope| {
            scope.spawn(|| job.help());
            assert!(catch_unwind(AssertUnwindSafe(|| job.finish())).is_err());
            assert_eq!(count.load(Ordering::Relaxed), 10);
        });
        // A late ticket runs nothing.
        late.help();
        assert_eq!(count.load(Ordering::Relaxed), 10);
    }
}
