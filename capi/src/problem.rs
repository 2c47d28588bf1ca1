//! From the structs of C, whose fields may be anything, to a validated problem.

use core::mem::MaybeUninit;

use dyt::{DType, Op, Pass, Problem, Quant, Std};

use crate::abi::dyt_problem;
use crate::status::{Failure, Outcome};

/// A `size` beyond this is no struct of a later version, but a field that was never set.
const LARGEST: usize = 4096;

/// A struct of the ABI: it begins with its size and holds only integers, floats and pointers, so that any bytes are a
/// value of it.
///
/// # Safety
/// The type is `#[repr(C)]`, its first field is the `u32` `size`, and every bit pattern is valid.
pub(crate) unsafe trait Sized32: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Bytes of its first version; later ones only appended fields, of which 0 means what was before.
    const LEAST: usize;
}

// SAFETY: integers and floats, `size` first.
unsafe impl Sized32 for dyt_problem {
    const NAME: &'static str = "dyt_problem";
    const LEAST: usize = core::mem::offset_of!(dyt_problem, gamma_offset);
}

/// Copies a struct of the caller's, of any version of the ABI.
///
/// # Safety
/// `from` is NULL, or points to as many readable bytes as the `u32` there says.
pub(crate) unsafe fn read<T: Sized32>(from: *const T) -> Outcome<T> {
    let known = size_of::<T>();
    if from.is_null() {
        return Err(Failure::null(T::NAME));
    }
    if !from.is_aligned() {
        return Err(Failure::invalid(format!("{} is not aligned to {} bytes", T::NAME, align_of::<T>())));
    }
    // SAFETY: it is aligned and not NULL, and begins with a `u32` by the trait.
    let size = unsafe { from.cast::<u32>().read() } as usize;
    if size < T::LEAST || size > LARGEST || !size.is_multiple_of(align_of::<T>()) {
        return Err(Failure::invalid(format!("size of {} is {size}, and it has {known} bytes", T::NAME)));
    }
    // SAFETY: the caller's struct has `size` bytes.
    let (there, rest) =
        unsafe { core::slice::from_raw_parts(from.cast::<u8>(), size) }.split_at(size.min(known));
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: there is room for as many bytes, and any are a value of `T`.
    let value = unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(there.as_ptr(), there.len());
        value.assume_init()
    };
    if rest.iter().any(|&byte| byte != 0) {
        let message = format!("{} sets fields that this version of the library does not know", T::NAME);
        return Err(Failure::unsupported(message));
    }
    Ok(value)
}

/// Refuses a reserved field that is not 0.
pub(crate) fn reserved(name: &'static str, field: &'static str, value: u32) -> Outcome {
    if value == 0 { Ok(()) } else { Err(Failure::invalid(format!("{field} of {name} is {value}, not 0"))) }
}

/// The problem that the caller's struct means.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn problem(from: *const dyt_problem) -> Outcome<Problem> {
    // SAFETY: promised by the caller.
    unsafe { problem_and_scaling(from) }.map(|(problem, _)| problem)
}

/// The same, and whether the rows of a quantised y have scales of their own.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn problem_and_scaling(from: *const dyt_problem) -> Outcome<(Problem, bool)> {
    // SAFETY: promised by the caller.
    let raw = unsafe { read(from) }?;
    reserved(dyt_problem::NAME, "reserved", raw.reserved)?;
    reserved(dyt_problem::NAME, "reserved2", raw.reserved2)?;
    let mut builder = Problem::new(op(raw.op)?, count("rows", raw.rows)?, count("cols", raw.cols)?)
        .dtype(dtype("dtype", raw.dtype)?)
        .param_dtype(dtype("param_dtype", raw.param_dtype)?)
        .std(std(raw.std)?)
        .accumulate(flag("accumulate", raw.accumulate)?)
        .eps(raw.eps)
        .gamma_offset(raw.gamma_offset)
        .inner(if raw.inner == 0 { 1 } else { count("inner", raw.inner)? });
    let row_stride = nonzero("row_stride", raw.row_stride)?;
    if let Some(row_stride) = row_stride {
        builder = builder.row_stride(row_stride);
    }
    let head_stride = nonzero("head_stride", raw.head_stride)?.unwrap_or(count("cols", raw.cols)?);
    let heads = nonzero("heads", raw.heads)?.unwrap_or(1);
    if heads > 1 {
        builder = builder.heads(heads, head_stride);
    }
    let y_strides =
        [nonzero("y_row_stride", raw.y_row_stride)?, nonzero("y_head_stride", raw.y_head_stride)?];
    if y_strides != [None, None] {
        // What is 0 is as in x.
        let x = builder.build()?;
        let [row, head] = y_strides;
        builder = builder.y_strides(row.unwrap_or(x.row_stride()), head.unwrap_or(x.head_stride()));
    }
    if let Some(param_rows) = nonzero("param_rows", raw.param_rows)? {
        builder = builder.param_rows(param_rows);
    }
    let dynamic = flag("quant_dynamic", raw.quant_dynamic)?;
    Ok((builder.build()?.with_quant(quant(raw.quant)?), dynamic))
}

fn quant(value: u32) -> Outcome<Option<Quant>> {
    match value {
        0 => Ok(None),
        1 => Ok(Some(Quant::F8E4M3)),
        2 => Ok(Some(Quant::F8E5M2)),
        3 => Ok(Some(Quant::I8)),
        _ => Err(Failure::invalid(format!("quant is {value}, which no dyt_quant is"))),
    }
}

/// A count of which 0 stands for a default.
#[inline(always)]
fn nonzero(name: &'static str, value: i64) -> Outcome<Option<usize>> {
    if value == 0 { Ok(None) } else { count(name, value).map(Some) }
}

#[inline(always)]
fn count(name: &'static str, value: i64) -> Outcome<usize> {
    usize::try_from(value).map_err(|_| no_count(name, value))
}

#[cold]
fn no_count(name: &'static str, value: i64) -> Failure {
    let why = if value < 0 { "negative" } else { "more than an address can tell apart" };
    Failure::invalid(format!("{name} is {value}, {why}"))
}

fn op(value: u32) -> Outcome<Op> {
    match value {
        0 => Ok(Op::Dyt),
        1 => Ok(Op::Derf),
        2 => Ok(Op::LayerNorm),
        3 => Ok(Op::RmsNorm),
        _ => Err(Failure::invalid(format!("op is {value}, which no dyt_op is"))),
    }
}

fn dtype(name: &'static str, value: u32) -> Outcome<DType> {
    match value {
        0 => Ok(DType::F32),
        1 => Ok(DType::F16),
        2 => Ok(DType::Bf16),
        _ => Err(Failure::invalid(format!("{name} is {value}, which no dyt_dtype is"))),
    }
}

fn std(value: u32) -> Outcome<Std> {
    match value {
        0 => Ok(Std::Biased),
        1 => Ok(Std::Unbiased),
        _ => Err(Failure::invalid(format!("std is {value}, which no dyt_std is"))),
    }
}

fn flag(name: &'static str, value: u32) -> Outcome<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::invalid(format!("{name} is {value}, neither 0 nor 1"))),
    }
}

/// The pass that the caller's number means.
pub(crate) fn pass(value: u32) -> Outcome<Pass> {
    match value {
        0 => Ok(Pass::Forward),
        1 => Ok(Pass::Backward),
        _ => Err(Failure::invalid(format!("pass is {value}, which no dyt_pass is"))),
    }
}
