//! What docs/process.md says of signals. A binary with one test: a thread that begins or ends blocks them all for a moment.
#![cfg(all(target_os = "linux", feature = "rayon", not(miri)))]

mod common;

use std::path::Path;
use std::time::Duration;
use std::{env, fs, io, thread};

use common::{Inputs, backward, devices, quick};
use dyt::{Op, Problem};

/// The signals that a thread blocks, and those that the process ignores or handles, as Linux shows them.
fn signals(thread: &Path) -> io::Result<Vec<String>> {
    let status = fs::read_to_string(thread.join("status"))?;
    let names = ["SigBlk:", "SigIgn:", "SigCgt:"];
    Ok(status
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .map(String::from)
        .collect())
}

/// Those of every thread of the process.
fn of_all_threads() -> io::Result<Vec<Vec<String>>> {
    fs::read_dir("/proc/self/task")?.map(|thread| signals(&thread?.path())).collect()
}

#[test]
fn a_call_leaves_the_signals_of_the_process_alone() -> io::Result<()> {
    // An emulator has a thread of its own, which blocks signals.
    if quick() {
        return Ok(());
    }
    let before = signals(Path::new("/proc/thread-self"))?;
    assert_eq!(before.len(), 3);
    let problem = Problem::new(Op::LayerNorm, 600, 512).build().map_err(io::Error::other)?;
    let inputs = Inputs::new(&problem, 3);
    for device in devices() {
        device.set_threads(3);
        backward(&device, &problem, &inputs).map_err(io::Error::other)?;
    }
    // Threads of the pool may not have got to run yet.
    let mut after = of_all_threads()?;
    for _ in 0..500 {
        if after.iter().all(|thread| *thread == before) {
            break;
        }
        thread::sleep(Duration::from_millis(10));
        after = of_all_threads()?;
    }
    let one = thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    let alone = one || env::var_os("RAYON_NUM_THREADS").is_some();
    assert!(after.len() > 2 || alone, "beside the main thread and that of the test there is one of the pool");
    assert!(after.iter().all(|thread| *thread == before), "{before:?} became {after:?}");
    Ok(())
}
