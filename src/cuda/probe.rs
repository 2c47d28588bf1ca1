//! Whether there is a driver and a GPU, found out before cudarc is asked: it panics where a library or a symbol lacks.

use core::ffi::{c_int, c_uint};
use std::sync::OnceLock;

use cudarc::driver::sys::{CUdevice_attribute, CUresult};
use cudarc::driver::{DriverError, result};
use libloading::Library;

use super::error::{describe, refused};
use crate::{Refusal, Result};

/// PTX ISA 8.0 came with CUDA 12.0.
const NEEDED_CUDA: (u32, u32) = (12, 0);
/// The oldest architecture of the PTX.
const NEEDED_CAPABILITY: (u32, u32) = (7, 5);

/// Where cudarc finds the driver, too, in its order, which nothing can change: `libcuda.so.1` first would be the driver of
/// this file, and a stub in another folder still cudarc's.
const LIBRARIES: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so", "libcuda.so.1"] };

/// Every function of the driver that this crate calls, and cudarc on its behalf.
const SYMBOLS: [&str; 31] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuModuleLoadDataEx",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemAllocAsync",
    "cuMemFree_v2",
    "cuMemFreeAsync",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuStreamSynchronize",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuEventDestroy_v2",
];

/// Starts the driver, once for all. Until it has succeeded no call of cudarc may be made: without a driver they panic.
///
/// # Errors
/// [`Error::BackendUnavailable`](crate::Error::BackendUnavailable) with the reason: there is no driver, it is too old, or
/// it does not start.
pub fn driver() -> Result<()> {
    static DRIVER: OnceLock<core::result::Result<(), Refusal>> = OnceLock::new();
    DRIVER.get_or_init(start).clone().map_err(refused)
}

fn start() -> core::result::Result<(), Refusal> {
    let library = open()?;
    // Nothing below is of use in a stub, which has every function. A driver that lacks the first is told of below.
    let status = init(&library);
    if status == Some(CUresult::CUDA_ERROR_STUB_LIBRARY) {
        return Err(Refusal::CudaStub { file: file_of(&library).unwrap_or_else(|| LIBRARIES[0].to_owned()) });
    }
    for symbol in SYMBOLS {
        // SAFETY: the symbol is looked up and not used.
        if unsafe { library.get::<unsafe extern "C" fn()>(symbol.as_bytes()) }.is_err() {
            // The driver of an old version lacks symbols, and says its version all the same.
            return Err(version(&library).err().unwrap_or(Refusal::CudaDriverLacks { symbol }));
        }
    }
    version(&library)?;
    // cudarc opens it again; unloading a driver in between does no good.
    core::mem::forget(library);
    match status {
        Some(CUresult::CUDA_SUCCESS) => Ok(()),
        Some(CUresult::CUDA_ERROR_NO_DEVICE) => Err(Refusal::NoCudaDevice),
        Some(error) => Err(Refusal::CudaInit { reason: describe(DriverError(error)) }),
        None => Err(Refusal::CudaDriverLacks { symbol: SYMBOLS[0] }),
    }
}

fn open() -> core::result::Result<Library, Refusal> {
    let mut reason = String::new();
    for name in LIBRARIES {
        // SAFETY: what runs when the driver is loaded is NVIDIA's, and made for this.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Refusal::NoCudaDriver { reason })
}

type Init = unsafe extern "C" fn(c_uint) -> CUresult;

/// What the driver says when it is started; `None` where it lacks the function.
fn init(library: &Library) -> Option<CUresult> {
    // SAFETY: the type is that of the function, which may be called at any time.
    unsafe { library.get::<Init>(SYMBOLS[0].as_bytes()).ok().map(|init| init(0)) }
}

/// The file that the driver was loaded from, where Linux tells.
fn file_of(library: &Library) -> Option<String> {
    // SAFETY: the function is looked up and not called.
    let address = unsafe { *library.get::<Init>(SYMBOLS[0].as_bytes()).ok()? } as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let holds = |range: &str| {
        let (begin, end) = range.split_once('-')?;
        let [begin, end] = [begin, end].map(|bound| usize::from_str_radix(bound, 16));
        Some((begin.ok()?..end.ok()?).contains(&address))
    };
    let line = maps.lines().find(|line| line.split(' ').next().and_then(holds) == Some(true))?;
    line.find('/').map(|at| line[at..].to_owned())
}

/// Refuses a driver that is too old for the PTX.
fn version(library: &Library) -> core::result::Result<(), Refusal> {
    let symbol = "cuDriverGetVersion";
    let mut version: c_int = 0;
    // SAFETY: the type is that of the function, which may be called before `cuInit`.
    unsafe {
        let get = library
            .get::<unsafe extern "C" fn(*mut c_int) -> c_int>(symbol.as_bytes())
            .map_err(|_| Refusal::CudaDriverLacks { symbol })?;
        get(&raw mut version);
    }
    let version = version.unsigned_abs();
    let actual = (version / 1000, version % 1000 / 10);
    if actual < NEEDED_CUDA { Err(Refusal::CudaDriverTooOld { needed: NEEDED_CUDA, actual }) } else { Ok(()) }
}

/// How many GPUs there are.
fn count() -> Result<usize> {
    driver()?;
    let count = result::device::get_count().map_err(super::error::call)?;
    match usize::try_from(count) {
        Ok(0) | Err(_) => Err(refused(Refusal::NoCudaDevice)),
        Ok(count) => Ok(count),
    }
}

/// The name of each GPU, or that of the backend where there is none.
pub(crate) fn names() -> Vec<String> {
    count()
        .map_or_else(|_| vec!["cuda".to_owned()], |count| (0..count).map(|i| format!("cuda:{i}")).collect())
}

/// Refuses a GPU that is not there or too old; else its compute capability.
pub(super) fn device(ordinal: usize) -> Result<(u32, u32)> {
    let count = count()?;
    if ordinal >= count {
        return Err(refused(Refusal::NoSuchCudaDevice { ordinal, count }));
    }
    let device =
        c_int::try_from(ordinal).map_err(|_| refused(Refusal::NoSuchCudaDevice { ordinal, count }))?;
    let device = result::device::get(device).map_err(super::error::call)?;
    let part = |attribute| {
        // SAFETY: the device is one of the driver's.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value.map(c_int::unsigned_abs).map_err(super::error::call)
    };
    let major = part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = part(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let actual = (major, minor);
    if actual < NEEDED_CAPABILITY {
        return Err(refused(Refusal::ComputeCapability { needed: NEEDED_CAPABILITY, actual }));
    }
    Ok(actual)
}
