//! The part of XLA's FFI that the handlers use, by `xla/ffi/api/c_api.h`.
//!
//! Every struct is the beginning of XLA's own and tells its size, so that one compiled handler serves every jaxlib of
//! the same major version: minor versions add fields behind these.

use core::ffi::{c_char, c_int, c_void};

/// The version of the interface that changes the layout of these structs.
pub(super) const MAJOR: c_int = 0;

/// An error, which XLA owns.
#[repr(C)]
pub(super) struct Error {
    _opaque: [u8; 0],
}

/// What XLA calls.
pub(super) type Handler = unsafe extern "C" fn(*mut CallFrame) -> *mut Error;

/// A link of the list of extensions.
#[repr(C)]
pub(super) struct Extension {
    pub(super) struct_size: usize,
    pub(super) kind: c_int,
    pub(super) next: *mut Extension,
}

/// The kind of [`MetadataExtension`].
pub(super) const EXTENSION_METADATA: c_int = 1;

#[repr(C)]
pub(super) struct ApiVersion {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) major: c_int,
    pub(super) minor: c_int,
}

#[repr(C)]
pub(super) struct Metadata {
    pub(super) struct_size: usize,
    pub(super) api_version: ApiVersion,
    pub(super) traits: u32,
}

/// Asks for metadata in place of a run.
#[repr(C)]
pub(super) struct MetadataExtension {
    pub(super) base: Extension,
    pub(super) metadata: *mut Metadata,
}

/// The handler launches the same work whenever it is called, and may be recorded into a CUDA graph.
#[cfg(feature = "cuda")]
pub(super) const COMMAND_BUFFER_COMPATIBLE: u32 = 1;

#[repr(C)]
pub(super) struct ErrorCreateArgs {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) message: *const c_char,
    pub(super) code: c_int,
}

#[repr(C)]
pub(super) struct StreamGetArgs {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) context: *mut c_void,
    pub(super) stream: *mut c_void,
}

#[repr(C)]
pub(super) struct DeviceOrdinalGetArgs {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) context: *mut c_void,
    pub(super) ordinal: i32,
}

#[repr(C)]
pub(super) struct ErrorArgs {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) error: *mut Error,
}

#[repr(C)]
pub(super) struct Api {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) api_version: ApiVersion,
    pub(super) internal: *const c_void,
    pub(super) error_create: unsafe extern "C" fn(*mut ErrorCreateArgs) -> *mut Error,
    pub(super) error_get_message: *const c_void,
    pub(super) error_destroy: unsafe extern "C" fn(*mut ErrorArgs),
    pub(super) handler_register: *const c_void,
    pub(super) stream_get: unsafe extern "C" fn(*mut StreamGetArgs) -> *mut Error,
    /// Of types, states, memory, threads, futures and runs.
    pub(super) others: [*const c_void; 12],
    pub(super) device_ordinal_get: unsafe extern "C" fn(*mut DeviceOrdinalGetArgs) -> *mut Error,
}

pub(super) const TYPE_S8: c_int = 2;
pub(super) const TYPE_F16: c_int = 10;
pub(super) const TYPE_F32: c_int = 11;
pub(super) const TYPE_BF16: c_int = 16;
pub(super) const TYPE_F8E5M2: c_int = 19;
pub(super) const TYPE_F8E4M3FN: c_int = 20;
pub(super) const TYPE_S64: c_int = 5;

#[repr(C)]
pub(super) struct Buffer {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) dtype: c_int,
    pub(super) data: *mut c_void,
    pub(super) rank: i64,
    pub(super) dims: *const i64,
}

/// The kind of an argument or a result that is a [`Buffer`].
pub(super) const KIND_BUFFER: c_int = 1;

/// The arguments or the results: XLA has the same struct for both.
#[repr(C)]
pub(super) struct Buffers {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) size: i64,
    pub(super) kinds: *const c_int,
    pub(super) buffers: *const *const Buffer,
}

#[repr(C)]
pub(super) struct ByteSpan {
    pub(super) ptr: *const u8,
    pub(super) len: usize,
}

#[repr(C)]
pub(super) struct Scalar {
    pub(super) dtype: c_int,
    pub(super) value: *const c_void,
}

/// The kind of an attribute that is a [`Scalar`].
pub(super) const KIND_SCALAR: c_int = 3;
/// The kind of an attribute that is a [`ByteSpan`].
pub(super) const KIND_STRING: c_int = 4;

#[repr(C)]
pub(super) struct Attributes {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) size: i64,
    pub(super) kinds: *const c_int,
    pub(super) names: *const *const ByteSpan,
    pub(super) values: *const *const c_void,
}

/// The stage in which the handler computes.
pub(super) const STAGE_EXECUTE: c_int = 3;

#[repr(C)]
pub(super) struct CallFrame {
    pub(super) struct_size: usize,
    pub(super) extension_start: *mut Extension,
    pub(super) api: *const Api,
    pub(super) context: *mut c_void,
    pub(super) stage: c_int,
    pub(super) arguments: Buffers,
    pub(super) results: Buffers,
    pub(super) attributes: Attributes,
}
