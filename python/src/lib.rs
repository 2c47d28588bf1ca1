//! The native part of the Python package `dyt`.
//!
//! One library serves every framework: `host` has the calls by address of `dyt.numpy`, `torch` the ops of PyTorch, `xla`
//! the handlers of JAX.
//! Neither torch nor JAX is linked: what a submodule needs of its framework is looked up when Python imports it.

mod call;
mod devices;
mod host;
// The libraries of other systems have other names, and throw in other ways.
#[cfg(target_os = "linux")]
mod torch;
mod xla;

use pyo3::prelude::*;

/// The module `dyt._dyt`.
#[pymodule]
fn _dyt(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    devices::register(module)?;
    host::register(module)?;
    #[cfg(target_os = "linux")]
    torch::register(module)?;
    xla::register(module)?;
    Ok(())
}
