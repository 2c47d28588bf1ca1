//! What is measured on which device, before anything runs.

use std::str::FromStr;
use std::time::Duration;

use dyt::DType;
use dyt_measure::interleave::Budget;
use dyt_measure::{Form, Point, grid};

/// How a run is to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `quick`, `full` or `selection`; and the form, if it is not the plain one.
    pub(crate) mode: String,
    /// Points of the devices that are measured in full.
    pub(crate) in_full: Vec<Point>,
    /// Points of the other CPU levels, on one thread.
    pub(crate) in_short: Vec<Point>,
    /// For each cell.
    pub(crate) budget: Budget,
    /// After this no further call is begun.
    pub(crate) deadline: Option<Duration>,
}

/// Rows × columns, as the command line has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    rows: usize,
    cols: usize,
}

impl FromStr for Shape {
    type Err = String;

    /// Of `4096x1024`.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(['x', '×']).map(|(rows, cols)| (rows.parse(), cols.parse()));
        match numbers {
            Some((Ok(rows), Ok(cols))) if rows > 0 && cols > 0 => Ok(Self { rows, cols }),
            _ => Err("a shape is ROWSxCOLS, such as 4096x1024".to_owned()),
        }
    }
}

/// A dtype by its name, for the command line.
pub(crate) fn parse_dtype(text: &str) -> Result<DType, String> {
    let names = || DType::ALL.map(DType::name).join(", ");
    DType::ALL
        .into_iter()
        .find(|dtype| dtype.name() == text)
        .ok_or_else(|| format!("a dtype is one of {}", names()))
}

impl Plan {
    /// What is left for measuring when the run has taken `elapsed`.
    pub(crate) fn left(&self, elapsed: Duration) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_sub(elapsed))
    }

    /// The grid or its quick part; only the shapes and dtypes that are named, if any are.
    pub(crate) fn new(quick: bool, form: Form, shapes: &[Shape], dtypes: &[DType]) -> Self {
        let selected = !(shapes.is_empty() && dtypes.is_empty());
        let whole = if quick { grid::quick() } else { grid::grid() };
        let in_full = if selected { select(&whole, shapes, dtypes) } else { whole };
        let mode = match (selected, quick) {
            (true, _) => "selection",
            (false, true) => "quick",
            (false, false) => "full",
        };
        let points = |points: Vec<Point>| points.into_iter().map(|point| point.with(form)).collect();
        Self {
            mode: if form == Form::Plain { mode.to_owned() } else { format!("{mode} with {form}") },
            in_full: points(in_full),
            // Whoever names shapes or dtypes is not after an overview.
            in_short: if selected { Vec::new() } else { points(grid::short()) },
            budget: if quick { QUICK } else { FULL },
            deadline: quick.then_some(QUICK_DEADLINE),
        }
    }
}

const QUICK: Budget = Budget {
    batch: Duration::from_micros(500),
    least_rounds: 5,
    most_rounds: 41,
    total: Duration::from_millis(1200),
};
const FULL: Budget = Budget {
    batch: Duration::from_millis(1),
    least_rounds: 9,
    most_rounds: 101,
    total: Duration::from_secs(3),
};
/// Of the minute that a quick run may take; the call under way, the memory of its cell and the report need the rest.
const QUICK_DEADLINE: Duration = Duration::from_secs(50);

/// Named shapes in f32 and bf16, or in the named dtypes; without a name, the shapes of `whole`.
fn select(whole: &[Point], shapes: &[Shape], dtypes: &[DType]) -> Vec<Point> {
    let dtypes = if dtypes.is_empty() { &[DType::F32, DType::Bf16] } else { dtypes };
    let mut points = Vec::new();
    for &dtype in dtypes {
        // The grid has every shape in f32.
        let of_grid = whole.iter().filter(|point| shapes.is_empty() && point.dtype == DType::F32);
        points.extend(of_grid.map(|point| Point { dtype, ..*point }));
        points.extend(shapes.iter().map(|shape| Point::new(shape.rows, shape.cols, dtype)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_dtypes_are_read() {
        assert_eq!("64x768".parse(), Ok(Shape { rows: 64, cols: 768 }));
        assert_eq!("1×4096".parse(), Ok(Shape { rows: 1, cols: 4096 }));
        for wrong in ["64", "x", "0x4", "4x0", "-1x4", "1x2x3", ""] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
        assert_eq!(parse_dtype("bf16"), Ok(DType::Bf16));
        assert_eq!(parse_dtype("f64"), Err("a dtype is one of f32, f16, bf16".to_owned()));
    }

    #[test]
    fn without_names_the_grid_is_measured() {
        let full = Plan::new(false, Form::Plain, &[], &[]);
        assert_eq!((full.mode.as_str(), full.in_full.clone(), full.deadline), ("full", grid::grid(), None));
        assert!(!full.in_short.is_empty());
        let quick = Plan::new(true, Form::Plain, &[], &[]);
        assert_eq!((quick.mode.as_str(), quick.in_full.clone()), ("quick", grid::quick()));
        assert_eq!(full.left(Duration::from_secs(1_000_000)), Duration::MAX);
        assert_eq!(quick.left(Duration::from_secs(10)), Duration::from_secs(40));
        assert_eq!(quick.left(Duration::from_secs(51)), Duration::ZERO);
    }

    #[test]
    fn names_select() {
        let shape = Shape { rows: 7, cols: 9 };
        let plan = Plan::new(false, Form::Plain, &[shape], &[]);
        let expected = [Point::new(7, 9, DType::F32), Point::new(7, 9, DType::Bf16)];
        assert_eq!((plan.mode.as_str(), plan.in_full.as_slice()), ("selection", expected.as_slice()));
        assert!(plan.in_short.is_empty());
        let plan = Plan::new(true, Form::Residual, &[], &[]);
        assert_eq!(plan.mode, "quick with residual");
        assert!(plan.in_full.iter().chain(&plan.in_short).all(|point| point.form == Form::Residual));
        let plan = Plan::new(true, Form::Plain, &[], &[DType::F16]);
        assert_eq!(plan.in_full.len(), grid::QUICK_SHAPES.len());
        assert!(plan.in_full.iter().all(|point| point.dtype == DType::F16));
    }
}
