//! The native part of the Python package `dyt`.
//!
//! One library serves every framework: `host` has the calls by address of `dyt.numpy`, `torch` the ops of PyTorch.
//! Neither torch nor JAX is linked: what a door needs of its framework is looked up when Python imports that door.

mod call;
mod devices;
mod host;
mod xla;

use pyo3::prelude::*;

/// The module `dyt._dyt`.
#[pymodule]
fn _dyt(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    devices::register(module)?;
    host::register(module)?;
    xla::register(module)?;
    Ok(())
}
