//! The arguments of a forward call.

use super::check::{
    Extent, Memory, Presence, Seen, address, address_mut, check_aliasing, check_partner, check_presence,
    check_strides,
};
use crate::error::Argument;
use crate::view::{View, ViewMut};
use crate::{DType, Error, Problem, Result};

/// The buffers of a forward call, by name.
///
/// | field | elements | dtype | who has it |
/// |---|---|---|---|
/// | x, residual, sum, y | rows × (heads ×) cols (× inner), by the strides of the problem | dtype | all; residual and sum optional |
/// | alpha | 1 | f32 | DyT, Derf |
/// | shift | 1 | f32 | Derf |
/// | gamma, beta | cols, or param_groups × cols | param_dtype | all, optional: 1 and 0 where absent |
/// | mean | rows · heads · inner | f32 | LayerNorm, optional output |
/// | rstd | rows · heads · inner | f32 | LayerNorm, RMSNorm, optional output |
/// | scale | 1 | f32 | all, where y is quantised: either this |
/// | scales | rows · heads · inner | f32 | or this, an output |
///
/// ```
/// # use dyt::Forward;
/// let (x, mut y) = ([0.5_f32, -1.0], [0.0_f32; 2]);
/// let alpha = 0.5_f32;
/// let arguments = Forward::new(&x, &mut y).alpha(&alpha).gamma(&[1.0_f32, 2.0]);
/// ```
///
/// # Residual
/// With a residual, sum = x + residual is added in f32, rounded once to the storage type and written, and y is the op of
/// the stored sum. `residual` and `sum` come together. Each bit is that of an addition followed by the op of its result; on
/// CUDA where every buffer is aligned to 16 bytes. The payload of a NaN may differ.
///
/// | in place | form |
/// |---|---|
/// | nothing | `Forward::new(x, y).residual(r).sum(s)` |
/// | sum takes the place of the residual | `Forward::new(x, y).residual_in_place(r)` |
/// | y takes the place of x | `Forward::in_place(y).residual(r).sum(s)` |
/// | both | `Forward::in_place(y).residual_in_place(r)` |
///
/// x and the residual may change places. y and sum are two buffers.
///
/// ```
/// # use dyt::{Device, Forward, Op, Problem};
/// let problem = Problem::new(Op::RmsNorm, 1, 2).build()?;
/// // One step of a residual stream: what a layer returned joins the stream, and its norm goes into the next layer.
/// let (mut layer, mut stream) = ([3.0_f32, 0.5], [1.0_f32, 3.5]);
/// let arguments = Forward::in_place(&mut layer).residual_in_place(&mut stream);
/// # let device = Device::open("cpu:portable")?;
/// device.forward(&problem, arguments)?;
/// assert_eq!(stream, [4.0, 4.0]);
/// assert!((layer[0] - 1.0).abs() < 1e-5);
/// # Ok::<(), dyt::Error>(())
/// ```
///
/// # Quantised y
/// With [`ProblemBuilder::quant`](crate::ProblemBuilder::quant) y has one byte an element, y = v / s by the rules of
/// [`Quant`](crate::Quant), where v is the op's result in f32. s is `scale`, one value that the caller gives, or `scales`, one
/// of each row that the forward finds and writes: the largest |v| of the row / the largest value of the type, at least 2⁻¹²⁶.
/// A NaN is left out of the largest |v|; where that is 0 s is 1, and where it is infinite so is s. y lies apart from x and
/// from the residual; sum has the dtype of x, as ever.
///
/// ```
/// # use dyt::{Device, Forward, Op, Problem, Quant};
/// let problem = Problem::new(Op::RmsNorm, 1, 2).quant(Quant::I8).build()?;
/// let (x, mut y, mut scales) = ([3.0_f32, -4.0], [0_i8; 2], [0.0_f32]);
/// # let device = Device::open("cpu:portable")?;
/// device.forward(&problem, Forward::new(&x, &mut y).scales(&mut scales))?;
/// assert_eq!(y, [95, -127]);
/// # Ok::<(), dyt::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Forward<'a> {
    /// The input; `None` where `y` holds it on entry.
    pub x: Option<View<'a>>,
    /// What is added to x, if anything.
    pub residual: Option<Residual<'a>>,
    /// x + residual, as it is stored: the input of the op where there is a residual.
    pub sum: Option<ViewMut<'a>>,
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
    /// What a quantised y is divided by.
    pub scale: Option<View<'a>>,
    /// What each row of a quantised y is divided by, found and written here.
    pub scales: Option<ViewMut<'a>>,
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
            residual: None,
            sum: None,
            alpha: None,
            shift: None,
            gamma: None,
            beta: None,
            y: y.into(),
            mean: None,
            rstd: None,
            scale: None,
            scales: None,
        }
    }
    /// Adds `residual` to x before the op; [`Self::sum`] takes the sum.
    #[must_use]
    pub fn residual(mut self, residual: impl Into<View<'a>>) -> Self {
        self.residual = Some(Residual::Apart(residual.into()));
        self
    }
    /// Writes x + residual, as it is stored, for the next residual addition and for the backward.
    #[must_use]
    pub fn sum(mut self, sum: impl Into<ViewMut<'a>>) -> Self {
        self.sum = Some(sum.into());
        self
    }
    /// Adds x to `residual` in place before the op: it holds the residual on entry and the sum afterwards.
    #[must_use]
    pub fn residual_in_place(mut self, residual: impl Into<ViewMut<'a>>) -> Self {
        self.residual = Some(Residual::InSum);
        self.sum = Some(residual.into());
        self
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
    /// Sets the scale of a quantised y, one for all rows.
    #[must_use]
    pub fn scale(mut self, scale: impl Into<View<'a>>) -> Self {
        self.scale = Some(scale.into());
        self
    }
    /// Quantises each row with a scale of its own, which the forward finds and writes.
    #[must_use]
    pub fn scales(mut self, scales: impl Into<ViewMut<'a>>) -> Self {
        self.scales = Some(scales.into());
        self
    }

    /// The residual, where it lies in a buffer of its own.
    const fn residual_apart(&self) -> Option<&View<'a>> {
        match &self.residual {
            Some(Residual::Apart(view)) => Some(view),
            Some(Residual::InSum) | None => None,
        }
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
        let (residual, sum) = (self.residual.is_some(), self.sum.is_some());
        check_partner((Argument::Residual, residual), (Argument::Sum, sum))?;
        check_partner((Argument::Sum, sum), (Argument::Residual, residual))?;
        let scale = self.check_scales(problem)?;

        check_strides(problem, Argument::Y, Argument::X, self.x.is_none())?;

        let (x, y, one) = (Extent::x(problem), Extent::y(problem), Extent::vector(1));
        let columns = Extent::vector(problem.params());
        let statistics = Extent::vector(problem.statistics());
        let (dtype, param) = (problem.dtype(), problem.param_dtype());
        let expect = |seen: Option<Seen<'a>>, dtype, extent| {
            seen.map(|s| s.within(memory).and_then(|()| s.expect(dtype, extent))).transpose()
        };
        let inputs = [
            expect(Seen::read(Argument::X, self.x.as_ref()), dtype, x)?,
            expect(Seen::read(Argument::Residual, self.residual_apart()), dtype, x)?,
            expect(Seen::read(Argument::Alpha, self.alpha.as_ref()), DType::F32, one)?,
            expect(Seen::read(Argument::Shift, self.shift.as_ref()), DType::F32, one)?,
            expect(Seen::read(Argument::Gamma, self.gamma.as_ref()), param, columns)?,
            expect(Seen::read(Argument::Beta, self.beta.as_ref()), param, columns)?,
            expect(Seen::read(Argument::Scale, self.scale.as_ref()), DType::F32, one)?,
        ];
        let outputs = [
            expect(Seen::write(Argument::Y, Some(&self.y)), problem.y_dtype(), y)?,
            expect(Seen::write(Argument::Sum, self.sum.as_ref()), dtype, x)?,
            expect(Seen::write(Argument::Mean, self.mean.as_ref()), DType::F32, statistics)?,
            expect(Seen::write(Argument::Rstd, self.rstd.as_ref()), DType::F32, statistics)?,
            expect(Seen::write(Argument::Scales, self.scales.as_ref()), DType::F32, statistics)?,
        ];
        // A quantised y takes no place: the first two pairs are its.
        let in_place = if scale.is_some() { &IN_PLACE[2..] } else { &IN_PLACE };
        check_aliasing(problem, &outputs, &inputs, in_place)?;
        memory.check_takes(problem, residual)?;
        Ok(self.pointers())
    }

    /// Which of the two a quantised y has.
    const fn check_scales(&self, problem: &Problem) -> Result<Option<Argument>> {
        let Some(quant) = problem.quant() else {
            return match (&self.scale, &self.scales) {
                (None, None) => Ok(None),
                (Some(_), _) => Err(Error::UnexpectedScale { argument: Argument::Scale }),
                (None, Some(_)) => Err(Error::UnexpectedScale { argument: Argument::Scales }),
            };
        };
        if self.x.is_none() {
            return Err(Error::QuantisedInPlace { quant });
        }
        match (&self.scale, &self.scales) {
            (Some(_), None) => Ok(Some(Argument::Scale)),
            (None, Some(_)) => Ok(Some(Argument::Scales)),
            (None, None) => Err(Error::MissingScale { quant }),
            (Some(_), Some(_)) => Err(Error::BothScales { quant }),
        }
    }

    fn pointers(&self) -> ForwardPtrs {
        let sum = address_mut(self.sum.as_ref());
        ForwardPtrs {
            x: self.x.as_ref().map_or(self.y.address().cast_const(), View::as_ptr),
            residual: self.residual_apart().map_or(sum.cast_const(), View::as_ptr),
            sum,
            alpha: address(self.alpha.as_ref()).cast(),
            shift: address(self.shift.as_ref()).cast(),
            gamma: address(self.gamma.as_ref()),
            beta: address(self.beta.as_ref()),
            y: self.y.address(),
            mean: address_mut(self.mean.as_ref()).cast(),
            rstd: address_mut(self.rstd.as_ref()).cast(),
            scale: address(self.scale.as_ref()).cast(),
            scales: address_mut(self.scales.as_ref()).cast(),
        }
    }
}

/// Where the residual lies.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// In a buffer of its own.
    Apart(View<'a>),
    /// In the buffer of `sum`, on entry.
    InSum,
}

/// The outputs that may take the place of an input.
const IN_PLACE: [(Argument, Argument); 4] = [
    (Argument::Y, Argument::X),
    (Argument::Y, Argument::Residual),
    (Argument::Sum, Argument::X),
    (Argument::Sum, Argument::Residual),
];

/// The arguments of a checked call by address; null where absent. Valid for what [`Forward`]'s table says. An input that
/// an output takes the place of has the address of that output. residual and sum are both null or both not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardPtrs {
    pub(crate) x: *const u8,
    pub(crate) residual: *const u8,
    pub(crate) sum: *mut u8,
    pub(crate) alpha: *const f32,
    pub(crate) shift: *const f32,
    pub(crate) gamma: *const u8,
    pub(crate) beta: *const u8,
    pub(crate) y: *mut u8,
    pub(crate) mean: *mut f32,
    pub(crate) rstd: *mut f32,
    /// One of these two where y is quantised.
    pub(crate) scale: *const f32,
    pub(crate) scales: *mut f32,
}

impl ForwardPtrs {
    /// What the op reads: x, or its sum with the residual.
    pub(crate) const fn input(&self) -> *const u8 {
        if self.sum.is_null() { self.x } else { self.sum.cast_const() }
    }
    /// Whether y takes the place of x or of the residual.
    pub(crate) fn is_in_place(&self) -> bool {
        [self.x, self.residual].contains(&self.y.cast_const())
    }
    /// Tensors that a call reads or writes.
    pub(crate) const fn tensors(&self) -> usize {
        if self.sum.is_null() { 2 } else { 4 }
    }
}

// SAFETY: the pointers come from views, which are Send and Sync; tasks of one call write disjoint rows.
unsafe impl Send for ForwardPtrs {}
// SAFETY: as above.
unsafe impl Sync for ForwardPtrs {}
