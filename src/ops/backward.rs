//! The arguments of a backward call.

use super::check::{
    Checked, Extent, Memory, Presence, Seen, address, address_mut, check_aliasing, check_partner,
    check_presence, check_strides,
};
use crate::error::Argument;
use crate::view::{View, ViewMut};
use crate::{DType, Error, Problem, Result};

/// The buffers of a backward call, by name. Every gradient is optional, and one not asked for is not written.
///
/// With h = dy·gamma, and sums over all rows unless over the columns of one:
///
/// ```text
/// DyT, Derf  g = h·f'(u), dx = alpha·g, dalpha = Σ g·x, dshift = Σ g, dgamma = Σ dy·f(u), dbeta = Σ dy
/// the norms  dx = rstd·(h − mean(h) − x̂·mean(h·x̂)), dgamma = Σ dy·x̂, dbeta = Σ dy, x̂ = (x − mean)·rstd
/// ```
///
/// RMSNorm has neither mean(h) nor mean; `docs/numerics.md` has the form for [`Std::Unbiased`](crate::Std::Unbiased).
/// A saved mean is the origin about which the deviations are taken again.
///
/// | field | elements | dtype | who has it |
/// |---|---|---|---|
/// | dy, x, dsum, dx | rows × (heads ×) cols (× inner), by the strides of the problem | dtype | all; dsum optional |
/// | alpha | 1 | f32 | DyT, Derf |
/// | shift | 1 | f32 | Derf |
/// | gamma | cols, or param_groups × cols | param_dtype | all, optional; needed for dgamma |
/// | mean, rstd | rows · heads · inner | f32 | the norms, optional: computed again where one of them is absent |
/// | dalpha | 1 | f32 | DyT, Derf |
/// | dshift | 1 | f32 | Derf |
/// | dgamma, dbeta | as gamma and beta | f32 | all |
///
/// ```
/// # use dyt::Backward;
/// let (x, dy, mut dx) = ([0.5_f32, -1.0], [1.0_f32, 2.0], [0.0_f32; 2]);
/// let (alpha, mut dalpha) = (0.5_f32, 0.0_f32);
/// let arguments = Backward::of(&x).dy(&dy).alpha(&alpha).dx(&mut dx).dalpha(&mut dalpha);
/// ```
///
/// A call that names no dy does not compile:
///
/// ```compile_fail,E0599
/// # use dyt::Backward;
/// let (x, mut dx) = ([0.5_f32, -1.0], [0.0_f32; 2]);
/// let arguments = Backward::of(&x).dx(&mut dx);
/// ```
///
/// # Residual
/// After a forward with a residual, x is the sum that it wrote. The sum goes on to the next layer, too, and `dsum` is the
/// gradient that comes back from there: it is added to dx in f32, before dx is rounded. Then dx is the gradient of x and of
/// the residual. dx may take the place of dsum.
///
/// ```
/// # use dyt::Backward;
/// let (sum, dy, mut stream) = ([0.5_f32, -1.0], [1.0_f32, 2.0], [0.25_f32, 0.5]);
/// let arguments = Backward::of(&sum).dy(&dy).dsum_in_place(&mut stream);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Backward<'a> {
    /// The gradient of y; `None` where `dx` holds it on entry.
    pub dy: Option<View<'a>>,
    /// The input of the forward; its sum where it had a residual.
    pub x: View<'a>,
    /// What is added to dx, if anything.
    pub dsum: Option<Dsum<'a>>,
    /// The factor of DyT and Derf.
    pub alpha: Option<View<'a>>,
    /// The offset of Derf.
    pub shift: Option<View<'a>>,
    /// The factor of each column.
    pub gamma: Option<View<'a>>,
    /// The mean of each row, as the forward wrote it.
    pub mean: Option<View<'a>>,
    /// rstd of each row, as the forward wrote it.
    pub rstd: Option<View<'a>>,
    /// The gradient of x.
    pub dx: Option<ViewMut<'a>>,
    /// The gradient of alpha.
    pub dalpha: Option<ViewMut<'a>>,
    /// The gradient of shift.
    pub dshift: Option<ViewMut<'a>>,
    /// The gradient of gamma.
    pub dgamma: Option<ViewMut<'a>>,
    /// The gradient of beta.
    pub dbeta: Option<ViewMut<'a>>,
}

/// A backward call that has x, and no dy yet: [`Backward::of`] makes it.
#[derive(Debug)]
#[must_use]
pub struct WithoutDy<'a> {
    x: View<'a>,
}

impl<'a> WithoutDy<'a> {
    /// Sets dy. The gradients that are wanted are named next.
    #[must_use]
    pub fn dy(self, dy: impl Into<View<'a>>) -> Backward<'a> {
        self.with(Some(dy.into()), None)
    }
    /// Overwrites dy, which `dx` holds on entry, with the gradient of x.
    #[must_use]
    pub fn in_place(self, dx: impl Into<ViewMut<'a>>) -> Backward<'a> {
        self.with(None, Some(dx.into()))
    }
    const fn with(self, dy: Option<View<'a>>, dx: Option<ViewMut<'a>>) -> Backward<'a> {
        Backward {
            dy,
            x: self.x,
            dsum: None,
            alpha: None,
            shift: None,
            gamma: None,
            mean: None,
            rstd: None,
            dx,
            dalpha: None,
            dshift: None,
            dgamma: None,
            dbeta: None,
        }
    }
}

impl<'a> Backward<'a> {
    /// From the forward's `x`. The call is complete when it has dy too, by name, so that the two cannot change places.
    pub fn of(x: impl Into<View<'a>>) -> WithoutDy<'a> {
        WithoutDy { x: x.into() }
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
    /// Hands over the mean that the forward saved.
    #[must_use]
    pub fn mean(mut self, mean: impl Into<View<'a>>) -> Self {
        self.mean = Some(mean.into());
        self
    }
    /// Hands over the rstd that the forward saved. Rows whose squares f32 cannot hold go without it on the CPU: there it may
    /// be beyond f32.
    #[must_use]
    pub fn rstd(mut self, rstd: impl Into<View<'a>>) -> Self {
        self.rstd = Some(rstd.into());
        self
    }
    /// Asks for the gradient of x.
    #[must_use]
    pub fn dx(mut self, dx: impl Into<ViewMut<'a>>) -> Self {
        self.dx = Some(dx.into());
        self
    }
    /// Adds `dsum`, the gradient of the forward's sum, to dx.
    #[must_use]
    pub fn dsum(mut self, dsum: impl Into<View<'a>>) -> Self {
        self.dsum = Some(Dsum::Apart(dsum.into()));
        self
    }
    /// Asks for the gradient of x, and adds to it what `dx` holds on entry: the gradient of the forward's sum.
    #[must_use]
    pub fn dsum_in_place(mut self, dx: impl Into<ViewMut<'a>>) -> Self {
        self.dsum = Some(Dsum::InDx);
        self.dx = Some(dx.into());
        self
    }
    /// Asks for the gradient of alpha.
    #[must_use]
    pub fn dalpha(mut self, dalpha: impl Into<ViewMut<'a>>) -> Self {
        self.dalpha = Some(dalpha.into());
        self
    }
    /// Asks for the gradient of shift.
    #[must_use]
    pub fn dshift(mut self, dshift: impl Into<ViewMut<'a>>) -> Self {
        self.dshift = Some(dshift.into());
        self
    }
    /// Asks for the gradient of gamma.
    #[must_use]
    pub fn dgamma(mut self, dgamma: impl Into<ViewMut<'a>>) -> Self {
        self.dgamma = Some(dgamma.into());
        self
    }
    /// Asks for the gradient of beta.
    #[must_use]
    pub fn dbeta(mut self, dbeta: impl Into<ViewMut<'a>>) -> Self {
        self.dbeta = Some(dbeta.into());
        self
    }

    /// dsum, where it lies in a buffer of its own.
    const fn dsum_apart(&self) -> Option<&View<'a>> {
        match &self.dsum {
            Some(Dsum::Apart(view)) => Some(view),
            Some(Dsum::InDx) | None => None,
        }
    }

    /// Checks every argument against the problem and against the memory that the device reaches, and that the first
    /// `bytes` of the workspace are there, aligned and apart.
    pub(crate) fn check(
        &self,
        problem: &Problem,
        memory: Memory,
        workspace: Option<(&ViewMut<'a>, usize)>,
    ) -> Result<BackwardPtrs> {
        self.check_presence(problem)?;
        let in_place = self.dy.is_none() && !matches!(self.dsum, Some(Dsum::InDx));
        check_strides(problem, Argument::Dx, Argument::Dy, in_place)?;
        if let Some(quant) = problem.quant() {
            return Err(Error::QuantisedBackward { quant });
        }
        let (x, y, one) = (Extent::x(problem), Extent::y(problem), Extent::vector(1));
        let columns = Extent::vector(problem.params());
        let statistics = Extent::vector(problem.statistics());
        let (dtype, param) = (problem.dtype(), problem.param_dtype());
        let expect = |seen: Option<Seen<'a>>, dtype, extent| {
            seen.map(|s| s.within(memory).and_then(|()| s.expect(dtype, extent))).transpose()
        };
        let inputs = [
            expect(Seen::read(Argument::Dy, self.dy.as_ref()), dtype, y)?,
            expect(Seen::read(Argument::X, Some(&self.x)), dtype, x)?,
            expect(Seen::read(Argument::Dsum, self.dsum_apart()), dtype, x)?,
            expect(Seen::read(Argument::Alpha, self.alpha.as_ref()), DType::F32, one)?,
            expect(Seen::read(Argument::Shift, self.shift.as_ref()), DType::F32, one)?,
            expect(Seen::read(Argument::Gamma, self.gamma.as_ref()), param, columns)?,
            expect(Seen::read(Argument::Mean, self.mean.as_ref()), DType::F32, statistics)?,
            expect(Seen::read(Argument::Rstd, self.rstd.as_ref()), DType::F32, statistics)?,
        ];
        let outputs = [
            expect(Seen::write(Argument::Dx, self.dx.as_ref()), dtype, x)?,
            expect(Seen::write(Argument::Dalpha, self.dalpha.as_ref()), DType::F32, one)?,
            expect(Seen::write(Argument::Dshift, self.dshift.as_ref()), DType::F32, one)?,
            expect(Seen::write(Argument::Dgamma, self.dgamma.as_ref()), DType::F32, columns)?,
            expect(Seen::write(Argument::Dbeta, self.dbeta.as_ref()), DType::F32, columns)?,
            workspace.map(|(view, bytes)| Checked::workspace(view, bytes, memory)).transpose()?,
        ];
        check_aliasing(problem, &outputs, &inputs, &IN_PLACE)?;
        memory.check_takes(problem, self.dsum.is_some())?;
        Ok(self.pointers())
    }

    fn check_presence(&self, problem: &Problem) -> Result<()> {
        let op = problem.op();
        let (pointwise, norm) = (op.is_pointwise(), !op.is_pointwise());
        // dx cannot hold both on entry.
        let in_place = self.dx.is_some() && !matches!(self.dsum, Some(Dsum::InDx));
        let rows = [
            (Argument::Dy, self.dy.is_some() || in_place, Presence::Required),
            (Argument::Alpha, self.alpha.is_some(), Presence::required_if(pointwise)),
            (Argument::Shift, self.shift.is_some(), Presence::required_if(op.has_shift())),
            (Argument::Mean, self.mean.is_some(), Presence::optional_if(op.has_mean())),
            (Argument::Rstd, self.rstd.is_some(), Presence::optional_if(norm)),
            (Argument::Dalpha, self.dalpha.is_some(), Presence::optional_if(pointwise)),
            (Argument::Dshift, self.dshift.is_some(), Presence::optional_if(op.has_shift())),
        ];
        for (argument, given, presence) in rows {
            check_presence(op, argument, given, presence)?;
        }
        if self.dgamma.is_some() && self.gamma.is_none() {
            return Err(Error::MissingGamma);
        }
        check_partner((Argument::Dsum, self.dsum.is_some()), (Argument::Dx, self.dx.is_some()))
    }

    fn pointers(&self) -> BackwardPtrs {
        let dx = address_mut(self.dx.as_ref());
        BackwardPtrs {
            dy: self.dy.as_ref().map_or(dx.cast_const(), View::as_ptr),
            x: self.x.as_ptr(),
            dsum: match &self.dsum {
                Some(Dsum::Apart(view)) => view.as_ptr(),
                Some(Dsum::InDx) => dx.cast_const(),
                None => core::ptr::null(),
            },
            alpha: address(self.alpha.as_ref()).cast(),
            shift: address(self.shift.as_ref()).cast(),
            gamma: address(self.gamma.as_ref()),
            mean: address(self.mean.as_ref()).cast(),
            rstd: address(self.rstd.as_ref()).cast(),
            dx,
            dalpha: address_mut(self.dalpha.as_ref()).cast(),
            dshift: address_mut(self.dshift.as_ref()).cast(),
            dgamma: address_mut(self.dgamma.as_ref()).cast(),
            dbeta: address_mut(self.dbeta.as_ref()).cast(),
        }
    }
}

/// Where dsum lies.
#[derive(Clone, Copy, Debug)]
pub enum Dsum<'a> {
    /// In a buffer of its own.
    Apart(View<'a>),
    /// In the buffer of `dx`, on entry.
    InDx,
}

/// The outputs that may take the place of an input.
const IN_PLACE: [(Argument, Argument); 2] = [(Argument::Dx, Argument::Dy), (Argument::Dx, Argument::Dsum)];

/// The arguments of a checked call by address; null where absent. Valid for what [`Backward`]'s table says. An input that
/// dx takes the place of has the address of dx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackwardPtrs {
    pub(crate) dy: *const u8,
    pub(crate) x: *const u8,
    pub(crate) dsum: *const u8,
    pub(crate) alpha: *const f32,
    pub(crate) shift: *const f32,
    pub(crate) gamma: *const u8,
    pub(crate) mean: *const f32,
    pub(crate) rstd: *const f32,
    pub(crate) dx: *mut u8,
    pub(crate) dalpha: *mut f32,
    pub(crate) dshift: *mut f32,
    pub(crate) dgamma: *mut f32,
    pub(crate) dbeta: *mut f32,
}

impl BackwardPtrs {
    /// Whether dx takes the place of dy or of dsum.
    pub(crate) fn is_in_place(&self) -> bool {
        [self.dy, self.dsum].contains(&self.dx.cast_const())
    }
    /// Tensors that a call reads or writes.
    pub(crate) const fn tensors(&self) -> usize {
        if self.dsum.is_null() { 3 } else { 4 }
    }
    /// Whether there is no gradient to write. For host memory alone: views of other memory may have no address.
    pub(crate) fn asks_for_nothing(&self) -> bool {
        let Self { dx, dalpha, dshift, dgamma, dbeta, .. } = *self;
        dx.is_null() && [dalpha, dshift, dgamma, dbeta].iter().all(|gradient| gradient.is_null())
    }
}

// SAFETY: the pointers come from views, which are Send and Sync; tasks of one call write disjoint places.
unsafe impl Send for BackwardPtrs {}
// SAFETY: as above.
unsafe impl Sync for BackwardPtrs {}
