//! What every backend and every CPU level of `dyt` has to pass: one list of [`cases()`], one table of
//! [`tolerance`]s, one runner.
//!
//! ```
//! use dyt_conformance::{Case, Values, devices_under_test, run_case};
//! let problem = dyt::Problem::new(dyt::Op::Dyt, 3, 17).build()?;
//! for device in devices_under_test() {
//!     let report = run_case(&device, &Case::new(problem, Values::Normal))?;
//!     assert!(report.worst.iter().all(|worst| worst.error <= worst.bound));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cases;
mod data;
mod devices;
mod expect;
mod host;
mod inputs;
mod report;
mod run;
pub mod staged;
mod suite;
mod target;
pub mod tolerance;
mod turns;

pub use cases::{Arrangement, Case, Gradients, Quantised, Statistics, VARIANTS, cases, quick_cases};
pub use data::{Random, Values, round_to};
pub use devices::{MissingDevices, check_required, coverage_line, devices_under_test};
pub use report::{Failure, Output, Report, Worst};
pub use run::{Prepared, lacks, run_case};
pub use suite::{Outcome, assert_all_pass, run_all, run_in_turns};
pub use target::Target;
pub use turns::Turns;
