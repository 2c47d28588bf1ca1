//! Kernels as pipelines, each compiled when it is first needed and kept.

use core::hash::Hash;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType,
    ComputePipeline, ComputePipelineDescriptor, Device, PipelineCompilationOptions, PipelineLayoutDescriptor,
    ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource, ShaderStages,
};

use super::error::scoped;
use crate::Result;

/// How a kernel reaches one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Uniform,
    Read,
    ReadWrite,
}

/// A compiled kernel. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: ComputePipeline,
    pub(super) layout: BindGroupLayout,
}

/// The pipelines of one device by kernel.
#[derive(Debug)]
pub(super) struct Pipelines<K> {
    known: Mutex<HashMap<K, Arc<Place>>>,
}

/// Where the pipeline of one kernel is, or comes.
type Place = Mutex<Option<Pipeline>>;

impl<K: Copy + Eq + Hash> Pipelines<K> {
    pub(super) fn new() -> Self {
        Self { known: Mutex::new(HashMap::new()) }
    }

    /// The pipeline of a kernel; `describe` gives its source and its bindings in the order of their numbers.
    pub(super) fn get(
        &self,
        device: &Device,
        kernel: K,
        describe: impl FnOnce() -> (String, Vec<(u32, Access)>),
    ) -> Result<Pipeline> {
        let place = Arc::clone(lock(&self.known).entry(kernel).or_default());
        // A thread that needs a kernel which another one compiles waits for it; other kernels are compiled meanwhile.
        let mut place = lock(&place);
        if let Some(pipeline) = &*place {
            return Ok(pipeline.clone());
        }
        let (source, bindings) = describe();
        let pipeline = scoped(device, source.len() as u64, || compile(device, source, &bindings))?;
        Ok(place.insert(pipeline).clone())
    }

    /// Which have been compiled.
    pub(super) fn kernels(&self) -> Vec<K> {
        let known: Vec<_> =
            lock(&self.known).iter().map(|(kernel, place)| (*kernel, place.clone())).collect();
        known.into_iter().filter(|(_, place)| lock(place).is_some()).map(|(kernel, _)| kernel).collect()
    }

    /// How many have been compiled.
    pub(super) fn len(&self) -> usize {
        self.kernels().len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn compile(device: &Device, source: String, bindings: &[(u32, Access)]) -> Pipeline {
    let mut checks = ShaderRuntimeChecks::checked();
    // Kernels end: each of their loops runs along a row, over rows or over partial sums.
    checks.force_loop_bounding = false;
    let descriptor = ShaderModuleDescriptor { label: Some("dyt"), source: ShaderSource::Wgsl(source.into()) };
    // SAFETY: every check stays on but the bounding of loops, and the kernels are this crate's own: the bound of each
    // loop is a constant or a value of the parameters that it counts up to.
    let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
    let entries: Vec<_> = bindings.iter().map(|&(binding, access)| entry(binding, access)).collect();
    let layout =
        device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: Some("dyt"), entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: Some("dyt"),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&ComputePipelineDescriptor {
        label: Some("dyt"),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: None,
        compilation_options: PipelineCompilationOptions {
            // Kernels write what they read of it.
            zero_initialize_workgroup_memory: false,
            ..PipelineCompilationOptions::default()
        },
        cache: None,
    });
    Pipeline { pipeline, layout }
}

const fn entry(binding: u32, access: Access) -> BindGroupLayoutEntry {
    let ty = match access {
        Access::Uniform => BufferBindingType::Uniform,
        Access::Read => BufferBindingType::Storage { read_only: true },
        Access::ReadWrite => BufferBindingType::Storage { read_only: false },
    };
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
