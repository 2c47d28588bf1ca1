//! The forward of DyT and Derf where a lane has several rows, and loads some of them at once. It takes millions of
//! elements to get there, so that the reference is the kernel that goes row by row, which the list of cases covers.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{Buffer, Queue};
use dyt::{DType, Forward, Op, Problem, View, ViewMut};
use half::{bf16, f16};

use crate::support::{Outcome, activations, read, storage};

/// Rows from which on a lane has four, if 256 lanes share a row, and some more.
const ROWS: usize = 4 * 2048 + 3;
/// Different rows, which follow one another again and again.
const DISTINCT: usize = 7;
/// Lanes of a row that have something to do.
const LANES: usize = 255;
/// Bytes behind the tensor: alpha, shift, gamma and beta.
const PARAMETERS: usize = 4 * (2 + 2 * 8 * LANES);

/// How a call of the forward lies in memory.
#[derive(Clone, Copy, Debug)]
struct Form {
    op: Op,
    dtype: DType,
    cols: usize,
    /// Whether y holds x.
    in_place: bool,
    /// Whether the parameters lie in the buffer of y.
    shared: bool,
}

fn stored(dtype: DType, values: &[f32]) -> Vec<u8> {
    let bytes = |values: &[f32]| bytemuck::cast_slice(values).to_vec();
    match dtype {
        DType::Quant(quant) => unreachable!("no data is stored as {quant}"),
        DType::F32 => bytes(values),
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_ne_bytes()).collect(),
        DType::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_ne_bytes()).collect(),
    }
}

impl Form {
    fn row_bytes(self) -> usize {
        self.cols * self.dtype.size()
    }

    /// The distinct rows of x.
    fn rows(self) -> Vec<u8> {
        stored(self.dtype, &activations(DISTINCT * self.cols, 1))
    }

    fn problem(self, rows: usize) -> dyt::Result<Problem> {
        Problem::new(self.op, rows, self.cols).dtype(self.dtype).param_dtype(DType::F32).build()
    }

    /// y of so many rows.
    fn y(self, kernels: &WgpuKernels, rows: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let (device, queue) = (kernels.device(), kernels.queue());
        let bytes = (rows * self.row_bytes()).next_multiple_of(256);
        let mut x = self.rows().repeat(rows.div_ceil(DISTINCT));
        x.resize(bytes, 0);
        let y = storage(device, (bytes + PARAMETERS) as u64);
        let apart = storage(device, if self.in_place { 4 } else { bytes as u64 });
        queue.write_buffer(if self.in_place { &y } else { &apart }, 0, &x);
        let own = storage(device, PARAMETERS as u64);
        let (parameters, begin) = if self.shared { (&y, bytes) } else { (&own, 0) };
        self.write_parameters(queue, parameters, begin);
        let problem = self.problem(rows)?;
        let len = rows * self.cols;
        let mut call = Forward::in_place(ViewMut::from_wgpu(&y, 0, len, self.dtype)?);
        if !self.in_place {
            call.x = Some(View::from_wgpu(&apart, 0, len, self.dtype)?);
        }
        let at = |first: usize, len| View::from_wgpu(parameters, (begin + 4 * first) as u64, len, DType::F32);
        call = call.alpha(at(0, 1)?).gamma(at(2, self.cols)?).beta(at(2 + self.cols, self.cols)?);
        if self.op.has_shift() {
            call = call.shift(at(1, 1)?);
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        kernels.forward(&mut encoder, &problem, call)?;
        queue.submit([encoder.finish()]);
        let mut y = read(device, queue, &y)?;
        y.truncate(rows * self.row_bytes());
        Ok(y)
    }

    fn write_parameters(self, queue: &Queue, buffer: &Buffer, at: usize) {
        let mut values = vec![0.8, 0.1];
        values.extend(activations(2 * self.cols, 2));
        queue.write_buffer(buffer, at as u64, bytemuck::cast_slice(&values));
    }
}

/// Compares those forwards whose turn it is on a device.
pub(crate) fn check(kernels: &WgpuKernels, takes: impl Fn(&Problem) -> bool) -> Outcome {
    for op in Op::ALL.into_iter().filter(|op| op.is_pointwise()) {
        for dtype in DType::ALL {
            // By elements, and by blocks of 16 bytes.
            for cols in [LANES, LANES * 16 / dtype.size()] {
                for options in 0..4 {
                    let (in_place, shared) = (options & 1 != 0, options & 2 != 0);
                    let form = Form { op, dtype, cols, in_place, shared };
                    if !takes(&form.problem(ROWS)?) {
                        continue;
                    }
                    let (few, many) = (form.y(kernels, DISTINCT)?, form.y(kernels, ROWS)?);
                    assert_ne!(few, form.rows(), "{form:?}");
                    let wrong = many.chunks(few.len()).position(|rows| rows != &few[..rows.len()]);
                    assert_eq!(wrong, None, "{form:?}: seven rows from {wrong:?}");
                }
            }
        }
    }
    Ok(())
}
