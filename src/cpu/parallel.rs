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
        use rayon::iter::{IntoParallelIterator, ParallelIterator};
        (0..tasks).into_par_iter().for_each(&task);
        return;
    }
    #[cfg(not(feature = "rayon"))]
    let _ = threads;
    (0..tasks).for_each(task);
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
