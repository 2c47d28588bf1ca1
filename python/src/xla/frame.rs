//! What a call of XLA's hands over, read with checks: sizes, kinds and numbers of everything that is touched.

use core::ffi::c_int;
use core::fmt::Display;
use core::slice::from_raw_parts;

use dyt::{DType, Quant};

use super::abi;

/// Why a call failed: what XLA raises in Python.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: c_int,
    pub(super) message: String,
}

impl Failure {
    const INVALID_ARGUMENT: c_int = 3;
    const INTERNAL: c_int = 13;

    pub(super) fn invalid(message: impl Display) -> Self {
        Self { code: Self::INVALID_ARGUMENT, message: format!("dyt: {message}") }
    }
    pub(super) fn internal(message: impl Display) -> Self {
        Self { code: Self::INTERNAL, message: format!("dyt: {message}") }
    }
}

impl From<dyt::Error> for Failure {
    fn from(error: dyt::Error) -> Self {
        Self::invalid(error)
    }
}

/// An argument or a result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array<'a> {
    pub(super) address: usize,
    /// `None` where the kernels do not know the dtype.
    pub(super) dtype: Option<DType>,
    pub(super) dims: &'a [i64],
}

impl Array<'_> {
    /// Elements.
    pub(super) fn len(&self) -> usize {
        product(self.dims)
    }
}

/// The product of dimensions. XLA has none that is negative, and none whose product is beyond memory.
pub(super) fn product(dims: &[i64]) -> usize {
    dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).product()
}

/// The arguments, or the results, in order.
#[derive(Debug)]
pub(super) struct Arrays<'a> {
    what: &'static str,
    kinds: &'a [c_int],
    buffers: &'a [*const abi::Buffer],
    next: usize,
}

impl<'a> Arrays<'a> {
    /// # Safety
    /// XLA made the struct, for a call that lasts.
    unsafe fn of(what: &'static str, buffers: &'a abi::Buffers) -> Result<Self, Failure> {
        check_size(what, buffers.struct_size, size_of::<abi::Buffers>())?;
        let size = usize::try_from(buffers.size).unwrap_or(0);
        // SAFETY: both arrays have as many entries as `size` says; XLA may leave them null where there are none.
        let (kinds, buffers) = unsafe { (entries(buffers.kinds, size), entries(buffers.buffers, size)) };
        Ok(Self { what, kinds, buffers, next: 0 })
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Result<Array<'a>, Failure> {
        let missing = || Failure::internal(format_args!("too few {}", self.what));
        let (kind, buffer) =
            self.kinds.get(self.next).zip(self.buffers.get(self.next)).ok_or_else(missing)?;
        self.next += 1;
        if *kind != abi::KIND_BUFFER {
            return Err(Failure::internal(format_args!("one of the {} is no buffer", self.what)));
        }
        // SAFETY: XLA keeps the buffers of a call until it ends.
        let buffer = unsafe { &**buffer };
        check_least("a buffer", buffer.struct_size, size_of::<abi::Buffer>())?;
        let rank = usize::try_from(buffer.rank).unwrap_or(0);
        let dtype = match buffer.dtype {
            abi::TYPE_F32 => Some(DType::F32),
            abi::TYPE_F16 => Some(DType::F16),
            abi::TYPE_BF16 => Some(DType::Bf16),
            abi::TYPE_F8E4M3FN => Some(DType::Quant(Quant::F8E4M3)),
            abi::TYPE_F8E5M2 => Some(DType::Quant(Quant::F8E5M2)),
            abi::TYPE_S8 => Some(DType::Quant(Quant::I8)),
            _ => None,
        };
        // SAFETY: a buffer has as many dimensions as its rank says.
        let dims = unsafe { entries(buffer.dims, rank) };
        Ok(Array { address: buffer.data.expose_provenance(), dtype, dims })
    }

    /// The next one, if it is there.
    pub(super) fn next_if(&mut self, there: bool) -> Result<Option<Array<'a>>, Failure> {
        there.then(|| self.next()).transpose()
    }
}

/// What the call was compiled with.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    kinds: &'a [c_int],
    names: &'a [*const abi::ByteSpan],
    values: &'a [*const core::ffi::c_void],
}

impl<'a> Attributes<'a> {
    /// # Safety
    /// As [`Arrays::of`].
    unsafe fn of(attributes: &'a abi::Attributes) -> Result<Self, Failure> {
        check_size("the attributes", attributes.struct_size, size_of::<abi::Attributes>())?;
        let size = usize::try_from(attributes.size).unwrap_or(0);
        // SAFETY: as in `Arrays::of`.
        unsafe {
            Ok(Self {
                kinds: entries(attributes.kinds, size),
                names: entries(attributes.names, size),
                values: entries(attributes.values, size),
            })
        }
    }

    fn find(&self, name: &'static str, kind: c_int) -> Result<*const core::ffi::c_void, Failure> {
        // SAFETY: XLA keeps the names of a call until it ends.
        let named = |&at: &usize| unsafe { bytes(&*self.names[at]) } == name.as_bytes();
        let found = (0..self.names.len()).find(named).filter(|&at| self.kinds[at] == kind);
        let missing =
            || Failure::internal(format_args!("the attribute {name} is missing or of another kind"));
        found.map(|at| self.values[at]).ok_or_else(missing)
    }

    /// A string.
    pub(super) fn string(&self, name: &'static str) -> Result<&'a [u8], Failure> {
        let value = self.find(name, abi::KIND_STRING)?.cast::<abi::ByteSpan>();
        // SAFETY: an attribute of this kind is a `ByteSpan`, which XLA keeps until the call ends.
        Ok(unsafe { bytes(&*value) })
    }

    fn scalar(&self, name: &'static str, dtype: c_int) -> Result<*const core::ffi::c_void, Failure> {
        let value = self.find(name, abi::KIND_SCALAR)?.cast::<abi::Scalar>();
        // SAFETY: an attribute of this kind is a `Scalar`, which XLA keeps until the call ends.
        let scalar = unsafe { &*value };
        let other = || Failure::internal(format_args!("the attribute {name} has another type"));
        (scalar.dtype == dtype).then_some(scalar.value).ok_or_else(other)
    }

    /// A number of 64 bits that is not negative.
    pub(super) fn number(&self, name: &'static str) -> Result<usize, Failure> {
        let value = self.scalar(name, abi::TYPE_S64)?.cast::<i64>();
        // SAFETY: the scalar has that type.
        let value = unsafe { value.read_unaligned() };
        usize::try_from(value).map_err(|_| Failure::internal(format_args!("the attribute {name} is {value}")))
    }

    /// Whether a number is not 0.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Failure> {
        self.number(name).map(|number| number != 0)
    }

    /// A number of type f32.
    pub(super) fn float(&self, name: &'static str) -> Result<f32, Failure> {
        let value = self.scalar(name, abi::TYPE_F32)?.cast::<f32>();
        // SAFETY: the scalar has that type.
        Ok(unsafe { value.read_unaligned() })
    }
}

/// One call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) arguments: Arrays<'a>,
    pub(super) results: Arrays<'a>,
    pub(super) attributes: Attributes<'a>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// XLA made the frame, for a call that lasts.
    pub(super) unsafe fn of(frame: &'a abi::CallFrame) -> Result<Self, Failure> {
        check_least("the call frame", frame.struct_size, size_of::<abi::CallFrame>())?;
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Self {
                arguments: Arrays::of("arguments", &frame.arguments)?,
                results: Arrays::of("results", &frame.results)?,
                attributes: Attributes::of(&frame.attributes)?,
            })
        }
    }
}

/// What is reached by pointer may grow behind the fields that are declared here.
fn check_least(what: &str, size: usize, ours: usize) -> Result<(), Failure> {
    check_size(what, size.min(ours), ours)
}

/// Structs within others may not even grow.
fn check_size(what: &str, size: usize, ours: usize) -> Result<(), Failure> {
    if size == ours {
        return Ok(());
    }
    Err(Failure::internal(format_args!(
        "XLA's {what} has {size} bytes, and {ours} were expected: another version of its interface"
    )))
}

/// # Safety
/// There are `len` values at `at` for `'a`, unless `len` is 0.
unsafe fn entries<'a, T>(at: *const T, len: usize) -> &'a [T] {
    // SAFETY: the caller's promise.
    if len == 0 { &[] } else { unsafe { from_raw_parts(at, len) } }
}

/// # Safety
/// XLA made the span, for a call that lasts.
unsafe fn bytes<'a>(span: &abi::ByteSpan) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { entries(span.ptr, span.len) }
}
