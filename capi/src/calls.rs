//! The ops.

use core::ffi::{c_int, c_void};

use dyt::{Backward, DType, Forward, Pass, Problem, View, ViewMut};

use crate::abi::{dyt_backward_args, dyt_forward_args, dyt_problem};
use crate::devices::{device, dyt_device};
use crate::memory::Reach;
use crate::problem::{Sized32, pass, problem, read, reserved};
use crate::status::{Failure, Outcome, guard};
use crate::stream::{self, Current};

// SAFETY: integers and pointers, `size` first.
unsafe impl Sized32 for dyt_forward_args {
    const NAME: &'static str = "dyt_forward_args";
}
// SAFETY: as above.
unsafe impl Sized32 for dyt_backward_args {
    const NAME: &'static str = "dyt_backward_args";
}

/// How many bytes of workspace a call needs, whatever gradients it asks for. pass is a dyt_pass. On failure *bytes is
/// not written.
///
/// # Safety
/// device is open; problem has the bytes that its size says; bytes is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_workspace_size(
    device: *const dyt_device,
    problem: *const dyt_problem,
    pass: u32,
    bytes: *mut usize,
) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let (device, problem) = unsafe { (self::device(device)?, self::problem(problem)?) };
        let pass = self::pass(pass)?;
        if bytes.is_null() {
            return Err(Failure::null("bytes"));
        }
        // SAFETY: it is not NULL, and the caller's to write.
        unsafe { bytes.write(device.device().workspace_bytes(&problem, pass)) };
        Ok(())
    })
}

/// Runs a forward: y, and the statistics that are asked for. Nothing is allocated or kept.
///
/// Every pointer is one into the device's memory: on the CPU any host pointer that is aligned for its elements. y may be
/// x itself; no other overlap is allowed. workspace has at least the bytes of dyt_workspace_size, and may be NULL if
/// those are 0. On the CPU the call has done its work when it returns, and stream is ignored. On CUDA stream is a
/// CUstream, NULL for the device's own. On wgpu it is NULL. On failure no output has been written.
///
/// # Safety
/// device is open; problem and args have the bytes that their sizes say; the pointers of args and workspace have the
/// elements that problem says, and nobody else uses the outputs and the workspace until the work is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_forward(
    device: *const dyt_device,
    problem: *const dyt_problem,
    args: *const dyt_forward_args,
    workspace: *mut c_void,
    workspace_bytes: usize,
    stream: *mut c_void,
) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let (device, problem, args) =
            unsafe { (self::device(device)?, self::problem(problem)?, read(args)?) };
        reserved(dyt_forward_args::NAME, args.reserved)?;
        let buffers = Buffers { reach: Reach::of(device.device()), problem };
        // SAFETY: by the contract.
        let (forward, workspace) =
            unsafe { (buffers.forward(&args)?, buffers.workspace(workspace, workspace_bytes)?) };
        let needed = device.device().workspace_bytes(&problem, Pass::Forward);
        let actual = workspace.len() * DType::F32.size();
        if actual < needed {
            return Err(dyt::Error::WorkspaceTooSmall { needed, actual }.into());
        }
        let _current = Current::of(device.device());
        // SAFETY: by the contract.
        unsafe { stream::forward(device.device(), &problem, forward, stream) }
    })
}

/// Runs a backward: the gradients that are asked for. Nothing is allocated or kept.
///
/// dx may be dy itself; no other overlap is allowed. The rest is as dyt_forward has it. alpha and shift are read when
/// the work is done, and never on the host of a GPU.
///
/// # Safety
/// As dyt_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_backward(
    device: *const dyt_device,
    problem: *const dyt_problem,
    args: *const dyt_backward_args,
    workspace: *mut c_void,
    workspace_bytes: usize,
    stream: *mut c_void,
) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let (device, problem, args) =
            unsafe { (self::device(device)?, self::problem(problem)?, read(args)?) };
        reserved(dyt_backward_args::NAME, args.reserved)?;
        let buffers = Buffers { reach: Reach::of(device.device()), problem };
        // SAFETY: by the contract.
        let (backward, workspace) =
            unsafe { (buffers.backward(&args)?, buffers.workspace(workspace, workspace_bytes)?) };
        let _current = Current::of(device.device());
        // SAFETY: by the contract.
        unsafe { stream::backward(device.device(), &problem, backward, workspace, stream) }
    })
}

/// Makes views of the caller's pointers, as long as the problem says. Lengths are those without the gap behind the last
/// row, which is never touched.
#[derive(Clone, Copy, Debug)]
struct Buffers {
    reach: Reach,
    problem: Problem,
}

impl Buffers {
    /// # Safety
    /// Every pointer is NULL, or means the elements that the problem says, for as long as the result is used.
    unsafe fn forward<'a>(self, args: &dyt_forward_args) -> Outcome<Forward<'a>> {
        // SAFETY: promised by the caller, for each.
        unsafe {
            let mut forward = Forward::new(self.tensor("x", args.x)?, self.tensor_mut("y", args.y)?);
            forward.alpha = self.scalar("alpha", args.alpha)?;
            forward.shift = self.scalar("shift", args.shift)?;
            forward.gamma = self.parameter("gamma", args.gamma)?;
            forward.beta = self.parameter("beta", args.beta)?;
            forward.mean = self.output("mean", args.mean, self.problem.statistics())?;
            forward.rstd = self.output("rstd", args.rstd, self.problem.statistics())?;
            Ok(forward)
        }
    }

    /// # Safety
    /// As [`Self::forward`].
    unsafe fn backward<'a>(self, args: &dyt_backward_args) -> Outcome<Backward<'a>> {
        let (statistics, cols) = (self.problem.statistics(), self.problem.cols());
        // SAFETY: promised by the caller, for each.
        unsafe {
            let mut backward = Backward::new(self.tensor("dy", args.dy)?, self.tensor("x", args.x)?);
            backward.alpha = self.scalar("alpha", args.alpha)?;
            backward.shift = self.scalar("shift", args.shift)?;
            backward.gamma = self.parameter("gamma", args.gamma)?;
            backward.mean = self.optional("mean", args.mean, statistics, DType::F32)?;
            backward.rstd = self.optional("rstd", args.rstd, statistics, DType::F32)?;
            backward.dx = if args.dx.is_null() { None } else { Some(self.tensor_mut("dx", args.dx)?) };
            backward.dalpha = self.output("dalpha", args.dalpha, 1)?;
            backward.dshift = self.output("dshift", args.dshift, 1)?;
            backward.dgamma = self.output("dgamma", args.dgamma, cols)?;
            backward.dbeta = self.output("dbeta", args.dbeta, cols)?;
            Ok(backward)
        }
    }

    unsafe fn tensor<'a>(self, name: &'static str, from: *const c_void) -> Outcome<View<'a>> {
        // SAFETY: promised by the caller.
        unsafe { self.reach.view(name, from, self.problem.span(), self.problem.dtype()) }
    }

    unsafe fn tensor_mut<'a>(self, name: &'static str, to: *mut c_void) -> Outcome<ViewMut<'a>> {
        // SAFETY: promised by the caller.
        unsafe { self.reach.view_mut(name, to, self.problem.span(), self.problem.dtype()) }
    }

    unsafe fn scalar<'a>(self, name: &'static str, from: *const c_void) -> Outcome<Option<View<'a>>> {
        // SAFETY: promised by the caller.
        unsafe { self.optional(name, from, 1, DType::F32) }
    }

    unsafe fn parameter<'a>(self, name: &'static str, from: *const c_void) -> Outcome<Option<View<'a>>> {
        // SAFETY: promised by the caller.
        unsafe { self.optional(name, from, self.problem.cols(), self.problem.param_dtype()) }
    }

    unsafe fn optional<'a>(
        self,
        name: &'static str,
        from: *const c_void,
        len: usize,
        dtype: DType,
    ) -> Outcome<Option<View<'a>>> {
        if from.is_null() {
            return Ok(None);
        }
        // SAFETY: promised by the caller.
        unsafe { self.reach.view(name, from, len, dtype) }.map(Some)
    }

    unsafe fn output<'a>(
        self,
        name: &'static str,
        to: *mut c_void,
        len: usize,
    ) -> Outcome<Option<ViewMut<'a>>> {
        if to.is_null() {
            return Ok(None);
        }
        // SAFETY: promised by the caller.
        unsafe { self.reach.view_mut(name, to, len, DType::F32) }.map(Some)
    }

    unsafe fn workspace<'a>(self, workspace: *mut c_void, bytes: usize) -> Outcome<ViewMut<'a>> {
        if bytes > isize::MAX as usize {
            return Err(Failure::invalid(format!("workspace_bytes is {bytes}, more than memory has")));
        }
        // SAFETY: promised by the caller.
        unsafe { self.reach.view_mut("workspace", workspace, bytes / DType::F32.size(), DType::F32) }
    }
}
