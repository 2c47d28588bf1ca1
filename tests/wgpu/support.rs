//! A framework's side: its adapters, devices, and buffers with bytes around the arguments.

use std::error::Error;
use std::sync::OnceLock;

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{
    Adapter, Backends, Buffer, BufferDescriptor, BufferUsages, Device, DeviceDescriptor, Features, Instance,
    InstanceDescriptor, Limits, MapMode, PollType, Queue,
};
use dyt::{DType, Element, Result as DytResult, View, ViewMut};

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// What stands around arguments.
pub(crate) const CANARY: u8 = 0xa5;

/// Every adapter of this machine.
pub(crate) fn adapters() -> Vec<Adapter> {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    let instance = INSTANCE.get_or_init(|| Instance::new(InstanceDescriptor::new_without_display_handle()));
    let adapters = pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY));
    println!("adapters: {:?}", adapters.iter().map(|adapter| adapter.get_info().name).collect::<Vec<_>>());
    adapters
}

/// A device with those of the features that the adapter has.
pub(crate) fn open(
    adapter: &Adapter,
    features: Features,
    limits: Limits,
) -> Result<(Device, Queue), Box<dyn Error>> {
    let descriptor = DeviceDescriptor {
        label: None,
        required_features: adapter.features() & features,
        required_limits: limits,
        ..DeviceDescriptor::default()
    };
    Ok(pollster::block_on(adapter.request_device(&descriptor))?)
}

/// The kernels on a new device with the least features and limits.
pub(crate) fn least(adapter: &Adapter) -> Result<WgpuKernels, Box<dyn Error>> {
    let (device, queue) = open(adapter, Features::empty(), WgpuKernels::required_limits())?;
    Ok(WgpuKernels::new(&device, &queue)?)
}

/// One buffer with several arguments in it, some bytes apart, and canaries between.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    spans: Vec<(usize, usize, DType)>,
}

impl Arena {
    /// Puts values where the next argument begins: some elements behind the last one, so that no alignment above the
    /// element's is kept. Returns its number.
    pub(crate) fn put<T: Element>(&mut self, values: &[T]) -> usize {
        self.put_at(size_of::<T>(), values)
    }

    /// The same at a multiple of `alignment` bytes, which is one of the element's size.
    pub(crate) fn put_at<T: Element>(&mut self, alignment: usize, values: &[T]) -> usize {
        let begin = (self.bytes.len() + 9 * size_of::<T>()).next_multiple_of(alignment);
        self.bytes.resize(begin, CANARY);
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        self.spans.push((begin, values.len(), T::DTYPE));
        self.spans.len() - 1
    }

    /// The buffer, with what was put into it.
    pub(crate) fn build(&mut self, device: &Device, queue: &Queue) -> Buffer {
        self.bytes.resize((self.bytes.len() + 64).next_multiple_of(4), CANARY);
        let buffer = storage(device, self.bytes.len() as u64);
        queue.write_buffer(&buffer, 0, &self.bytes);
        buffer
    }

    pub(crate) fn view<'a>(&self, buffer: &'a Buffer, at: usize) -> DytResult<View<'a>> {
        let (begin, len, dtype) = self.spans[at];
        View::from_wgpu(buffer, begin as u64, len, dtype)
    }

    pub(crate) fn view_mut<'a>(&self, buffer: &'a Buffer, at: usize) -> DytResult<ViewMut<'a>> {
        let (begin, len, dtype) = self.spans[at];
        ViewMut::from_wgpu(buffer, begin as u64, len, dtype)
    }

    /// The values of one argument in the bytes of the buffer.
    pub(crate) fn values<T: Element>(&self, bytes: &[u8], at: usize) -> Vec<T> {
        let (begin, len, _) = self.spans[at];
        bytemuck::pod_collect_to_vec(&bytes[begin..begin + len * size_of::<T>()])
    }

    /// The first byte that is not what it was, outside of the arguments that may be written.
    pub(crate) fn lost(&self, bytes: &[u8], written: &[usize]) -> Option<usize> {
        let open = |i: usize| {
            written.iter().any(|&at| {
                let (begin, len, dtype) = self.spans[at];
                (begin..begin + len * dtype.size()).contains(&i)
            })
        };
        (0..bytes.len()).find(|&i| bytes[i] != self.bytes[i] && !open(i))
    }
}

/// A buffer for kernels, of zeros.
pub(crate) fn storage(device: &Device, size: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
    device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

/// The bytes of a buffer, after everything that was submitted.
pub(crate) fn read(device: &Device, queue: &Queue, buffer: &Buffer) -> Result<Vec<u8>, Box<dyn Error>> {
    let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    let descriptor = BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
    let staging = device.create_buffer(&descriptor);
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    queue.submit([encoder.finish()]);
    staging.map_async(MapMode::Read, .., |_| {});
    device.poll(PollType::wait_indefinitely())?;
    Ok(staging.get_mapped_range(..)?.to_vec())
}

/// Values that look like activations: some near zero, some where tanh and erf saturate.
pub(crate) fn activations(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| (next() - 0.5) * 8.0 * next()).collect()
}
