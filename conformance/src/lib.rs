//! What every backend and every CPU level of `dyt` has to pass: one list of cases, one table of tolerances, one
//! runner.

mod data;
mod devices;

pub use data::{Random, Values, round_to};
pub use devices::{MissingDevices, check_required, coverage_line, devices_under_test};
