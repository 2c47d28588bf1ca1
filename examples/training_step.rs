//! A DyT layer that learns: forward, backward and a step of gradient descent, on some columns of a wider table.
//!
//! The layer reads and writes columns 8 to 56 of rows that are 64 wide, in place in their buffers and without a copy:
//! that is what `row_stride` is for. A teacher layer with other parameters makes the targets, and the loss is the
//! mean over rows of half the squared error. Run it with `cargo run --release --example training_step`.

use dyt::{Backward, Buffer, DType, Device, Forward, Op, Pass, Problem, Result};

const ROWS: usize = 512;
const COLS: usize = 48;
/// Elements of a row of the table, and so from one row to the next.
const STRIDE: usize = 64;
/// The first column that the layer works on.
const FIRST: usize = 8;
const STEPS: usize = 200;
const RATE: f32 = 0.5;

/// The parameters of a DyT layer.
struct Layer {
    alpha: f32,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

/// The gradients of the parameters: f32, whatever the storage type of the parameters is.
struct Gradients {
    alpha: f32,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Layer {
    /// The layer as training begins.
    fn new() -> Self {
        Self { alpha: 0.5, gamma: vec![1.0; COLS], beta: vec![0.0; COLS] }
    }

    /// What the layer is to learn.
    fn teacher() -> Self {
        let wave = |c: usize| (c as f32 * 0.7).sin();
        Self {
            alpha: 0.9,
            gamma: (0..COLS).map(|c| 1.0 + 0.5 * wave(c)).collect(),
            beta: (0..COLS).map(|c| 0.3 * wave(c + 5)).collect(),
        }
    }

    fn forward(&self, device: &Device, problem: &Problem, x: &[f32], y: &mut [f32]) -> Result<()> {
        let arguments = Forward::new(&x[FIRST..], &mut y[FIRST..]);
        device.forward(problem, arguments.alpha(&self.alpha).gamma(&self.gamma).beta(&self.beta))
    }

    /// `dy` holds the gradient of y on entry and that of x afterwards, for the layer below.
    fn backward(
        &self,
        device: &Device,
        problem: &Problem,
        x: &[f32],
        dy: &mut [f32],
        gradients: &mut Gradients,
        workspace: &mut Buffer,
    ) -> Result<()> {
        let arguments = Backward::of(&x[FIRST..])
            .in_place(&mut dy[FIRST..])
            .alpha(&self.alpha)
            .gamma(&self.gamma)
            .dalpha(&mut gradients.alpha)
            .dgamma(&mut gradients.gamma)
            .dbeta(&mut gradients.beta);
        device.backward_with(problem, arguments, workspace)
    }

    fn descend(&mut self, gradients: &Gradients) {
        // Every column adds to alpha's gradient, so that its step is shorter.
        self.alpha -= RATE / COLS as f32 * gradients.alpha;
        for c in 0..COLS {
            self.gamma[c] -= RATE * gradients.gamma[c];
            self.beta[c] -= RATE * gradients.beta[c];
        }
    }
}

/// The loss, and its gradient in `dy`. Columns beside those of the layer are left alone.
fn loss(y: &[f32], target: &[f32], dy: &mut [f32]) -> f64 {
    let mut sum = 0.0;
    for row in 0..ROWS {
        for at in (row * STRIDE + FIRST)..(row * STRIDE + FIRST + COLS) {
            let error = y[at] - target[at];
            dy[at] = error / ROWS as f32;
            sum += f64::from(error * error) / 2.0;
        }
    }
    sum / ROWS as f64
}

/// A table of values that are spread like activations: the sum of four uniform numbers, variance 4/3.
fn table() -> Vec<f32> {
    let mut state = 1_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..ROWS * STRIDE).map(|_| uniform() + uniform() + uniform() + uniform()).collect()
}

fn main() -> Result<()> {
    let device = Device::auto()?;
    let problem = Problem::new(Op::Dyt, ROWS, COLS).row_stride(STRIDE).build()?;
    let x = table();
    let mut target = vec![0.0; x.len()];
    Layer::teacher().forward(&device, &problem, &x, &mut target)?;

    let mut layer = Layer::new();
    let mut gradients = Gradients { alpha: 0.0, gamma: vec![0.0; COLS], beta: vec![0.0; COLS] };
    let (mut y, mut dy) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    // Asked for once, outside the loop: no call below allocates.
    let bytes = device.workspace_bytes(&problem, Pass::Backward);
    let mut workspace = device.zeros(DType::F32, bytes / DType::F32.size())?;

    println!("{} on {}: {ROWS} rows of {COLS}, {STRIDE} apart", problem.op(), device.name());
    for step in 0..=STEPS {
        layer.forward(&device, &problem, &x, &mut y)?;
        let loss = loss(&y, &target, &mut dy);
        if step % 25 == 0 {
            println!("step {step:3}  loss {loss:10.3e}  alpha {:.4}", layer.alpha);
        }
        layer.backward(&device, &problem, &x, &mut dy, &mut gradients, &mut workspace)?;
        layer.descend(&gradients);
    }
    Ok(())
}
