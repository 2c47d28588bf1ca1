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
        (0..tasks).into_par_iter().for_each(task);
        return;
    }
    #[cfg(not(feature = "rayon"))]
    let _ = threads;
    (0..tasks).for_each(task);
}
