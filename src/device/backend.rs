//! The families of devices.

use core::fmt;

/// A family of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// This processor, by one of its [`Level`]s.
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
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
