//! The instruction sets of the CPU path: found once, and forced by name where a caller asks.

use core::fmt;
use std::sync::OnceLock;

use super::lanes::{Kernel, portable::Portable};
#[cfg(target_arch = "x86_64")]
use super::lanes::{avx2::Avx2, avx512::Avx512};
use crate::error::Refusal;
use crate::{Error, Result};

/// A set of CPU instructions that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// What every processor of the architecture has; vectors by the crate `wide`.
    Portable,
    /// x86-64 with AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL beside AVX2, FMA and F16C: 16 lanes.
    Avx512,
    /// AArch64 with Advanced SIMD: 4 lanes.
    Neon,
}

impl Level {
    /// Every level, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The name in lower case: `portable`, `avx2`, `avx512` or `neon`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// The level of that name.
    ///
    /// # Errors
    /// [`Error::UnknownLevel`].
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| Error::UnknownLevel { name: name.to_owned() })
    }

    /// The fastest level of this processor.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::ALL.into_iter().find(|level| Isa::detect(*level).is_ok()).unwrap_or(Self::Portable)
        })
    }

    /// Whether this processor has the level.
    ///
    /// # Errors
    /// [`Error::LevelUnavailable`] with the reason.
    pub fn check(self) -> Result<()> {
        Isa::detect(self).map(|_| ())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A level with the proof that the processor has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(super::lanes::neon::Neon),
}

impl Isa {
    pub(crate) fn detect(level: Level) -> Result<Self> {
        let refuse = |reason| Error::LevelUnavailable { level, reason };
        match level {
            Level::Portable => Ok(Self::Portable(Portable)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::detect()
                .map(Self::Avx2)
                .ok_or_else(|| refuse(Refusal::MissingInstructions { needed: "AVX2, FMA, F16C" })),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Avx512::detect().map(Self::Avx512).ok_or_else(|| {
                refuse(Refusal::MissingInstructions { needed: "AVX-512 F, BW, DQ, VL, AVX2, FMA, F16C" })
            }),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => Err(refuse(other_architecture("x86_64"))),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => super::lanes::neon::Neon::detect()
                .map(Self::Neon)
                .ok_or_else(|| refuse(Refusal::MissingInstructions { needed: "Advanced SIMD" })),
            #[cfg(not(target_arch = "aarch64"))]
            Level::Neon => Err(refuse(other_architecture("aarch64"))),
        }
    }

    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Portable(_) => Level::Portable,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Level::Avx512,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => Level::Neon,
        }
    }

    /// Runs `kernel` compiled for this level.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable(level) => level.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(level) => level.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(level) => level.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(level) => level.run(kernel),
        }
    }
}

const fn other_architecture(needed: &'static str) -> Refusal {
    Refusal::OtherArchitecture { needed, actual: std::env::consts::ARCH }
}
