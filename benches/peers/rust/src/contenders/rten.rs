//! The kernels of rten, a row at a time so that it stays in L1 between them, rows split over rayon's threads. They are
//! of f32 and have no backward.

use std::mem::MaybeUninit;

use dyt::Op;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_vecmath::{Erf, Normalize, NormalizeOptions, Sum, SumSquare, SumSquareSub, Tanh};

use super::{Call, Contender};
use crate::cell::{Group, Inputs, Pass, Results};

pub(super) struct Rten;

impl Contender for Rten {
    fn name(&self) -> &'static str {
        "rten"
    }

    fn prepare(&self, group: &Group, pass: Pass, inputs: &Inputs) -> anyhow::Result<Box<dyn Call>> {
        if pass != Pass::Forward {
            anyhow::bail!("cannot: no backward");
        }
        if group.dtype()? != dyt::DType::F32 {
            anyhow::bail!("cannot: f32 alone");
        }
        Ok(Box::new(Layer {
            op: group.op()?,
            eps: group.eps,
            alpha: group.alpha,
            shift: group.shift,
            x: inputs.x.clone(),
            gamma: inputs.gamma.clone(),
            beta: inputs.beta.clone(),
            y: vec![MaybeUninit::new(1.0); inputs.x.len()],
        }))
    }
}

struct Layer {
    op: Op,
    eps: f32,
    alpha: f32,
    shift: f32,
    x: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    y: Vec<MaybeUninit<f32>>,
}

impl Layer {
    fn row<'y>(&self, x: &[f32], y: &'y mut [MaybeUninit<f32>]) -> &'y mut [f32] {
        let mean_of = |sum: f32| sum / x.len() as f32;
        let rstd = |square: f32| 1.0 / (mean_of(square) + self.eps).sqrt();
        let none = NormalizeOptions::default;
        let affine = NormalizeOptions {
            element_scale: Some(&self.gamma),
            element_bias: (self.op != Op::RmsNorm).then_some(&*self.beta),
            ..none()
        };
        match self.op {
            Op::Dyt => {
                let y = Normalize::new(x, y, NormalizeOptions { scale: self.alpha, ..none() }).dispatch();
                Tanh {}.map_mut(y);
                Normalize::new_mut(y, affine).dispatch()
            }
            Op::Derf => {
                let u = NormalizeOptions { scale: self.alpha, bias: self.shift, ..none() };
                let y = Normalize::new(x, y, u).dispatch();
                Erf {}.map_mut(y);
                Normalize::new_mut(y, affine).dispatch()
            }
            Op::LayerNorm => {
                let mean = mean_of(Sum::new(x).dispatch());
                let scale = rstd(SumSquareSub::new(x, mean).dispatch());
                Normalize::new(x, y, NormalizeOptions { pre_scale_bias: mean, scale, ..affine }).dispatch()
            }
            Op::RmsNorm => {
                let scale = rstd(SumSquare::new(x).dispatch());
                Normalize::new(x, y, NormalizeOptions { scale, ..affine }).dispatch()
            }
        }
    }
}

impl Call for Layer {
    fn run(&mut self) -> anyhow::Result<()> {
        let (cols, mut y) = (self.gamma.len(), std::mem::take(&mut self.y));
        let each = |(x, y): (&[f32], &mut [MaybeUninit<f32>])| {
            self.row(x, y);
        };
        if rayon::current_num_threads() == 1 {
            self.x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).for_each(each);
        } else {
            self.x.par_chunks_exact(cols).zip(y.par_chunks_exact_mut(cols)).for_each(each);
        }
        self.y = y;
        Ok(())
    }

    fn results(&self) -> anyhow::Result<Results> {
        // Computed again: no safe code reads what a call has left in memory that began uninitialised.
        let mut row = vec![MaybeUninit::uninit(); self.gamma.len()];
        let rows = self.x.chunks_exact(self.gamma.len());
        Ok(Results::from([("y", rows.flat_map(|x| self.row(x, &mut row).to_vec()).collect())]))
    }
}
