//! The one list of cases.

mod arrangement;
mod choices;

pub use arrangement::Arrangement;
pub use choices::{Gradients, Quantised, Statistics};

use core::fmt;
use std::collections::HashMap;

use dyt::{Op, Problem, Std, Storage};

use crate::data::{Random, Values};
use crate::report::Output;

/// One forward and one backward; of a quantised y one forward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// Op, shape, types; whether gradients are added.
    pub problem: Problem,
    /// How inputs are drawn.
    pub values: Values,
    /// Which gradients are asked for.
    pub gradients: Gradients,
    /// Which statistics are saved.
    pub statistics: Statistics,
    /// Whether x has a residual, and dx a dsum.
    pub residual: bool,
    /// What y is quantised to, if it is. `problem` has the rest.
    pub quantised: Option<Quantised>,
    /// Whether there is a gamma.
    pub gamma: bool,
    /// Whether there is a beta.
    pub beta: bool,
    /// Whether the in-place forms run too.
    pub in_place: bool,
    /// Of the inputs. Odd ones begin buffers off the boundaries of vectors; the second bit adds a gap behind the last
    /// row.
    pub seed: u64,
}

impl Case {
    /// Without residual, with gamma and beta, every gradient, saved statistics, out of place, seed 0.
    #[must_use]
    pub const fn new(problem: Problem, values: Values) -> Self {
        Self {
            problem,
            values,
            gradients: Gradients::All,
            statistics: Statistics::Saved,
            residual: false,
            quantised: None,
            gamma: true,
            beta: true,
            in_place: false,
            seed: 0,
        }
    }
    /// Sets which gradients are asked for.
    #[must_use]
    pub const fn gradients(mut self, gradients: Gradients) -> Self {
        self.gradients = gradients;
        self
    }
    /// Sets which statistics are saved.
    #[must_use]
    pub const fn statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }
    /// Sets whether x has a residual, and dx a dsum.
    #[must_use]
    pub const fn residual(mut self, residual: bool) -> Self {
        self.residual = residual;
        self
    }
    /// Sets what y is quantised to.
    #[must_use]
    pub const fn quantised(mut self, quantised: Option<Quantised>) -> Self {
        self.quantised = quantised;
        self
    }
    /// Sets whether there is a gamma; without it there is no dgamma.
    #[must_use]
    pub const fn gamma(mut self, gamma: bool) -> Self {
        self.gamma = gamma;
        self
    }
    /// Sets whether there is a beta.
    #[must_use]
    pub const fn beta(mut self, beta: bool) -> Self {
        self.beta = beta;
        self
    }
    /// Sets whether the in-place forms run too.
    #[must_use]
    pub const fn in_place(mut self, in_place: bool) -> Self {
        self.in_place = in_place;
        self
    }
    /// Sets the seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether y and dy have strides of their own: they cannot be where x and dx are.
    #[must_use]
    pub fn has_y_strides(&self) -> bool {
        let p = &self.problem;
        (p.y_row_stride(), p.y_head_stride()) != (p.row_stride(), p.head_stride())
    }

    /// Whether buffers begin at whole blocks of 16 bytes.
    #[must_use]
    pub const fn is_aligned(&self) -> bool {
        self.seed & 1 == 0
    }

    /// The problem of the forward.
    #[must_use]
    pub fn forward_problem(&self) -> Problem {
        self.problem.with_quant(self.quantised.map(|quantised| quantised.quant))
    }

    /// Whether the case has this output.
    #[must_use]
    pub fn asks(&self, output: Output) -> bool {
        let op = self.problem.op();
        if self.quantised.is_some() && output.is_gradient() {
            return false;
        }
        let saved = |alone| self.statistics == Statistics::Saved || self.statistics == alone;
        match output {
            Output::Y => true,
            Output::Sum => self.residual,
            Output::Scales => self.quantised.is_some_and(|quantised| quantised.by_row),
            Output::Mean => op.has_mean() && saved(Statistics::MeanOnly),
            Output::Rstd => !op.is_pointwise() && saved(Statistics::RstdOnly),
            Output::Dx | Output::Dbeta => self.gradients.asks(output),
            Output::Dalpha => op.is_pointwise() && self.gradients.asks(output),
            Output::Dshift => op.has_shift() && self.gradients.asks(output),
            Output::Dgamma => self.gamma && self.gradients.asks(output),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.problem;
        write!(f, "{}", p.op())?;
        if p.std() == Std::Unbiased {
            f.write_str(" unbiased")?;
        }
        write!(f, " {}/{} {}x{}", p.dtype(), p.param_dtype(), p.rows(), p.cols())?;
        if p.inner() > 1 {
            write!(f, "x{}", p.inner())?;
        }
        if p.heads() > 1 {
            write!(f, " heads={}x{}", p.heads(), p.head_stride())?;
        }
        if p.row_stride() != p.heads() * p.head_stride() {
            write!(f, " stride={}", p.row_stride())?;
        }
        if self.has_y_strides() {
            write!(f, " y-strides={},{}", p.y_row_stride(), p.y_head_stride())?;
        }
        if p.param_groups() != 1 {
            write!(f, " param-rows={}", p.param_rows())?;
        }
        write!(f, " {} gradients={} statistics={}", self.values, self.gradients, self.statistics)?;
        let options = [
            (self.residual, "residual"),
            (!self.gamma, "no-gamma"),
            (!self.beta, "no-beta"),
            (self.in_place, "in-place"),
            (p.accumulate(), "accumulate"),
        ];
        for (_, name) in options.iter().filter(|(set, _)| *set) {
            write!(f, " {name}")?;
        }
        if let Some(Quantised { quant, by_row }) = self.quantised {
            write!(f, " {quant}{}", if by_row { "-by-row" } else { "" })?;
        }
        if p.gamma_offset() != 0.0 {
            write!(f, " gamma-offset={}", p.gamma_offset())?;
        }
        write!(f, " eps={:e} seed={}", p.eps(), self.seed)
    }
}

/// rows, cols, inner, gap behind each row.
type Shape = (usize, usize, usize, usize);

/// Ragged and whole vectors, single columns, long rows, many rows, none; channels-first; gaps. The large ones pass the
/// size from which several threads work.
const SHAPES: [Shape; 34] = [
    (0, 17, 1, 0),
    (0, 3, 5, 2),
    (1, 1, 1, 0),
    (1, 64, 1, 0),
    (1, 4096, 1, 0),
    (5, 1, 1, 1),
    (3, 2, 1, 0),
    (16, 3, 1, 0),
    (5, 7, 1, 0),
    (33, 16, 1, 0),
    (2, 17, 1, 0),
    (16, 63, 1, 0),
    (5, 64, 1, 0),
    (33, 65, 1, 0),
    (3, 255, 1, 0),
    (16, 768, 1, 0),
    (2, 1023, 1, 0),
    (33, 4101, 1, 0),
    (2, 100_003, 1, 0),
    (1, 100_003, 1, 0),
    (70_000, 3, 1, 0),
    (70_001, 2, 1, 1),
    (5, 17, 1, 3),
    (16, 64, 1, 1),
    (3, 255, 1, 17),
    (33, 768, 1, 64),
    (2, 3, 5, 0),
    (3, 64, 49, 0),
    (2, 17, 64, 0),
    (5, 7, 130, 0),
    (1, 1, 49, 0),
    (3, 65, 5, 7),
    (2, 33, 130, 1),
    (5, 255, 130, 0),
];

/// Whether the reference of a shape takes longer than that of all small ones.
const fn is_large(&(rows, cols, inner, _): &Shape) -> bool {
    rows * cols * inner > 65_536
}

/// The shapes on which every kind of value and every choice of options runs.
const SMALL: [Shape; 4] = [(5, 67, 1, 0), (16, 33, 1, 3), (3, 19, 5, 0), (2, 130, 7, 1)];

/// Offsets of gamma that the cases take in turns: Gemma's, one that cancels, one that is rounded. A kind of values has a number
/// of cases that is no multiple of 11, so that each case meets each offset with some kind.
const OFFSETS: [f32; 11] = [0.0, 0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.37, 0.0, 1.0];

/// Whether cases have a residual, which they take in turns too.
const RESIDUALS: [bool; 7] = [false, true, false, true, false, false, true];

/// Each op in each form.
pub const VARIANTS: [(Op, Std); 5] = [
    (Op::Dyt, Std::Biased),
    (Op::Derf, Std::Biased),
    (Op::LayerNorm, Std::Biased),
    (Op::LayerNorm, Std::Unbiased),
    (Op::RmsNorm, Std::Biased),
];

/// Every case: each op and storage with each shape (options and values drawn), with each kind of value, and with each
/// choice of gradients and statistics.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut list = List { cases: Vec::new(), random: Random::new(2025) };
    for (v, variant) in VARIANTS.into_iter().enumerate() {
        for (s, storage) in Storage::ALL.into_iter().enumerate() {
            list.kind(variant, storage, v + s);
        }
    }
    let quantised = quantised(&list.cases);
    list.cases.extend(quantised);
    list.cases
}

/// Every third case with a quantised y, each way in turns.
fn quantised(cases: &[Case]) -> Vec<Case> {
    let every = cases.iter().step_by(3).zip(Quantised::all().into_iter().cycle());
    every.map(|(case, way)| case.quantised(Some(way))).collect()
}

/// A twentieth of [`cases`], and small ones: every op and storage, forward and backward. For emulators.
#[must_use]
pub fn quick_cases() -> Vec<Case> {
    let mut seen = HashMap::new();
    let small = |case: &Case| case.problem.elements() <= 1000;
    let mut pick = |case: &Case| {
        let p = &case.problem;
        let kind = (p.op(), p.std(), p.storage());
        let count: &mut usize = seen.entry(kind).or_default();
        *count += 1;
        // The first of a kind asks for everything; the steps pass over every value and option.
        *count == 1 || *count % 17 == 5
    };
    cases().into_iter().filter(small).filter(|case| pick(case)).collect()
}

struct List {
    cases: Vec<Case>,
    random: Random,
}

impl List {
    /// Large shapes take most of the time: those of one parity run, which `number` has the other way for the next storage.
    fn kind(&mut self, variant: (Op, Std), storage: Storage, number: usize) {
        self.push(variant, storage, SMALL[0], |case| case);
        let large = SHAPES.into_iter().filter(is_large).skip(number % 2).step_by(2);
        for shape in SHAPES.into_iter().filter(|shape| !is_large(shape)).chain(large) {
            let values = [Values::Normal, Values::ALL[self.random.below(Values::ALL.len())]];
            let values = values[self.random.below(2)];
            let case = self.options();
            self.push(variant, storage, shape, |new| Case { values, ..case(new) });
        }
        for values in Values::ALL {
            for shape in SMALL {
                let case = self.options();
                let all = self.random.below(2) == 0;
                self.push(variant, storage, shape, |new| {
                    let case = case(new);
                    Case { values, gradients: if all { Gradients::All } else { case.gradients }, ..case }
                });
            }
        }
        for (i, gradients) in Gradients::ALL.into_iter().enumerate() {
            let case = self.options();
            let statistics = Statistics::ALL[i % Statistics::ALL.len()];
            let shape = SMALL[i % SMALL.len()];
            self.push(variant, storage, shape, |new| Case { gradients, statistics, ..case(new) });
        }
    }

    /// Options at random, each value of each often enough.
    fn options(&mut self) -> impl Fn(Case) -> Case + use<> {
        let random = &mut self.random;
        let gradients = Gradients::ALL[random.below(3) * random.below(2)];
        let statistics = Statistics::ALL[random.below(Statistics::ALL.len())];
        let (gamma, beta) = (random.below(4) > 0, random.below(4) > 0);
        let in_place = random.below(3) == 0;
        let seed = random.next_u64() >> 32;
        move |case| Case { gradients, statistics, gamma, beta, in_place, seed, ..case }
    }

    fn push(
        &mut self,
        (op, std): (Op, Std),
        storage: Storage,
        (rows, cols, inner, gap): Shape,
        with: impl Fn(Case) -> Case,
    ) {
        let arrangement = Arrangement::TURNS[self.cases.len() % Arrangement::TURNS.len()];
        let (cols, accumulate) =
            (if std == Std::Unbiased { cols.max(2) } else { cols }, self.random.below(3) == 0);
        let problem = Problem::new(op, arrangement.tokens(rows, inner), cols);
        let problem = problem.std(std).storage(storage).accumulate(accumulate);
        let problem = arrangement.of(problem, (rows, cols, inner, gap));
        let problem = if self.random.below(16) == 0 { problem.eps(0.1) } else { problem };
        let problem = problem.gamma_offset(OFFSETS[self.cases.len() % OFFSETS.len()]);
        let residual = RESIDUALS[self.cases.len() % RESIDUALS.len()];
        let with = |problem| with(Case::new(problem, Values::Normal).residual(residual));
        // An invalid one would be a mistake of the list, and must not just be missing from it.
        let valid = "every problem of the list is valid";
        let case = with(problem.build().expect(valid));
        // No eps may hide that squares underflow.
        let tiny = case.values == Values::TinyNormal && !op.is_pointwise();
        self.cases.push(if tiny { with(problem.eps(0.0).build().expect(valid)) } else { case });
    }
}

#[cfg(test)]
mod tests;
