//! The bindings of one dispatch, and the parameters that say where in them the elements begin.

use super::super::compose::{Kernel, Slot};
use super::{Arguments, Binding, Dispatch, Layout, Limits, Params};
use crate::{Argument, Error, Pass, Result};

pub(super) struct Parts<'a> {
    at: &'a Arguments,
    limits: &'a Limits,
    params: Params,
    bindings: Vec<Binding>,
}

impl<'a> Parts<'a> {
    pub(super) const fn new(at: &'a Arguments, limits: &'a Limits, params: Params) -> Self {
        Self { at, limits, params, bindings: Vec::new() }
    }

    /// Binds `len` elements of `size` bytes from the element `first` of an argument on; nothing if it is absent.
    pub(super) fn bind(
        &mut self,
        slot: Slot,
        argument: Argument,
        size: u64,
        first: u64,
        len: u64,
    ) -> Result<()> {
        let Some(offset) = self.at.offset(argument).filter(|_| len > 0) else { return Ok(()) };
        let begin = offset + first * size;
        let start = begin - begin % self.limits.alignment;
        // Kernels read and write whole words.
        let bytes = (begin + len * size - start).next_multiple_of(4);
        let limit = self.limits.binding;
        if bytes > limit {
            return Err(Error::RowTooLarge { argument, bytes, limit });
        }
        *self.start(slot) = ((begin - start) / size) as u32;
        self.bindings.push(Binding { slot, argument, start, bytes });
        Ok(())
    }

    /// Says where in a record the sums are.
    pub(super) const fn place_sums(&mut self, layout: &Layout) {
        self.params = layout.params(self.params);
    }

    fn start(&mut self, slot: Slot) -> &mut u32 {
        let params = &mut self.params;
        match slot {
            Slot::X => &mut params.x_start,
            Slot::Addend => &mut params.addend_start,
            Slot::Residual => &mut params.residual_start,
            Slot::Dsum => &mut params.dsum_start,
            Slot::Dy => &mut params.dy_start,
            Slot::Out => &mut params.out_start,
            Slot::Gamma => &mut params.gamma_start,
            Slot::Beta => &mut params.beta_start,
            Slot::Alpha => &mut params.alpha_start,
            Slot::Shift => &mut params.shift_start,
            Slot::Mean => &mut params.mean_start,
            Slot::Rstd => &mut params.rstd_start,
            Slot::Scale => &mut params.scale_start,
            Slot::Sums => &mut params.sums_start,
            Slot::Dgamma => &mut params.dgamma_start,
            Slot::Dbeta => &mut params.dbeta_start,
            Slot::Dalpha => &mut params.dalpha_start,
            Slot::Dshift => &mut params.dshift_start,
        }
    }

    pub(super) fn dispatch(mut self, kernel: Kernel, workgroups: u64) -> Dispatch {
        // Beyond what one dimension may have, the grid is folded.
        let lines = workgroups.div_ceil(self.limits.workgroups);
        self.params.workgroups = workgroups as u32;
        // An in-place kernel reads through the binding that it writes.
        match (kernel.in_place, kernel.body.pass()) {
            (true, Pass::Backward) => self.params.dy_start = self.params.out_start,
            (true, Pass::Forward) => self.params.x_start = self.params.out_start,
            (false, _) => {}
        }
        Dispatch {
            kernel: kernel.normalized(),
            workgroups: [workgroups.div_ceil(lines) as u32, lines as u32, 1],
            params: self.params,
            bindings: self.bindings,
        }
    }
}
