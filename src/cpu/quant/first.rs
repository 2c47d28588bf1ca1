//! Channels-first data: each position of S has a scale of its own, and each channel parameters of its own. A portion has a row for
//! each of some channels, and a column for each position of a tile.

use super::kernels::{Add, ColumnMaxima, Scales};
use super::rows::{Pass, ROOM};
use super::{Call, Portion, Values};
use crate::cpu::lanes::MAX_LANES;
use crate::cpu::plan::{RUN_TILE, Range};
use crate::cpu::rows::{Columns, Rows};
use crate::cpu::stage::Stage;
use crate::cpu::stored::Stored;
use crate::cpu::tile::Slots;

/// Channels of a portion.
const SIDE: usize = ROOM / RUN_TILE;

/// One value for each position of a tile, with a vector's room behind the last.
pub(crate) type PerPosition = [f32; RUN_TILE + MAX_LANES];

/// The values as a row, of which column `begin` is the first.
pub(crate) fn row(values: &mut PerPosition, begin: usize) -> Rows<f32> {
    let len = values.len();
    // SAFETY: the caller has the values for as long as the row.
    unsafe { Rows::new(values.as_mut_ptr(), len, len) }.beginning_at(begin)
}

/// The tiles that `tiles` counts.
#[inline(never)]
pub(super) fn run<T: Stored, V: Values<T>>(call: &Call<T>, values: &V, tiles: Range) {
    let mut stage = Stage::new();
    // Parameters of a channel are single values, and need no room.
    let none = stage.slots();
    let slots = [none, none];
    let mut kept = V::Kept::default();
    let across = call.inner.div_ceil(RUN_TILE);
    for index in tiles.begin..tiles.end {
        let begin = index % across * RUN_TILE;
        let positions = Range { begin, end: call.inner.min(begin + RUN_TILE) };
        tile(call, values, index / across, positions, &mut kept, (stage.rows(RUN_TILE), slots));
    }
}

fn tile<T: Stored, V: Values<T>>(
    call: &Call<T>,
    values: &V,
    n: usize,
    positions: Range,
    kept: &mut V::Kept,
    (stage, tiles): (Rows<f32>, [Slots; 2]),
) {
    let channels = Range { begin: 0, end: call.cols };
    let columns = Columns::plain(positions.begin, positions.end);
    if let Some(residual) = call.residual {
        let residual = residual.run(n, 0, call.inner);
        call.isa.run(Add { residual, rows: channels, columns });
    }
    values.look_first(call.isa, n, positions, kept);
    let mut scales: PerPosition = [0.0; RUN_TILE + MAX_LANES];
    let of_positions = row(&mut scales, positions.begin);
    let v = stage.beginning_at(positions.begin);
    let x = call.x.from(n).with_stride(call.inner);
    let y = super::Bytes { stride: call.inner, ..call.y(n) };
    for pass in Pass::all(call.finds_scales(), call.cols <= SIDE) {
        for rows in channels.parts(SIDE) {
            let x = call.widened(x.from(rows.begin), rows.len(), columns, v);
            let portion = Portion { x, v, rows, columns, tiles, fresh: false };
            values.write_first(call.isa, kept, n, &portion);
            if pass.finds {
                call.isa.run(ColumnMaxima { v, n: rows.len(), columns, into: of_positions });
            }
            if pass.finds && rows.end == call.cols {
                // SAFETY: checked scales have a value for each position.
                unsafe { found(call, n, positions, of_positions) };
            }
            if pass.writes {
                let y = y.shifted(rows.begin * call.inner);
                let of_rows = [call.scale; SIDE];
                let scales = match call.finds_scales() {
                    true => Scales::OfColumns(of_positions),
                    false => Scales::OfRows(&of_rows[..rows.len()]),
                };
                call.quantise(v, y, rows.len(), columns, scales);
            }
        }
    }
}

/// Makes the scales of the largest |v| of each position, and writes them.
///
/// # Safety
/// The scales of the call have a value for each position.
unsafe fn found<T: Stored>(call: &Call<T>, n: usize, positions: Range, values: Rows<f32>) {
    for s in positions.begin..positions.end {
        let scale = call.quant.scale(values.value(0, s));
        values.put(0, s, scale);
        // SAFETY: the caller's promise.
        unsafe { *call.scales.add(n * call.inner + s) = scale };
    }
}
