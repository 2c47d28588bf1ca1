//! Who computes a cell. What a contender cannot do is an error that begins with "cannot".

mod burn;
mod candle;
mod ours;
mod rten;

use crate::cell::{Group, Inputs, Pass, Results};

/// A library.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;

    /// Takes the inputs over into the library's own tensors; nothing of it is timed.
    fn prepare(&self, group: &Group, pass: Pass, inputs: &Inputs) -> anyhow::Result<Box<dyn Call>>;
}

/// One call that can be repeated.
pub(crate) trait Call {
    fn run(&mut self) -> anyhow::Result<()>;

    /// What the last run gave.
    fn results(&self) -> anyhow::Result<Results>;
}

/// Ours, and then the peers.
pub(crate) fn all(device: &dyt::Device) -> Vec<Box<dyn Contender>> {
    let ours = ours::Ours { device: device.clone() };
    vec![Box::new(ours), Box::new(candle::Candle), Box::new(burn::Burn), Box::new(rten::Rten)]
}
