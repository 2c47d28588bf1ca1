//! Software drivers of Vulkan take turns: each runs a part of a long list, and all together the whole of it.

use dyt::{DType, Op, Problem};

use crate::{Case, Target};

/// The names of the software drivers, as devices have them, each with its shares of a list. llvmpipe compiles a kernel in
/// about four times the time that SwiftShader takes.
const SOFTWARE: [(&str, usize); 2] = [("wgpu:llvmpipe", 1), ("wgpu:swiftshader", 2)];

/// Which targets run an entry of a long list. These drivers spend most of their time on compiling kernels, so that calls of
/// one kernel go to one driver. Either driver runs every op, by whole blocks and by elements.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Those that are there, each as often as it has shares.
    drivers: Vec<&'static str>,
}

impl Turns {
    /// Among these targets.
    #[must_use]
    pub fn among<T: Target>(targets: &[T]) -> Self {
        let names: Vec<_> = targets.iter().map(Target::name).collect();
        let present = SOFTWARE.into_iter().filter(|(driver, _)| names.iter().any(|name| name == driver));
        Self { drivers: present.flat_map(|(driver, shares)| core::iter::repeat_n(driver, shares)).collect() }
    }

    /// Whether the target of that name runs the problem, on buffers that begin at whole blocks if `aligned`. One of the
    /// software drivers does, and every other target.
    #[must_use]
    pub fn takes(&self, target: &str, problem: &Problem, aligned: bool) -> bool {
        if !self.drivers.contains(&target) {
            return true;
        }
        self.drivers[turn(problem, aligned) % self.drivers.len()] == target
    }

    /// Whether the target of that name runs the case.
    #[must_use]
    pub fn takes_case(&self, target: &str, case: &Case) -> bool {
        self.takes(target, &case.problem, case.is_aligned())
    }
}

/// A number that differs by 1 between types, and between rows by blocks and by elements.
fn turn(problem: &Problem, aligned: bool) -> usize {
    let op = Op::ALL.iter().position(|op| *op == problem.op());
    let dtype = DType::ALL.iter().position(|dtype| *dtype == problem.dtype());
    let blocks = aligned && has_blocks(problem);
    op.unwrap_or_default() + dtype.unwrap_or_default() + usize::from(blocks)
}

/// Whether every row is of whole blocks of 16 bytes, which kernels read at once. The norms have none along `inner`.
fn has_blocks(problem: &Problem) -> bool {
    let width = 16 / problem.dtype().size();
    let strided = problem.rows() < 2 || problem.row_stride().is_multiple_of(width);
    let along = problem.inner() == 1 || problem.op().is_pointwise();
    strided && along && problem.row_len().is_multiple_of(width)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cases;

    const NAMES: [&str; 2] = [SOFTWARE[0].0, SOFTWARE[1].0];

    fn both() -> Turns {
        Turns { drivers: vec![NAMES[0], NAMES[1], NAMES[1]] }
    }

    #[test]
    fn one_driver_takes_a_case_and_each_about_its_share_of_them() {
        let turns = both();
        let mut counts = [0; 2];
        for case in cases() {
            let takers = NAMES.map(|driver| turns.takes_case(driver, &case));
            assert_eq!(takers.iter().filter(|takes| **takes).count(), 1, "{case}");
            assert!(turns.takes_case("cpu:portable", &case) && turns.takes_case("wgpu:a GPU", &case));
            counts[usize::from(takers[1])] += 1;
        }
        let all = cases().len();
        assert!(counts[0] * 4 > all && counts[1] * 2 > all, "{counts:?} of {all}");
    }

    #[test]
    fn either_driver_takes_every_op_by_blocks_by_elements_and_channels_first() {
        let turns = both();
        for driver in NAMES {
            let mut rows = BTreeSet::new();
            let mut first = BTreeSet::new();
            for case in cases().iter().filter(|case| turns.takes_case(driver, case)) {
                let p = &case.problem;
                match p.inner() {
                    1 => rows.insert((p.op().name(), case.is_aligned() && has_blocks(p))),
                    _ => first.insert((p.op().name(), false)),
                };
            }
            assert_eq!(rows.len(), 2 * Op::ALL.len(), "{driver}");
            assert_eq!(first.len(), Op::ALL.len(), "{driver}");
        }
    }

    #[test]
    fn a_driver_alone_takes_everything() {
        let turns = Turns { drivers: vec![NAMES[1]; 2] };
        assert!(cases().iter().all(|case| turns.takes_case(NAMES[1], case)));
    }
}
