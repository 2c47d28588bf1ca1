//! `dyt info`, `dyt check`, and what the command as a whole promises.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Outcome, command, dyt};

#[test]
fn info_names_what_is_there_and_why_the_rest_is_not() -> Outcome {
    let ran = dyt(&["info"])?.succeeded();
    let line = |name: &str| ran.stdout.lines().find(|line| line.split(' ').next() == Some(name));
    assert!(line("cpu:portable").is_some_and(|line| line.ends_with("available")), "{ran:?}");
    for gpu in ["cuda", "wgpu"] {
        assert!(line(gpu).is_some_and(|line| line.contains("absent: ") && line.len() > 30), "{ran:?}");
    }
    let foreign = if cfg!(target_arch = "aarch64") { "cpu:avx2" } else { "cpu:neon" };
    assert!(line(foreign).is_some_and(|line| line.contains("it belongs to ")), "{ran:?}");
    assert!(line("processor").is_some_and(|line| line.contains(" threads")), "{ran:?}");
    assert!(line("auto").is_some_and(|line| line.contains("cpu:")), "{ran:?}");
    assert!(line("dyt").is_some_and(|line| line.contains(env!("CARGO_PKG_VERSION"))), "{ran:?}");
    Ok(())
}

/// Neither drivers nor their layers write to a terminal that is not theirs, with Mesa in a container for one.
#[test]
fn looking_for_devices_writes_nothing_beside() -> Outcome {
    let output = command().arg("info").env_remove("XDG_RUNTIME_DIR").output()?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Ok(())
}

#[test]
fn info_follows_the_environment() -> Outcome {
    let output = command().args(["info", "--json"]).env("DYT_BACKEND", "cpu:portable").output()?;
    let info: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(info["auto"], "cpu:portable");
    assert_eq!(info["environment"]["DYT_BACKEND"], "cpu:portable");
    let devices = info["devices"].as_array().ok_or("no list of devices")?;
    assert!(
        devices
            .iter()
            .any(|d| d["name"] == "cpu:portable" && d["available"] == true && d["reason"].is_null())
    );
    assert!(devices.iter().any(|d| d["available"] == false && d["reason"].is_string()));

    let output = command().args(["info", "--json"]).env("DYT_BACKEND", "abacus").output()?;
    let info: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert!(info["auto"].is_null() && info["auto_reason"].to_string().contains("abacus"), "{info}");
    Ok(())
}

#[test]
fn check_tells_the_worst_of_every_op_and_dtype() -> Outcome {
    let ran = dyt(&["check", "--quick", "--device", "cpu:portable"])?.succeeded();
    let (options, devices) = ran.stdout.split_once("\n\n").ok_or("no first line")?;
    for option in ["a residual", "heads", "groups of parameters", "a quantised y"] {
        assert!(options.contains(&format!(" with {option}")), "{options}");
    }
    assert!(!options.contains(" 0 with"), "{options}");
    assert!(devices.starts_with("cpu:portable: all of "), "{ran:?}");
    for op in dyt::Op::ALL {
        for dtype in dyt::DType::ALL {
            let mut rows = ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let row = rows.find(|row| row.starts_with(&[op.name(), dtype.name()]));
            let row = row.ok_or_else(|| format!("no row of {op} {dtype} in {}", ran.stdout))?;
            assert!(row[2].parse::<u32>()? > 0 && row[3] == "0", "{row:?}");
            let y: f64 = row[4].parse()?;
            assert!(y > 0.0 && y <= 1.0, "{row:?}");
        }
    }
    Ok(())
}

#[test]
fn check_lists_errors_and_bounds() -> Outcome {
    let ran = dyt(&["check", "--quick", "--details", "--device", "cpu:portable"])?.succeeded();
    let row = ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row =
        row.into_iter().find(|row| row.starts_with(&["rms_norm", "f32", "dgamma"])).ok_or("no dgamma")?;
    let (error, bound): (f64, f64) = (row[3].parse()?, row[4].parse()?);
    assert!(error > 0.0 && error <= bound, "{row:?}");
    Ok(())
}

#[test]
fn devices_that_are_not_there_are_refused() -> Outcome {
    dyt(&["check", "--device", "abacus"])?.refused(2, "unknown backend \"abacus\"");
    dyt(&["check", "--device", "cpu:abacus"])?.refused(2, "unknown CPU level \"abacus\"");
    dyt(&["check", "--device", "cuda"])?.refused(1, "cuda is not available");
    Ok(())
}

#[test]
fn bad_usage_is_one_line_and_code_2() -> Outcome {
    dyt(&[])?.refused(2, "subcommand");
    dyt(&["walk"])?.refused(2, "walk");
    dyt(&["info", "--nonsense"])?.refused(2, "--nonsense");
    dyt(&["run", "dyt"])?.refused(2, "--input");
    Ok(())
}

#[test]
fn help_and_version_are_no_errors() -> Outcome {
    assert!(dyt(&["help"])?.succeeded().stdout.contains("check"));
    assert!(dyt(&["run", "--help"])?.succeeded().stdout.contains("--channels-first"));
    assert!(dyt(&["--version"])?.succeeded().stdout.contains(env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_panic() -> Outcome {
    let mut child = command().arg("info").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().ok_or("no stderr")?.read_to_string(&mut stderr)?;
    assert_eq!((child.wait()?.code(), stderr.as_str()), (Some(0), ""));
    Ok(())
}
