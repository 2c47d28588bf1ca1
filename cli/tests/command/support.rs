//! Files, values and bounds for the tests. Files are written and read here by other code than the command's.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use dyt::{DType, Op, Quant, reference};
use dyt_conformance::tolerance::storage_ulp;
use half::{bf16, f16};
use tempfile::TempDir;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// 2⁻²³.
pub(crate) const ULP: f64 = f32::EPSILON as f64;

/// What a run of the command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ran {
    /// Fails the test if the command did not succeed in silence.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// Fails the test unless the command succeeded, with one line of note that contains `part`.
    pub(crate) fn noted(self, part: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(self.stderr.starts_with("dyt: note: ") && self.stderr.contains(part), "{part}: {self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
    }

    /// Fails the test unless the command ended with `code` and one line that contains `part`.
    pub(crate) fn refused(self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("dyt: ") && self.stderr.contains(part), "{part}: {self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
    }
}

/// The command, without the variables that choose a device.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dyt"));
    command.env_remove("DYT_BACKEND").env_remove("DYT_CPU_LEVEL");
    command
}

pub(crate) fn dyt(arguments: &[&str]) -> Outcome<Ran> {
    Ok(command().args(arguments).output()?.into())
}

/// A folder that is removed at the end of the test.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// The path of a file in it, as an argument.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Outcome<String> {
        let path = self.file(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }

    pub(crate) fn read(&self, name: &str) -> Outcome<Vec<u8>> {
        Ok(fs::read(self.file(name))?)
    }

    /// The names of what is in it, in order.
    pub(crate) fn names(&self) -> Outcome<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.0.path())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// A tensor with the values that its dtype can hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Tensor {
    /// Values between −2 and 2, from a linear congruential generator.
    pub(crate) fn random(dtype: DType, shape: &[usize], seed: u32) -> Self {
        let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 4_194_304.0 - 2.0
        };
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        let exact = Self { dtype, shape: shape.to_vec(), values };
        Self::from_bytes(dtype, shape, &exact.bytes())
    }

    pub(crate) fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Self {
        let values = match dtype {
            DType::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            DType::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            DType::Bf16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            DType::Quant(quant) => bytes.iter().map(|byte| reference::value(quant, *byte)).collect(),
        };
        Self { dtype, shape: shape.to_vec(), values }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let values = self.values.iter();
        match self.dtype {
            DType::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            DType::F16 => values.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            DType::Bf16 => values.flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            DType::Quant(quant) => unreachable!("no test writes {quant}"),
        }
    }

    pub(crate) fn wide(&self) -> Vec<f64> {
        self.values.iter().map(|value| f64::from(*value)).collect()
    }

    /// As `numpy.save` writes it.
    pub(crate) fn npy(&self) -> Vec<u8> {
        let mut bytes = npy_header(&self.npy_dict(), 1);
        bytes.extend(self.bytes());
        bytes
    }

    fn npy_dict(&self) -> String {
        let descr = match self.dtype {
            DType::F32 => "<f4",
            DType::F16 => "<f2",
            DType::Bf16 => "|V2",
            DType::Quant(_) => "|i1",
        };
        let sizes = self.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let comma = if self.shape.len() == 1 { "," } else { "" };
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}{comma}), }}")
    }

    /// Reads what the command wrote, of the type and the shape of `like`.
    pub(crate) fn read_npy(bytes: &[u8], like: &Self) -> Outcome<Self> {
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"), "not an .npy file of version 1");
        let begin = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert!(begin.is_multiple_of(64) && bytes[begin - 1] == b'\n', "the header ends at {begin}");
        assert_eq!(std::str::from_utf8(&bytes[10..begin])?.trim_end(), like.npy_dict());
        let elements = &bytes[begin..];
        assert_eq!(elements.len(), like.values.len() * like.dtype.size());
        Ok(Self::from_bytes(like.dtype, &like.shape, elements))
    }

    /// Reads the tensor `name` of what the command wrote.
    pub(crate) fn read_safetensors(bytes: &[u8], name: &str) -> Outcome<Self> {
        let (header, elements) = split(bytes)?;
        let header: serde_json::Value = serde_json::from_slice(header)?;
        let record = header.get(name).ok_or_else(|| format!("no {name} in {header}"))?;
        let dtype = match record["dtype"].as_str() {
            Some("F32") => DType::F32,
            Some("F16") => DType::F16,
            Some("BF16") => DType::Bf16,
            Some("F8_E4M3") => DType::Quant(Quant::F8E4M3),
            Some("F8_E5M2") => DType::Quant(Quant::F8E5M2),
            Some("I8") => DType::Quant(Quant::I8),
            other => return Err(format!("dtype {other:?}").into()),
        };
        let shape: Vec<usize> = serde_json::from_value(record["shape"].clone())?;
        let (begin, end): (usize, usize) = serde_json::from_value(record["data_offsets"].clone())?;
        assert_eq!(end - begin, shape.iter().product::<usize>() * dtype.size());
        Ok(Self::from_bytes(dtype, &shape, &elements[begin..end]))
    }
}

/// The beginning of an `.npy` file of that version.
pub(crate) fn npy_header(dict: &str, version: u8) -> Vec<u8> {
    let prefix = if version == 1 { 10 } else { 12 };
    let padded = (prefix + dict.len() + 1).next_multiple_of(64) - prefix;
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    bytes.extend(&(padded as u32).to_le_bytes()[..prefix - 8]);
    bytes.extend(format!("{dict:<width$}\n", width = padded - 1).bytes());
    bytes
}

/// A `.safetensors` file with these tensors, and metadata as PyTorch writes it.
pub(crate) fn safetensors(tensors: &[(&str, &Tensor)]) -> Vec<u8> {
    let mut header = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
    let mut elements = Vec::new();
    for (name, tensor) in tensors {
        let dtype = match tensor.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::Bf16 => "BF16",
            DType::Quant(quant) => unreachable!("no test writes {quant}"),
        };
        let begin = elements.len();
        elements.extend(tensor.bytes());
        let (shape, end) = (&tensor.shape, elements.len());
        header +=
            &format!(r#","{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#);
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(elements);
    bytes
}

/// The header of a `.safetensors` file, and what follows it.
fn split(bytes: &[u8]) -> Outcome<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk().ok_or("no header")?;
    Ok(rest.split_at(u64::from_le_bytes(*length) as usize))
}

/// The text of the metadata in a `.safetensors` file, which may not contain braces.
pub(crate) fn metadata(bytes: &[u8]) -> Outcome<String> {
    let header = std::str::from_utf8(split(bytes)?.0)?;
    let (_, rest) = header.split_once(r#""__metadata__":"#).ok_or("no metadata")?;
    let (text, _) = rest.split_once('}').ok_or("no end of the metadata")?;
    Ok(format!("{text}}}"))
}

/// Fails the test unless every tensor begins at a multiple of the size of its elements.
pub(crate) fn assert_aligned(bytes: &[u8]) -> Outcome {
    let header = split(bytes)?.0;
    assert!(header.len().is_multiple_of(8));
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header)?;
    for (name, record) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let size = if record["dtype"] == "F32" { 4 } else { 2 };
        assert_eq!(record["data_offsets"][0].as_u64().map(|at| at % size), Some(0), "{name}: {record}");
    }
    Ok(())
}

/// Compares with f64, element by element.
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f64], bounds: &[f64]) {
    assert_eq!((got.len(), bounds.len()), (expected.len(), expected.len()), "{what}");
    for (at, ((got, expected), bound)) in got.iter().zip(expected).zip(bounds).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= *bound, "{what}[{at}] is {got}, expected {expected} within {bound:e}");
    }
}

/// The bounds of y in docs/numerics.md, for parameters by column; at least the rounding of the storage type.
pub(crate) fn y_bounds(
    problem: &dyt::Problem,
    inputs: &reference::Inputs<'_>,
    forward: &reference::Forward,
) -> Vec<f64> {
    let bound = |place: reference::Place| {
        let offset = f64::from(problem.gamma_offset());
        let gamma = inputs.gamma.map_or(1.0, |gamma| gamma[place.param] + offset);
        let beta = inputs.beta.map_or(0.0, |beta| beta[place.param]);
        let f = forward.f[place.at];
        let larger = (gamma * f).abs().max(beta.abs());
        match (problem.dtype(), problem.op()) {
            (DType::F32 | DType::Quant(_), Op::Dyt | Op::Derf) => 4.0 * ULP * larger,
            (DType::F32 | DType::Quant(_), Op::LayerNorm | Op::RmsNorm) => {
                1e-6 * (1.0 + f.abs()) * gamma.abs() + ULP * beta.abs()
            }
            (dtype @ (DType::F16 | DType::Bf16), op) => {
                let at_larger = storage_ulp(dtype, larger);
                // "The sum A".
                let sum = (storage_ulp(dtype, forward.y[place.at]) + at_larger) / 2.0;
                if op.is_pointwise() { at_larger.max(sum) } else { at_larger }
            }
        }
    };
    reference::places(problem).map(bound).collect()
}
