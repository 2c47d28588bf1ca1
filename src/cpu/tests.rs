//! Writing past the cache changes no bit and raises no flag, wherever rows begin: small tensors, by devices whose cache holds all
//! or none.

#[path = "../../tests/common/modes.rs"]
mod modes;

use core::ptr::null_mut;

use super::{Cpu, Level};
use crate::ops::{BackwardPtrs, ForwardPtrs};
use crate::{DType, Op, Problem, Result};
use half::{bf16, f16};

const ROWS: usize = 11;

/// The modes of a new thread with no flag raised, and the flag of an invalid operation.
const USUAL: u32 = 0x1f80;
const INVALID: u32 = 1;

/// Elements that begin some elements behind a cache line's begin.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `count` elements, different in each place and tensor.
    fn new(dtype: DType, count: usize, offset: usize, tensor: usize) -> Self {
        let mut values = Vec::new();
        for i in 0..count {
            let value = ((i + 5) * (31 + 2 * tensor) % 127) as f32 / 32.0 - 2.0;
            match dtype {
                DType::F32 => values.extend(value.to_ne_bytes()),
                DType::F16 => values.extend(f16::from_f32(value).to_ne_bytes()),
                DType::Bf16 => values.extend(bf16::from_f32(value).to_ne_bytes()),
                DType::Quant(_) => values.push(0),
            }
        }
        let skip = offset * dtype.size();
        let mut bytes = vec![0; 64 + skip + values.len()];
        let start = bytes.as_ptr().align_offset(64) + skip;
        bytes[start..start + values.len()].copy_from_slice(&values);
        Self { bytes, start, len: values.len() }
    }

    const fn pointer<T>(&mut self) -> *mut T {
        // SAFETY: the elements begin in the bytes.
        unsafe { self.bytes.as_mut_ptr().add(self.start).cast() }
    }

    fn result(&self) -> Vec<u8> {
        self.bytes[self.start..self.start + self.len].to_vec()
    }
}

/// y, dx and the gradients of the parameters, of tensors that begin `offset` elements behind a cache line's begin.
fn results(cpu: &Cpu, problem: &Problem, offset: usize) -> Vec<Vec<u8>> {
    let tensor = |seed| Buffer::new(problem.dtype(), problem.span(), offset, seed);
    let like_y = |seed| Buffer::new(problem.dtype(), problem.y_span(), offset, seed);
    let line = |seed| Buffer::new(DType::F32, problem.params(), 0, seed);
    let (mut x, mut dy, mut y, mut dx) = (tensor(0), like_y(1), like_y(2), tensor(3));
    let (mut gamma, mut beta, mut dgamma, mut dbeta) = (line(4), line(5), line(6), line(7));
    let (alpha, shift) = (0.75_f32, -0.25_f32);
    let pointwise = problem.op().is_pointwise();
    let alpha = if pointwise { &raw const alpha } else { null_mut() };
    let shift = if problem.op().has_shift() { &raw const shift } else { null_mut() };
    let (mut dalpha, mut dshift) = (0.0_f32, 0.0_f32);
    let (mut residual, mut sum, mut dsum) = (tensor(8), tensor(9), tensor(10));
    let (mut summed, mut joined) = (like_y(11), tensor(12));
    // A workspace comes as it is: nothing is made of what it holds.
    let mut workspace = Buffer::new(DType::F32, cpu.workspace_bytes(problem) / 4, 0, 8);
    for value in workspace.bytes.chunks_exact_mut(4) {
        value.copy_from_slice(&0x7f80_0001_u32.to_ne_bytes());
    }
    let forward = ForwardPtrs {
        x: x.pointer(),
        residual: null_mut(),
        sum: null_mut(),
        alpha,
        shift,
        gamma: gamma.pointer(),
        beta: beta.pointer(),
        y: y.pointer(),
        mean: null_mut(),
        rstd: null_mut(),
        scale: core::ptr::null(),
        scales: null_mut(),
    };
    let backward = BackwardPtrs {
        dy: dy.pointer(),
        x: x.pointer(),
        dsum: null_mut(),
        alpha,
        shift,
        gamma: gamma.pointer(),
        mean: null_mut(),
        rstd: null_mut(),
        dx: dx.pointer(),
        dalpha: if pointwise { &raw mut dalpha } else { null_mut() },
        dshift: if problem.op().has_shift() { &raw mut dshift } else { null_mut() },
        dgamma: dgamma.pointer(),
        dbeta: dbeta.pointer(),
    };
    let with_residual =
        ForwardPtrs { residual: residual.pointer(), sum: sum.pointer(), y: summed.pointer(), ..forward };
    let with_dsum = BackwardPtrs { dsum: dsum.pointer(), dx: joined.pointer(), ..backward };
    // SAFETY: every tensor has the problem's span, every line its columns, and the workspace its size.
    let (flags, ()) = modes::with_mxcsr(USUAL, || unsafe {
        cpu.forward(problem, &forward);
        cpu.backward(problem, &backward, workspace.pointer());
        cpu.forward(problem, &with_residual);
        // The gradients of the parameters again, into the same buffers.
        cpu.backward(problem, &with_dsum, workspace.pointer());
    });
    assert!(flags & INVALID == 0, "{:?} {problem:?}, {offset} behind a line's begin", cpu.level());
    let scalars = [dalpha, dshift].map(f32::to_ne_bytes).concat();
    let own = [sum.result(), summed.result(), joined.result()].concat();
    vec![own, y.result(), dx.result(), dgamma.result(), dbeta.result(), scalars]
}

#[test]
fn streaming_changes_no_bit() -> Result<()> {
    // Rows of less than a line, of several stages, and those that norms stream side by side; rows pages apart, whole
    // lines apart, and such that no two of them begin at the same place of a line; sums in place; columns cut for threads.
    let shapes = [
        (1, 1),
        (17, 19),
        (200, 256),
        (600, 600),
        (600, 2048),
        (1088, 1088),
        (2500, 2560),
        (4200, 4201),
        (16_384, 16_448),
        (16_400, 16_448),
    ];
    for cpu in Level::ALL.into_iter().filter_map(|level| Cpu::new(level).ok()) {
        let [streaming, plain] =
            [0, usize::MAX].map(|last_level_cache| Cpu { last_level_cache, ..cpu.clone() });
        for (op, (cols, stride)) in
            Op::ALL.into_iter().flat_map(|op| shapes.into_iter().map(move |shape| (op, shape)))
        {
            for dtype in [DType::F32, DType::F16, DType::Bf16] {
                for (offset, gamma_offset) in [(0, 0.0), (1, 1.0), (4, 0.0), (12, 1.0)] {
                    let problem = Problem::new(op, ROWS, cols).row_stride(stride).dtype(dtype);
                    let problem = problem.param_dtype(DType::F32).gamma_offset(gamma_offset);
                    // y packed, with tokens that begin at lines where rows do.
                    let heads = Problem::new(op, 2, cols).dtype(dtype).gamma_offset(gamma_offset);
                    let heads = heads.param_dtype(DType::F32).heads(6, stride).row_stride(8 * stride);
                    let heads = heads.y_strides(6 * cols, cols).param_rows(4);
                    let with_heads = (cols <= 2048).then_some(heads);
                    for problem in [Some(problem), with_heads].into_iter().flatten() {
                        let problem = problem.build()?;
                        let expected = results(&plain, &problem, offset);
                        let got = results(&streaming, &problem, offset);
                        let level = cpu.level();
                        assert!(got == expected, "{level:?} {problem:?}, {offset} behind a line's begin");
                    }
                }
            }
        }
    }
    Ok(())
}
