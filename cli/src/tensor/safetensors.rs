//! The header of `.safetensors` files: eight bytes of length, a JSON object, then the elements of all tensors.
//!
//! The crate of that name wants the whole file in memory or mapped; here a tensor may be larger than either allows.

use std::fmt;
use std::io::Read;

use dyt::DType;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{Extent, FormatError, product};

/// What the format allows.
const LIMIT: u64 = 100_000_000;
/// The one key of the header that is no tensor.
const METADATA: &str = "__metadata__";
/// How many names of tensors an error tells.
const NAMES: usize = 8;

/// One tensor as the header has it.
#[derive(Debug, serde::Deserialize)]
struct Record {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors by name, in the order of their elements.
#[derive(Debug)]
struct Header(Vec<(String, Record)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Records;
        impl<'de> Visitor<'de> for Records {
            type Value = Vec<(String, Record)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut records = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        records.push((name, map.next_value()?));
                    }
                }
                Ok(records)
            }
        }
        let mut records = deserializer.deserialize_map(Records)?;
        records.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = records.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(D::Error::custom(format!("the tensor {:?} is there twice", pair[0].0)));
        }
        records.sort_by_key(|record| record.1.data_offsets);
        Ok(Self(records))
    }
}

/// Reads the header of a file of `file_len` bytes from its beginning, and finds the tensor `name` or the only one.
pub(super) fn read(file: &mut impl Read, file_len: u64, name: Option<&str>) -> Result<Extent, FormatError> {
    let cut = || FormatError::CutHeader { actual: file_len };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| cut())?;
    let header_len = u64::from_le_bytes(length);
    if header_len > LIMIT {
        return Err(FormatError::LongHeader { header: header_len, limit: LIMIT });
    }
    let begin = 8 + header_len;
    if begin > file_len {
        return Err(cut());
    }
    let mut text = vec![0; header_len as usize];
    file.read_exact(&mut text).map_err(|_| cut())?;
    let header: Header = serde_json::from_slice(&text)?;
    header.check_cover(file_len - begin)?;
    let record = header.find(name)?;
    let dtype = dtype(&record.dtype)?;
    let (first, last) = record.data_offsets;
    let expected = product(&record.shape, dtype.size() as u64)?;
    if expected != last - first {
        return Err(FormatError::DataLength { expected, actual: last - first });
    }
    Ok(Extent { dtype, shape: record.shape.clone(), begin: begin + first })
}

impl Header {
    /// The tensors follow one another without a gap or an overlap, and the last ends with the file.
    fn check_cover(&self, length: u64) -> Result<(), FormatError> {
        let mut at = 0;
        for (index, (name, record)) in self.0.iter().enumerate() {
            let (begin, end) = record.data_offsets;
            let last = index + 1 == self.0.len();
            if begin != at || end < begin || end > length || (last && end != length) {
                return Err(FormatError::Offsets { name: name.clone(), begin, end, length });
            }
            at = end;
        }
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Result<&Record, FormatError> {
        match (name, self.0.as_slice()) {
            (_, []) => Err(FormatError::NoTensor),
            (None, [(_, only)]) => Ok(only),
            (None, _) => Err(FormatError::SeveralTensors(self.names())),
            (Some(name), records) => records
                .iter()
                .find_map(|(n, record)| (n == name).then_some(record))
                .ok_or_else(|| FormatError::NoSuchTensor { name: name.to_owned(), present: self.names() }),
        }
    }

    fn names(&self) -> String {
        let names = self.0.iter().take(NAMES).map(|(name, _)| format!("{name:?}"));
        let rest = self.0.len().saturating_sub(NAMES);
        let more = (rest > 0).then(|| format!("and {rest} more"));
        names.chain(more).collect::<Vec<_>>().join(", ")
    }
}

fn dtype(name: &str) -> Result<DType, FormatError> {
    match name {
        "F32" => Ok(DType::F32),
        "F16" => Ok(DType::F16),
        "BF16" => Ok(DType::Bf16),
        _ => Err(FormatError::UnsupportedDType(format!("{name:?}"))),
    }
}

const fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::Bf16 => "BF16",
    }
}

/// The header of a file with these tensors in this order, padded so that the elements begin at a multiple of 8.
pub(super) fn header(tensors: &[super::Entry<'_>]) -> Result<Vec<u8>, FormatError> {
    let mut object = serde_json::Map::new();
    let mut at = 0;
    for tensor in tensors {
        let end = at + product(tensor.shape, tensor.dtype.size() as u64)?;
        let record = serde_json::json!({
            "dtype": dtype_name(tensor.dtype), "shape": tensor.shape, "data_offsets": [at, end],
        });
        object.insert(tensor.name.to_owned(), record);
        at = end;
    }
    let mut text = serde_json::to_vec(&object)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn file(json: &str, elements: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + elements, 0);
        bytes
    }

    fn read_bytes(bytes: &[u8], name: Option<&str>) -> Result<Extent, FormatError> {
        read(&mut &bytes[..], bytes.len() as u64, name)
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]},
        "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;

    #[test]
    fn a_tensor_is_found_by_name() -> Result<(), FormatError> {
        let bytes = file(TWO, 28);
        let begin = 8 + TWO.len() as u64;
        let a = Extent { dtype: DType::F32, shape: vec![2, 3], begin };
        let b = Extent { dtype: DType::Bf16, shape: vec![2], begin: begin + 24 };
        assert_eq!(read_bytes(&bytes, Some("a"))?, a);
        assert_eq!(read_bytes(&bytes, Some("b"))?, b);
        let several = read_bytes(&bytes, None).expect_err("the name is missing").to_string();
        assert!(several.contains(r#""a", "b""#), "{several}");
        let other = read_bytes(&bytes, Some("c")).expect_err("there is no c").to_string();
        assert!(other.contains(r#""c"; there are "a", "b""#), "{other}");
        Ok(())
    }

    #[test]
    fn what_is_written_is_read() -> Result<(), FormatError> {
        let entries = [
            Entry { name: "dgamma", dtype: DType::F32, shape: &[5] },
            Entry { name: "dx", dtype: DType::F16, shape: &[3, 0, 2] },
            Entry { name: "y \"quoted\"", dtype: DType::Bf16, shape: &[2, 2] },
        ];
        let mut bytes = header(&entries)?;
        assert_eq!(bytes.len() % 8, 0);
        bytes.resize(bytes.len() + 28, 0);
        for entry in &entries {
            let extent = read_bytes(&bytes, Some(entry.name))?;
            assert_eq!((extent.dtype, extent.shape.as_slice()), (entry.dtype, entry.shape));
        }
        Ok(())
    }

    fn refusal(json: &str, elements: usize) -> String {
        read_bytes(&file(json, elements), Some("a")).expect_err("the header is refused").to_string()
    }

    fn with(dtype: &str, shape: &str, offsets: &str) -> String {
        refusal(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 8)
    }

    #[test]
    fn other_headers_are_refused_with_the_reason() {
        assert!(with("F64", "[1]", "[0,8]").contains("F64"));
        assert!(with("F32", "[3]", "[0,8]").contains("header says 12"));
        assert!(with("F32", "[2]", "[0,4]").contains("do not fill"));
        assert!(with("F32", "[2]", "[0,16]").contains("do not fill"));
        assert!(with("F32", "[2]", "[4,12]").contains("do not fill"));
        assert!(with("F32", "[2]", "[8,0]").contains("do not fill"));
        assert!(with("F32", "[2]", "[18446744073709551615,8]").contains("do not fill"));
        assert!(with("F32", "[-2]", "[0,8]").contains("malformed"));
        assert!(with("F32", "[4611686018427387904,4]", "[0,8]").contains("counted"));
        assert!(with("F32", "[2]", "[0]").contains("malformed"));
        assert!(refusal("{}", 0).contains("no tensor"));
        assert!(refusal("[1]", 0).contains("malformed"));
        assert!(refusal("", 0).contains("malformed"));
        assert!(refusal(&"[".repeat(100_000), 0).contains("malformed"));
        let record = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        assert!(refusal(&format!("{{{record},{record}}}"), 4).contains("twice"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = file(TWO, 28);
        for len in 0..bytes.len() {
            assert!(read_bytes(&bytes[..len], Some("a")).is_err(), "{len}");
        }
    }

    #[test]
    fn a_header_longer_than_the_file_is_not_allocated() {
        let bytes = u64::MAX.to_le_bytes();
        assert!(matches!(read_bytes(&bytes, None), Err(FormatError::LongHeader { .. })));
        let bytes = 99_000_000_u64.to_le_bytes();
        assert!(matches!(read_bytes(&bytes, None), Err(FormatError::CutHeader { .. })));
    }
}
