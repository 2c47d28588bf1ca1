//! The arguments and results of a boxed kernel.

use core::ffi::c_char;
use core::panic::AssertUnwindSafe;
use std::cell::RefCell;
use std::ffi::CString;
use std::panic::catch_unwind;

use super::shims::{Handle, shims};
use super::tensor::{Failure, Tensor};

/// The words that the dispatcher hands over. Tensors are the kernel's to drop, and each is taken once.
#[derive(Debug)]
pub(super) struct Stack(*mut u64);

impl Stack {
    fn word(&self, at: usize) -> u64 {
        // SAFETY: the schema has so many arguments.
        unsafe { self.0.add(at).read() }
    }
    /// The tensor of that place.
    pub(super) fn tensor(&self, at: usize) -> Tensor {
        // SAFETY: the schema has a tensor there, whose reference the dispatcher hands over.
        unsafe { Tensor::from_handle(self.word(at) as Handle) }
    }
    /// The tensor of that place, if one was given.
    pub(super) fn optional(&self, at: usize) -> Option<Tensor> {
        // SAFETY: the schema has an optional tensor there; the kernel takes it once.
        let value = unsafe { shims().optional(self.word(at)) }?;
        // SAFETY: as in `tensor`.
        Some(unsafe { Tensor::from_handle(value as Handle) })
    }
    /// The integer of that place.
    pub(super) fn int(&self, at: usize) -> i64 {
        self.word(at).cast_signed()
    }
    /// The number of that place.
    pub(super) fn float(&self, at: usize) -> f64 {
        f64::from_bits(self.word(at))
    }
    fn put<const N: usize>(&self, results: [Tensor; N]) {
        for (at, tensor) in results.into_iter().enumerate() {
            // SAFETY: the dispatcher has room for the results of the schema, and owns them from now on.
            unsafe { self.0.add(at).write(tensor.into_handle() as u64) };
        }
    }
}

thread_local! {
    /// The words of the last exception of this thread. The exception keeps a copy of its own.
    static WORDS: RefCell<CString> = RefCell::default();
}

/// Calls a kernel as the dispatcher calls it; a failure is thrown as a `std::runtime_error`.
///
/// # Safety
/// `words` is the stack of a boxed kernel, with as many words as the schema of `kernel` takes and leaves.
pub(super) unsafe fn call<const N: usize>(
    words: *mut u64,
    kernel: impl FnOnce(&Stack) -> Result<[Tensor; N], Failure>,
) {
    let failure = run(&Stack(words), kernel);
    if !failure.is_null() {
        // SAFETY: a string that ends in NUL, of which the exception takes a copy. Nothing here has to be dropped.
        unsafe { (shims().throw)(failure) }
    }
}

/// Runs a kernel, and puts its results on the stack. Returns the words of its failure, or NULL.
fn run<const N: usize>(
    stack: &Stack,
    kernel: impl FnOnce(&Stack) -> Result<[Tensor; N], Failure>,
) -> *const c_char {
    // A panic would pass through frames of C++ that know nothing of it.
    let outcome = catch_unwind(AssertUnwindSafe(|| kernel(stack)));
    match outcome.unwrap_or_else(|_| Err("dyt: a kernel panicked, which is a fault of dyt".to_owned())) {
        Ok(results) => {
            stack.put(results);
            core::ptr::null()
        }
        Err(failure) => WORDS.with_borrow_mut(|words| {
            *words = CString::new(failure).unwrap_or_default();
            words.as_ptr()
        }),
    }
}
