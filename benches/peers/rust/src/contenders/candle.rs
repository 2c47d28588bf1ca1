//! candle's tensors on the CPU; its fused norms, which have no backward, in the forward alone.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::ops;

use super::{Call, Contender};
use crate::cell::{Group, Inputs, Pass, Results};

pub(super) struct Candle;

impl Contender for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn prepare(&self, group: &Group, pass: Pass, inputs: &Inputs) -> anyhow::Result<Box<dyn Call>> {
        let dtype = match group.dtype()? {
            dyt::DType::F32 => DType::F32,
            dyt::DType::F16 => DType::F16,
            dyt::DType::Bf16 => DType::BF16,
        };
        let var = |values: &[f32], shape: &[usize]| -> anyhow::Result<Tensor> {
            let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
            // Without a graph in the forward, as a loaded model has its tensors.
            Ok(if pass == Pass::Forward { tensor } else { Var::from_tensor(&tensor)?.into_inner() })
        };
        let shape = [group.rows, group.cols];
        let mut layer = Layer {
            op: group.op()?,
            pass,
            eps: group.eps,
            x: var(&inputs.x, &shape)?,
            dy: var(&inputs.dy, &shape)?.detach(),
            alpha: var(&[group.alpha], &[1])?,
            shift: var(&[group.shift], &[1])?,
            gamma: var(&inputs.gamma, &[group.cols])?,
            beta: var(&inputs.beta, &[group.cols])?,
            kept: None,
            y: None,
            grads: None,
        };
        if pass == Pass::Backward {
            layer.kept = Some(layer.forward()?.mul(&layer.dy)?);
        }
        Ok(Box::new(layer))
    }
}

struct Layer {
    op: dyt::Op,
    pass: Pass,
    eps: f32,
    x: Tensor,
    dy: Tensor,
    alpha: Tensor,
    shift: Tensor,
    gamma: Tensor,
    beta: Tensor,
    /// y·dy with its graph, which candle keeps as long as the tensor lives.
    kept: Option<Tensor>,
    y: Option<Tensor>,
    grads: Option<candle_core::backprop::GradStore>,
}

impl Layer {
    fn forward(&self) -> candle_core::Result<Tensor> {
        let Self { eps, x, alpha, shift, gamma, beta, .. } = self;
        match (self.op, self.pass) {
            (dyt::Op::LayerNorm, Pass::Forward) => ops::layer_norm(x, gamma, beta, *eps),
            (dyt::Op::LayerNorm, _) => ops::layer_norm_slow(x, gamma, beta, *eps),
            (dyt::Op::RmsNorm, Pass::Forward) => ops::rms_norm(x, gamma, *eps),
            (dyt::Op::RmsNorm, _) => ops::rms_norm_slow(x, gamma, *eps),
            (dyt::Op::Dyt, _) => x.broadcast_mul(alpha)?.tanh()?.broadcast_mul(gamma)?.broadcast_add(beta),
            (dyt::Op::Derf, _) => {
                let f = x.broadcast_mul(alpha)?.broadcast_add(shift)?.erf()?;
                f.broadcast_mul(gamma)?.broadcast_add(beta)
            }
        }
    }
}

impl Call for Layer {
    fn run(&mut self) -> anyhow::Result<()> {
        match (&self.kept, self.pass) {
            (Some(kept), _) => self.grads = Some(kept.backward()?),
            (None, Pass::Forward) => self.y = Some(self.forward()?),
            (None, _) => {
                let y = self.forward()?;
                self.grads = Some(y.mul(&self.dy)?.backward()?);
                self.y = Some(y);
            }
        }
        Ok(())
    }

    fn results(&self) -> anyhow::Result<Results> {
        let leaves = [
            ("dx", &self.x),
            ("dalpha", &self.alpha),
            ("dshift", &self.shift),
            ("dgamma", &self.gamma),
            ("dbeta", &self.beta),
        ];
        let of = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let mut results = Results::new();
        if let Some(y) = &self.y {
            results.insert("y", of(y)?);
        }
        for (name, leaf) in leaves {
            if let Some(grad) = self.grads.as_ref().and_then(|grads| grads.get(leaf)) {
                results.insert(name, of(grad)?);
            }
        }
        Ok(results)
    }
}
