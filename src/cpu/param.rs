//! gamma and beta: as the caller has them, and as kernels read them.

use half::{bf16, f16};

use super::lanes::{Kernel, Lanes, Register};
use super::rows::{At, Columns, load_part};
use super::stored::Stored;
use super::tile::Slots;
use crate::DType;
use crate::cpu::choices;

/// A parameter as the caller has it: a value for each column, or one for all where it is absent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Param {
    All(f32),
    F32(*const f32),
    F16(*const f16),
    Bf16(*const bf16),
}

impl Param {
    /// gamma, which is 1 where absent.
    pub(crate) const fn gamma(p: *const u8, dtype: DType) -> Self {
        Self::new(p, dtype, 1.0)
    }

    /// beta, which is −0 where absent: the value that changes nothing it is added to, −0 included.
    pub(crate) const fn beta(p: *const u8, dtype: DType) -> Self {
        Self::new(p, dtype, -0.0)
    }

    const fn new(p: *const u8, dtype: DType, absent: f32) -> Self {
        match dtype {
            _ if p.is_null() => Self::All(absent),
            DType::F32 => Self::F32(p.cast()),
            DType::F16 => Self::F16(p.cast()),
            DType::Bf16 => Self::Bf16(p.cast()),
        }
    }

    /// The value of column `c`.
    ///
    /// # Safety
    /// The parameter has a value for it.
    #[inline(always)]
    pub(crate) unsafe fn value(self, c: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::All(v) => v,
                Self::F32(p) => *p.add(c),
                Self::F16(p) => (*p.add(c)).widen(),
                Self::Bf16(p) => (*p.add(c)).widen(),
            }
        }
    }

    /// The values themselves, if they are stored as T.
    #[inline(always)]
    fn stored_as<T: Stored>(self) -> Option<*const T> {
        match (self, T::DTYPE) {
            (Self::F32(p), DType::F32) => Some(p.cast()),
            (Self::F16(p), DType::F16) => Some(p.cast()),
            (Self::Bf16(p), DType::Bf16) => Some(p.cast()),
            _ => None,
        }
    }

    /// Where a kernel over `rows` rows reads these columns: from `tile`, which is filled if it is `fresh`, or as they are
    /// stored.
    ///
    /// # Safety
    /// The parameter has a value for each column, and the tile room for them.
    #[inline(always)]
    pub(crate) unsafe fn source<R: Register, T: Stored>(
        self,
        tile: Slots,
        columns: Columns,
        rows: usize,
        fresh: bool,
    ) -> Source<T> {
        if let Self::All(v) = self {
            return Source::All(v);
        }
        if let Some(p) = self.stored_as::<T>().filter(|_| !choices::tile_pays::<T>(rows)) {
            return Source::Same(p);
        }
        if fresh {
            // SAFETY: the processor has this level; the caller's promise.
            unsafe { R::run(Fill { tile, from: self, columns, split: T::SPLIT }) };
        }
        Source::Tile(tile)
    }
}

/// Where a kernel reads a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<T> {
    /// One value for all columns.
    All(f32),
    /// As it is stored, in the type of x.
    Same(*const T),
    /// As f32, in the order of the lanes.
    Tile(Slots),
}

impl<T: Stored> Source<T> {
    /// One value. It is one and the same NaN for all NaN, as the rounding to bf16 needs it.
    #[inline(always)]
    pub(crate) const fn all(v: f32) -> Self {
        Self::All(if v.is_nan() { f32::NAN } else { v })
    }

    #[inline(always)]
    pub(crate) fn load<R: Register, const WHOLE: bool>(self, at: At) -> Lanes<R> {
        match self {
            Self::All(v) => Lanes::splat(v),
            Self::Tile(slots) => slots.load(at),
            // SAFETY: `Param::source` is told of columns that the parameter has values for.
            Self::Same(p) => unsafe {
                if WHOLE { T::load(p.wrapping_add(at.c)) } else { load_part(p.wrapping_add(at.c), at.n) }
            },
        }
    }
}

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
        match self.from {
            Param::All(_) => {}
            Param::F32(p) => self.values::<R, f32>(p),
            Param::F16(p) => self.values::<R, f16>(p),
            Param::Bf16(p) => self.values::<R, bf16>(p),
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
            let v = unsafe { if at.n == Lanes::<R>::LANES { P::load(p) } else { load_part(p, at.n) } };
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
        self.tile.store(at, v.quiet());
    }
}
