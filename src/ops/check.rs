//! Checks that the forward and the backward share: lengths, dtypes, presence and aliasing.

use crate::error::Argument;
use crate::layout::Layout;
use crate::view::{Place, View, ViewMut};
use crate::{Backend, DType, Error, Op, Problem, Result};

/// The memory that a device can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Host memory.
    Host,
    /// The memory of the CUDA device of this ordinal.
    #[cfg(has_cuda)]
    Cuda(usize),
    /// Any wgpu buffer; wgpu itself refuses those of another device.
    #[cfg(has_wgpu)]
    Wgpu,
}

impl Memory {
    const fn backend(self) -> Backend {
        match self {
            Self::Host => Backend::Cpu,
            #[cfg(has_cuda)]
            Self::Cuda(_) => Backend::Cuda,
            #[cfg(has_wgpu)]
            Self::Wgpu => Backend::Wgpu,
        }
    }

    /// Refuses an option that the kernels of the backend do not take. `joins`: a residual or dsum is given.
    pub(crate) fn check_takes(self, problem: &Problem, joins: bool) -> Result<()> {
        let backend = self.backend();
        backend.lacks(problem, joins).map_or(Ok(()), |what| Err(Error::NotSupported { backend, what }))
    }

    /// Refuses an argument in a place that the device does not reach.
    pub(crate) fn check(self, argument: Argument, place: Place<'_>) -> Result<()> {
        if self.holds(place) {
            return Ok(());
        }
        Err(Error::WrongDevice { argument, expected: self.backend(), actual: place.backend() })
    }

    /// Whether the device reaches a view in that place.
    fn holds(self, place: Place<'_>) -> bool {
        #[cfg(has_cuda)]
        if let (Self::Cuda(device), Place::Cuda(other)) = (self, place) {
            return device == other;
        }
        self.backend() == place.backend()
    }
}

/// One argument as the checks see it: it is looked at, never followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    argument: Argument,
    place: Place<'a>,
    ptr: *const u8,
    len: usize,
    dtype: DType,
}

/// Where the elements of an argument lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Rows, as those of x.
    X,
    /// Rows, as those of y.
    Y,
    /// One after the other.
    Vector,
}

impl Shape {
    /// That of rows.
    const fn layout(self, problem: &Problem) -> Option<Layout> {
        match self {
            Self::X => Some(problem.layout()),
            Self::Y => Some(problem.y_layout()),
            Self::Vector => None,
        }
    }
}

/// Where the elements of an argument lie, and how many it may have: worked out once for all arguments that are alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    shape: Shape,
    least: usize,
    most: usize,
}

impl Extent {
    /// Of a tensor like x.
    pub(super) const fn x(problem: &Problem) -> Self {
        Self::rows(Shape::X, problem.layout())
    }
    /// Of a tensor like y.
    pub(super) const fn y(problem: &Problem) -> Self {
        Self::rows(Shape::Y, problem.y_layout())
    }
    /// The gap behind the last row may be there or not: both are slices of a larger buffer.
    const fn rows(shape: Shape, layout: Layout) -> Self {
        Self { shape, least: layout.span(), most: layout.closed() }
    }
    /// Of `n` elements, one after the other.
    pub(super) const fn vector(n: usize) -> Self {
        Self { shape: Shape::Vector, least: n, most: n }
    }
}

impl<'a> Seen<'a> {
    pub(super) fn read(argument: Argument, view: Option<&View<'a>>) -> Option<Self> {
        view.map(|v| Self { argument, place: v.place(), ptr: v.as_ptr(), len: v.len(), dtype: v.dtype() })
    }

    pub(super) fn write(argument: Argument, view: Option<&ViewMut<'a>>) -> Option<Self> {
        view.map(|v| Self { argument, place: v.place(), ptr: v.address(), len: v.len(), dtype: v.dtype() })
    }

    /// Checks that the device reaches the argument.
    pub(super) fn within(self, memory: Memory) -> Result<()> {
        memory.check(self.argument, self.place)
    }

    /// Checks element type, length and alignment.
    pub(super) fn expect(self, dtype: DType, extent: Extent) -> Result<Checked<'a>> {
        let Self { argument, place, ptr, len, dtype: actual } = self;
        let (start, size) = (ptr.addr(), dtype.size());
        if actual != dtype {
            return Err(Error::WrongDtype { argument, expected: dtype, actual });
        }
        if len < extent.least || len > extent.most {
            return Err(Error::WrongLength { argument, expected: extent.least, actual: len });
        }
        if !start.is_multiple_of(size) {
            return Err(Error::Misaligned { argument, alignment: size });
        }
        Ok(Checked { argument, place, start, bytes: extent.least * size, size, shape: extent.shape })
    }
}

/// An argument that passed, and the bytes that the call touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked<'a> {
    argument: Argument,
    place: Place<'a>,
    start: usize,
    bytes: usize,
    /// Of an element.
    size: usize,
    shape: Shape,
}

impl<'a> Checked<'a> {
    /// The first `bytes` of a workspace of f32 partial sums; one of which nothing is needed may be anything.
    pub(super) fn workspace(view: &ViewMut<'a>, bytes: usize, memory: Memory) -> Result<Self> {
        let argument = Argument::Workspace;
        let actual = view.len() * view.dtype().size();
        if actual < bytes {
            return Err(Error::WorkspaceTooSmall { needed: bytes, actual });
        }
        let (place, start, alignment) = (view.place(), view.address().addr(), align_of::<f32>());
        if bytes != 0 {
            if let Some(seen) = Seen::write(argument, Some(view)) {
                seen.within(memory)?;
            }
            if !start.is_multiple_of(alignment) {
                return Err(Error::Misaligned { argument, alignment });
            }
        }
        Ok(Self { argument, place, start, bytes, size: 1, shape: Shape::Vector })
    }

    fn intersects(&self, other: &Self) -> bool {
        self.start < other.start + other.bytes
            && other.start < self.start + self.bytes
            && self.bytes != 0
            && other.bytes != 0
            && self.place == other.place
    }

    /// Whether two tensors of one stride in bytes keep to different columns of a larger buffer.
    fn interleaves(&self, other: &Self, problem: &Problem) -> bool {
        let layouts = self.shape.layout(problem).zip(other.shape.layout(problem));
        let Some((a, b)) = layouts else { return false };
        if a.row_stride != b.row_stride || self.size != other.size {
            return false;
        }
        let (low, high) = if self.start <= other.start { (a, b) } else { (b, a) };
        let size = self.size;
        let (stride, shift) = (a.row_stride * size, self.start.abs_diff(other.start));
        shift % stride >= low.extent() * size && shift % stride + high.extent() * size <= stride
    }

    /// Whether the argument has the place of `other`, element by element.
    fn is_at(&self, other: &Self, problem: &Problem) -> bool {
        (self.place, self.start) == (other.place, other.start)
            && (self.shape == other.shape || problem.has_one_layout())
    }
}

/// Refuses outputs that share memory with anything but an input whose place they may take.
pub(super) fn check_aliasing(
    problem: &Problem,
    outputs: &[Option<Checked<'_>>],
    inputs: &[Option<Checked<'_>>],
    in_place: &[(Argument, Argument)],
) -> Result<()> {
    let clash = |a: &Checked<'_>, b: &Checked<'_>| a.intersects(b) && !a.interleaves(b, problem);
    let takes_place = |output: &Checked<'_>, input: &Checked<'_>| {
        output.is_at(input, problem) && in_place.contains(&(output.argument, input.argument))
    };
    for (i, output) in outputs.iter().enumerate() {
        let Some(output) = output else { continue };
        for input in inputs.iter().flatten() {
            if clash(output, input) && !takes_place(output, input) {
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

/// Refuses an output that takes the place of an input whose strides are not its own.
pub(super) fn check_strides(
    problem: &Problem,
    output: Argument,
    input: Argument,
    in_place: bool,
) -> Result<()> {
    if in_place && !problem.has_one_layout() {
        return Err(Error::InPlaceStrides { output, input });
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

/// Refuses an argument that is given without another one that it needs.
pub(super) const fn check_partner(
    (argument, given): (Argument, bool),
    (needed, there): (Argument, bool),
) -> Result<()> {
    if given && !there { Err(Error::MissingPartner { argument, needed }) } else { Ok(()) }
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
