//! Which threads large calls use. A binary with one test, because it counts the threads of the process.
#![cfg(all(feature = "rayon", not(miri)))]

mod common;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{Inputs, Random, Tensor, Wanted, backward, forward, problems};
use dyt::{DType, Device, Op, Problem, Result};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// Threads of this process, as Linux counts them.
fn threads() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had")
}

/// Whether a forward and a backward give the same bits as with one thread.
fn same(device: &Device, threads: usize, builder: &dyt::ProblemBuilder) -> Result<bool> {
    let problem = builder.build()?;
    let inputs = Inputs::new(&problem, 7);
    let call = |threads| {
        device.set_threads(threads);
        Ok::<_, dyt::Error>((forward(device, &problem, &inputs, 0)?, backward(device, &problem, &inputs)?))
    };
    let ((y, gradients), (again, once_more)) = (call(1)?, call(threads)?);
    Ok(y.bits() == again.bits() && gradients.same(&once_more, Wanted::all(&problem)))
}

#[test]
fn threads_are_the_callers_or_the_librarys() -> Result<()> {
    let device = Device::open("cpu")?;
    let before = threads();
    for problem in problems(600, 512) {
        assert!(same(&device, 1, &problem)?, "{problem:?}");
    }
    assert_eq!(threads(), before, "with one thread no pool is touched");

    let three = pool(3);
    let beside = threads();
    for problem in problems(600, 512) {
        assert!(three.install(|| same(&device.clone(), 0, &problem))?, "{problem:?}");
    }
    assert_eq!(threads(), beside, "within a pool the library needs no other");

    for problem in problems(600, 512) {
        assert!(same(&device, 0, &problem)?, "{problem:?}");
    }
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let own = beside.map(|beside| beside + processors - 1);
        assert_eq!(threads(), own, "the library's pool, and not rayon's global one as well");
    }
    for limit in [2, 3, 1000] {
        for problem in problems(600, 512) {
            assert!(same(&device, limit, &problem)?, "{limit} threads: {problem:?}");
            let inside = three.install(|| same(&device, limit, &problem))?;
            assert!(inside, "{limit} threads of a pool: {problem:?}");
        }
    }
    device.set_threads(0);
    a_lock_may_be_held_across_calls(&device)?;
    flushed_subnormals_are_flushed_on_every_thread(&device)
}

/// Tasks of a pool that each hold one lock during a call: the call must not begin another of them while it waits.
fn a_lock_may_be_held_across_calls(device: &Device) -> Result<()> {
    let problem = Problem::new(Op::Dyt, 600, 512).build()?;
    let inputs = Inputs::new(&problem, 1);
    let y = forward(device, &problem, &inputs, 0)?;
    let device = device.clone();
    let (done, ended) = channel::<()>();
    let work = std::thread::spawn(move || {
        for threads in [8, 16] {
            let lock = Mutex::new(());
            let call = |_| {
                let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                forward(&device, &problem, &inputs, 0).is_ok_and(|again| again.bits() == y.bits())
            };
            let rounds = || (0..100).all(|_| (0..16).into_par_iter().all(call));
            assert!(pool(threads).install(rounds), "{threads} threads found other bits");
        }
        drop(done);
    });
    let ended = ended.recv_timeout(Duration::from_secs(300));
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "a call waits for a lock of its own caller");
    work.join().expect("the threads found the same bits");
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn flushed_subnormals_are_flushed_on_every_thread(_device: &Device) -> Result<()> {
    Ok(())
}

/// The threads of a pool take over the modes of the calling thread.
#[cfg(target_arch = "x86_64")]
fn flushed_subnormals_are_flushed_on_every_thread(device: &Device) -> Result<()> {
    let mut flush_matters = false;
    for builder in problems(600, 512) {
        let problem = builder.eps(0.0).build()?;
        let mut inputs = Inputs::new(&problem, 3);
        let tiny: Vec<f32> =
            Random::new(3).values(problem.span()).iter().map(|value| value * 1e-39).collect();
        inputs.x = Tensor::new(DType::F32, &tiny, 0);
        (inputs.gamma, inputs.beta) = (None, None);
        let y = |threads| {
            device.set_threads(threads);
            forward(device, &problem, &inputs, 0)
        };
        let alone = flushed(|| y(1))?;
        flush_matters |= alone.bits() != y(1)?.bits();
        // Whether another thread takes a task of a single call is chance.
        for _ in 0..20 {
            assert!(flushed(|| y(0))?.bits() == alone.bits(), "{problem:?}");
        }
    }
    assert!(flush_matters);
    Ok(())
}

/// Runs `work` with subnormal numbers read and written as 0 (DAZ and FTZ).
#[cfg(target_arch = "x86_64")]
fn flushed<T>(work: impl FnOnce() -> T) -> T {
    use common::modes::{mxcsr, with_mxcsr};
    with_mxcsr(mxcsr() | 1 << 15 | 1 << 6, work).1
}
