//! The CUDA kernels of `dyt` on the host: for tests where there is no GPU.
//!
//! `build.rs` compiles the very `kernels/*.cu` with a C++ compiler. Here they run by the plans of the real launches:
//! block by block, each CUDA thread a fiber that gives way where it waits for others. [`Simt`] is a device for the
//! conformance suite.

mod memory;
mod target;

pub use memory::Exact;
pub use target::Simt;

use std::ffi::{CStr, CString, c_char, c_void};

use dyt::cuda::plan::Launch;

/// The order in which the threads of a block, and the blocks of a grid, take their turns. Results must not depend on it:
/// where they do, a barrier is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By their index.
    Forward,
    /// The last one first.
    Reverse,
    /// Another one each time that all have had their turn.
    Random,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Reverse, Self::Random];
}

unsafe extern "C" {
    fn dyt_simt_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: u32,
        parameter: *const c_void,
        parameter_bytes: usize,
        order: u32,
        seed: u64,
    ) -> *const c_char;
}

/// Runs a launch.
///
/// # Errors
/// What a GPU would not do: a kernel that is not there, threads that wait for others that do not come, copies that
/// nobody waits for.
///
/// # Safety
/// The addresses in the arguments are of host memory, valid for what the kernel reads and writes, and nothing else
/// touches it.
pub unsafe fn launch(launch: &Launch, order: Order) -> Result<(), String> {
    let name = CString::new(launch.entry.name()).map_err(|error| error.to_string())?;
    let args = launch.args.as_bytes();
    // SAFETY: the pointers are valid for the call; what the kernel touches is the caller's promise.
    let fault = unsafe {
        dyt_simt_launch(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block.as_ptr(),
            launch.shared_bytes,
            args.as_ptr().cast(),
            args.len(),
            order as u32,
            launch.grid[0].into(),
        )
    };
    if fault.is_null() {
        return Ok(());
    }
    // SAFETY: a fault is a literal of the C++ side.
    let fault = unsafe { CStr::from_ptr(fault) }.to_string_lossy();
    Err(format!("{} with grid {:?} and block {:?}: {fault}", launch.entry.name(), launch.grid, launch.block))
}
