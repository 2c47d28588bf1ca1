//! One device serves many threads at the same time.

mod common;

use std::sync::Barrier;

use common::{Gradients, Inputs, Tensor, Wanted, backward, forward, problems};
use dyt::{DType, Device, Problem, Result};

const THREADS: usize = 8;

/// A problem and what it gives alone.
struct Known {
    problem: Problem,
    inputs: Inputs,
    y: Tensor,
    gradients: Gradients,
}

impl Known {
    fn new(device: &Device, problem: Problem, seed: u64) -> Result<Self> {
        let inputs = Inputs::new(&problem, seed);
        let y = forward(device, &problem, &inputs, 0)?;
        let gradients = backward(device, &problem, &inputs)?;
        Ok(Self { problem, inputs, y, gradients })
    }

    fn repeat(&self, device: &Device) -> Result<()> {
        let Self { problem, inputs, y, gradients } = self;
        let again = forward(device, problem, inputs, 0)?;
        assert!(y.bits() == again.bits(), "{} {problem:?}: y", device.name());
        let again = backward(device, problem, inputs)?;
        assert!(gradients.same(&again, Wanted::all(problem)), "{} {problem:?}: gradients", device.name());
        Ok(())
    }
}

#[test]
fn eight_threads_at_once_give_what_one_gives() -> Result<()> {
    // The second shape is cut for the thread pool, which the threads then share.
    let shapes = if common::quick() { [(9, 33), (40, 200)] } else { [(64, 33), (150, 1000)] };
    for device in common::devices() {
        let mut known = Vec::new();
        for (rows, cols) in shapes {
            for builder in problems(rows, cols) {
                for dtype in DType::ALL {
                    known.push(Known::new(&device, builder.dtype(dtype).build()?, known.len() as u64)?);
                }
            }
        }
        let (device, known, barrier) = (&device, &known, &Barrier::new(THREADS));
        let work = move |first: usize| -> Result<()> {
            barrier.wait();
            // Each begins elsewhere, so that different problems run side by side; then all meet at the same.
            for known in known.iter().cycle().skip(first * known.len() / THREADS).take(known.len()) {
                known.repeat(device)?;
            }
            barrier.wait();
            known.iter().step_by(5).try_for_each(|known| known.repeat(device))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || work(first))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a thread found other bits"))
        })?;
    }
    Ok(())
}
