//! All contenders on one cell, interleaved.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use dyt_measure::interleave::{Budget, FEWEST, interleave};
use serde::Serialize;

use crate::cell::{Group, Inputs, Pass};
use crate::check::Wanted;
use crate::contenders::{Call, Contender};

/// Nanoseconds of a call, one value for each round.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pass: Pass,
    /// Of a copy of x.
    copy: Vec<f64>,
    contenders: BTreeMap<&'static str, Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    /// Why there are no samples.
    error: Option<String>,
    ns: Vec<f64>,
}

pub(crate) fn cell(
    group: &Group,
    pass: Pass,
    contenders: &[Box<dyn Contender>],
    inputs: &Inputs,
    wanted: &Wanted,
) -> anyhow::Result<Measured> {
    let (mut entries, mut names, mut calls) = (BTreeMap::new(), Vec::new(), Vec::new());
    for contender in contenders {
        let mut entry = Entry { error: None, ns: Vec::new() };
        match prepared(contender.as_ref(), group, pass, inputs, wanted) {
            Ok(call) => {
                names.push(contender.name());
                calls.push(call);
            }
            Err(error) => entry.error = Some(first_line(&error)),
        }
        entries.insert(contender.name(), entry);
    }
    let bytes = group.rows * group.cols * group.dtype()?.size();
    let (from, mut to) = (vec![1_u8; bytes], vec![2_u8; bytes]);
    let budget = Budget {
        batch: Duration::from_secs_f64(group.batch),
        least_rounds: FEWEST,
        most_rounds: group.rounds,
        total: Duration::from_secs_f64(group.total),
    };
    let time = |contender: usize, count: u32| -> anyhow::Result<Duration> {
        let begin = Instant::now();
        for _ in 0..count {
            match calls.get_mut(contender) {
                Some(call) => call.run()?,
                None => black_box(&mut to).copy_from_slice(black_box(&from)),
            }
        }
        Ok(begin.elapsed())
    };
    let samples = interleave(names.len() + 1, &budget, Duration::MAX, time)?
        .ok_or_else(|| anyhow::anyhow!("the time was without end, and yet too short"))?;
    for (index, name) in names.iter().enumerate() {
        if let Some(entry) = entries.get_mut(name) {
            entry.ns = samples.of(index).to_vec();
        }
    }
    Ok(Measured { pass, copy: samples.of(names.len()).to_vec(), contenders: entries })
}

/// A call that has been run twice and gives what it should.
fn prepared(
    contender: &dyn Contender,
    group: &Group,
    pass: Pass,
    inputs: &Inputs,
    wanted: &Wanted,
) -> anyhow::Result<Box<dyn Call>> {
    let attempt = || -> anyhow::Result<Box<dyn Call>> {
        let mut call = contender.prepare(group, pass, inputs)?;
        call.run()?;
        call.run()?;
        match wanted.difference(pass, group.close, &call.results()?) {
            None => Ok(call),
            Some(wrong) => anyhow::bail!("not timed: {wrong}"),
        }
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow::anyhow!("panic: {}", said.unwrap_or("of no words")))
    })
}

fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(160).collect()
}
