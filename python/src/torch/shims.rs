//! LibTorch's stable C interface, looked up in the library that `import torch` has loaded.
//!
//! Neither torch nor a header of it is needed to build this, and one binary serves every torch from 2.9 on.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use libloading::Error;
use libloading::os::unix::{Library, RTLD_LAZY};

/// A tensor of torch's, by reference.
pub(super) type Handle = *mut c_void;
/// A kernel as the dispatcher calls it: on a stack of arguments, which the results overwrite.
pub(super) type Boxed = unsafe extern "C-unwind" fn(*mut u64, u64, u64);

/// Opens no library, but finds one that is open. The flag is not among libloading's.
const RTLD_NOLOAD: c_int = 4;

/// Declares the table of functions, and how it is filled.
macro_rules! shims {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of torch and of the C++ runtime that the kernels call, and the numbers of torch's enumerations.
        #[derive(Debug)]
        pub(super) struct Shims {
            $(pub(super) $name: unsafe extern "C-unwind" fn($($argument),*) $(-> $result)?,)*
            /// `std::__throw_runtime_error`.
            pub(super) throw: unsafe extern "C-unwind" fn(*const c_char) -> !,
            #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "a build without CUDA"))]
            pub(super) cuda: Option<CudaShims>,
            free_optional: FreeOptional,
            threads: Threads,
            words: Option<unsafe extern "C-unwind" fn() -> *const c_char>,
            pub(super) dtypes: [i32; 6],
            pub(super) cpu: i32,
            #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "a build without CUDA"))]
            pub(super) cuda_type: i32,
        }

        impl Shims {
            fn load(torch: &Library, cxx: &Library, cuda: Option<&Library>) -> Result<Self, Error> {
                // SAFETY: the types are those of torch's shim.h, of the C++ runtime and of ATen/Parallel.h; the functions
                // without arguments are pure.
                unsafe {
                    Ok(Self {
                        $($name: *torch.get(concat!(stringify!($name), "\0").as_bytes())?,)*
                        throw: *cxx.get(b"_ZSt21__throw_runtime_errorPKc\0")?,
                        cuda: cuda.map(|cuda| CudaShims::load(cuda)).transpose()?,
                        free_optional: FreeOptional::load(torch, cxx)?,
                        threads: Threads::load(torch),
                        words: torch.get(b"torch_exception_get_what_without_backtrace\0").ok().map(|symbol| *symbol),
                        dtypes: [
                            number(torch, b"aoti_torch_dtype_float32\0")?,
                            number(torch, b"aoti_torch_dtype_float16\0")?,
                            number(torch, b"aoti_torch_dtype_bfloat16\0")?,
                            number(torch, b"aoti_torch_dtype_float8_e4m3fn\0")?,
                            number(torch, b"aoti_torch_dtype_float8_e5m2\0")?,
                            number(torch, b"aoti_torch_dtype_int8\0")?,
                        ],
                        cpu: number(torch, b"aoti_torch_device_type_cpu\0")?,
                        cuda_type: number(torch, b"aoti_torch_device_type_cuda\0")?,
                    })
                }
            }
        }
    };
}

shims! {
    aoti_torch_library_init_impl: fn(*const c_char, *const c_char, *const c_char, u32, *mut Handle) -> i32;
    aoti_torch_library_impl: fn(Handle, *const c_char, Boxed) -> i32;
    aoti_torch_get_data_ptr: fn(Handle, *mut *mut c_void) -> i32;
    aoti_torch_get_dim: fn(Handle, *mut i64) -> i32;
    aoti_torch_get_sizes: fn(Handle, *mut *mut i64) -> i32;
    aoti_torch_get_strides: fn(Handle, *mut *mut i64) -> i32;
    aoti_torch_get_dtype: fn(Handle, *mut i32) -> i32;
    aoti_torch_get_device_type: fn(Handle, *mut i32) -> i32;
    aoti_torch_get_device_index: fn(Handle, *mut i32) -> i32;
    aoti_torch_empty_strided: fn(i64, *const i64, *const i64, i32, i32, i32, *mut Handle) -> i32;
    aoti_torch_copy_: fn(Handle, Handle, i32) -> i32;
    aoti_torch_delete_tensor_object: fn(Handle) -> i32;
}

/// What only a torch with CUDA has.
#[derive(Debug)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "a build without CUDA"))]
pub(super) struct CudaShims {
    pub(super) current_stream: unsafe extern "C-unwind" fn(i32, *mut *mut c_void) -> i32,
    pub(super) create_guard: unsafe extern "C-unwind" fn(i32, *mut *mut c_void) -> i32,
    pub(super) delete_guard: unsafe extern "C-unwind" fn(*mut c_void) -> i32,
}

impl CudaShims {
    fn load(cuda: &Library) -> Result<Self, Error> {
        // SAFETY: the types are those of torch's shim.h.
        unsafe {
            Ok(Self {
                current_stream: *cuda.get(b"aoti_torch_get_current_cuda_stream\0")?,
                create_guard: *cuda.get(b"aoti_torch_create_cuda_guard\0")?,
                delete_guard: *cuda.get(b"aoti_torch_delete_cuda_guard\0")?,
            })
        }
    }
}

/// What gives back the box around an optional argument.
#[derive(Clone, Copy, Debug)]
enum FreeOptional {
    /// From torch 2.13 on it is torch's own.
    Torch(unsafe extern "C-unwind" fn(*mut u64) -> i32),
    /// Before, operator delete.
    Delete(unsafe extern "C-unwind" fn(*mut u64)),
}

impl FreeOptional {
    /// # Safety
    /// The libraries are torch and the C++ runtime.
    unsafe fn load(torch: &Library, cxx: &Library) -> Result<Self, Error> {
        // SAFETY: the type is that of torch's stable/c/shim.h.
        match unsafe { torch.get(b"torch_delete_stable_ivalue\0") } {
            Ok(symbol) => Ok(Self::Torch(*symbol)),
            // SAFETY: the type is that of operator delete.
            Err(_) => Ok(Self::Delete(unsafe { *cxx.get(b"_ZdlPv\0")? })),
        }
    }
}

/// What tells how many threads torch takes.
#[derive(Clone, Copy, Debug)]
enum Threads {
    /// The stable function, which some later torch has.
    Stable(unsafe extern "C-unwind" fn(*mut u32) -> i32),
    /// The function of C++, by its mangled name.
    Mangled(unsafe extern "C-unwind" fn() -> c_int),
    /// Nothing: all processors are taken.
    Unknown,
}

impl Threads {
    /// # Safety
    /// The library is torch.
    unsafe fn load(torch: &Library) -> Self {
        // SAFETY: the types are those of torch's stable/c/shim.h and of ATen/Parallel.h.
        unsafe {
            if let Ok(symbol) = torch.get(b"torch_get_num_threads\0") {
                Self::Stable(*symbol)
            } else if let Ok(symbol) = torch.get(b"_ZN2at15get_num_threadsEv\0") {
                Self::Mangled(*symbol)
            } else {
                Self::Unknown
            }
        }
    }

    /// 0 where torch does not tell.
    fn number(self) -> usize {
        let mut number = 0;
        match self {
            // SAFETY: it writes one number, and is safe from any thread.
            Self::Stable(get) if unsafe { get(&raw mut number) } == 0 => number as usize,
            // SAFETY: it takes nothing, and is safe from any thread.
            Self::Mangled(get) => usize::try_from(unsafe { get() }).unwrap_or(1),
            Self::Stable(_) | Self::Unknown => 0,
        }
    }
}

/// The number that a function without arguments returns.
///
/// # Safety
/// `name` is a function of that type.
unsafe fn number(library: &Library, name: &[u8]) -> Result<i32, Error> {
    // SAFETY: promised by the caller.
    unsafe { library.get::<unsafe extern "C-unwind" fn() -> i32>(name).map(|function| function()) }
}

static SHIMS: OnceLock<Shims> = OnceLock::new();

impl Shims {
    /// Takes the value out of the box of an optional argument, and gives the box back; `None` where there is none.
    ///
    /// # Safety
    /// `word` is an optional argument of a boxed kernel, and is not used again.
    pub(super) unsafe fn optional(&self, word: u64) -> Option<u64> {
        let boxed = word as *mut u64;
        if boxed.is_null() {
            return None;
        }
        // SAFETY: the dispatcher has put the value there.
        let value = unsafe { boxed.read() };
        match self.free_optional {
            // SAFETY: the box is torch's to free, once.
            FreeOptional::Torch(free) => drop(unsafe { free(boxed) }),
            // SAFETY: it was made by operator new.
            FreeOptional::Delete(free) => unsafe { free(boxed) },
        }
        Some(value)
    }

    /// A failure of torch's on this thread, just now, with its own words where this torch hands them over.
    pub(super) fn failure(&self, ours: String) -> String {
        // SAFETY: it takes nothing.
        let words = self.words.map_or(core::ptr::null(), |get| unsafe { get() });
        if words.is_null() {
            return ours;
        }
        // SAFETY: the string lives until torch fails again on this thread.
        let words = unsafe { CStr::from_ptr(words) }.to_string_lossy();
        if words.is_empty() { ours } else { format!("{ours}: {words}") }
    }

    /// The threads that torch takes for one op; 0 where it does not tell.
    pub(super) fn threads(&self) -> usize {
        self.threads.number()
    }
}

/// The table, which is there once [`load`] has succeeded; and before that no kernel is called.
pub(super) fn shims() -> &'static Shims {
    SHIMS.get().expect("a kernel runs after its registration")
}

/// Finds the functions in the torch that is loaded.
///
/// # Errors
/// torch is not loaded, or is too old to have them.
pub(super) fn load() -> Result<&'static Shims, Error> {
    if let Some(shims) = SHIMS.get() {
        return Ok(shims);
    }
    // SAFETY: the libraries are open already, so that none of their code runs.
    let (torch, cxx, cuda) = unsafe {
        (
            Library::open(Some("libtorch_cpu.so"), RTLD_LAZY | RTLD_NOLOAD)?,
            Library::open(Some("libstdc++.so.6"), RTLD_LAZY | RTLD_NOLOAD)?,
            Library::open(Some("libtorch_cuda.so"), RTLD_LAZY | RTLD_NOLOAD).ok(),
        )
    };
    let shims = Shims::load(&torch, &cxx, cuda.as_ref())?;
    // The functions are used for as long as the process lives.
    core::mem::forget((torch, cxx, cuda));
    Ok(SHIMS.get_or_init(|| shims))
}
