//! Parameters from a `VarBuilder`.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// The tensor by its name or, where the builder has only that, by its name in older checkpoints, as candle_nn does.
fn named(size: usize, [name, older]: [&'static str; 2], initial: f64, vb: &VarBuilder<'_>) -> Result<Tensor> {
    let found = [name, older].into_iter().find(|name| vb.contains_tensor(name));
    vb.get_with_hints(size, found.unwrap_or(name), Init::Const(initial))
}

/// `weight`, or `gamma` of older checkpoints; made with `initial` where it is not loaded.
pub(crate) fn weight(size: usize, initial: f64, vb: &VarBuilder<'_>) -> Result<Tensor> {
    named(size, ["weight", "gamma"], initial, vb)
}

/// `bias`, or `beta` of older checkpoints; made with 0 where it is not loaded.
pub(crate) fn bias(size: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    named(size, ["bias", "beta"], 0.0, vb)
}

/// A parameter of one element, of shape `[1]` or `[]`; made with shape `[1]` where it is not loaded.
pub(crate) fn scalar(name: &str, initial: f64, vb: &VarBuilder<'_>) -> Result<Tensor> {
    let loaded = vb.get_with_hints(1, name, Init::Const(initial));
    if loaded.is_err() && vb.contains_tensor(name) {
        // The first error says more than the second.
        return vb.get_with_hints((), name, Init::Const(initial)).or(loaded);
    }
    loaded
}
