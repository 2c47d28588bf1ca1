//! The CUDA kernels of `dyt` on the host: for tests where there is no GPU.
//!
//! `build.rs` compiles the very `kernels/*.cu` with a C++ compiler. Here they run by the plans of the real launches:
//! block by block, each CUDA thread a fiber that gives way where it waits for others. [`Simt`] is a device for the
//! conformance suite.

mod memory;
mod target;

pub use memory::Exact;
pub use target::Simt;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{Mutex, PoisonError};

use dyt::cuda::plan::{Args, Launch};

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

/// A kernel that takes part in no plan, or one of a plan with another geometry.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The kernel's name.
    pub name: &'a str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// The kernel's only parameter.
    pub parameter: &'a [u8],
}

impl Call<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// What a GPU would not do: a kernel that is not there, threads that wait for others that do not come, copies that
    /// nobody waits for.
    ///
    /// # Safety
    /// The addresses in the parameter are of host memory, valid for what the kernel reads and writes, and nothing else
    /// touches it.
    pub unsafe fn run(&self, order: Order) -> Result<(), String> {
        let name = CString::new(self.name).map_err(|error| error.to_string())?;
        // SAFETY: the pointers are valid for the call; what the kernel touches is the caller's promise.
        let fault = unsafe {
            dyt_simt_launch(
                name.as_ptr(),
                self.grid.as_ptr(),
                self.block.as_ptr(),
                self.shared_bytes,
                self.parameter.as_ptr().cast(),
                self.parameter.len(),
                order as u32,
                self.grid[0].into(),
            )
        };
        if fault.is_null() {
            return Ok(());
        }
        // SAFETY: a fault is a literal of the C++ side.
        let fault = unsafe { CStr::from_ptr(fault) }.to_string_lossy();
        Err(format!("{} with grid {:?} and block {:?}: {fault}", self.name, self.grid, self.block))
    }
}

/// Runs a launch of a plan, and remembers that its kernel has run.
///
/// # Errors
/// As [`Call::run`].
///
/// # Safety
/// As [`Call::run`].
pub unsafe fn launch(launch: &Launch, order: Order) -> Result<(), String> {
    let Launch { entry, grid, block, shared_bytes, .. } = *launch;
    let call = Call { name: entry.name(), grid, block, shared_bytes, parameter: launch.args.as_bytes() };
    LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner).insert((entry.name(), storage(&launch.args)));
    // SAFETY: the caller's promise.
    unsafe { call.run(order) }
}

/// A kernel's name, and the storage types that its arguments tell it: `dtype` and `param_f32`, if it has any.
pub type Launched = (&'static str, Option<(u32, u32)>);

static LAUNCHED: Mutex<BTreeSet<Launched>> = Mutex::new(BTreeSet::new());

/// The storage types in an argument.
fn storage(args: &Args) -> Option<(u32, u32)> {
    match args {
        Args::PointwiseForward(args) => Some((args.dtype, args.param_f32)),
        Args::PointwiseBackward(args) => Some((args.dtype, args.param_f32)),
        Args::NormForward(args) => Some((args.dtype, args.param_f32)),
        Args::NormBackward(args) => Some((args.dtype.into(), args.param_f32.into())),
        Args::PointwiseForwardOptions(args) => Some((args.plain.dtype, args.plain.param_f32)),
        Args::PointwiseBackwardOptions(args) => Some((args.plain.dtype, args.plain.param_f32)),
        Args::NormForwardOptions(args) => Some((args.plain.dtype, args.plain.param_f32)),
        Args::NormBackwardOptions(args) => Some((args.plain.dtype.into(), args.plain.param_f32.into())),
        Args::Fold(_) => None,
    }
}

/// What [`launch`] has run in this process.
pub fn launched() -> BTreeSet<Launched> {
    LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
