//! From the weights of a model with one kind of norm to those of the same model with another.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor, Var, bail};
use candle_nn::VarMap;

use crate::find::{Finding, Layer, layers};
use crate::{Gamma, NormKind};

pub use crate::find::Left;

/// A layer that has become another.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Its name: what stands before `.weight`.
    pub name: String,
    /// Its channels.
    pub cols: usize,
    /// What it is now.
    pub kind: NormKind,
    /// The parameters whose values the new kind does not take over: `bias` for RMSNorm, an older `alpha`.
    pub dropped: Vec<String>,
}

/// What [`convert_norms`] has done, in the order of the names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    /// The layers that are another kind now.
    pub converted: Vec<Converted>,
    /// The layers that have a vector as norms have it and are as they were, and why.
    pub left: Vec<(String, Left)>,
}

/// The weights of a model with its norms exchanged, and what was done with each layer that looked like one.
///
/// A layer is taken for a norm by the shapes of its tensors, whatever its name: a vector `weight`, with or without a
/// `bias` of the same length, or `gamma` and `beta` in their place. `kind` is asked for each of them, by the layer's name
/// and its channels, and says what it becomes; `None` leaves it as it is. GroupNorm, the GRN of ConvNeXt V2, and PReLU
/// with a slope for each channel have the same shapes: say `None` for their names.
///
/// `gamma` says how the model reads its weights: as gamma, or, as Gemma does, as gamma − 1. Each new weight gives the same
/// gamma as the old one: from Gemma to DyT, 1 + weight is stored, as f32. A bias that was not there begins at 0, alpha and
/// shift at the kind's initial values. The new names are those of the PyTorch reference.
///
/// ```
/// # use std::collections::HashMap;
/// use candle_core::{DType, Device, Tensor};
/// use dyt_candle::{Gamma, NormKind, convert_norms};
/// # let ones = Tensor::ones(4, DType::F32, &Device::Cpu)?;
/// # let weights = HashMap::from([("stem.1.weight".into(), ones.clone()), ("stem.1.bias".into(), ones)]);
/// let grn = |name: &str| name.ends_with(".grn");
/// let kind = |name: &str, _cols| (!grn(name)).then(NormKind::dyt);
/// let (converted, report) = convert_norms(&weights, Gamma::Weight, kind)?;
/// assert!(converted.contains_key("stem.1.alpha"));
/// assert_eq!(report.converted[0].name, "stem.1");
/// for (name, why) in &report.left {
///     println!("{name} is as it was: {why}");
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// What candle says of making tensors.
pub fn convert_norms(
    weights: &HashMap<String, Tensor>,
    gamma: Gamma,
    kind: impl Fn(&str, usize) -> Option<NormKind>,
) -> Result<(HashMap<String, Tensor>, Conversion)> {
    let (mut exchanged, mut report) = (weights.clone(), Conversion::default());
    for (name, parameters) in layers(weights) {
        match Finding::of(&parameters) {
            Finding::Norm(layer) => match kind(name, layer.cols) {
                Some(kind) => {
                    let dropped = exchange(&mut exchanged, name, &parameters, layer, gamma, kind)?;
                    let name = name.to_owned();
                    report.converted.push(Converted { name, cols: layer.cols, kind, dropped });
                }
                None => report.left.push((name.to_owned(), Left::Declined)),
            },
            Finding::Left(why) => report.left.push((name.to_owned(), why)),
            Finding::Other(vectors) => {
                report.left.extend(vectors.into_iter().map(|leaf| (path(name, leaf), Left::UnknownName)));
            }
        }
    }
    Ok((exchanged, report))
}

/// The name of a layer's parameter; the layer may be the model itself.
fn path(layer: &str, parameter: &str) -> String {
    if layer.is_empty() { parameter.to_owned() } else { format!("{layer}.{parameter}") }
}

/// Makes the parameters of one layer those of `kind`, and returns the names of those whose values are gone.
fn exchange(
    weights: &mut HashMap<String, Tensor>,
    name: &str,
    parameters: &BTreeMap<&str, &Tensor>,
    layer: Layer<'_>,
    gamma: Gamma,
    kind: NormKind,
) -> Result<Vec<String>> {
    for parameter in parameters.keys() {
        weights.remove(&path(name, parameter));
    }
    let weight = gamma.exchanged(layer.weight, kind.gamma())?;
    for (parameter, initial) in kind.scalars() {
        let value = Tensor::new(&[initial as f32], weight.device())?.to_dtype(weight.dtype())?;
        weights.insert(path(name, parameter), value);
    }
    if kind.has_bias() {
        let bias = layer.bias.map_or_else(|| weight.zeros_like(), |(_, bias)| Ok(bias.clone()))?;
        weights.insert(path(name, "bias"), bias);
    }
    weights.insert(path(name, "weight"), weight);
    let bias = layer.bias.filter(|_| !kind.has_bias()).map(|(leaf, _)| leaf);
    let scalars = ["alpha", "shift"].into_iter().filter(|leaf| parameters.contains_key(leaf));
    Ok(bias.into_iter().chain(scalars).map(str::to_owned).collect())
}

/// [`convert_norms`] of the variables of a model that is trained: new variables, with the values copied.
///
/// # Errors
/// As [`convert_norms`].
pub fn convert_var_map(
    vars: &VarMap,
    gamma: Gamma,
    kind: impl Fn(&str, usize) -> Option<NormKind>,
) -> Result<(VarMap, Conversion)> {
    let Ok(held) = vars.data().lock() else { bail!("a thread that held the variables has panicked") };
    let weights = held.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    drop(held);
    let (weights, report) = convert_norms(&weights, gamma, kind)?;
    let converted = VarMap::new();
    {
        let Ok(mut target) = converted.data().lock() else { bail!("new variables are held by nobody else") };
        for (name, tensor) in weights {
            target.insert(name, Var::from_tensor(&tensor.copy()?)?);
        }
    }
    Ok((converted, report))
}
