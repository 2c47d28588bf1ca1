//! Which layers of a model are norms, by the shapes of their tensors.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::{DType, Tensor};

/// Why a layer was left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// The caller's function said `None`.
    Declined,
    /// It has `running_mean` or `running_var`: BatchNorm.
    RunningStatistics,
    /// It has `gamma` and no `beta`: the factors of LayerScale.
    LayerScale,
    /// It has both `weight` and `gamma`, and which is gamma is unknown.
    TwoWeights,
    /// Its `weight` has one element: PReLU's slope.
    OneElement,
    /// This parameter does not have the shape that it has in a norm.
    Shape(String),
    /// Its weight has a dtype that is no floating-point type: it is quantised.
    Quantised(DType),
    /// It has these tensors too, and what they mean is unknown.
    OtherTensors(Vec<String>),
    /// A vector by a name that norms of candle and PyTorch do not have, so that whether it is gamma is unknown.
    UnknownName,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined => f.write_str("the caller's function said None"),
            Self::RunningStatistics => f.write_str("running statistics: BatchNorm"),
            Self::LayerScale => f.write_str("gamma without beta: LayerScale"),
            Self::TwoWeights => f.write_str("both weight and gamma"),
            Self::OneElement => f.write_str("a weight of one element: PReLU"),
            Self::Shape(parameter) => write!(f, "{parameter} has another shape than in a norm"),
            Self::Quantised(dtype) => write!(f, "weight is {dtype:?}: quantised"),
            Self::OtherTensors(names) => write!(f, "it has other tensors too: {}", names.join(", ")),
            Self::UnknownName => f.write_str("a vector by an unknown name"),
        }
    }
}

/// The tensors of each layer by the last part of their names, in the order of the layers' names.
pub(crate) fn layers(weights: &HashMap<String, Tensor>) -> BTreeMap<&str, BTreeMap<&str, &Tensor>> {
    let mut layers = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (name, tensor) in weights {
        let (layer, parameter) = name.rsplit_once('.').unwrap_or(("", name));
        layers.entry(layer).or_default().insert(parameter, tensor);
    }
    layers
}

/// A layer whose tensors have the shapes of a norm's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) cols: usize,
    pub(crate) weight: &'a Tensor,
    /// The bias with its name.
    pub(crate) bias: Option<(&'a str, &'a Tensor)>,
}

/// What a layer is.
pub(crate) enum Finding<'a> {
    Norm(Layer<'a>),
    /// Something with a vector as norms have it, but no norm.
    Left(Left),
    /// Something else; these are its vectors that are no bias.
    Other(Vec<&'a str>),
}

impl<'a> Finding<'a> {
    pub(crate) fn of(parameters: &BTreeMap<&'a str, &'a Tensor>) -> Self {
        let vector = |name: &str| parameters.get(name).copied().filter(|tensor| tensor.rank() == 1);
        match (vector("weight"), vector("gamma"), parameters.contains_key("weight")) {
            (Some(_), Some(_), _) => Self::Left(Left::TwoWeights),
            (Some(weight), None, _) => norm(parameters, "weight", weight),
            (None, Some(weight), false) if vector("beta").is_some() => norm(parameters, "gamma", weight),
            (None, Some(_), false) => Self::Left(Left::LayerScale),
            (None, _, _) => Self::Other(unknown(parameters)),
        }
    }
}

/// The vectors that are no bias, by their names: of one element they are scalars, no gamma.
fn unknown<'a>(parameters: &BTreeMap<&'a str, &'a Tensor>) -> Vec<&'a str> {
    let gamma = |(name, tensor): &(&&str, &&Tensor)| {
        tensor.rank() == 1
            && tensor.elem_count() > 1
            && tensor.dtype().is_float()
            && !name.contains("bias")
            && **name != "beta"
    };
    parameters.iter().filter(gamma).map(|(name, _)| *name).collect()
}

/// The norm with this weight, unless one of the other tensors says that it is something else.
fn norm<'a>(parameters: &BTreeMap<&'a str, &'a Tensor>, name: &str, weight: &'a Tensor) -> Finding<'a> {
    let cols = weight.elem_count();
    let others: Vec<_> =
        parameters.keys().filter(|key| **key != name && !PARAMETERS.contains(key)).copied().collect();
    if others.iter().any(|key| key.starts_with("running_")) {
        return Finding::Left(Left::RunningStatistics);
    }
    if !others.is_empty() {
        return Finding::Left(Left::OtherTensors(others.into_iter().map(str::to_owned).collect()));
    }
    if !weight.dtype().is_float() {
        return Finding::Left(Left::Quantised(weight.dtype()));
    }
    if cols == 1 {
        return Finding::Left(Left::OneElement);
    }
    for (key, tensor) in parameters.iter().filter(|(key, _)| **key != name) {
        let fits = if BIASES.contains(key) { tensor.dims() == [cols] } else { tensor.elem_count() == 1 };
        if !fits {
            return Finding::Left(Left::Shape((*key).to_owned()));
        }
    }
    let mut biases = parameters.iter().filter(|(key, _)| BIASES.contains(key)).map(|(key, t)| (*key, *t));
    match (biases.next(), biases.next()) {
        (Some(_), Some((beta, _))) => Finding::Left(Left::OtherTensors(vec![beta.to_owned()])),
        (bias, _) => Finding::Norm(Layer { cols, weight, bias }),
    }
}

/// What beta is called.
const BIASES: [&str; 2] = ["bias", "beta"];

/// What a layer of this crate has beside its weight.
const PARAMETERS: [&str; 4] = ["bias", "beta", "alpha", "shift"];
