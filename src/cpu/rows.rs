//! Rows of a tensor and the walk along their columns: everything that follows a pointer to elements is here.

use super::choices::STAGE_ROWS;
use super::lanes::{LINE, Lanes, MAX_LANES, Register};
use super::stored::Stored;

/// Room for a vector of the widest level.
#[repr(align(64))]
struct Padded([u8; MAX_LANES * size_of::<f32>()]);

/// The columns of a vector: `n` from `c` on. `slot` is where their parameters and sums stand in a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) c: usize,
    pub(crate) n: usize,
    pub(crate) slot: usize,
}

/// A block of columns: a head up to a boundary of the output, whole vectors, a tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) begin: usize,
    pub(crate) end: usize,
    /// Columns before the boundary, fewer than a vector has lanes.
    pub(crate) head: usize,
    /// Whether head and tail are whole vectors that overlap others: such elements are written twice, with the same bits.
    /// For an output that is no input, and at least a vector of columns.
    pub(crate) overlap: bool,
}

impl Columns {
    /// The columns from `begin` to before `end`, from the first on.
    #[inline(always)]
    pub(crate) const fn plain(begin: usize, end: usize) -> Self {
        Self { begin, end, head: 0, overlap: false }
    }

    #[inline(always)]
    fn head(self) -> usize {
        self.head.min(self.end - self.begin)
    }

    #[inline(always)]
    fn tail<R: Register>(self) -> usize {
        (self.end - self.begin - self.head()) % Lanes::<R>::LANES
    }

    /// The ragged vectors, two at most.
    #[inline(always)]
    pub(crate) fn ragged<R: Register>(self) -> Ragged {
        let (Self { begin, end, overlap, .. }, lanes) = (self, Lanes::<R>::LANES);
        let (head, tail) = (self.head(), self.tail::<R>());
        let last = self.slots::<R>() - lanes;
        let wide = |n: usize| if overlap && n > 0 { lanes } else { n };
        Ragged {
            head: At { c: begin, n: wide(head), slot: 0 },
            tail: At { c: end - wide(tail), n: wide(tail), slot: last },
        }
    }

    /// The whole vectors.
    #[inline(always)]
    pub(crate) fn whole<R: Register>(self) -> Whole {
        let (head, lanes) = (self.head(), Lanes::<R>::LANES);
        let c = self.begin + head;
        Whole { c, slot: head.next_multiple_of(lanes), until: self.end - self.tail::<R>(), lanes }
    }

    /// The whole vectors two by two, from the second on if the first one is `alone`.
    #[inline(always)]
    pub(crate) fn pairs<R: Register>(self, alone: bool) -> Pairs {
        Pairs { whole: self.whole::<R>(), alone }
    }

    /// Values of a tile for these columns: each vector takes as many as it has lanes.
    #[inline(always)]
    pub(crate) fn slots<R: Register>(self) -> usize {
        let (head, lanes) = (self.head(), Lanes::<R>::LANES);
        head.next_multiple_of(lanes) + (self.end - self.begin - head).next_multiple_of(lanes)
    }
}

/// The ragged vectors of some columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ragged {
    head: At,
    tail: At,
}

impl Iterator for Ragged {
    type Item = At;

    #[inline(always)]
    fn next(&mut self) -> Option<At> {
        let mut at = self.head;
        if at.n == 0 {
            at = self.tail;
            self.tail.n = 0;
        }
        self.head.n = 0;
        if at.n == 0 { None } else { Some(at) }
    }
}

/// The whole vectors of some columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    c: usize,
    slot: usize,
    until: usize,
    lanes: usize,
}

impl Iterator for Whole {
    type Item = At;

    #[inline(always)]
    fn next(&mut self) -> Option<At> {
        if self.c >= self.until {
            return None;
        }
        let at = At { c: self.c, n: self.lanes, slot: self.slot };
        self.c += self.lanes;
        self.slot += self.lanes;
        Some(at)
    }
}

/// Whole vectors that are worked on together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pair {
    One(At),
    Both([At; 2]),
}

/// The whole vectors of some columns, two by two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs {
    whole: Whole,
    alone: bool,
}

impl Iterator for Pairs {
    type Item = Pair;

    #[inline(always)]
    fn next(&mut self) -> Option<Pair> {
        let first = self.whole.next()?;
        let second = if self.alone { None } else { self.whole.next() };
        self.alone = false;
        Some(second.map_or(Pair::One(first), |second| Pair::Both([first, second])))
    }
}

/// Rows of elements, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<T> {
    first: *mut T,
    stride: usize,
    /// Whether whole vectors are written past the cache.
    streams: bool,
    /// The addresses from the first element to behind the last one.
    #[cfg(debug_assertions)]
    bounds: (usize, usize),
}

impl<T: Stored> Rows<T> {
    /// # Safety
    /// Until the last use of these rows, the `elements` values from `first` on may be read, and written if they are. Nobody
    /// else writes meanwhile what is read here, or touches what is written here.
    #[inline(always)]
    #[cfg_attr(
        not(debug_assertions),
        expect(unused_variables, reason = "debug assertions look at the bounds")
    )]
    pub(crate) unsafe fn new(first: *mut T, stride: usize, elements: usize) -> Self {
        Self {
            first,
            stride,
            streams: false,
            #[cfg(debug_assertions)]
            bounds: (first.addr(), first.addr() + elements * size_of::<T>()),
        }
    }

    /// Elements from one row to the next.
    #[inline(always)]
    pub(crate) const fn stride(self) -> usize {
        self.stride
    }

    /// The rows from `row` on.
    #[inline(always)]
    pub(crate) fn from(self, row: usize) -> Self {
        self.shifted(row * self.stride)
    }

    /// The same rows, so many elements further on.
    #[inline(always)]
    pub(crate) fn shifted(self, elements: usize) -> Self {
        Self { first: self.first.wrapping_add(elements), ..self }
    }

    /// The same rows, seen with another distance from one to the next.
    #[inline(always)]
    pub(crate) fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same rows, whose whole vectors are written past the cache.
    ///
    /// # Safety
    /// The level streams vectors, and every whole vector that is written begins at a boundary as [`Stored::stream`] demands.
    #[inline(always)]
    pub(crate) const unsafe fn streamed(self) -> Self {
        Self { streams: true, ..self }
    }

    /// Whether rows come to a line of the cache at the same column.
    #[inline(always)]
    pub(crate) const fn line_up(self) -> bool {
        (self.stride * size_of::<T>()).is_multiple_of(LINE)
    }

    /// Whether whole vectors are written past the cache.
    #[inline(always)]
    pub(crate) const fn streams(self) -> bool {
        self.streams
    }

    /// Whether the first row begins at a line of the cache.
    #[inline(always)]
    pub(crate) fn is_at_line(self) -> bool {
        self.first.addr().is_multiple_of(LINE)
    }

    /// Rows of which column `begin` is the first that exists.
    #[inline(always)]
    pub(crate) fn beginning_at(self, begin: usize) -> Self {
        Self { first: self.first.wrapping_sub(begin), ..self }
    }

    /// Whether these rows are not those.
    #[inline(always)]
    pub(crate) fn apart(self, other: Self) -> bool {
        self.first != other.first
    }

    /// Columns before a line of the cache, less whole vectors, if that is the same for all rows.
    #[inline(always)]
    pub(crate) fn head(self, lanes: usize) -> usize {
        let size = size_of::<T>();
        if self.line_up() { (self.first.addr().wrapping_neg() % LINE) / size % lanes } else { 0 }
    }

    /// Whether the first whole vector of `columns` is the second half of a line.
    #[inline(always)]
    pub(crate) fn half_a_line<R: Register>(self, columns: Columns) -> bool {
        !self.first.wrapping_add(columns.whole::<R>().c).addr().is_multiple_of(LINE)
    }

    #[inline(always)]
    fn at(self, row: usize, c: usize, n: usize) -> *mut T {
        let p = self.first.wrapping_add(row * self.stride + c);
        #[cfg(debug_assertions)]
        assert!(
            self.bounds.0 <= p.addr() && p.addr() + n * size_of::<T>() <= self.bounds.1,
            "{n} elements at {p:?}, of {:x?}",
            self.bounds
        );
        let _ = n;
        p
    }

    /// The columns `at` of `row`; if they are fewer than a vector's, the other lanes repeat the first one, so that what is
    /// computed of them raises no flag of its own.
    #[inline(always)]
    pub(crate) fn load<R: Register, const WHOLE: bool>(self, row: usize, at: At) -> Lanes<R> {
        let p = self.at(row, at.c, at.n);
        // SAFETY: the promise of `new`.
        unsafe { if WHOLE { T::load(p) } else { T::load_part(p, at.n) } }
    }

    /// Writes the columns `at` of `row`; past the cache if `PAST` and these rows are [`Self::streamed`].
    #[inline(always)]
    pub(crate) fn store<R: Register, const WHOLE: bool, const PAST: bool>(
        self,
        row: usize,
        at: At,
        v: Lanes<R>,
    ) {
        let p = self.at(row, at.c, at.n);
        // SAFETY: the promise of `new`, or of `streamed`.
        unsafe {
            if !WHOLE {
                store_part(p, at.n, v);
            } else if PAST && self.streams {
                T::stream(p, v);
            } else {
                T::store(p, v);
            }
        }
    }

    /// The value of column `c` of `row`.
    #[inline(always)]
    pub(crate) fn value(self, row: usize, c: usize) -> f32 {
        // SAFETY: the promise of `new`.
        unsafe { (*self.at(row, c, 1)).widen() }
    }

    /// Writes the value of column `c` of `row`.
    #[inline(always)]
    pub(crate) fn put(self, row: usize, c: usize, v: f32) {
        // SAFETY: the promise of `new`.
        unsafe { *self.at(row, c, 1) = T::narrow(v) }
    }

    /// Asks for the columns `at` of `row`, which need not exist.
    #[inline(always)]
    pub(crate) fn prefetch<R: Register, const WHOLE: bool>(self, row: usize, at: At) {
        let p = self.first.wrapping_add(row * self.stride + at.c);
        let n = if WHOLE { Lanes::<R>::LANES } else { at.n };
        for line in 0..(n * size_of::<T>()).div_ceil(LINE) {
            R::prefetch(p.cast::<u8>().wrapping_add(line * LINE));
        }
    }

    /// Writes some columns of `row` past the cache: those of the first row of `from`.
    #[inline(always)]
    pub(crate) fn stream<R: Register>(self, row: usize, columns: Columns, from: Self) {
        let n = columns.end - columns.begin;
        let (to, from) = (self.at(row, columns.begin, n), from.at(0, columns.begin, n));
        // SAFETY: the promise of `new`.
        unsafe { stream_out::<R>(from.cast(), to.cast(), n * size_of::<T>()) }
        // The first and the last line are shared with neighbours, and so are read: those of the rows to come.
        let next = to.wrapping_add(STAGE_ROWS * self.stride);
        for end in [next, next.wrapping_add(n)] {
            if !end.addr().is_multiple_of(LINE) {
                R::prefetch(end.cast());
            }
        }
    }
}

/// # Safety
/// `p` is valid for writes of `n` values, fewer than a vector has lanes.
#[inline(always)]
pub(crate) unsafe fn store_part<R: Register, T: Stored>(p: *mut T, n: usize, v: Lanes<R>) {
    let mut padded = Padded([0; MAX_LANES * size_of::<f32>()]);
    // SAFETY: the copy holds a vector; the caller's promise.
    unsafe {
        T::store(padded.0.as_mut_ptr().cast(), v);
        R::copy_few(padded.0.as_ptr(), p.cast(), n * size_of::<T>());
    }
}

/// Copies `n` bytes past the cache, line by line, and the ends as usual.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `n` bytes, apart from each other.
#[inline(always)]
unsafe fn stream_out<R: Register>(from: *const u8, to: *mut u8, n: usize) {
    let mut at = (to.addr().wrapping_neg() % LINE).min(n);
    // SAFETY: every part lies in the `n` bytes, and whole lines begin on a line's boundary. Elements have an even number
    // of bytes.
    unsafe {
        R::copy_few(from, to, at);
        while n - at >= LINE {
            R::stream_line(from.add(at), to.add(at));
            at += LINE;
        }
        R::copy_few(from.add(at), to.add(at), n - at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every column is in one vector, and each vector has its own slots.
    #[test]
    fn columns_are_covered_once() {
        type Register = wide::f32x4;
        let lanes = Lanes::<Register>::LANES;
        for (begin, len) in (0..40).flat_map(|len| [(0, len + 1), (5, len + 1)]) {
            for head in 0..lanes {
                let columns = Columns { begin, end: begin + len, head, overlap: false };
                let mut seen = vec![0; begin + len];
                let mut slots = Vec::new();
                for at in columns.whole::<Register>().chain(columns.ragged::<Register>()) {
                    seen[at.c..at.c + at.n].iter_mut().for_each(|n| *n += 1);
                    slots.push(at.slot);
                }
                slots.sort_unstable();
                assert!(seen[begin..].iter().all(|n| *n == 1), "{columns:?} {seen:?}");
                let expected: Vec<_> = (0..columns.slots::<Register>()).step_by(lanes).collect();
                assert_eq!(slots, expected, "{columns:?}");
            }
        }
    }
}
