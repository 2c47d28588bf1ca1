//! The whole run in a few lines: the medians of cells that are alike.

use dyt::{Op, Pass};

use super::record::{Cell, OpTiming, Record};
use dyt_measure::interleave::median;

/// Where tensors lie: what they are compared with depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residence {
    /// In the caches, where arithmetic is the bound: elements in a nanosecond count.
    Caches,
    /// In memory, where the bound is that of a copy: the part of its speed counts.
    Memory,
}

/// The medians of cells that are alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Medians {
    /// Where the tensors lie.
    pub(crate) residence: Residence,
    /// The pass.
    pub(crate) pass: Pass,
    /// Storage type.
    pub(crate) dtype: &'static str,
    /// Threads of the pool.
    pub(crate) threads: usize,
    /// In the order of [`Op::ALL`]: elements in a nanosecond a thread, or the part of the copy's speed.
    pub(crate) by_op: [f64; 4],
    /// DyT's time divided by LayerNorm's.
    pub(crate) dyt_to_layer_norm: f64,
}

/// The medians of what was measured in full on `device`.
pub(crate) fn medians(record: &Record, device: &str) -> Vec<Medians> {
    let mut all = Vec::new();
    for residence in [Residence::Memory, Residence::Caches] {
        for pass in Pass::ALL {
            for dtype in record.dtypes() {
                for threads in record.threads() {
                    let alike = |cell: &&Cell| {
                        cell.device == device
                            && cell.pass == pass.name()
                            && cell.dtype == dtype
                            && cell.threads == threads
                            && cell.in_memory(&record.machine) == (residence == Residence::Memory)
                    };
                    let cells: Vec<&Cell> = record.cells.iter().filter(alike).collect();
                    all.extend(medians_of(&cells, residence, pass, dtype, threads));
                }
            }
        }
    }
    all
}

fn medians_of(
    cells: &[&Cell],
    residence: Residence,
    pass: Pass,
    dtype: &'static str,
    threads: usize,
) -> Option<Medians> {
    if cells.is_empty() {
        return None;
    }
    let of = |op: Op, value: fn(&OpTiming) -> f64| {
        median(&cells.iter().filter_map(|cell| cell.op(op)).map(value).collect::<Vec<_>>())
    };
    let by_op = Op::ALL.map(|op| match residence {
        Residence::Memory => of(op, |timing| timing.fraction),
        Residence::Caches => of(op, |timing| timing.elements_per_ns),
    });
    let dyt_to_layer_norm = of(Op::Dyt, |timing| timing.to_layer_norm);
    Some(Medians { residence, pass, dtype, threads, by_op, dyt_to_layer_norm })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn medians_keep_places_apart() {
        let record = record();
        let medians = medians(&record, "cpu:avx512");
        assert_eq!(medians.len(), 8);
        let first = &medians[0];
        assert_eq!((first.residence, first.pass, first.dtype), (Residence::Memory, Pass::Forward, "bf16"));
        assert!((first.by_op[0] - 0.8).abs() < 1e-9, "{first:?}");
        assert_eq!(medians[4].residence, Residence::Caches);
        assert!((medians[4].by_op[0] - 64.0 * 768.0 / 1e5).abs() < 1e-9, "{:?}", medians[4]);
    }
}
