//! One run: a model trained with one norm, learning rate and seed.

use core::f64::consts::PI;

use candle_core::{D, DType, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarMap};
use dyt_candle::NormKind;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::Digits;
use crate::vit::{Config, Vit, initialize, named};

const BATCH: usize = 64;
const WEIGHT_DECAY: f64 = 0.05;
/// The part of all steps in which the learning rate rises.
const WARMUP: f64 = 0.1;

/// What one run is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) norm: NormKind,
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    pub(crate) epochs: usize,
}

/// What came of it.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) model: Vit,
    /// The mean loss of each epoch's batches.
    pub(crate) train_loss: Vec<f64>,
    /// The loss on the validation split after each epoch.
    pub(crate) validation_loss: Vec<f64>,
    /// The share of the validation split that is classified rightly at the end.
    pub(crate) validation: f64,
}

/// Trains; `on_epoch` is called after each epoch.
pub(crate) fn train(digits: &Digits, plan: Plan, on_epoch: impl Fn()) -> Result<Run> {
    let vars = VarMap::new();
    let model = Vit::new(Config::small(plan.norm), &vars)?;
    initialize(&vars, plan.seed)?;
    let mut optimizers = optimizers(&vars)?;
    // The order of batches and the variations of images, the same for each norm.
    let mut rng = StdRng::seed_from_u64(plan.seed.wrapping_add(1 << 32));
    let mut order = digits.train.clone();
    let steps = plan.epochs * order.len().div_ceil(BATCH);
    let (mut train_loss, mut validation_loss) = (Vec::new(), Vec::new());
    let (mut step, mut validation) = (0, 0.0);
    for _ in 0..plan.epochs {
        order.shuffle(&mut rng);
        let mut sum = 0.0;
        for which in order.chunks(BATCH) {
            let (images, classes) = digits.batch(which, Some(&mut rng))?;
            let loss = cross_entropy(&model.forward(&images)?, &classes)?;
            let gradients = loss.backward()?;
            for optimizer in &mut optimizers {
                optimizer.set_learning_rate(plan.rate * schedule(step as f64 / steps as f64));
                optimizer.step(&gradients)?;
            }
            sum += f64::from(loss.to_scalar::<f32>()?) * which.len() as f64;
            step += 1;
        }
        train_loss.push(sum / order.len() as f64);
        let (loss, accuracy) = evaluate(&model, digits, &digits.validation)?;
        validation_loss.push(loss);
        validation = accuracy;
        on_epoch();
    }
    Ok(Run { plan, model, train_loss, validation_loss, validation })
}

/// One optimizer for matrices, and one without weight decay for what scales and shifts: biases, and all of a norm.
fn optimizers(vars: &VarMap) -> Result<[AdamW; 2]> {
    let (matrices, others): (Vec<_>, Vec<_>) =
        named(vars)?.into_iter().map(|(_, var)| var).partition(|var| var.rank() > 1);
    let parameters = |weight_decay| ParamsAdamW { weight_decay, ..ParamsAdamW::default() };
    Ok([AdamW::new(matrices, parameters(WEIGHT_DECAY))?, AdamW::new(others, parameters(0.0))?])
}

/// The factor of the learning rate: a linear rise, then half a cosine down to 0.
fn schedule(done: f64) -> f64 {
    if done < WARMUP {
        (done + 0.01) / (WARMUP + 0.01)
    } else {
        0.5 + 0.5 * (PI * (done - WARMUP) / (1.0 - WARMUP)).cos()
    }
}

/// The mean loss, and the share that is classified rightly.
pub(crate) fn evaluate(model: &Vit, digits: &Digits, which: &[usize]) -> Result<(f64, f64)> {
    let (images, classes) = digits.batch(which, None)?;
    let scores = model.forward(&images)?.detach();
    let loss: f32 = cross_entropy(&scores, &classes)?.to_scalar()?;
    let right: Tensor = scores.argmax(D::Minus1)?.eq(&classes)?.to_dtype(DType::F32)?;
    Ok((f64::from(loss), f64::from(right.mean_all()?.to_scalar::<f32>()?)))
}
