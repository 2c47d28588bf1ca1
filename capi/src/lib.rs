//! The C ABI of `dyt`, declared in `include/dyt.h`.
//!
//! Every entry checks its arguments, catches panics and returns a [`dyt_status`]; what went wrong is in words in
//! [`dyt_last_error`]. The types are those of [`abi`], in the layout that C sees; the one place where an address or a handle
//! of the caller becomes a view of memory is [`memory`].

mod abi;
mod calls;
mod copy;
mod devices;
mod memory;
mod problem;
mod status;
mod stream;

pub use abi::{
    DYT_ABI_VERSION, DYT_LAYER_NORM_EPS, DYT_LAYER_NORM_UNBIASED_EPS, DYT_RMS_NORM_EPS, dyt_backward_args,
    dyt_dtype, dyt_forward_args, dyt_op, dyt_pass, dyt_problem, dyt_quant, dyt_status, dyt_std,
};
pub use calls::{dyt_backward, dyt_bound, dyt_forward, dyt_workspace_size};
pub use devices::{
    dyt_alloc, dyt_device, dyt_device_close, dyt_device_name, dyt_device_open, dyt_download, dyt_free,
    dyt_set_threads, dyt_synchronize, dyt_upload,
};
pub use status::{dyt_abi_version, dyt_last_error};
