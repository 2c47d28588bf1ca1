//! What the tests of this folder share: random numbers, tensors whose dtype is a value, whole calls.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod arena;
#[cfg(target_arch = "x86_64")]
pub(crate) mod modes;
pub(crate) mod residual;

use core::ptr::NonNull;

use dyt::half::{bf16, f16};
use dyt::{
    Backward, DType, Device, Forward, Level, Op, Pass, Problem, ProblemBuilder, Result, Std, View, ViewMut,
};
use dyt_conformance::staged;

/// Every level of this processor: the devices whose arguments are slices. Those with a memory of their own are held to
/// the conformance cases, and have tests of their own.
pub(crate) fn devices() -> Vec<Device> {
    Level::ALL.into_iter().filter_map(|level| Device::cpu(level).ok()).collect()
}

/// Whether the tests run where each instruction is emulated.
pub(crate) fn quick() -> bool {
    std::env::var_os("DYT_TEST_QUICK").is_some()
}

/// Every op, LayerNorm in both forms, with `rows × cols` values.
pub(crate) fn problems(rows: usize, cols: usize) -> Vec<ProblemBuilder> {
    let unbiased = Problem::new(Op::LayerNorm, rows, cols).std(Std::Unbiased);
    let ops = Op::ALL.into_iter().map(|op| Problem::new(op, rows, cols));
    if cols > 1 { ops.chain([unbiased]).collect() } else { ops.collect() }
}

/// Random numbers as f32.
#[derive(Clone, Debug)]
pub(crate) struct Random(dyt_conformance::Random);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(dyt_conformance::Random::new(seed))
    }
    /// From −1 to 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / 8_388_608.0 - 1.0
    }
    /// Spread like activations: mostly within ±2.5, one of 32 ten times as large.
    pub(crate) fn value(&mut self) -> f32 {
        let sum = self.uniform() + self.uniform() + self.uniform();
        if self.0.below(32) == 0 { 10.0 * sum } else { sum }
    }
    pub(crate) fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
}

/// Elements of a dtype that is a value, at a chosen distance from a cache line's begin.
#[derive(Debug)]
pub(crate) struct Tensor {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    dtype: DType,
}

impl Tensor {
    /// `len` zeros that begin `offset` elements behind a multiple of 64 bytes.
    pub(crate) fn zeros(dtype: DType, len: usize, offset: usize) -> Self {
        let skip = offset * dtype.size();
        let bytes = vec![0; len * dtype.size() + skip + 64];
        let start = bytes.as_ptr().align_offset(64) + skip;
        assert!(start + len * dtype.size() <= bytes.len(), "a byte pointer can be aligned to 64");
        Self { bytes, start, len, dtype }
    }
    /// The values, rounded to `dtype`.
    pub(crate) fn new(dtype: DType, values: &[f32], offset: usize) -> Self {
        let mut tensor = Self::zeros(dtype, values.len(), offset);
        for (bytes, &value) in tensor.bits_mut().chunks_exact_mut(dtype.size()).zip(values) {
            match dtype {
                DType::F32 => bytes.copy_from_slice(&value.to_ne_bytes()),
                DType::F16 => bytes.copy_from_slice(&f16::from_f32(value).to_ne_bytes()),
                DType::Bf16 => bytes.copy_from_slice(&bf16::from_f32(value).to_ne_bytes()),
                DType::Quant(quant) => unreachable!("no test reads {quant}"),
            }
        }
        tensor
    }
    /// The same values as f32.
    pub(crate) fn widened(&self) -> Self {
        let wide = |bytes: &[u8]| match (self.dtype, bytes) {
            (DType::F32, &[a, b, c, d]) => f32::from_ne_bytes([a, b, c, d]),
            (DType::F16, &[a, b]) => f16::from_ne_bytes([a, b]).to_f32(),
            (DType::Bf16, &[a, b]) => bf16::from_ne_bytes([a, b]).to_f32(),
            (dtype, bytes) => unreachable!("an element of {dtype} has {} bytes", bytes.len()),
        };
        let values: Vec<f32> = self.bits().chunks_exact(self.dtype.size()).map(wide).collect();
        Self::new(DType::F32, &values, 0)
    }
    /// The same elements elsewhere.
    pub(crate) fn moved(&self, offset: usize) -> Self {
        self.part(0, self.len, offset)
    }
    /// A copy of `len` elements from element `from` on.
    pub(crate) fn part(&self, from: usize, len: usize, offset: usize) -> Self {
        let (mut part, size) = (Self::zeros(self.dtype, len, offset), self.dtype.size());
        part.bits_mut().copy_from_slice(&self.bits()[from * size..(from + len) * size]);
        part
    }
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len * self.dtype.size()]
    }
    /// Overwrites one element.
    pub(crate) fn set(&mut self, at: usize, bits: &[u8]) {
        let size = self.dtype.size();
        self.bits_mut()[at * size..(at + 1) * size].copy_from_slice(bits);
    }
    /// The elements of an f32 tensor.
    pub(crate) fn f32s(&self) -> Vec<f32> {
        let (values, rest) = self.bits().as_chunks::<4>();
        assert!(self.dtype == DType::F32 && rest.is_empty());
        values.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
    }
    fn bits_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len * self.dtype.size()]
    }
    /// The bits of elements `from` to `from + len`.
    pub(crate) fn bits_of(&self, from: usize, len: usize) -> &[u8] {
        let size = self.dtype.size();
        &self.bits()[from * size..(from + len) * size]
    }
    pub(crate) fn view(&self) -> View<'_> {
        let pointer = NonNull::from(self.bits()).cast();
        // SAFETY: the elements lie in `bits`, which the result borrows, on a multiple of their size.
        unsafe { View::from_raw_parts(pointer, self.len, self.dtype) }
    }
    pub(crate) fn view_mut(&mut self) -> ViewMut<'_> {
        let (len, dtype) = (self.len, self.dtype);
        let pointer = NonNull::from(self.bits_mut()).cast();
        // SAFETY: the elements lie in `bits_mut`, which the result borrows, on a multiple of their size.
        unsafe { ViewMut::from_raw_parts(pointer, len, dtype) }
    }
}

/// What a forward and a backward of one problem read.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) x: Tensor,
    pub(crate) dy: Tensor,
    pub(crate) alpha: f32,
    pub(crate) shift: f32,
    pub(crate) gamma: Option<Tensor>,
    pub(crate) beta: Option<Tensor>,
}

impl Inputs {
    /// Random values for the problem, gaps between rows included.
    pub(crate) fn new(problem: &Problem, seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let (dtype, param) = (problem.dtype(), problem.param_dtype());
        let tensor = |random: &mut Random, span| Tensor::new(dtype, &random.values(span), 0);
        let columns = |random: &mut Random| Some(Tensor::new(param, &random.values(problem.params()), 0));
        Self {
            x: tensor(random, problem.span()),
            dy: tensor(random, problem.y_span()),
            alpha: 0.8,
            shift: -0.3,
            gamma: columns(random),
            beta: columns(random),
        }
    }

    /// The same, each tensor some elements behind a cache line's begin.
    pub(crate) fn moved(&self, [x, dy, gamma, beta]: [usize; 4]) -> Self {
        Self {
            x: self.x.moved(x),
            dy: self.dy.moved(dy),
            gamma: self.gamma.as_ref().map(|tensor| tensor.moved(gamma)),
            beta: self.beta.as_ref().map(|tensor| tensor.moved(beta)),
            ..*self
        }
    }

    /// The arguments of a forward, without statistics.
    pub(crate) fn forward<'a>(&'a self, problem: &Problem, mut arguments: Forward<'a>) -> Forward<'a> {
        arguments.gamma = self.gamma.as_ref().map(Tensor::view);
        arguments.beta = self.beta.as_ref().map(Tensor::view);
        arguments.alpha = problem.op().is_pointwise().then(|| (&self.alpha).into());
        arguments.shift = problem.op().has_shift().then(|| (&self.shift).into());
        arguments
    }

    /// The arguments of a backward, without gradients and statistics.
    pub(crate) fn backward<'a>(&'a self, problem: &Problem, mut arguments: Backward<'a>) -> Backward<'a> {
        arguments.gamma = self.gamma.as_ref().map(Tensor::view);
        arguments.alpha = problem.op().is_pointwise().then(|| (&self.alpha).into());
        arguments.shift = problem.op().has_shift().then(|| (&self.shift).into());
        arguments
    }
}

/// y of a forward from x to a tensor `offset` elements behind a cache line's begin.
pub(crate) fn forward(device: &Device, problem: &Problem, inputs: &Inputs, offset: usize) -> Result<Tensor> {
    let mut y = Tensor::zeros(problem.dtype(), problem.y_span(), offset);
    let arguments = Forward::new(inputs.x.view(), y.view_mut());
    staged::forward(device, problem, inputs.forward(problem, arguments))?;
    Ok(y)
}

/// y of a forward that overwrites x.
pub(crate) fn forward_in_place(device: &Device, problem: &Problem, inputs: &Inputs) -> Result<Tensor> {
    let mut y = inputs.x.moved(0);
    let arguments = Forward::in_place(y.view_mut());
    staged::forward(device, problem, inputs.forward(problem, arguments))?;
    Ok(y)
}

/// Which gradients a backward is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) dx: bool,
    pub(crate) dalpha: bool,
    pub(crate) dshift: bool,
    pub(crate) dgamma: bool,
    pub(crate) dbeta: bool,
}

impl Wanted {
    pub(crate) fn all(problem: &Problem) -> Self {
        let op = problem.op();
        Self { dx: true, dalpha: op.is_pointwise(), dshift: op.has_shift(), dgamma: true, dbeta: true }
    }
}

/// The gradients of a backward; those not asked for hold what they held.
#[derive(Debug)]
pub(crate) struct Gradients {
    pub(crate) dx: Tensor,
    pub(crate) dalpha: f32,
    pub(crate) dshift: f32,
    pub(crate) dgamma: Tensor,
    pub(crate) dbeta: Tensor,
}

impl Gradients {
    /// Parameter gradients begin with values other than 0, so that `accumulate` adds to something.
    pub(crate) fn new(problem: &Problem, offset: usize) -> Self {
        let columns = Tensor::new(DType::F32, &Random::new(7).values(problem.params()), offset);
        Self {
            dx: Tensor::zeros(problem.dtype(), problem.span(), offset),
            dalpha: 0.25,
            dshift: -1.5,
            dgamma: columns.moved(offset),
            dbeta: columns,
        }
    }

    /// Bit for bit the same gradients, as far as `wanted` goes.
    pub(crate) fn same(&self, other: &Self, wanted: Wanted) -> bool {
        (!wanted.dx || self.dx.bits() == other.dx.bits())
            && (!wanted.dalpha || self.dalpha.to_bits() == other.dalpha.to_bits())
            && (!wanted.dshift || self.dshift.to_bits() == other.dshift.to_bits())
            && (!wanted.dgamma || self.dgamma.bits() == other.dgamma.bits())
            && (!wanted.dbeta || self.dbeta.bits() == other.dbeta.bits())
    }

    /// Runs the backward; dx takes dy's place if `in_place`.
    pub(crate) fn run(
        mut self,
        device: &Device,
        problem: &Problem,
        inputs: &Inputs,
        wanted: Wanted,
        in_place: bool,
    ) -> Result<Self> {
        if in_place {
            self.dx = inputs.dy.moved(0);
        }
        let mut arguments = if in_place {
            Backward::of(inputs.x.view()).in_place(self.dx.view_mut())
        } else {
            let arguments = Backward::of(inputs.x.view()).dy(inputs.dy.view());
            if wanted.dx { arguments.dx(self.dx.view_mut()) } else { arguments }
        };
        arguments = inputs.backward(problem, arguments);
        arguments.dalpha = wanted.dalpha.then(|| (&mut self.dalpha).into());
        arguments.dshift = wanted.dshift.then(|| (&mut self.dshift).into());
        arguments.dgamma = wanted.dgamma.then(|| self.dgamma.view_mut());
        arguments.dbeta = wanted.dbeta.then(|| self.dbeta.view_mut());
        if device.level().is_none() {
            staged::backward(device, problem, arguments)?;
            return Ok(self);
        }
        let bytes = device.workspace_bytes(problem, Pass::Backward);
        let mut workspace = vec![f32::NAN; bytes.div_ceil(4)];
        device.backward_with(problem, arguments, &mut workspace)?;
        Ok(self)
    }
}

/// Every gradient, from dy to a dx of its own.
pub(crate) fn backward(device: &Device, problem: &Problem, inputs: &Inputs) -> Result<Gradients> {
    Gradients::new(problem, 0).run(device, problem, inputs, Wanted::all(problem), false)
}
