//! The ops.

use core::ffi::{c_int, c_void};

use dyt::{Backward, DType, Forward, Pass, Problem, View, ViewMut};

use crate::abi::{dyt_backward_args, dyt_forward_args, dyt_problem};
use crate::devices::{device, dyt_device};
use crate::memory::Memory;
use crate::problem::{Sized32, pass, problem, problem_and_scaling, read, reserved};
use crate::status::{Failure, Outcome, guard};
use crate::stream::{Current, Stream};

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

/// The most that |y| of DyT and Derf is, whatever x: the largest |gamma + gamma_offset| + |beta| of a column. *bound / the largest
/// value of a dyt_quant is a scale with which y never saturates; a bound of 0 stands for a scale of 1. gamma and beta are host
/// pointers to cols of param_dtype, or NULL, which means 1 and 0. For the norms it is DYT_INVALID_ARGUMENT. On failure *bound is
/// not written.
///
/// # Safety
/// problem has the bytes that its size says; gamma and beta are NULL or have cols elements; bound is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_bound(
    problem: *const dyt_problem,
    gamma: *const c_void,
    beta: *const c_void,
    bound: *mut f32,
) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let problem = unsafe { self::problem(problem) }?;
        if bound.is_null() {
            return Err(Failure::null("bound"));
        }
        let view = |from: *const c_void| {
            let from = core::ptr::NonNull::new(from.cast_mut().cast())?;
            // SAFETY: by the contract.
            Some(unsafe { View::from_raw_parts(from, problem.params(), problem.param_dtype()) })
        };
        let value = problem.bound(view(gamma), view(beta))?;
        // SAFETY: it is not NULL, and the caller's to write.
        unsafe { bound.write(value) };
        Ok(())
    })
}

/// Runs a forward: y, and the statistics that are asked for. Nothing is allocated or kept.
///
/// Every pointer is one into the device's memory: on the CPU any host pointer that is aligned for its elements, on CUDA
/// any device pointer, on wgpu a handle of dyt_alloc, at whose beginning the argument begins. y may be x or residual
/// itself, and so may sum, where y is another; no other overlap is allowed. workspace has at least the bytes of dyt_workspace_size, and may be NULL if those are 0. On
/// the CPU the call has done its work when it returns, and stream is ignored. On a GPU it has enqueued it; on CUDA
/// stream is a CUstream, NULL for the device's own, and on wgpu it is NULL. On failure no output has been written.
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
    // SAFETY: by the contract.
    unsafe { call(device, problem, args, workspace, workspace_bytes, stream) }
}

/// Runs a backward: the gradients that are asked for. Nothing is allocated or kept.
///
/// dx may be dy or dsum itself; no other overlap is allowed. The rest is as dyt_forward has it. alpha and shift are read when
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
    // SAFETY: by the contract.
    unsafe { call(device, problem, args, workspace, workspace_bytes, stream) }
}

/// The buffers of one direction.
trait Arguments: Sized32 {
    const PASS: Pass;

    fn reserved(&self) -> u32;

    /// Every pointer among them.
    fn pointers(&self) -> impl Iterator<Item = *const c_void>;

    /// Runs the direction.
    ///
    /// # Safety
    /// Every pointer is NULL, or means the elements that the problem says, until the work is done.
    unsafe fn run(&self, buffers: Buffers<'_>, workspace: ViewMut<'_>, stream: Stream<'_>) -> Outcome;
}

/// What the two directions share.
///
/// # Safety
/// As `dyt_forward`.
unsafe fn call<A: Arguments>(
    device: *const dyt_device,
    problem: *const dyt_problem,
    args: *const A,
    workspace: *mut c_void,
    workspace_bytes: usize,
    stream: *mut c_void,
) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let (device, (problem, dynamic), args) =
            unsafe { (self::device(device)?, problem_and_scaling(problem)?, read(args)?) };
        reserved(A::NAME, "reserved", args.reserved())?;
        let stream = Stream::of(device.device(), stream)?;
        let memory = device.memory(args.pointers().chain([workspace.cast_const()]));
        let buffers = Buffers { memory: &memory, problem, dynamic };
        // SAFETY: by the contract.
        let workspace = unsafe { buffers.workspace(workspace, workspace_bytes)? };
        let needed = device.device().workspace_bytes(&problem, A::PASS);
        let actual = workspace.len() * DType::F32.size();
        if actual < needed {
            return Err(dyt::Error::WorkspaceTooSmall { needed, actual }.into());
        }
        let _current = Current::of(device.device());
        // SAFETY: by the contract.
        unsafe { args.run(buffers, workspace, stream) }
    })
}

// SAFETY: integers and pointers, `size` first.
unsafe impl Sized32 for dyt_forward_args {
    const NAME: &'static str = "dyt_forward_args";
    const LEAST: usize = core::mem::offset_of!(Self, residual);
}

impl Arguments for dyt_forward_args {
    const PASS: Pass = Pass::Forward;

    fn reserved(&self) -> u32 {
        self.reserved
    }

    fn pointers(&self) -> impl Iterator<Item = *const c_void> {
        let Self { x, alpha, shift, gamma, beta, y, mean, rstd, residual, sum, scale, .. } = *self;
        [x, alpha, shift, gamma, beta, y, mean, rstd, residual, sum, scale].into_iter()
    }

    unsafe fn run(&self, buffers: Buffers<'_>, _workspace: ViewMut<'_>, stream: Stream<'_>) -> Outcome {
        let statistics = buffers.problem.statistics();
        // SAFETY: promised by the caller, for each.
        unsafe {
            let mut forward = Forward::new(buffers.tensor("x", self.x)?, buffers.y_mut("y", self.y)?);
            if !self.residual.is_null() {
                forward = forward.residual(buffers.tensor("residual", self.residual)?);
            }
            if !self.sum.is_null() {
                forward = forward.sum(buffers.tensor_mut("sum", self.sum)?);
            }
            forward.alpha = buffers.scalar("alpha", self.alpha)?;
            forward.shift = buffers.scalar("shift", self.shift)?;
            forward.gamma = buffers.parameter("gamma", self.gamma)?;
            forward.beta = buffers.parameter("beta", self.beta)?;
            forward.mean = buffers.output("mean", self.mean, statistics)?;
            forward.rstd = buffers.output("rstd", self.rstd, statistics)?;
            if buffers.dynamic {
                forward.scales = buffers.output("scale", self.scale, statistics)?;
            } else {
                forward.scale = buffers.scalar("scale", self.scale)?;
            }
            Ok(stream.forward(&buffers.problem, forward)?)
        }
    }
}

// SAFETY: as above.
unsafe impl Sized32 for dyt_backward_args {
    const NAME: &'static str = "dyt_backward_args";
    const LEAST: usize = core::mem::offset_of!(Self, dsum);
}

impl Arguments for dyt_backward_args {
    const PASS: Pass = Pass::Backward;

    fn reserved(&self) -> u32 {
        self.reserved
    }

    fn pointers(&self) -> impl Iterator<Item = *const c_void> {
        let Self { dy, x, alpha, shift, gamma, mean, rstd, dx, dalpha, dshift, dgamma, dbeta, .. } = *self;
        [dy, x, alpha, shift, gamma, mean, rstd, dx, dalpha, dshift, dgamma, dbeta, self.dsum].into_iter()
    }

    unsafe fn run(&self, buffers: Buffers<'_>, workspace: ViewMut<'_>, stream: Stream<'_>) -> Outcome {
        let (statistics, params) = (buffers.problem.statistics(), buffers.problem.params());
        // SAFETY: promised by the caller, for each.
        unsafe {
            let mut backward = Backward::of(buffers.tensor("x", self.x)?).dy(buffers.y("dy", self.dy)?);
            if !self.dsum.is_null() {
                backward = backward.dsum(buffers.tensor("dsum", self.dsum)?);
            }
            backward.alpha = buffers.scalar("alpha", self.alpha)?;
            backward.shift = buffers.scalar("shift", self.shift)?;
            backward.gamma = buffers.parameter("gamma", self.gamma)?;
            backward.mean = buffers.optional("mean", self.mean, statistics, DType::F32)?;
            backward.rstd = buffers.optional("rstd", self.rstd, statistics, DType::F32)?;
            if !self.dx.is_null() {
                backward.dx = Some(buffers.tensor_mut("dx", self.dx)?);
            }
            backward.dalpha = buffers.output("dalpha", self.dalpha, 1)?;
            backward.dshift = buffers.output("dshift", self.dshift, 1)?;
            backward.dgamma = buffers.output("dgamma", self.dgamma, params)?;
            backward.dbeta = buffers.output("dbeta", self.dbeta, params)?;
            Ok(stream.backward(&buffers.problem, backward, workspace)?)
        }
    }
}

/// Makes views of the caller's pointers, as long as the problem says. Lengths are those without the gap behind the last
/// row, which is never touched. What each method needs is what [`Arguments::run`] promises.
#[derive(Clone, Copy, Debug)]
struct Buffers<'a> {
    memory: &'a Memory,
    problem: Problem,
    /// Whether the rows of a quantised y have scales of their own.
    dynamic: bool,
}

impl<'a> Buffers<'a> {
    unsafe fn tensor(self, name: &'static str, from: *const c_void) -> Outcome<View<'a>> {
        // SAFETY: promised by the caller.
        unsafe { self.memory.view(name, from, self.problem.span(), self.problem.dtype()) }
    }

    unsafe fn tensor_mut(self, name: &'static str, to: *mut c_void) -> Outcome<ViewMut<'a>> {
        // SAFETY: promised by the caller.
        unsafe { self.memory.view_mut(name, to, self.problem.span(), self.problem.dtype()) }
    }

    /// A tensor with the strides of y.
    unsafe fn y(self, name: &'static str, from: *const c_void) -> Outcome<View<'a>> {
        // SAFETY: promised by the caller.
        unsafe { self.memory.view(name, from, self.problem.y_span(), self.problem.dtype()) }
    }

    unsafe fn y_mut(self, name: &'static str, to: *mut c_void) -> Outcome<ViewMut<'a>> {
        // SAFETY: promised by the caller.
        unsafe { self.memory.view_mut(name, to, self.problem.y_span(), self.problem.y_dtype()) }
    }

    unsafe fn scalar(self, name: &'static str, from: *const c_void) -> Outcome<Option<View<'a>>> {
        // SAFETY: promised by the caller.
        unsafe { self.optional(name, from, 1, DType::F32) }
    }

    unsafe fn parameter(self, name: &'static str, from: *const c_void) -> Outcome<Option<View<'a>>> {
        // SAFETY: promised by the caller.
        unsafe { self.optional(name, from, self.problem.params(), self.problem.param_dtype()) }
    }

    unsafe fn optional(
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
        unsafe { self.memory.view(name, from, len, dtype) }.map(Some)
    }

    unsafe fn output(self, name: &'static str, to: *mut c_void, len: usize) -> Outcome<Option<ViewMut<'a>>> {
        if to.is_null() {
            return Ok(None);
        }
        // SAFETY: promised by the caller.
        unsafe { self.memory.view_mut(name, to, len, DType::F32) }.map(Some)
    }

    unsafe fn workspace(self, workspace: *mut c_void, bytes: usize) -> Outcome<ViewMut<'a>> {
        if bytes > isize::MAX as usize {
            return Err(Failure::invalid(format!("workspace_bytes is {bytes}, more than memory has")));
        }
        // SAFETY: promised by the caller.
        unsafe { self.memory.view_mut("workspace", workspace, bytes / DType::F32.size(), DType::F32) }
    }
}
