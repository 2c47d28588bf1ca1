//! Whether a contender computes the same function. The conformance tests are what bounds errors of ours.

use std::collections::BTreeMap;

use dyt::{Op, reference};

use crate::cell::{Group, Inputs, Pass, Results};

/// Elements that the reference takes at a time: it keeps several intermediates of eight bytes for each.
const CHUNK: usize = 1 << 20;
/// dalpha and dshift cancel over all elements, so that their own size says little about rounding.
const OF_SCALARS: f64 = 20.0;

/// The results in f64, y and dx rounded to f32.
#[derive(Debug, Default)]
pub(crate) struct Wanted(BTreeMap<&'static str, Vec<f64>>);

/// y and every gradient, a part of the rows at a time.
pub(crate) fn reference(group: &Group, inputs: &Inputs) -> anyhow::Result<Wanted> {
    let (op, gamma, beta) = (group.op()?, wide(&inputs.gamma), wide(&inputs.beta));
    let mut wanted = Wanted::default();
    let step = (CHUNK / group.cols).max(1) * group.cols;
    for (x, dy) in inputs.x.chunks(step).zip(inputs.dy.chunks(step)) {
        let (x, dy) = (wide(x), wide(dy));
        let part = reference::Inputs {
            alpha: group.alpha.into(),
            shift: group.shift.into(),
            gamma: Some(&gamma),
            beta: (op != Op::RmsNorm).then_some(&*beta),
            ..reference::Inputs::new(&x)
        };
        let problem = group.problem(x.len() / group.cols)?;
        let backward = reference::backward(&problem, &part, &dy)?;
        wanted.append("y", reference::forward(&problem, &part)?.y);
        wanted.append("dx", backward.dx);
        wanted.add("dgamma", &backward.dgamma);
        if op != Op::RmsNorm {
            wanted.add("dbeta", &backward.dbeta);
        }
        if op.is_pointwise() {
            wanted.add("dalpha", &[backward.dalpha]);
        }
        if op.has_shift() {
            wanted.add("dshift", &[backward.dshift]);
        }
    }
    Ok(wanted)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

impl Wanted {
    fn append(&mut self, name: &'static str, part: Vec<f64>) {
        self.0.entry(name).or_default().extend(part);
    }

    fn add(&mut self, name: &'static str, part: &[f64]) {
        let sum = self.0.entry(name).or_insert_with(|| vec![0.0; part.len()]);
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }

    /// Nothing, or in words what is not the same function. NaN is never close.
    pub(crate) fn difference(&self, pass: Pass, close: f64, found: &Results) -> Option<String> {
        let asked = |name: &str| match pass {
            Pass::Forward => name == "y",
            Pass::Backward => name != "y",
            Pass::Both => true,
        };
        self.0.iter().filter(|(name, _)| asked(name)).find_map(|(name, wanted)| {
            let Some(found) = found.get(name) else { return Some(format!("no {name}")) };
            if found.len() != wanted.len() {
                return Some(format!("{name} has {} elements", found.len()));
            }
            let error = found.iter().zip(wanted).map(|(found, wanted)| (f64::from(*found) - wanted).powi(2));
            let off = (error.sum::<f64>() / wanted.iter().map(|v| v * v).sum::<f64>()).sqrt();
            let bound = if wanted.len() == 1 { OF_SCALARS * close } else { close };
            // Not `off > bound`, which is false of NaN.
            (!matches!(off.partial_cmp(&bound), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)))
                .then(|| format!("{name} is off by {off:.1e}"))
        })
    }
}
