//! The safe layer: a device of our own, buffers, and calls that are submitted at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::wgpu::{CommandEncoder, CommandEncoderDescriptor, DeviceDescriptor, PollType};

use super::arguments::in_wgpu;
use super::error::{Reports, scoped};
use super::timer::Timer;
use super::{WgpuKernels, adapter, buffer};
use crate::error::Refusal;
use crate::view::{View, ViewMut};
use crate::{Argument, Backward, Buffer, DType, Error, Forward, Problem, Result};

/// A wgpu device that runs problems by itself.
#[derive(Clone, Debug)]
pub(crate) struct Wgpu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kernels: WgpuKernels,
    name: String,
    reports: Reports,
    /// What is being timed is recorded into one encoder, so that handing it over takes no part in it.
    recording: Mutex<Option<CommandEncoder>>,
}

impl Wgpu {
    /// Opens the best hardware adapter, or the one whose name contains `name`.
    pub(crate) fn open(name: Option<&str>) -> Result<Self> {
        let adapter = adapter::choose(name)?;
        let info = adapter.get_info();
        let descriptor = DeviceDescriptor {
            label: Some("dyt"),
            required_features: adapter.features() & WgpuKernels::optional_features(),
            // All that the adapter has: the larger a binding may be, the fewer tensors are split.
            required_limits: adapter.limits(),
            ..DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| {
            adapter::refused(Refusal::DeviceRequest { adapter: info.name.clone(), reason: error.to_string() })
        })?;
        let reports = Reports::default();
        reports.listen(&device);
        let kernels = WgpuKernels::new(&device, &queue)?;
        Ok(Self::of(kernels, reports))
    }

    /// Runs on a device that someone else owns, and listens to.
    pub(crate) fn from_kernels(kernels: WgpuKernels) -> Self {
        Self::of(kernels, Reports::default())
    }

    fn of(kernels: WgpuKernels, reports: Reports) -> Self {
        let name = adapter::canonical(&kernels.device().adapter_info());
        Self { inner: Arc::new(Inner { kernels, name, reports, recording: Mutex::new(None) }) }
    }

    /// The part of the device's name behind `wgpu:`.
    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// The adapter, its driver and which kernels run on it, for people.
    pub(crate) fn description(&self) -> String {
        let info = self.device().adapter_info();
        let reduction = if self.inner.kernels.subgroups() { "subgroups" } else { "workgroup memory" };
        let driver = [info.driver, info.driver_info].join(" ");
        format!("{} by {}, {}, sums through {reduction}", info.name, info.backend, driver.trim())
    }

    pub(crate) fn kernels(&self) -> &WgpuKernels {
        &self.inner.kernels
    }

    fn device(&self) -> &::wgpu::Device {
        self.inner.kernels.device()
    }

    fn queue(&self) -> &::wgpu::Queue {
        self.inner.kernels.queue()
    }

    fn recording(&self) -> MutexGuard<'_, Option<CommandEncoder>> {
        self.inner.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets wgpu say what has happened since the last call.
    fn check(&self) -> Result<()> {
        buffer::poll(self.device(), PollType::Poll)?;
        self.inner.reports.check()
    }

    /// An outcome, but the loss of the device where that is the reason behind it.
    fn settle<T>(&self, outcome: Result<T>) -> Result<T> {
        self.check()?;
        if outcome.is_err() {
            // Some drivers tell of a loss only when what was submitted before has ended.
            buffer::wait(self.device())?;
            self.check()?;
            buffer::alive(self.device())?;
        }
        outcome
    }

    pub(crate) fn zeros(&self, dtype: DType, len: usize) -> Result<Buffer> {
        Ok(Buffer::from_wgpu(self.allocate(dtype, len)?, dtype, len))
    }

    fn allocate(&self, dtype: DType, len: usize) -> Result<::wgpu::Buffer> {
        let memory = buffer::allocate(self.device(), Buffer::size_of(dtype, len)?)?;
        // A device that is lost makes buffers without an error.
        self.check()?;
        Ok(memory)
    }

    /// Copies bytes of host memory into a new buffer.
    pub(crate) fn upload(&self, source: &View<'_>) -> Result<Buffer> {
        let (dtype, len) = (source.dtype(), source.len());
        let memory = self.allocate(dtype, len)?;
        // SAFETY: the caller has checked that the view is host memory, which is valid for reads of its elements.
        let bytes = unsafe { core::slice::from_raw_parts(source.as_ptr(), len * dtype.size()) };
        buffer::write(self.device(), self.queue(), &memory, bytes)?;
        self.inner.reports.check()?;
        Ok(Buffer::from_wgpu(memory, dtype, len))
    }

    /// Copies host memory to memory of the device of as many bytes.
    pub(crate) fn write(&self, source: &View<'_>, target: &ViewMut<'_>) -> Result<()> {
        let memory = in_wgpu(Argument::Y, target.place())?;
        let offset = word_offset(Argument::Y, target.address().addr())?;
        self.flush()?;
        // SAFETY: the caller has checked that the view is host memory, which is valid for reads of its elements.
        let bytes =
            unsafe { core::slice::from_raw_parts(source.as_ptr(), source.len() * source.dtype().size()) };
        let outcome = buffer::write_at(self.device(), self.queue(), (memory, offset), bytes);
        self.settle(outcome)
    }

    /// Copies memory of the device to host memory of as many bytes.
    pub(crate) fn read(&self, source: &View<'_>, target: &ViewMut<'_>) -> Result<()> {
        let memory = in_wgpu(Argument::X, source.place())?;
        let offset = word_offset(Argument::X, source.as_ptr().addr())?;
        self.flush()?;
        // SAFETY: the caller has checked that the view is host memory of as many elements; it is valid for writes of
        // them, and exclusive.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(target.address(), source.len() * source.dtype().size())
        };
        let outcome = buffer::read(self.device(), self.queue(), (memory, offset), bytes);
        // That the device is lost is the reason behind whatever else is reported.
        self.settle(outcome)
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.flush()?;
        buffer::wait(self.device())?;
        self.inner.reports.check()
    }

    /// Copies between two buffers of the same dtype and length.
    pub(crate) fn copy(&self, source: &Buffer, target: &Buffer) -> Result<()> {
        let from = in_wgpu(Argument::X, source.place().0)?;
        let to = in_wgpu(Argument::Y, target.place().0)?;
        let bytes = (source.len() * source.dtype().size()).next_multiple_of(4) as u64;
        self.enqueue(|encoder| {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
            Ok(())
        })
    }

    /// The time that the adapter takes for what `work` enqueues.
    pub(crate) fn elapsed(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        self.synchronize()?;
        let timer = Timer::new(self.device())?;
        let mut encoder = self.encoder();
        timer.begin(&mut encoder);
        *self.recording() = Some(encoder);
        let outcome = work();
        let encoder = self.recording().take();
        outcome?;
        let mut encoder = encoder.unwrap_or_else(|| self.encoder());
        timer.end(&mut encoder);
        self.submit(encoder)?;
        let elapsed = timer.finish(self.device(), self.queue())?;
        self.inner.reports.check()?;
        Ok(elapsed)
    }

    /// `arguments` have been checked.
    pub(crate) fn forward(&self, problem: &Problem, arguments: &Forward<'_>) -> Result<()> {
        self.enqueue(|encoder| self.inner.kernels.record_forward(encoder, problem, arguments))
    }

    /// `arguments` and the workspace have been checked.
    pub(crate) fn backward(
        &self,
        problem: &Problem,
        arguments: &Backward<'_>,
        workspace: &ViewMut<'_>,
    ) -> Result<()> {
        self.enqueue(|encoder| self.inner.kernels.record_backward(encoder, problem, arguments, workspace))
    }

    /// Records and submits, or records behind what is being timed.
    fn enqueue(&self, record: impl FnOnce(&mut CommandEncoder) -> Result<()>) -> Result<()> {
        self.inner.reports.check()?;
        let mut recording = self.recording();
        if let Some(encoder) = recording.as_mut() {
            return record(encoder);
        }
        drop(recording);
        let mut encoder = self.encoder();
        record(&mut encoder)?;
        self.submit(encoder)?;
        self.inner.reports.check()
    }

    /// Submits what is being timed so far, because the host asks for it.
    fn flush(&self) -> Result<()> {
        self.inner.reports.check()?;
        let mut recording = self.recording();
        match recording.as_mut() {
            Some(encoder) => {
                let pending = core::mem::replace(encoder, self.encoder());
                self.submit(pending)
            }
            None => Ok(()),
        }
    }

    fn encoder(&self) -> CommandEncoder {
        self.device().create_command_encoder(&CommandEncoderDescriptor { label: Some("dyt") })
    }

    fn submit(&self, encoder: CommandEncoder) -> Result<()> {
        scoped(self.device(), 0, || {
            self.queue().submit([encoder.finish()]);
        })
    }
}

/// Where a copy begins: wgpu copies words of 4 bytes.
fn word_offset(argument: Argument, offset: usize) -> Result<u64> {
    if offset.is_multiple_of(4) {
        return Ok(offset as u64);
    }
    Err(Error::Misaligned { argument, alignment: 4 })
}
