//! The arguments of a call by their buffers.

use ::wgpu::Buffer;

use super::plan;
use crate::view::{Place, View, ViewMut};
use crate::{Argument, Backend, Backward, Dsum, Error, Forward, Residual, Result};

/// One argument that is there.
#[derive(Clone, Copy, Debug)]
struct Located<'a> {
    argument: Argument,
    buffer: &'a Buffer,
    /// Where the first element begins in the buffer, in bytes.
    offset: u64,
    written: bool,
}

/// The arguments of a call that are there.
#[derive(Debug, Default)]
pub(super) struct Arguments<'a> {
    there: Vec<Located<'a>>,
    /// Whether the call has a residual or a dsum.
    adds: bool,
}

impl<'a> Arguments<'a> {
    pub(super) fn forward(call: &Forward<'a>) -> Result<Self> {
        let mut all = Self::default();
        all.read(Argument::X, call.x.as_ref())?;
        all.adds = call.residual.is_some();
        match &call.residual {
            Some(Residual::Apart(view)) => all.read(Argument::Residual, Some(view))?,
            Some(Residual::InSum) | None => {}
        }
        all.write(Argument::Sum, call.sum.as_ref())?;
        all.read(Argument::Alpha, call.alpha.as_ref())?;
        all.read(Argument::Shift, call.shift.as_ref())?;
        all.read(Argument::Gamma, call.gamma.as_ref())?;
        all.read(Argument::Beta, call.beta.as_ref())?;
        all.write(Argument::Y, Some(&call.y))?;
        all.write(Argument::Mean, call.mean.as_ref())?;
        all.write(Argument::Rstd, call.rstd.as_ref())?;
        all.read(Argument::Scale, call.scale.as_ref())?;
        all.write(Argument::Scales, call.scales.as_ref())?;
        Ok(all)
    }

    /// Without a workspace where none is needed.
    pub(super) fn backward(call: &Backward<'a>, workspace: Option<&ViewMut<'a>>) -> Result<Self> {
        let mut all = Self::default();
        all.read(Argument::Dy, call.dy.as_ref())?;
        all.read(Argument::X, Some(&call.x))?;
        all.adds = call.dsum.is_some();
        match &call.dsum {
            Some(Dsum::Apart(view)) => all.read(Argument::Dsum, Some(view))?,
            Some(Dsum::InDx) | None => {}
        }
        all.read(Argument::Alpha, call.alpha.as_ref())?;
        all.read(Argument::Shift, call.shift.as_ref())?;
        all.read(Argument::Gamma, call.gamma.as_ref())?;
        all.read(Argument::Mean, call.mean.as_ref())?;
        all.read(Argument::Rstd, call.rstd.as_ref())?;
        all.write(Argument::Dx, call.dx.as_ref())?;
        all.write(Argument::Dalpha, call.dalpha.as_ref())?;
        all.write(Argument::Dshift, call.dshift.as_ref())?;
        all.write(Argument::Dgamma, call.dgamma.as_ref())?;
        all.write(Argument::Dbeta, call.dbeta.as_ref())?;
        all.write(Argument::Workspace, workspace)?;
        Ok(all)
    }

    /// The buffer that an argument lies in, if it is there.
    pub(super) fn buffer(&self, argument: Argument) -> Option<&'a Buffer> {
        self.get(argument).map(|located| located.buffer)
    }

    /// What the plan has to know.
    pub(super) fn for_plan(&self) -> plan::Arguments {
        let mut known = plan::Arguments::default();
        (known.operands, known.dsum) = (self.operands(), self.dsum());
        let partner = self.in_place_input();
        let all = || self.there.iter().filter(|located| Some(located.argument) != partner);
        for located in all() {
            known.add(located.argument, located.offset);
        }
        known.in_place = partner.is_some();
        // wgpu lets no dispatch read a buffer by one binding and write it by another, unless both may write. The first
        // stage of a backward writes no gradient of a parameter, and the second reads the workspace alone.
        let first = || all().filter(|located| !is_parameter_gradient(located.argument));
        let clash = |a: &Located<'_>, b: &Located<'_>| a.written != b.written && a.buffer == b.buffer;
        known.within_one_buffer = first().any(|a| first().any(|b| clash(a, b)));
        known.folds_within_one_buffer = self.get(Argument::Workspace).is_some_and(|workspace| {
            all().any(|located| is_parameter_gradient(located.argument) && located.buffer == workspace.buffer)
        });
        known
    }

    /// The input whose place the output takes, element by element: x of a forward, dy of a backward. A forward with a
    /// residual reads sum, which lies apart.
    fn in_place_input(&self) -> Option<Argument> {
        let (input, output) = match self.get(Argument::Y) {
            Some(_) if self.adds => return None,
            Some(y) => (Argument::X, y),
            None => (Argument::Dy, self.get(Argument::Dx)?),
        };
        self.holds(output, input).then_some(input)
    }

    /// Whether an output holds an input on entry: one without a place of its own, or with the same.
    fn holds(&self, output: &Located<'_>, input: Argument) -> bool {
        self.get(input).is_none_or(|input| (input.buffer, input.offset) == (output.buffer, output.offset))
    }

    /// What a forward with a residual adds up. x without a place of its own is in y, a residual without one in sum.
    fn operands(&self) -> Option<plan::Operands> {
        let (y, sum) = (self.get(Argument::Y)?, self.get(Argument::Sum)?);
        let in_y = |operand| match operand {
            Argument::X => self.holds(y, operand),
            _ => self.get(operand).is_some() && self.holds(y, operand),
        };
        let in_sum = |operand| match operand {
            Argument::X => self.get(operand).is_some() && self.holds(sum, operand),
            _ => self.holds(sum, operand),
        };
        let (x, residual) = (Argument::X, Argument::Residual);
        // The second of them is the one that y may hold.
        let (first, second) = if in_sum(residual) || in_y(x) { (residual, x) } else { (x, residual) };
        Some(plan::Operands {
            addend: (!in_sum(first)).then_some(first),
            residual: (!in_y(second)).then_some(second),
        })
    }

    fn dsum(&self) -> Option<plan::Dsum> {
        let dx = self.get(Argument::Dx).filter(|_| self.adds)?;
        Some(if self.holds(dx, Argument::Dsum) { plan::Dsum::InDx } else { plan::Dsum::Apart })
    }

    fn get(&self, argument: Argument) -> Option<&Located<'a>> {
        self.there.iter().find(|located| located.argument == argument)
    }

    fn read(&mut self, argument: Argument, view: Option<&View<'a>>) -> Result<()> {
        match view {
            Some(view) => self.add(argument, view.place(), view.as_ptr().addr(), false),
            None => Ok(()),
        }
    }

    fn write(&mut self, argument: Argument, view: Option<&ViewMut<'a>>) -> Result<()> {
        match view {
            Some(view) => self.add(argument, view.place(), view.address().addr(), true),
            None => Ok(()),
        }
    }

    fn add(&mut self, argument: Argument, place: Place<'a>, offset: usize, written: bool) -> Result<()> {
        let buffer = in_wgpu(argument, place)?;
        self.there.push(Located { argument, buffer, offset: offset as u64, written });
        Ok(())
    }
}

/// The buffer of a view that has to lie in one.
pub(super) fn in_wgpu(argument: Argument, place: Place<'_>) -> Result<&Buffer> {
    match place {
        Place::Wgpu(buffer) => Ok(buffer),
        other => Err(Error::WrongDevice { argument, expected: Backend::Wgpu, actual: other.backend() }),
    }
}

const fn is_parameter_gradient(argument: Argument) -> bool {
    match argument {
        Argument::Dalpha | Argument::Dshift | Argument::Dgamma | Argument::Dbeta => true,
        Argument::X | Argument::Alpha | Argument::Shift | Argument::Gamma | Argument::Beta => false,
        Argument::Residual | Argument::Sum | Argument::Dsum => false,
        Argument::Y | Argument::Dy | Argument::Dx | Argument::Mean | Argument::Rstd => false,
        Argument::Scale | Argument::Scales | Argument::Workspace => false,
    }
}
