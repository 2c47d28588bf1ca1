//! Calls of the framework layer in a CUDA graph: while a stream captures, the driver takes nothing but launches, and
//! does not run them before the graph is launched.

use std::sync::Arc;

use dyt::cuda::CudaKernels;
use dyt::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use dyt::cuda::cudarc::driver::{CudaGraph, CudaStream, DriverError};
use dyt::{Argument, Backend, Backward, Buffer, DType, Device, Error, Forward, Op, Pass, Problem};

use crate::fake::{Outcome, alone};
use crate::scalars;

/// A layer of one op, and what it reads.
struct Layer {
    device: Device,
    kernels: CudaKernels,
    stream: Arc<CudaStream>,
    problem: Problem,
    x: Buffer,
    dy: Buffer,
    columns: Buffer,
    one: Buffer,
}

/// What a forward and a backward write: y, dx, the gradients of parameters, and the workspace.
struct Outputs([Buffer; 7]);

impl Layer {
    /// Rows enough for several chunks, so that the backward has a second stage.
    fn new(op: Op) -> Result<Self, Box<dyn std::error::Error>> {
        let (device, kernels) = (Device::open("cuda")?, CudaKernels::open(0)?);
        let stream = kernels.context().new_stream()?;
        let problem = Problem::new(op, 2500, 40).build()?;
        let values = |period: usize| -> Vec<f32> {
            (0..problem.elements()).map(|i| (i % period) as f32 * 0.1 - 1.75).collect()
        };
        let (x, dy) = (device.upload(&values(37))?, device.upload(&values(41))?);
        let (columns, one) = (device.upload(&values(43)[..40])?, device.upload(&[0.75_f32])?);
        Ok(Self { device, kernels, stream, problem, x, dy, columns, one })
    }

    fn outputs(&self) -> dyt::Result<Outputs> {
        let zeros = |len| self.device.zeros(DType::F32, len);
        let (all, workspace) =
            (self.problem.elements(), self.kernels.workspace_bytes(&self.problem, Pass::Backward) / 4);
        Ok(Outputs([
            zeros(all)?,
            zeros(all)?,
            zeros(40)?,
            zeros(40)?,
            zeros(1)?,
            zeros(1)?,
            zeros(workspace)?,
        ]))
    }

    /// Enqueues a forward and a backward.
    fn enqueue(&self, outputs: &mut Outputs) -> dyt::Result<()> {
        let op = self.problem.op();
        let [y, dx, dgamma, dbeta, dalpha, dshift, workspace] = &mut outputs.0;
        let mut forward = Forward::new(&self.x, y).gamma(&self.columns).beta(&self.columns);
        (forward.alpha, forward.shift) = scalars(op, &self.one);
        let mut backward =
            Backward::of(&self.x).dy(&self.dy).gamma(&self.columns).dx(dx).dgamma(dgamma).dbeta(dbeta);
        (backward.alpha, backward.shift) = scalars(op, &self.one);
        backward.dalpha = op.is_pointwise().then(|| dalpha.into());
        backward.dshift = op.has_shift().then(|| dshift.into());
        // SAFETY: the buffers live longer than the stream's work, which this driver does in a call, and nothing else
        // touches them.
        unsafe {
            self.kernels.forward(&self.stream, &self.problem, forward)?;
            self.kernels.backward(&self.stream, &self.problem, backward, workspace.into())
        }
    }

    /// The bits of all outputs.
    fn bits(&self, outputs: &Outputs) -> dyt::Result<Vec<u32>> {
        let mut all = Vec::new();
        for buffer in &outputs.0 {
            let mut values = vec![0.0_f32; buffer.len()];
            self.device.read(buffer, &mut values)?;
            all.extend(values.into_iter().map(f32::to_bits));
        }
        Ok(all)
    }

    fn begin(&self) -> Result<(), DriverError> {
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL)
    }

    fn end(&self) -> Result<Option<CudaGraph>, DriverError> {
        self.stream.end_capture(CUgraphInstantiate_flags(0))
    }
}

#[test]
fn a_forward_and_a_backward_are_captured() -> Outcome {
    alone("graph::a_forward_and_a_backward_are_captured", |fake| {
        for op in Op::ALL {
            let layer = Layer::new(op)?;
            let (mut direct, mut replayed) = (layer.outputs()?, layer.outputs()?);
            let nothing = layer.bits(&replayed)?;
            layer.enqueue(&mut direct)?;
            let expected = layer.bits(&direct)?;
            assert_ne!(expected, nothing, "{op}");

            layer.begin()?;
            let calls = fake.calls(|| layer.enqueue(&mut replayed))?;
            let graph = layer.end()?.ok_or("no graph")?;
            let (launches, others): (Vec<_>, Vec<_>) =
                calls.iter().partition(|call| call.starts_with("cuLaunchKernel "));
            assert!(
                launches.len() > 2 && others.iter().all(|call| *call == "cuCtxGetCurrent 0"),
                "{calls:?}"
            );
            assert_eq!(layer.bits(&replayed)?, nothing, "{op}: a launch ran while it was captured");

            // The second time on what the first has left, as a training loop does.
            for _ in 0..2 {
                graph.launch()?;
                assert_eq!(layer.bits(&replayed)?, expected, "{op}");
            }
        }
        Ok(())
    })
}

/// A call that is refused before it reaches the driver leaves the capture as it was.
#[test]
fn an_error_of_arguments_does_not_end_a_capture() -> Outcome {
    alone("graph::an_error_of_arguments_does_not_end_a_capture", |_| {
        let layer = Layer::new(Op::RmsNorm)?;
        let (mut direct, mut replayed) = (layer.outputs()?, layer.outputs()?);
        layer.enqueue(&mut direct)?;
        layer.begin()?;
        let mut host = [0.0_f32; 2];
        // SAFETY: the host's memory is refused, and so nothing is enqueued.
        let refused = unsafe {
            layer.kernels.forward(&layer.stream, &layer.problem, Forward::new(&layer.x, &mut host))
        };
        let (expected, actual) = (Backend::Cuda, Backend::Cpu);
        assert_eq!(refused, Err(Error::WrongDevice { argument: Argument::Y, expected, actual }));
        layer.enqueue(&mut replayed)?;
        layer.end()?.ok_or("no graph")?.launch()?;
        assert_eq!(layer.bits(&replayed)?, layer.bits(&direct)?);
        Ok(())
    })
}

/// What the test above rests on: this driver refuses what a capture must not contain, and the capture is void then.
#[test]
fn a_capture_takes_no_allocation_and_no_wait() -> Outcome {
    type Call = fn(&Layer) -> dyt::Result<()>;
    alone("graph::a_capture_takes_no_allocation_and_no_wait", |_| {
        let layer = Layer::new(Op::RmsNorm)?;
        let calls: [(&str, Call); 5] = [
            ("an allocation", |layer| layer.device.zeros(DType::F32, 1).map(drop)),
            ("a wait", |layer| layer.device.synchronize()),
            ("a download", |layer| layer.device.read(&layer.one, &mut [0.0_f32; 1])),
            ("an upload", |layer| layer.device.upload(&[0.0_f32; 1]).map(drop)),
            ("loading", |layer| CudaKernels::new(layer.kernels.context()).map(drop)),
        ];
        for (what, call) in calls {
            layer.begin()?;
            let message = "FAKE_ERROR_900: as the test asked for".to_owned();
            assert_eq!(call(&layer), Err(Error::Driver { backend: Backend::Cuda, message }), "{what}");
            assert_eq!(layer.end().err().map(|error| error.0 as u32), Some(901), "{what}");
            call(&layer)?;
        }
        Ok(())
    })
}
