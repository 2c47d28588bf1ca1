//! Whether what a device wrote is right.

use dyt::DType;

use super::{Prepared, Results, Role};
use crate::host::Fetched;
use crate::report::{Failure, Output, Report, Worst};
use crate::target::Target;
use crate::tolerance::{Arithmetic, Expected};

/// One case on one device. The device is not used any more: it gives its name and its arithmetic.
pub(super) struct Judge<'a> {
    pub(super) target: &'a dyn Target,
    pub(super) prepared: &'a Prepared,
}

impl Judge<'_> {
    /// Canaries first: what lies outside of the outputs is the worse mistake.
    pub(super) fn verdict(&self, results: &Results) -> Result<Report, Failure> {
        self.canaries(&results.out_of_place)?;
        if let Some(again) = &results.in_place {
            self.canaries(again)?;
            self.same_bits(&results.out_of_place, again)?;
        }
        self.compare(&results.out_of_place)
    }

    fn canaries(&self, outputs: &[(Role, Fetched)]) -> Result<(), Failure> {
        for (role, fetched) in outputs {
            if let Some(offset) = fetched.lost() {
                return Err(Failure::Overwritten {
                    device: self.target.name(),
                    case: Box::new(self.prepared.case),
                    buffer: match role {
                        Role::Output(output) => output.name(),
                        Role::Workspace => "workspace",
                    },
                    offset,
                });
            }
        }
        Ok(())
    }

    /// Compares bit for bit; any NaN equals any other.
    fn same_bits(&self, outputs: &[(Role, Fetched)], again: &[(Role, Fetched)]) -> Result<(), Failure> {
        for ((role, first), (_, second)) in outputs.iter().zip(again) {
            let Role::Output(output) = *role else { continue };
            for index in self.indices(output) {
                let (expected, got) = (first.get(index), second.get(index));
                if expected.to_bits() != got.to_bits() && !(expected.is_nan() && got.is_nan()) {
                    let (device, case) = (self.target.name(), Box::new(self.prepared.case));
                    return Err(Failure::InPlace { device, case, output, index, got, expected });
                }
            }
        }
        Ok(())
    }

    /// The indices of the elements of an output.
    fn indices(&self, output: Output) -> Vec<usize> {
        let problem = &self.prepared.case.problem;
        match output {
            Output::Y | Output::Sum | Output::Dx => {
                dyt::reference::places(problem).map(|place| output.index(place)).collect()
            }
            Output::Scales | Output::Mean | Output::Rstd => (0..problem.statistics()).collect(),
            Output::Dalpha | Output::Dshift => vec![0],
            Output::Dgamma | Output::Dbeta => (0..problem.params()).collect(),
        }
    }

    fn compare(&self, outputs: &[(Role, Fetched)]) -> Result<Report, Failure> {
        let arithmetic = Arithmetic::of(self.target.backend());
        let mut report = Report::default();
        for (role, fetched) in outputs {
            let Role::Output(output) = *role else { continue };
            let mut worst = Worst { output, error: 0.0, bound: 0.0 };
            for (index, expected) in self.expected(arithmetic, output, outputs) {
                let error = self.element(output, index, expected, fetched.get(index))?;
                if error.ratio() > worst.ratio() {
                    worst = error;
                }
            }
            report.worst.push(worst);
        }
        Ok(report)
    }

    /// What every element of `output` has to be. A quantised y is held to the scales that the device wrote, which have a bound
    /// of their own.
    fn expected(
        &self,
        arithmetic: Arithmetic,
        output: Output,
        outputs: &[(Role, Fetched)],
    ) -> Vec<(usize, Expected)> {
        let is_scales = |(role, _): &&(Role, Fetched)| *role == Role::Output(Output::Scales);
        match outputs.iter().find(is_scales) {
            Some((_, scales)) if output == Output::Y => {
                self.prepared.truth.quantised(arithmetic, &|statistic| scales.get(statistic))
            }
            _ => self.prepared.truth.of(arithmetic, output),
        }
    }

    fn element(&self, output: Output, index: usize, expected: Expected, got: f32) -> Result<Worst, Failure> {
        let dtype = match output {
            Output::Y => self.prepared.case.forward_problem().y_dtype(),
            Output::Sum | Output::Dx => self.prepared.case.problem.dtype(),
            Output::Scales
            | Output::Mean
            | Output::Rstd
            | Output::Dalpha
            | Output::Dshift
            | Output::Dgamma
            | Output::Dbeta => DType::F32,
        };
        if let Some(measured) = expected.accept(dtype, got) {
            return Ok(Worst { output, error: measured.error, bound: measured.bound });
        }
        let (value, bound) = expected.parts();
        Err(Failure::Wrong {
            device: self.target.name(),
            case: Box::new(self.prepared.case),
            output,
            index,
            got,
            expected: value,
            bound,
        })
    }
}

#[cfg(test)]
mod tests;
