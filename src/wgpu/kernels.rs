//! The layer for frameworks: the caller's device, buffers and encoder.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::wgpu::{Buffer, BufferDescriptor, BufferUsages, Device, Features, Limits, Queue};

use super::adapter::{loop_steps, refused};
use super::arguments::Arguments;
use super::compose::{Declared, Kernel};
use super::error::scoped;
use super::pipeline::{Access, Pipelines};
use super::plan::{self, Binding, Dispatch};
use super::record::{Bound, Commands, Record, Step, prepare};
use crate::error::Refusal;
use crate::ops::Memory;
use crate::{Backward, Error, Forward, Op, Pass, Problem, Result, ViewMut};

/// The kernels on a wgpu device of the caller's. Cheap to clone; safe to share between threads.
///
/// The arguments are views of the caller's buffers, made with [`View::from_wgpu`](crate::View::from_wgpu) at any offset
/// that is a multiple of the element's size; several may lie in one buffer. A call checks them and records its
/// dispatches into the caller's encoder or compute pass. It submits nothing, waits for nothing and allocates nothing of a
/// tensor's size: bind groups, and one small buffer with the parameters of this call, which no other call shares, so that
/// what has been recorded does not change. A kernel is compiled when a call first needs it, and kept.
///
/// # Features and limits
/// The device needs none but [`Self::required_limits`], which every adapter of WebGPU has. With
/// [`Self::optional_features`] row norms add up by subgroup operations, and
/// [`Device::elapsed`](crate::Device::elapsed) reads the adapter's clock. A tensor above the device's
/// `max_storage_buffer_binding_size` is cut at rows; one row above it is
/// [`Error::RowTooLarge`](crate::Error::RowTooLarge).
///
/// # Errors
/// What can be wrong is found before anything is recorded. What only the driver finds when the commands run (a device
/// that is lost then, for one) it reports to the callbacks of the device's owner.
///
/// ```no_run
/// use dyt::wgpu::{WgpuKernels, wgpu};
/// use dyt::{DType, Forward, Op, Problem, View, ViewMut};
/// fn record(
///     device: &wgpu::Device,
///     queue: &wgpu::Queue,
///     buffer: &wgpu::Buffer,
///     alpha: &wgpu::Buffer,
/// ) -> dyt::Result<()> {
///     let kernels = WgpuKernels::new(device, queue)?;
///     let problem = Problem::new(Op::Dyt, 4096, 1024).build()?;
///     let n = 4096 * 1024;
///     let x = View::from_wgpu(buffer, 0, n, DType::F32)?;
///     let y = ViewMut::from_wgpu(buffer, 4 * n as u64, n, DType::F32)?;
///     let alpha = View::from_wgpu(alpha, 0, 1, DType::F32)?;
///     let mut encoder = device.create_command_encoder(&Default::default());
///     kernels.forward(&mut encoder, &problem, Forward::new(x, y).alpha(alpha))?;
///     queue.submit([encoder.finish()]);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct WgpuKernels {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: Device,
    queue: Queue,
    limits: plan::Limits,
    pipelines: Pipelines<Kernel>,
    /// What is bound for an argument that is absent: one to be read and one to be written, because wgpu lets no dispatch
    /// do both with one buffer.
    absent: [Buffer; 2],
}

impl WgpuKernels {
    /// Kernels for a device. Compiles nothing yet.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`](crate::Error::BackendUnavailable) with [`Refusal::LimitTooLow`] if the device was
    /// requested with less than [`Self::required_limits`]; what the driver reports.
    pub fn new(device: &Device, queue: &Queue) -> Result<Self> {
        let limits = device.limits();
        check_limits(&limits).map_err(refused)?;
        let absent = || {
            let usage = BufferUsages::STORAGE;
            let size = ABSENT_BYTES;
            let descriptor =
                BufferDescriptor { label: Some("dyt absent"), size, usage, mapped_at_creation: false };
            scoped(device, size, || device.create_buffer(&descriptor))
        };
        let shared = Shared {
            limits: plan::Limits {
                alignment: u64::from(limits.min_storage_buffer_offset_alignment),
                // Kernels count elements in 32 bits.
                binding: limits.max_storage_buffer_binding_size.min((1 << 31) - 4),
                workgroups: u64::from(limits.max_compute_workgroups_per_dimension),
                subgroups: device.features().contains(Features::SUBGROUP),
                loop_steps: loop_steps(&device.adapter_info()),
            },
            pipelines: Pipelines::new(),
            absent: [absent()?, absent()?],
            device: device.clone(),
            queue: queue.clone(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Features that are made use of where the device has them: subgroup operations and timestamps.
    #[must_use]
    pub const fn optional_features() -> Features {
        Features::SUBGROUP.union(Features::TIMESTAMP_QUERY)
    }

    /// The least limits that a device has to be requested with. A higher `max_storage_buffer_binding_size` and
    /// `max_buffer_size`, up to the adapter's, allow larger tensors without a cut.
    #[must_use]
    pub fn required_limits() -> Limits {
        let webgpu = Limits::defaults();
        Limits {
            max_storage_buffers_per_shader_stage: webgpu.max_storage_buffers_per_shader_stage,
            max_compute_workgroup_storage_size: webgpu.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: webgpu.max_compute_invocations_per_workgroup,
            max_compute_workgroup_size_x: webgpu.max_compute_workgroup_size_x,
            max_compute_workgroups_per_dimension: webgpu.max_compute_workgroups_per_dimension,
            ..Limits::downlevel_defaults()
        }
    }

    /// The device that they run on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// The queue that was handed over.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.shared.queue
    }

    /// Whether sums of rows are taken by subgroup operations.
    #[must_use]
    pub fn subgroups(&self) -> bool {
        self.shared.limits.subgroups
    }

    /// How many kernels have been compiled.
    #[must_use]
    pub fn compiled(&self) -> usize {
        self.shared.pipelines.len()
    }

    /// The variants of kernels that have been compiled, by names of no promised form: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn compiled_variants(&self) -> BTreeSet<String> {
        self.shared.pipelines.kernels().iter().map(|kernel| format!("{kernel:?}")).collect()
    }

    /// The variants that a call can ask this device for, by the same names: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn variants(&self) -> BTreeSet<String> {
        let all = Kernel::all().into_iter().filter(|kernel| kernel.occurs(self.subgroups()));
        all.map(|kernel| format!("{kernel:?}")).collect()
    }

    /// Bytes of workspace that a call needs, whatever gradients it asks for; 0 for every forward.
    #[must_use]
    pub fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        plan::workspace_bytes(problem, pass, &self.shared.limits)
    }

    /// Records a forward into an encoder, or into a compute pass, whose pipeline and bind group 0 it changes.
    ///
    /// # Errors
    /// As [`Device::forward`](crate::Device::forward); [`Error::RowTooLarge`](crate::Error::RowTooLarge);
    /// [`Refusal::LoopSteps`] on Mesa's llvmpipe, for norms of long rows;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::DeviceLost`](crate::Error::DeviceLost), and
    /// [`Error::Driver`](crate::Error::Driver) with what wgpu says, for one if a buffer belongs to another device.
    /// Nothing has been recorded then.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as Device::forward: the call uses up the mutable views"
    )]
    pub fn forward(&self, into: &mut impl Record, problem: &Problem, arguments: Forward<'_>) -> Result<()> {
        arguments.check(problem, Memory::Wgpu)?;
        self.record_forward(into, problem, &arguments)
    }

    /// Records a backward into an encoder, or into a compute pass, whose pipeline and bind group 0 it changes. The
    /// workspace has at least [`Self::workspace_bytes`]; its contents before and after are of no meaning. Calls recorded
    /// one behind the other may share it.
    ///
    /// # Errors
    /// As [`Self::forward`], [`Error::MissingGamma`](crate::Error::MissingGamma) and
    /// [`Error::WorkspaceTooSmall`](crate::Error::WorkspaceTooSmall).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as Device::forward: the call uses up the mutable views"
    )]
    pub fn backward(
        &self,
        into: &mut impl Record,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: ViewMut<'_>,
    ) -> Result<()> {
        let needed = self.workspace_bytes(problem, Pass::Backward);
        arguments.check(problem, Memory::Wgpu, Some((&workspace, needed)))?;
        self.record_backward(into, problem, &arguments, &workspace)
    }

    /// `arguments` have been checked.
    pub(super) fn record_forward(
        &self,
        into: &mut impl Record,
        problem: &Problem,
        arguments: &Forward<'_>,
    ) -> Result<()> {
        let arguments = Arguments::forward(arguments)?;
        let dispatches = plan::forward(problem, &arguments.for_plan(), &self.shared.limits)?;
        into.record(&self.commands(problem.op(), &dispatches, &arguments)?);
        Ok(())
    }

    /// `arguments` and the workspace have been checked.
    pub(super) fn record_backward<'a>(
        &self,
        into: &mut impl Record,
        problem: &Problem,
        arguments: &Backward<'a>,
        workspace: &ViewMut<'a>,
    ) -> Result<()> {
        // A workspace of which nothing is needed may be anything, and lie anywhere.
        let needed = self.workspace_bytes(problem, Pass::Backward) > 0;
        let arguments = Arguments::backward(arguments, needed.then_some(workspace))?;
        let dispatches = plan::backward(problem, &arguments.for_plan(), &self.shared.limits)?;
        into.record(&self.commands(problem.op(), &dispatches, &arguments)?);
        Ok(())
    }

    fn commands(&self, op: Op, dispatches: &[Dispatch], arguments: &Arguments<'_>) -> Result<Commands> {
        let steps = dispatches.iter().map(|dispatch| self.step(op, dispatch, arguments));
        prepare(&self.shared.device, steps.collect::<Result<_>>()?)
    }

    fn step<'a>(&'a self, op: Op, dispatch: &'a Dispatch, arguments: &Arguments<'a>) -> Result<Step<'a>> {
        let kernel = dispatch.kernel;
        let declared = kernel.declared();
        // With one buffer for inputs and outputs every binding of it has to be one that may be written.
        let written = |slot: &Declared| slot.written || kernel.shared;
        let describe = || {
            let access = |slot| if written(slot) { Access::ReadWrite } else { Access::Read };
            let all = core::iter::once(Access::Uniform).chain(declared.iter().map(access));
            (kernel.source(), (0..).zip(all).collect())
        };
        let pipeline = self.shared.pipelines.get(&self.shared.device, kernel, describe)?;
        let bind = |(binding, declared): (u32, &Declared)| {
            let planned = dispatch.bindings.iter().find(|planned| planned.slot == declared.slot);
            let Some(&Binding { argument, start, bytes, .. }) = planned else {
                let buffer = &self.shared.absent[usize::from(written(declared))];
                return Ok(Bound { binding, buffer, start: 0, bytes: ABSENT_BYTES });
            };
            let buffer = arguments.buffer(argument).ok_or(Error::MissingArgument { op, argument })?;
            Ok(Bound { binding, buffer, start, bytes })
        };
        Ok(Step {
            pipeline,
            workgroups: dispatch.workgroups,
            params: bytemuck::bytes_of(&dispatch.params),
            bindings: (1..).zip(&declared).map(bind).collect::<Result<_>>()?,
        })
    }
}

/// Bytes of what is bound for an absent argument: the widest element.
const ABSENT_BYTES: u64 = 16;

/// Compares a device's limits with [`WgpuKernels::required_limits`].
fn check_limits(actual: &Limits) -> core::result::Result<(), Refusal> {
    let needed = WgpuKernels::required_limits();
    macro_rules! at_least {
        ($($name:ident as $webgpu:literal),+ $(,)?) => {
            $(if actual.$name < needed.$name {
                let (needed, actual) = (u64::from(needed.$name), u64::from(actual.$name));
                return Err(Refusal::LimitTooLow { limit: $webgpu, needed, actual });
            })+
        };
    }
    at_least! {
        max_storage_buffers_per_shader_stage as "maxStorageBuffersPerShaderStage",
        max_compute_workgroup_storage_size as "maxComputeWorkgroupStorageSize",
        max_compute_invocations_per_workgroup as "maxComputeInvocationsPerWorkgroup",
        max_compute_workgroup_size_x as "maxComputeWorkgroupSizeX",
        max_compute_workgroups_per_dimension as "maxComputeWorkgroupsPerDimension",
    }
    Ok(())
}
