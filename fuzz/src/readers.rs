//! The readers of the two file formats on any bytes. `cli` runs these functions on the corpus as a test.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::format::safetensors::{Entry, Header};
use super::format::{
    Extent, Kind, Places, decode, npy as format_npy, product, safetensors as format_safetensors,
};

/// A `.npy` file: what is accepted lies in the file, is converted whole, and is read again as it was written.
pub(crate) fn npy(bytes: &[u8]) {
    let Ok(extent) = format_npy::read(&mut &bytes[..], bytes.len() as u64) else { return };
    let Extent { kind, big_endian, fortran, shape, begin } = extent;
    let count = product(&shape, 1).expect("the shape is accepted") as usize;
    let mut elements = bytes[begin as usize..].to_vec();
    assert_eq!(elements.len(), count * kind.size());
    let len = decode(kind, big_endian, &mut elements);
    assert_eq!(len, count * kind.decoded().size());
    if fortran {
        let mut places: Vec<_> = Places::of(&shape).collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..count), "each place once");
    }
    let written = [&format_npy::header(kind.decoded(), &shape)[..], &elements[..len]].concat();
    let again = format_npy::read(&mut &written[..], written.len() as u64).expect("what is written is read");
    let plain = Extent { kind: kind.decoded(), big_endian: false, fortran: false, begin: again.begin, shape };
    assert_eq!(again, plain);
}

/// A `.safetensors` file: tensors lie in the file, and one that is added or replaced leaves the others as they are.
pub(crate) fn safetensors(bytes: &[u8]) {
    let Ok(header) = format_safetensors::read(&mut &bytes[..], bytes.len() as u64) else { return };
    let _ = header.extent(None);
    let before = tensors(bytes, &header);
    let names = ["w", "a name that no file has"].into_iter().chain(before.keys().map(String::as_str).take(3));
    for name in names {
        for (kind, shape) in [(Kind::F32, &[3_u64][..]), (Kind::Bf16, &[1, 3]), (Kind::F16, &[0])] {
            let plan = header.with(&Entry { name, kind, shape }).expect("a tensor can be added");
            let elements = vec![b'n'; product(shape, kind.size() as u64).expect("a small shape") as usize];
            let mut written = plan.header;
            plan.before
                .iter()
                .for_each(|range| written.extend(&bytes[range.start as usize..range.end as usize]));
            written.extend(&elements);
            plan.after
                .iter()
                .for_each(|range| written.extend(&bytes[range.start as usize..range.end as usize]));
            let again =
                format_safetensors::read(&mut &written[..], written.len() as u64).expect("it is read again");
            assert_eq!(again.metadata().map(RawValue::get), header.metadata().map(RawValue::get));
            let extent = again.extent(Some(name)).expect("the new tensor is there");
            assert_eq!((extent.kind, extent.shape.as_slice()), (kind, shape));
            let (mut expected, mut after) = (before.clone(), tensors(&written, &again));
            expected.remove(name);
            assert_eq!(after.remove(name).map(|(_, _, elements)| elements), Some(elements));
            assert_eq!(after, expected);
        }
    }
}

/// Type, shape and elements of each tensor.
fn tensors(bytes: &[u8], header: &Header) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let elements = |range: std::ops::Range<u64>| bytes[range.start as usize..range.end as usize].to_vec();
    let tensors = header.tensors().map(|(name, tensor, range)| {
        (name.to_owned(), (tensor.dtype.to_string(), tensor.shape.clone(), elements(range)))
    });
    tensors.collect()
}
