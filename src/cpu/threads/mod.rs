//! The threads of a call: the calling thread, and for large calls those of a rayon pool.

#[cfg(feature = "rayon")]
mod job;
#[cfg(feature = "rayon")]
mod modes;
#[cfg(feature = "rayon")]
mod own;
#[cfg(feature = "rayon")]
mod team;

#[cfg(feature = "rayon")]
pub(crate) use team::{Team, device_opened};

/// Without the feature `rayon` there is only the calling thread.
#[cfg(not(feature = "rayon"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Team;

#[cfg(not(feature = "rayon"))]
impl Team {
    pub(crate) const ALONE: Self = Self;

    pub(crate) const fn at_most(_limit: usize) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "with the feature `rayon` it depends on the pool")]
    pub(crate) const fn threads(self) -> usize {
        1
    }

    #[expect(clippy::unused_self, reason = "with the feature `rayon` it has threads")]
    pub(crate) fn for_each(self, tasks: usize, task: impl Fn(usize) + Sync) {
        (0..tasks).for_each(task);
    }
}

#[cfg(not(feature = "rayon"))]
pub(crate) const fn device_opened() {}

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
