//! The PTX that the library embeds: the prebuilt one always, and one made by nvcc where there is an nvcc.
//!
//! `DYT_NVCC` names the compiler, or is empty so that none is looked for; else it is that of `CUDA_HOME`, or the one on
//! the `PATH`. That it fails is a warning, because the prebuilt PTX does as well, and an error where `DYT_NVCC` was set.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// What is compiled, each for every architecture.
const SOURCES: [&str; 5] = ["pointwise", "rownorm", "rownorm_long", "rownorm_first", "fold"];
/// As in `kernels/make_ptx.py`.
const ARCHITECTURES: [u32; 3] = [75, 80, 90];

pub(crate) fn build() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build/cuda.rs");
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=DYT_NVCC");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (out, kernels) = (variable("OUT_DIR")?, variable("CARGO_MANIFEST_DIR")?.join("kernels"));
    let mut list = Vec::new();
    if let Some((nvcc, demanded)) = compiler() {
        match compile(&nvcc, &kernels, &out.join("ptx")) {
            Ok(()) => embed(&mut list, &out.join("ptx"), &out, false)?,
            Err(error) if demanded => return Err(error),
            Err(error) => {
                let first = error.to_string();
                let first = first.lines().next().unwrap_or_default();
                println!("cargo::warning={}: {first}; the prebuilt PTX is used", nvcc.display());
            }
        }
    }
    embed(&mut list, &kernels.join("ptx"), &out, true)?;
    fs::write(out.join("ptx.rs"), format!("static ALL: [Ptx; {}] = [\n{}];\n", list.len(), list.concat()))
}

/// The compiler, and whether it was asked for by name.
fn compiler() -> Option<(PathBuf, bool)> {
    if let Some(named) = env::var_os("DYT_NVCC") {
        return (!named.is_empty()).then(|| (named.into(), true));
    }
    // Documentation needs no kernels.
    if env::var_os("DOCS_RS").is_some() {
        return None;
    }
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = home.into_iter().chain(env::split_paths(&path).collect::<Vec<_>>());
    folders.map(|folder| folder.join(&name)).find(|file| file.is_file()).map(|file| (file, false))
}

/// Compiles every source for every architecture, all at once.
fn compile(nvcc: &Path, kernels: &Path, out: &Path) -> io::Result<()> {
    let mut running: Vec<(String, Child)> = Vec::new();
    for architecture in ARCHITECTURES {
        let folder = out.join(format!("sm_{architecture}"));
        fs::create_dir_all(&folder)?;
        for source in SOURCES {
            let child = Command::new(nvcc)
                .args(["--ptx", "--std=c++17", &format!("-arch=compute_{architecture}")])
                .arg(kernels.join(format!("{source}.cu")))
                .arg("-o")
                .arg(folder.join(format!("{source}.ptx")))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", nvcc.display())))?;
            running.push((format!("{source}.cu for sm_{architecture}"), child));
        }
    }
    let mut failed = None;
    // Every child is waited for, so that none goes on after a failure.
    for (what, child) in running {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            failed.get_or_insert(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    failed.map_or(Ok(()), |message| Err(io::Error::other(message)))
}

/// Adds the PTX of a folder to the list, newest architecture first, each file deflated into `out`.
fn embed(list: &mut Vec<String>, folder: &Path, out: &Path, prebuilt: bool) -> io::Result<()> {
    for architecture in ARCHITECTURES.into_iter().rev() {
        for source in SOURCES {
            let file = folder.join(format!("sm_{architecture}")).join(format!("{source}.ptx"));
            // An absent file is a mistake that says its name.
            let text =
                fs::read(&file).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
            let made = if prebuilt { "prebuilt" } else { "nvcc" };
            let name = format!("{made}_{architecture}_{source}.deflate");
            fs::write(out.join(&name), deflate(&text)?)?;
            list.push(format!(
                "Ptx::new({source:?}, {architecture}, {prebuilt}, \
                 include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\"))),\n"
            ));
        }
    }
    Ok(())
}

/// Compressed, with the zero behind the text that the driver wants.
fn deflate(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(text)?;
    encoder.write_all(&[0])?;
    encoder.finish()
}
