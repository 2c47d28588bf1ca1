//! The framework layer: calls are recorded into what the caller submits.

use std::sync::Arc;

use ::wgpu::{Buffer, BufferDescriptor, BufferUsages, Device, Features, Limits, Queue};

use super::compose::Kernel;
use super::error::scoped;
use super::pipeline::{Access, Pipelines};
use super::plan::{self, Arguments, Binding, Dispatch};
use super::record::{Bound, Record, Step, prepare};
use super::{adapter, device};
use crate::error::Refusal;
use crate::ops::Memory;
use crate::view::{Place, View, ViewMut};
use crate::{Argument, Backward, Forward, Pass, Problem, Result};

/// The kernels on a wgpu device that the caller owns. Cheap to clone; safe to share between threads.
///
/// Calls are recorded into the caller's command encoder or compute pass. Nothing is submitted or waited for, and no
/// memory is allocated but for a call's parameters: each call has its own, so that what was recorded stays as it is.
/// Pipelines are compiled when they are first needed and kept.
///
/// Views are made of the caller's buffers with [`View::from_wgpu`] and [`ViewMut::from_wgpu`], whose offsets may be any
/// multiple of the element's size; the buffers need [`BufferUsages::STORAGE`]. Arguments may lie in one buffer.
#[derive(Clone, Debug)]
pub struct WgpuKernels {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    device: Device,
    queue: Queue,
    limits: plan::Limits,
    pipelines: Pipelines<Kernel>,
    /// Stand where a kernel has a binding and the call no argument: one that is read, and one for the others.
    unread: Buffer,
    unwritten: Buffer,
}

impl WgpuKernels {
    /// The features without which the kernels do not run: none.
    #[must_use]
    pub const fn required_features() -> Features {
        Features::empty()
    }

    /// Features that are used where the device was requested with them: [`Features::SUBGROUP`], which makes the norms
    /// faster, and [`Features::TIMESTAMP_QUERY`], by which the safe layer measures time.
    #[must_use]
    pub const fn optional_features() -> Features {
        device::useful_features()
    }

    /// The least limits. The more a binding may have (`max_storage_buffer_binding_size`), the fewer tensors are cut into
    /// several dispatches.
    #[must_use]
    pub fn required_limits() -> Limits {
        device::least_limits()
    }

    /// The kernels on a device of the caller's.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`](crate::Error::BackendUnavailable) with [`Refusal::LimitTooLow`] if the device has
    /// less than [`Self::required_limits`]; what wgpu reports.
    pub fn new(device: &Device, queue: &Queue) -> Result<Self> {
        check_limits(&device.limits())?;
        let dummy = |label| {
            scoped(device, 16, || {
                device.create_buffer(&BufferDescriptor {
                    label: Some(label),
                    size: 16,
                    usage: BufferUsages::STORAGE,
                    mapped_at_creation: false,
                })
            })
        };
        let inner = Inner {
            device: device.clone(),
            queue: queue.clone(),
            limits: limits(device),
            pipelines: Pipelines::new(),
            unread: dummy("dyt unread")?,
            unwritten: dummy("dyt unwritten")?,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(super) fn device(&self) -> &Device {
        &self.inner.device
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// How many kernels have been compiled so far.
    #[must_use]
    pub fn compiled(&self) -> usize {
        self.inner.pipelines.len()
    }

    /// Bytes of workspace that a call needs, whatever gradients it asks for; 0 for every forward.
    #[must_use]
    pub fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        plan::workspace_bytes(problem, pass, &self.inner.limits)
    }

    /// Records a forward: into a [`CommandEncoder`](::wgpu::CommandEncoder), as a compute pass of its own, or into a
    /// [`ComputePass`](::wgpu::ComputePass) of the caller's, whose pipeline and bind group 0 it sets.
    ///
    /// # Errors
    /// As [`Device::forward`](crate::Device::forward), [`Error::RowTooLarge`](crate::Error::RowTooLarge), and what wgpu
    /// reports. Nothing has been recorded then.
    #[expect(clippy::needless_pass_by_value, reason = "the outputs are borrowed for this call alone")]
    pub fn forward(
        &self,
        target: &mut impl Record,
        problem: &Problem,
        arguments: Forward<'_>,
    ) -> Result<()> {
        arguments.check(problem, Memory::Wgpu)?;
        let mut places = Places::default();
        places.read(Argument::X, arguments.x.as_ref());
        places.read(Argument::Alpha, arguments.alpha.as_ref());
        places.read(Argument::Shift, arguments.shift.as_ref());
        places.read(Argument::Gamma, arguments.gamma.as_ref());
        places.read(Argument::Beta, arguments.beta.as_ref());
        places.write(Argument::Y, Some(&arguments.y));
        places.write(Argument::Mean, arguments.mean.as_ref());
        places.write(Argument::Rstd, arguments.rstd.as_ref());
        let at = places.arguments(Argument::X, Argument::Y);
        self.record(target, &places, plan::forward(problem, &at, &self.inner.limits)?)
    }

    /// Records a backward, as [`Self::forward`]. `workspace` has at least [`Self::workspace_bytes`] and is aligned for
    /// f32; what it holds before and after is of no meaning.
    ///
    /// # Errors
    /// As [`Self::forward`], and as [`Device::backward_with`](crate::Device::backward_with).
    #[expect(clippy::needless_pass_by_value, reason = "the outputs are borrowed for this call alone")]
    pub fn backward<'w>(
        &self,
        target: &mut impl Record,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: impl Into<ViewMut<'w>>,
    ) -> Result<()> {
        let workspace = workspace.into();
        let needed = self.workspace_bytes(problem, Pass::Backward);
        arguments.check(problem, Memory::Wgpu, Some((&workspace, needed)))?;
        let mut places = Places::default();
        places.read(Argument::Dy, arguments.dy.as_ref());
        places.read(Argument::X, Some(&arguments.x));
        places.read(Argument::Alpha, arguments.alpha.as_ref());
        places.read(Argument::Shift, arguments.shift.as_ref());
        places.read(Argument::Gamma, arguments.gamma.as_ref());
        places.read(Argument::Mean, arguments.mean.as_ref());
        places.read(Argument::Rstd, arguments.rstd.as_ref());
        places.write(Argument::Dx, arguments.dx.as_ref());
        places.write(Argument::Dalpha, arguments.dalpha.as_ref());
        places.write(Argument::Dshift, arguments.dshift.as_ref());
        places.write(Argument::Dgamma, arguments.dgamma.as_ref());
        places.write(Argument::Dbeta, arguments.dbeta.as_ref());
        if needed > 0 {
            places.write(Argument::Workspace, Some(&workspace));
        }
        let at = places.arguments(Argument::Dy, Argument::Dx);
        self.record(target, &places, plan::backward(problem, &at, &self.inner.limits)?)
    }

    fn record(&self, target: &mut impl Record, places: &Places<'_>, list: Vec<Dispatch>) -> Result<()> {
        let steps =
            list.iter().map(|dispatch| self.step(places, dispatch)).collect::<Result<Vec<_>>>()?;
        target.record(&prepare(&self.inner.device, steps)?);
        Ok(())
    }

    fn step<'a>(&'a self, places: &Places<'a>, dispatch: &'a Dispatch) -> Result<Step<'a>> {
        let kernel = dispatch.kernel;
        let declared = kernel.declared();
        let describe = || {
            let storage = declared.iter().map(|declared| match declared.written || kernel.shared {
                true => Access::ReadWrite,
                false => Access::Read,
            });
            let all = core::iter::once(Access::Uniform).chain(storage);
            (kernel.source(), (0..).zip(all).collect())
        };
        let pipeline = self.inner.pipelines.get(&self.inner.device, kernel, describe)?;
        let bindings = (1..).zip(&declared).map(|(binding, declared)| {
            let bound = dispatch.bindings.iter().find(|bound| bound.slot == declared.slot);
            match bound.and_then(|bound| Some((bound, places.buffer(bound.argument)?))) {
                Some((&Binding { start, bytes, .. }, buffer)) => Bound { binding, buffer, start, bytes },
                None => {
                    let written = declared.written || kernel.shared;
                    let buffer = if written { &self.inner.unwritten } else { &self.inner.unread };
                    Bound { binding, buffer, start: 0, bytes: 16 }
                }
            }
        });
        Ok(Step {
            pipeline,
            workgroups: dispatch.workgroups,
            params: bytemuck::bytes_of(&dispatch.params),
            bindings: bindings.collect(),
        })
    }
}

/// The arguments of a call by their buffers and offsets.
#[derive(Debug, Default)]
struct Places<'a> {
    list: Vec<Seen<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    argument: Argument,
    buffer: &'a Buffer,
    offset: u64,
    written: bool,
}

impl<'a> Places<'a> {
    fn read(&mut self, argument: Argument, view: Option<&View<'a>>) {
        if let Some(view) = view {
            self.push(argument, view.place(), view.as_ptr().addr(), false);
        }
    }

    fn write(&mut self, argument: Argument, view: Option<&ViewMut<'a>>) {
        if let Some(view) = view {
            self.push(argument, view.place(), view.address().addr(), true);
        }
    }

    fn push(&mut self, argument: Argument, place: Place<'a>, offset: usize, written: bool) {
        if let Place::Wgpu(buffer) = place {
            self.list.push(Seen { argument, buffer, offset: offset as u64, written });
        }
    }

    fn find(&self, argument: Argument) -> Option<&Seen<'a>> {
        self.list.iter().find(|seen| seen.argument == argument)
    }

    fn buffer(&self, argument: Argument) -> Option<&'a Buffer> {
        self.find(argument).map(|seen| seen.buffer)
    }

    /// What the plan needs to know; `input` and `output` may be the same elements.
    fn arguments(&self, input: Argument, output: Argument) -> Arguments {
        let mut at = Arguments::default();
        let place = |argument| self.find(argument).map(|seen| (seen.buffer, seen.offset));
        let in_place = match (place(input), place(output)) {
            (None, Some(_)) => true,
            (Some(input), Some(output)) => input == output,
            (_, None) => false,
        };
        let list = self.list.iter().filter(|seen| !(in_place && seen.argument == input));
        at.in_place = in_place;
        for seen in list.clone() {
            at.set(seen.argument, seen.offset);
        }
        let clash = |a: &Seen<'_>, b: &Seen<'_>| a.written != b.written && a.buffer == b.buffer;
        // The first stage writes no gradient of a parameter, and the second reads nothing but the workspace.
        let first = |seen: &&Seen<'_>| !is_parameter_gradient(seen.argument);
        at.within_one_buffer = list
            .clone()
            .filter(first)
            .any(|a| list.clone().filter(first).any(|b| clash(a, b)));
        at.folds_within_one_buffer = self.find(Argument::Workspace).is_some_and(|workspace| {
            list.clone().any(|seen| is_parameter_gradient(seen.argument) && seen.buffer == workspace.buffer)
        });
        at
    }
}

const fn is_parameter_gradient(argument: Argument) -> bool {
    matches!(argument, Argument::Dalpha | Argument::Dshift | Argument::Dgamma | Argument::Dbeta)
}

fn limits(device: &Device) -> plan::Limits {
    let limits = device.limits();
    plan::Limits {
        alignment: u64::from(limits.min_storage_buffer_offset_alignment),
        // Kernels count elements in 32 bits.
        binding: u64::from(limits.max_storage_buffer_binding_size).min((1 << 31) - 4),
        workgroups: u64::from(limits.max_compute_workgroups_per_dimension),
        subgroups: device.features().contains(Features::SUBGROUP),
    }
}

fn check_limits(actual: &Limits) -> Result<()> {
    let needed = WgpuKernels::required_limits();
    let list = [
        (
            "max_storage_buffers_per_shader_stage",
            needed.max_storage_buffers_per_shader_stage,
            actual.max_storage_buffers_per_shader_stage,
        ),
        (
            "max_compute_workgroup_storage_size",
            needed.max_compute_workgroup_storage_size,
            actual.max_compute_workgroup_storage_size,
        ),
        (
            "max_compute_invocations_per_workgroup",
            needed.max_compute_invocations_per_workgroup,
            actual.max_compute_invocations_per_workgroup,
        ),
        (
            "max_compute_workgroup_size_x",
            needed.max_compute_workgroup_size_x,
            actual.max_compute_workgroup_size_x,
        ),
    ];
    for (limit, needed, actual) in list {
        if actual < needed {
            let (needed, actual) = (u64::from(needed), u64::from(actual));
            return Err(adapter::refused(Refusal::LimitTooLow { limit, needed, actual }));
        }
    }
    Ok(())
}
