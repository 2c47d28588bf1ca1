//! The CPU: one generic body a family, compiled for each level; large calls on several threads.

#![allow(clippy::needless_range_loop, reason = "kernels count rows and vectors in several arrays at once")]

mod cache;
mod choices;
mod fold;
mod lanes;
mod launch;
mod level;
mod math;
mod norm;
mod param;
mod plan;
mod pointwise;
mod quant;
mod residual;
mod rows;
mod stage;
mod stored;
mod sum;
mod sums;
mod tensor;
// Elsewhere nothing is streamed.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
mod threads;
mod tile;

pub use level::Level;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::{Problem, Result};
use threads::Team;

/// The CPU at one level.
#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    isa: level::Isa,
    last_level_cache: usize,
    /// The most threads of a call; clones share it.
    limit: Arc<AtomicUsize>,
}

impl Cpu {
    pub(crate) fn new(level: Level) -> Result<Self> {
        let isa = level::Isa::detect(level)?;
        threads::device_opened();
        let limit = Arc::new(AtomicUsize::new(usize::MAX));
        Ok(Self { isa, last_level_cache: cache::last_level(), limit })
    }

    /// Limits the threads of calls from now on; 0 takes the limit away.
    pub(crate) fn set_threads(&self, threads: usize) {
        self.limit.store(if threads == 0 { usize::MAX } else { threads }, Ordering::Relaxed);
    }

    /// The threads for a call of so many elements. No pool is touched for a small one.
    fn team(&self, elements: usize) -> Team {
        if !plan::worth_threads(elements) {
            return Team::ALONE;
        }
        Team::at_most(self.limit.load(Ordering::Relaxed))
    }

    pub(crate) const fn level(&self) -> Level {
        self.isa.level()
    }

    /// Whether a call that moves so many bytes writes past the cache: most of what it leaves there would be evicted
    /// before anyone reads it, and a line that is written past the cache is not read first. Half of the cache is left to
    /// other data and other cores.
    const fn streams(&self, bytes: usize) -> bool {
        // Elsewhere no level has such stores.
        cfg!(target_arch = "x86_64") && bytes > self.last_level_cache / 2
    }

    #[expect(clippy::unused_self, reason = "the other backends' plans depend on the device")]
    pub(crate) fn workspace_bytes(&self, problem: &Problem) -> usize {
        fold::workspace_bytes(problem)
    }
}
