//! burn on its own CPU backend, flex.

use burn::module::Param;
use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

use super::{Call, Contender};
use crate::cell::{Group, Inputs, Pass, Results};

pub(super) struct Burn;

impl Contender for Burn {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn prepare(&self, group: &Group, pass: Pass, inputs: &Inputs) -> anyhow::Result<Box<dyn Call>> {
        if pass == Pass::Backward {
            anyhow::bail!("cannot: a backward consumes its graph, so that it has no time of its own");
        }
        let dtype = match group.dtype()? {
            dyt::DType::F32 => DType::F32,
            dyt::DType::F16 => DType::F16,
            dyt::DType::Bf16 => DType::BF16,
        };
        let device = if pass == Pass::Forward { Device::flex() } else { Device::flex().autodiff() };
        let of_columns = |values: &[f32]| {
            Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), (&device, dtype))
        };
        let of_rows = |values: &[f32]| {
            Tensor::<2>::from_data(
                TensorData::new(values.to_vec(), [group.rows, group.cols]),
                (&device, dtype),
            )
        };
        let (gamma, beta) = (of_columns(&inputs.gamma), of_columns(&inputs.beta));
        let function = match group.op()? {
            dyt::Op::LayerNorm => {
                let mut norm = LayerNormConfig::new(group.cols).with_epsilon(group.eps.into()).init(&device);
                norm.gamma = Param::from_tensor(gamma);
                norm.beta = Some(Param::from_tensor(beta));
                Function::LayerNorm(norm)
            }
            dyt::Op::RmsNorm => {
                Function::RmsNorm(RmsNorm { gamma: Param::from_tensor(gamma), epsilon: group.eps.into() })
            }
            op => Function::Pointwise {
                alpha: leaf(of_columns(&[group.alpha]), pass),
                shift: op.has_shift().then(|| leaf(of_columns(&[group.shift]), pass)),
                gamma: leaf(gamma, pass),
                beta: leaf(beta, pass),
            },
        };
        let x = leaf(of_rows(&inputs.x), pass);
        Ok(Box::new(Layer { function, x, dy: of_rows(&inputs.dy), pass, y: None, grads: None }))
    }
}

/// Whose gradient is asked for where there is a backward.
fn leaf<const D: usize>(tensor: Tensor<D>, pass: Pass) -> Tensor<D> {
    if pass == Pass::Forward { tensor } else { tensor.require_grad() }
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Function {
    Pointwise { alpha: Tensor<1>, shift: Option<Tensor<1>>, gamma: Tensor<1>, beta: Tensor<1> },
    LayerNorm(LayerNorm),
    RmsNorm(RmsNorm),
}

struct Layer {
    function: Function,
    x: Tensor<2>,
    dy: Tensor<2>,
    pass: Pass,
    y: Option<Tensor<2>>,
    grads: Option<Gradients>,
}

impl Function {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::LayerNorm(norm) => norm.forward(x),
            Self::RmsNorm(norm) => norm.forward(x),
            Self::Pointwise { alpha, shift, gamma, beta } => {
                let u = x * alpha.clone().unsqueeze();
                let f = match shift {
                    Some(shift) => (u + shift.clone().unsqueeze()).erf(),
                    None => u.tanh(),
                };
                f * gamma.clone().unsqueeze() + beta.clone().unsqueeze()
            }
        }
    }

    /// The parameters, by the names of their gradients.
    fn parameters(&self) -> Vec<(&'static str, Tensor<1>)> {
        match self {
            Self::Pointwise { alpha, shift, gamma, beta } => {
                let mut all =
                    vec![("dalpha", alpha.clone()), ("dgamma", gamma.clone()), ("dbeta", beta.clone())];
                all.extend(shift.clone().map(|shift| ("dshift", shift)));
                all
            }
            Self::LayerNorm(norm) => {
                let mut all = vec![("dgamma", norm.gamma.val())];
                all.extend(norm.beta.as_ref().map(|beta| ("dbeta", beta.val())));
                all
            }
            Self::RmsNorm(norm) => vec![("dgamma", norm.gamma.val())],
        }
    }
}

impl Call for Layer {
    fn run(&mut self) -> anyhow::Result<()> {
        let y = self.function.forward(self.x.clone());
        if self.pass == Pass::Both {
            self.grads = Some((y.clone() * self.dy.clone()).backward());
        }
        self.y = Some(y);
        Ok(())
    }

    fn results(&self) -> anyhow::Result<Results> {
        let mut results = Results::new();
        if let Some(y) = &self.y {
            results.insert("y", values(y.clone())?);
        }
        if let Some(grads) = &self.grads {
            if let Some(dx) = self.x.grad(grads) {
                results.insert("dx", values(dx)?);
            }
            for (name, parameter) in self.function.parameters() {
                if let Some(grad) = parameter.grad(grads) {
                    results.insert(name, values(grad)?);
                }
            }
        }
        Ok(results)
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> anyhow::Result<Vec<f32>> {
    tensor.cast(DType::F32).into_data().try_to_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))
}
