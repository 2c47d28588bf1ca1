//! The grid of `dyt bench` under criterion, to compare a change with what was there before it.
//!
//! Each group is one pass, shape, dtype and number of threads; in it stand the ops and the copies that move the same
//! bytes. The device is that of `Device::auto`, so that `DYT_BACKEND` and `DYT_CPU_LEVEL` name another. Filters are
//! those of criterion:
//!
//! ```sh
//! cargo bench -p dyt -- 'forward 4096x4096 f32, 1 thread'
//! ```

use std::time::Duration;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use dyt::{Device, Op, Pass};
use dyt_measure::{Baseline, Contender, Point, Workload, grid::grid};
use rayon::{ThreadPool, ThreadPoolBuilder};

fn ops(criterion: &mut Criterion) {
    let device = Device::auto().expect("the environment names a device of this machine");
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut counts = vec![1, all];
    counts.dedup();
    let pools = counts.into_iter().map(|count| ThreadPoolBuilder::new().num_threads(count).build());
    let pools: Vec<ThreadPool> = pools.collect::<Result<_, _>>().expect("the system has threads");
    for point in grid() {
        // Made when the first benchmark of the point runs: a filter may leave out all of them.
        let mut workload = None;
        for pass in Pass::ALL {
            for pool in &pools {
                let threads = pool.current_num_threads();
                if threads > 1 && (!point.takes_threads() || device.level().is_none()) {
                    continue;
                }
                let Point { rows, cols, dtype, .. } = point;
                let plural = if threads == 1 { "" } else { "s" };
                let name = format!("{pass} {rows}x{cols} {dtype}, {threads} thread{plural}");
                let mut group = criterion.benchmark_group(name);
                group.throughput(Throughput::Bytes(point.moved_bytes(pass) as u64));
                let make = || Workload::new(&device, point).expect("the machine has memory for the grid");
                group_of(&mut group, &device, (pass, pool), &mut workload, make);
                group.finish();
            }
        }
    }
}

fn group_of(
    group: &mut BenchmarkGroup<'_, WallTime>,
    device: &Device,
    (pass, pool): (Pass, &ThreadPool),
    workload: &mut Option<Workload>,
    make: impl Fn() -> Workload,
) {
    let ops = Op::ALL.map(|op| (op.name(), Contender::Op(op, pass)));
    let baselines = Baseline::on(device).iter().filter(|baseline| baseline.serves(pass));
    let baselines = baselines.map(|baseline| (baseline.name(), Contender::Baseline(*baseline)));
    for (name, contender) in ops.into_iter().chain(baselines) {
        group.bench_function(name, |bencher| {
            let workload = workload.get_or_insert_with(&make);
            bencher.iter_custom(|calls| {
                pool.install(|| workload.time(contender, calls).expect("the arguments are valid"))
            });
        });
    }
}

/// Short samples: the grid has hundreds of benchmarks.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = ops }
criterion_main!(benches);
