//! On wgpu a residual has the bits of an addition followed by the op, and dsum those of the op followed by an addition, in
//! every in-place form. Here an argument in another's place is a view of the same elements; the cases leave it out instead.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::Buffer;
use dyt::{Backward, DType, Forward, Op, Pass, Problem, Result, View, ViewMut};
use dyt_conformance::{Turns, devices_under_test};

use crate::common::residual::{FORMS, Over, added};
use crate::common::{Inputs, Tensor};
use crate::support::{Outcome, read, storage};

/// Rows, columns, positions, the gap behind a row and the elements in front of each tensor: rows of a few lanes and of a
/// workgroup, rows that are read again, channels-first; by blocks and by elements.
const SHAPES: [(usize, usize, usize, usize, usize); 8] = [
    (5, 67, 1, 3, 1),
    (5, 72, 1, 0, 0),
    (300, 3, 1, 0, 1),
    (2, 4096, 1, 0, 0),
    (2, 8200, 1, 0, 0),
    (2, 8199, 1, 0, 1),
    (3, 19, 5, 2, 1),
    (2, 40, 64, 0, 0),
];

/// A tensor in a buffer of its own.
struct Placed {
    buffer: Buffer,
    lead: usize,
    len: usize,
    dtype: DType,
}

impl Placed {
    fn new(kernels: &WgpuKernels, dtype: DType, bits: &[u8], lead: usize) -> Self {
        let mut bytes = vec![0; lead * dtype.size()];
        bytes.extend_from_slice(bits);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let buffer = storage(kernels.device(), bytes.len() as u64);
        kernels.queue().write_buffer(&buffer, 0, &bytes);
        Self { buffer, lead, len: bits.len() / dtype.size(), dtype }
    }

    fn number(kernels: &WgpuKernels, value: f32) -> Self {
        Self::new(kernels, DType::F32, &value.to_ne_bytes(), 0)
    }

    fn offset(&self) -> usize {
        self.lead * self.dtype.size()
    }

    fn view(&self) -> Result<View<'_>> {
        View::from_wgpu(&self.buffer, self.offset() as u64, self.len, self.dtype)
    }

    fn view_mut(&self) -> Result<ViewMut<'_>> {
        ViewMut::from_wgpu(&self.buffer, self.offset() as u64, self.len, self.dtype)
    }

    /// The rows, without the gaps between them.
    fn rows(
        &self,
        kernels: &WgpuKernels,
        problem: &Problem,
    ) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
        let bytes = read(kernels.device(), kernels.queue(), &self.buffer)?;
        let (begin, size) = (self.offset(), self.dtype.size());
        Ok(rows_of(problem, size, &bytes[begin..begin + self.len * size]))
    }
}

fn rows_of(problem: &Problem, size: usize, bytes: &[u8]) -> Vec<u8> {
    let (stride, len) = (problem.row_stride() * size, problem.row_len() * size);
    (0..problem.rows()).flat_map(|row| bytes[row * stride..row * stride + len].to_vec()).collect()
}

/// One problem on one device.
struct Run<'a> {
    kernels: &'a WgpuKernels,
    problem: Problem,
    lead: usize,
    alpha: Placed,
    shift: Placed,
    gamma: Placed,
}

impl<'a> Run<'a> {
    fn new(kernels: &'a WgpuKernels, problem: Problem, inputs: &Inputs, lead: usize) -> Self {
        let alpha = Placed::number(kernels, inputs.alpha);
        let shift = Placed::number(kernels, inputs.shift);
        let gamma: Vec<u8> =
            (0..problem.cols()).flat_map(|c| (0.5 + (c % 7) as f32 / 4.0).to_ne_bytes()).collect();
        let gamma = Placed::new(kernels, DType::F32, &gamma, 0);
        Self { kernels, problem, lead, alpha, shift, gamma }
    }

    fn tensor(&self, bits: &[u8]) -> Placed {
        Placed::new(self.kernels, self.problem.dtype(), bits, self.lead)
    }

    fn forward<'b>(&'b self, mut call: Forward<'b>) -> Result<()> {
        call.alpha = self.problem.op().is_pointwise().then(|| self.alpha.view()).transpose()?;
        call.shift = self.problem.op().has_shift().then(|| self.shift.view()).transpose()?;
        let mut encoder = self.kernels.device().create_command_encoder(&Default::default());
        self.kernels.forward(&mut encoder, &self.problem, call.gamma(self.gamma.view()?))?;
        self.kernels.queue().submit([encoder.finish()]);
        Ok(())
    }

    fn backward<'b>(&'b self, mut call: Backward<'b>) -> Result<()> {
        call.alpha = self.problem.op().is_pointwise().then(|| self.alpha.view()).transpose()?;
        call.shift = self.problem.op().has_shift().then(|| self.shift.view()).transpose()?;
        let bytes = self.kernels.workspace_bytes(&self.problem, Pass::Backward).max(4);
        let workspace = Placed::new(self.kernels, DType::F32, &vec![0; bytes], 0);
        let mut encoder = self.kernels.device().create_command_encoder(&Default::default());
        let call = call.gamma(self.gamma.view()?);
        self.kernels.backward(&mut encoder, &self.problem, call, workspace.view_mut()?)?;
        self.kernels.queue().submit([encoder.finish()]);
        Ok(())
    }

    fn check_residual(&self, x: &Tensor, residual: &Tensor) -> Outcome {
        let (dtype, size) = (self.problem.dtype(), self.problem.dtype().size());
        let sum = added(dtype, x.bits(), residual.bits()).bits().to_vec();
        let (apart, expected) = (self.tensor(&sum), self.tensor(&vec![0; sum.len()]));
        self.forward(Forward::new(apart.view()?, expected.view_mut()?))?;
        let expected = expected.rows(self.kernels, &self.problem)?;
        for (over_y, over_sum) in FORMS {
            let (x, residual) = (self.tensor(x.bits()), self.tensor(residual.bits()));
            let own = [(); 2].map(|()| self.tensor(&vec![0; sum.len()]));
            let place = |over, own| match over {
                None => own,
                Some(Over::X) => &x,
                Some(Over::Residual) => &residual,
            };
            let (y, written) = (place(over_y, &own[0]), place(over_sum, &own[1]));
            let call = Forward::new(x.view()?, y.view_mut()?);
            self.forward(call.residual(residual.view()?).sum(written.view_mut()?))?;
            let name = format!("{:?} y: {over_y:?}, sum: {over_sum:?}", self.problem);
            assert!(
                written.rows(self.kernels, &self.problem)? == rows_of(&self.problem, size, &sum),
                "{name}: sum"
            );
            assert!(y.rows(self.kernels, &self.problem)? == expected, "{name}: y");
        }
        Ok(())
    }

    /// dx in f32 is what is added to, not rounded before.
    fn check_dsum(&self, inputs: &Inputs, dsum: &Tensor) -> Outcome {
        let x = self.tensor(inputs.x.bits());
        let zeros = vec![0; inputs.x.bits().len()];
        let (dy, dx) = (self.tensor(inputs.dy.bits()), self.tensor(&zeros));
        self.backward(Backward::of(x.view()?).dy(dy.view()?).dx(dx.view_mut()?))?;
        let alone = dx.rows(self.kernels, &self.problem)?;
        let expected = added(DType::F32, &alone, &rows_of(&self.problem, 4, dsum.bits())).bits().to_vec();
        for form in ["apart", "dx is dsum", "dx is dy"] {
            let (dy, dsum) = (self.tensor(inputs.dy.bits()), self.tensor(dsum.bits()));
            let own = self.tensor(&zeros);
            let dx = match form {
                "apart" => &own,
                "dx is dsum" => &dsum,
                _ => &dy,
            };
            let call = Backward::of(x.view()?).dy(dy.view()?).dx(dx.view_mut()?);
            self.backward(call.dsum(dsum.view()?))?;
            assert!(dx.rows(self.kernels, &self.problem)? == expected, "{:?} {form}", self.problem);
        }
        Ok(())
    }
}

#[test]
fn residual_and_dsum_are_additions_on_wgpu() -> Outcome {
    let devices = devices_under_test();
    let turns = Turns::among(&devices);
    for (device, kernels) in devices.iter().filter_map(|device| Some((device, device.wgpu_kernels()?))) {
        for op in Op::ALL {
            for dtype in DType::ALL {
                for (rows, cols, inner, gap, lead) in SHAPES {
                    let problem = Problem::new(op, rows, cols).dtype(dtype).param_dtype(DType::F32);
                    let problem = problem.inner(inner).row_stride(cols * inner + gap).build()?;
                    if !turns.takes(&device.name(), &problem, lead == 0) {
                        continue;
                    }
                    let (inputs, other) = (Inputs::new(&problem, 3), Inputs::new(&problem, 4).x);
                    let run = Run::new(kernels, problem, &inputs, lead);
                    run.check_residual(&inputs.x, &other)?;
                    if dtype == DType::F32 {
                        run.check_dsum(&inputs, &other)?;
                    }
                }
            }
        }
    }
    Ok(())
}
