//! Why something is not available here.

use thiserror::Error as ThisError;

/// Why a backend or a CPU level is not available here.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Refusal {
    /// The crate was built without the cargo feature.
    #[error("built without the cargo feature `{feature}`")]
    FeatureDisabled {
        /// The cargo feature that builds it.
        feature: &'static str,
    },
    /// This version of the crate does not run it on this architecture.
    #[error("this version of dyt does not run it on this architecture")]
    NotImplemented,
    /// The level belongs to another processor architecture.
    #[error("it belongs to {needed}, and this program runs on {actual}")]
    OtherArchitecture {
        /// The architecture that has it.
        needed: &'static str,
        /// The architecture that this program was built for.
        actual: &'static str,
    },
    /// The processor, or its operating system, lacks instructions of the level.
    #[error("the processor or the operating system lacks some of {needed}")]
    MissingInstructions {
        /// The instruction sets that the level needs.
        needed: &'static str,
    },
    /// Vulkan's loader is not installed.
    #[error("no Vulkan loader: {reason}")]
    NoVulkanLoader {
        /// What the operating system says about it.
        reason: String,
    },
    /// No driver of this machine offers an adapter.
    #[error("no graphics driver offers an adapter")]
    NoAdapter,
    /// There are software adapters alone, and those are used only when named.
    #[error("only software adapters are here, which are used when named: wgpu:{}", found.join(" or wgpu:"))]
    SoftwareAdaptersOnly {
        /// Their names, as `wgpu:NAME` takes them.
        found: Vec<String>,
    },
    /// No adapter's name contains what was asked for.
    #[error("no adapter's name contains {name:?}; there are: {}", found.join(", "))]
    NoSuchAdapter {
        /// The part of a name that was asked for.
        name: String,
        /// The names of all adapters.
        found: Vec<String>,
    },
    /// The adapter opened no device.
    #[error("{adapter} opened no device: {reason}")]
    DeviceRequest {
        /// The adapter's name.
        adapter: String,
        /// What the driver says about it.
        reason: String,
    },
    /// The device allows less than the kernels need.
    #[error("{limit} is {actual}, and the kernels need {needed}")]
    LimitTooLow {
        /// The limit, by its name in WebGPU.
        limit: &'static str,
        /// What the kernels need.
        needed: u64,
        /// What the device allows.
        actual: u64,
    },
    /// A driver leaves out what a kernel has left of its loops after so many steps, and this problem takes more: its rows
    /// are too long.
    #[error(
        "a kernel takes {needed} steps of loops for this problem, and the driver (Mesa's llvmpipe) skips what is left after {limit}"
    )]
    LoopSteps {
        /// Steps that a lane takes in all loops of a kernel together.
        needed: u64,
        /// Steps after which the driver skips the rest.
        limit: u64,
    },
    /// NVIDIA's driver is not installed.
    #[error("no NVIDIA driver: {reason}")]
    NoCudaDriver {
        /// What the operating system says about it.
        reason: String,
    },
    /// What the loader finds under the driver's name is the CUDA toolkit's stub, which programs are linked with where there
    /// is no driver.
    #[error(
        "{file} is the CUDA toolkit's stub and no driver; take its folder out of LD_LIBRARY_PATH, so that the driver's libcuda.so.1 is found"
    )]
    CudaStub {
        /// The file.
        file: String,
    },
    /// NVIDIA's driver is older than the kernels' PTX.
    #[error("the NVIDIA driver is for CUDA {}.{}, and {}.{} is needed", actual.0, actual.1, needed.0, needed.1)]
    CudaDriverTooOld {
        /// The version of CUDA that is needed, major and minor.
        needed: (u32, u32),
        /// The version of CUDA that the driver knows.
        actual: (u32, u32),
    },
    /// NVIDIA's driver lacks a function, so that it is a stub or older than it says.
    #[error("the NVIDIA driver has no function {symbol}")]
    CudaDriverLacks {
        /// The function.
        symbol: &'static str,
    },
    /// NVIDIA's driver does not start.
    #[error("the NVIDIA driver does not start: {reason}")]
    CudaInit {
        /// What it says about it.
        reason: String,
    },
    /// The driver is there, and no GPU that it drives.
    #[error("the NVIDIA driver finds no GPU")]
    NoCudaDevice,
    /// There are fewer GPUs.
    #[error("there is no GPU {ordinal}: {count} are there, counted from 0")]
    NoSuchCudaDevice {
        /// Which was asked for, counted from 0.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is older than the kernels' oldest PTX.
    #[error("the GPU has compute capability {}.{}, and {}.{} is needed", actual.0, actual.1, needed.0, needed.1)]
    ComputeCapability {
        /// The compute capability that is needed, major and minor.
        needed: (u32, u32),
        /// That of the GPU.
        actual: (u32, u32),
    },
    /// The driver takes none of the PTX.
    #[error("the driver takes none of the PTX: {log}")]
    PtxRefused {
        /// Its error, and the log of its compiler, for each PTX that it was offered.
        log: String,
    },
}
