//! Kernel time by the adapter's own clock.

use std::time::{Duration, Instant};

use ::wgpu::{
    BufferDescriptor, BufferUsages, CommandEncoder, ComputePassDescriptor, ComputePassTimestampWrites,
    Device, Features, QUERY_RESOLVE_BUFFER_ALIGNMENT, QuerySet, QuerySetDescriptor, QueryType, Queue,
};

use super::buffer;
use super::error::scoped;
use crate::Result;

/// Bytes of the two timestamps.
const STAMPS: u64 = 2 * size_of::<u64>() as u64;

/// Two moments of the adapter's time, or of the host's where the adapter has no clock.
#[derive(Debug)]
pub(super) struct Timer {
    queries: Option<QuerySet>,
    begin: Instant,
}

impl Timer {
    pub(super) fn new(device: &Device) -> Result<Self> {
        let queries = if device.features().contains(Features::TIMESTAMP_QUERY) {
            let descriptor = QuerySetDescriptor { label: Some("dyt"), ty: QueryType::Timestamp, count: 2 };
            Some(scoped(device, STAMPS, || device.create_query_set(&descriptor))?)
        } else {
            None
        };
        Ok(Self { queries, begin: Instant::now() })
    }

    /// Records the first moment.
    pub(super) fn begin(&self, encoder: &mut CommandEncoder) {
        self.stamp(encoder, Some(0), None);
    }

    /// Records the second moment.
    pub(super) fn end(&self, encoder: &mut CommandEncoder) {
        self.stamp(encoder, None, Some(1));
    }

    /// A pass of no work has a beginning and an end all the same.
    fn stamp(&self, encoder: &mut CommandEncoder, begin: Option<u32>, end: Option<u32>) {
        if let Some(query_set) = &self.queries {
            let timestamp_writes = ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: begin,
                end_of_pass_write_index: end,
            };
            encoder.begin_compute_pass(&ComputePassDescriptor {
                label: Some("dyt timestamp"),
                timestamp_writes: Some(timestamp_writes),
            });
        }
    }

    /// The time between, once both moments have been submitted. Waits.
    pub(super) fn finish(self, device: &Device, queue: &Queue) -> Result<Duration> {
        let Some(queries) = self.queries else {
            buffer::wait(device)?;
            return Ok(self.begin.elapsed());
        };
        let resolved = scoped(device, QUERY_RESOLVE_BUFFER_ALIGNMENT, || {
            let resolved = device.create_buffer(&BufferDescriptor {
                label: Some("dyt timestamps"),
                size: QUERY_RESOLVE_BUFFER_ALIGNMENT,
                usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let mut encoder = device.create_command_encoder(&::wgpu::CommandEncoderDescriptor::default());
            encoder.resolve_query_set(&queries, 0..2, &resolved, 0);
            queue.submit([encoder.finish()]);
            resolved
        })?;
        let mut stamps = [0_u64; 2];
        buffer::read(device, queue, &resolved, bytemuck::cast_slice_mut(&mut stamps))?;
        let ticks = stamps[1].saturating_sub(stamps[0]) as f64;
        Ok(Duration::from_secs_f64(ticks * f64::from(queue.get_timestamp_period()) * 1e-9))
    }
}
