//! The families of devices.

use core::fmt;

use crate::Problem;

/// A family of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// This processor, by one of its [`Level`](crate::Level)s.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// Vulkan, Metal and DX12 adapters.
    Wgpu,
}

impl Backend {
    /// Every backend, in the order in which [`Device::auto`](crate::Device::auto) tries them.
    pub const ALL: [Self; 3] = [Self::Cuda, Self::Wgpu, Self::Cpu];

    /// The name in lower case: `cpu`, `cuda` or `wgpu`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        }
    }

    /// The option of a call that the kernels of this backend do not take yet, by name, if it has one. `joins` says whether
    /// the call has a residual or dsum. A device refuses such a call with [`Error::NotSupported`](crate::Error::NotSupported).
    #[must_use]
    pub fn lacks(self, problem: &Problem, joins: bool) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            // Its kernels count parameters in 32 bits.
            Self::Cuda if problem.param_groups() > 1 && u32::try_from(problem.params()).is_err() => {
                Some("param_rows")
            }
            Self::Cuda => problem.quant().map(|_| "scale"),
            // The two together would need nine buffers.
            Self::Wgpu => problem.quant().filter(|_| joins).map(|_| "residual"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
