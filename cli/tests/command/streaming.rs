//! Blocks of rows: the same bits, within the memory that is allowed, and nothing half-written.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dyt::{DType, Op};

use crate::support::{Folder, Outcome, Ran, Tensor, command, dyt, npy_header};

#[test]
fn blocks_of_rows_give_the_same_bits() -> Outcome {
    let folder = Folder::new()?;
    for (dtype, channels_first) in [(DType::F32, false), (DType::Bf16, false), (DType::F16, true)] {
        let x = Tensor::random(dtype, &[23, 5, 31], 1);
        let input = folder.write("x.npy", &x.npy())?;
        for op in Op::ALL {
            let run = |name: &str, more: &[&str]| -> Outcome<Vec<u8>> {
                let output = folder.file(name);
                let mut arguments = vec!["run", op.name(), "--force", "--input", &input, "--output", &output];
                if op.is_pointwise() {
                    arguments.extend(["--alpha", "1.5"]);
                }
                if channels_first {
                    arguments.push("--channels-first");
                }
                dyt(&[&arguments[..], more].concat())?.succeeded();
                folder.read(name)
            };
            let whole = run("whole.npy", &[])?;
            for more in
                [["--block-rows", "1"], ["--block-rows", "4"], ["--block-rows", "999"], ["--memory", "1K"]]
            {
                assert!(run("parts.npy", &more)? == whole, "{op} {dtype} {more:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn dx_does_not_depend_on_blocks() -> Outcome {
    let folder = Folder::new()?;
    let x = folder.write("x.npy", &Tensor::random(DType::F32, &[40, 19], 1).npy())?;
    let dy = folder.write("dy.npy", &Tensor::random(DType::F32, &[40, 19], 2).npy())?;
    let output = folder.file("dx.npy");
    let arguments = ["run", "rms_norm", "--force", "--input", &x, "--dy", &dy, "--output", &output];
    dyt(&arguments)?.succeeded();
    let whole = folder.read("dx.npy")?;
    dyt(&[&arguments[..], &["--block-rows", "3"]].concat())?.succeeded();
    assert!(folder.read("dx.npy")? == whole);
    Ok(())
}

/// A file of zeros that takes no room on the disk.
fn sparse(folder: &Folder, name: &str, rows: usize, cols: usize) -> Outcome<String> {
    let path = folder.file(name);
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let header = npy_header(&dict, 1);
    let mut file = File::create(&path)?;
    file.write_all(&header)?;
    file.set_len((header.len() + rows * cols * 4) as u64)?;
    Ok(path)
}

/// The kernel holds the process to 48 MiB of data: a tensor of 64 MiB cannot be in memory as a whole.
#[test]
#[cfg(target_os = "linux")]
fn a_tensor_larger_than_memory() -> Outcome {
    let folder = Folder::new()?;
    let input = sparse(&folder, "x.npy", 16_384, 1024)?;
    let beta = folder.write("beta.npy", &Tensor::random(DType::F32, &[1024], 1).npy())?;
    let output = folder.file("y.npy");
    let run = |memory: &str| -> Outcome<Ran> {
        let script = "ulimit -d 49152 && exec \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_dyt"), "run", "layer_norm", "--input", &input]);
        // A driver of Vulkan, once it is looked for, takes more than the limit by itself.
        shell.args(["--device", "cpu", "--output", &output, "--beta", &beta, "--memory", memory]);
        shell.env_remove("DYT_BACKEND").env_remove("DYT_CPU_LEVEL").env("RAYON_NUM_THREADS", "1");
        Ok(shell.output()?.into())
    };
    run("1G")?.refused(1, "bytes of memory could not be had");
    assert_eq!(folder.names()?, ["beta.npy", "x.npy"]);
    run("4M")?.succeeded();
    let (written, beta) = (folder.read("y.npy")?, folder.read("beta.npy")?);
    // Rows of equal values give beta, exactly.
    let rows = written[128..].chunks_exact(4096);
    assert_eq!((rows.len(), rows.remainder().len()), (16_384, 0));
    assert!(rows.into_iter().all(|row| row == &beta[128..]));
    Ok(())
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_leaves_the_output_as_it_was() -> Outcome {
    let folder = Folder::new()?;
    let input = sparse(&folder, "x.npy", 131_072, 1024)?;
    let output = folder.write("y.npy", b"before")?;
    let mut child = command()
        .args(["run", "rms_norm", "--force", "--input", &input, "--output", &output, "--memory", "64K"])
        .stderr(Stdio::piped())
        .spawn()?;
    let begun = Instant::now();
    while folder.names()?.len() == 2 {
        if let Some(status) = child.try_wait()? {
            return Err(format!("ended before a temporary file was seen: {status}").into());
        }
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill()?;
            return Err("no temporary file".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    let ran: Ran = child.wait_with_output()?.into();
    ran.refused(1, "interrupted");
    assert_eq!(folder.names()?, ["x.npy", "y.npy"]);
    assert_eq!(folder.read("y.npy")?, b"before");
    Ok(())
}

#[test]
#[cfg(unix)]
fn links_and_permissions_of_the_output_are_kept() -> Outcome {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F32, &[3, 4], 1);
    let input = folder.write("x.npy", &x.npy())?;
    let target = folder.write("target.npy", b"before")?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640))?;
    symlink(&target, folder.path().join("link.npy"))?;
    dyt(&["run", "rms_norm", "--force", "--input", &input, "--output", &folder.file("link.npy")])?
        .succeeded();
    assert!(fs::symlink_metadata(folder.file("link.npy"))?.is_symlink());
    assert_eq!(fs::metadata(&target)?.permissions().mode() & 0o777, 0o640);
    assert_ne!(Tensor::read_npy(&folder.read("target.npy")?, &x)?, x);
    Ok(())
}
