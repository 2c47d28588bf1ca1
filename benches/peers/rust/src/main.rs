//! dyt beside candle, burn and rten. Each line of the input is a [`Group`] as JSON, each line of the output a measured
//! cell, after a first line with the name of our device. What the samples say is for `rust.py` to tell, which asks for
//! them.

mod cell;
mod check;
mod contenders;
mod measure;

use std::io::{BufRead, Write, stdin, stdout};

use cell::{Group, Inputs};

fn main() -> anyhow::Result<()> {
    let device = dyt::Device::open("cpu")?;
    println!("{}", serde_json::json!({ "device": device.name() }));
    let contenders = contenders::all(&device);
    // A peer says by a panic what it cannot do; the cell says it then, and the log need not.
    std::panic::set_hook(Box::new(|_| {}));
    for line in stdin().lock().lines() {
        let group: Group = serde_json::from_str(&line?)?;
        let inputs = Inputs::new(&group)?;
        let wanted = check::reference(&group, &inputs)?;
        for pass in &group.passes {
            let measured = measure::cell(&group, *pass, &contenders, &inputs, &wanted)?;
            let mut out = stdout().lock();
            serde_json::to_writer(&mut out, &measured)?;
            writeln!(out)?;
            out.flush()?;
        }
    }
    Ok(())
}
