//! The PTX that the library embeds: what is committed in `kernels/ptx`, and what nvcc makes of the sources where `DYT_NVCC`
//! names one.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) fn build() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build/cuda.rs");
    println!("cargo::rerun-if-changed=kernels/ptx");
    println!("cargo::rerun-if-env-changed=DYT_NVCC");
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (out, kernels) = (variable("OUT_DIR")?, variable("CARGO_MANIFEST_DIR")?.join("kernels"));
    let files = prebuilt(&kernels.join("ptx"))?;
    let mut list = Vec::new();
    if let Some(nvcc) = env::var_os("DYT_NVCC").filter(|name| !name.is_empty()) {
        println!("cargo::rerun-if-changed=kernels");
        compile(Path::new(&nvcc), &kernels, &files, &out.join("ptx"))?;
        list.extend(files.iter().map(|made| made.line("Text", "OUT_DIR", "ptx")));
    }
    list.extend(files.iter().map(|made| made.line("Gzip", "CARGO_MANIFEST_DIR", "kernels/ptx")));
    fs::write(out.join("ptx.rs"), format!("static ALL: [Ptx; {}] = [\n{}];\n", list.len(), list.concat()))
}

/// A source of `kernels/`, and an architecture that it is compiled for.
struct Made {
    source: String,
    architecture: u32,
}

impl Made {
    /// The name of the PTX.
    fn name(&self) -> String {
        format!("{}.sm_{}.ptx", self.source, self.architecture)
    }

    /// A line of the table of what is embedded: the file in a folder behind a variable of the build.
    fn line(&self, kind: &str, variable: &str, folder: &str) -> String {
        let (Self { source, architecture }, name) = (self, self.name());
        let end = if kind == "Gzip" { ".gz" } else { "" };
        let bytes = format!("include_bytes!(concat!(env!({variable:?}), \"/{folder}/{name}{end}\"))");
        format!("Ptx::new({source:?}, {architecture}, Stored::{kind}({bytes})),\n")
    }
}

/// The files `SOURCE.sm_ARCHITECTURE.ptx.gz` of a folder: by source, the newest architecture first.
fn prebuilt(folder: &Path) -> io::Result<Vec<Made>> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(".ptx.gz")?.split_once(".sm_"));
        let made = parts.and_then(|(source, architecture)| Some((source, architecture.parse().ok()?)));
        let Some((source, architecture)) = made else {
            let place = folder.join(name);
            return Err(io::Error::other(format!("{}: not SOURCE.sm_ARCHITECTURE.ptx.gz", place.display())));
        };
        files.push(Made { source: source.to_owned(), architecture });
    }
    // Folders have no order.
    files.sort_by(|a, b| (&a.source, b.architecture).cmp(&(&b.source, a.architecture)));
    Ok(files)
}

/// Compiles each source for the architectures that the prebuilt PTX has, all at once.
fn compile(nvcc: &Path, kernels: &Path, files: &[Made], out: &Path) -> io::Result<()> {
    let mut running: Vec<(String, Child)> = Vec::new();
    fs::create_dir_all(out)?;
    for made in files {
        let child = Command::new(nvcc)
            .args(["--ptx", "--std=c++17", &format!("-arch=compute_{}", made.architecture)])
            .arg(kernels.join(format!("{}.cu", made.source)))
            .arg("-o")
            .arg(out.join(made.name()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", nvcc.display())))?;
        running.push((made.name(), child));
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
