//! Random problems, shrunk where they fail: the bounds of the table, and the contract of `docs/numerics.md`.
//! `DYT_TEST_QUICK` makes them fewer, `PROPTEST_CASES` sets how many, and `PROPTEST_RNG_SEED` which.

use dyt::half::{bf16, f16};
use dyt::{DType, Device, Op, Problem, Std, Storage};
use dyt_conformance::{Arrangement, Case, Prepared, Statistics, Turns, VARIANTS, Values, devices_under_test};
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq, prop_oneof};

use crate::common::{Gradients, Inputs, Tensor, Wanted, forward, quick};

type Outcome = Result<(), TestCaseError>;

/// Runs the test on values of the strategy, and fails with the smallest that it finds.
#[track_caller]
fn check<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Outcome) {
    // What is printed is the whole input, so that no seed has to be kept.
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = if quick() { 24 } else { 256 };
    }
    let outcome = TestRunner::new(config).run(strategy, test);
    assert!(outcome.is_ok(), "{}", outcome.map_or_else(|error| error.to_string(), |()| String::new()));
}

/// The devices that run a problem: of the software drivers one.
fn in_turns(devices: &[Device], problem: Problem, aligned: bool) -> impl Iterator<Item = &Device> {
    let turns = Turns::among(devices);
    devices.iter().filter(move |device| turns.takes(&device.name(), &problem, aligned))
}

/// At most this many elements in a row, so that many cases run in little time.
const ROW: usize = 4096;

/// cols, inner, and the gap behind each row.
fn row() -> impl Strategy<Value = (usize, usize, usize)> {
    let cols = prop_oneof![4 => 1..=20_usize, 3 => 1..=130_usize, 1 => 1..=1100_usize];
    let inner = prop_oneof![3 => Just(1_usize), 1 => 2..=9_usize, 1 => 10..=140_usize];
    let gap = prop_oneof![2 => Just(0_usize), 1 => 1..=20_usize];
    (cols, inner, gap).prop_map(|(cols, inner, gap)| (cols, inner.min(ROW / cols), gap))
}

/// The default of the op, or any that a model may have.
fn usual_eps() -> impl Strategy<Value = Option<f32>> {
    prop_oneof![Just(None), (-12.0..1.0_f32).prop_map(|exponent| Some(10.0_f32.powf(exponent)))]
}

/// Problems of the variants, of at least `rows` rows, equally far apart, with parameters for all of them.
fn problem(
    variants: &[(Op, Std)],
    rows: usize,
    eps: impl Strategy<Value = Option<f32>>,
) -> impl Strategy<Value = Problem> {
    arranged_problem(variants, rows, eps, Just(Arrangement::PLAIN))
}

/// Heads, strides of y, parameters that change with the row: each in half of the problems.
fn arrangement() -> impl Strategy<Value = Arrangement> {
    let heads = prop_oneof![1 => Just(1_usize), 1 => 2..=9_usize];
    let gaps = prop_oneof![1 => Just(None), 1 => (0..=20_usize, 0..=9_usize).prop_map(Some)];
    (heads, 0..=20_usize, 0..=9_usize, gaps).prop_map(|(heads, head_gap, param_rows, y_gaps)| Arrangement {
        heads,
        head_gap,
        param_rows,
        y_gaps,
    })
}

/// Problems of the variants, of at least `rows` rows.
fn arranged_problem(
    variants: &[(Op, Std)],
    rows: usize,
    eps: impl Strategy<Value = Option<f32>>,
    arrangement: impl Strategy<Value = Arrangement>,
) -> impl Strategy<Value = Problem> {
    let kind = (select(variants.to_vec()), select(Storage::ALL.to_vec()));
    let offset = prop_oneof![2 => Just(0.0_f32), 1 => Just(1.0), 1 => -2.0..2.0_f32];
    (kind, rows..=9, row(), (eps, offset), any::<bool>(), arrangement).prop_map(
        |(((op, std), storage), rows, (cols, inner, gap), (eps, offset), accumulate, arrangement)| {
            // One column has no unbiased deviation.
            let cols = if std == Std::Unbiased { cols.max(2) } else { cols };
            let builder = Problem::new(op, arrangement.tokens(rows, inner), cols).std(std).storage(storage);
            let builder = arrangement.of(builder, (rows, cols, inner, gap));
            let builder = builder.accumulate(accumulate).gamma_offset(offset);
            let builder = eps.map_or(builder, |eps| builder.eps(eps));
            builder.build().expect("every choice is valid")
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let choices = (
        select(Values::ALL.to_vec()),
        select(dyt_conformance::Gradients::ALL.to_vec()),
        select(Statistics::ALL.to_vec()),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        any::<u32>(),
    );
    (arranged_problem(&VARIANTS, 0, usual_eps(), arrangement()), choices).prop_map(
        |(problem, (values, gradients, statistics, (gamma, beta, in_place), seed))| {
            let case = Case::new(problem, values).gradients(gradients).statistics(statistics);
            case.gamma(gamma).beta(beta).in_place(in_place).seed(seed.into())
        },
    )
}

/// A problem with ordinary values, and numbers that choose elements.
#[derive(Clone, Copy, Debug)]
struct Setting {
    problem: Problem,
    gamma: bool,
    beta: bool,
    seed: u64,
    pick: usize,
}

impl Setting {
    fn any(variants: &[(Op, Std)], eps: impl Strategy<Value = Option<f32>>) -> impl Strategy<Value = Self> {
        let rest = (any::<bool>(), any::<bool>(), any::<u32>(), any::<u16>());
        (problem(variants, 1, eps), rest).prop_map(|(problem, (gamma, beta, seed, pick))| Self {
            problem,
            gamma,
            beta,
            seed: seed.into(),
            pick: pick.into(),
        })
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.problem, self.seed);
        inputs.gamma = inputs.gamma.filter(|_| self.gamma);
        inputs.beta = inputs.beta.filter(|_| self.beta);
        inputs
    }

    /// Which row of statistics is chosen, and which column.
    fn picked(&self) -> (usize, usize) {
        let at = self.pick % self.problem.elements();
        (at / self.problem.cols(), at % self.problem.cols())
    }
}

/// Every gradient; without gamma there is no dgamma.
fn backward(device: &Device, problem: &Problem, inputs: &Inputs) -> dyt::Result<Gradients> {
    let wanted = Wanted { dgamma: inputs.gamma.is_some(), ..Wanted::all(problem) };
    Gradients::new(problem, 0).run(device, problem, inputs, wanted, false)
}

/// The places of the elements that share statistics.
fn places(problem: &Problem, statistic: usize) -> Vec<usize> {
    dyt::reference::row(problem, statistic).collect()
}

/// One element of a tensor, widened.
fn value(dtype: DType, tensor: &Tensor, at: usize) -> f32 {
    match (dtype, tensor.bits_of(at, 1)) {
        (DType::F32, &[a, b, c, d]) => f32::from_ne_bytes([a, b, c, d]),
        (DType::F16, &[a, b]) => f16::from_ne_bytes([a, b]).to_f32(),
        (DType::Bf16, &[a, b]) => bf16::from_ne_bytes([a, b]).to_f32(),
        (_, bytes) => unreachable!("an element of {dtype} has {} bytes", bytes.len()),
    }
}

/// A value as the type stores it.
fn stored(dtype: DType, wide: f32) -> f32 {
    value(dtype, &Tensor::new(dtype, &[wide], 0), 0)
}

/// Overwrites one element; the value is rounded to the type.
fn put(dtype: DType, tensor: &mut Tensor, at: usize, value: f32) {
    tensor.set(at, Tensor::new(dtype, &[value], 0).bits());
}

/// Fails unless just these elements are NaN.
fn nan_just_at(device: &Device, what: &str, dtype: DType, tensor: &Tensor, expected: &[usize]) -> Outcome {
    let found: Vec<usize> = (0..tensor.len()).filter(|&at| value(dtype, tensor, at).is_nan()).collect();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    prop_assert_eq!(found, expected, "{}: NaN in {}", device.name(), what);
    Ok(())
}

#[test]
fn random_cases_meet_the_bounds() {
    let devices = devices_under_test();
    check(&case(), |case| {
        let prepared = Prepared::new(&case)?;
        for device in in_turns(&devices, case.problem, case.is_aligned()) {
            prepared.run(device)?;
        }
        Ok(())
    });
}

#[test]
fn nan_stays_in_its_element_or_row() {
    let devices = devices_under_test();
    check(&Setting::any(&VARIANTS, usual_eps()), |setting| {
        let (problem, (row, column)) = (setting.problem, setting.picked());
        let (dtype, columns) = (problem.dtype(), (0..problem.cols()).collect::<Vec<_>>());
        let all = places(&problem, row);
        let at = all[column];
        let (reached, of_gamma) =
            if problem.op().is_pointwise() { (vec![at], vec![column]) } else { (all, columns) };
        // Without gamma, dgamma is left as it is.
        let gamma = |reached: &[usize]| if setting.gamma { reached.to_vec() } else { Vec::new() };
        let (mut in_x, mut in_dy) = (setting.inputs(), setting.inputs());
        put(dtype, &mut in_x.x, at, f32::NAN);
        put(dtype, &mut in_dy.dy, at, f32::NAN);
        for device in in_turns(&devices, problem, true) {
            nan_just_at(device, "y", dtype, &forward(device, &problem, &in_x, 0)?, &reached)?;
            let of_x = backward(device, &problem, &in_x)?;
            nan_just_at(device, "dx by x", dtype, &of_x.dx, &reached)?;
            nan_just_at(device, "dgamma by x", DType::F32, &of_x.dgamma, &gamma(&of_gamma))?;
            nan_just_at(device, "dbeta by x", DType::F32, &of_x.dbeta, &[])?;
            let of_dy = backward(device, &problem, &in_dy)?;
            nan_just_at(device, "dx by dy", dtype, &of_dy.dx, &reached)?;
            nan_just_at(device, "dgamma by dy", DType::F32, &of_dy.dgamma, &gamma(&[column]))?;
            nan_just_at(device, "dbeta by dy", DType::F32, &of_dy.dbeta, &[column])?;
        }
        Ok(())
    });
}

/// The inputs of one row, the tensors a few elements behind a cache line's begin.
fn alone(problem: &Problem, inputs: &Inputs, row: usize) -> Inputs {
    let part = |tensor: &Tensor| tensor.part(row * problem.row_stride(), problem.row_len(), row % 5);
    Inputs { x: part(&inputs.x), dy: part(&inputs.dy), ..inputs.moved([0; 4]) }
}

#[test]
fn a_row_alone_gives_what_it_gives_in_the_batch() {
    let devices = devices_under_test();
    check(&Setting::any(&VARIANTS, usual_eps()), |setting| {
        let (problem, inputs) = (setting.problem, setting.inputs());
        let builder = Problem::new(problem.op(), 1, problem.cols()).std(problem.std()).inner(problem.inner());
        let builder = builder.storage(problem.storage()).gamma_offset(problem.gamma_offset());
        let one = builder.eps(problem.eps()).build()?;
        for device in in_turns(&devices, problem, true) {
            let (y, dx) = (forward(device, &problem, &inputs, 0)?, backward(device, &problem, &inputs)?.dx);
            for row in 0..problem.rows() {
                let of =
                    |tensor: &Tensor| tensor.bits_of(row * problem.row_stride(), problem.row_len()).to_vec();
                let inputs = alone(&problem, &inputs, row);
                let same = forward(device, &one, &inputs, row % 3)?.bits() == of(&y);
                prop_assert!(same, "{}: y of row {row}", device.name());
                let same = backward(device, &one, &inputs)?.dx.bits() == of(&dx);
                prop_assert!(same, "{}: dx of row {row}", device.name());
            }
        }
        Ok(())
    });
}

#[test]
fn equal_values_through_layer_norm_give_beta() {
    let devices = devices_under_test();
    let variants = [(Op::LayerNorm, Std::Biased), (Op::LayerNorm, Std::Unbiased)];
    // From where 1/eps is finite to where eps is larger than any deviation.
    let eps = (-38.5..38.5_f32).prop_map(|exponent| Some(10.0_f32.powf(exponent)));
    let values = (-1.0..1.0_f32, -20..16_i32).prop_map(|(digits, exponent)| digits * 10.0_f32.powi(exponent));
    check(&(Setting::any(&variants, eps), values), |(setting, x)| {
        let (problem, mut inputs) = (setting.problem, setting.inputs());
        let (dtype, (row, _)) = (problem.dtype(), setting.picked());
        let places = places(&problem, row);
        let largest = if dtype == DType::F16 { f16::MAX.to_f32() } else { f32::MAX };
        for &at in &places {
            put(dtype, &mut inputs.x, at, x.clamp(-largest, largest));
        }
        for device in in_turns(&devices, problem, true) {
            let y = forward(device, &problem, &inputs, 0)?;
            for (column, &at) in places.iter().enumerate() {
                let beta = parameter(&problem, inputs.beta.as_ref(), column, 0.0);
                let (got, expected) = (value(dtype, &y, at), stored(dtype, beta));
                prop_assert_eq!(got, expected, "{}: column {}", device.name(), column);
            }
        }
        Ok(())
    });
}

/// An element of gamma or beta, or what stands for it.
fn parameter(problem: &Problem, columns: Option<&Tensor>, column: usize, absent: f32) -> f32 {
    columns.map_or(absent, |columns| value(problem.param_dtype(), columns, column))
}

#[test]
fn infinities_through_the_pointwise_ops_give_gamma_and_beta() {
    let devices = devices_under_test();
    let variants = VARIANTS.into_iter().filter(|(op, _)| op.is_pointwise()).collect::<Vec<_>>();
    let alpha = (any::<bool>(), -30.0..30.0_f32).prop_map(|(negative, exponent)| {
        let size = 10.0_f32.powf(exponent);
        if negative { -size } else { size }
    });
    check(&(Setting::any(&variants, Just(None)), alpha, any::<bool>()), |(setting, alpha, negative)| {
        let (problem, mut inputs) = (setting.problem, setting.inputs());
        inputs.alpha = alpha;
        let (dtype, (row, column)) = (problem.dtype(), setting.picked());
        let at = places(&problem, row)[column];
        let infinity = if negative { f32::NEG_INFINITY } else { f32::INFINITY };
        let f = infinity.signum() * alpha.signum();
        let offset = if inputs.gamma.is_some() { problem.gamma_offset() } else { 0.0 };
        let gamma = parameter(&problem, inputs.gamma.as_ref(), column, 1.0) + offset;
        let beta = parameter(&problem, inputs.beta.as_ref(), column, 0.0);
        let expected = stored(dtype, f * gamma + beta);
        for device in in_turns(&devices, problem, true) {
            let mut without = forward(device, &problem, &inputs, 0)?;
            let mut spoilt = Inputs { x: inputs.x.moved(0), ..inputs.moved([0; 4]) };
            put(dtype, &mut spoilt.x, at, infinity);
            let y = forward(device, &problem, &spoilt, 0)?;
            prop_assert_eq!(value(dtype, &y, at), expected, "{}", device.name());
            put(dtype, &mut without, at, value(dtype, &y, at));
            prop_assert!(without.bits() == y.bits(), "{}: other elements changed", device.name());
            let dx = backward(device, &problem, &spoilt)?.dx;
            prop_assert_eq!(value(dtype, &dx, at), 0.0, "{}: dx", device.name());
        }
        Ok(())
    });
}

#[test]
fn gradients_do_not_depend_on_which_are_asked_for() {
    let devices = devices_under_test();
    let wanted = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    check(&(Setting::any(&VARIANTS, usual_eps()), wanted), |(setting, wanted)| {
        let (problem, inputs) = (setting.problem, setting.inputs());
        let (dx, dalpha, dshift, dgamma, dbeta) = wanted;
        let all = Wanted::all(&problem);
        let (dalpha, dshift, dgamma) = (dalpha && all.dalpha, dshift && all.dshift, dgamma && setting.gamma);
        let wanted = Wanted { dx, dalpha, dshift, dgamma, dbeta };
        let rest = Wanted { dx: !dx, dalpha: !dalpha, dshift: !dshift, dgamma: !dgamma, dbeta: !dbeta };
        for device in in_turns(&devices, problem, true) {
            let expected = backward(device, &problem, &inputs)?;
            let held = || Gradients::new(&problem, 0);
            let got = held().run(device, &problem, &inputs, wanted, false)?;
            prop_assert!(expected.same(&got, wanted), "{}", device.name());
            prop_assert!(held().same(&got, rest), "{}: another one was written", device.name());
        }
        Ok(())
    });
}
