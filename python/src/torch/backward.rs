//! The backward of every op.

use dyt::DType;

use super::arguments::{Call, Options, Parameters};
use super::operand::{Data, Reach};
use super::runner::Runner;
use super::stack::Stack;
use super::tensor::{Failure, Tensor, address};
use crate::call::BackwardAt;

/// The schema, as `dyt/torch/_ops.py` declares it:
///
/// ```text
/// backward(Tensor dy, Tensor x, Tensor? alpha, Tensor? shift, Tensor? weight, Tensor? mean, Tensor? rstd, Tensor? dsum,
///     int mask, …) -> (Tensor dx, Tensor dalpha, Tensor dshift, Tensor dweight, Tensor dbias)
/// ```
///
/// It ends in the arguments of [`Options`].
///
/// The bits of `mask` are the results that are wanted, in their order. Another result has no elements.
pub(super) fn backward(stack: &Stack) -> Result<[Tensor; 5], Failure> {
    let (dy, x) = (stack.tensor(0), stack.tensor(1));
    let (alpha, shift, weight) = (stack.optional(2), stack.optional(3), stack.optional(4));
    let (mean, rstd, dsum) = (stack.optional(5), stack.optional(6), stack.optional(7));
    let mask = Mask(stack.int(8));
    let parameters = Parameters { alpha, shift, weight, bias: None };
    let call = Call::new(x, parameters, Options::at(stack, 9), Reach::Gradient)?;
    let (problem, data) = (call.problem()?, &call.data);
    let dy = data.beside_y("dy", dy)?;
    let dsum = dsum.map(|dsum| data.beside_x("dsum", dsum)).transpose()?;
    let statistics = |name: &str, tensor: Option<Tensor>| {
        tensor.map(|tensor| data.as_statistics(name, tensor)).transpose()
    };
    let (mean, rstd) = (statistics("mean", mean)?, statistics("rstd", rstd)?);

    let runner = Runner::at(data.place)?;
    let like = |tensor: &Option<Tensor>| match tensor {
        Some(tensor) => Tensor::contiguous(tensor.sizes()?, DType::F32, data.place),
        None => Err("dyt: mask asks for a gradient of a parameter that is absent".to_owned()),
    };
    let vector = || Tensor::contiguous(&data.shape()?, DType::F32, data.place);
    let dx = mask.gradient(0, data, || data.like_x())?;
    let dalpha = mask.gradient(1, data, || like(&call.alpha))?;
    let dshift = mask.gradient(2, data, || like(&call.shift))?;
    let (dweight, dbias) = (mask.gradient(3, data, vector)?, mask.gradient(4, data, vector)?);
    let at = BackwardAt {
        dy: dy.address("dy")?,
        x: data.x.address("x")?,
        dsum: address("dsum", dsum.as_ref().filter(|_| mask.has(0)))?,
        alpha: address("alpha", call.alpha.as_ref())?,
        shift: address("shift", call.shift.as_ref())?,
        gamma: address("weight", call.weight.as_ref())?,
        mean: address("mean", mean.as_ref())?,
        rstd: address("rstd", rstd.as_ref())?,
        dx: mask.address(0, &dx)?,
        dalpha: mask.address(1, &dalpha)?,
        dshift: mask.address(2, &dshift)?,
        dgamma: mask.address(3, &dweight)?,
        dbeta: mask.address(4, &dbias)?,
    };
    // SAFETY: the shapes were compared with x's, and torch's allocator keeps the memory for the stream.
    unsafe { runner.backward(&problem, &at, data.place)? };
    Ok([dx, dalpha, dshift, dweight, dbias])
}

/// Which gradients a backward is asked for, by the bits of the op's argument `mask`.
#[derive(Clone, Copy, Debug)]
struct Mask(i64);

impl Mask {
    /// A new tensor where the bit is set, or else one without elements.
    fn gradient(
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
    fn address(self, bit: u32, gradient: &Tensor) -> Result<usize, Failure> {
        if self.has(bit) { gradient.address("a gradient") } else { Ok(0) }
    }
}
