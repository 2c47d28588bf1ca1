//! The forwards of every op.

use dyt::{DType, Problem, Quant};

use super::arguments::{Call, Options, Parameters};
use super::operand::{Reach, known};
use super::runner::Runner;
use super::stack::Stack;
use super::tensor::{Failure, Tensor, address};
use crate::call::ForwardAt;

/// The schemas, as `dyt/torch/_ops.py` declares them. All begin as the first, and end in the arguments of [`Options`]:
///
/// ```text
/// forward(Tensor x, Tensor? alpha, Tensor? shift, Tensor? weight, Tensor? bias, …) -> Tensor y
/// saving(…, Tensor? residual, …) -> (Tensor y, Tensor sum, Tensor mean, Tensor rstd)
/// quantised(…, Tensor? residual, Tensor? scale, int quant, …) -> (Tensor y, Tensor sum, Tensor scales)
/// ```
///
/// A result that the op does not have has no elements.
pub(super) fn forward(stack: &Stack) -> Result<[Tensor; 1], Failure> {
    let forward = Forward::of(stack, false, 5)?;
    let problem = forward.call.problem()?;
    Ok([forward.run(&problem, forward.call.data.dtype, Outputs::default())?])
}

/// As [`forward`].
pub(super) fn saving(stack: &Stack) -> Result<[Tensor; 4], Failure> {
    let forward = Forward::of(stack, true, 6)?;
    let (problem, data) = (forward.call.problem()?, &forward.call.data);
    let (op, none) = (problem.op(), || Tensor::contiguous(&[0], DType::F32, data.place));
    let mean = if op.has_mean() { data.statistics()? } else { none()? };
    let rstd = if op.is_pointwise() { none()? } else { data.statistics()? };
    let sum = forward.sum()?;
    let outputs = Outputs {
        sum: address("sum", forward.residual.as_ref().and(Some(&sum)))?,
        mean: address("mean", op.has_mean().then_some(&mean))?,
        rstd: address("rstd", (!op.is_pointwise()).then_some(&rstd))?,
        ..Outputs::default()
    };
    Ok([forward.run(&problem, data.dtype, outputs)?, sum, mean, rstd])
}

/// As [`forward`].
pub(super) fn quantised(stack: &Stack) -> Result<[Tensor; 3], Failure> {
    let (scale, quant) = (stack.optional(6), stack.int(7));
    let forward = Forward::of(stack, true, 8)?;
    let data = &forward.call.data;
    let quant = usize::try_from(quant).ok().and_then(|at| Quant::ALL.get(at).copied());
    let quant = quant.ok_or("dyt: quant is expected to be 0, 1 or 2")?;
    let problem = forward.call.quantised(quant)?;
    let scale = scale.map(|scale| data.scalar("scale", scale)).transpose()?;
    let scales = match scale {
        Some(_) => Tensor::contiguous(&[0], DType::F32, data.place)?,
        None => data.statistics()?,
    };
    let sum = forward.sum()?;
    let outputs = Outputs {
        sum: address("sum", forward.residual.as_ref().and(Some(&sum)))?,
        scale: address("scale", scale.as_ref())?,
        scales: address("scales", scale.is_none().then_some(&scales))?,
        ..Outputs::default()
    };
    Ok([forward.run(&problem, DType::Quant(quant), outputs)?, sum, scales])
}

/// Where a forward writes beside y, and its scale; 0 for what is absent.
#[derive(Clone, Copy, Debug, Default)]
struct Outputs {
    sum: usize,
    mean: usize,
    rstd: usize,
    scale: usize,
    scales: usize,
}

/// A forward, checked.
#[derive(Debug)]
struct Forward {
    call: Call,
    residual: Option<Tensor>,
}

impl Forward {
    /// The options begin at that place. Every tensor is taken before anything can fail.
    fn of(stack: &Stack, has_residual: bool, options: usize) -> Result<Self, Failure> {
        let x = stack.tensor(0);
        let parameters = Parameters {
            alpha: stack.optional(1),
            shift: stack.optional(2),
            weight: stack.optional(3),
            bias: stack.optional(4),
        };
        let residual = if has_residual { stack.optional(5) } else { None };
        let reach = if residual.is_some() { Reach::SideBySide } else { Reach::Any };
        let call = Call::new(x, parameters, Options::at(stack, options), reach)?;
        if let Some(residual) = &residual {
            call.data.here("residual", residual)?;
            let (actual, expected) = (known("residual", residual)?, call.data.dtype);
            if actual != expected {
                return Err(format!("dyt: residual is {}, expected x's {}", name(actual), name(expected)));
            }
        }
        let residual = residual.map(|residual| call.data.beside_x("residual", residual)).transpose()?;
        Ok(Self { call, residual })
    }

    /// A new sum, without elements where there is no residual.
    fn sum(&self) -> Result<Tensor, Failure> {
        let data = &self.call.data;
        if self.residual.is_some() { data.like_x() } else { Tensor::contiguous(&[0], data.dtype, data.place) }
    }

    fn run(&self, problem: &Problem, dtype: DType, outputs: Outputs) -> Result<Tensor, Failure> {
        let Self { call, residual } = self;
        let runner = Runner::at(call.data.place)?;
        let y = call.data.like_y(dtype)?;
        let at = ForwardAt {
            x: call.data.x.address("x")?,
            residual: address("residual", residual.as_ref())?,
            alpha: address("alpha", call.alpha.as_ref())?,
            shift: address("shift", call.shift.as_ref())?,
            gamma: address("weight", call.weight.as_ref())?,
            beta: address("bias", call.bias.as_ref())?,
            y: y.address("y")?,
            sum: outputs.sum,
            mean: outputs.mean,
            rstd: outputs.rstd,
            scale: outputs.scale,
            scales: outputs.scales,
        };
        // Tensors without elements have no address, which would be absence.
        if problem.elements() > 0 {
            // SAFETY: the shapes were compared with x's, and torch's allocator keeps the memory for the stream.
            unsafe { runner.forward(problem, &at)? };
        }
        Ok(y)
    }
}

/// torch's name of a dtype of x.
const fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::Bf16 => "bfloat16",
        DType::Quant(quant) => quant.name(),
    }
}
