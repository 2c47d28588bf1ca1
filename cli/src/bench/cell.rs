//! Measures one point on one device: every op and every baseline, in turns.

use std::time::{Duration, Instant};

use dyt::{Device, Op, Pass, Result};
use dyt_conformance::measure::{Baseline, Layer, Point, Tensors, moved_bytes};
use rayon::ThreadPool;

use super::measure::{Budget, interleave};
use super::record::{Cell, Place};

/// The same random values in every run.
const SEED: u64 = 20_250_313;

/// What is timed.
#[derive(Clone, Copy)]
enum Contender {
    Baseline(Baseline),
    Op { index: usize, pass: Pass },
}

/// The ops of one point on shared tensors, warm.
struct Bench {
    tensors: Tensors,
    layers: Vec<Layer>,
}

impl Bench {
    fn new(device: &Device, point: Point) -> Result<Self> {
        let mut tensors = Tensors::new(device, &point.problem(Op::Dyt)?, SEED)?;
        let mut layers = Vec::new();
        for op in Op::ALL {
            let mut layer = Layer::new(device, point.problem(op)?, SEED)?;
            // The backward of the norms takes the statistics that this saves.
            layer.forward(&mut tensors)?;
            layers.push(layer);
        }
        Ok(Self { tensors, layers })
    }

    /// Runs a contender so many times on the current pool.
    fn time(&mut self, contender: Contender, calls: u32) -> Result<Duration> {
        match contender {
            Contender::Op { index, pass } => {
                let (layer, tensors) = (&mut self.layers[index], &mut self.tensors);
                let begin = Instant::now();
                for _ in 0..calls {
                    layer.run(pass, tensors)?;
                }
                Ok(begin.elapsed())
            }
            Contender::Baseline(baseline) => {
                // Only a device whose memory is the host's has these contenders.
                let Some(mut host) = self.tensors.host_bytes() else { return Ok(Duration::ZERO) };
                let begin = Instant::now();
                for _ in 0..calls {
                    baseline.run(&mut host);
                }
                Ok(begin.elapsed())
            }
        }
    }
}

/// Both passes of every op at `point`, on the threads of `pool`.
pub(crate) fn measure(
    device: &Device,
    pool: &ThreadPool,
    point: Point,
    budget: &Budget,
) -> Result<[Cell; 2]> {
    pool.install(|| {
        let mut bench = Bench::new(device, point)?;
        let mut contenders: Vec<Contender> = Baseline::ALL.map(Contender::Baseline).to_vec();
        for pass in Pass::ALL {
            contenders.extend((0..Op::ALL.len()).map(|index| Contender::Op { index, pass }));
        }
        let samples = interleave(contenders.len(), budget, |contender, calls| {
            bench.time(contenders[contender], calls)
        })?;
        let name = device.name();
        Ok(Pass::ALL.map(|pass| {
            let numbered = || contenders.iter().enumerate();
            let baselines: Vec<(Baseline, usize)> = numbered()
                .filter_map(|(number, contender)| match contender {
                    Contender::Baseline(b) if Baseline::of(pass).contains(b) => Some((*b, number)),
                    Contender::Baseline(_) | Contender::Op { .. } => None,
                })
                .collect();
            let ops: Vec<(Op, usize)> = numbered()
                .filter_map(|(number, contender)| match contender {
                    Contender::Op { index, pass: p } if *p == pass => Some((Op::ALL[*index], number)),
                    Contender::Baseline(_) | Contender::Op { .. } => None,
                })
                .collect();
            let (threads, bytes) = (pool.current_num_threads(), moved_bytes(bench.layers[0].problem(), pass));
            Cell::new(Place { device: &name, threads, point, pass, bytes }, &samples, &baselines, &ops)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyt::DType;

    #[test]
    fn a_small_point_is_measured_whole() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let device = Device::auto()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let budget = Budget {
            batch: Duration::from_micros(10),
            least_rounds: 3,
            most_rounds: 3,
            total: Duration::ZERO,
        };
        let cells = measure(&device, &pool, Point::new(4, 64, DType::F32), &budget)?;
        for (cell, pass) in cells.iter().zip(Pass::ALL) {
            assert_eq!((cell.pass.as_str(), cell.rounds, cell.threads), (pass.name(), 3, 1));
            assert_eq!((cell.baselines.len(), cell.ops.len()), (2, Op::ALL.len()));
            let timings = cell.ops.iter().map(|op| &op.timing).chain(&cell.baselines);
            assert!(timings.into_iter().all(|timing| timing.ns > 0.0 && timing.gb_s > 0.0), "{cell:?}");
        }
        Ok(())
    }
}
