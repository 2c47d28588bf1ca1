//! The types of the ABI, as C sees them. Structs only ever grow at their ends, and `size` says how far the caller's go.

#![allow(non_camel_case_types, reason = "the names are those of the header")]

use core::ffi::c_void;

/// The version of this ABI. A version that only appends fields or functions keeps the number.
pub const DYT_ABI_VERSION: u32 = 1;

/// The usual eps of LayerNorm.
pub const DYT_LAYER_NORM_EPS: f32 = 1e-5;
/// The usual eps of LayerNorm with DYT_STD_UNBIASED.
pub const DYT_LAYER_NORM_UNBIASED_EPS: f32 = 1e-6;
/// The usual eps of RMSNorm.
pub const DYT_RMS_NORM_EPS: f32 = 1e-6;

/// What a call returns. `dyt_last_error` has it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum dyt_status {
    /// Done; on a GPU, enqueued.
    DYT_OK = 0,
    /// An argument is wrong. No output has been written.
    DYT_INVALID_ARGUMENT = 1,
    /// The arguments are right, and this library or device cannot do it.
    DYT_UNSUPPORTED = 2,
    /// The device is known by name, and not available here.
    DYT_NO_DEVICE = 3,
    /// Memory could not be had.
    DYT_OUT_OF_MEMORY = 4,
    /// The device or its driver failed.
    DYT_DEVICE_ERROR = 5,
    /// A defect of this library.
    DYT_INTERNAL = 6,
}

/// Storage types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum dyt_dtype {
    /// 32 bits, IEEE 754.
    DYT_F32 = 0,
    /// 16 bits, IEEE 754.
    DYT_F16 = 1,
    /// The upper 16 bits of an f32.
    DYT_BF16 = 2,
}

/// Types of a quantised y: one byte an element, y = v / s rounded to nearest even and saturated. v is the op's result in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum dyt_quant {
    /// y is as x.
    DYT_QUANT_NONE = 0,
    /// OCP's E4M3, up to 448. NaN stays NaN.
    DYT_QUANT_F8E4M3 = 1,
    /// OCP's E5M2, up to 57344. NaN stays NaN.
    DYT_QUANT_F8E5M2 = 2,
    /// A signed byte from -127 to 127. NaN gives 0.
    DYT_QUANT_I8 = 3,
}

/// Ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum dyt_op {
    /// y = gamma * tanh(alpha * x) + beta
    DYT_OP_DYT = 0,
    /// y = gamma * erf(alpha * x + shift) + beta
    DYT_OP_DERF = 1,
    /// y = gamma * (x - mean) * rstd + beta, rstd by `dyt_std`
    DYT_OP_LAYER_NORM = 2,
    /// y = gamma * x * rstd + beta with rstd = 1 / sqrt(mean(x^2) + eps)
    DYT_OP_RMS_NORM = 3,
}

/// How LayerNorm makes rstd; `DYT_STD_BIASED` for every other op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum dyt_std {
    /// rstd = 1 / sqrt(sum((x - mean)^2) / cols + eps)
    DYT_STD_BIASED = 0,
    /// rstd = 1 / (sqrt(sum((x - mean)^2) / (cols - 1)) + eps)
    DYT_STD_UNBIASED = 1,
}

/// Directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum dyt_pass {
    /// From x to y.
    DYT_FORWARD = 0,
    /// From dy to dx and the gradients of the parameters.
    DYT_BACKWARD = 1,
}

/// What is to be computed. Zero it, set `size` to sizeof(dyt_problem), then the rest.
///
/// Channels-last: x is rows * cols, row r begins at element r * row_stride, inner is 1, and parameters run along a row.
/// Channels-first: x is N * C * S with rows = N, cols = C, inner = S; element (n, c, s) stands at
/// n * row_stride + c * S + s. y, dx and dy have the stride of x.
///
/// With heads, each of the rows is a token that has `heads` rows of cols, head_stride apart: the queries in a packed QKV.
/// Row r of all rows * heads is head r % heads of token r / heads. y and dy may have strides of their own.
///
/// A larger `size` than this library knows is accepted if the bytes that it does not know are 0. A smaller one that ends behind
/// `inner` is accepted too; the fields behind it are then 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dyt_problem {
    /// sizeof(dyt_problem) of the caller.
    pub size: u32,
    /// A `dyt_op`.
    pub op: u32,
    /// The `dyt_dtype` of x, y, dy and dx.
    pub dtype: u32,
    /// The `dyt_dtype` of gamma and beta: that of x, or f32.
    pub param_dtype: u32,
    /// A `dyt_std`.
    pub std: u32,
    /// 1: the gradients of parameters are added to what is there. 0: they overwrite it.
    pub accumulate: u32,
    /// Keeps rstd finite; unused by DyT and Derf. 0 is 0, and no default: DYT_LAYER_NORM_EPS and its like are those of
    /// this library.
    pub eps: f32,
    /// 0.
    pub reserved: u32,
    /// Rows; N of channels-first data. May be 0.
    pub rows: i64,
    /// Columns; C of channels-first data. At least 1.
    pub cols: i64,
    /// Elements from one row to the next; 0 means cols * inner.
    pub row_stride: i64,
    /// S of channels-first data; 1 or 0 for channels-last.
    pub inner: i64,
    /// The factor of each column is gamma + gamma_offset, rounded to f32; 1 where gamma is NULL. Finite.
    pub gamma_offset: f32,
    /// A `dyt_quant`: what y of the forward is quantised to. A backward takes DYT_QUANT_NONE.
    pub quant: u32,
    /// Of a quantised y. 0: `scale` is an input, one f32. 1: an output, rows * inner f32, as rstd.
    pub quant_dynamic: u32,
    /// 0.
    pub reserved2: u32,
    /// Neighbouring rows, counted with heads, that share gamma and beta; divides rows * heads. 0: all rows.
    pub param_rows: i64,
    /// Rows of a token; 1 or 0 without heads. For channels-last data.
    pub heads: i64,
    /// Elements from one head to the next; 0 means cols. Then row_stride 0 means heads * head_stride.
    pub head_stride: i64,
    /// Elements from one row, or token, of y and dy to the next; 0 means row_stride.
    pub y_row_stride: i64,
    /// Elements from one head of y and dy to the next; 0 means head_stride.
    pub y_head_stride: i64,
}

/// The buffers of a forward. NULL where absent.
///
/// alpha and shift are one f32 each, mean and rstd are rows * heads * inner f32, index n * inner + s. gamma and beta are
/// (rows * heads / param_rows) * cols of param_dtype, or cols where all rows share them; dgamma and dbeta too.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dyt_forward_args {
    /// sizeof(dyt_forward_args) of the caller.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// The input.
    pub x: *const c_void,
    /// DyT and Derf: the factor.
    pub alpha: *const c_void,
    /// Derf: the offset.
    pub shift: *const c_void,
    /// Of param_dtype; NULL means 1.
    pub gamma: *const c_void,
    /// Of param_dtype; NULL means 0.
    pub beta: *const c_void,
    /// The output. May be x or residual itself, if it is not quantised.
    pub y: *mut c_void,
    /// LayerNorm: the mean of each row, or NULL.
    pub mean: *mut c_void,
    /// LayerNorm and RMSNorm: rstd of each row, or NULL.
    pub rstd: *mut c_void,
    /// What is added to x before the op, or NULL. As x in type, shape and strides.
    pub residual: *const c_void,
    /// With residual: x + residual as it is stored, to which the op is applied. May be x or residual itself, and is not y.
    pub sum: *mut c_void,
    /// What a quantised y is divided by, or NULL: an input of one f32, or with `quant_dynamic` an output. Then it is the largest
    /// |v| of each row / the largest value of the type, at least 2^-126; 1 where that |v| is 0. NaN is left out of it.
    pub scale: *mut c_void,
}

/// The buffers of a backward. NULL where absent: a gradient that is not asked for is not written.
///
/// The gradients of parameters are f32, whatever the parameters are.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dyt_backward_args {
    /// sizeof(dyt_backward_args) of the caller.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// The gradient of y.
    pub dy: *const c_void,
    /// The input of the forward; its sum where it had a residual.
    pub x: *const c_void,
    /// DyT and Derf: the factor.
    pub alpha: *const c_void,
    /// Derf: the offset.
    pub shift: *const c_void,
    /// Of param_dtype; NULL means 1. Needed for dgamma.
    pub gamma: *const c_void,
    /// LayerNorm: the mean that the forward wrote, or NULL.
    pub mean: *const c_void,
    /// LayerNorm and RMSNorm: rstd that the forward wrote, or NULL.
    pub rstd: *const c_void,
    /// The gradient of x, or NULL. May be dy or dsum itself.
    pub dx: *mut c_void,
    /// DyT and Derf: one f32, or NULL.
    pub dalpha: *mut c_void,
    /// Derf: one f32, or NULL.
    pub dshift: *mut c_void,
    /// As many f32 as gamma has elements, or NULL.
    pub dgamma: *mut c_void,
    /// As many f32 as beta has elements, or NULL.
    pub dbeta: *mut c_void,
    /// What is added to dx before it is rounded, the gradient of the forward's sum, or NULL. As dx in type, shape and
    /// strides.
    pub dsum: *const c_void,
}
