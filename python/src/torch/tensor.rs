//! A tensor of torch's that this library owns a reference to.

use core::ffi::c_void;

use dyt::{DType, Quant};

use super::shims::{Handle, Shims, shims};

/// What a kernel says when it refuses: the words of the exception.
pub(super) type Failure = String;

/// Where a tensor lies, in torch's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: i32,
    pub(super) index: i32,
}

/// An owned reference to a tensor.
#[derive(Debug)]
pub(super) struct Tensor(Handle);

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's own, and is not used again.
        unsafe { (shims().aoti_torch_delete_tensor_object)(self.0) };
    }
}

impl Tensor {
    /// # Safety
    /// The handle is an owned reference, and nobody else's.
    pub(super) const unsafe fn from_handle(handle: Handle) -> Self {
        Self(handle)
    }

    /// The handle, for whoever owns it next.
    pub(super) fn into_handle(self) -> Handle {
        core::mem::ManuallyDrop::new(self).0
    }

    /// What a getter of torch's writes.
    ///
    /// # Errors
    /// Torch does not tell.
    fn get<T: Copy>(
        &self,
        getter: unsafe extern "C-unwind" fn(Handle, *mut T) -> i32,
        initial: T,
    ) -> Result<T, Failure> {
        let mut value = initial;
        // SAFETY: the handle lives, and the getter writes one value.
        if unsafe { getter(self.0, &raw mut value) } == 0 {
            Ok(value)
        } else {
            Err("dyt: torch does not tell how a tensor lies in memory".to_owned())
        }
    }

    /// Bytes are read and written there; 0 only where there are no elements.
    ///
    /// # Errors
    /// There are elements and no memory for them, as after `tensor.untyped_storage().resize_(0)`.
    pub(super) fn address(&self, name: &str) -> Result<usize, Failure> {
        let pointer: Result<*mut c_void, _> =
            self.get(shims().aoti_torch_get_data_ptr, core::ptr::null_mut());
        match pointer {
            Ok(pointer) if !pointer.is_null() => Ok(pointer.expose_provenance()),
            _ if self.elements()? == 0 => Ok(0),
            _ => Err(format!("dyt: {name} has shape {:?}, and no memory is allocated for it", self.sizes()?)),
        }
    }

    fn list(
        &self,
        getter: unsafe extern "C-unwind" fn(Handle, *mut *mut i64) -> i32,
    ) -> Result<&[i64], Failure> {
        let length = self.get(shims().aoti_torch_get_dim, 0)?;
        let pointer = self.get(getter, core::ptr::null_mut())?;
        if length <= 0 || pointer.is_null() {
            return Ok(&[]);
        }
        // SAFETY: torch keeps as many values there as the tensor has dimensions, for as long as it lives.
        Ok(unsafe { core::slice::from_raw_parts(pointer, length as usize) })
    }

    pub(super) fn sizes(&self) -> Result<&[i64], Failure> {
        self.list(shims().aoti_torch_get_sizes)
    }

    /// In elements.
    pub(super) fn strides(&self) -> Result<&[i64], Failure> {
        self.list(shims().aoti_torch_get_strides)
    }

    pub(super) fn elements(&self) -> Result<i64, Failure> {
        Ok(self.sizes()?.iter().product())
    }

    pub(super) fn place(&self) -> Result<Place, Failure> {
        let Shims { aoti_torch_get_device_type, aoti_torch_get_device_index, .. } = shims();
        Ok(Place {
            kind: self.get(*aoti_torch_get_device_type, 0)?,
            index: self.get(*aoti_torch_get_device_index, 0)?,
        })
    }

    /// The dtype, or what people call it where the kernels do not know it.
    pub(super) fn dtype(&self) -> Result<Result<DType, &'static str>, Failure> {
        let code = self.get(shims().aoti_torch_get_dtype, -1)?;
        let known = shims().dtypes[..DType::ALL.len()].iter().position(|&dtype| dtype == code);
        Ok(known.map(|at| DType::ALL[at]).ok_or_else(|| dtype_name(code)))
    }

    /// A new tensor by torch's allocator, with whatever its memory holds.
    ///
    /// # Errors
    /// Torch has no memory.
    pub(super) fn empty(sizes: &[i64], strides: &[i64], dtype: DType, place: Place) -> Result<Self, Failure> {
        debug_assert_eq!(sizes.len(), strides.len());
        let code = shims().dtypes[match dtype {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::Bf16 => 2,
            DType::Quant(Quant::F8E4M3) => 3,
            DType::Quant(Quant::F8E5M2) => 4,
            DType::Quant(Quant::I8) => 5,
        }];
        let mut handle = core::ptr::null_mut();
        // SAFETY: both lists have as many values as it is told, and it writes one handle, which the caller owns.
        let status = unsafe {
            (shims().aoti_torch_empty_strided)(
                sizes.len() as i64,
                sizes.as_ptr(),
                strides.as_ptr(),
                code,
                place.kind,
                place.index,
                &raw mut handle,
            )
        };
        if status != 0 || handle.is_null() {
            let ours = format!("dyt: torch has no memory for a tensor of shape {sizes:?}");
            return Err(shims().failure(ours));
        }
        Ok(Self(handle))
    }

    /// A new contiguous tensor.
    ///
    /// # Errors
    /// As [`Self::empty`].
    pub(super) fn contiguous(sizes: &[i64], dtype: DType, place: Place) -> Result<Self, Failure> {
        match sizes {
            [] => Self::empty(&[], &[], dtype, place),
            &[size] => Self::empty(&[size], &[1], dtype, place),
            _ => Self::empty(sizes, &contiguous_strides(sizes), dtype, place),
        }
    }

    /// The values of this tensor in a new one of these strides and this dtype.
    ///
    /// # Errors
    /// Torch has no memory, or does not copy.
    pub(super) fn copy(&self, strides: &[i64], dtype: DType) -> Result<Self, Failure> {
        let copy = Self::empty(self.sizes()?, strides, dtype, self.place()?)?;
        // SAFETY: both handles live. On a GPU the copy is enqueued on the current stream.
        if unsafe { (shims().aoti_torch_copy_)(copy.0, self.0, 1) } != 0 {
            let ours = format!("dyt: torch does not copy a tensor of shape {:?}", self.sizes()?);
            return Err(shims().failure(ours));
        }
        Ok(copy)
    }
}

/// The address of a tensor, or 0 for none.
///
/// # Errors
/// As [`Tensor::address`].
pub(super) fn address(name: &str, tensor: Option<&Tensor>) -> Result<usize, Failure> {
    tensor.map_or(Ok(0), |tensor| tensor.address(name))
}

/// The usual ones that the kernels do not know, by the numbers of c10::ScalarType, which do not change.
const fn dtype_name(code: i32) -> &'static str {
    match code {
        0 => "uint8",
        1 => "int8",
        2 => "int16",
        3 => "int32",
        4 => "int64",
        7 => "float64",
        8..=10 => "complex",
        11 => "bool",
        _ => "of another dtype",
    }
}

/// The strides of a contiguous tensor, as torch makes them.
pub(super) fn contiguous_strides(sizes: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; sizes.len()];
    for at in (1..sizes.len()).rev() {
        strides[at - 1] = strides[at] * sizes[at].max(1);
    }
    strides
}
