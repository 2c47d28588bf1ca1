//! From the weights of a model with one kind of norm to those of the same model with another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use candle_core::{Result, Tensor, Var, bail};
use candle_nn::VarMap;

use crate::NormKind;

/// Whether a layer's last name says that it is a norm: `norm`, `norm1`, `input_layernorm`, `ln_f`.
#[must_use]
pub fn is_norm_name(prefix: &str) -> bool {
    let name = prefix.rsplit('.').next().unwrap_or(prefix).to_ascii_lowercase();
    let ln = name.strip_prefix("ln").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    name.contains("norm") || ln
}

/// The weights of a model with its norms exchanged.
///
/// `kind` is asked for each layer that has a `weight` of one dimension, by the layer's name and its channels, and says
/// what it becomes; `None` leaves it as it is. `weight` and `bias` are kept, since they scale and shift the output of
/// every kind alike; a `bias` that was not there begins at 0, and alpha and shift at the kind's initial values. What
/// the new kind has no use for is left out.
///
/// ```
/// # use std::collections::HashMap;
/// use candle_core::{DType, Device, Tensor};
/// use dyt_candle::{NormKind, convert_norms, is_norm_name};
/// # let ones = Tensor::ones(4, DType::F32, &Device::Cpu)?;
/// # let weights = HashMap::from([("h.0.ln_1.weight".into(), ones.clone()), ("h.0.ln_1.bias".into(), ones)]);
/// let converted = convert_norms(&weights, |name, _cols| is_norm_name(name).then(NormKind::dyt))?;
/// assert!(converted.contains_key("h.0.ln_1.alpha"));
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// What candle says of making tensors.
pub fn convert_norms(
    weights: &HashMap<String, Tensor>,
    kind: impl Fn(&str, usize) -> Option<NormKind>,
) -> Result<HashMap<String, Tensor>> {
    let mut converted = weights.clone();
    for (name, weight) in weights {
        let (Some(prefix), [cols]) = (name.strip_suffix("weight"), weight.dims()) else { continue };
        let layer = match prefix.strip_suffix('.') {
            Some(layer) => layer,
            None if prefix.is_empty() => "",
            None => continue,
        };
        let Some(kind) = kind(layer, *cols) else { continue };
        exchange(&mut converted, prefix, weight, kind)?;
    }
    Ok(converted)
}

/// Makes the parameters of one layer, whose names begin with `prefix`, those of `kind`.
fn exchange(
    weights: &mut HashMap<String, Tensor>,
    prefix: &str,
    weight: &Tensor,
    kind: NormKind,
) -> Result<()> {
    let name = |parameter: &str| format!("{prefix}{parameter}");
    for parameter in ["alpha", "shift"] {
        weights.remove(&name(parameter));
    }
    for (parameter, initial) in kind.scalars() {
        let value = Tensor::new(&[initial as f32], weight.device())?.to_dtype(weight.dtype())?;
        weights.insert(name(parameter), value);
    }
    if !kind.has_bias() {
        weights.remove(&name("bias"));
    } else if let Entry::Vacant(bias) = weights.entry(name("bias")) {
        bias.insert(weight.zeros_like()?);
    }
    Ok(())
}

/// [`convert_norms`] of the variables of a model that is trained: new variables, with the values copied.
///
/// # Errors
/// As [`convert_norms`].
pub fn convert_var_map(vars: &VarMap, kind: impl Fn(&str, usize) -> Option<NormKind>) -> Result<VarMap> {
    let Ok(held) = vars.data().lock() else { bail!("a thread that held the variables has panicked") };
    let weights = held.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    drop(held);
    let converted = VarMap::new();
    {
        let Ok(mut target) = converted.data().lock() else { bail!("new variables are held by nobody else") };
        for (name, tensor) in convert_norms(&weights, kind)? {
            target.insert(name, Var::from_tensor(&tensor.copy()?)?);
        }
    }
    Ok(converted)
}
