//! The handlers that XLA calls for JAX, by the C interface of XLA's FFI.
//!
//! `abi` declares what is used of that interface, `frame` reads a call with checks, `run` makes kernel calls of it. Python
//! gets the handlers by address, and hands them to `jax.ffi.register_ffi_target`.

mod abi;
#[cfg(feature = "cuda")]
mod cuda;
mod frame;
mod run;
mod subnormals;

use core::ffi::c_int;
use core::panic::AssertUnwindSafe;
use core::ptr::null_mut;
use std::ffi::CString;
use std::panic::catch_unwind;

use dyt::Pass;
use pyo3::prelude::*;

use self::frame::{Call, Failure};
use self::run::Target;
use self::subnormals::Kept;
use crate::devices::{cpu, exception};
use crate::host::{Description, problem};

/// The forward on the CPU.
///
/// # Safety
/// XLA makes the call.
unsafe extern "C" fn forward_cpu(frame: *mut abi::CallFrame) -> *mut abi::Error {
    // SAFETY: the caller's promise.
    unsafe { handle(frame, 0, |frame| on_cpu(Pass::Forward, frame)) }
}

/// The backward on the CPU.
///
/// # Safety
/// As [`forward_cpu`].
unsafe extern "C" fn backward_cpu(frame: *mut abi::CallFrame) -> *mut abi::Error {
    // SAFETY: the caller's promise.
    unsafe { handle(frame, 0, |frame| on_cpu(Pass::Backward, frame)) }
}

/// # Safety
/// XLA made the frame, for a call that lasts, of host memory.
unsafe fn on_cpu(pass: Pass, frame: &abi::CallFrame) -> Result<(), Failure> {
    if frame.stage != abi::STAGE_EXECUTE {
        return Ok(());
    }
    let _kept = Kept::new();
    // SAFETY: the caller's promise.
    unsafe { run(pass, frame, &Target::Cpu(cpu()?)) }
}

/// # Safety
/// XLA made the frame, for a call that lasts, of the target's memory.
unsafe fn run(pass: Pass, frame: &abi::CallFrame, target: &Target<'_>) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        let call = Call::of(frame)?;
        match pass {
            Pass::Forward => run::forward(call, target),
            Pass::Backward => run::backward(call, target),
        }
    }
}

/// What every handler does: it answers the question for metadata, or does its work, and makes XLA's error of a failure. A
/// panic stops here.
///
/// # Safety
/// XLA makes the call.
unsafe fn handle(
    frame: *mut abi::CallFrame,
    traits: u32,
    work: impl FnOnce(&abi::CallFrame) -> Result<(), Failure>,
) -> *mut abi::Error {
    // SAFETY: XLA keeps the frame until the call ends.
    let frame = unsafe { &*frame };
    // SAFETY: as above.
    if unsafe { answer_metadata(frame, traits) } {
        return null_mut();
    }
    let done = catch_unwind(AssertUnwindSafe(|| work(frame)));
    match done.unwrap_or_else(|_| Err(Failure::internal("a panic; its message is on stderr"))) {
        Ok(()) => null_mut(),
        // SAFETY: as above.
        Err(failure) => unsafe { error(frame, &failure) },
    }
}

/// Writes the version and the traits, if that is what XLA asks for.
///
/// # Safety
/// XLA made the frame, for a call that lasts.
unsafe fn answer_metadata(frame: &abi::CallFrame, traits: u32) -> bool {
    // SAFETY: a link of the list lives as long as the call, and its kind says what it is.
    unsafe {
        let extension = frame.extension_start;
        if extension.is_null() || (*extension).kind != abi::EXTENSION_METADATA {
            return false;
        }
        let metadata = &mut *(*extension.cast::<abi::MetadataExtension>()).metadata;
        let version = &mut metadata.api_version;
        // Where the layout is another one, XLA finds no version, and refuses the handler.
        if version.struct_size == size_of::<abi::ApiVersion>() {
            (version.major, version.minor) = (abi::MAJOR, minor(frame));
            metadata.traits = traits;
        }
        true
    }
}

/// XLA's own minor version: it refuses a newer one than its own, and older ones after a year. `frame` checks the sizes of
/// all that is read, so that the handlers need no promise that a minor version makes.
///
/// # Safety
/// As [`answer_metadata`].
unsafe fn minor(frame: &abi::CallFrame) -> c_int {
    // The version of the jaxlibs that hand over no table here.
    const OLDEST: c_int = 1;
    // SAFETY: the table lives as long as the process.
    unsafe { frame.api.as_ref() }.map_or(OLDEST, |api| api.api_version.minor)
}

/// # Safety
/// As [`answer_metadata`].
unsafe fn error(frame: &abi::CallFrame, failure: &Failure) -> *mut abi::Error {
    let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    let mut arguments = abi::ErrorCreateArgs {
        struct_size: size_of::<abi::ErrorCreateArgs>(),
        extension_start: null_mut(),
        message: message.as_ptr(),
        code: failure.code,
    };
    // SAFETY: the first functions of the table are the same in every version of this major one; the message is copied.
    unsafe { ((*frame.api).error_create)(&raw mut arguments) }
}

/// The handlers: (name, platform, stage, address).
#[pyfunction]
fn xla_handlers() -> Vec<(&'static str, &'static str, &'static str, usize)> {
    let at = |handler: abi::Handler| (handler as *const ()).expose_provenance();
    let cpu = [("dyt_forward", forward_cpu as abi::Handler), ("dyt_backward", backward_cpu)];
    let handlers = cpu.map(|(name, handler)| (name, "cpu", "execute", at(handler)));
    #[cfg(feature = "cuda")]
    let cuda = cuda::HANDLERS.map(|(name, stage, handler)| (name, "CUDA", stage, at(handler)));
    #[cfg(not(feature = "cuda"))]
    let cuda = [];
    handlers.into_iter().chain(cuda).collect()
}

/// Elements of f32 that a backward needs as its workspace, on the CPU or on a GPU.
#[pyfunction]
fn xla_workspace(description: Description, gpu: bool) -> PyResult<usize> {
    let problem = problem(description)?;
    if gpu {
        return Ok(run::workspace(&problem, None));
    }
    Ok(run::workspace(&problem, Some(cpu().map_err(exception)?)))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(xla_handlers, module)?)?;
    module.add_function(wrap_pyfunction!(xla_workspace, module)?)
}
