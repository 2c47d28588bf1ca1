//! The arguments of a call by their buffers.

use ::wgpu::Buffer;

use super::plan::{Place, Places};
use crate::view::{Place as Memory, View, ViewMut};
use crate::{Argument, Backward, Forward};

/// One argument that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'a> {
    pub(super) argument: Argument,
    pub(super) buffer: &'a Buffer,
    /// Where the first element begins in the buffer, in bytes.
    pub(super) offset: u64,
}

/// The arguments of a call that are there. They have been checked: each is a view of a wgpu buffer.
#[derive(Debug, Default)]
pub(super) struct Arguments<'a>(Vec<Located<'a>>);

impl<'a> Arguments<'a> {
    pub(super) fn forward(call: &Forward<'a>) -> Self {
        let mut all = Self::default();
        all.read(Argument::X, call.x.as_ref());
        all.read(Argument::Alpha, call.alpha.as_ref());
        all.read(Argument::Shift, call.shift.as_ref());
        all.read(Argument::Gamma, call.gamma.as_ref());
        all.read(Argument::Beta, call.beta.as_ref());
        all.write(Argument::Y, Some(&call.y));
        all.write(Argument::Mean, call.mean.as_ref());
        all.write(Argument::Rstd, call.rstd.as_ref());
        all
    }

    pub(super) fn backward(call: &Backward<'a>, workspace: &ViewMut<'a>) -> Self {
        let mut all = Self::default();
        all.read(Argument::Dy, call.dy.as_ref());
        all.read(Argument::X, Some(&call.x));
        all.read(Argument::Alpha, call.alpha.as_ref());
        all.read(Argument::Shift, call.shift.as_ref());
        all.read(Argument::Gamma, call.gamma.as_ref());
        all.read(Argument::Mean, call.mean.as_ref());
        all.read(Argument::Rstd, call.rstd.as_ref());
        all.write(Argument::Dx, call.dx.as_ref());
        all.write(Argument::Dalpha, call.dalpha.as_ref());
        all.write(Argument::Dshift, call.dshift.as_ref());
        all.write(Argument::Dgamma, call.dgamma.as_ref());
        all.write(Argument::Dbeta, call.dbeta.as_ref());
        all.write(Argument::Workspace, Some(workspace));
        all
    }

    /// The argument, if it is there.
    pub(super) fn get(&self, argument: Argument) -> Option<Located<'a>> {
        self.0.iter().find(|located| located.argument == argument).copied()
    }

    /// Where each argument lies, for the plan: buffers by number, equal ones if they are the same.
    pub(super) fn places(&self) -> Places {
        let number = |buffer: &Buffer| self.0.iter().position(|other| other.buffer == buffer).unwrap_or(0);
        let place = |located: &Located<'a>| Place { buffer: number(located.buffer), offset: located.offset };
        Places::new(self.0.iter().map(|located| (located.argument, place(located))))
    }

    fn read(&mut self, argument: Argument, view: Option<&View<'a>>) {
        if let Some(view) = view {
            self.add(argument, view.place(), view.as_ptr().addr());
        }
    }

    fn write(&mut self, argument: Argument, view: Option<&ViewMut<'a>>) {
        if let Some(view) = view {
            self.add(argument, view.place(), view.address().addr());
        }
    }

    fn add(&mut self, argument: Argument, memory: Memory<'a>, offset: usize) {
        // A workspace of which nothing is needed may be anything; no kernel is bound to it.
        if let Memory::Wgpu(buffer) = memory {
            self.0.push(Located { argument, buffer, offset: offset as u64 });
        }
    }
}
