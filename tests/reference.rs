//! The f64 reference against finite differences, and against values computed with more digits than f64 has.

mod common;

use common::Random;
use dyt::reference::{self, Inputs};
use dyt::{Op, Problem, ProblemBuilder, Result, Std};

/// A step at which both the error of the five-point rule, of fourth order, and that of rounding are small.
const STEP: f64 = 1e-3;
/// Of a gradient, relative to the largest sum of terms here; the five-point rule leaves some 1e-11.
const TOLERANCE: f64 = 2e-9;

/// A problem with its inputs in f64. The loss is Σ weight·y, so that dy is the weight.
#[derive(Clone)]
struct Setup {
    problem: Problem,
    x: Vec<f64>,
    weight: Vec<f64>,
    alpha: f64,
    shift: f64,
    gamma: Option<Vec<f64>>,
    beta: Option<Vec<f64>>,
}

impl Setup {
    fn new(problem: Problem, gamma: bool, beta: bool) -> Self {
        let mut random = Random::new(problem.span() as u64);
        let mut values =
            |n: usize| -> Vec<f64> { (0..n).map(|_| 1.5 * f64::from(random.uniform())).collect() };
        Self {
            x: values(problem.span()),
            weight: values(problem.span()),
            alpha: 0.8,
            shift: -0.3,
            gamma: gamma.then(|| values(problem.cols())),
            beta: beta.then(|| values(problem.cols())),
            problem,
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            alpha: self.alpha,
            shift: self.shift,
            gamma: self.gamma.as_deref(),
            beta: self.beta.as_deref(),
            ..Inputs::new(&self.x)
        }
    }

    fn loss(&self) -> Result<f64> {
        let y = reference::forward(&self.problem, &self.inputs())?.y;
        Ok(reference::places(&self.problem).map(|place| self.weight[place.y] * y[place.y]).sum())
    }

    /// dLoss/d(what `at` names), by the five-point rule.
    fn slope(&self, at: impl Fn(&mut Self) -> &mut f64) -> Result<f64> {
        let loss = |step: f64| {
            let mut moved = self.clone();
            *at(&mut moved) += step;
            moved.loss()
        };
        let near = loss(STEP)? - loss(-STEP)?;
        let far = loss(2.0 * STEP)? - loss(-2.0 * STEP)?;
        Ok((8.0 * near - far) / (12.0 * STEP))
    }

    fn close(&self, name: &str, got: f64, expected: f64) {
        let bound = TOLERANCE * (1.0 + expected.abs());
        assert!((got - expected).abs() <= bound, "{:?} {name}: {got} and {expected}", self.problem);
    }

    fn check(&self) -> Result<()> {
        let gradients = reference::backward(&self.problem, &self.inputs(), &self.weight)?;
        for at in 0..self.problem.span() {
            self.close(&format!("dx[{at}]"), gradients.dx[at], self.slope(|s| &mut s.x[at])?);
        }
        self.close("dalpha", gradients.dalpha, self.slope(|s| &mut s.alpha)?);
        self.close("dshift", gradients.dshift, self.slope(|s| &mut s.shift)?);
        for c in 0..self.problem.cols() {
            // dbeta and dgamma are also given where the parameters are absent: they are then 0 and 1.
            let mut with = self.clone();
            with.gamma.get_or_insert_with(|| vec![1.0; self.problem.cols()]);
            with.beta.get_or_insert_with(|| vec![0.0; self.problem.cols()]);
            let gamma = with.slope(|s| &mut s.gamma.as_mut().expect("it was inserted")[c])?;
            let beta = with.slope(|s| &mut s.beta.as_mut().expect("it was inserted")[c])?;
            self.close(&format!("dgamma[{c}]"), gradients.dgamma[c], gamma);
            self.close(&format!("dbeta[{c}]"), gradients.dbeta[c], beta);
        }
        Ok(())
    }
}

fn check(builder: ProblemBuilder) -> Result<()> {
    for (gamma, beta) in [(false, false), (true, false), (false, true), (true, true)] {
        Setup::new(builder.build()?, gamma, beta).check()?;
    }
    Ok(())
}

#[test]
fn gradients_are_finite_differences() -> Result<()> {
    for builder in common::problems(3, 5).into_iter().chain(common::problems(2, 2)) {
        for eps in [0.0, 1e-5, 0.25] {
            check(builder.eps(eps))?;
        }
        check(builder.row_stride(7))?;
    }
    Ok(())
}

/// What an offset changes is the factor, and only where there is a gamma: the sums are exact in f32 here.
#[test]
fn an_offset_is_part_of_the_factor_and_not_of_its_gradient() -> Result<()> {
    let (gamma, sums) = ([-0.5, 0.25, 1.5, -1.0], [0.5, 1.25, 2.5, 0.0]);
    for builder in common::problems(3, 4) {
        let plain = builder.build()?;
        let shifted = builder.gamma_offset(1.0).build()?;
        let setup = Setup::new(plain, false, true);
        let [before, after] =
            [(plain, Some(&sums[..])), (shifted, Some(&gamma[..]))].map(|(problem, gamma)| {
                let inputs = Inputs { gamma, ..setup.inputs() };
                Ok((
                    reference::forward(&problem, &inputs)?,
                    reference::backward(&problem, &inputs, &setup.weight)?,
                ))
            });
        assert_eq!(before?, after?);
        assert_eq!(
            reference::forward(&plain, &setup.inputs())?,
            reference::forward(&shifted, &setup.inputs())?,
            "an absent gamma stays 1"
        );
    }
    Ok(())
}

#[test]
fn gradients_are_finite_differences_channels_first() -> Result<()> {
    for builder in common::problems(2, 4) {
        check(builder.inner(3))?;
        check(builder.inner(2).row_stride(11).eps(0.25))?;
    }
    Ok(())
}

#[test]
fn a_single_column_has_no_gradient_through_layer_norm() -> Result<()> {
    for op in Op::ALL {
        check(Problem::new(op, 3, 1).eps(0.25))?;
    }
    Ok(())
}

#[test]
fn an_absent_parameter_is_the_neutral_one() -> Result<()> {
    for builder in common::problems(3, 5) {
        let without = Setup::new(builder.build()?, false, false);
        let mut with = without.clone();
        with.gamma = Some(vec![1.0; 5]);
        with.beta = Some(vec![0.0; 5]);
        assert_eq!(without.loss()?, with.loss()?);
        let gradients = |s: &Setup| reference::backward(&s.problem, &s.inputs(), &s.weight);
        assert_eq!(gradients(&without)?, gradients(&with)?);
    }
    Ok(())
}

#[test]
fn equal_rows_give_beta() -> Result<()> {
    for builder in common::problems(2, 5) {
        let mut setup = Setup::new(builder.build()?, true, true);
        setup.x.fill(0.75);
        if setup.problem.op() == Op::LayerNorm {
            let y = reference::forward(&setup.problem, &setup.inputs())?.y;
            assert_eq!(Some(&y[5..]), setup.beta.as_deref());
            let dx = reference::backward(&setup.problem, &setup.inputs(), &setup.weight)?.dx;
            assert!(dx.iter().all(|dx| dx.is_finite()), "{dx:?}");
        }
    }
    Ok(())
}

/// `got` is `expected` to `ulps` units of the last place of f64.
#[track_caller]
fn same(name: &str, got: f64, expected: f64, ulps: f64) {
    let bound = ulps * f64::EPSILON * expected.abs();
    assert!((got - expected).abs() <= bound, "{name}: {got:e}, expected {expected:e}");
}

/// u, tanh u, sech² u, erf u, 2/√π·exp(−u²) rounded to f64 from 50 digits of mpmath: `tanh(u)`, `sech(u)**2`, `erf(u)`,
/// `2/sqrt(pi)*exp(-u*u)`.
const CURVES: [(f64, f64, f64, f64, f64); 9] = [
    (0.0009765625, 0.0009765621895592603, 0.9999990463262899, 0.0011019324300718147, 1.128378090989795),
    (0.25, 0.24491866240370913, 0.940014848806378, 0.27632639016823696, 1.0600141293761143),
    (-0.5, -0.46211715726000974, 0.7864477329659274, -0.5204998778130465, 0.8787825789354448),
    (1.0, 0.7615941559557649, 0.4199743416140261, 0.8427007929497149, 0.4151074974205947),
    (-1.5, -0.9051482536448664, 0.18070663892364852, -0.9661051464753108, 0.11893028922362937),
    (3.0, 0.9950547536867305, 0.00986603716544019, 0.9999779095030014, 0.00013925305194674786),
    (6.5, 0.9999954793514042, 9.04127675535057e-06, 1.0, 5.052580003062652e-19),
    (-9.0, -0.999999969540041, 6.091991712323229e-08, -1.0, 7.492073428245974e-36),
    (20.0, 1.0, 1.6993417021166355e-17, 1.0, 2.1610374743867984e-174),
];

#[test]
fn curves_by_many_digits() -> Result<()> {
    for (u, tanh, tanh_slope, erf, erf_slope) in CURVES {
        for (op, f, slope) in [(Op::Dyt, tanh, tanh_slope), (Op::Derf, erf, erf_slope)] {
            let problem = Problem::new(op, 1, 1).build()?;
            // u = 0.5·x, or 0.5·x + 0.25 with a shift.
            let shift = if op.has_shift() { 0.25 } else { 0.0 };
            let x = [2.0 * (u - shift)];
            let inputs = Inputs { alpha: 0.5, shift, ..Inputs::new(&x) };
            let backward = reference::backward(&problem, &inputs, &[4.0])?;
            same(&format!("{op}({u})"), reference::forward(&problem, &inputs)?.y[0], f, 2.0);
            // exp(−u²) with u² rounded once is off by u² units at most.
            let ulps = 4.0 + u * u;
            same(&format!("{op}'({u})"), backward.slope[0], slope, ulps);
            same(&format!("{op} dx({u})"), backward.dx[0], 2.0 * slope, ulps);
            same(&format!("{op} dgamma({u})"), backward.dgamma[0], 4.0 * f, 2.0);
        }
    }
    Ok(())
}

const X: [f64; 5] = [1.0, 2.0, 4.0, -3.5, 0.5];
const DY: [f64; 5] = [0.5, -1.0, 2.0, 0.25, -0.75];
const GAMMA: [f64; 5] = [1.5, -0.5, 2.0, 1.0, 0.25];
const BETA: [f64; 5] = [0.125, 0.0, -1.0, 3.0, 0.5];

/// What a norm makes of the row above with eps = 0.125: by mpmath with 50 digits from the formulas of the forward, dx
/// by central differences of Σ dy·y with a step of 1e-25 in 80 digits.
struct Known {
    op: Op,
    std: Std,
    mean: f64,
    rstd: f64,
    y: [f64; 5],
    dx: [f64; 5],
    dgamma: [f64; 5],
}

const NORMS: [Known; 3] = [
    Known {
        op: Op::LayerNorm,
        std: Std::Biased,
        mean: 0.8,
        rstd: 0.4020963658996245,
        y: [
            0.24562890976988735,
            -0.2412578195397747,
            1.5734167417575968,
            1.2709856266316146,
            0.46984277255752815,
        ],
        dx: [
            -0.15824214803921663,
            -0.42170140799204253,
            0.6597655357008037,
            0.3739179271616102,
            -0.4537399068311547,
        ],
        dgamma: [
            0.040209636589962454,
            -0.4825156390795494,
            2.573416741757597,
            -0.43225359334209634,
            0.09047168232741552,
        ],
    },
    Known {
        op: Op::LayerNorm,
        std: Std::Unbiased,
        mean: 0.8,
        rstd: 0.34755145615934874,
        y: [
            0.22926543684780462,
            -0.20853087369560924,
            1.224329319419832,
            1.5055287385148004,
            0.47393364078804884,
        ],
        dx: [
            -0.13610847571484183,
            -0.3604895680799058,
            0.5809540718273614,
            0.3088353236690041,
            -0.3931913517016179,
        ],
        dgamma: [
            0.034755145615934874,
            -0.4170617473912185,
            2.224329319419832,
            -0.3736178153712999,
            0.07819907763585347,
        ],
    },
    Known {
        op: Op::RmsNorm,
        std: Std::Biased,
        mean: 0.0,
        rstd: 0.3827795011754764,
        y: [
            0.6991692517632145,
            -0.3827795011754764,
            2.062236009403811,
            1.6602717458858327,
            0.5478474376469346,
        ],
        dx: [
            0.09884965140245819,
            -0.18508019837056,
            0.7781781067853091,
            0.754517285970891,
            -0.16588864370997636,
        ],
        dgamma: [
            0.1913897505877382,
            -0.7655590023509528,
            3.062236009403811,
            -0.3349320635285418,
            -0.14354231294080363,
        ],
    },
];

#[test]
fn norms_by_many_digits() -> Result<()> {
    for known in NORMS {
        let problem = Problem::new(known.op, 1, 5).std(known.std).eps(0.125).build()?;
        let inputs = Inputs { gamma: Some(&GAMMA), beta: Some(&BETA), ..Inputs::new(&X) };
        let forward = reference::forward(&problem, &inputs)?;
        let backward = reference::backward(&problem, &inputs, &DY)?;
        same("mean", forward.mean[0], known.mean, 2.0);
        same("rstd", forward.rstd[0], known.rstd, 4.0);
        assert_eq!(backward.dbeta, DY);
        for c in 0..5 {
            same(&format!("{problem:?} y[{c}]"), forward.y[c], known.y[c], 16.0);
            same(&format!("{problem:?} dx[{c}]"), backward.dx[c], known.dx[c], 16.0);
            same(&format!("{problem:?} dgamma[{c}]"), backward.dgamma[c], known.dgamma[c], 16.0);
        }
    }
    Ok(())
}

#[test]
fn wrong_lengths_are_refused() -> Result<()> {
    use dyt::{Argument, Error};
    let problem = Problem::new(Op::Dyt, 2, 3).row_stride(4).build()?;
    let (x, short) = ([0.5; 8], [0.5; 2]);
    let wrong = |argument, expected, actual| Err(Error::WrongLength { argument, expected, actual });
    let forward =
        |x: &[f64], gamma, beta| reference::forward(&problem, &Inputs { gamma, beta, ..Inputs::new(x) });
    assert_eq!(forward(&x[..6], None, None), wrong(Argument::X, 7, 6));
    assert_eq!(forward(&[0.5; 9], None, None), wrong(Argument::X, 7, 9));
    assert_eq!(forward(&x, Some(&short), None), wrong(Argument::Gamma, 3, 2));
    assert_eq!(forward(&x, None, Some(&short)), wrong(Argument::Beta, 3, 2));
    let inputs = Inputs::new(&x);
    assert!(matches!(
        reference::backward(&problem, &inputs, &short),
        Err(Error::WrongLength { argument: Argument::Dy, expected: 7, actual: 2 })
    ));
    Ok(())
}
