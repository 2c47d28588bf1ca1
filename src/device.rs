//! What runs a problem, chosen at run time; every refusal keeps its reason.

mod backend;
mod memory;

pub use backend::Backend;

use std::time::{Duration, Instant};

use crate::cpu::Cpu;
#[cfg(has_cuda)]
use crate::cuda::Cuda;
#[cfg(not(all(has_cuda, has_wgpu)))]
use crate::error::Refusal;
use crate::ops::{Backward, Forward, Memory};
use crate::view::ViewMut;
#[cfg(has_wgpu)]
use crate::wgpu::{Wgpu, WgpuKernels};
use crate::{DType, Error, Level, Pass, Problem, Result};

/// One device that could be meant, and whether it is available.
#[derive(Debug)]
pub struct Candidate {
    /// The name that [`Device::open`] takes.
    pub name: String,
    /// The device, or why it is refused.
    pub device: Result<Device>,
}

/// Runs problems on one device. Cheap to clone; safe to share between threads.
///
/// On the CPU, calls of 131,072 elements or more use several threads (feature `rayon`), see [`Self::set_threads`];
/// smaller ones stay on the calling thread.
///
/// ```
/// use dyt::{Backward, Device, Forward, Op, Problem};
/// let device = Device::auto()?;
/// let problem = Problem::new(Op::Dyt, 2, 3).build()?;
/// let (x, alpha, gamma, beta) = ([1.0_f32, -2.0, 0.5, 0.0, 3.0, -0.1], 0.5_f32, [1.0_f32; 3], [0.0_f32; 3]);
/// let mut y = [0.0_f32; 6];
/// device.forward(&problem, Forward::new(&x, &mut y).alpha(&alpha).gamma(&gamma).beta(&beta))?;
/// assert!((y[0] - 0.5_f32.tanh()).abs() < 1e-6);
///
/// let dy = [1.0_f32; 6];
/// let (mut dx, mut dgamma) = ([0.0_f32; 6], [0.0_f32; 3]);
/// let backward = Backward::of(&x).dy(&dy).alpha(&alpha).gamma(&gamma).dx(&mut dx).dgamma(&mut dgamma);
/// device.backward(&problem, backward)?;
/// # Ok::<(), dyt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Device {
    inner: Inner,
}

/// The device of one backend.
#[derive(Clone, Debug)]
enum Inner {
    Cpu(Cpu),
    #[cfg(has_cuda)]
    Cuda(Cuda),
    #[cfg(has_wgpu)]
    Wgpu(Wgpu),
}

impl Device {
    /// The best device of this machine: CUDA, then a hardware wgpu adapter, then the CPU. The environment variable
    /// `DYT_BACKEND` names another, and `DYT_CPU_LEVEL` a level of the CPU.
    ///
    /// # Errors
    /// What [`Self::open`] returns for the name in `DYT_BACKEND`; [`Error::UnknownLevel`] and
    /// [`Error::LevelUnavailable`] for `DYT_CPU_LEVEL`.
    pub fn auto() -> Result<Self> {
        match env("DYT_BACKEND") {
            Some(name) if name != "auto" => Self::open(&name),
            _ => Backend::ALL
                .into_iter()
                .find_map(|backend| match Self::open(backend.name()) {
                    Err(Error::BackendUnavailable { .. }) => None,
                    other => Some(other),
                })
                .unwrap_or_else(|| Self::open("cpu")),
        }
    }

    /// The device of that name: `auto`, `cpu`, `cpu:LEVEL`, `cuda`, `cuda:N`, `wgpu` or `wgpu:NAME`.
    ///
    /// `cpu` takes the level that `DYT_CPU_LEVEL` names, or the fastest.
    ///
    /// # Errors
    /// [`Error::UnknownBackend`], [`Error::UnknownLevel`], [`Error::BackendUnavailable`],
    /// [`Error::LevelUnavailable`].
    pub fn open(name: &str) -> Result<Self> {
        let unknown = || Error::UnknownBackend { name: name.to_owned() };
        let (backend, which) = match name.split_once(':') {
            Some((backend, which)) => (backend, Some(which)),
            None => (name, None),
        };
        match (backend, which) {
            ("auto", None) => Self::auto(),
            ("cpu", None) => match env("DYT_CPU_LEVEL") {
                Some(level) => Self::cpu(Level::from_name(&level)?),
                None => Self::cpu(Level::best()),
            },
            ("cpu", Some(level)) => Self::cpu(Level::from_name(level)?),
            ("cuda", None) => Self::cuda(0),
            ("cuda", Some(n)) => n.parse::<u32>().map_err(|_| unknown()).and_then(|n| Self::cuda(n as usize)),
            ("wgpu", None) => Self::wgpu(None),
            ("wgpu", Some(adapter)) if !adapter.is_empty() => Self::wgpu(Some(adapter)),
            _ => Err(unknown()),
        }
    }

    /// The CPU at one level.
    ///
    /// # Errors
    /// [`Error::LevelUnavailable`].
    pub fn cpu(level: Level) -> Result<Self> {
        Cpu::new(level).map(|cpu| Self { inner: Inner::Cpu(cpu) })
    }

    /// The GPU of that number.
    #[cfg(has_cuda)]
    fn cuda(ordinal: usize) -> Result<Self> {
        Cuda::open(ordinal).map(|cuda| Self { inner: Inner::Cuda(cuda) })
    }

    /// The GPU of that number.
    #[cfg(not(has_cuda))]
    fn cuda(_ordinal: usize) -> Result<Self> {
        Err(not_built(Backend::Cuda))
    }

    /// The best hardware adapter, or the adapter whose name contains `name`.
    #[cfg(has_wgpu)]
    fn wgpu(name: Option<&str>) -> Result<Self> {
        Wgpu::open(name).map(|wgpu| Self { inner: Inner::Wgpu(wgpu) })
    }

    /// The best hardware adapter, or the adapter whose name contains `name`.
    #[cfg(not(has_wgpu))]
    fn wgpu(_name: Option<&str>) -> Result<Self> {
        Err(not_built(Backend::Wgpu))
    }

    /// A device that submits what it records with `kernels` to their queue, at once: for a wgpu device that someone else
    /// owns, and whose callbacks stay as they are.
    #[cfg(has_wgpu)]
    #[must_use]
    pub fn from_wgpu(kernels: &WgpuKernels) -> Self {
        Self { inner: Inner::Wgpu(Wgpu::from_kernels(kernels.clone())) }
    }

    /// The kernels of this device, if it is a wgpu adapter: to record into encoders of its own wgpu device.
    #[cfg(has_wgpu)]
    #[must_use]
    pub fn wgpu_kernels(&self) -> Option<&WgpuKernels> {
        if let Inner::Wgpu(wgpu) = &self.inner { Some(wgpu.kernels()) } else { None }
    }

    /// Every device that could be meant, in order of preference, and why those that are absent are absent.
    #[must_use]
    pub fn candidates() -> Vec<Candidate> {
        #[cfg(has_cuda)]
        let cuda = crate::cuda::names();
        #[cfg(not(has_cuda))]
        let cuda = vec!["cuda".to_owned()];
        #[cfg(has_wgpu)]
        let software = crate::wgpu::software_names().into_iter().map(|name| format!("wgpu:{name}"));
        #[cfg(not(has_wgpu))]
        let software = core::iter::empty();
        let gpus = cuda.into_iter().chain(["wgpu".to_owned()]).chain(software);
        let levels = Level::ALL.into_iter().map(|level| format!("cpu:{level}"));
        gpus.chain(levels).map(|name| Candidate { device: Self::open(&name), name }).collect()
    }

    /// The name that [`Self::open`] takes, such as `cpu:avx512`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.inner {
            Inner::Cpu(cpu) => format!("cpu:{}", cpu.level()),
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.name(),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => format!("wgpu:{}", wgpu.name()),
        }
    }

    /// What it is, for people: the model of a GPU, and which kernels run on it.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.inner {
            Inner::Cpu(cpu) => cpu.level().to_string(),
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.description(),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.description(),
        }
    }

    /// The family of this device.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        match &self.inner {
            Inner::Cpu(_) => Backend::Cpu,
            #[cfg(has_cuda)]
            Inner::Cuda(_) => Backend::Cuda,
            #[cfg(has_wgpu)]
            Inner::Wgpu(_) => Backend::Wgpu,
        }
    }

    /// The level, if this is the CPU.
    #[must_use]
    pub const fn level(&self) -> Option<Level> {
        match &self.inner {
            Inner::Cpu(cpu) => Some(cpu.level()),
            #[cfg(has_cuda)]
            Inner::Cuda(_) => None,
            #[cfg(has_wgpu)]
            Inner::Wgpu(_) => None,
        }
    }

    /// The number of the GPU, if this is a CUDA device.
    #[cfg(has_cuda)]
    #[must_use]
    pub fn ordinal(&self) -> Option<usize> {
        self.cuda_kernels().map(crate::cuda::CudaKernels::ordinal)
    }

    /// The kernels of this device for calls on a stream of the caller's, if this is a CUDA device.
    #[cfg(has_cuda)]
    #[must_use]
    pub fn cuda_kernels(&self) -> Option<&crate::cuda::CudaKernels> {
        match &self.inner {
            Inner::Cuda(cuda) => Some(cuda.kernels()),
            Inner::Cpu(_) => None,
            #[cfg(has_wgpu)]
            Inner::Wgpu(_) => None,
        }
    }

    /// The memory that the device reaches.
    fn memory(&self) -> Memory {
        match &self.inner {
            Inner::Cpu(_) => Memory::Host,
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.memory(),
            #[cfg(has_wgpu)]
            Inner::Wgpu(_) => Memory::Wgpu,
        }
    }

    /// Limits the threads of each call on the CPU from now on, the calling thread included; 0 takes the limit away. Clones
    /// of this device share the limit. On a GPU nothing happens.
    ///
    /// A large call uses the rayon pool that the calling thread belongs to, as within `ThreadPool::install`. From any
    /// other thread it uses a pool of this library's own, never rayon's global one: the first such call makes it, for the
    /// whole process, with as many threads as `RAYON_NUM_THREADS` says or as there are processors. With a limit of 1 no
    /// pool is touched. Results are the same bits for any number of threads.
    pub fn set_threads(&self, threads: usize) {
        match &self.inner {
            Inner::Cpu(cpu) => cpu.set_threads(threads),
            #[cfg(has_cuda)]
            Inner::Cuda(_) => {}
            #[cfg(has_wgpu)]
            Inner::Wgpu(_) => {}
        }
    }

    /// How long the device takes for the calls that `work` makes, by the device's own clock where it has one: on a GPU
    /// without the time in which the calls are handed over, and without any readback.
    ///
    /// # Errors
    /// The error of `work`; on a GPU what its driver reports.
    pub fn elapsed(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        match &self.inner {
            Inner::Cpu(_) => {
                let begin = Instant::now();
                work()?;
                Ok(begin.elapsed())
            }
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.elapsed(work),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.elapsed(work),
        }
    }

    /// Bytes of workspace that a call needs, whatever gradients it asks for: 0 for every forward; the partial sums of
    /// each chunk of rows for a backward.
    #[must_use]
    pub fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        match (&self.inner, pass) {
            (Inner::Cpu(_), Pass::Forward) => 0,
            (Inner::Cpu(cpu), Pass::Backward) => cpu.workspace_bytes(problem),
            #[cfg(has_cuda)]
            (Inner::Cuda(_), pass) => crate::cuda::plan::workspace_bytes(problem, pass),
            #[cfg(has_wgpu)]
            (Inner::Wgpu(wgpu), pass) => wgpu.kernels().workspace_bytes(problem, pass),
        }
    }

    /// Runs the forward: y, and the statistics that are asked for. Allocates nothing, but for a large call on several
    /// threads: a description of the call, and a small message to each thread.
    ///
    /// # Errors
    /// [`Error::MissingArgument`], [`Error::UnexpectedArgument`], [`Error::WrongDtype`], [`Error::WrongLength`],
    /// [`Error::Misaligned`], [`Error::Aliasing`], [`Error::WrongDevice`]; of a quantised y [`Error::MissingScale`],
    /// [`Error::BothScales`] and [`Error::QuantisedInPlace`], of any other [`Error::UnexpectedScale`]. No output has been
    /// written then.
    #[expect(clippy::needless_pass_by_value, reason = "the outputs are borrowed for this call alone")]
    pub fn forward(&self, problem: &Problem, arguments: Forward<'_>) -> Result<()> {
        let pointers = arguments.check(problem, self.memory())?;
        match &self.inner {
            // SAFETY: `check` has compared every place, length, dtype, alignment and overlap with the problem.
            Inner::Cpu(cpu) => unsafe { cpu.forward(problem, &pointers) },
            #[cfg(has_cuda)]
            // SAFETY: as above.
            Inner::Cuda(cuda) => unsafe { cuda.forward(problem, &pointers)? },
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.forward(problem, &arguments)?,
        }
        Ok(())
    }

    /// Runs the backward: the gradients that are asked for. Allocates a workspace if the problem needs one;
    /// [`Self::backward_with`] takes the caller's instead.
    ///
    /// # Errors
    /// As [`Self::forward`], [`Error::MissingGamma`], [`Error::QuantisedBackward`] and [`Error::OutOfMemory`]. No output has been written then.
    pub fn backward(&self, problem: &Problem, arguments: Backward<'_>) -> Result<()> {
        arguments.check(problem, self.memory(), None)?;
        let bytes = self.workspace_bytes(problem, Pass::Backward);
        let mut workspace = self.zeros(DType::F32, bytes / DType::F32.size())?;
        self.backward_with(problem, arguments, &mut workspace)
    }

    /// Runs the backward in the caller's workspace, of at least [`Self::workspace_bytes`] and aligned for f32.
    /// What it holds before and after is of no meaning. Allocates nothing.
    ///
    /// # Errors
    /// As [`Self::backward`], and [`Error::WorkspaceTooSmall`]. No output has been written then.
    #[expect(clippy::needless_pass_by_value, reason = "the outputs are borrowed for this call alone")]
    pub fn backward_with<'w>(
        &self,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: impl Into<ViewMut<'w>>,
    ) -> Result<()> {
        let workspace = workspace.into();
        let needed = self.workspace_bytes(problem, Pass::Backward);
        let pointers = arguments.check(problem, self.memory(), Some((&workspace, needed)))?;
        match &self.inner {
            // SAFETY: `check` has compared every place, length, dtype, alignment and overlap with the problem; the
            // workspace is aligned, large enough and apart from every argument.
            Inner::Cpu(cpu) => unsafe { cpu.backward(problem, &pointers, workspace.address().cast()) },
            #[cfg(has_cuda)]
            // SAFETY: as above.
            Inner::Cuda(cuda) => unsafe { cuda.backward(problem, &pointers, workspace.address())? },
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.backward(problem, &arguments, &workspace)?,
        }
        Ok(())
    }
}

/// A backend that the crate was built without: for want of the feature, or of a driver on this architecture.
#[cfg(not(all(has_cuda, has_wgpu)))]
const fn not_built(backend: Backend) -> Error {
    let built = match backend {
        Backend::Cuda => cfg!(feature = "cuda"),
        Backend::Wgpu => cfg!(feature = "wgpu"),
        Backend::Cpu => true,
    };
    let feature = backend.name();
    let reason = if built { Refusal::NotImplemented } else { Refusal::FeatureDisabled { feature } };
    Error::BackendUnavailable { backend, reason }
}

/// A variable of the environment that is set and not empty. Bytes that are no UTF-8 name nothing that is known.
fn env(name: &str) -> Option<String> {
    std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()).filter(|v| !v.is_empty())
}
