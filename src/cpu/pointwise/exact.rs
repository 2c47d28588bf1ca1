//! DyT with an alpha so large, so small or so strange that tables scaled by it leave the range of f32: element by element
//! in f64.

use super::{Backward, Forward};
use crate::cpu::plan::Tile;
use crate::cpu::rows::Rows;
use crate::cpu::stored::Stored;
use crate::cpu::sums::Sums;
use crate::cpu::tensor::Tensor;

/// The element `s` of channel `c`, as rows that begin with it.
fn element<T: Stored>(tensor: Tensor<T>, row: usize, c: usize, inner: usize, s: usize) -> Rows<T> {
    tensor.from(row).shifted(c * inner + s)
}

/// tanh u and sech² u.
pub(super) fn tanh(u: f64) -> (f64, f64) {
    let e = (-2.0 * u.abs()).exp();
    (u.tanh(), 4.0 * e / ((1.0 + e) * (1.0 + e)))
}

/// y of a tile.
///
/// # Safety
/// Parameters have a value a column.
#[cold]
pub(super) unsafe fn forward<T: Stored, C>(arguments: &Forward<T, C>, tile: Tile) {
    let &Forward { x, residual, y, gamma, beta, alpha, inner, .. } = arguments;
    for row in tile.rows.begin..tile.rows.end {
        for c in tile.cols.begin..tile.cols.end {
            // SAFETY: the caller's promise.
            let (gamma, beta) = unsafe { (gamma.value(c), beta.value(c)) };
            for s in 0..inner {
                if let Some(residual) = &residual {
                    residual.add_one(row, c * inner + s);
                }
                let x = f64::from(element(x, row, c, inner, s).value(0, 0));
                let f = tanh(f64::from(alpha) * x).0;
                element(y, row, c, inner, s).put(0, 0, (f * f64::from(gamma) + f64::from(beta)) as f32);
            }
        }
    }
}

/// dx of a tile, and its sums, in the order of the columns.
///
/// # Safety
/// gamma has a value a column.
#[cold]
pub(super) unsafe fn backward<T: Stored, C>(arguments: &Backward<T, C>, tile: Tile, sums: &Sums) {
    let &Backward { dy, x, dx, dsum, gamma, alpha, inner, .. } = arguments;
    let alpha = f64::from(alpha);
    sums.clear_columns(tile.cols);
    for c in tile.cols.begin..tile.cols.end {
        // SAFETY: the caller's promise.
        let gamma = f64::from(unsafe { gamma.value(c) });
        let mut terms = [0.0; 3];
        for row in tile.rows.begin..tile.rows.end {
            for s in 0..inner {
                let x = f64::from(element(x, row, c, inner, s).value(0, 0));
                let dy = f64::from(element(dy, row, c, inner, s).value(0, 0));
                let (f, slope) = tanh(alpha * x);
                if let Some(dx) = dx.rows() {
                    let joins = dsum.map(|dsum| element(dsum, row, c, inner, s).value(0, 0));
                    let v = (dy * gamma * slope * alpha) as f32;
                    element(dx, row, c, inner, s).put(0, 0, joins.map_or(v, |joins| v + joins));
                }
                for (sum, term) in terms.iter_mut().zip([dy * f, dy, dy * slope * x]) {
                    *sum += term;
                }
            }
        }
        sums.add_at(c, &terms.map(|sum| sum as f32));
    }
}
