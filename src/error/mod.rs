//! Every way in which a call can be refused, as values.

mod argument;
mod refusal;

pub use argument::Argument;
pub use refusal::Refusal;

use thiserror::Error as ThisError;

use crate::{Backend, DType, Level, Op, Quant};

/// The result of every fallible call of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// What was wrong with a call. A call that returns an error has written to none of its outputs.
#[derive(Clone, Debug, PartialEq, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// `cols` is 0; a row needs at least one element.
    #[error("cols is 0, and a row needs at least one element")]
    ZeroCols,
    /// `inner`, the run length of channels-first data, is 0.
    #[error("inner is 0; it is 1 for channels-last data")]
    ZeroInner,
    /// Rows would overlap.
    #[error("row_stride of {argument} is {row_stride} elements, and a row takes {minimum}")]
    StrideTooSmall {
        /// x, or y where it has strides of its own.
        argument: Argument,
        /// The stride that was asked for, in elements.
        row_stride: usize,
        /// The elements of one row, cols · inner; with heads those of a token, (heads − 1) · head_stride + cols.
        minimum: usize,
    },
    /// `heads` is 0.
    #[error("heads is 0; it is 1 where a token is one row")]
    ZeroHeads,
    /// Heads belong to channels-last data.
    #[error("{heads} heads beside inner {inner}; channels-first data has no heads")]
    HeadsChannelsFirst {
        /// The heads that were asked for.
        heads: usize,
        /// Run length of channels-first data.
        inner: usize,
    },
    /// Heads would overlap.
    #[error("head_stride of {argument} is {head_stride} elements, and a head takes {cols}")]
    HeadsOverlap {
        /// x, or y where it has strides of its own.
        argument: Argument,
        /// The stride that was asked for, in elements.
        head_stride: usize,
        /// The elements of a head.
        cols: usize,
    },
    /// The rows are no multiple of those that share gamma and beta.
    #[error("param_rows is {param_rows}, and does not divide {rows}, the rows with all heads")]
    ParamRows {
        /// The rows that were to share gamma and beta.
        param_rows: usize,
        /// Rows · heads.
        rows: usize,
    },
    /// An output would take the place of an input that has other strides.
    #[error("{output} cannot take the place of {input}, which has other strides")]
    InPlaceStrides {
        /// The output.
        output: Argument,
        /// The input.
        input: Argument,
    },
    /// The tensor has more bytes than an address can tell apart.
    #[error(
        "rows {rows} × row_stride {row_stride} (cols {cols} × inner {inner}) overflows the address space"
    )]
    SizeOverflow {
        /// Rows of the problem.
        rows: usize,
        /// Columns of the problem.
        cols: usize,
        /// Run length of channels-first data.
        inner: usize,
        /// Distance of two rows in elements; 0 where it was to be computed.
        row_stride: usize,
    },
    /// `eps` is negative, infinite or NaN.
    #[error("eps is {eps}; it must be finite and at least 0")]
    InvalidEps {
        /// What was given.
        eps: f32,
    },
    /// `gamma_offset` is infinite or NaN.
    #[error("gamma_offset is {gamma_offset}; it must be finite")]
    InvalidGammaOffset {
        /// What was given.
        gamma_offset: f32,
    },
    /// The unbiased standard deviation of a single value does not exist.
    #[error("the unbiased standard deviation needs at least 2 columns")]
    UnbiasedSingleColumn,
    /// `Std::Unbiased` belongs to LayerNorm alone.
    #[error("Std::Unbiased is a form of LayerNorm, and the op is {op}")]
    UnbiasedNotLayerNorm {
        /// The op that was asked for.
        op: Op,
    },
    /// gamma and beta are stored as x is, or as f32.
    #[error("parameters of dtype {param_dtype} beside data of dtype {dtype}; allowed are {dtype} and f32")]
    ParamDtype {
        /// Storage type of x, y, dy and dx.
        dtype: DType,
        /// Storage type of gamma and beta that was asked for.
        param_dtype: DType,
    },
    /// Data and parameters have a type that is for a quantised y alone.
    #[error(
        "{quant} is a type of a quantised y, which `quant` sets; data and parameters are f32, f16 or bf16"
    )]
    DataDtype {
        /// The type that was asked for.
        quant: Quant,
    },
    /// y is quantised, and there is neither `scale` nor `scales`.
    #[error("y is quantised to {quant}: it needs scale, an input, or scales, an output")]
    MissingScale {
        /// The type of y.
        quant: Quant,
    },
    /// y is quantised, and there are both `scale` and `scales`.
    #[error("y is quantised to {quant}: it takes scale, an input, or scales, an output, and not both")]
    BothScales {
        /// The type of y.
        quant: Quant,
    },
    /// A scale is given, and y is not quantised.
    #[error("{argument} is given, and y is not quantised; for a problem, `quant` does that")]
    UnexpectedScale {
        /// `scale` or `scales`.
        argument: Argument,
    },
    /// y is quantised, and is to take the place of x, whose elements are larger.
    #[error("y is quantised to {quant}, so that it cannot take the place of x")]
    QuantisedInPlace {
        /// The type of y.
        quant: Quant,
    },
    /// y of the problem is quantised, and so has no gradient.
    #[error(
        "y is quantised to {quant}: a backward takes the same problem without it, as `with_quant(None)` gives it"
    )]
    QuantisedBackward {
        /// The type of y.
        quant: Quant,
    },
    /// |y| of a norm has no bound that follows from its parameters.
    #[error("y of {op} has no bound that follows from gamma and beta; DyT and Derf have one")]
    BoundOfNorm {
        /// The op.
        op: Op,
    },
    /// A buffer has the wrong number of elements.
    #[error("{argument} has {actual} elements, expected {expected}")]
    WrongLength {
        /// Which argument.
        argument: Argument,
        /// The number of elements that the problem needs.
        expected: usize,
        /// The number that came.
        actual: usize,
    },
    /// A buffer has another element type than the problem.
    #[error("{argument} has dtype {actual}, expected {expected}{}", argument.dtype_setter(*expected))]
    WrongDtype {
        /// Which argument.
        argument: Argument,
        /// The dtype that the problem says.
        expected: DType,
        /// The dtype that came.
        actual: DType,
    },
    /// The op cannot do without this argument.
    #[error("{op} needs {argument}")]
    MissingArgument {
        /// The op.
        op: Op,
        /// The argument that it needs.
        argument: Argument,
    },
    /// The op has no such argument.
    #[error("{op} has no argument {argument}")]
    UnexpectedArgument {
        /// The op.
        op: Op,
        /// The argument that it does not have.
        argument: Argument,
    },
    /// `dgamma` is asked for, and there is no `gamma`.
    #[error("dgamma is asked for, and gamma is not given")]
    MissingGamma,
    /// An argument is given without another one that it needs: residual and sum come together, and dsum is added to dx.
    #[error("{argument} is given, and {needed} is not")]
    MissingPartner {
        /// The argument that is given.
        argument: Argument,
        /// The argument that it needs.
        needed: Argument,
    },
    /// The kernels of this backend do not take an argument or an option yet.
    #[error("the {backend} kernels of this version of dyt do not take {what}")]
    NotSupported {
        /// Whose kernels.
        backend: Backend,
        /// The argument or the option, by its name.
        what: &'static str,
    },
    /// An output shares memory with another argument in a way that is not an allowed in-place form.
    #[error("{output} shares memory with {other}; {}", output.places())]
    Aliasing {
        /// The output.
        output: Argument,
        /// The argument that shares its memory.
        other: Argument,
    },
    /// The caller's workspace is smaller than the query says.
    #[error("the workspace has {actual} bytes, and {needed} are needed")]
    WorkspaceTooSmall {
        /// Bytes that `Device::workspace_bytes` returns.
        needed: usize,
        /// Bytes that came.
        actual: usize,
    },
    /// A pointer is not aligned for its elements.
    #[error("{argument} is not aligned to {alignment} bytes")]
    Misaligned {
        /// Which argument.
        argument: Argument,
        /// The alignment that it needs, in bytes.
        alignment: usize,
    },
    /// An argument lies in memory that the device cannot reach.
    #[error("{argument} lies in the memory of {actual}, and the device is {expected}")]
    WrongDevice {
        /// Which argument.
        argument: Argument,
        /// The backend of the device that was asked to run.
        expected: Backend,
        /// The backend whose memory the argument lies in; the same one means another device of it.
        actual: Backend,
    },
    /// A view, rounded up to whole words of 4 bytes, reaches beyond the end of its wgpu buffer.
    #[error("{len} elements of {dtype} at byte {offset} do not lie in a buffer of {size} bytes")]
    OutOfBuffer {
        /// Where the view begins, in bytes.
        offset: u64,
        /// Elements of the view.
        len: usize,
        /// Their type.
        dtype: DType,
        /// Bytes of the buffer.
        size: u64,
    },
    /// A wgpu buffer was made without `BufferUsages::STORAGE`, which kernels need.
    #[error("the wgpu buffer was made without BufferUsages::STORAGE")]
    NotStorage,
    /// Memory could not be had.
    #[error("{bytes} bytes of memory could not be had")]
    OutOfMemory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// No backend of this name is known.
    #[error("unknown backend {name:?}; known are auto, cpu, cpu:LEVEL, cuda, cuda:N, wgpu, wgpu:NAME")]
    UnknownBackend {
        /// The name that was asked for.
        name: String,
    },
    /// No CPU level of this name is known.
    #[error("unknown CPU level {name:?}; known are portable, avx2, avx512, neon")]
    UnknownLevel {
        /// The name that was asked for.
        name: String,
    },
    /// The backend is known, and not available here.
    #[error("backend {backend} is not available: {reason}")]
    BackendUnavailable {
        /// Which backend.
        backend: Backend,
        /// Why.
        reason: Refusal,
    },
    /// The CPU level is known, and not available here.
    #[error("CPU level {level} is not available: {reason}")]
    LevelUnavailable {
        /// Which level.
        level: Level,
        /// Why.
        reason: Refusal,
    },
    /// The device is gone, and what its buffers held with it. Every later call on it returns this again.
    #[error("the {backend} device is lost: {reason}")]
    DeviceLost {
        /// Whose device.
        backend: Backend,
        /// What the driver says about it.
        reason: String,
    },
    /// The driver refused, in its own words.
    #[error("the {backend} driver reports: {message}")]
    Driver {
        /// Whose driver.
        backend: Backend,
        /// Its message.
        message: String,
    },
    /// One row alone is more than a device may bind at once, and tensors are cut at rows.
    #[error("a row of {argument} takes {bytes} bytes, and the device binds at most {limit} at once")]
    RowTooLarge {
        /// Which argument.
        argument: Argument,
        /// Bytes of the row.
        bytes: u64,
        /// The device's `max_storage_buffer_binding_size`.
        limit: u64,
    },
}
