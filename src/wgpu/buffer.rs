//! Device memory: allocation, and copies from and to the host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use ::wgpu::{
    Buffer, BufferDescriptor, BufferUsages, CommandEncoderDescriptor, Device, MapMode, PollType, Queue,
};

use super::error::{lost, scoped};
use crate::{Error, Result};

/// Bytes that are copied at once, so that the memory of a copy in between stays small beside the tensor.
const CHUNK: usize = 64 << 20;
/// How long a callback may be on its way in another thread, once its work is done.
const CALLBACK: Duration = Duration::from_secs(30);
/// Every buffer has a multiple of this many bytes: what the widest access takes at once.
const GRANULE: u64 = 16;

/// Bytes of a buffer for so many bytes of elements; there are no empty ones.
const fn padded(bytes: u64) -> u64 {
    match bytes.checked_next_multiple_of(GRANULE) {
        Some(0) => GRANULE,
        Some(bytes) => bytes,
        // More than any device has.
        None => u64::MAX,
    }
}

/// Allocates zeros.
pub(super) fn allocate(device: &Device, bytes: usize) -> Result<Buffer> {
    let size = padded(bytes as u64);
    if size > device.limits().max_buffer_size {
        return Err(Error::OutOfMemory { bytes });
    }
    scoped(device, size, || {
        device.create_buffer(&BufferDescriptor {
            label: Some("dyt"),
            size,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    })
}

/// Copies to the beginning of a buffer of ours, whose padding may be written to.
pub(super) fn write(device: &Device, queue: &Queue, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
    let rest = bytes.len() % 4;
    write_words(device, queue, (buffer, 0), &bytes[..bytes.len() - rest])?;
    let last = bytes.len() - rest;
    write_rest(device, queue, (buffer, last as u64), &bytes[last..], [0; 4])
}

/// Copies to `offset` bytes behind the beginning, a multiple of 4, and leaves every other byte as it is.
pub(super) fn write_at(
    device: &Device,
    queue: &Queue,
    (buffer, offset): (&Buffer, u64),
    bytes: &[u8],
) -> Result<()> {
    let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
    write_words(device, queue, (buffer, offset), words)?;
    if rest.is_empty() {
        return Ok(());
    }
    let last = offset + words.len() as u64;
    let mut word = [0; 4];
    read(device, queue, (buffer, last), &mut word)?;
    write_rest(device, queue, (buffer, last), rest, word)
}

/// The last bytes, which make no word of 4, on top of what is to be in the others of their word.
fn write_rest(
    device: &Device,
    queue: &Queue,
    (buffer, offset): (&Buffer, u64),
    rest: &[u8],
    mut word: [u8; 4],
) -> Result<()> {
    if rest.is_empty() {
        return Ok(());
    }
    word[..rest.len()].copy_from_slice(rest);
    scoped(device, 4, || queue.write_buffer(buffer, offset, &word))
}

fn write_words(device: &Device, queue: &Queue, (buffer, offset): (&Buffer, u64), words: &[u8]) -> Result<()> {
    let chunks = words.chunks(CHUNK);
    let last = chunks.len();
    for (i, chunk) in chunks.enumerate() {
        scoped(device, chunk.len() as u64, || {
            queue.write_buffer(buffer, offset + (i * CHUNK) as u64, chunk);
            // What is written waits in memory of the host's until it is submitted and done.
            if i + 1 < last {
                queue.submit([]);
            }
        })?;
        if i + 1 < last {
            wait(device)?;
        }
    }
    Ok(())
}

/// Copies from `offset` bytes behind the beginning of a buffer, a multiple of 4, after everything that was submitted
/// before.
pub(super) fn read(
    device: &Device,
    queue: &Queue,
    (buffer, offset): (&Buffer, u64),
    bytes: &mut [u8],
) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let size = padded(bytes.len().min(CHUNK) as u64);
    let staging = scoped(device, size, || {
        device.create_buffer(&BufferDescriptor {
            label: Some("dyt readback"),
            size,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    })?;
    for (i, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
        read_chunk(device, queue, (buffer, offset + (i * CHUNK) as u64), &staging, chunk)?;
    }
    Ok(())
}

fn read_chunk(
    device: &Device,
    queue: &Queue,
    (buffer, offset): (&Buffer, u64),
    staging: &Buffer,
    chunk: &mut [u8],
) -> Result<()> {
    let size = (chunk.len() as u64).next_multiple_of(4);
    let (sender, receiver) = mpsc::channel();
    scoped(device, size, || {
        let mut encoder =
            device.create_command_encoder(&CommandEncoderDescriptor { label: Some("dyt readback") });
        encoder.copy_buffer_to_buffer(buffer, offset, staging, 0, size);
        queue.submit([encoder.finish()]);
        staging.map_async(MapMode::Read, ..size, move |result| {
            let _ = sender.send(result.is_ok());
        });
    })?;
    wait(device)?;
    // Another thread's wait may have taken the callback, and not have called it yet.
    if receiver.recv_timeout(CALLBACK) != Ok(true) {
        return Err(lost("a buffer could not be mapped"));
    }
    let view = staging.get_mapped_range(..size).map_err(|error| lost(error.to_string()))?;
    chunk.copy_from_slice(&view[..chunk.len()]);
    drop(view);
    staging.unmap();
    Ok(())
}

/// Says whether a device is lost that nobody has told us of: it makes buffers without an error, of which nothing can be
/// mapped.
pub(super) fn alive(device: &Device) -> Result<()> {
    let buffer = scoped(device, GRANULE, || {
        device.create_buffer(&BufferDescriptor {
            label: Some("dyt probe"),
            size: GRANULE,
            usage: BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        })
    })?;
    buffer.get_mapped_range(..).map(drop).map_err(|error| lost(error.to_string()))
}

/// Waits for everything that was submitted.
pub(super) fn wait(device: &Device) -> Result<()> {
    poll(device, PollType::wait_indefinitely())
}

/// Lets wgpu do what has become possible, and call back.
pub(super) fn poll(device: &Device, what: PollType) -> Result<()> {
    // wgpu panics, instead of returning an error, if the device is lost while it waits. Nothing of ours is borrowed
    // by the call, and a lost device is not used again.
    match catch_unwind(AssertUnwindSafe(|| device.poll(what))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(lost(error.to_string())),
        Err(_) => Err(lost("the driver gave up while its work was waited for")),
    }
}
