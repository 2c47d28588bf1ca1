//! DyT and Derf: the second where there is a shift.

use dyt::{DType, Op};

use super::operand::Data;
use super::runner::Runner;
use super::stack::Stack;
use super::tensor::{Failure, Tensor};
use crate::call::{BackwardAt, ForwardAt};

const fn op(shift: Option<&Tensor>) -> Op {
    if shift.is_some() { Op::Derf } else { Op::Dyt }
}

/// The address of a tensor, or 0 for none.
///
/// # Errors
/// As [`Tensor::address`].
pub(super) fn address(name: &str, tensor: Option<&Tensor>) -> Result<usize, Failure> {
    tensor.map_or(Ok(0), |tensor| tensor.address(name))
}

/// The schemas, as `dyt/torch/_ops.py` declares them:
///
/// ```text
/// pointwise(Tensor x, Tensor alpha, Tensor? shift, Tensor? weight, Tensor? bias, int dims) -> Tensor y
/// dyt_backward(Tensor dy, Tensor x, Tensor alpha, Tensor? weight, int dims, int mask)
///     -> (Tensor dx, Tensor dalpha, Tensor dweight, Tensor dbias)
/// derf_backward(Tensor dy, Tensor x, Tensor alpha, Tensor shift, Tensor? weight, int dims, int mask)
///     -> (Tensor dx, Tensor dalpha, Tensor dweight, Tensor dbias, Tensor dshift)
/// ```
pub(super) fn forward(stack: &Stack) -> Result<[Tensor; 1], Failure> {
    let (x, alpha, shift) = (stack.tensor(0), stack.tensor(1), stack.optional(2));
    let (weight, bias, dims) = (stack.optional(3), stack.optional(4), stack.int(5));
    let data = Data::new(x, dims)?;
    let alpha = data.scalar("alpha", alpha)?;
    let shift = shift.map(|shift| data.scalar("shift", shift)).transpose()?;
    let (param, weight, bias) = data.parameters(weight, bias)?;
    let problem = data.problem(op(shift.as_ref()), param, None, false, 0.0)?;
    let runner = Runner::at(data.place)?;
    let y = data.like()?;
    let at = ForwardAt {
        x: data.x.address("x")?,
        alpha: alpha.address("alpha")?,
        shift: address("shift", shift.as_ref())?,
        gamma: address("weight", weight.as_ref())?,
        beta: address("bias", bias.as_ref())?,
        y: y.address("y")?,
        ..ForwardAt::default()
    };
    // SAFETY: the shapes were compared with x's, and torch's allocator keeps the memory for the stream.
    unsafe { runner.forward(&problem, &at)? };
    Ok([y])
}

/// Which gradients a backward is asked for, by the bits of the op's argument `mask`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask(pub(super) i64);

impl Mask {
    /// A new tensor where the bit is set, or else one without elements.
    ///
    /// # Errors
    /// Torch has no memory.
    pub(super) fn gradient(
        self,
        bit: u32,
        data: &Data,
        make: impl FnOnce() -> Result<Tensor, Failure>,
    ) -> Result<Tensor, Failure> {
        if self.has(bit) { make() } else { Tensor::contiguous(&[0], DType::F32, data.place) }
    }
    const fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }
    /// The address of the gradient of that bit, or 0.
    ///
    /// # Errors
    /// As [`Tensor::address`].
    pub(super) fn address(self, bit: u32, gradient: &Tensor) -> Result<usize, Failure> {
        if self.has(bit) { gradient.address("a gradient") } else { Ok(0) }
    }
}

/// The gradients of a pointwise op.
struct Gradients {
    dx: Tensor,
    dalpha: Tensor,
    dshift: Option<Tensor>,
    dweight: Tensor,
    dbias: Tensor,
}

/// As [`forward`].
pub(super) fn dyt_backward(stack: &Stack) -> Result<[Tensor; 4], Failure> {
    let (dy, x, alpha) = (stack.tensor(0), stack.tensor(1), stack.tensor(2));
    let (weight, dims, mask) = (stack.optional(3), stack.int(4), stack.int(5));
    let Gradients { dx, dalpha, dweight, dbias, .. } =
        gradients(dy, x, alpha, None, weight, dims, Mask(mask))?;
    Ok([dx, dalpha, dweight, dbias])
}

/// As [`forward`].
pub(super) fn derf_backward(stack: &Stack) -> Result<[Tensor; 5], Failure> {
    let (dy, x, alpha, shift) = (stack.tensor(0), stack.tensor(1), stack.tensor(2), stack.tensor(3));
    let (weight, dims, mask) = (stack.optional(4), stack.int(5), stack.int(6));
    let gradients = gradients(dy, x, alpha, Some(shift), weight, dims, Mask(mask))?;
    let Gradients { dx, dalpha, dshift, dweight, dbias } = gradients;
    let dshift = dshift.ok_or("dyt: Derf without a shift")?;
    Ok([dx, dalpha, dweight, dbias, dshift])
}

fn gradients(
    dy: Tensor,
    x: Tensor,
    alpha: Tensor,
    shift: Option<Tensor>,
    weight: Option<Tensor>,
    dims: i64,
    mask: Mask,
) -> Result<Gradients, Failure> {
    let data = Data::new(x, dims)?;
    let dy = data.beside("dy", dy)?;
    let alpha = data.scalar("alpha", alpha)?;
    let shift = shift.map(|shift| data.scalar("shift", shift)).transpose()?;
    let (param, weight, _) = data.parameters(weight, None)?;
    let problem = data.problem(op(shift.as_ref()), param, None, false, 0.0)?;
    let runner = Runner::at(data.place)?;
    let single =
        |bit, sizes: &[i64]| mask.gradient(bit, &data, || Tensor::contiguous(sizes, DType::F32, data.place));
    let dx = mask.gradient(0, &data, || data.like())?;
    let dalpha = single(1, alpha.sizes()?)?;
    let (dweight, dbias) = (single(2, data.shape()?)?, single(3, data.shape()?)?);
    let dshift = shift.as_ref().map(|shift| single(4, shift.sizes()?)).transpose()?;
    let at = BackwardAt {
        dy: dy.address("dy")?,
        x: data.x.address("x")?,
        alpha: alpha.address("alpha")?,
        shift: address("shift", shift.as_ref())?,
        gamma: address("weight", weight.as_ref())?,
        dx: mask.address(0, &dx)?,
        dalpha: mask.address(1, &dalpha)?,
        dgamma: mask.address(2, &dweight)?,
        dbeta: mask.address(3, &dbias)?,
        dshift: dshift.as_ref().map_or(Ok(0), |dshift| mask.address(4, dshift))?,
        ..BackwardAt::default()
    };
    // SAFETY: as in `forward`.
    unsafe { runner.backward(&problem, &at, data.place)? };
    Ok(Gradients { dx, dalpha, dshift, dweight, dbias })
}
