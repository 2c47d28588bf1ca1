//! The forward and the backward of an XLA call: one kernel call for each group.
//!
//! vmap makes groups where parameters, or their gradients, differ along the axis that it maps: the leading dimensions of
//! x. A parameter either has them too, or is the same for all.

use dyt::{DType, Device, Op, Pass, Problem, Quant, Std};

use super::frame::{Array, Attributes, Call, Failure, product};
use crate::call::{BackwardAt, ForwardAt, Memory};

/// What runs the kernels.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// The call has done its work when it returns.
    Cpu(&'a Device),
    /// The call enqueues its work on the stream.
    #[cfg(feature = "cuda")]
    Cuda(&'a dyt::cuda::CudaKernels, dyt::cuda::cudarc::driver::sys::CUstream),
}

impl Target<'_> {
    fn memory(&self) -> Memory {
        match self {
            Self::Cpu(_) => Memory::Host,
            #[cfg(feature = "cuda")]
            Self::Cuda(kernels, _) => Memory::Cuda(kernels.ordinal()),
        }
    }

    /// # Safety
    /// As [`ForwardAt::arguments`]; on a GPU until the work that is enqueued has ended.
    unsafe fn forward(&self, problem: &Problem, at: &ForwardAt) -> Result<(), dyt::Error> {
        // SAFETY: the caller's promise.
        let arguments = unsafe { at.arguments(problem, self.memory()) };
        match self {
            Self::Cpu(device) => device.forward(problem, arguments),
            #[cfg(feature = "cuda")]
            // SAFETY: XLA's stream orders all that touches the buffers of a call.
            Self::Cuda(kernels, stream) => unsafe { kernels.forward_on(*stream, problem, arguments) },
        }
    }

    /// # Safety
    /// As [`Self::forward`], by [`BackwardAt::arguments`]; the workspace has `words` of f32.
    unsafe fn backward(
        &self,
        problem: &Problem,
        at: &BackwardAt,
        workspace: usize,
        words: usize,
    ) -> Result<(), dyt::Error> {
        // SAFETY: the caller's promise.
        let (arguments, workspace) = unsafe {
            (at.arguments(problem, self.memory()), self.memory().view_mut(workspace, words, DType::F32))
        };
        match self {
            Self::Cpu(device) => device.backward_with(problem, arguments, workspace),
            #[cfg(feature = "cuda")]
            // SAFETY: as in `forward`.
            Self::Cuda(kernels, stream) => unsafe {
                kernels.backward_on(*stream, problem, arguments, workspace)
            },
        }
    }
}

/// What the call was compiled with.
#[derive(Debug)]
struct Options {
    op: Op,
    std: Std,
    eps: f32,
    /// What is added to weight.
    offset: f32,
    /// The dimension of x that parameters run along.
    axis: usize,
    /// How many leading dimensions of x are groups.
    groups: usize,
    weight: bool,
    bias: bool,
    /// Whether the forward saves the statistics, and the backward takes them.
    statistics: bool,
    /// Whether the forward adds a residual, and the backward the gradient of the sum.
    residual: bool,
    /// What the forward quantises y to.
    quant: Option<Quant>,
    /// Whether its scale is given.
    scale: bool,
}

impl Options {
    fn of(attributes: &Attributes<'_>) -> Result<Self, Failure> {
        let name = attributes.string("op")?;
        let op = Op::ALL.into_iter().find(|op| op.name().as_bytes() == name);
        let (quant, all) = (attributes.string("quant")?, Quant::ALL);
        Ok(Self {
            op: op.ok_or_else(|| Failure::internal("an op that is not known"))?,
            std: if attributes.flag("unbiased")? { Std::Unbiased } else { Std::Biased },
            eps: attributes.float("eps")?,
            offset: attributes.float("offset")?,
            axis: attributes.number("axis")?,
            groups: attributes.number("groups")?,
            weight: attributes.flag("weight")?,
            bias: attributes.flag("bias")?,
            statistics: attributes.flag("statistics")?,
            residual: attributes.flag("residual")?,
            quant: all.into_iter().find(|one| one.name().as_bytes() == quant),
            scale: attributes.flag("scale")?,
        })
    }

    fn has_mean(&self) -> bool {
        self.statistics && self.op.has_mean()
    }
    fn has_rstd(&self) -> bool {
        self.statistics && !self.op.is_pointwise()
    }
}

/// The problem of each group, and how many there are.
#[derive(Debug)]
struct Plan {
    problem: Problem,
    groups: usize,
}

impl Plan {
    fn of(options: &Options, x: &Array<'_>, parameter: Option<Array<'_>>) -> Result<Self, Failure> {
        let (axis, leading, dims) = (options.axis, options.groups, x.dims);
        if leading > axis || axis >= dims.len() {
            let rank = dims.len();
            return Err(Failure::internal(format_args!("axis {axis} after {leading} groups in rank {rank}")));
        }
        let dtype = x.dtype.filter(|dtype| DType::ALL.contains(dtype));
        let dtype = dtype.ok_or_else(|| Failure::invalid("x is neither float32, float16 nor bfloat16"))?;
        let (mut rows, mut inner) = (product(&dims[leading..axis]), product(&dims[axis + 1..]));
        if inner == 0 {
            // No element at all: to the kernels a problem without rows.
            (rows, inner) = (0, 1);
        }
        let mut problem = Problem::new(options.op, rows, product(&dims[axis..=axis]))
            .dtype(dtype)
            .param_dtype(parameter.and_then(|parameter| parameter.dtype).unwrap_or(dtype))
            .inner(inner)
            .std(options.std)
            .eps(options.eps)
            .gamma_offset(options.offset);
        if let Some(quant) = options.quant {
            problem = problem.quant(quant);
        }
        Ok(Self { problem: problem.build()?, groups: product(&dims[..leading]) })
    }

    /// An array that has `len` elements for each group.
    fn each(&self, name: &str, array: &Array<'_>, len: usize, dtype: DType) -> Result<Part, Failure> {
        check(name, array, len * self.groups, dtype)?;
        Ok(Part { address: array.address, step: len * dtype.size() })
    }

    /// x, dy or dx.
    fn tensor(&self, name: &str, array: &Array<'_>) -> Result<Part, Failure> {
        self.each(name, array, self.problem.elements(), self.problem.dtype())
    }

    /// residual, sum or dsum, if it is there.
    fn beside(&self, name: &str, array: Option<Array<'_>>) -> Result<Part, Failure> {
        // Arrays without elements may have no address, which would be absence.
        let array = array.filter(|_| self.problem.elements() > 0);
        array.map_or(Ok(Part::default()), |array| self.tensor(name, &array))
    }

    /// A result in f32 or a saved statistic, if it is there.
    fn float(&self, name: &str, array: Option<Array<'_>>, len: usize) -> Result<Part, Failure> {
        array.map_or(Ok(Part::default()), |array| self.each(name, &array, len, DType::F32))
    }

    /// A parameter, if it is there: of each group, or one for all.
    fn parameter(
        &self,
        name: &str,
        array: Option<Array<'_>>,
        len: usize,
        dtype: DType,
    ) -> Result<Part, Failure> {
        match array {
            None => Ok(Part::default()),
            Some(array) if array.dims.len() > 1 => self.each(name, &array, len, dtype),
            Some(array) => {
                check(name, &array, len, dtype)?;
                Ok(Part { address: array.address, step: 0 })
            }
        }
    }

    /// alpha or shift.
    fn scalar(&self, name: &str, array: Option<Array<'_>>) -> Result<Part, Failure> {
        self.parameter(name, array, 1, DType::F32)
    }

    /// weight or bias.
    fn vector(&self, name: &str, array: Option<Array<'_>>) -> Result<Part, Failure> {
        self.parameter(name, array, self.problem.cols(), self.problem.param_dtype())
    }
}

fn check(name: &str, array: &Array<'_>, len: usize, dtype: DType) -> Result<(), Failure> {
    if array.dtype == Some(dtype) && array.len() == len {
        return Ok(());
    }
    let dims = array.dims;
    Err(Failure::invalid(format_args!(
        "{name} of the shape {dims:?} does not hold {len} elements of {dtype}"
    )))
}

/// Where the elements of each group are; the address 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    address: usize,
    /// Bytes from a group's elements to the next one's.
    step: usize,
}

impl Part {
    fn at(self, group: usize) -> usize {
        self.address + group * self.step
    }
}

/// (x, alpha?, shift?, weight?, bias?, residual?, scale?) → (y, sum?, mean?, rstd?, scales?).
///
/// # Safety
/// XLA made the call, and its buffers are in the memory of the target.
pub(super) unsafe fn forward(mut call: Call<'_>, target: &Target<'_>) -> Result<(), Failure> {
    let options = Options::of(&call.attributes)?;
    let (arguments, results) = (&mut call.arguments, &mut call.results);
    let x = arguments.next()?;
    let alpha = arguments.next_if(options.op.is_pointwise())?;
    let shift = arguments.next_if(options.op.has_shift())?;
    let weight = arguments.next_if(options.weight)?;
    let bias = arguments.next_if(options.bias)?;
    let residual = arguments.next_if(options.residual)?;
    let scale = arguments.next_if(options.scale)?;

    let plan = Plan::of(&options, &x, weight.or(bias))?;
    let statistics = plan.problem.statistics();
    let x = plan.tensor("x", &x)?;
    let (alpha, shift) = (plan.scalar("alpha", alpha)?, plan.scalar("shift", shift)?);
    let (gamma, beta) = (plan.vector("weight", weight)?, plan.vector("bias", bias)?);
    let (residual, scale) = (plan.beside("residual", residual)?, plan.scalar("scale", scale)?);
    let y = plan.each("y", &results.next()?, plan.problem.elements(), plan.problem.y_dtype())?;
    let sum = plan.beside("sum", results.next_if(options.residual)?)?;
    let mean = plan.float("mean", results.next_if(options.has_mean())?, statistics)?;
    let rstd = plan.float("rstd", results.next_if(options.has_rstd())?, statistics)?;
    let scales = results.next_if(options.quant.is_some() && !options.scale)?;
    let scales = plan.float("scales", scales, statistics)?;
    let groups = if plan.problem.elements() == 0 { 0 } else { plan.groups };
    for group in 0..groups {
        let at = |part: Part| part.at(group);
        let (x, alpha, shift, residual) = (at(x), at(alpha), at(shift), at(residual));
        let (gamma, beta, y, mean, rstd) = (at(gamma), at(beta), at(y), at(mean), at(rstd));
        let (sum, scale, scales) = (at(sum), at(scale), at(scales));
        let at = ForwardAt { x, residual, alpha, shift, gamma, beta, y, sum, mean, rstd, scale, scales };
        // SAFETY: each array was compared with what the problem says; the rest is the caller's promise.
        unsafe { target.forward(&plan.problem, &at)? };
    }
    Ok(())
}

/// (dy, x, alpha?, shift?, weight?, mean?, rstd?, dsum?) → (dx, dalpha?, dshift?, dweight?, dbias?, workspace).
///
/// # Safety
/// As [`forward`].
pub(super) unsafe fn backward(mut call: Call<'_>, target: &Target<'_>) -> Result<(), Failure> {
    let options = Options::of(&call.attributes)?;
    let (arguments, results) = (&mut call.arguments, &mut call.results);
    let (dy, x) = (arguments.next()?, arguments.next()?);
    let alpha = arguments.next_if(options.op.is_pointwise())?;
    let shift = arguments.next_if(options.op.has_shift())?;
    let weight = arguments.next_if(options.weight)?;

    let plan = Plan::of(&options, &x, weight)?;
    let (statistics, cols) = (plan.problem.statistics(), plan.problem.cols());
    let (dy, x) = (plan.tensor("dy", &dy)?, plan.tensor("x", &x)?);
    let (alpha, shift) = (plan.scalar("alpha", alpha)?, plan.scalar("shift", shift)?);
    let gamma = plan.vector("weight", weight)?;
    let mean = plan.float("mean", arguments.next_if(options.has_mean())?, statistics)?;
    let rstd = plan.float("rstd", arguments.next_if(options.has_rstd())?, statistics)?;
    let dsum = plan.beside("dsum", arguments.next_if(options.residual)?)?;

    let dx = plan.tensor("dx", &results.next()?)?;
    let dalpha = plan.float("dalpha", results.next_if(options.op.is_pointwise())?, 1)?;
    let dshift = plan.float("dshift", results.next_if(options.op.has_shift())?, 1)?;
    let dgamma = plan.float("dweight", results.next_if(options.weight)?, cols)?;
    let dbeta = plan.float("dbias", results.next_if(options.bias)?, cols)?;
    let workspace = results.next()?;
    for group in 0..plan.groups {
        let at = |part: Part| part.at(group);
        let (dy, x, alpha, shift, gamma) = (at(dy), at(x), at(alpha), at(shift), at(gamma));
        let (mean, rstd, dx, dalpha, dshift) = (at(mean), at(rstd), at(dx), at(dalpha), at(dshift));
        let (dgamma, dbeta, dsum) = (at(dgamma), at(dbeta), at(dsum));
        let at =
            BackwardAt { dy, x, dsum, alpha, shift, gamma, mean, rstd, dx, dalpha, dshift, dgamma, dbeta };
        // SAFETY: as in `forward`; groups take the workspace in turn.
        unsafe { target.backward(&plan.problem, &at, workspace.address, workspace.len())? };
    }
    Ok(())
}

/// Elements of f32 that the backward of one group needs as its workspace.
pub(super) fn workspace(problem: &Problem, cpu: Option<&Device>) -> usize {
    let bytes = match cpu {
        Some(device) => device.workspace_bytes(problem, Pass::Backward),
        #[cfg(feature = "cuda")]
        None => dyt::cuda::plan::workspace_bytes(problem, Pass::Backward),
        #[cfg(not(feature = "cuda"))]
        None => 0,
    };
    bytes.div_ceil(DType::F32.size())
}
