//! Loading the PTX, and the functions in it.

use core::ffi::{c_uint, c_void};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use cudarc::driver::result::{function, module};
use cudarc::driver::sys::{
    CUdevice_attribute, CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUresult,
    cuModuleLoadDataEx,
};

use super::error::{call, describe, driver, refused};
use super::plan::{Entry, Limits, NormForm};
use super::ptx::{self, Ptx};
use crate::{Refusal, Result};

/// Bytes of the compiler's log that are kept.
const LOG_BYTES: usize = 16 * 1024;

/// The kernels in one context.
#[derive(Debug)]
pub(super) struct Modules {
    context: Arc<CudaContext>,
    loaded: Vec<CUmodule>,
    functions: HashMap<Entry, CUfunction>,
    /// What the context's device has.
    pub(super) limits: Limits,
    /// The PTX that was taken: one of each file.
    pub(super) sources: Vec<&'static Ptx>,
    /// Why better PTX was not taken.
    pub(super) fallback: Option<String>,
}

// SAFETY: modules and functions are handles that the driver lets every thread use in which the context is current.
unsafe impl Send for Modules {}
// SAFETY: as above; they are never changed.
unsafe impl Sync for Modules {}

impl Modules {
    /// Loads of each file the best PTX that the driver takes. The context is current.
    pub(super) fn load(context: &Arc<CudaContext>, capability: (u32, u32)) -> Result<Self> {
        let mut modules = Self {
            context: Arc::clone(context),
            loaded: Vec::new(),
            functions: HashMap::new(),
            limits: limits(context)?,
            sources: Vec::new(),
            fallback: None,
        };
        let mut refusals = String::new();
        for file in Entry::FILES {
            // What was loaded before is unloaded where it is dropped.
            modules.load_file(file, capability.0 * 10 + capability.1, &mut refusals)?;
        }
        modules.opt_in()?;
        modules.fallback = (!refusals.is_empty()).then_some(refusals);
        Ok(modules)
    }

    /// Loads the best PTX of a file; why better PTX was not taken is added to the refusals.
    fn load_file(&mut self, file: &str, capability: u32, refusals: &mut String) -> Result<()> {
        for ptx in ptx::candidates(file, capability) {
            match self.load_ptx(ptx) {
                Ok(()) => {
                    self.sources.push(ptx);
                    return Ok(());
                }
                Err(Refused::Ptx(reason)) => refusals.push_str(&reason),
                Err(Refused::Call(error)) => return Err(error),
            }
        }
        Err(refused(Refusal::PtxRefused { log: core::mem::take(refusals) }))
    }

    fn load_ptx(&mut self, ptx: &'static Ptx) -> core::result::Result<(), Refused> {
        let module = load(ptx)?;
        self.loaded.push(module);
        for entry in Entry::all().filter(|entry| entry.file() == ptx.file()) {
            let name = CString::new(entry.name()).unwrap_or_default();
            // SAFETY: the module was loaded just now, in the context that is current.
            let function = unsafe { module::get_function(module, name) };
            let function = function.map_err(|error| {
                Refused::Ptx(format!("{ptx:?} has no {}: {}\n", entry.name(), describe(error)))
            })?;
            self.functions.insert(entry, function);
        }
        Ok(())
    }

    /// Lets the kernels of long rows have all shared memory that there is.
    fn opt_in(&self) -> Result<()> {
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = i32::try_from(self.limits.shared_bytes).unwrap_or(i32::MAX);
        for (entry, function) in &self.functions {
            if let Entry::Norm { form: NormForm::LongVector(_) | NormForm::LongOptions, .. } = entry {
                // SAFETY: the function is one of a module that is loaded.
                unsafe { function::set_function_attribute(*function, attribute, bytes) }.map_err(call)?;
            }
        }
        Ok(())
    }

    /// The function of a kernel.
    pub(super) fn function(&self, entry: Entry) -> Option<CUfunction> {
        self.functions.get(&entry).copied()
    }

    /// The context that the kernels are in.
    pub(super) const fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        // Nobody is left to whom an error could be told: cudarc keeps it for the context's next call.
        self.context.record_err(self.context.bind_to_thread());
        for module in self.loaded.drain(..) {
            // SAFETY: the module was loaded in this context, once; nobody has its functions any more.
            self.context.record_err(unsafe { module::unload(module) });
        }
    }
}

/// Why PTX was not loaded: for the PTX itself, so that another may do, or for something else.
enum Refused {
    Ptx(String),
    Call(crate::Error),
}

fn limits(context: &CudaContext) -> Result<Limits> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let bytes = context.attribute(attribute).map_err(call)?;
    let shared_bytes = u32::try_from(bytes).unwrap_or(0).max(Limits::BASELINE.shared_bytes);
    Ok(Limits { shared_bytes })
}

/// Loads one file; the log of the driver's compiler stands in the refusal.
fn load(ptx: &Ptx) -> core::result::Result<CUmodule, Refused> {
    let mut log = vec![0_u8; LOG_BYTES];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The driver takes a number where it expects one in the place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), core::ptr::without_provenance_mut(LOG_BYTES - 1)];
    let mut module: CUmodule = core::ptr::null_mut();
    // SAFETY: the image ends in a zero, as the driver expects of PTX; the options are as many as the values and of
    // their types, and the log has the bytes that are said; a context is current.
    let status = unsafe {
        cuModuleLoadDataEx(
            &raw mut module,
            ptx.c_str().as_ptr().cast(),
            options.len() as c_uint,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    let Err(error) = status.result() else { return Ok(module) };
    if !is_about_ptx(error.0) {
        return Err(Refused::Call(driver(error, ptx.text().len())));
    }
    let log = String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned();
    Err(Refused::Ptx(format!("{ptx:?}: {}\n{log}", describe(error))))
}

/// Whether other PTX may do.
const fn is_about_ptx(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::CUDA_ERROR_INVALID_IMAGE
            | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | CUresult::CUDA_ERROR_INVALID_PTX
            | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
            | CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED
            | CUresult::CUDA_ERROR_INVALID_SOURCE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_ptx_of_each_file_comes_first_and_none_is_too_new() {
        for (capability, newest) in [(75, 75), (79, 75), (80, 80), (89, 80), (90, 80), (100, 80), (120, 80)] {
            for file in Entry::FILES {
                let architectures = |prebuilt| -> Vec<_> {
                    let of_kind =
                        ptx::candidates(file, capability).filter(|ptx| ptx.is_prebuilt() == prebuilt);
                    of_kind.map(Ptx::architecture).collect()
                };
                let prebuilt = architectures(true);
                assert!(prebuilt.is_sorted_by(|a, b| a > b), "{file}: {prebuilt:?}");
                assert!(
                    prebuilt.first() >= Some(&newest) && prebuilt[0] <= capability,
                    "{file}: {prebuilt:?}"
                );
                let by_nvcc = architectures(false);
                assert!(by_nvcc.is_empty() || by_nvcc == prebuilt, "{file}: {by_nvcc:?}");
                // What nvcc made is tried before any other.
                let kinds = ptx::candidates(file, capability).map(Ptx::is_prebuilt);
                assert!(kinds.is_sorted(), "{file}");
            }
        }
        assert_eq!(ptx::candidates(Entry::FILES[0], 74).count(), 0);
    }
}
