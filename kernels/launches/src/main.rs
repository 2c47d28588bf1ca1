//! What the plans launch, for `kernels/check`. No GPU is needed.
//!
//! A line for each CUDA kernel and storage types, at one shape that takes the kernel, in the course of training: with both
//! parameters, saved statistics and every gradient. It has `KERNEL DTYPE PARAM_DTYPE GRID THREADS_X THREADS_Y SHARED_75
//! SHARED_80 SHARED_90 ELEMENTS ARGUMENTS`: the bytes of dynamic shared memory on GPUs of compute capability 7.5, 8.0 and
//! 9.0, the elements that a thread computes (all have as many), and the kernel's parameter on the last of them in
//! hexadecimal digits.

use std::process::ExitCode;

use dyt::cuda::plan::{
    self, BackwardAddresses, Entry, ForwardAddresses, Launch, Limits, Norm, NormForm, Pointwise,
    PointwiseForm,
};
use dyt::{DType, Op, Pass, Problem, Result};

/// Bytes of shared memory that a block may have, by compute capability: 7.5, 8.0, 9.0.
const MACHINES: [u32; 3] = [64 * 1024, 163 * 1024, 227 * 1024];

/// dtype and param_dtype, in each pair that a problem may have.
const STORAGE: [(DType, DType); 5] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F32),
    (DType::F16, DType::F16),
    (DType::Bf16, DType::F32),
    (DType::Bf16, DType::Bf16),
];

/// What takes a kernel.
struct Case {
    op: Op,
    pass: Pass,
    /// Rows, columns and inner.
    sizes: [usize; 3],
    /// Whether the tensors lie on boundaries of 16 bytes.
    aligned: bool,
    /// Whether there are a residual and dsum.
    joins: bool,
}

impl Case {
    const fn of(entry: Entry) -> Self {
        let (op, pass, (sizes, aligned)) = match entry {
            Entry::Pointwise { op: Pointwise::Dyt, pass, form } => (Op::Dyt, pass, pointwise(form)),
            Entry::Pointwise { op: Pointwise::Derf, pass, form } => (Op::Derf, pass, pointwise(form)),
            Entry::Norm { op: Norm::LayerNorm, pass, form } => (Op::LayerNorm, pass, norm(form)),
            Entry::Norm { op: Norm::RmsNorm, pass, form } => (Op::RmsNorm, pass, norm(form)),
            // The second stage is that of any backward.
            Entry::Fold => (Op::Dyt, Pass::Backward, pointwise(PointwiseForm::Vector(DType::F32))),
        };
        let joins = matches!(
            entry,
            Entry::Pointwise { form: PointwiseForm::Options, .. }
                | Entry::Norm { form: NormForm::Options | NormForm::OptionsF16 | NormForm::LongOptions, .. }
        );
        Self { op, pass, sizes, aligned, joins }
    }

    fn problem(&self, dtype: DType, param_dtype: DType) -> Result<Problem> {
        let [rows, cols, inner] = self.sizes;
        Problem::new(self.op, rows, cols).inner(inner).dtype(dtype).param_dtype(param_dtype).build()
    }
}

const ROWS: [usize; 3] = [16_384, 4096, 1];
const NARROW_ROWS: [usize; 3] = [16_384, 1024, 1];
const LONG_ROWS: [usize; 3] = [512, 65_536, 1];
const CHANNELS_FIRST: [usize; 3] = [64, 768, 256];

/// The fields of a case that the form decides.
const fn pointwise(form: PointwiseForm) -> ([usize; 3], bool) {
    match form {
        PointwiseForm::Vector(_) | PointwiseForm::Options => (ROWS, true),
        PointwiseForm::Scalar => (NARROW_ROWS, false),
    }
}

/// As `pointwise`.
const fn norm(form: NormForm) -> ([usize; 3], bool) {
    match form {
        NormForm::Vector(_) | NormForm::Options | NormForm::OptionsF16 => (ROWS, true),
        NormForm::Scalar => (NARROW_ROWS, false),
        NormForm::LongVector(_) | NormForm::LongOptions => (LONG_ROWS, true),
        NormForm::LongScalar => (LONG_ROWS, false),
        NormForm::First => (CHANNELS_FIRST, true),
    }
}

/// The launches of a problem on a machine, with every buffer of tensors at `at`. `joins`: there are a residual and dsum.
fn launches(problem: &Problem, pass: Pass, at: u64, joins: bool, limits: Limits) -> plan::Launches {
    let [x, y, dy, dx] = [at; 4];
    let [residual, sum] = [if joins { at } else { 0 }; 2];
    let [alpha, shift, gamma, beta, mean, rstd, dalpha, dshift, dgamma, dbeta, workspace] = [256; 11];
    match pass {
        Pass::Forward => {
            let at = ForwardAddresses { x, residual, sum, alpha, shift, gamma, beta, y, mean, rstd };
            plan::forward(problem, &at, limits)
        }
        Pass::Backward => {
            let at = BackwardAddresses {
                dy,
                x,
                dsum: residual,
                alpha,
                shift,
                gamma,
                mean,
                rstd,
                dx,
                dalpha,
                dshift,
                dgamma,
                dbeta,
                workspace,
            };
            plan::backward(problem, &at, limits)
        }
    }
}

/// The line of a kernel for two storage types, or why there is none.
fn line(entry: Entry, dtype: DType, param_dtype: DType) -> core::result::Result<String, String> {
    let case = Case::of(entry);
    let problem = case.problem(dtype, param_dtype).map_err(|error| error.to_string())?;
    let at = if case.aligned { 256 } else { 256 + dtype.size() as u64 };
    let launch = |shared_bytes| -> core::result::Result<Launch, String> {
        let launches = launches(&problem, case.pass, at, case.joins, Limits { shared_bytes });
        let found = launches.iter().find(|launch| launch.entry == entry).copied();
        found.ok_or_else(|| format!("{problem:?} does not launch {}", entry.name()))
    };
    let [first, second, last] = [launch(MACHINES[0])?, launch(MACHINES[1])?, launch(MACHINES[2])?];
    let ([blocks, ..], [x, y, _]) = (last.grid, last.block);
    let shared = [first, second, last].map(|launch| launch.shared_bytes.to_string()).join(" ");
    let elements = problem.elements() as u64 / (u64::from(blocks) * u64::from(x) * u64::from(y));
    let args: String = last.args.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{} {dtype} {param_dtype} {blocks} {x} {y} {shared} {elements} {args}", entry.name()))
}

fn main() -> ExitCode {
    for entry in Entry::all() {
        for (dtype, param_dtype) in STORAGE.into_iter().filter(|(dtype, _)| entry.takes(*dtype)) {
            match line(entry, dtype, param_dtype) {
                Ok(line) => println!("{line}"),
                Err(reason) => {
                    eprintln!("{reason}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}
