//! From planned dispatches to commands: everything that may fail happens before the first command is recorded.

use ::wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferDescriptor,
    BufferSize, BufferUsages, CommandEncoder, ComputePass, ComputePassDescriptor, Device,
};

use super::error::{lost, scoped};
use super::pipeline::Pipeline;
use crate::Result;

mod sealed {
    /// Keeps [`super::Record`] to this crate.
    pub trait Sealed {}
    impl Sealed for ::wgpu::CommandEncoder {}
    impl Sealed for ::wgpu::ComputePass<'_> {}
}

/// What commands are recorded into: an encoder, in a compute pass of its own, or a compute pass of the caller's, in
/// which the pipeline and bind group 0 are set anew. Sealed.
pub trait Record: sealed::Sealed {
    #[doc(hidden)]
    fn record(&mut self, commands: &Commands);
}

impl Record for CommandEncoder {
    fn record(&mut self, commands: &Commands) {
        if !commands.0.is_empty() {
            let descriptor = ComputePassDescriptor { label: Some("dyt"), timestamp_writes: None };
            self.begin_compute_pass(&descriptor).record(commands);
        }
    }
}

impl Record for ComputePass<'_> {
    fn record(&mut self, commands: &Commands) {
        for command in &commands.0 {
            self.set_pipeline(&command.pipeline.pipeline);
            self.set_bind_group(0, &command.group, &[]);
            let [x, y, z] = command.workgroups;
            self.dispatch_workgroups(x, y, z);
        }
    }
}

/// Commands that cannot fail any more.
#[doc(hidden)]
#[derive(Debug)]
pub struct Commands(Vec<Command>);

#[derive(Debug)]
struct Command {
    pipeline: Pipeline,
    group: BindGroup,
    workgroups: [u32; 3],
}

/// One dispatch by its buffers.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) pipeline: Pipeline,
    pub(super) workgroups: [u32; 3],
    /// The bytes of the kernel's parameters, at binding 0.
    pub(super) params: &'a [u8],
    pub(super) bindings: Vec<Bound<'a>>,
}

/// One storage buffer of a dispatch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'a> {
    pub(super) binding: u32,
    pub(super) buffer: &'a Buffer,
    /// In bytes, a multiple of the device's `min_storage_buffer_offset_alignment`.
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// Makes the bind groups, and one buffer with the parameters of every step, which no other call shares: what has been
/// recorded does not change.
pub(super) fn prepare(device: &Device, steps: Vec<Step<'_>>) -> Result<Commands> {
    let alignment = u64::from(device.limits().min_uniform_buffer_offset_alignment);
    let longest = steps.iter().map(|step| step.params.len() as u64).max().unwrap_or(0);
    let stride = longest.next_multiple_of(alignment);
    if stride == 0 {
        return Ok(Commands(Vec::new()));
    }
    let params = upload(device, &steps, stride)?;
    let commands = scoped(device, 0, || {
        let command = |(i, step): (usize, Step<'_>)| Command {
            group: group(device, &step, (&params, i as u64 * stride)),
            pipeline: step.pipeline,
            workgroups: step.workgroups,
        };
        steps.into_iter().enumerate().map(command).collect()
    })?;
    Ok(Commands(commands))
}

/// A buffer with the parameters of each step, `stride` bytes apart.
fn upload(device: &Device, steps: &[Step<'_>], stride: u64) -> Result<Buffer> {
    let size = stride * steps.len() as u64;
    let buffer = scoped(device, size, || {
        device.create_buffer(&BufferDescriptor {
            label: Some("dyt parameters"),
            size,
            usage: BufferUsages::UNIFORM,
            mapped_at_creation: true,
        })
    })?;
    // A device that is lost makes buffers without an error, of which nothing can be mapped.
    let mut view = buffer.get_mapped_range_mut(..).map_err(|error| lost(error.to_string()))?;
    for (i, step) in steps.iter().enumerate() {
        let begin = i * stride as usize;
        view.slice(begin..begin + step.params.len()).copy_from_slice(step.params);
    }
    drop(view);
    buffer.unmap();
    Ok(buffer)
}

impl<'a> Bound<'a> {
    const fn entry(&self) -> BindGroupEntry<'a> {
        let size = BufferSize::new(self.bytes);
        let resource =
            BindingResource::Buffer(BufferBinding { buffer: self.buffer, offset: self.start, size });
        BindGroupEntry { binding: self.binding, resource }
    }
}

fn group(device: &Device, step: &Step<'_>, (params, offset): (&Buffer, u64)) -> BindGroup {
    let uniform = Bound { binding: 0, buffer: params, start: offset, bytes: step.params.len() as u64 };
    let entries: Vec<_> = core::iter::once(&uniform).chain(&step.bindings).map(Bound::entry).collect();
    device.create_bind_group(&BindGroupDescriptor {
        label: Some("dyt"),
        layout: &step.pipeline.layout,
        entries: &entries,
    })
}
