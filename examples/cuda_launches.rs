//! What the plans launch: for every CUDA kernel its block and its shared memory at one shape that takes it, on GPUs of
//! compute capability 7.5, 8.0 and 9.0. `kernels/resources.py` makes a table of it. No GPU is needed.
//!
//! Run it with `cargo run --release --example cuda_launches`.

use dyt::cuda::plan::{self, BackwardAddresses, Entry, Form, ForwardAddresses, Launch, Limits};
use dyt::{DType, Op, Pass, Problem, Result};

/// Bytes of shared memory that a block may have, by architecture.
const MACHINES: [u32; 3] = [64 * 1024, 163 * 1024, 227 * 1024];

/// A problem that takes a form, and whether its buffers lie on boundaries of 16 bytes.
fn problem(op: Op, dtype: DType, param_dtype: DType, form: Form) -> Result<(Problem, bool)> {
    let (rows, cols, inner, aligned) = match form {
        Form::Vector => (16_384, 4096, 1, true),
        Form::Scalar => (16_384, 1023, 1, false),
        Form::LongVector => (512, 65_536, 1, true),
        Form::LongScalar => (512, 65_535, 1, false),
        Form::First => (64, 768, 196, true),
    };
    let problem = Problem::new(op, rows, cols).inner(inner).dtype(dtype).param_dtype(param_dtype).build()?;
    Ok((problem, aligned))
}

/// The launch of a kernel that is not the fold, on each machine.
fn launches(entry: Entry) -> Result<Vec<Launch>> {
    let (op, pass, dtype, param_dtype, form) = match entry {
        Entry::Op { op, pass, dtype, param_dtype, form } => (op, pass, dtype, param_dtype, form),
        // The second stage is that of any backward.
        _ => (Op::Dyt, Pass::Backward, DType::F32, DType::F32, Form::Vector),
    };
    let (problem, aligned) = problem(op, dtype, param_dtype, form)?;
    let at = if aligned { 256 } else { 256 + dtype.size() as u64 };
    let mut all = Vec::new();
    for shared_bytes in MACHINES {
        let limits = Limits { shared_bytes };
        let made = match pass {
            Pass::Forward => plan::forward(&problem, &forward(at), limits),
            Pass::Backward => plan::backward(&problem, &backward(at), limits),
        };
        all.extend(made.iter().filter(|launch| launch.entry == entry).copied());
    }
    Ok(all)
}

fn forward(at: u64) -> ForwardAddresses {
    ForwardAddresses { x: at, y: at, gamma: 256, beta: 256, alpha: 256, shift: 256, ..Default::default() }
}

fn backward(at: u64) -> BackwardAddresses {
    let gradients =
        BackwardAddresses { dgamma: 256, dbeta: 256, dalpha: 256, workspace: 256, ..Default::default() };
    BackwardAddresses { dy: at, x: at, dx: at, gamma: 256, alpha: 256, shift: 256, ..gradients }
}

fn main() -> Result<()> {
    for entry in Entry::all() {
        let launches = launches(entry)?;
        let threads = launches.first().map_or(0, |launch| launch.block.iter().product());
        let shared: Vec<_> = launches.iter().map(|launch| launch.shared_bytes.to_string()).collect();
        println!("{} {threads} {}", entry.name(), shared.join(" "));
    }
    Ok(())
}
