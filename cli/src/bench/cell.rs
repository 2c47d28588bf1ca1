//! Measures one point on one device: every op and every baseline, in turns.

use std::time::Duration;

use dyt::{Device, Op, Pass, Result};
use dyt_measure::interleave::{Budget, interleave};
use dyt_measure::{Baseline, Contender, Point, Workload};
use rayon::ThreadPool;

use super::record::{Cell, Place};

/// Every pass of every op at `point`, on the threads of `pool`. `None` where the time that is `left` does not suffice.
pub(crate) fn measure(
    device: &Device,
    pool: &ThreadPool,
    point: Point,
    budget: &Budget,
    left: impl Fn() -> Duration + Sync,
) -> Result<Option<Vec<Cell>>> {
    if left().is_zero() {
        return Ok(None);
    }
    pool.install(|| {
        let mut workload = Workload::new(device, point)?;
        let mut contenders: Vec<Contender> =
            Baseline::on(device).iter().copied().map(Contender::Baseline).collect();
        let passes = point.form.passes();
        for &pass in passes {
            contenders.extend(Op::ALL.map(|op| Contender::Op(op, pass)));
        }
        // Asked only now: memory takes its time, too.
        let samples = interleave(contenders.len(), budget, left(), |contender, calls| {
            workload.time(contenders[contender], calls.into())
        })?;
        let Some(samples) = samples else { return Ok(None) };
        let name = device.name();
        let cell = |&pass: &Pass| {
            let numbered = || contenders.iter().enumerate();
            let baselines: Vec<(Baseline, usize)> = numbered()
                .filter_map(|(number, contender)| match contender {
                    Contender::Baseline(b) if b.serves(pass) => Some((*b, number)),
                    Contender::Baseline(_) | Contender::Op(..) => None,
                })
                .collect();
            let ops: Vec<(Op, usize)> = numbered()
                .filter_map(|(number, contender)| match contender {
                    Contender::Op(op, p) if *p == pass => Some((*op, number)),
                    Contender::Baseline(_) | Contender::Op(..) => None,
                })
                .collect();
            let place = Place { device: &name, threads: pool.current_num_threads(), point, pass };
            Cell::new(place, &samples, &baselines, &ops)
        };
        Ok(Some(passes.iter().map(cell).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyt::{DType, Level};

    #[test]
    fn a_small_point_is_measured_whole() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let device = Device::cpu(Level::best())?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let budget = Budget {
            batch: Duration::from_micros(10),
            least_rounds: 3,
            most_rounds: 3,
            total: Duration::ZERO,
        };
        let point = Point::new(4, 64, DType::F32);
        let cells = measure(&device, &pool, point, &budget, || Duration::MAX)?.ok_or("left out")?;
        for (cell, pass) in cells.iter().zip(Pass::ALL) {
            assert_eq!((cell.pass.as_str(), cell.rounds, cell.threads), (pass.name(), 3, 1));
            assert_eq!((cell.baselines.len(), cell.ops.len()), (2, Op::ALL.len()));
            let timings = cell.ops.iter().map(|op| &op.timing).chain(&cell.baselines);
            assert!(timings.into_iter().all(|timing| timing.ns > 0.0 && timing.gb_s > 0.0), "{cell:?}");
        }
        assert_eq!(measure(&device, &pool, point, &budget, || Duration::ZERO)?, None);
        Ok(())
    }
}
