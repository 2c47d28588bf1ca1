//! Checks that the forward and the backward share: lengths, dtypes, presence and aliasing.

use crate::error::Argument;
use crate::view::{View, ViewMut};
use crate::{DType, Error, Op, Problem, Result};

/// One argument as the checks see it. `Copy`, and without a lifetime: it is looked at, never followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    argument: Argument,
    ptr: *const u8,
    len: usize,
    dtype: DType,
}

/// Where the elements of an argument lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The rows of the tensor, with its stride.
    Tensor,
    /// So many elements, one after the other.
    Vector(usize),
}

impl Seen {
    pub(super) fn read(argument: Argument, view: Option<&View<'_>>) -> Option<Self> {
        view.map(|v| Self { argument, ptr: v.as_ptr(), len: v.len(), dtype: v.dtype() })
    }

    pub(super) fn write(argument: Argument, view: Option<&ViewMut<'_>>) -> Option<Self> {
        view.map(|v| Self { argument, ptr: v.address(), len: v.len(), dtype: v.dtype() })
    }

    /// Checks element type, length and alignment.
    pub(super) fn expect(self, problem: &Problem, dtype: DType, shape: Shape) -> Result<Checked> {
        let Self { argument, ptr, len, dtype: actual } = self;
        if actual != dtype {
            return Err(Error::WrongDtype { argument, expected: dtype, actual });
        }
        let (expected, longest) = match shape {
            // The gap behind the last row may be there or not: both are slices of a larger buffer.
            Shape::Tensor => (problem.span(), problem.rows() * problem.row_stride()),
            Shape::Vector(n) => (n, n),
        };
        if len < expected || len > longest {
            return Err(Error::WrongLength { argument, expected, actual: len });
        }
        if !ptr.addr().is_multiple_of(dtype.size()) {
            return Err(Error::Misaligned { argument, alignment: dtype.size() });
        }
        Ok(Checked { argument, start: ptr.addr(), bytes: expected * dtype.size(), shape })
    }
}

/// An argument that passed, and the bytes that the call touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    argument: Argument,
    start: usize,
    bytes: usize,
    shape: Shape,
}

impl Checked {
    pub(super) const fn bytes_at(argument: Argument, start: usize, bytes: usize) -> Self {
        Self { argument, start, bytes, shape: Shape::Vector(bytes) }
    }

    const fn intersects(&self, other: &Self) -> bool {
        self.bytes != 0
            && other.bytes != 0
            && self.start < other.start + other.bytes
            && other.start < self.start + self.bytes
    }

    /// Whether two tensors of one stride keep to different columns of a larger buffer.
    fn interleaves(&self, other: &Self, problem: &Problem) -> bool {
        if self.shape != Shape::Tensor || other.shape != Shape::Tensor {
            return false;
        }
        let size = problem.dtype().size();
        let (stride, row) = (problem.row_stride() * size, problem.row_len() * size);
        let shift = self.start.abs_diff(other.start) % stride;
        shift >= row && shift <= stride - row
    }
}

/// Refuses outputs that share memory with anything but their in-place partner.
pub(super) fn check_aliasing(
    problem: &Problem,
    outputs: &[Option<Checked>],
    inputs: &[Option<Checked>],
    in_place: (Argument, Argument),
) -> Result<()> {
    let clash = |a: &Checked, b: &Checked| a.intersects(b) && !a.interleaves(b, problem);
    for (i, output) in outputs.iter().enumerate() {
        let Some(output) = output else { continue };
        for input in inputs.iter().flatten() {
            let same = output.start == input.start && (output.argument, input.argument) == in_place;
            if !same && clash(output, input) {
                return Err(Error::Aliasing { output: output.argument, other: input.argument });
            }
        }
        for other in outputs[..i].iter().flatten() {
            if clash(output, other) {
                return Err(Error::Aliasing { output: output.argument, other: other.argument });
            }
        }
    }
    Ok(())
}

/// Refuses an argument that the op does not have, and one that it lacks.
pub(super) fn check_presence(op: Op, argument: Argument, given: bool, presence: Presence) -> Result<()> {
    match presence {
        Presence::Required if !given => Err(Error::MissingArgument { op, argument }),
        Presence::Absent if given => Err(Error::UnexpectedArgument { op, argument }),
        Presence::Required | Presence::Optional | Presence::Absent => Ok(()),
    }
}

/// Whether an op takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    Optional,
    Absent,
}

impl Presence {
    pub(super) const fn required_if(condition: bool) -> Self {
        if condition { Self::Required } else { Self::Absent }
    }
    pub(super) const fn optional_if(condition: bool) -> Self {
        if condition { Self::Optional } else { Self::Absent }
    }
}

/// The argument's address, or null.
pub(super) fn address(view: Option<&View<'_>>) -> *const u8 {
    view.map_or(core::ptr::null(), View::as_ptr)
}

/// The argument's address, or null.
pub(super) fn address_mut(view: Option<&ViewMut<'_>>) -> *mut u8 {
    view.map_or(core::ptr::null_mut(), ViewMut::address)
}
