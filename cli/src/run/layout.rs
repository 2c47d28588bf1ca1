//! Shapes as rows and columns, and blocks of rows.

use std::path::Path;

use dyt::DType;

use crate::error::CliError;
use crate::tensor::{Shape, product};

/// A tensor of any rank as rows × cols × inner; see `dyt::Problem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of the whole tensor, which need not fit an address.
    pub(super) rows: u64,
    pub(super) cols: usize,
    pub(super) inner: usize,
}

impl Layout {
    /// The last dimension is the columns; channels-first, the first is the rows and the second the columns.
    pub(super) fn of(path: &Path, shape: &[u64], channels_first: bool) -> Result<Self, CliError> {
        let error =
            |needed| CliError::Rank { path: path.to_owned(), shape: Shape(shape).to_string(), needed };
        let (rows, cols, inner): (&[u64], u64, &[u64]) = match (channels_first, shape) {
            (false, [rows @ .., cols]) => (rows, *cols, &[]),
            (true, [rows, cols, inner @ ..]) => (std::slice::from_ref(rows), *cols, inner),
            (false, []) => return Err(error("at least one dimension")),
            (true, _) => return Err(error("at least two dimensions, N×C")),
        };
        let product = |sizes: &[u64]| product(sizes, 1).ok();
        let size = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
        let layout = product(rows).zip(size(Some(cols))).zip(size(product(inner)));
        match layout {
            Some(((_, 0), _) | (_, 0)) => Err(error("at least one column")),
            Some(((rows, cols), inner)) => Ok(Self { rows, cols, inner }),
            None => Err(error("sizes of which the product can be counted")),
        }
    }

    /// Elements of one row, which has fitted a file: at most an address's worth.
    pub(super) const fn row_len(&self) -> usize {
        self.cols.saturating_mul(self.inner)
    }

    /// Bytes of the whole tensor.
    pub(super) const fn bytes(&self, dtype: DType) -> u64 {
        self.rows.saturating_mul(self.row_len() as u64).saturating_mul(dtype.size() as u64)
    }

    /// Values that a parameter of such a shape has to have: a row of them for all rows of the tensor, or one for each of equal
    /// groups of rows.
    pub(super) fn params(&self, shape: &[u64]) -> usize {
        let groups = match shape {
            [lead @ .., cols] if *cols == self.cols as u64 => product(lead, 1).unwrap_or(0),
            _ => 1,
        };
        let fits = groups > 0 && self.rows.is_multiple_of(groups);
        self.cols.saturating_mul(if fits { usize::try_from(groups).unwrap_or(1) } else { 1 })
    }

    /// `rows`, or as many as there are.
    pub(super) fn block(&self, rows: u64) -> usize {
        usize::try_from(rows.min(self.rows)).unwrap_or(usize::MAX)
    }

    /// The blocks that cover all rows, none of which has rows of two groups: the group, and how many rows. As many rows as make
    /// a group are `group_rows`.
    pub(super) fn blocks(
        &self,
        block_rows: usize,
        group_rows: u64,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (mut row, end, step) = (0, self.rows, block_rows.max(1) as u64);
        std::iter::from_fn(move || {
            let group = row / group_rows.max(1);
            let rows = step.min(end - row).min(group_rows.max(1) - row % group_rows.max(1));
            row += rows;
            (rows > 0).then_some((group as usize, rows as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shape: &[u64], channels_first: bool) -> Result<Layout, CliError> {
        Layout::of(Path::new("x.npy"), shape, channels_first)
    }

    #[test]
    fn any_rank_is_rows_and_columns() -> Result<(), CliError> {
        assert_eq!(of(&[5], false)?, Layout { rows: 1, cols: 5, inner: 1 });
        assert_eq!(of(&[2, 3, 4, 5], false)?, Layout { rows: 24, cols: 5, inner: 1 });
        assert_eq!(of(&[2, 3, 4, 5], true)?, Layout { rows: 2, cols: 3, inner: 20 });
        assert_eq!(of(&[2, 3], true)?, Layout { rows: 2, cols: 3, inner: 1 });
        for shape in [[0, u64::MAX, 3], [u64::MAX, 0, 3]] {
            assert_eq!(of(&shape, false)?, Layout { rows: 0, cols: 3, inner: 1 });
        }
        Ok(())
    }

    #[test]
    fn shapes_without_columns_are_errors() {
        for (shape, channels_first) in
            [(&[][..], false), (&[3, 0], false), (&[3], true), (&[2, 0, 4], true), (&[2, 3, 0], true)]
        {
            assert!(matches!(of(shape, channels_first), Err(CliError::Rank { .. })), "{shape:?}");
        }
    }

    #[test]
    fn blocks_cover_the_rows() -> Result<(), CliError> {
        let layout = of(&[10, 3], false)?;
        assert_eq!(layout.blocks(4, 10).collect::<Vec<_>>(), [(0, 4), (0, 4), (0, 2)]);
        assert_eq!(layout.blocks(10, 10).collect::<Vec<_>>(), [(0, 10)]);
        assert_eq!(layout.blocks(4, 5).collect::<Vec<_>>(), [(0, 4), (0, 1), (1, 4), (1, 1)]);
        assert_eq!(layout.block(99), 10);
        assert_eq!(of(&[0, 3], false)?.blocks(4, 0).count(), 0);
        Ok(())
    }
}
