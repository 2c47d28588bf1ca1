//! Lines in groups that a kernel works on together.

use crate::cpu::plan::Range;

/// The lines of a task that are left. A group that was refused, because f32 may not hold the squares of one of its lines,
/// is gone through again line by line: a line has the same bits in any lane and beside any other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    at: usize,
    end: usize,
    /// The lines before this one go one by one.
    apart: usize,
}

impl Groups {
    #[inline(always)]
    pub(super) const fn new(lines: Range) -> Self {
        Self { at: lines.begin, end: lines.end, apart: lines.begin }
    }

    /// The next line, and how many lines its group may have.
    #[inline(always)]
    pub(super) const fn peek(&self) -> Option<(usize, usize)> {
        match self.at {
            at if at >= self.end => None,
            at if at < self.apart => Some((at, 1)),
            at => Some((at, self.end - at)),
        }
    }

    /// Goes on after a group of so many lines that was `done` or refused. True if it was refused and is a single line, which
    /// the caller then does in another way.
    #[inline(always)]
    pub(super) const fn pass(&mut self, lines: usize, done: bool) -> bool {
        if done || lines == 1 {
            self.at += lines;
        } else {
            self.apart = self.at + lines;
        }
        !done && lines == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of four of eleven lines, of which line 5 is refused.
    #[test]
    fn a_refused_group_goes_line_by_line() {
        let mut groups = Groups::new(Range { begin: 1, end: 12 });
        let mut tried = Vec::new();
        while let Some((at, room)) = groups.peek() {
            let lines = room.min(4);
            let done = !(at..at + lines).contains(&5);
            tried.push((at, lines, groups.pass(lines, done)));
        }
        let expected = [(1, 4), (5, 4), (5, 1), (6, 1), (7, 1), (8, 1), (9, 3)];
        assert_eq!(tried, expected.map(|(at, lines)| (at, lines, (at, lines) == (5, 1))));
    }
}
