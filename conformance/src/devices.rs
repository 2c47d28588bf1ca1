//! The devices that the cases run on, and the proof that none was left out.

use std::sync::OnceLock;

use dyt::Device;

/// Devices that `DYT_REQUIRE` names and this machine lacks, each with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DYT_REQUIRE names devices that did not run: {}", .missing.join("; "))]
pub struct MissingDevices {
    /// `NAME: REASON` of each.
    pub missing: Vec<String>,
}

/// Every device of this machine that the cases run on: each CPU level, and each GPU backend that opens. The same ones in
/// every call, so that the tests of a process share the kernels that a device has compiled.
#[must_use]
pub fn devices_under_test() -> Vec<Device> {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    let open = || Device::candidates().into_iter().filter_map(|candidate| candidate.device.ok()).collect();
    DEVICES.get_or_init(open).clone()
}

/// `coverage: cpu:avx512 cpu:avx2 cpu:portable`: the names of [`devices_under_test`].
#[must_use]
pub fn coverage_line() -> String {
    let names = devices_under_test().iter().map(|device| format!(" {}", device.name())).collect::<String>();
    format!("coverage:{names}")
}

/// Compares [`devices_under_test`] with the variable `DYT_REQUIRE`: names of levels, backends or devices, such as
/// `avx512,portable` or `cuda` or `cpu:avx2`, with commas between them.
///
/// # Errors
/// [`MissingDevices`] if one of them is not under test.
pub fn check_required() -> Result<(), MissingDevices> {
    check_required_in(&std::env::var("DYT_REQUIRE").unwrap_or_default())
}

fn check_required_in(list: &str) -> Result<(), MissingDevices> {
    let present = devices_under_test();
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let missing: Vec<String> = names
        .filter(|name| !present.iter().any(|device| answers_to(device, name)))
        .map(|name| format!("{name}: {}", reason(name)))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingDevices { missing }) }
}

fn answers_to(device: &Device, name: &str) -> bool {
    device.name() == name
        || device.backend().name() == name
        || device.level().is_some_and(|level| level.name() == name)
}

/// Why a device of that name is absent.
fn reason(name: &str) -> String {
    let candidates = Device::candidates();
    let of_that_name = |candidate: &&dyt::Candidate| {
        candidate.name == name || candidate.name.strip_prefix("cpu:").is_some_and(|level| level == name)
    };
    match candidates.iter().find(of_that_name).map(|candidate| &candidate.device) {
        Some(Err(error)) => error.to_string(),
        Some(Ok(_)) | None => "no device has this name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_missing() {
        assert_eq!(check_required_in(""), Ok(()));
        assert_eq!(check_required_in(" portable, cpu ,cpu:portable"), Ok(()));
        assert!(coverage_line().ends_with("cpu:portable"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let absent = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let error = check_required_in(&format!("portable,{absent},nonsense")).expect_err("two are absent");
        assert_eq!(error.missing.len(), 2);
        assert!(error.missing[0].starts_with(absent) && error.missing[0].contains("belongs to"), "{error}");
        assert!(error.missing[1].contains("no device has this name"), "{error}");
    }
}
