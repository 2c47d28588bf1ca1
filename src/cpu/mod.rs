//! The CPU: one generic body a family, compiled for each level, on the caller's rayon pool.

mod cache;
mod curve;
mod each;
mod fold;
mod io;
mod launch;
mod level;
mod line;
mod math;
mod parallel;
mod param;
mod plan;
mod pointwise;
mod rownorm;
mod simd;
mod stage;
mod stored;
mod sum;
// Elsewhere nothing is streamed.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
mod types;

pub use level::Level;
use param::Line;

use crate::{Problem, Result};

/// The CPU at one level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    isa: level::Isa,
    last_level_cache: usize,
}

impl Cpu {
    pub(crate) fn new(level: Level) -> Result<Self> {
        Ok(Self { isa: level::Isa::detect(level)?, last_level_cache: cache::last_level() })
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
        plan::partial_len(problem) * size_of::<f32>()
    }
}
