//! Statuses, and the words for the last one of each thread.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::{DYT_ABI_VERSION, dyt_status};

/// Bytes of a message and the NUL behind it; a longer message is cut.
const MESSAGE: usize = 512;

thread_local! {
    /// The message of the last call that failed. It needs no destructor, so that it can be read until the thread is gone.
    static LAST: UnsafeCell<[u8; MESSAGE]> = const { UnsafeCell::new([0; MESSAGE]) };
}

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct Failure {
    status: dyt_status,
    message: Cow<'static, str>,
}

/// What the body of an entry returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: dyt_status::DYT_INVALID_ARGUMENT, message: message.into() }
    }
    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: dyt_status::DYT_UNSUPPORTED, message: message.into() }
    }
    #[cfg(feature = "cuda")]
    pub(crate) fn device(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: dyt_status::DYT_DEVICE_ERROR, message: message.into() }
    }
    pub(crate) fn null(name: &'static str) -> Self {
        Self::invalid(format!("{name} is NULL"))
    }
}

impl From<dyt::Error> for Failure {
    fn from(error: dyt::Error) -> Self {
        Self { status: status_of(&error), message: error.to_string().into() }
    }
}

/// The status of an error of the library.
fn status_of(error: &dyt::Error) -> dyt_status {
    use dyt::Error as E;
    match error {
        E::ZeroCols
        | E::ZeroInner
        | E::StrideTooSmall { .. }
        | E::ZeroHeads
        | E::HeadsChannelsFirst { .. }
        | E::HeadsOverlap { .. }
        | E::ParamRows { .. }
        | E::InPlaceStrides { .. }
        | E::SizeOverflow { .. }
        | E::InvalidEps { .. }
        | E::InvalidGammaOffset { .. }
        | E::UnbiasedSingleColumn
        | E::UnbiasedNotLayerNorm { .. }
        | E::ParamDtype { .. }
        | E::WrongLength { .. }
        | E::WrongDtype { .. }
        | E::MissingArgument { .. }
        | E::UnexpectedArgument { .. }
        | E::MissingGamma
        | E::MissingPartner { .. }
        | E::DataDtype { .. }
        | E::MissingScale { .. }
        | E::BothScales { .. }
        | E::UnexpectedScale { .. }
        | E::QuantisedInPlace { .. }
        | E::QuantisedBackward { .. }
        | E::BoundOfNorm { .. }
        | E::Aliasing { .. }
        | E::WorkspaceTooSmall { .. }
        | E::Misaligned { .. }
        | E::WrongDevice { .. }
        | E::OutOfBuffer { .. }
        | E::NotStorage
        | E::UnknownBackend { .. }
        | E::UnknownLevel { .. } => dyt_status::DYT_INVALID_ARGUMENT,
        // The device is open, and cannot do this problem.
        E::BackendUnavailable { reason: dyt::Refusal::LoopSteps { .. }, .. } => dyt_status::DYT_UNSUPPORTED,
        E::BackendUnavailable { .. } | E::LevelUnavailable { .. } => dyt_status::DYT_NO_DEVICE,
        E::OutOfMemory { .. } => dyt_status::DYT_OUT_OF_MEMORY,
        E::NotSupported { .. } | E::RowTooLarge { .. } => dyt_status::DYT_UNSUPPORTED,
        // What a driver reports, and the errors of later versions of the library.
        _ => dyt_status::DYT_DEVICE_ERROR,
    }
}

/// Runs the body of an entry: a panic becomes a status, and the words of a failure are kept for this thread.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> c_int {
    // Nothing that a panic may leave half done is used again: the locks are over maps that are changed at once, and
    // outputs are the caller's.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return dyt_status::DYT_OK as c_int,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let words = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            let message = format!("a defect of this library, please report it: {words}");
            // Its destructor may panic too, and then nothing would catch it.
            core::mem::forget(payload);
            Failure { status: dyt_status::DYT_INTERNAL, message: message.into() }
        }
    };
    keep(&failure.message);
    failure.status as c_int
}

/// Keeps a message as the last of this thread.
fn keep(message: &str) {
    let mut end = message.len().min(MESSAGE - 1);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    LAST.with(|last| {
        // SAFETY: the cell belongs to this thread, and no reference to its contents outlives a call of this module: what
        // `dyt_last_error` hands out is a pointer.
        let buffer = unsafe { &mut *last.get() };
        // A NUL within would cut it there, for C.
        let bytes = message.as_bytes().iter().map(|&byte| if byte == 0 { b'?' } else { byte });
        for (to, from) in buffer.iter_mut().zip(bytes.take(end)) {
            *to = from;
        }
        buffer[end] = 0;
    });
}

/// The version of the ABI that this library has: `DYT_ABI_VERSION` of its own header.
#[unsafe(no_mangle)]
pub extern "C" fn dyt_abi_version() -> u32 {
    DYT_ABI_VERSION
}

/// The words for the last call of this thread that failed, or "" if none has. The pointer is valid until the thread's
/// next failure, and as long as the thread.
#[unsafe(no_mangle)]
pub extern "C" fn dyt_last_error() -> *const c_char {
    LAST.with(|last| last.get().cast::<c_char>().cast_const())
}
