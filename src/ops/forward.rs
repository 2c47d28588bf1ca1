//! The arguments of a forward call.

use super::check::{Memory, Presence, Seen, Shape, address, address_mut, check_aliasing, check_presence};
use crate::error::Argument;
use crate::view::{View, ViewMut};
use crate::{DType, Problem, Result};

/// The buffers of a forward call, by name.
///
/// | field | elements | dtype | who has it |
/// |---|---|---|---|
/// | x, y | rows × cols (× inner), rows row_stride apart | dtype | all |
/// | alpha | 1 | f32 | DyT, Derf |
/// | shift | 1 | f32 | Derf |
/// | gamma, beta | cols | param_dtype | all, optional: 1 and 0 where absent |
/// | mean | rows · inner | f32 | LayerNorm, optional output |
/// | rstd | rows · inner | f32 | LayerNorm, RMSNorm, optional output |
///
/// ```
/// # use dyt::Forward;
/// let (x, mut y) = ([0.5_f32, -1.0], [0.0_f32; 2]);
/// let alpha = 0.5_f32;
/// let arguments = Forward::new(&x, &mut y).alpha(&alpha).gamma(&[1.0_f32, 2.0]);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Forward<'a> {
    /// The input; `None` where `y` holds it on entry.
    pub x: Option<View<'a>>,
    /// The factor of DyT and Derf.
    pub alpha: Option<View<'a>>,
    /// The offset of Derf.
    pub shift: Option<View<'a>>,
    /// The factor of each column.
    pub gamma: Option<View<'a>>,
    /// The offset of each column.
    pub beta: Option<View<'a>>,
    /// The output.
    pub y: ViewMut<'a>,
    /// The mean of each row, written for the backward.
    pub mean: Option<ViewMut<'a>>,
    /// The reciprocal of the standard deviation of each row, written for the backward.
    pub rstd: Option<ViewMut<'a>>,
}

impl<'a> Forward<'a> {
    /// From `x` to `y`.
    #[must_use]
    pub fn new(x: impl Into<View<'a>>, y: impl Into<ViewMut<'a>>) -> Self {
        Self { x: Some(x.into()), ..Self::in_place(y) }
    }
    /// Overwrites x, which `y` holds on entry.
    #[must_use]
    pub fn in_place(y: impl Into<ViewMut<'a>>) -> Self {
        Self {
            x: None,
            alpha: None,
            shift: None,
            gamma: None,
            beta: None,
            y: y.into(),
            mean: None,
            rstd: None,
        }
    }
    /// Sets alpha.
    #[must_use]
    pub fn alpha(mut self, alpha: impl Into<View<'a>>) -> Self {
        self.alpha = Some(alpha.into());
        self
    }
    /// Sets shift.
    #[must_use]
    pub fn shift(mut self, shift: impl Into<View<'a>>) -> Self {
        self.shift = Some(shift.into());
        self
    }
    /// Sets gamma.
    #[must_use]
    pub fn gamma(mut self, gamma: impl Into<View<'a>>) -> Self {
        self.gamma = Some(gamma.into());
        self
    }
    /// Sets beta.
    #[must_use]
    pub fn beta(mut self, beta: impl Into<View<'a>>) -> Self {
        self.beta = Some(beta.into());
        self
    }
    /// Asks for the mean of each row.
    #[must_use]
    pub fn mean(mut self, mean: impl Into<ViewMut<'a>>) -> Self {
        self.mean = Some(mean.into());
        self
    }
    /// Asks for rstd of each row; infinite where it is beyond f32, which takes an eps of 0 and subnormal values.
    #[must_use]
    pub fn rstd(mut self, rstd: impl Into<ViewMut<'a>>) -> Self {
        self.rstd = Some(rstd.into());
        self
    }

    /// Checks every argument against the problem and against the memory that the device reaches.
    pub(crate) fn check(&self, problem: &Problem, memory: Memory) -> Result<ForwardPtrs> {
        let op = problem.op();
        let (pointwise, norm) = (op.is_pointwise(), !op.is_pointwise());
        let scalar = Presence::required_if(pointwise);
        check_presence(op, Argument::Alpha, self.alpha.is_some(), scalar)?;
        let shift = Presence::required_if(op.has_shift());
        check_presence(op, Argument::Shift, self.shift.is_some(), shift)?;
        let mean = Presence::optional_if(op.has_mean());
        check_presence(op, Argument::Mean, self.mean.is_some(), mean)?;
        check_presence(op, Argument::Rstd, self.rstd.is_some(), Presence::optional_if(norm))?;

        let one = Shape::Vector(1);
        let columns = Shape::Vector(problem.cols());
        let statistics = Shape::Vector(problem.statistics());
        let (dtype, param) = (problem.dtype(), problem.param_dtype());
        let expect = |seen: Option<Seen<'a>>, dtype, shape| {
            seen.map(|s| s.within(memory).and_then(|()| s.expect(problem, dtype, shape))).transpose()
        };
        let inputs = [
            expect(Seen::read(Argument::X, self.x.as_ref()), dtype, Shape::Tensor)?,
            expect(Seen::read(Argument::Alpha, self.alpha.as_ref()), DType::F32, one)?,
            expect(Seen::read(Argument::Shift, self.shift.as_ref()), DType::F32, one)?,
            expect(Seen::read(Argument::Gamma, self.gamma.as_ref()), param, columns)?,
            expect(Seen::read(Argument::Beta, self.beta.as_ref()), param, columns)?,
        ];
        let outputs = [
            expect(Seen::write(Argument::Y, Some(&self.y)), dtype, Shape::Tensor)?,
            expect(Seen::write(Argument::Mean, self.mean.as_ref()), DType::F32, statistics)?,
            expect(Seen::write(Argument::Rstd, self.rstd.as_ref()), DType::F32, statistics)?,
        ];
        check_aliasing(problem, &outputs, &inputs, (Argument::Y, Argument::X))?;
        Ok(self.pointers())
    }

    fn pointers(&self) -> ForwardPtrs {
        ForwardPtrs {
            x: self.x.as_ref().map_or(self.y.address().cast_const(), View::as_ptr),
            alpha: address(self.alpha.as_ref()).cast(),
            shift: address(self.shift.as_ref()).cast(),
            gamma: address(self.gamma.as_ref()),
            beta: address(self.beta.as_ref()),
            y: self.y.address(),
            mean: address_mut(self.mean.as_ref()).cast(),
            rstd: address_mut(self.rstd.as_ref()).cast(),
        }
    }
}

/// The arguments of a checked call by address; null where absent. Valid for what [`Forward`]'s table says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardPtrs {
    pub(crate) x: *const u8,
    pub(crate) alpha: *const f32,
    pub(crate) shift: *const f32,
    pub(crate) gamma: *const u8,
    pub(crate) beta: *const u8,
    pub(crate) y: *mut u8,
    pub(crate) mean: *mut f32,
    pub(crate) rstd: *mut f32,
}

// SAFETY: the pointers come from views, which are Send and Sync; tasks of one call write disjoint rows.
unsafe impl Send for ForwardPtrs {}
// SAFETY: as above.
unsafe impl Sync for ForwardPtrs {}
