//! Rows of elements.

use super::kernels::{Add, RowMaxima, Scales};
use super::{Call, Portion, Values};
use crate::cpu::choices::{GROUP, STAGE_BYTES, STAGE_ROWS};
use crate::cpu::lanes::MAX_LANES;
use crate::cpu::plan::{Range, Tile};
use crate::cpu::rows::Columns;
use crate::cpu::stage::Stage;
use crate::cpu::stored::Stored;
use crate::cpu::tile::{BLOCK, Slots, Tiles};

/// Values of f32 that the stage has room for.
pub(super) const ROOM: usize = STAGE_ROWS * STAGE_BYTES / size_of::<f32>();

/// What is done with the values of a portion.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) finds: bool,
    pub(super) writes: bool,
}

impl Pass {
    /// Those over values whose scales are to be found or not, where a portion holds a whole row or does not.
    pub(super) const fn all(finds: bool, whole: bool) -> &'static [Self] {
        match (finds, whole) {
            (false, _) => &[Self { finds: false, writes: true }],
            (true, true) => &[Self { finds: true, writes: true }],
            (true, false) => &[Self { finds: true, writes: false }, Self { finds: false, writes: true }],
        }
    }
}

/// Not inlined: the stack of a call has no room for what channels-first data need besides.
#[inline(never)]
pub(super) fn run<T: Stored, V: Values<T>>(call: &Call<T>, values: &V, Tile { rows, cols, .. }: Tile) {
    // Made where they stay: a tuple of them would be copied.
    let mut stage = Stage::new();
    let mut tiles = Tiles::<2>::new();
    let tiles = tiles.slots();
    let stride = cols.len().min(BLOCK).next_multiple_of(MAX_LANES);
    let one = cols.len() <= BLOCK;
    let work = Work { call, values, stage: stage.rows(stride), tiles, side: (ROOM / stride).min(GROUP) };
    let mut kept = V::Kept::default();
    let mut fresh = true;
    for group in call.x.heads().parts(rows, GROUP) {
        if let Some(residual) = call.residual {
            call.isa.run(Add { residual, rows: group, columns: Columns::plain(cols.begin, cols.end) });
        }
        values.look(call.isa, group, &mut kept);
        let mut maxima = [0.0; GROUP];
        for pass in Pass::all(call.finds_scales(), one) {
            for block in cols.parts(BLOCK) {
                // The parameters of a single block are prepared once for all groups.
                fresh |= !one;
                let columns = Columns::plain(block.begin, block.end);
                fresh = work.block(group, columns, fresh, *pass, &kept, &mut maxima);
            }
        }
        if call.finds_scales() {
            for (r, &most) in maxima[..group.len()].iter().enumerate() {
                // SAFETY: checked scales have a value for each row.
                unsafe { *call.scales.add(group.begin + r) = call.quant.scale(most) }
            }
        }
    }
}

/// What stays the same for all groups.
struct Work<'a, T, V> {
    call: &'a Call<T>,
    values: &'a V,
    stage: crate::cpu::rows::Rows<f32>,
    tiles: [Slots; 2],
    /// Rows of a portion.
    side: usize,
}

impl<T: Stored, V: Values<T>> Work<'_, T, V> {
    /// Some columns of a group of rows. Takes and returns whether the parameters are still to be prepared.
    fn block(
        &self,
        group: Range,
        columns: Columns,
        mut fresh: bool,
        pass: Pass,
        kept: &V::Kept,
        maxima: &mut [f32; GROUP],
    ) -> bool {
        let Self { call, values, tiles, .. } = *self;
        let v = self.stage.beginning_at(columns.begin);
        for rows in group.parts(self.side) {
            let (n, number) = (rows.len(), rows.begin - group.begin);
            let x = call.widened(call.x.from(rows.begin), n, columns, v);
            fresh &= !values.write(call.isa, kept, number, &Portion { x, v, rows, columns, tiles, fresh });
            let maxima = &mut maxima[number..number + n];
            if pass.finds {
                call.isa.run(RowMaxima { v, columns, into: maxima });
            }
            if pass.writes {
                let mut scales = [call.scale; GROUP];
                if call.finds_scales() {
                    for (scale, &most) in scales.iter_mut().zip(&*maxima) {
                        *scale = call.quant.scale(most);
                    }
                }
                call.quantise(v, call.y(rows.begin), n, columns, Scales::OfRows(&scales[..n]));
            }
        }
        fresh
    }
}
