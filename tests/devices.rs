//! Names, levels and buffers of devices, and the variables of the environment that choose one.

mod common;

use std::ffi::OsStr;
use std::process::{Command, Output};

use dyt::half::bf16;
use dyt::{Backend, DType, Device, Element, Error, Level, Op, Pass, Result};

#[test]
fn names_open_what_they_name() -> Result<()> {
    for device in common::devices() {
        let again = Device::open(&device.name())?;
        assert_eq!(again.name(), device.name());
        assert_eq!((again.backend(), again.level()), (device.backend(), device.level()));
        let level = device.level().expect("every device is the CPU");
        assert_eq!(device.name(), format!("cpu:{level}"));
        assert_eq!(Device::cpu(level)?.name(), device.name());
        assert_eq!(device.clone().name(), device.name());
    }
    Ok(())
}

#[test]
fn candidates_are_all_devices_in_order_of_preference() {
    let candidates = Device::candidates();
    // Software adapters stand behind `wgpu`, where there are some; several GPUs have their numbers.
    let names = candidates.iter().map(|candidate| candidate.name.as_str());
    let mut names: Vec<&str> = names
        .filter(|name| !name.starts_with("wgpu:"))
        .map(|name| if name.starts_with("cuda:") { "cuda" } else { name })
        .collect();
    names.dedup();
    assert_eq!(names, ["cuda", "wgpu", "cpu:avx512", "cpu:avx2", "cpu:neon", "cpu:portable"]);
    for candidate in &candidates {
        match &candidate.device {
            Ok(device) if candidate.name == "wgpu" => assert!(device.name().starts_with("wgpu:")),
            Ok(device) => assert_eq!(device.name(), candidate.name),
            Err(Error::BackendUnavailable { backend, .. }) => assert_eq!(backend.name(), candidate.name),
            Err(Error::LevelUnavailable { level, .. }) => assert_eq!(format!("cpu:{level}"), candidate.name),
            Err(error) => unreachable!("{}: {error}", candidate.name),
        }
    }
    assert!(candidates.last().is_some_and(|portable| portable.device.is_ok()));
}

#[test]
fn levels() {
    for level in Level::ALL {
        assert_eq!(Level::from_name(level.name()), Ok(level));
        assert_eq!(format!("{level:>9}"), format!("{:>9}", level.name()));
    }
    assert_eq!(Level::best().check(), Ok(()));
    let first = Level::ALL.into_iter().find(|level| level.check().is_ok());
    assert_eq!(first, Some(Level::best()));
}

#[test]
fn names_of_everything_else() {
    assert_eq!(Backend::ALL.map(|backend| backend.to_string()), ["cuda", "wgpu", "cpu"]);
    assert_eq!(Op::ALL.map(|op| op.to_string()), ["dyt", "derf", "layer_norm", "rms_norm"]);
    assert_eq!(Pass::ALL.map(|pass| pass.to_string()), ["forward", "backward"]);
    assert_eq!(
        DType::ALL.map(|dtype| (dtype.to_string(), dtype.size())),
        [("f32".to_owned(), 4), ("f16".to_owned(), 2), ("bf16".to_owned(), 2)]
    );
}

#[test]
fn buffers_are_aligned_zeros() -> Result<()> {
    for device in common::devices() {
        for dtype in DType::ALL {
            for len in [0, 1, 15, 16, 17, 31, 32, 33, 1000] {
                let buffer = device.zeros(dtype, len)?;
                assert_eq!((buffer.len(), buffer.dtype(), buffer.is_empty()), (len, dtype, len == 0));
                let view = dyt::View::from(&buffer);
                assert!(view.as_ptr().addr().is_multiple_of(64));
                assert_eq!((view.len(), view.dtype(), view.is_empty()), (len, dtype, len == 0));
            }
        }
        let buffer = device.zeros(DType::F32, 17)?;
        assert_eq!(buffer.as_slice::<f32>(), Some([0.0; 17].as_slice()));
        assert_eq!(buffer.as_slice::<bf16>(), None);
    }
    Ok(())
}

fn there_and_back<T: Element + PartialEq + std::fmt::Debug>(device: &Device, values: &[T]) -> Result<()> {
    let mut buffer = device.upload(values)?;
    assert_eq!((buffer.len(), buffer.dtype()), (values.len(), T::DTYPE));
    assert_eq!(buffer.as_slice(), Some(values));
    let mut back = vec![T::zeroed(); values.len()];
    device.read(&buffer, back.as_mut_slice())?;
    assert_eq!(back, values);
    let mut copy = device.zeros(T::DTYPE, values.len())?;
    let time = device.elapsed(|| device.copy(&buffer, &mut copy))?;
    assert!(values.is_empty() || !time.is_zero());
    let mut again = device.zeros(T::DTYPE, values.len())?;
    device.write(values, &mut again)?;
    let mut read = vec![T::zeroed(); values.len()];
    device.read(&again, read.as_mut_slice())?;
    assert_eq!(read, values);
    // Copies have memory of their own, and views of a part begin where they say.
    buffer.as_mut_slice::<T>().expect("its own type").fill(T::zeroed());
    assert_eq!((back.as_slice(), copy.as_slice()), (values, Some(values)));
    assert_eq!(buffer.as_slice(), Some(vec![T::zeroed(); values.len()].as_slice()));
    let (start, len) = (buffer.view(0..values.len()).expect("all of it").as_ptr(), values.len());
    let last = buffer.view(len..len).expect("nothing, at the end");
    assert_eq!((last.len(), last.as_ptr().addr() - start.addr()), (0, len * size_of::<T>()));
    assert!(buffer.view(0..len + 1).is_none() && buffer.view_mut(len + 1..len + 1).is_none());
    #[expect(clippy::reversed_empty_ranges, reason = "such a range is refused")]
    let reversed = buffer.view(1..0);
    assert!(reversed.is_none());
    Ok(())
}

#[test]
fn what_is_uploaded_is_downloaded() -> Result<()> {
    let values = common::Random::new(3).values(77);
    let narrow: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
    for device in common::devices() {
        there_and_back(&device, &values)?;
        there_and_back(&device, &narrow)?;
        there_and_back::<f32>(&device, &[])?;
    }
    Ok(())
}

/// What the child process below prints, in the lines that begin so.
const MARK: &str = "opened:";

/// Reports what the environment makes of the names that it can change. It is run by the tests below as well, each in
/// a process and with an environment of its own, since variables cannot be set safely in a process with threads.
#[test]
fn report() {
    for name in ["auto", "cpu", "cpu:portable"] {
        let opened = match Device::open(name) {
            Ok(device) => device.name(),
            Err(error) => error.to_string(),
        };
        println!("{MARK} {name} {opened}");
    }
    for candidate in Device::candidates() {
        if let Err(error) = candidate.device {
            println!("candidate: {} {error}", candidate.name);
        }
    }
    let auto = Device::auto().map(|device| device.name());
    assert_eq!(auto, Device::open("auto").map(|device| device.name()));
    assert!(Device::open("cpu:portable").is_ok());
}

/// Runs `report` with these variables.
fn child(variables: &[(&str, impl AsRef<OsStr>)]) -> std::io::Result<Output> {
    let program = std::env::current_exe()?;
    // Where the tests run under an emulator, so does their child.
    let runner = std::env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().filter(|_| cfg!(target_arch = "aarch64"));
    let mut command = match words.next() {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["--exact", "report", "--nocapture"]);
    command
        .env_remove("DYT_BACKEND")
        .env_remove("DYT_CPU_LEVEL")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
}

/// What `auto`, `cpu` and `cpu:portable` open with these variables.
fn opened(variables: &[(&str, impl AsRef<OsStr>)]) -> std::io::Result<[String; 3]> {
    let output = child(variables)?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    Ok(["auto", "cpu", "cpu:portable"].map(|name| {
        let start = format!("{MARK} {name} ");
        let line = text.lines().find_map(|line| line.find(&start).map(|at| &line[at + start.len()..]));
        line.unwrap_or_default().to_owned()
    }))
}

#[test]
fn variables_choose() -> std::io::Result<()> {
    let best = format!("cpu:{}", Level::best());
    let (portable, best) = ("cpu:portable", best.as_str());
    let refused =
        |name: &str| Device::open(name).map_or_else(|error| error.to_string(), |device| device.name());
    let (cuda, nonsense) = (refused("cuda"), refused("nonsense"));
    let (neon, avx2, level) = (refused("cpu:neon"), refused("cpu:avx2"), refused("cpu:nonsense"));
    type Case<'a> = (&'a [(&'a str, &'a str)], [&'a str; 2]);
    let cases: [Case<'_>; 13] = [
        (&[], [best, best]),
        (&[("DYT_BACKEND", ""), ("DYT_CPU_LEVEL", "")], [best, best]),
        (&[("DYT_BACKEND", "auto")], [best, best]),
        (&[("DYT_BACKEND", "cpu")], [best, best]),
        (&[("DYT_BACKEND", "cpu:portable")], [portable, best]),
        (&[("DYT_BACKEND", "cuda")], [&cuda, best]),
        (&[("DYT_BACKEND", "nonsense")], [&nonsense, best]),
        (&[("DYT_CPU_LEVEL", "portable")], [portable, portable]),
        (&[("DYT_CPU_LEVEL", "portable"), ("DYT_BACKEND", "cpu")], [portable, portable]),
        (&[("DYT_CPU_LEVEL", "nonsense"), ("DYT_BACKEND", "cpu:portable")], [portable, &level]),
        (&[("DYT_CPU_LEVEL", "nonsense")], [&level, &level]),
        (&[("DYT_CPU_LEVEL", "neon")], [&neon, &neon]),
        (&[("DYT_CPU_LEVEL", "avx2")], [&avx2, &avx2]),
    ];
    for (variables, [auto, cpu]) in cases {
        assert_eq!(opened(variables)?, [auto, cpu, portable], "{variables:?}");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_utf8_names_nothing() -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"cpu\xff");
    let text = opened(&[("DYT_BACKEND", name)])?;
    assert!(text[0].starts_with("unknown backend"), "{text:?}");
    Ok(())
}

/// The toolkit's stub of the driver lies in a folder of its own, and builds put that into LD_LIBRARY_PATH.
#[cfg(all(feature = "cuda", target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_toolkits_stub_is_no_driver() -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("dyt-stub-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (source, stub) = (folder.join("stub.c"), folder.join("libcuda.so"));
    std::fs::write(&source, "int cuInit(unsigned flags) { return 34 + 0 * flags; }")?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]).arg(&stub).arg(&source);
    assert!(gcc.status()?.success());
    let output = child(&[("LD_LIBRARY_PATH", &folder)]);
    let named = child(&[("LD_LIBRARY_PATH", folder.as_os_str()), ("DYT_BACKEND", OsStr::new("cuda"))]);
    std::fs::remove_dir_all(&folder)?;
    let (output, named) = (output?, named?);
    let text = String::from_utf8_lossy(&output.stdout);
    let reason = format!("{} is the CUDA toolkit's stub and no driver", stub.display());
    // CUDA is passed over, and the list says why.
    assert!(output.status.success() && text.contains(&format!("{MARK} auto cpu:")), "{text}");
    let of_cuda = text.lines().find(|line| line.starts_with("candidate: cuda")).unwrap_or_default();
    assert!(of_cuda.contains(&reason), "{text}");
    let text = String::from_utf8_lossy(&named.stdout);
    assert!(
        text.lines().any(|line| line.contains(&format!("{MARK} auto ")) && line.contains(&reason)),
        "{text}"
    );
    Ok(())
}
