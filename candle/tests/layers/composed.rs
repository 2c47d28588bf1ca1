//! The ops composed of candle's own, and what tests compare.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use dyt_candle::ops::{self, Affine};
use dyt_candle::{Channels, Gamma, Norm, NormKind, Std};

/// An op with all that it takes; parameters that it does not have are `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    Dyt,
    Derf,
    LayerNorm(Std),
    RmsNorm,
}

pub(crate) const OPS: [Op; 5] =
    [Op::Dyt, Op::Derf, Op::LayerNorm(Std::Biased), Op::LayerNorm(Std::Unbiased), Op::RmsNorm];

/// Every kind of layer.
pub(crate) const KINDS: [NormKind; 5] = [
    NormKind::layer_norm(),
    NormKind::rms_norm(),
    NormKind::rms_norm().with_gamma(Gamma::OnePlusWeight),
    NormKind::dyt(),
    NormKind::derf(),
];

/// A layer whose parameters no graph knows.
pub(crate) fn layer(kind: NormKind, cols: usize, dtype: DType) -> Result<Norm> {
    let scalar = |value: f32| Tensor::new(&[value], &Device::Cpu)?.to_dtype(dtype);
    let made = [
        ("alpha", scalar(0.6)?),
        ("shift", scalar(-0.2)?),
        ("weight", tensor(5, &[cols], dtype)?),
        ("bias", tensor(6, &[cols], dtype)?),
    ];
    let made = made.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    kind.load(cols, VarBuilder::from_tensors(made, dtype, &Device::Cpu))
}

pub(crate) const EPS: f64 = 1e-3;

/// Values in a few units around 0, the same for the same seed.
pub(crate) fn values(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| 3.0 * (next() + next() - 1.0)).collect()
}

pub(crate) fn tensor(seed: u64, shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(values(seed, shape.iter().product()), shape, &Device::Cpu)?.to_dtype(dtype)
}

/// The variables of one case.
pub(crate) struct Case {
    pub(crate) op: Op,
    pub(crate) x: Var,
    pub(crate) alpha: Var,
    pub(crate) shift: Var,
    pub(crate) gamma: Option<Var>,
    pub(crate) beta: Option<Var>,
    pub(crate) offset: f32,
    pub(crate) channels: Channels,
}

impl Case {
    /// Values that f16 and bf16 hold exactly where `dtype` is one of them.
    pub(crate) fn new(op: Op, shape: &[usize], dtype: DType, parameters: DType) -> Result<Self> {
        let cols = shape[shape.len() - 1];
        let var = |t: Tensor| Var::from_tensor(&t);
        Ok(Self {
            op,
            x: var(tensor(1, shape, dtype)?)?,
            alpha: var(Tensor::new(&[0.75_f32], &Device::Cpu)?)?,
            shift: var(Tensor::new(&[-0.125_f32], &Device::Cpu)?)?,
            gamma: Some(var(tensor(2, &[cols], parameters)?)?),
            beta: Some(var(tensor(3, &[cols], parameters)?)?),
            offset: 0.0,
            channels: Channels::Last,
        })
    }

    /// The same values as f64.
    pub(crate) fn exact(&self) -> Result<Self> {
        self.map(|t| t.to_dtype(DType::F64))
    }

    /// New variables, each made of the tensor of one of these.
    pub(crate) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let map = |v: &Var| Var::from_tensor(&f(v)?);
        Ok(Self {
            op: self.op,
            x: map(&self.x)?,
            alpha: map(&self.alpha)?,
            shift: map(&self.shift)?,
            gamma: self.gamma.as_ref().map(map).transpose()?,
            beta: self.beta.as_ref().map(map).transpose()?,
            offset: self.offset,
            channels: self.channels,
        })
    }

    /// By dyt, of a view of x.
    pub(crate) fn fused(&self, x: &Tensor) -> Result<Tensor> {
        let offset = self.offset;
        let affine = Affine { weight: self.gamma.as_deref(), bias: self.beta.as_deref(), offset };
        match self.op {
            Op::Dyt => ops::dynamic_tanh(x, &self.alpha, affine, self.channels),
            Op::Derf => ops::derf(x, &self.alpha, &self.shift, affine, self.channels),
            Op::LayerNorm(std) => ops::layer_norm(x, affine, EPS, std, self.channels),
            Op::RmsNorm => ops::rms_norm(x, affine, EPS, self.channels),
        }
    }

    /// By candle's own ops, channels last.
    pub(crate) fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let last = x.rank() - 1;
        let cols = x.dim(last)? as f64;
        let normal = match self.op {
            Op::Dyt => x.broadcast_mul(&self.alpha)?.tanh()?,
            Op::Derf => x.broadcast_mul(&self.alpha)?.broadcast_add(&self.shift)?.erf()?,
            Op::LayerNorm(std) => {
                let d = x.broadcast_sub(&x.mean_keepdim(last)?)?;
                let squares = d.sqr()?.sum_keepdim(last)?;
                let scale = match std {
                    Std::Biased => ((squares / cols)? + EPS)?.sqrt()?,
                    Std::Unbiased => ((squares / (cols - 1.0))?.sqrt()? + EPS)?,
                };
                d.broadcast_div(&scale)?
            }
            Op::RmsNorm => x.broadcast_div(&((x.sqr()?.sum_keepdim(last)? / cols)? + EPS)?.sqrt()?)?,
        };
        let scaled = match &self.gamma {
            Some(gamma) => normal.broadcast_mul(&(gamma.as_tensor() + f64::from(self.offset))?)?,
            None => normal,
        };
        match &self.beta {
            Some(beta) => scaled.broadcast_add(beta),
            None => Ok(scaled),
        }
    }

    /// The variables that the op depends on, by name.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &Var)> {
        let mut all = vec![("x", &self.x)];
        if matches!(self.op, Op::Dyt | Op::Derf) {
            all.push(("alpha", &self.alpha));
        }
        if self.op == Op::Derf {
            all.push(("shift", &self.shift));
        }
        all.extend(self.gamma.as_ref().map(|v| ("gamma", v)));
        all.extend(self.beta.as_ref().map(|v| ("beta", v)));
        all
    }
}

/// A loss in which every element of y counts differently.
pub(crate) fn loss(y: &Tensor) -> Result<Tensor> {
    let weights = tensor(4, y.dims(), y.dtype())?;
    (y * weights)?.to_dtype(if y.dtype() == DType::F64 { DType::F64 } else { DType::F32 })?.sum_all()
}

pub(crate) fn flat(t: &Tensor) -> Result<Vec<f64>> {
    t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Fails unless the largest difference is within `bound` of the largest value that is expected.
pub(crate) fn close(what: &str, actual: &Tensor, expected: &Tensor, bound: f64) -> Result<()> {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let (actual, expected) = (flat(actual)?, flat(expected)?);
    let scale = expected.iter().fold(0.0_f64, |m, e| m.max(e.abs())).max(1.0);
    for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
        assert!(
            (a - e).abs() <= bound * scale,
            "{what}: element {i} is {a}, expected {e}, of at most {scale}"
        );
    }
    Ok(())
}
