//! The driver without a GPU, as a test controls it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use dyt::Pass;
use dyt::cuda::plan::{Args, Entry, Launch, NormForm, PointwiseForm};
use dyt_simt::Order;
use libloading::Library;

/// What a test returns.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;
type OnLaunch =
    unsafe extern "C" fn(*const c_char, *const u32, *const u32, u32, *const c_void, usize) -> c_int;

/// What the launches return; 0 runs them.
pub(crate) static LAUNCH_FAILS: AtomicI32 = AtomicI32::new(0);

/// The driver, as a test controls it.
pub(crate) struct Fake(Library);

impl Fake {
    fn load() -> Result<Self, libloading::Error> {
        // SAFETY: the library is this crate's own and does nothing when it is loaded.
        let fake = Self(unsafe { Library::new(env!("DYT_FAKE_DRIVER"))? });
        // SAFETY: the type is that of the function.
        unsafe { fake.0.get::<unsafe extern "C" fn(OnLaunch)>(b"fake_on_launch")?(on_launch) };
        Ok(fake)
    }

    pub(crate) fn set(&self, what: &str, value: c_int) -> Outcome {
        type Set = unsafe extern "C" fn(*const c_char, c_int);
        let what = CString::new(what)?;
        // SAFETY: the type is that of the function.
        unsafe { self.0.get::<Set>(b"fake_set")?(what.as_ptr(), value) };
        Ok(())
    }

    pub(crate) fn fail(&self, call: &str, code: c_int, after: c_int) -> Outcome {
        type Fail = unsafe extern "C" fn(*const c_char, c_int, c_int);
        let call = CString::new(call)?;
        // SAFETY: the type is that of the function.
        unsafe { self.0.get::<Fail>(b"fake_fail")?(call.as_ptr(), code, after) };
        Ok(())
    }

    /// The calls that `work` makes, each with a number: bytes, or the stream.
    pub(crate) fn calls(
        &self,
        work: impl FnOnce() -> dyt::Result<()>,
    ) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        // SAFETY: the types are those of the functions, and the log is a string that lives.
        unsafe {
            self.0.get::<unsafe extern "C" fn()>(b"fake_clear_log")?();
            work()?;
            let log = self.0.get::<unsafe extern "C" fn() -> *const c_char>(b"fake_log")?();
            Ok(CStr::from_ptr(log).to_str()?.lines().map(str::to_owned).collect())
        }
    }

    pub(crate) fn live_bytes(&self) -> Result<i64, libloading::Error> {
        // SAFETY: the type is that of the function.
        Ok(unsafe { self.0.get::<unsafe extern "C" fn() -> i64>(b"fake_live_bytes")?() })
    }
}

/// Runs a launch as it reached the driver: from the name and the bytes, not from the plan.
unsafe extern "C" fn on_launch(
    name: *const c_char,
    grid: *const u32,
    block: *const u32,
    shared_bytes: u32,
    parameter: *const c_void,
    bytes: usize,
) -> c_int {
    let code = LAUNCH_FAILS.load(Ordering::Relaxed);
    if code != 0 {
        return code;
    }
    // SAFETY: the driver hands over a name, three numbers each, and as many bytes of the parameter.
    let (name, grid, block, bytes) = unsafe {
        let parameter = core::slice::from_raw_parts(parameter.cast::<u8>(), bytes);
        (CStr::from_ptr(name), *grid.cast::<[u32; 3]>(), *block.cast::<[u32; 3]>(), parameter)
    };
    let Some(entry) = Entry::all().find(|entry| entry.name().as_bytes() == name.to_bytes()) else {
        return 500;
    };
    if bytes.len() != entry.args_bytes() {
        return 1;
    }
    let launch = Launch { entry, grid, block, shared_bytes, args: args(entry, bytes) };
    // SAFETY: the addresses are of the driver's memory, which is the host's.
    match unsafe { dyt_simt::launch(&launch, Order::Forward) } {
        Ok(()) => 0,
        Err(fault) => {
            println!("{fault}");
            719
        }
    }
}

/// The struct of an entry from its bytes.
fn args(entry: Entry, bytes: &[u8]) -> Args {
    match entry {
        Entry::Pointwise { pass: Pass::Forward, form: PointwiseForm::Options, .. } => {
            Args::PointwiseForwardOptions(pod(bytes))
        }
        Entry::Pointwise { pass: Pass::Backward, form: PointwiseForm::Options, .. } => {
            Args::PointwiseBackwardOptions(pod(bytes))
        }
        Entry::Norm {
            pass: Pass::Forward,
            form: NormForm::Options | NormForm::OptionsF16 | NormForm::LongOptions,
            ..
        } => Args::NormForwardOptions(pod(bytes)),
        Entry::Norm {
            pass: Pass::Backward,
            form: NormForm::Options | NormForm::OptionsF16 | NormForm::LongOptions,
            ..
        } => Args::NormBackwardOptions(pod(bytes)),
        Entry::Pointwise { pass: Pass::Forward, .. } => Args::PointwiseForward(pod(bytes)),
        Entry::Pointwise { pass: Pass::Backward, .. } => Args::PointwiseBackward(pod(bytes)),
        Entry::Norm { pass: Pass::Forward, .. } => Args::NormForward(pod(bytes)),
        Entry::Norm { pass: Pass::Backward, .. } => Args::NormBackward(pod(bytes)),
        Entry::Fold => Args::Fold(pod(bytes)),
    }
}

/// A value from its bytes.
fn pod<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> T {
    bytemuck::pod_read_unaligned(bytes)
}

/// Runs `body` in a process of its own, which is this program with the test's name.
pub(crate) fn alone(name: &str, body: impl FnOnce(Fake) -> Outcome) -> Outcome {
    const CHILD: &str = "DYT_FAKE_DRIVER_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return body(Fake::load()?);
    }
    let program = std::env::current_exe()?;
    let output = Command::new(program).args([name, "--exact", "--nocapture"]).env(CHILD, "1").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{error}");
    Ok(())
}
