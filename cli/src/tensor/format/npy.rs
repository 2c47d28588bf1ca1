//! The header of `.npy` files: versions 1 to 3, a Python dict literal with three keys.
//!
//! The crate `npyz` 0.9 is not used: a shape whose product overflows makes it panic, or wraps without overflow checks;
//! it allocates as long a header as a file claims, lets the last of two equal keys win, and refuses the `4L` of Python 2.

use std::io::Read;

use super::{Extent, FormatError, Kind, product};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longer headers belong to structured arrays, which are refused anyway.
const LIMIT: u64 = 64 * 1024;

/// Reads the header of a file of `file_len` bytes from its beginning.
pub(crate) fn read(file: &mut impl Read, file_len: u64) -> Result<Extent, FormatError> {
    let cut = || FormatError::CutHeader { actual: file_len };
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| cut())?;
    if !start.starts_with(MAGIC) {
        return Err(FormatError::NoNpyMagic);
    }
    let mut length = [0; 4];
    let width: usize = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(FormatError::NpyVersion(version)),
    };
    file.read_exact(&mut length[..width]).map_err(|_| cut())?;
    let header_len = u64::from(u32::from_le_bytes(length));
    let begin = 8 + width as u64 + header_len;
    if begin > file_len {
        return Err(cut());
    }
    if header_len > LIMIT {
        return Err(FormatError::LongHeader { header: header_len, limit: LIMIT });
    }
    let mut text = vec![0; header_len as usize];
    file.read_exact(&mut text).map_err(|_| cut())?;
    let extent = Extent { begin, ..parse(&text)? };
    let (expected, actual) = (product(&extent.shape, extent.kind.size() as u64)?, file_len - begin);
    if expected != actual {
        return Err(FormatError::DataLength { expected, actual });
    }
    Ok(extent)
}

/// The header of a version 1 file (version 2 if it is longer), padded so that the elements begin at a multiple of 64.
pub(crate) fn header(kind: Kind, shape: &[u64]) -> Vec<u8> {
    let descr = match kind {
        Kind::F32 => "<f4",
        Kind::F16 => "<f2",
        Kind::Bf16 => "|V2",
        Kind::F64 => "<f8",
        Kind::I8 => "|i1",
        // NumPy has none: the command refuses it. They would be bytes.
        Kind::F8E4M3 | Kind::F8E5M2 => "|u1",
    };
    let sizes = shape.iter().map(|size| format!("{size}, ")).collect::<String>();
    // Python writes a tuple of one with a comma, and longer ones without a last one; it reads both.
    let sizes = if shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let short = MAGIC.len() + 4 + text.len() < usize::from(u16::MAX) - 64;
    let prefix = if short { 10 } else { 12 };
    let padded = (prefix + text.len() + 1).next_multiple_of(64) - prefix;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let length = (padded as u32).to_le_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(if short { [1, 0] } else { [2, 0] });
    bytes.extend(&length[..if short { 2 } else { 4 }]);
    bytes.extend(text.as_bytes());
    bytes
}

/// The type of the elements, and whether they are big-endian.
fn kind(descr: &str) -> Result<(Kind, bool), FormatError> {
    match descr {
        "<f4" => Ok((Kind::F32, false)),
        ">f4" => Ok((Kind::F32, true)),
        "<f2" => Ok((Kind::F16, false)),
        ">f2" => Ok((Kind::F16, true)),
        "<f8" => Ok((Kind::F64, false)),
        ">f8" => Ok((Kind::F64, true)),
        // NumPy has no bfloat16: packages that add it store two bytes without a type.
        "|V2" | "<V2" => Ok((Kind::Bf16, false)),
        "bfloat16" => Err(FormatError::NamedBf16),
        _ => Err(FormatError::UnsupportedDType(descr.to_owned())),
    }
}

/// All of the extent but where it begins.
fn parse(text: &[u8]) -> Result<Extent, FormatError> {
    let mut literal = Literal { text, at: 0 };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    literal.expect(b'{', "a dict")?;
    while !literal.accept(b'}') {
        let key = literal.string()?;
        literal.expect(b':', "a colon")?;
        let again = match key.as_str() {
            "descr" => descr.replace(literal.string()?).is_some().then_some("descr"),
            "fortran_order" => fortran.replace(literal.boolean()?).is_some().then_some("fortran_order"),
            "shape" => shape.replace(literal.tuple()?).is_some().then_some("shape"),
            _ => return Err(literal.malformed("descr, fortran_order or shape")),
        };
        if let Some(key) = again {
            return Err(FormatError::NpyKey(key));
        }
        if !literal.accept(b',') {
            literal.expect(b'}', "a comma or the end of the dict")?;
            break;
        }
    }
    literal.end()?;
    let descr = descr.ok_or(FormatError::NpyKey("descr"))?;
    let shape = shape.ok_or(FormatError::NpyKey("shape"))?;
    let fortran = fortran.ok_or(FormatError::NpyKey("fortran_order"))?;
    let (kind, big_endian) = kind(&descr)?;
    // With at most one size that is not 1 both orders are the same, and without elements, too.
    let several = shape.iter().filter(|size| **size > 1).count() > 1 && !shape.contains(&0);
    Ok(Extent { kind, big_endian, fortran: fortran && several, shape, begin: 0 })
}

/// As much of Python's literals as the header has.
struct Literal<'a> {
    text: &'a [u8],
    at: usize,
}

impl Literal<'_> {
    fn malformed(&self, expected: &'static str) -> FormatError {
        FormatError::NpyHeader { at: self.at, expected }
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), FormatError> {
        if self.accept(byte) { Ok(()) } else { Err(self.malformed(expected)) }
    }

    /// A string in either quotes. An escape cannot occur in what is looked for, and is left as it is.
    fn string(&mut self) -> Result<String, FormatError> {
        let quote = if self.accept(b'\'') { b'\'' } else { b'"' };
        if quote == b'"' && !self.accept(b'"') {
            return Err(self.malformed("a string (structured arrays are not read)"));
        }
        let rest = &self.text[self.at..];
        let len = rest.iter().position(|b| *b == quote).ok_or_else(|| self.malformed("a closing quote"))?;
        self.at += len + 1;
        Ok(String::from_utf8_lossy(&rest[..len]).into_owned())
    }

    fn boolean(&mut self) -> Result<bool, FormatError> {
        self.skip_space();
        for (word, value) in [(b"True".as_slice(), true), (b"False".as_slice(), false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.malformed("True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<u64>, FormatError> {
        self.expect(b'(', "a tuple")?;
        let mut sizes = Vec::new();
        while !self.accept(b')') {
            sizes.push(self.integer()?);
            if !self.accept(b',') {
                self.expect(b')', "a comma or the end of the tuple")?;
                break;
            }
        }
        Ok(sizes)
    }

    /// An integer, which Python 2 may have written as a long: `4L`.
    fn integer(&mut self) -> Result<u64, FormatError> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let digits = std::str::from_utf8(&rest[..len]).ok().and_then(|digits| digits.parse().ok());
        let value = digits.ok_or_else(|| self.malformed("an integer below 2^64"))?;
        self.at += len + usize::from(rest.get(len) == Some(&b'L'));
        Ok(value)
    }

    fn end(&mut self) -> Result<(), FormatError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.malformed("the end of the header")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, elements: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len() + elements, 0);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Extent, FormatError> {
        read(&mut &bytes[..], bytes.len() as u64)
    }

    fn plain(kind: Kind, shape: &[u64]) -> Extent {
        Extent { kind, big_endian: false, fortran: false, shape: shape.to_vec(), begin: 0 }
    }

    #[test]
    fn what_numpy_writes_is_read() -> Result<(), FormatError> {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n";
        let extent = read_bytes(&file(text, 24))?;
        assert_eq!(extent, Extent { begin: 10 + text.len() as u64, ..plain(Kind::F32, &[2, 3]) });
        let one = read_bytes(&file("{\"descr\": '<f2','fortran_order':False,'shape':(5,)}", 10))?;
        assert_eq!((one.kind, one.shape), (Kind::F16, vec![5]));
        let none = read_bytes(&file("{'descr': '|V2', 'fortran_order': False, 'shape': ()}", 2))?;
        assert_eq!((none.kind, none.shape), (Kind::Bf16, vec![]));
        Ok(())
    }

    #[test]
    fn what_is_written_is_read() -> Result<(), FormatError> {
        let long = vec![1; 40_000];
        for (kind, shape) in
            [(Kind::F32, vec![3, 4, 5]), (Kind::F16, vec![7]), (Kind::Bf16, vec![0, 9]), (Kind::F64, vec![])]
        {
            let mut bytes = header(kind, &shape);
            assert_eq!(bytes.len() % 64, 0);
            let begin = bytes.len() as u64;
            bytes.resize(bytes.len() + product(&shape, kind.size() as u64)? as usize, 0);
            assert_eq!(read_bytes(&bytes)?, Extent { begin, ..plain(kind, &shape) });
        }
        assert_eq!(header(Kind::F32, &long)[6], 2);
        Ok(())
    }

    #[test]
    fn other_orders_are_told() -> Result<(), FormatError> {
        let with = |descr: &str, shape: &str, len| {
            let text = format!("{{'descr': '{descr}', 'fortran_order': True, 'shape': {shape}}}");
            read_bytes(&file(&text, len)).map(|extent| (extent.kind, extent.big_endian, extent.fortran))
        };
        assert_eq!(with("<f4", "(2L, 3L)", 24)?, (Kind::F32, false, true));
        assert_eq!(with(">f2", "(2, 1, 3)", 12)?, (Kind::F16, true, true));
        for (shape, len) in [("(6,)", 48), ("(6, 1)", 48), ("(1, 6)", 48), ("()", 8), ("(0, 2, 3)", 0)] {
            assert_eq!(with(">f8", shape, len)?, (Kind::F64, true, false), "{shape}");
        }
        Ok(())
    }

    fn refusal(text: &str) -> String {
        read_bytes(&file(text, 8)).expect_err("the header is refused").to_string()
    }

    #[test]
    fn other_arrays_are_refused_with_the_reason() {
        let with = |descr: &str, order: &str, shape: &str| {
            refusal(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"))
        };
        assert!(with("'<i4'", "False", "(2,)").contains("i4"));
        assert!(with("'>V2'", "False", "(4,)").contains(">V2"));
        assert!(with("'bfloat16'", "False", "(4,)").contains("name of a type"));
        assert!(with("[('a', '<f4')]", "False", "(2,)").contains("structured"));
        assert!(with("'<f4'", "False", "(2LL,)").contains("a comma"));
        assert!(with("'<f4'", "False", "(L,)").contains("integer"));
        assert!(with("'<f4'", "False", "(3,)").contains("has 8 bytes of elements, and its header says 12"));
        assert!(with("'<f4'", "False", "(1,)").contains("header says 4"));
        assert!(with("'<f4'", "False", "(4611686018427387904, 4)").contains("counted"));
        assert!(with("'<f4'", "False", "(99999999999999999999,)").contains("integer"));
        assert!(with("'<f4'", "False", "(-2,)").contains("integer"));
        assert!(with("'<f4'", "Maybe", "(2,)").contains("True or False"));
        assert!(with("'<f4", "False", "(2").contains("malformed"));
        assert!(refusal("{'descr': '<f4', 'shape': (2,)}").contains("fortran_order"));
        assert!(refusal("{'descr': '<f4', 'descr': '<f4', 'shape': (2,)}").contains("twice"));
        assert!(
            refusal("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x")
                .contains("end of the header")
        );
        assert!(refusal("").contains("a dict"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut bytes = header(Kind::F32, &[2, 3]);
        bytes.resize(bytes.len() + 24, 0);
        assert!(read_bytes(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert!(read_bytes(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn long_headers_and_other_files_are_refused() {
        let mut bytes = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
        assert!(matches!(read_bytes(&bytes), Err(FormatError::CutHeader { .. })));
        assert!(matches!(read(&mut &bytes[..], u64::MAX), Err(FormatError::LongHeader { .. })));
        bytes[6] = 9;
        assert!(matches!(read_bytes(&bytes), Err(FormatError::NpyVersion(9))));
        bytes[0] = 0;
        assert!(matches!(read_bytes(&bytes), Err(FormatError::NoNpyMagic)));
    }
}
