//! Runs a case on a device. [`judge`] says whether what it wrote is right.

mod judge;

use dyt::{Backend, Backward, DType, Dsum, Error, Forward, Pass, Problem, Residual};

use crate::cases::Case;
use crate::expect::Truth;
use crate::host::{CANARY, Fetched, Layout, Rows, Slot};
use crate::inputs::Inputs;
use crate::report::{Failure, Output, Report};
use crate::target::Target;
use crate::tolerance::Arithmetic;
use judge::Judge;

/// Whether the kernels of a backend do not take a case yet. They have to refuse it.
#[must_use]
pub fn lacks(backend: Backend, case: &Case) -> bool {
    backend.lacks(&case.forward_problem(), case.residual).is_some()
}

/// Runs a case on a device.
///
/// # Errors
/// [`Failure`]: the first result that is wrong, the first canary that is gone, or the device's error.
pub fn run_case(target: &dyn Target, case: &Case) -> Result<Report, Failure> {
    match Prepared::new(case) {
        Ok(prepared) => prepared.run(target),
        Err(source) => Err(Failure::Refused { device: target.name(), case: Box::new(*case), source }),
    }
}

/// A case with its inputs and its reference, which is most of the work and the same for every device.
#[derive(Debug)]
pub struct Prepared {
    case: Case,
    inputs: Inputs,
    truth: Truth,
}

impl Prepared {
    /// Draws the inputs and computes the reference.
    ///
    /// # Errors
    /// Those of [`dyt::reference`].
    pub fn new(case: &Case) -> Result<Self, Error> {
        let inputs = Inputs::draw(case);
        let truth = Truth::new(case, &inputs)?;
        Ok(Self { case: *case, inputs, truth })
    }

    /// Runs the case on a device, as [`run_case`] does.
    ///
    /// # Errors
    /// As [`run_case`].
    pub fn run(&self, target: &dyn Target) -> Result<Report, Failure> {
        let run = Run { target, prepared: self };
        let refused = |source| Failure::Refused { device: target.name(), case: Box::new(self.case), source };
        if lacks(target.backend(), &self.case) {
            return match run.results() {
                Err(Error::NotSupported { .. }) => Ok(Report::default()),
                Err(source) => Err(refused(source)),
                Ok(_) => Err(Failure::NotRefused { device: target.name(), case: Box::new(self.case) }),
            };
        }
        let results = run.results().map_err(refused)?;
        Judge { target, prepared: self }.verdict(&results)
    }

    /// Of each output that the case asks for: how many elements may be anything on a CPU, and how many there are.
    #[must_use]
    pub fn unpromised(&self) -> Vec<(Output, usize, usize)> {
        let asked = Output::ALL.into_iter().filter(|output| self.case.asks(*output));
        asked
            .map(|output| {
                let expected = self.truth.of(Arithmetic::of(Backend::Cpu), output);
                let open = expected.iter().filter(|(_, expected)| expected.is_open()).count();
                (output, open, expected.len())
            })
            .collect()
    }
}

/// What a device wrote, and what stood around it.
#[derive(Debug)]
struct Results {
    out_of_place: Vec<(Role, Fetched)>,
    /// The same buffers in the same order, if the case runs in place too.
    in_place: Option<Vec<(Role, Fetched)>>,
}

/// What a buffer of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Output(Output),
    Workspace,
}

/// What outputs hold on entry: the input whose place they take.
#[derive(Clone, Copy, Debug)]
struct Held<'a> {
    y: Option<&'a [f32]>,
    sum: Option<&'a [f32]>,
}

type Outputs = Vec<(Role, Slot)>;

/// One case on one device.
struct Run<'a> {
    target: &'a dyn Target,
    prepared: &'a Prepared,
}

impl Run<'_> {
    /// Runs everything that the case asks for.
    fn results(&self) -> dyt::Result<Results> {
        let forward = self.forward(false)?;
        let quantised = self.prepared.case.quantised.is_some();
        let backward = if quantised { Outputs::new() } else { self.backward(&forward, false)? };
        let out_of_place = self.fetch(forward.iter().chain(&backward))?;
        let in_place = if self.prepared.case.in_place && !self.prepared.case.has_y_strides() {
            let again = self.forward(true)?;
            let outputs = [again, if quantised { Outputs::new() } else { self.backward(&forward, true)? }];
            Some(self.fetch(outputs.iter().flatten())?)
        } else {
            None
        };
        Ok(Results { out_of_place, in_place })
    }

    const fn problem(&self) -> &Problem {
        &self.prepared.case.problem
    }

    const fn layout(&self) -> Layout {
        Layout::guarded(!self.prepared.case.is_aligned())
    }

    fn tensor(&self, dtype: DType, rows: Rows, gap: f32, value: impl Fn(usize) -> f32) -> dyt::Result<Slot> {
        let closed = self.prepared.case.seed & 2 == 2;
        Slot::tensor(self.target, self.layout(), dtype, rows, closed, gap, value)
    }

    /// Gaps of inputs hold NaN, so that reading them shows.
    fn read_tensor(&self, values: &[f32]) -> dyt::Result<Slot> {
        self.tensor(self.problem().dtype(), Rows::of_x(self.problem()), f32::NAN, |i| values[i])
    }

    fn vector(&self, dtype: DType, values: &[f32]) -> dyt::Result<Slot> {
        Slot::vector(self.target, self.layout(), dtype, values.iter().copied())
    }

    fn parameter(&self, values: Option<&[f32]>) -> dyt::Result<Option<Slot>> {
        values.map(|values| self.vector(self.problem().param_dtype(), values)).transpose()
    }

    /// What an output holds before the call: NaN, or the value that is added to.
    fn written(&self, output: Output, in_place: Option<&[f32]>) -> dyt::Result<Slot> {
        let inputs = &self.prepared.inputs;
        let added = |prior: &[f32]| {
            let hold = |value: &f32| if self.problem().accumulate() { *value } else { f32::NAN };
            self.vector(DType::F32, &prior.iter().map(hold).collect::<Vec<_>>())
        };
        match output {
            Output::Y | Output::Sum | Output::Dx => {
                let y = self.prepared.case.forward_problem().y_dtype();
                let (dtype, rows) = match output {
                    Output::Y => (y, Rows::of_y(self.problem())),
                    _ => (self.problem().dtype(), Rows::of_x(self.problem())),
                };
                self.tensor(dtype, rows, CANARY, |i| in_place.map_or(f32::NAN, |values| values[i]))
            }
            Output::Scales | Output::Mean | Output::Rstd => {
                self.vector(DType::F32, &vec![f32::NAN; self.problem().statistics()])
            }
            Output::Dalpha => added(&inputs.prior_sums[..1]),
            Output::Dshift => added(&inputs.prior_sums[1..]),
            Output::Dgamma => added(&inputs.prior_columns[0]),
            Output::Dbeta => added(&inputs.prior_columns[1]),
        }
    }

    /// What y and sum hold on entry. The seed chooses among the in-place forms of a residual.
    fn held(&self, in_place: bool) -> Held<'_> {
        let Inputs { x, residual, .. } = &self.prepared.inputs;
        let (x, apart) = (Some(x.as_slice()), Held { y: None, sum: None });
        match (in_place, residual.as_deref(), self.prepared.case.seed >> 2 & 3) {
            (false, ..) => apart,
            // A quantised y takes no place.
            (true, residual, _) if self.prepared.case.quantised.is_some() => Held { sum: residual, ..apart },
            (true, None, _) => Held { y: x, ..apart },
            (true, residual, 0) => Held { y: x, sum: residual },
            (true, _, 1) => Held { y: x, ..apart },
            (true, residual, 2) => Held { sum: residual, ..apart },
            (true, residual, _) => Held { y: residual, sum: x },
        }
    }

    /// Runs the forward, and returns its outputs.
    fn forward(&self, in_place: bool) -> dyt::Result<Outputs> {
        let (case, inputs) = (&self.prepared.case, &self.prepared.inputs);
        let x = self.read_tensor(&inputs.x)?;
        let residual = inputs.residual.as_deref().map(|values| self.read_tensor(values)).transpose()?;
        let held = self.held(in_place);
        let (alpha, shift) =
            (self.vector(DType::F32, &[inputs.alpha])?, self.vector(DType::F32, &[inputs.shift])?);
        let (gamma, beta) =
            (self.parameter(inputs.gamma.as_deref())?, self.parameter(inputs.beta.as_deref())?);
        let mut outputs = Outputs::new();
        let scale = self.vector(DType::F32, &[self.prepared.truth.given_scale()])?;
        for output in [Output::Y, Output::Sum, Output::Scales, Output::Mean, Output::Rstd] {
            if case.asks(output) {
                let held = if output == Output::Sum { held.sum } else { held.y };
                outputs.push((Role::Output(output), self.written(output, held)?));
            }
        }
        let [(_, y), others @ ..] = outputs.as_mut_slice() else { return Ok(outputs) };
        let mut call = match held.y.is_some() {
            true => Forward::in_place(y.view_mut()),
            false => Forward::new(x.view(), y.view_mut()),
        };
        call.residual = residual.as_ref().map(|residual| match held.sum.is_some() {
            true => Residual::InSum,
            false => Residual::Apart(residual.view()),
        });
        if case.problem.op().is_pointwise() {
            call = call.alpha(alpha.view());
        }
        if case.problem.op().has_shift() {
            call = call.shift(shift.view());
        }
        call.gamma = gamma.as_ref().map(Slot::view);
        call.beta = beta.as_ref().map(Slot::view);
        call.scale = case.quantised.filter(|quantised| !quantised.by_row).map(|_| scale.view());
        for (role, slot) in others {
            match role {
                Role::Output(Output::Scales) => call.scales = Some(slot.view_mut()),
                Role::Output(Output::Sum) => call.sum = Some(slot.view_mut()),
                Role::Output(Output::Mean) => call.mean = Some(slot.view_mut()),
                _ => call.rstd = Some(slot.view_mut()),
            }
        }
        self.target.forward(&case.forward_problem(), call)?;
        Ok(outputs)
    }

    /// Runs the backward with what the forward saved, and returns its outputs and the workspace.
    fn backward(&self, forward: &Outputs, in_place: bool) -> dyt::Result<Outputs> {
        let (case, inputs) = (&self.prepared.case, &self.prepared.inputs);
        let op = case.problem.op();
        // After a residual, the sum.
        let x = self.read_tensor(&self.prepared.truth.input())?;
        let dy = self.tensor(case.problem.dtype(), Rows::of_y(&case.problem), f32::NAN, |i| inputs.dy[i])?;
        let joins = inputs.dsum.as_deref().filter(|_| case.asks(Output::Dx));
        let dsum = joins.map(|values| self.read_tensor(values)).transpose()?;
        let (alpha, shift) =
            (self.vector(DType::F32, &[inputs.alpha])?, self.vector(DType::F32, &[inputs.shift])?);
        let gamma = self.parameter(inputs.gamma.as_deref())?;
        let saved =
            |output| forward.iter().find(|(role, _)| *role == Role::Output(output)).map(|(_, slot)| slot);
        let in_place = in_place && case.asks(Output::Dx);
        let over_dsum = in_place && joins.is_some() && case.seed & 4 == 4;
        let mut outputs = Outputs::new();
        for output in Output::ALL.into_iter().filter(|output| output.is_gradient() && case.asks(*output)) {
            let held = if over_dsum { joins } else { in_place.then_some(inputs.dy.as_slice()) };
            outputs.push((Role::Output(output), self.written(output, held)?));
        }
        let bytes = self.target.workspace_bytes(&case.problem, Pass::Backward);
        let garbage = vec![f32::NAN; bytes.div_ceil(DType::F32.size())];
        let mut workspace = self.vector(DType::F32, &garbage)?;
        let mut call = Backward::of(x.view()).dy(dy.view());
        if in_place && !over_dsum {
            call.dy = None;
        }
        call.dsum = dsum.as_ref().map(|dsum| if over_dsum { Dsum::InDx } else { Dsum::Apart(dsum.view()) });
        if op.is_pointwise() {
            call = call.alpha(alpha.view());
        }
        if op.has_shift() {
            call = call.shift(shift.view());
        }
        call.gamma = gamma.as_ref().map(Slot::view);
        call.mean = saved(Output::Mean).map(Slot::view);
        call.rstd = saved(Output::Rstd).map(Slot::view);
        for (role, slot) in &mut outputs {
            let Role::Output(output) = role else { continue };
            let view = Some(slot.view_mut());
            match output {
                Output::Dx => call.dx = view,
                Output::Dalpha => call.dalpha = view,
                Output::Dshift => call.dshift = view,
                Output::Dgamma => call.dgamma = view,
                Output::Dbeta => call.dbeta = view,
                Output::Y | Output::Sum | Output::Scales | Output::Mean | Output::Rstd => {}
            }
        }
        self.target.backward_with(&case.problem, call, workspace.view_mut())?;
        outputs.push((Role::Workspace, workspace));
        Ok(outputs)
    }

    fn fetch<'s>(
        &self,
        outputs: impl IntoIterator<Item = &'s (Role, Slot)>,
    ) -> dyt::Result<Vec<(Role, Fetched)>> {
        outputs.into_iter().map(|(role, slot)| Ok((*role, slot.fetch(self.target)?))).collect()
    }
}
