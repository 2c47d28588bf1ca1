//! gamma and beta: as the caller has them, and as kernels read them.

use half::{bf16, f16};

use super::choices;
use super::lanes::{Arithmetic, Kernel, Lanes, Register, quiet};
use super::rows::{At, Columns};
use super::stored::Stored;
use super::tile::Slots;
use crate::{DType, Problem};

/// A parameter as the caller has it: a value for each column, and what is added to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    values: Given,
    /// −0 adds nothing.
    offset: f32,
}

/// The values of a parameter, if it is there.
#[derive(Clone, Copy, Debug)]
enum Given {
    Absent(Absent),
    F32(*const f32),
    F16(*const f16),
    Bf16(*const bf16),
}

/// What stands for a parameter that is absent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Absent {
    /// 1, for gamma.
    One,
    /// −0, for beta: the value that changes nothing it is added to, −0 included.
    MinusZero,
}

impl Absent {
    const fn value(self) -> f32 {
        match self {
            Self::One => 1.0,
            Self::MinusZero => -0.0,
        }
    }

    /// As many of it as a block has columns.
    #[inline(always)]
    fn constants<P: Stored>(self) -> *const P {
        match self {
            Self::One => P::ONES.as_ptr(),
            Self::MinusZero => P::MINUS_ZEROS.as_ptr(),
        }
    }
}

impl Param {
    /// gamma with its offset, or 1 where absent.
    pub(crate) fn gamma(p: *const u8, problem: &Problem) -> Self {
        Self { values: Given::new(p, problem.param_dtype(), Absent::One), offset: problem.added_to_gamma() }
    }

    /// beta, which is −0 where absent.
    pub(crate) const fn beta(p: *const u8, problem: &Problem) -> Self {
        Self { values: Given::new(p, problem.param_dtype(), Absent::MinusZero), offset: -0.0 }
    }

    /// The parameter `columns` further on: that of another group of rows.
    pub(crate) const fn further(self, columns: usize) -> Self {
        let values = match self.values {
            Given::Absent(absent) => Given::Absent(absent),
            Given::F32(p) => Given::F32(p.wrapping_add(columns)),
            Given::F16(p) => Given::F16(p.wrapping_add(columns)),
            Given::Bf16(p) => Given::Bf16(p.wrapping_add(columns)),
        };
        Self { values, ..self }
    }

    /// The value of column `c`, [`quiet`], with the offset.
    ///
    /// # Safety
    /// The parameter has a value for it.
    #[inline(always)]
    pub(crate) unsafe fn value(self, c: usize) -> f32 {
        // SAFETY: the caller's promise.
        let value = unsafe {
            match self.values {
                Given::Absent(absent) => return absent.value(),
                Given::F32(p) => *p.add(c),
                Given::F16(p) => (*p.add(c)).widen(),
                Given::Bf16(p) => (*p.add(c)).widen(),
            }
        };
        quiet(value) + self.offset
    }

    /// The values from column `begin` of a block on, as T, if they are stored so.
    #[inline(always)]
    fn stored_as<T: Stored>(self, begin: usize) -> Option<*const T> {
        match (self.values, T::DTYPE) {
            (Given::Absent(absent), _) => Some(absent.constants::<T>().wrapping_sub(begin)),
            _ if self.offset != 0.0 => None,
            (Given::F32(p), DType::F32) => Some(p.cast()),
            (Given::F16(p), DType::F16) => Some(p.cast()),
            (Given::Bf16(p), DType::Bf16) => Some(p.cast()),
            _ => None,
        }
    }

    /// The values of these columns as f32, in the order of T's lanes: from `tile`, which is filled if it is `fresh`.
    ///
    /// # Safety
    /// The parameter has a value for each column, and the tile room for them.
    #[inline(always)]
    unsafe fn tile<R: Register, T: Stored>(self, tile: Slots, columns: Columns, fresh: bool) -> *const f32 {
        if let Given::Absent(absent) = self.values {
            return absent.constants();
        }
        if fresh {
            // SAFETY: the processor has this level; the caller's promise.
            unsafe { R::run(Fill { tile, from: self, columns, split: T::SPLIT }) };
        }
        tile.pointer()
    }
}

impl Given {
    const fn new(p: *const u8, dtype: DType, absent: Absent) -> Self {
        match dtype {
            _ if p.is_null() => Self::Absent(absent),
            DType::F32 => Self::F32(p.cast()),
            DType::F16 => Self::F16(p.cast()),
            DType::Bf16 => Self::Bf16(p.cast()),
            DType::Quant(_) => Self::Absent(absent),
        }
    }
}

/// Where a kernel reads `K` parameters of a block of columns. All have the same form, so that one choice is made for a loop
/// and none in it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sources<T, const K: usize> {
    /// One value a column, in the type of x: the caller's, or a tile of f32 with the offset.
    Stored(Values<T, K>),
    /// As f32, in the order of the lanes.
    Tiles(Values<f32, K>),
}

impl<T: Stored, const K: usize> Sources<T, K> {
    /// Those of a kernel over `rows` rows, which are in `memory` or in a cache. Tiles are filled if they are `fresh`.
    ///
    /// # Safety
    /// The parameters have a value for each column, and the tiles room for them.
    #[inline(always)]
    pub(crate) unsafe fn new<R: Register>(
        params: [Param; K],
        tiles: [Slots; K],
        columns: Columns,
        rows: usize,
        memory: bool,
        fresh: bool,
    ) -> Self {
        let mut stored = [core::ptr::null(); K];
        let mut all = !(T::NARROW && (memory || choices::tile_pays::<R>(rows)));
        for k in 0..K {
            match params[k].stored_as::<T>(columns.begin) {
                Some(p) => stored[k] = p,
                // Parameters of f32 x are f32. With an offset they are copied to a tile, in column order.
                None if !T::NARROW => {
                    let plain = Columns::plain(columns.begin, columns.end);
                    // SAFETY: the caller's promise.
                    let tile = unsafe { params[k].tile::<R, T>(tiles[k], plain, fresh) };
                    stored[k] = tile.cast::<T>().wrapping_sub(columns.begin);
                }
                None => all = false,
            }
        }
        if all || !T::NARROW {
            return Self::Stored(Values { p: stored, by_slot: false });
        }
        let mut p = [core::ptr::null(); K];
        for k in 0..K {
            // SAFETY: the caller's promise.
            p[k] = unsafe { params[k].tile::<R, T>(tiles[k], columns, fresh) };
        }
        Self::Tiles(Values { p, by_slot: true })
    }
}

impl<const K: usize> Sources<f32, K> {
    /// The values beside an x of f32, which has one form alone.
    #[inline(always)]
    pub(crate) const fn of_f32(self) -> Values<f32, K> {
        match self {
            Self::Stored(values) | Self::Tiles(values) => values,
        }
    }
}

/// The values of `K` parameters, one for each column, or one for each slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<P, const K: usize> {
    p: [*const P; K],
    by_slot: bool,
}

impl<P: Stored, const K: usize> Values<P, K> {
    /// Those of parameter `k`.
    #[inline(always)]
    pub(crate) fn load<R: Register, const WHOLE: bool>(&self, k: usize, at: At) -> Lanes<R> {
        // SAFETY: `Sources::new` is told of columns that the parameters have values for; a tile has whole vectors.
        unsafe {
            match (self.by_slot, WHOLE) {
                (true, _) => P::load(self.p[k].wrapping_add(at.slot)),
                (false, true) => P::load(self.p[k].wrapping_add(at.c)),
                (false, false) => P::load_part(self.p[k].wrapping_add(at.c), at.n),
            }
        }
    }
}

/// Runs a block of code with the [`Values`] of [`Sources`], whichever type they have. What cannot be is not compiled: for x of f32
/// a tile counts as stored, and levels that do not stream have tiles alone for 16 bits.
macro_rules! with_values {
    ($sources:expr, |$values:ident| $body:expr) => {
        match $sources {
            $crate::cpu::param::Sources::Stored($values) => {
                if !T::NARROW || R::STREAMS {
                    $body
                }
            }
            $crate::cpu::param::Sources::Tiles($values) => {
                if T::NARROW {
                    $body
                }
            }
        }
    };
}
pub(crate) use with_values;

/// As [`with_values!`], with a constant that says whether memory is written past the cache and asked for ahead of the reads, so
/// that loops have no branch for it. Of memory 16 bits have tiles.
macro_rules! with_form {
    ($sources:expr, $memory:expr, |$values:ident, $past:ident| $body:expr) => {
        match ($sources, $memory && R::STREAMS) {
            ($crate::cpu::param::Sources::Stored($values), false) => {
                if !T::NARROW || R::STREAMS {
                    const $past: bool = false;
                    $body
                }
            }
            ($crate::cpu::param::Sources::Stored($values), true) => {
                if !T::NARROW && R::STREAMS {
                    const $past: bool = true;
                    $body
                }
            }
            ($crate::cpu::param::Sources::Tiles($values), false) => {
                if T::NARROW {
                    const $past: bool = false;
                    $body
                }
            }
            ($crate::cpu::param::Sources::Tiles($values), true) => {
                if T::NARROW && R::STREAMS {
                    const $past: bool = true;
                    $body
                }
            }
        }
    };
}
pub(crate) use with_form;

/// Fills a tile with the values of some columns.
struct Fill {
    tile: Slots,
    from: Param,
    columns: Columns,
    /// The order of the lanes.
    split: bool,
}

impl Kernel for Fill {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        match self.from.values {
            Given::Absent(_) => {}
            Given::F32(p) => self.values::<R, f32>(p),
            Given::F16(p) => self.values::<R, f16>(p),
            Given::Bf16(p) => self.values::<R, bf16>(p),
        }
    }
}

impl Fill {
    #[inline(always)]
    fn values<R: Register, P: Stored>(&self, p: *const P) {
        for at in self.columns.whole::<R>() {
            // SAFETY: the parameter has a value for each column.
            self.put(at, unsafe { P::load::<R>(p.wrapping_add(at.c)) }, P::SPLIT);
        }
        for at in self.columns.ragged::<R>() {
            let p = p.wrapping_add(at.c);
            // SAFETY: as above.
            let v = unsafe { if at.n == Lanes::<R>::LANES { P::load(p) } else { P::load_part(p, at.n) } };
            self.put::<R>(at, v, P::SPLIT);
        }
    }

    #[inline(always)]
    fn put<R: Register>(&self, at: At, v: Lanes<R>, split: bool) {
        let v = match (split, self.split) {
            (false, true) => v.unzip(),
            (true, false) => v.zip(),
            _ => v,
        };
        self.tile.store(at, v.quiet() + Lanes::splat(self.from.offset));
    }
}
