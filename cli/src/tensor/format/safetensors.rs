//! The header of `.safetensors` files: eight bytes of length, a JSON object, then the elements of all tensors.
//!
//! The crate of that name has the records, their types and their validation. Its reader wants the whole file in memory,
//! lets the last of two equal names win and has the metadata in no order; so the object is read here.

use std::cmp::Reverse;
use std::fmt;
use std::io::Read;
use std::ops::Range;

use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;

use super::{Extent, FormatError, Kind, product};

/// What the format allows.
const LIMIT: u64 = 100_000_000;
/// The one key of the header that is no tensor.
pub(crate) const METADATA: &str = "__metadata__";
/// How many names of tensors an error tells.
const NAMES: usize = 8;

/// One tensor that is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) shape: &'a [u64],
}

/// The JSON object: the tensors in the order of their elements, and the metadata as they are written.
#[derive(Debug)]
struct Object {
    metadata: Option<Box<RawValue>>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Records;
        impl<'de> Visitor<'de> for Records {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object { metadata: None, tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA {
                        object.tensors.push((name, map.next_value()?));
                    } else if object.metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field(METADATA));
                    }
                }
                Ok(object)
            }
        }
        let mut object = deserializer.deserialize_map(Records)?;
        let tensors = &mut object.tensors;
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(D::Error::custom(format!("the tensor {:?} is there twice", pair[0].0)));
        }
        tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
        Ok(object)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(metadata) = &self.metadata {
            map.serialize_entry(METADATA, metadata)?;
        }
        self.tensors.iter().try_for_each(|(name, tensor)| map.serialize_entry(name, tensor))?;
        map.end()
    }
}

impl Object {
    /// The header of a file, padded so that the elements begin at a multiple of 8.
    fn header(&self) -> Result<Vec<u8>, FormatError> {
        let mut text = serde_json::to_vec(self)?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let header = text.len() as u64;
        if header > LIMIT {
            return Err(FormatError::LongHeader { header, limit: LIMIT });
        }
        Ok([&header.to_le_bytes()[..], &text].concat())
    }
}

/// A header that has been compared with the length of its file.
#[derive(Debug)]
pub(crate) struct Header {
    object: Object,
    /// The byte at which the first tensor begins.
    begin: u64,
}

/// What a file with one tensor more, or another in place of one, is put together from.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) header: Vec<u8>,
    /// Bytes of the old file that stand before the new tensor.
    pub(crate) before: Vec<Range<u64>>,
    /// Bytes of the old file that stand after it.
    pub(crate) after: Vec<Range<u64>>,
}

/// Reads the header of a file of `file_len` bytes from its beginning.
pub(crate) fn read(file: &mut impl Read, file_len: u64) -> Result<Header, FormatError> {
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
    let object: Object = serde_json::from_slice(&text)?;
    // No gap, no overlap, and as many bytes as type and shape need.
    let expected = Metadata::new(None, object.tensors.clone())?.data_len() as u64;
    let actual = file_len - begin;
    if expected != actual {
        return Err(FormatError::DataLength { expected, actual });
    }
    Ok(Header { object, begin })
}

impl Header {
    /// Where the tensor `name` is, or the only one.
    pub(crate) fn extent(&self, name: Option<&str>) -> Result<Extent, FormatError> {
        let tensor = self.find(name)?;
        let kind = match tensor.dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F16 => Kind::F16,
            Dtype::BF16 => Kind::Bf16,
            Dtype::F64 => Kind::F64,
            other => return Err(FormatError::UnsupportedDType(other.to_string())),
        };
        let shape = tensor.shape.iter().map(|size| *size as u64).collect();
        let begin = self.bytes_of(tensor).start;
        Ok(Extent { kind, big_endian: false, fortran: false, shape, begin })
    }

    fn find(&self, name: Option<&str>) -> Result<&TensorInfo, FormatError> {
        match (name, self.object.tensors.as_slice()) {
            (_, []) => Err(FormatError::NoTensor),
            (None, [(_, only)]) => Ok(only),
            (None, _) => Err(FormatError::SeveralTensors(self.names())),
            (Some(name), tensors) => tensors
                .iter()
                .find_map(|(n, tensor)| (n == name).then_some(tensor))
                .ok_or_else(|| FormatError::NoSuchTensor { name: name.to_owned(), present: self.names() }),
        }
    }

    fn names(&self) -> String {
        let tensors = &self.object.tensors;
        let names = tensors.iter().take(NAMES).map(|(name, _)| format!("{name:?}"));
        let rest = tensors.len().saturating_sub(NAMES);
        let more = (rest > 0).then(|| format!("and {rest} more"));
        names.chain(more).collect::<Vec<_>>().join(", ")
    }

    /// The bytes of the file that are the elements of `tensor`.
    const fn bytes_of(&self, tensor: &TensorInfo) -> Range<u64> {
        let (begin, end) = tensor.data_offsets;
        self.begin + begin as u64..self.begin + end as u64
    }

    /// The tensors in the order of their elements, and the bytes of the file that these are.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo, Range<u64>)> {
        self.object.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor, self.bytes_of(tensor)))
    }

    /// The metadata as they are written in the file.
    pub(crate) fn metadata(&self) -> Option<&RawValue> {
        self.object.metadata.as_deref()
    }

    /// The file with the tensor `entry` in place of the one of its name, or beside the others.
    ///
    /// Larger types come first, as the crate writes them: then every tensor is aligned to its type, which PyTorch needs.
    pub(crate) fn with(&self, entry: &Entry<'_>) -> Result<Plan, FormatError> {
        let new = info(entry)?;
        let mut tensors: Vec<_> =
            self.tensors().map(|(name, tensor, bytes)| (name, tensor, Some(bytes))).collect();
        let added = (entry.name, &new, None);
        match tensors.iter_mut().find(|(name, ..)| *name == entry.name) {
            Some(old) => *old = added,
            None => tensors.push(added),
        }
        tensors.sort_by_key(|(_, tensor, _)| Reverse(tensor.dtype));
        let moved = place(tensors.iter().map(|(name, tensor, _)| ((*name).to_owned(), (*tensor).clone())))?;
        let header = Object { metadata: self.metadata().map(ToOwned::to_owned), tensors: moved }.header()?;
        let mut parts = tensors.into_iter().map(|(.., bytes)| bytes);
        let before = joined(parts.by_ref().map_while(|bytes| bytes));
        Ok(Plan { header, before, after: joined(parts.flatten()) })
    }
}

/// The header of a file with these tensors in this order.
pub(crate) fn header(entries: &[Entry<'_>]) -> Result<Vec<u8>, FormatError> {
    let tensors = entries.iter().map(|entry| Ok((entry.name.to_owned(), info(entry)?)));
    let tensors = place(tensors.collect::<Result<Vec<_>, FormatError>>()?.into_iter())?;
    Object { metadata: None, tensors }.header()
}

/// A tensor that begins at 0.
fn info(entry: &Entry<'_>) -> Result<TensorInfo, FormatError> {
    let dtype = match entry.kind {
        Kind::F32 => Dtype::F32,
        Kind::F16 => Dtype::F16,
        Kind::Bf16 => Dtype::BF16,
        Kind::F64 => Dtype::F64,
        Kind::F8E4M3 => Dtype::F8_E4M3,
        Kind::F8E5M2 => Dtype::F8_E5M2,
        Kind::I8 => Dtype::I8,
    };
    // Sizes whose product fits an address fit it, too, but beside a zero.
    let size = |size: &u64| usize::try_from(*size).map_err(|_| too_many(entry.shape));
    let shape = entry.shape.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let bytes = size(&product(entry.shape, entry.kind.size() as u64)?)?;
    Ok(TensorInfo { dtype, shape, data_offsets: (0, bytes) })
}

fn too_many(shape: &[u64]) -> FormatError {
    FormatError::TooManyElements(super::Shape(shape).to_string())
}

/// The tensors one after the other.
fn place(
    tensors: impl Iterator<Item = (String, TensorInfo)>,
) -> Result<Vec<(String, TensorInfo)>, FormatError> {
    let mut at = 0_usize;
    let place = |(name, mut tensor): (String, TensorInfo)| {
        let (begin, end) = tensor.data_offsets;
        let end = at.checked_add(end - begin).ok_or_else(|| FormatError::TooManyElements(name.clone()))?;
        tensor.data_offsets = (at, end);
        at = end;
        Ok((name, tensor))
    };
    tensors.map(place).collect()
}

/// Neighbours as one range.
fn joined(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges.filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str, elements: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + elements, 0);
        bytes
    }

    fn read_bytes(bytes: &[u8], name: Option<&str>) -> Result<Extent, FormatError> {
        read(&mut &bytes[..], bytes.len() as u64)?.extent(name)
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]},
        "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;

    #[test]
    fn a_tensor_is_found_by_name() -> Result<(), FormatError> {
        let bytes = file(TWO, 28);
        let begin = 8 + TWO.len() as u64;
        let (big_endian, fortran) = (false, false);
        let a = Extent { kind: Kind::F32, shape: vec![2, 3], begin, big_endian, fortran };
        let b = Extent { kind: Kind::Bf16, shape: vec![2], begin: begin + 24, big_endian, fortran };
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
            Entry { name: "dgamma", kind: Kind::F32, shape: &[5] },
            Entry { name: "dx", kind: Kind::F16, shape: &[3, 0, 2] },
            Entry { name: "y \"quoted\"", kind: Kind::Bf16, shape: &[2, 2] },
        ];
        let mut bytes = header(&entries)?;
        assert_eq!(bytes.len() % 8, 0);
        bytes.resize(bytes.len() + 28, 0);
        for entry in &entries {
            let extent = read_bytes(&bytes, Some(entry.name))?;
            assert_eq!((extent.kind, extent.shape.as_slice()), (entry.kind, entry.shape));
        }
        Ok(())
    }

    /// What is kept, where the elements of the old file begin at 0.
    fn kept(name: &str, kind: Kind, shape: &[u64]) -> Result<[Vec<(u64, u64)>; 2], FormatError> {
        let bytes = file(TWO, 28);
        let header = read(&mut &bytes[..], bytes.len() as u64)?;
        let plan = header.with(&Entry { name, kind, shape })?;
        let shift = |range: &Range<u64>| (range.start - header.begin, range.end - header.begin);
        Ok([plan.before, plan.after].map(|ranges| ranges.iter().map(shift).collect()))
    }

    #[test]
    fn a_tensor_stands_with_those_of_its_type() -> Result<(), FormatError> {
        assert_eq!(kept("a", Kind::F32, &[2, 3])?, [vec![], vec![(24, 28)]]);
        assert_eq!(kept("a", Kind::F16, &[3])?, [vec![(24, 28)], vec![]]);
        assert_eq!(kept("b", Kind::F32, &[1])?, [vec![(0, 24)], vec![]]);
        assert_eq!(kept("c", Kind::F32, &[1])?, [vec![(0, 24)], vec![(24, 28)]]);
        assert_eq!(kept("c", Kind::Bf16, &[1])?, [vec![(0, 28)], vec![]]);
        assert_eq!(kept("c", Kind::F64, &[1])?, [vec![], vec![(0, 28)]]);
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
        assert!(with("I64", "[1]", "[0,8]").contains("I64"));
        assert!(with("F31", "[1]", "[0,8]").contains("F31"));
        assert!(with("F32", "[3]", "[0,8]").contains("invalid shape"));
        assert!(with("F32", "[1]", "[0,4]").contains("8 bytes of elements, and its header says 4"));
        assert!(with("F32", "[4]", "[0,16]").contains("8 bytes of elements, and its header says 16"));
        assert!(with("F32", "[2]", "[4,12]").contains("invalid offset for tensor `a`"));
        assert!(with("F32", "[2]", "[8,0]").contains("invalid offset for tensor `a`"));
        assert!(with("F32", "[2]", "[18446744073709551615,8]").contains("invalid offset for tensor `a`"));
        assert!(with("F32", "[-2]", "[0,8]").contains("malformed"));
        assert!(with("F32", "[4611686018427387904,4]", "[0,8]").contains("overflow"));
        assert!(with("F32", "[2]", "[0]").contains("malformed"));
        assert!(refusal("{}", 0).contains("no tensor"));
        assert!(refusal("[1]", 0).contains("malformed"));
        assert!(refusal("", 0).contains("malformed"));
        assert!(refusal(&"[".repeat(100_000), 0).contains("malformed"));
        let record = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        assert!(refusal(&format!("{{{record},{record}}}"), 4).contains("twice"));
        assert!(refusal(r#"{"__metadata__":{},"__metadata__":{}}"#, 0).contains("duplicate"));
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
