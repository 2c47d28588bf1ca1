//! Quantised y: its element types, and the scale that goes with them.

use core::fmt;

use float8::{F8E4M3, F8E5M2};

use crate::dtype::sealed::Sealed;
use crate::view::{Place, View};
use crate::{Argument, Backend, DType, Element, Error, Problem, Result};

/// The type of a quantised y: one byte an element.
///
/// y = v / s, rounded once to nearest even and saturated, ±∞ too. v is the op's result in f32, before any rounding to a
/// storage type, s the scale, and the division a true one. y · s is then what y stands for.
///
/// | variant | largest | NaN |
/// |---|---|---|
/// | `F8E4M3` | 448 | stays NaN |
/// | `F8E5M2` | 57,344 | stays NaN |
/// | `I8` | 127, and −127 for the least | gives 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quant {
    /// OCP's E4M3: four bits of exponent, three of fraction, no infinity. [`float8::F8E4M3`] holds its bits.
    F8E4M3,
    /// OCP's E5M2: five bits of exponent, two of fraction. [`float8::F8E5M2`] holds its bits.
    F8E5M2,
    /// A signed byte; −128 is not used.
    I8,
}

impl Quant {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F8E4M3, Self::F8E5M2, Self::I8];

    /// The name in lower case: `f8e4m3`, `f8e5m2` or `i8`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F8E4M3 => "f8e4m3",
            Self::F8E5M2 => "f8e5m2",
            Self::I8 => "i8",
        }
    }

    /// The largest finite value.
    #[must_use]
    pub const fn largest(self) -> f32 {
        match self {
            Self::F8E4M3 => 448.0,
            Self::F8E5M2 => 57_344.0,
            Self::I8 => 127.0,
        }
    }

    /// The scale for values up to `bound`: bound / [`Self::largest`], at least 2⁻¹²⁶, and 1 for a bound of 0. With it no |v|
    /// up to `bound` is cut off. It is the scale of a row where `bound` is the largest |v| of the row, and with
    /// [`Problem::bound`] one for all rows that needs no look at the data.
    #[must_use]
    pub fn scale(self, bound: f32) -> f32 {
        // Not `max`, which would lose a NaN.
        let scale = bound / self.largest();
        if bound == 0.0 {
            1.0
        } else if scale < f32::MIN_POSITIVE {
            f32::MIN_POSITIVE
        } else {
            scale
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Quant> for DType {
    fn from(quant: Quant) -> Self {
        Self::Quant(quant)
    }
}

impl Sealed for F8E4M3 {}
impl Sealed for F8E5M2 {}
impl Sealed for i8 {}
impl Element for F8E4M3 {
    const DTYPE: DType = DType::Quant(Quant::F8E4M3);
}
impl Element for F8E5M2 {
    const DTYPE: DType = DType::Quant(Quant::F8E5M2);
}
impl Element for i8 {
    const DTYPE: DType = DType::Quant(Quant::I8);
}

impl Problem {
    /// The most that |y| of DyT and Derf is, whatever x: the largest |gamma + offset| + |beta|, with the problem's
    /// `gamma_offset`, 1 for an absent gamma and 0 for an absent beta. NaN is left out. gamma and beta are in host memory, of
    /// `params` elements each.
    ///
    /// `quant.scale(bound)` is then a scale with which y never saturates.
    ///
    /// ```
    /// use dyt::{Op, Problem, Quant};
    /// let problem = Problem::new(Op::Dyt, 1, 2).quant(Quant::I8).build()?;
    /// let (gamma, beta) = ([1.5_f32, -2.0], [0.5_f32, 0.25]);
    /// let bound = problem.bound(Some((&gamma).into()), Some((&beta).into()))?;
    /// assert_eq!(bound, 2.25);
    /// assert_eq!(Quant::I8.scale(bound), 2.25 / 127.0);
    /// # Ok::<(), dyt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BoundOfNorm`], [`Error::WrongDevice`], [`Error::WrongDtype`], [`Error::WrongLength`],
    /// [`Error::Misaligned`].
    pub fn bound(&self, gamma: Option<View<'_>>, beta: Option<View<'_>>) -> Result<f32> {
        if !self.op().is_pointwise() {
            return Err(Error::BoundOfNorm { op: self.op() });
        }
        let gamma = self.column_values(Argument::Gamma, gamma)?;
        let beta = self.column_values(Argument::Beta, beta)?;
        let column = |c: usize| {
            let factor = gamma.map_or(1.0, |gamma| gamma.value(c) + self.added_to_gamma());
            factor.abs() + beta.map_or(0.0, |beta| beta.value(c).abs())
        };
        Ok((0..self.params()).map(column).fold(0.0, f32::max))
    }

    /// A parameter in host memory, once it is known to have all its values.
    fn column_values<'a>(
        &self,
        argument: Argument,
        view: Option<View<'a>>,
    ) -> Result<Option<ColumnValues<'a>>> {
        let Some(view) = view else { return Ok(None) };
        if view.place() != Place::Host {
            return Err(Error::WrongDevice { argument, expected: Backend::Cpu, actual: view.backend() });
        }
        let (expected, alignment) = (self.param_dtype(), self.param_dtype().size());
        if view.dtype() != expected {
            return Err(Error::WrongDtype { argument, expected, actual: view.dtype() });
        }
        if view.len() != self.params() {
            return Err(Error::WrongLength { argument, expected: self.params(), actual: view.len() });
        }
        if !view.as_ptr().addr().is_multiple_of(alignment) {
            return Err(Error::Misaligned { argument, alignment });
        }
        Ok(Some(ColumnValues(view)))
    }
}

/// A checked parameter: host memory, aligned, with all its values.
#[derive(Clone, Copy)]
struct ColumnValues<'a>(View<'a>);

impl ColumnValues<'_> {
    fn value(&self, c: usize) -> f32 {
        use crate::half::{bf16, f16};
        let p = self.0.as_ptr();
        // SAFETY: the view is valid for reads of its elements, which are aligned and of which `c` is one.
        unsafe {
            match self.0.dtype() {
                DType::F16 => (*p.cast::<f16>().add(c)).to_f32(),
                DType::Bf16 => (*p.cast::<bf16>().add(c)).to_f32(),
                DType::F32 | DType::Quant(_) => *p.cast::<f32>().add(c),
            }
        }
    }
}
