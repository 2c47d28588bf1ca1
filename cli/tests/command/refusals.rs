//! Arguments and files that are wrong: the exit code, one line, and an output that is as it was.

use dyt::DType;

use crate::support::{Folder, Outcome, Tensor, dyt, npy_header, safetensors};

/// A folder with a good input `x.npy` and an older output `y.npy`, and the arguments for a run.
struct Bench {
    folder: Folder,
    x: Tensor,
}

const OLD: &[u8] = b"what was there before";

impl Bench {
    fn new() -> Outcome<Self> {
        let (folder, x) = (Folder::new()?, Tensor::random(DType::F32, &[6, 8], 1));
        folder.write("x.npy", &x.npy())?;
        folder.write("y.npy", OLD)?;
        Ok(Self { folder, x })
    }

    /// Runs layer_norm on `input`, and expects a refusal that leaves everything alone.
    fn refused(&self, input: &str, more: &[&str], code: i32, part: &str) -> Outcome {
        let before = self.folder.names()?;
        let (input, output) = (self.folder.file(input), self.folder.file("y.npy"));
        let arguments = ["run", "layer_norm", "--force", "--input", &input, "--output", &output];
        dyt(&[&arguments[..], more].concat())?.refused(code, part);
        assert_eq!(self.folder.read("y.npy")?, OLD, "{part}");
        assert_eq!(self.folder.names()?, before, "{part}");
        Ok(())
    }

    fn file_refused(&self, name: &str, bytes: &[u8], part: &str) -> Outcome {
        self.folder.write(name, bytes)?;
        self.refused(name, &[], 1, part)
    }
}

#[test]
fn arguments_that_do_not_fit_together() -> Outcome {
    let bench = Bench::new()?;
    let (gradients, written) = (bench.folder.file("g.npy"), bench.folder.file("y.npy"));
    for (more, part) in [
        (&["--alpha", "1"][..], "layer_norm has no --alpha"),
        (&["--shift", "1"], "layer_norm has no --shift"),
        (&["--gamma-offset", "1"], "--gamma <FILE"),
        (&["--eps", "-1"], "eps is -1"),
        (&["--eps", "few"], "few"),
        (&["--std", "median"], "median"),
        (&["--memory", "much"], "much"),
        (&["--memory", "1M", "--block-rows", "1"], "--block-rows"),
        (&["--block-rows", "0"], "--block-rows"),
        (&["--gradients", "g.safetensors"], "--dy"),
        (&["--residual", "r.npy"], "--sum"),
        (&["--sum", "s.npy"], "--residual"),
        (&["--dsum", "d.npy"], "--dy"),
        (&["--residual", "r.npy", "--sum", "s.npy", "--dy", "dy.npy"], "--dy"),
        (&["--residual", "r.npy", "--sum", &written], "--sum and --output are the same file"),
        (&["--device", "abacus"], "abacus"),
        (&["--dy", "dy.txt"], ".safetensors"),
        (&["--dy", "dy.npy", "--gradients", &gradients], "--gradients takes a .safetensors file"),
        (&["--dy", "dy.npy", "--gradients", "g.safetensors"], "--gamma or --beta"),
    ] {
        bench.refused("x.npy", more, 2, part)?;
    }
    bench.refused("x.txt", &[], 2, ".npy or .safetensors")?;
    let (x, y) = (bench.folder.file("x.npy"), bench.folder.file("y.npy"));
    for (op, more, part) in [
        ("dyt", &[][..], "dyt needs --alpha"),
        ("dyt", &["--alpha", "1", "--shift", "1"], "dyt has no --shift"),
        ("derf", &["--alpha", "1", "--eps", "1"], "derf has no --eps"),
        ("rms_norm", &["--std", "unbiased"], "rms_norm has no --std unbiased"),
        ("tanh", &[], "the ops are dyt, derf, layer_norm, rms_norm"),
    ] {
        let arguments = ["run", op, "--input", &x, "--output", &y];
        dyt(&[&arguments[..], more].concat())?.refused(2, part);
    }
    Ok(())
}

#[test]
fn gradients_and_output_in_one_file() -> Outcome {
    let bench = Bench::new()?;
    let x = bench.folder.file("x.npy");
    let refused = |output: &str, gradients: &str| -> Outcome {
        let before = bench.folder.names()?;
        let [output, gradients] = [output, gradients].map(|name| bench.folder.file(name));
        let files = ["--input", &x, "--dy", &x, "--output", &output, "--gradients", &gradients];
        dyt(&[&["run", "dyt", "--alpha", "1"], &files[..]].concat())?.refused(2, "are the same file");
        assert_eq!(bench.folder.names()?, before);
        Ok(())
    };
    let folder = bench.folder.path().file_name().ok_or("no name")?.to_string_lossy().into_owned();
    refused("g.safetensors", "g.safetensors")?;
    refused("g.safetensors", "./g.safetensors")?;
    refused(&format!("../{folder}/g.safetensors"), "g.safetensors")?;
    bench.folder.write("old.safetensors", OLD)?;
    refused("old.safetensors", "./old.safetensors")?;
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("old.safetensors", bench.folder.file("link.safetensors"))?;
        std::os::unix::fs::symlink(".", bench.folder.file("here"))?;
        refused("old.safetensors", "link.safetensors")?;
        refused("here/g.safetensors", "g.safetensors")?;
        assert_eq!(bench.folder.read("old.safetensors")?, OLD);
    }
    Ok(())
}

#[test]
fn files_that_are_not_there_or_not_alike() -> Outcome {
    let bench = Bench::new()?;
    bench.refused("none.npy", &[], 1, "none.npy")?;
    bench.refused("x.npy", &["--device", "cuda"], 1, "cuda is not available")?;
    let longer = bench.folder.write("long.npy", &Tensor::random(DType::F32, &[9], 2).npy())?;
    bench.refused("x.npy", &["--gamma", &longer], 1, "9 elements, expected 8")?;
    let other = bench.folder.write("dy.npy", &Tensor::random(DType::F32, &[8, 6], 2).npy())?;
    bench.refused("x.npy", &["--dy", &other], 1, "f32 8×6, and x is f32 6×8")?;
    let other = bench.folder.write("dy.npy", &Tensor::random(DType::F16, &[6, 8], 2).npy())?;
    bench.refused("x.npy", &["--dy", &other], 1, "f16 6×8, and x is f32 6×8")?;
    bench.refused("x.npy", &["--tensor", "x"], 1, "without a name")?;
    bench.refused("x.npy", &["--memory", "16"], 1, "--memory allows 16")?;
    bench.refused("long.npy", &["--channels-first"], 1, "at least two dimensions")?;
    let scalar = Tensor { dtype: DType::F32, shape: vec![], values: vec![1.0] };
    bench.file_refused("scalar.npy", &scalar.npy(), "at least one dimension")?;
    let empty = Tensor { dtype: DType::F32, shape: vec![5, 0], values: vec![] };
    bench.file_refused("empty.npy", &empty.npy(), "at least one column")
}

#[test]
fn an_output_that_cannot_be() -> Outcome {
    let bench = Bench::new()?;
    let x = bench.folder.file("x.npy");
    let before = bench.folder.names()?;
    let nowhere = bench.folder.file("none/y.npy");
    dyt(&["run", "rms_norm", "--input", &x, "--output", &nowhere])?.refused(1, "y.npy");
    assert_eq!(bench.folder.names()?, before);
    let folder = bench.folder.file("folder.npy");
    std::fs::create_dir(&folder)?;
    dyt(&["run", "rms_norm", "--input", &x, "--output", &folder])?.refused(1, "not a regular file");
    dyt(&["run", "rms_norm", "--force", "--input", &folder, "--output", &x])?
        .refused(1, "not a regular file");
    assert_eq!(bench.folder.read("x.npy")?, bench.x.npy());
    Ok(())
}

#[test]
fn npy_files_that_are_cut_or_of_another_kind() -> Outcome {
    let bench = Bench::new()?;
    let good = bench.x.npy();
    for len in [0, 5, 9, 60, 127, 128, 129, good.len() - 1] {
        bench.file_refused("cut.npy", &good[..len], "cut.npy: ")?;
    }
    bench.file_refused(
        "cut.npy",
        &good[..good.len() - 4],
        "has 188 bytes of elements, and its header says 192",
    )?;
    bench.file_refused("more.npy", &[&good[..], &[0]].concat(), "has 193 bytes of elements")?;
    let with = |descr: &str, order: &str, shape: &str| {
        let dict = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
        [npy_header(&dict, 2), vec![0; 16]].concat()
    };
    bench.file_refused("i8.npy", &with("'<i8'", "False", "(2,)"), "dtype \"<i8\"")?;
    bench.file_refused("f8.npy", &with("'<f8'", "False", "(4,)"), "header says 32")?;
    bench.file_refused("order.npy", &with("'>f4'", "True", "(2, 3)"), "header says 24")?;
    bench.file_refused("huge.npy", &with("'<f4'", "False", "(1152921504606846976, 8)"), "more elements")?;
    bench.file_refused(
        "huge.npy",
        &with("'<f4'", "False", "(1099511627776,)"),
        "header says 4398046511104",
    )?;
    let long = b"\x93NUMPY\x03\x00\xff\xff\xff\xff";
    bench.file_refused("long.npy", long, "cut off")
}

#[test]
fn safetensors_files_that_are_cut_or_of_another_kind() -> Outcome {
    let bench = Bench::new()?;
    let good = safetensors(&[("x", &bench.x)]);
    for len in [0, 7, 8, 30, good.len() - 193, good.len() - 192, good.len() - 1] {
        bench.file_refused("cut.safetensors", &good[..len], "cut.safetensors: ")?;
    }
    let file = |length: u64, json: &str| [&length.to_le_bytes()[..], json.as_bytes(), &[0; 16]].concat();
    let with = |json: &str| file(json.len() as u64, json);
    bench.file_refused("long.safetensors", &file(u64::MAX, "{}"), "at most 100000000")?;
    bench.file_refused("long.safetensors", &file(90_000_000, "{}"), "cut off")?;
    bench.file_refused("json.safetensors", &with("{\"x\":"), "malformed")?;
    let i64s = r#"{"x":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#;
    bench.file_refused("i64.safetensors", &with(i64s), "I64")?;
    let past = r#"{"x":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}"#;
    bench.file_refused(
        "past.safetensors",
        &with(past),
        "has 16 bytes of elements, and its header says 32",
    )?;
    let shape = r#"{"x":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}"#;
    bench.file_refused("shape.safetensors", &with(shape), "invalid shape")?;
    bench.folder.write("two.safetensors", &safetensors(&[("a", &bench.x), ("b", &bench.x)]))?;
    bench.refused("two.safetensors", &[], 1, "name one: \"a\", \"b\"")?;
    bench.refused("two.safetensors", &["--tensor", "c"], 1, "no tensor \"c\"")?;
    bench.refused("two.safetensors:a", &["--tensor", "c"], 2, "named twice")
}
