//! Why a file is no tensor file, or none that this program reads.

/// Why a file is no tensor file, or none that this program reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("not a regular file")]
    NotRegular,
    #[error("the file has {actual} bytes and is cut off before the end of its header")]
    CutHeader { actual: u64 },
    #[error("the header has {header} bytes; at most {limit} are allowed")]
    LongHeader { header: u64, limit: u64 },
    #[error("not a .npy file: it does not begin with \\x93NUMPY")]
    NoNpyMagic,
    #[error(".npy version {0}; 1, 2 and 3 are read")]
    NpyVersion(u8),
    #[error("the .npy header is malformed at byte {at}: expected {expected}")]
    NpyHeader { at: usize, expected: &'static str },
    #[error("the .npy header lacks {0:?}, or has it twice")]
    NpyKey(&'static str),
    #[error("descr 'bfloat16' is the name of a type and no type string of NumPy; bf16 is read as |V2")]
    NamedBf16,
    #[error("dtype {0:?}; f32, f16, bf16 and f64 are read: convert it first")]
    UnsupportedDType(String),
    #[error("the safetensors header is malformed: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the safetensors header is malformed: {0}")]
    Tensors(#[from] safetensors::SafeTensorError),
    #[error("the file has {actual} bytes of elements, and its header says {expected}")]
    DataLength { expected: u64, actual: u64 },
    #[error("the shape {0} has more elements than can be counted")]
    TooManyElements(String),
    #[error("the file has no tensor")]
    NoTensor,
    #[error("there is no tensor {name:?}; there are {present}")]
    NoSuchTensor { name: String, present: String },
    #[error("there are several tensors, name one: {0}")]
    SeveralTensors(String),
    #[error("an .npy file has one array without a name, and {0:?} was asked for")]
    NpyHasNoNames(String),
}
