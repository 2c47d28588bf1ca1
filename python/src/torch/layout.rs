//! How a tensor lies in memory, as rows and columns.

/// Which dimensions of x the parameters run along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    /// The last ones, so many of them.
    Last(usize),
    /// The second one.
    Second,
}

impl Channels {
    /// The op's argument `dims`: how many of the last dimensions, or 0 for the second one.
    pub(super) fn from_dims(dims: i64) -> Self {
        match usize::try_from(dims) {
            Ok(dims) if dims > 0 => Self::Last(dims),
            _ => Self::Second,
        }
    }
    /// The sizes along which the parameters run, if x has so many dimensions. A tensor without dimensions is one element
    /// of one column.
    pub(super) fn of(self, sizes: &[i64]) -> Option<&[i64]> {
        match self {
            Self::Last(1) if sizes.is_empty() => Some(&[1]),
            Self::Last(count) => sizes.len().checked_sub(count).map(|first| &sizes[first..]),
            Self::Second => sizes.get(1..2),
        }
    }
}

/// Rows, columns and the run length of channels-first data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) inner: usize,
}

/// The layout of a contiguous tensor of these sizes.
pub(super) fn contiguous(sizes: &[i64], channels: Channels) -> Layout {
    let product = |sizes: &[i64]| sizes.iter().product::<i64>() as usize;
    match channels {
        Channels::Last(count) => {
            let (rows, cols) = sizes.split_at(sizes.len().saturating_sub(count));
            Layout { rows: product(rows), cols: product(cols), inner: 1 }
        }
        Channels::Second => {
            let (inner, cols) = (product(&sizes[2..]), sizes[1] as usize);
            // Without elements there are no rows, whatever the run length.
            if inner == 0 {
                Layout { rows: 0, cols, inner: 1 }
            } else {
                Layout { rows: sizes[0] as usize, cols, inner }
            }
        }
    }
}

/// The layout of a tensor whose elements lie side by side, in whatever order of the rows; `None` where it has to be copied.
///
/// `_layout.py` decides the same for the shapes that torch.compile traces.
pub(super) fn dense(sizes: &[i64], strides: &[i64], channels: Channels) -> Option<Layout> {
    let plain = contiguous(sizes, channels);
    if is_contiguous(sizes, strides) {
        return Some(plain);
    }
    let mut expected = 1;
    match channels {
        Channels::Last(count) => {
            let first = sizes.len() - count;
            let columns = sizes[first..].iter().zip(&strides[first..]);
            let within = columns.rev().all(|at| follows(at, &mut expected));
            (within && fills(sizes, strides, (0..first).collect(), &mut expected)).then_some(plain)
        }
        Channels::Second if strides[1] == 1 || sizes[1] == 1 => {
            // The memory format channels_last: each position is a row.
            expected = sizes[1];
            let others = (0..sizes.len()).filter(|&at| at != 1).collect();
            let rows = plain.rows * plain.inner;
            fills(sizes, strides, others, &mut expected).then_some(Layout { rows, inner: 1, ..plain })
        }
        Channels::Second => {
            let inner = fills(sizes, strides, (2..sizes.len()).collect(), &mut expected);
            let outer = [(&sizes[1], &strides[1]), (&sizes[0], &strides[0])];
            (inner && outer.into_iter().all(|at| follows(at, &mut expected))).then_some(plain)
        }
    }
}

/// Whether these are the strides of a contiguous tensor.
pub(super) fn is_contiguous(sizes: &[i64], strides: &[i64]) -> bool {
    let mut expected = 1;
    sizes.contains(&0) || sizes.iter().zip(strides).rev().all(|at| follows(at, &mut expected))
}

/// Whether a dimension begins where those before it end. One of size 1 does, whatever its stride.
fn follows((&size, &stride): (&i64, &i64), expected: &mut i64) -> bool {
    let follows = size == 1 || stride == *expected;
    *expected *= size;
    follows
}

/// Whether these dimensions follow one another in some order.
fn fills(sizes: &[i64], strides: &[i64], mut dimensions: Vec<usize>, expected: &mut i64) -> bool {
    dimensions.sort_by_key(|&at| (strides[at], sizes[at]));
    dimensions.into_iter().all(|at| follows((&sizes[at], &strides[at]), expected))
}

/// Whether two tensors of the same sizes have their elements at the same places.
pub(super) fn same(sizes: &[i64], one: &[i64], other: &[i64]) -> bool {
    sizes.contains(&0)
        || sizes.iter().zip(one.iter().zip(other)).all(|(&size, (one, other))| size == 1 || one == other)
}
