//! What one dispatch has of the rows, or of the records that a fold adds up.

use crate::Problem;

/// Groups of equally many rows, or a part of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    pub(super) first: u64,
    pub(super) groups: u64,
    /// Of each group; of a part of one those of the part.
    pub(super) group: u64,
}

/// How much a dispatch may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    /// Whole groups; 0 where none can be had at once.
    pub(super) groups: u64,
    /// Of a group, where none can be had at once; at least 1.
    pub(super) part: u64,
}

impl Portion {
    /// All rows, whose groups are those that share gamma and beta.
    pub(super) const fn of(problem: &Problem) -> Self {
        Self { first: 0, groups: problem.param_groups() as u64, group: problem.param_rows() as u64 }
    }

    pub(super) const fn len(&self) -> u64 {
        self.groups * self.group
    }

    /// In portions that follow one another; none of nothing.
    pub(super) fn cut(self, most: Most) -> impl Iterator<Item = Self> {
        let mut done = 0;
        core::iter::from_fn(move || {
            let (first, left) = (self.first + done, self.len() - done);
            if left == 0 {
                return None;
            }
            let portion = if most.groups > 0 {
                Self { first, groups: most.groups.min(left / self.group), group: self.group }
            } else {
                Self { first, groups: 1, group: most.part.min(self.group - done % self.group) }
            };
            done += portion.len();
            Some(portion)
        })
    }
}

/// Rows that share gamma and beta, of which no sum of a column may have others; no end where all rows do.
pub(super) const fn rows_of_group(problem: &Problem) -> u64 {
    if problem.param_groups() == 1 { u64::MAX } else { problem.param_rows() as u64 }
}
