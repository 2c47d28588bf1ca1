//! dyt's safe layer on buffers that are allocated before.

use dyt::half::bf16;
use dyt::{Backward, Buffer, DType, Device, Forward, Op, Problem};

use super::{Call, Contender};
use crate::cell::{Group, Inputs, Pass, Results};

pub(super) struct Ours {
    pub(super) device: Device,
}

impl Ours {
    fn upload(&self, dtype: DType, values: &[f32]) -> anyhow::Result<Buffer> {
        Ok(match dtype {
            DType::F32 => self.device.upload(values)?,
            DType::Bf16 => {
                let narrow: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
                self.device.upload(&narrow)?
            }
            DType::F16 => anyhow::bail!("cannot: f16 is not compared"),
        })
    }

    /// Touched, so that no page is first written while a call is timed.
    fn filled(&self, dtype: DType, len: usize) -> anyhow::Result<Buffer> {
        self.upload(dtype, &vec![1.0; len])
    }
}

/// A call's arguments and results.
struct Layer {
    device: Device,
    problem: Problem,
    pass: Pass,
    x: Buffer,
    dy: Buffer,
    alpha: Buffer,
    shift: Buffer,
    gamma: Buffer,
    beta: Buffer,
    y: Buffer,
    mean: Buffer,
    rstd: Buffer,
    dx: Buffer,
    dalpha: Buffer,
    dshift: Buffer,
    dgamma: Buffer,
    dbeta: Buffer,
    workspace: Buffer,
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        "dyt"
    }

    fn prepare(&self, group: &Group, pass: Pass, inputs: &Inputs) -> anyhow::Result<Box<dyn Call>> {
        let (problem, dtype) = (group.problem(group.rows)?, group.dtype()?);
        let (elements, cols) = (group.rows * group.cols, group.cols);
        let bytes = self.device.workspace_bytes(&problem, dyt::Pass::Backward);
        let mut layer = Layer {
            device: self.device.clone(),
            problem,
            pass,
            x: self.upload(dtype, &inputs.x)?,
            dy: self.upload(dtype, &inputs.dy)?,
            alpha: self.device.upload(&group.alpha)?,
            shift: self.device.upload(&group.shift)?,
            gamma: self.upload(dtype, &inputs.gamma)?,
            beta: self.upload(dtype, &inputs.beta)?,
            y: self.filled(dtype, elements)?,
            mean: self.filled(DType::F32, group.rows)?,
            rstd: self.filled(DType::F32, group.rows)?,
            dx: self.filled(dtype, elements)?,
            dalpha: self.filled(DType::F32, 1)?,
            dshift: self.filled(DType::F32, 1)?,
            dgamma: self.filled(DType::F32, cols)?,
            dbeta: self.filled(DType::F32, cols)?,
            workspace: self.filled(DType::F32, bytes.div_ceil(DType::F32.size()))?,
        };
        if pass == Pass::Backward {
            layer.forward()?;
        }
        Ok(Box::new(layer))
    }
}

impl Layer {
    fn forward(&mut self) -> anyhow::Result<()> {
        let op = self.problem.op();
        let mut call = Forward::new(&self.x, &mut self.y).gamma(&self.gamma);
        if op != Op::RmsNorm {
            call = call.beta(&self.beta);
        }
        if op.is_pointwise() {
            call = call.alpha(&self.alpha);
        }
        if op.has_shift() {
            call = call.shift(&self.shift);
        }
        // Inference has no use for the statistics; a training step has.
        if self.pass != Pass::Forward && op.has_mean() {
            call = call.mean(&mut self.mean);
        }
        if self.pass != Pass::Forward && !op.is_pointwise() {
            call = call.rstd(&mut self.rstd);
        }
        Ok(self.device.forward(&self.problem, call)?)
    }

    fn backward(&mut self) -> anyhow::Result<()> {
        let op = self.problem.op();
        let mut call = Backward::of(&self.x).dy(&self.dy).gamma(&self.gamma);
        call = call.dx(&mut self.dx).dgamma(&mut self.dgamma);
        if op != Op::RmsNorm {
            call = call.dbeta(&mut self.dbeta);
        }
        if op.is_pointwise() {
            call = call.alpha(&self.alpha).dalpha(&mut self.dalpha);
        }
        if op.has_shift() {
            call = call.shift(&self.shift).dshift(&mut self.dshift);
        }
        if op.has_mean() {
            call = call.mean(&self.mean);
        }
        if !op.is_pointwise() {
            call = call.rstd(&self.rstd);
        }
        Ok(self.device.backward_with(&self.problem, call, &mut self.workspace)?)
    }
}

impl Call for Layer {
    fn run(&mut self) -> anyhow::Result<()> {
        if self.pass != Pass::Backward {
            self.forward()?;
        }
        if self.pass != Pass::Forward {
            self.backward()?;
        }
        Ok(())
    }

    fn results(&self) -> anyhow::Result<Results> {
        let all = [
            ("y", &self.y),
            ("dx", &self.dx),
            ("dalpha", &self.dalpha),
            ("dshift", &self.dshift),
            ("dgamma", &self.dgamma),
            ("dbeta", &self.dbeta),
        ];
        Ok(all.into_iter().map(|(name, buffer)| (name, values(buffer))).collect())
    }
}

fn values(buffer: &Buffer) -> Vec<f32> {
    let narrow = || buffer.as_slice::<bf16>().map(|s| s.iter().map(|v| v.to_f32()).collect());
    buffer.as_slice::<f32>().map(<[f32]>::to_vec).or_else(narrow).unwrap_or_default()
}
