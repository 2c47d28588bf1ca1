//! LayerNorm and RMSNorm.

use dyt::{DType, Op, Problem};

use super::operand::Data;
use super::pointwise::{Mask, address};
use super::runner::Runner;
use super::stack::Stack;
use super::tensor::{Failure, Tensor};
use crate::call::{BackwardAt, ForwardAt};

/// The schemas, as `dyt/torch/_ops.py` declares them; `form` is 0 for LayerNorm, 1 for its unbiased form and 2 for RMSNorm,
/// and `offset` is added to weight:
///
/// ```text
/// norm(Tensor x, Tensor? weight, Tensor? bias, int dims, float eps, int form, float offset) -> Tensor y
/// norm_saving(Tensor x, Tensor? weight, Tensor? bias, int dims, float eps, int form, float offset)
///     -> (Tensor y, Tensor mean, Tensor rstd)
/// norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd, int dims, float eps, int form, float offset,
///     int mask) -> (Tensor dx, Tensor dweight, Tensor dbias)
/// ```
///
/// mean of RMSNorm has no elements.
pub(super) fn forward(stack: &Stack) -> Result<[Tensor; 1], Failure> {
    Ok([Forward::of(stack)?.run(None, None)?])
}

/// The op and whether it is the unbiased form.
fn form(number: i64) -> Result<(Op, bool), Failure> {
    match number {
        0 => Ok((Op::LayerNorm, false)),
        1 => Ok((Op::LayerNorm, true)),
        2 => Ok((Op::RmsNorm, false)),
        _ => Err(format!("dyt: form is {number}, expected 0, 1 or 2")),
    }
}

/// A forward, checked.
#[derive(Debug)]
struct Forward {
    data: Data,
    problem: Problem,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
}

impl Forward {
    fn of(stack: &Stack) -> Result<Self, Failure> {
        let (x, weight, bias) = (stack.tensor(0), stack.optional(1), stack.optional(2));
        let (dims, eps, (op, unbiased)) = (stack.int(3), stack.float(4), form(stack.int(5))?);
        let data = Data::new(x, dims)?;
        let (param, weight, bias) = data.parameters(weight, bias)?;
        let problem = data.problem(op, param, Some(eps), unbiased, stack.float(6))?;
        Ok(Self { data, problem, weight, bias })
    }

    fn run(&self, mean: Option<&Tensor>, rstd: Option<&Tensor>) -> Result<Tensor, Failure> {
        let runner = Runner::at(self.data.place)?;
        let y = self.data.like()?;
        let at = ForwardAt {
            x: self.data.x.address("x")?,
            gamma: address("weight", self.weight.as_ref())?,
            beta: address("bias", self.bias.as_ref())?,
            y: y.address("y")?,
            mean: address("mean", mean)?,
            rstd: address("rstd", rstd)?,
            ..ForwardAt::default()
        };
        // SAFETY: the shapes were compared with x's, and torch's allocator keeps the memory for the stream.
        unsafe { runner.forward(&self.problem, &at)? };
        Ok(y)
    }
}

/// As [`forward`].
pub(super) fn saving(stack: &Stack) -> Result<[Tensor; 3], Failure> {
    let forward = Forward::of(stack)?;
    let has_mean = forward.problem.op().has_mean();
    let rstd = forward.data.statistics()?;
    let mean = if has_mean {
        forward.data.statistics()?
    } else {
        Tensor::contiguous(&[0], DType::F32, forward.data.place)?
    };
    let y = forward.run(has_mean.then_some(&mean), Some(&rstd))?;
    Ok([y, mean, rstd])
}

/// As [`forward`].
pub(super) fn backward(stack: &Stack) -> Result<[Tensor; 3], Failure> {
    let (dy, x, weight) = (stack.tensor(0), stack.tensor(1), stack.optional(2));
    let (mean, rstd, dims) = (stack.tensor(3), stack.tensor(4), stack.int(5));
    let (eps, (op, unbiased), offset) = (stack.float(6), form(stack.int(7))?, stack.float(8));
    let mask = Mask(stack.int(9));
    let data = Data::new(x, dims)?;
    let dy = data.beside("dy", dy)?;
    let (param, weight, _) = data.parameters(weight, None)?;
    let problem = data.problem(op, param, Some(eps), unbiased, offset)?;
    let mean = if op.has_mean() { Some(data.as_statistics("mean", mean)?) } else { None };
    let rstd = data.as_statistics("rstd", rstd)?;
    let runner = Runner::at(data.place)?;
    let single = || Tensor::contiguous(data.shape()?, DType::F32, data.place);
    let dx = mask.gradient(0, &data, || data.like())?;
    let dweight = mask.gradient(1, &data, single)?;
    let dbias = mask.gradient(2, &data, single)?;
    let at = BackwardAt {
        dy: dy.address("dy")?,
        x: data.x.address("x")?,
        gamma: address("weight", weight.as_ref())?,
        mean: address("mean", mean.as_ref())?,
        rstd: rstd.address("rstd")?,
        dx: mask.address(0, &dx)?,
        dgamma: mask.address(1, &dweight)?,
        dbeta: mask.address(2, &dbias)?,
        ..BackwardAt::default()
    };
    // SAFETY: as in `Forward::run`.
    unsafe { runner.backward(&problem, &at, data.place)? };
    Ok([dx, dweight, dbias])
}
