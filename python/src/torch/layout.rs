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

    /// The first dimension along which the parameters run, if x has so many.
    pub(super) fn first(self, sizes: &[i64]) -> Option<usize> {
        match self {
            Self::Second => (sizes.len() > 1).then_some(1),
            Self::Last(_) => self.of(sizes).map(|own| sizes.len().saturating_sub(own.len())),
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
    /// All rows, with heads.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) inner: usize,
    /// Where rows do not lie side by side.
    pub(super) apart: Option<Apart>,
}

/// Rows of a wider tensor, such as the queries of a packed QKV: tokens, each of some heads. Strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Apart {
    pub(super) tokens: usize,
    pub(super) heads: usize,
    pub(super) row_stride: usize,
    pub(super) head_stride: usize,
}

/// How the kernels read x, and how y lies.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    /// Whether the kernels read a copy of x, which lies as y does.
    pub(super) copied: bool,
    /// The strides of y, where they are not those of x.
    pub(super) y: Option<Vec<i64>>,
}

/// Plans for x of these sizes and strides, of which each of the first `lead` dimensions has parameters of its own. Rows apart
/// are read where they lie if x reaches at most `reach` times as far as its elements would side by side.
///
/// `_layout.py` decides the same for the shapes that torch.compile traces.
pub(super) fn plan(sizes: &[i64], strides: &[i64], channels: Channels, lead: usize, reach: i64) -> Plan {
    let plain = contiguous(sizes, channels);
    if is_contiguous(sizes, strides) {
        return Plan { layout: plain, copied: false, y: None };
    }
    let order = outer_order(sizes, strides, channels);
    let leads = order.iter().rev().take(lead).copied().eq(0..lead);
    if leads && let Some(layout) = dense(sizes, strides, channels) {
        return Plan { layout, copied: false, y: None };
    }
    if leads && let Some(apart) = apart(sizes, strides, channels, &order) {
        let reaches =
            (apart.tokens - 1) * apart.row_stride + (apart.heads - 1) * apart.head_stride + plain.cols;
        let most = reach.saturating_mul((plain.rows * plain.cols) as i64);
        let in_place = reaches as i64 <= most;
        let layout = Layout { apart: in_place.then_some(apart), ..plain };
        return Plan { layout, copied: !in_place, y: Some(side_by_side(sizes, &order)) };
    }
    Plan { layout: plain, copied: true, y: Some(super::tensor::contiguous_strides(sizes)) }
}

/// The dimensions without parameters, from the inside to the outside as they lie in memory.
fn outer_order(sizes: &[i64], strides: &[i64], channels: Channels) -> Vec<usize> {
    let mut order: Vec<usize> = match channels {
        Channels::Last(count) => (0..sizes.len().saturating_sub(count)).collect(),
        Channels::Second => (0..sizes.len()).filter(|&at| at != 1).collect(),
    };
    order.sort_by_key(|&at| (strides[at], sizes[at]));
    order
}

/// The rows as tokens of heads, if they are.
fn apart(sizes: &[i64], strides: &[i64], channels: Channels, order: &[usize]) -> Option<Apart> {
    let Channels::Last(count) = channels else { return None };
    let first = sizes.len() - count;
    let mut cols = 1;
    if !sizes[first..].iter().zip(&strides[first..]).rev().all(|at| follows(at, &mut cols)) {
        return None;
    }
    // From the inside to the outside: (rows, stride), those that are equally far apart as one.
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for (size, stride) in order.iter().map(|&at| (sizes[at], strides[at])).filter(|&(size, _)| size > 1) {
        match runs.last_mut() {
            Some((rows, step)) if *rows * *step == stride => *rows *= size,
            _ => runs.push((size, stride)),
        }
    }
    let (heads, head_stride, tokens, row_stride) = match runs[..] {
        [(tokens, row_stride)] => (1, cols, tokens, row_stride),
        [(heads, head_stride), (tokens, row_stride)] => (heads, head_stride, tokens, row_stride),
        _ => return None,
    };
    let fits = head_stride >= cols && row_stride >= (heads - 1) * head_stride + cols;
    fits.then_some(Apart {
        tokens: tokens as usize,
        heads: heads as usize,
        row_stride: row_stride as usize,
        head_stride: head_stride as usize,
    })
}

/// The strides of a tensor without gaps, whose outer dimensions have that order in memory; the others are contiguous.
fn side_by_side(sizes: &[i64], order: &[usize]) -> Vec<i64> {
    let mut strides = super::tensor::contiguous_strides(sizes);
    let mut expected = sizes[order.len()..].iter().product();
    for &at in order {
        strides[at] = expected;
        expected *= sizes[at];
    }
    strides
}

/// The layout of a contiguous tensor of these sizes.
pub(super) fn contiguous(sizes: &[i64], channels: Channels) -> Layout {
    let product = |sizes: &[i64]| sizes.iter().product::<i64>() as usize;
    match channels {
        Channels::Last(count) => {
            let (rows, cols) = sizes.split_at(sizes.len().saturating_sub(count));
            Layout { rows: product(rows), cols: product(cols), inner: 1, apart: None }
        }
        Channels::Second => {
            let (inner, cols) = (product(&sizes[2..]), sizes[1] as usize);
            // Without elements there are no rows, whatever the run length.
            if inner == 0 {
                Layout { rows: 0, cols, inner: 1, apart: None }
            } else {
                Layout { rows: sizes[0] as usize, cols, inner, apart: None }
            }
        }
    }
}

/// The layout of a tensor whose elements lie side by side, in whatever order of the rows.
fn dense(sizes: &[i64], strides: &[i64], channels: Channels) -> Option<Layout> {
    let plain = contiguous(sizes, channels);
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
