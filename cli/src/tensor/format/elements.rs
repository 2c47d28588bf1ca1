//! Elements of a file as the program computes with them: little-endian, f64 as f32, the last index fastest.

use super::Kind;

/// Converts the whole elements in `bytes` in place to little-endian [`Kind::decoded`], and returns their length.
/// f64 is rounded to the nearest f32; what is beyond its range becomes infinite.
pub(crate) fn decode(kind: Kind, big_endian: bool, bytes: &mut [u8]) -> usize {
    if big_endian {
        bytes.chunks_exact_mut(kind.size()).for_each(<[u8]>::reverse);
    }
    if kind != Kind::F64 {
        return bytes.len();
    }
    let elements = bytes.len() / 8;
    for at in 0..elements {
        let mut wide = [0; 8];
        wide.copy_from_slice(&bytes[at * 8..][..8]);
        let narrow = f64::from_le_bytes(wide) as f32;
        bytes[at * 4..][..4].copy_from_slice(&narrow.to_le_bytes());
    }
    elements * 4
}

/// For the elements of a tensor in Fortran order, one after the other: the place of each in C order.
#[derive(Debug)]
pub(crate) struct Places {
    /// Size, stride in C order and index of each dimension. Sizes of 1 are left out.
    dimensions: Vec<[usize; 3]>,
    next: usize,
    left: usize,
}

impl Places {
    /// `shape` has a product that fits an address.
    pub(crate) fn of(shape: &[u64]) -> Self {
        let mut dimensions = Vec::new();
        let mut stride = 1;
        for size in shape.iter().rev().map(|size| *size as usize).filter(|size| *size != 1) {
            dimensions.push([size, stride, 0]);
            stride *= size;
        }
        dimensions.reverse();
        Self { dimensions, next: 0, left: stride }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = self.next;
        for [size, stride, index] in &mut self.dimensions {
            *index += 1;
            self.next += *stride;
            if index < size {
                break;
            }
            self.next -= *size * *stride;
            *index = 0;
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_swapped_and_narrowed_in_place() {
        let mut bytes = [1, 2, 3, 4];
        assert_eq!(decode(Kind::F16, true, &mut bytes), 4);
        assert_eq!(bytes, [2, 1, 4, 3]);
        assert_eq!(decode(Kind::F32, true, &mut bytes), 4);
        assert_eq!(bytes, [3, 4, 1, 2]);
        assert_eq!(decode(Kind::Bf16, false, &mut bytes), 4);
        assert_eq!(bytes, [3, 4, 1, 2]);
        let values = [0.1, -1e300, f64::NAN, 1e-46];
        for big_endian in [false, true] {
            let bytes_of = |value: f64| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            let mut bytes = values.map(bytes_of).concat();
            assert_eq!(decode(Kind::F64, big_endian, &mut bytes), 16);
            let got: Vec<f32> = bytes[..16].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            assert!(
                got[0] == 0.1 && got[1] == f32::NEG_INFINITY && got[2].is_nan() && got[3] == 0.0,
                "{got:?}"
            );
        }
    }

    #[test]
    fn the_first_index_runs_fastest() {
        let places = |shape: &[u64]| Places::of(shape).collect::<Vec<_>>();
        assert_eq!(places(&[2, 3]), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&[2, 1, 3]), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&[2, 2, 2]), [0, 4, 2, 6, 1, 5, 3, 7]);
        assert_eq!(places(&[]), [0]);
        assert!(places(&[3, 0]).is_empty());
    }
}
