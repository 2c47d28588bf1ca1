//! Tasks on the caller's rayon pool, or one after the other.

/// Threads that a problem of so many elements is cut for. The pool is not looked at, and so not started, for a
/// small one.
pub(crate) fn threads(elements: usize) -> usize {
    #[cfg(feature = "rayon")]
    if super::plan::worth_threads(elements) {
        return rayon::current_num_threads();
    }
    #[cfg(not(feature = "rayon"))]
    let _ = elements;
    1
}

/// Runs `task` for every index below `tasks`, side by side if `threads` is above 1.
pub(crate) fn for_each(tasks: usize, threads: usize, task: impl Fn(usize) + Sync) {
    #[cfg(feature = "rayon")]
    if threads > 1 && tasks > 1 {
        return side_by_side(tasks, threads, task);
    }
    #[cfg(not(feature = "rayon"))]
    let _ = threads;
    (0..tasks).for_each(task);
}

/// A thread of the pool splits the tasks with the others. Any other thread would sleep until the pool has done them all,
/// and waking the pool and then itself takes longer than many a call: it takes tasks, too, until none is left.
#[cfg(feature = "rayon")]
fn side_by_side(tasks: usize, threads: usize, task: impl Fn(usize) + Sync) {
    use core::sync::atomic::{AtomicUsize, Ordering};
    use rayon::iter::{IntoParallelIterator, ParallelIterator};
    if rayon::current_thread_index().is_some() {
        return (0..tasks).into_par_iter().for_each(&task);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            // The scope's end orders what the tasks write.
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= tasks {
                break;
            }
            task(index);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..threads.min(tasks) {
            scope.spawn(|_| work());
        }
        work();
    });
}

/// A kernel's arguments, for tasks that each write a place of their own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<K>(pub(crate) K);

// SAFETY: the pointers are those of checked arguments, which are valid on every thread for the call's duration, and
// no two tasks write to one place.
unsafe impl<K> Sync for Shared<K> {}

impl<K: Copy> Shared<K> {
    /// A copy; a method, so that closures capture the wrapper and not the pointers in it.
    pub(crate) fn get(&self) -> K {
        self.0
    }
}
