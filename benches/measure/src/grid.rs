//! The shapes and dtypes that speed is measured at, in one place.

use core::fmt;

use dyt::{DType, Op, Pass, Problem, Result};

use crate::Form;

/// Elements from which the library takes more than one thread: smaller problems have nothing to gain from a pool.
/// Follows the private constant of the same name in the library's src/cpu/plan.rs.
const ELEMENTS_FOR_THREADS: usize = 128 * 1024;

/// Rows × columns of every dtype of [`grid`], the small first: L1, L2, the last-level cache, and memory with narrow
/// and with wide rows.
const SHAPES: [(usize, usize); 12] = [
    (1, 4096),
    (8, 4096),
    (64, 768),
    (512, 768),
    (4096, 1024),
    (512, 8192),
    (16384, 768),
    (4096, 4096),
    (8192, 4096),
    (32768, 1024),
    (4096, 8192),
    (4096, 16384),
];

/// Shapes that f16 is measured at: it shares all but its conversions with bf16.
const F16_SHAPES: [(usize, usize); 3] = [(64, 768), (512, 768), (4096, 4096)];

/// Shapes of [`quick`]: one in L2, one in the last-level cache of most machines, narrow and wide rows in memory.
pub const QUICK_SHAPES: [(usize, usize); 4] = [(64, 768), (512, 768), (16384, 768), (4096, 4096)];

/// One tensor of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Storage type of every tensor and of gamma and beta.
    pub dtype: DType,
    /// What its calls have beside the op.
    pub form: Form,
}

impl Point {
    /// A point of the grid, or one of the caller's own, plain.
    #[must_use]
    pub const fn new(rows: usize, cols: usize, dtype: DType) -> Self {
        Self { rows, cols, dtype, form: Form::Plain }
    }

    /// The same in another form.
    #[must_use]
    pub const fn with(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The problem of `op` at this point.
    ///
    /// # Errors
    /// What [`dyt::ProblemBuilder::build`] returns.
    pub fn problem(self, op: Op) -> Result<Problem> {
        let Self { rows, cols, dtype, form } = self;
        form.of(Problem::new(op, form.tokens(rows), cols).dtype(dtype), rows, cols).build()
    }

    /// Elements that are computed.
    #[must_use]
    pub const fn elements(self) -> usize {
        self.rows.saturating_mul(self.cols)
    }

    /// The bytes that a pass must move between the processor and its memory, each once. Forward: x and y, and with a residual
    /// that and the sum. Backward: dy, x and dx, and dsum. Parameters and statistics are not counted.
    #[must_use]
    pub const fn moved_bytes(self, pass: Pass) -> usize {
        let size = self.dtype.size();
        let of_element = match (self.form, pass) {
            (Form::Residual, _) => 4 * size,
            (Form::Quant | Form::QuantDynamic, Pass::Forward) => size + 1,
            (_, Pass::Forward) => 2 * size,
            (_, Pass::Backward) => 3 * size,
        };
        of_element * self.elements()
    }

    /// The same as a part of what `tensors` tensors have.
    #[must_use]
    pub const fn share(self, pass: Pass, tensors: usize) -> f64 {
        self.moved_bytes(pass) as f64 / (tensors * self.elements() * self.dtype.size()) as f64
    }

    /// Whether more than one thread can make a difference.
    #[must_use]
    pub const fn takes_threads(self) -> bool {
        self.elements() >= ELEMENTS_FOR_THREADS
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, cols, dtype, form } = self;
        match form {
            Form::Plain => f.pad(&format!("{rows}×{cols} {dtype}")),
            form => f.pad(&format!("{rows}×{cols} {dtype} with {form}")),
        }
    }
}

/// The whole grid of the CPU: every shape in f32 and bf16, three in f16.
#[must_use]
pub fn grid() -> Vec<Point> {
    let mut points = product(&SHAPES, &[DType::F32, DType::Bf16]);
    points.extend(product(&F16_SHAPES, &[DType::F16]));
    points
}

/// The part of [`grid`] that is measured in seconds.
#[must_use]
pub fn quick() -> Vec<Point> {
    product(&QUICK_SHAPES, &[DType::F32, DType::Bf16])
}

/// The part of [`grid`] for CPU levels that another one of the same machine surpasses: one shape in the cache, where
/// arithmetic shows, and one in memory.
#[must_use]
pub fn short() -> Vec<Point> {
    let mut points = product(&[(64, 768)], &[DType::F32, DType::Bf16]);
    points.push(Point::new(4096, 4096, DType::F32));
    points
}

fn product(shapes: &[(usize, usize)], dtypes: &[DType]) -> Vec<Point> {
    let of_dtype = |dtype: DType| shapes.iter().map(move |&(rows, cols)| Point::new(rows, cols, dtype));
    dtypes.iter().copied().flat_map(of_dtype).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_belong_to_the_grid_and_no_point_comes_twice() {
        let whole = grid();
        assert_eq!(whole.len(), 27);
        for (index, point) in whole.iter().enumerate() {
            assert!(!whole[..index].contains(point), "{point} comes twice");
        }
        for point in quick().into_iter().chain(short()) {
            assert!(whole.contains(&point), "{point}");
        }
    }

    #[test]
    fn every_point_is_a_problem_of_every_op() -> Result<()> {
        for (point, form) in grid().into_iter().flat_map(|point| Form::ALL.map(|form| (point, form))) {
            for op in Op::ALL {
                let problem = point.with(form).problem(op)?;
                assert_eq!(problem.elements(), point.elements());
                assert_eq!(problem.rows() * problem.row_stride(), point.elements() * form.spread());
            }
        }
        Ok(())
    }

    #[test]
    fn moved_bytes_are_those_of_the_table() {
        let bytes = |point: Point| Pass::ALL.map(|pass| point.moved_bytes(pass));
        let (f32s, bf16s) = (Point::new(10, 100, DType::F32), Point::new(10, 100, DType::Bf16));
        assert_eq!((bytes(f32s), bytes(bf16s)), ([8000, 12_000], [4000, 6000]));
        assert_eq!(bytes(f32s.with(Form::Residual)), [16_000, 16_000]);
        assert_eq!(bf16s.with(Form::Quant).moved_bytes(Pass::Forward), 3000);
    }

    #[test]
    fn a_point_says_what_it_is() {
        let point = Point::new(64, 768, DType::Bf16);
        assert_eq!(format!("{point:>14}"), "   64×768 bf16");
        assert_eq!(point.with(Form::Residual).to_string(), "64×768 bf16 with residual");
        assert!(!point.takes_threads() && Point::new(512, 768, DType::F32).takes_threads());
    }
}
