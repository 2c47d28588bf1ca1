//! What a run leaves of files that were there before: the other tensors, their metadata, and whatever lacks `--force`.

use std::fs;

use dyt::DType;

use crate::support::{Folder, Outcome, Ran, Tensor, dyt, metadata, safetensors};

const OLD: &[u8] = b"what was there before";

/// The command on `input`, into `output`.
fn run(input: &str, output: &str, more: &[&str]) -> Outcome<Ran> {
    let arguments = ["run", "dyt", "--alpha", "0.5", "--input", input, "--output", output];
    dyt(&[&arguments[..], more].concat())
}

/// Three tensors of different types, so that a lost byte or a wrong offset shows.
struct Checkpoint {
    folder: Folder,
    file: String,
    w: Tensor,
    others: [(&'static str, Tensor); 2],
}

impl Checkpoint {
    fn new() -> Outcome<Self> {
        let folder = Folder::new()?;
        let w = Tensor::random(DType::F32, &[4, 8], 1);
        let others = [
            ("other", Tensor::random(DType::F16, &[3, 5], 2)),
            ("a.b:c \u{e9}", Tensor::random(DType::Bf16, &[7], 3)),
        ];
        let tensors = [("w", &w), (others[0].0, &others[0].1), (others[1].0, &others[1].1)];
        let file = folder.write("m.safetensors", &safetensors(&tensors))?;
        Ok(Self { folder, file, w, others })
    }

    /// Everything but `name` is as it was.
    fn check_others(&self, file: &str, name: &str) -> Outcome {
        let bytes = self.folder.read(file)?;
        let present = [("w", self.w.clone())].into_iter().chain(self.others.clone());
        for (other, tensor) in present.filter(|(other, _)| *other != name) {
            assert_eq!(Tensor::read_safetensors(&bytes, other)?.bytes(), tensor.bytes(), "{other}");
        }
        assert_eq!(metadata(&bytes)?, r#"{"format":"pt"}"#);
        assert_eq!(self.folder.names()?.iter().filter(|name| name.starts_with(".dyt")).count(), 0);
        Ok(())
    }

    fn tensor(&self, file: &str, name: &str) -> Outcome<Tensor> {
        Tensor::read_safetensors(&self.folder.read(file)?, name)
    }
}

#[test]
fn a_tensor_of_the_input_is_replaced_and_the_others_stay() -> Outcome {
    let checkpoint = Checkpoint::new()?;
    let w = format!("{}:w", checkpoint.file);
    run(&w, &w, &[])?.succeeded();
    checkpoint.check_others("m.safetensors", "w")?;
    let y = checkpoint.tensor("m.safetensors", "w")?;
    assert_eq!(y.shape, checkpoint.w.shape);
    assert_ne!(y, checkpoint.w);
    // The same tensor as a file of its own has.
    let alone = checkpoint.folder.write("w.npy", &checkpoint.w.npy())?;
    run(&alone, &checkpoint.folder.file("y.npy"), &[])?.succeeded();
    assert_eq!(Tensor::read_npy(&checkpoint.folder.read("y.npy")?, &y)?, y);
    Ok(())
}

#[test]
fn a_tensor_is_added_to_the_input_and_to_another_file() -> Outcome {
    let checkpoint = Checkpoint::new()?;
    let w = format!("{}:w", checkpoint.file);
    run(&w, &format!("{}:new", checkpoint.file), &[])?.succeeded();
    checkpoint.check_others("m.safetensors", "new")?;
    let y = checkpoint.tensor("m.safetensors", "new")?;
    let source = checkpoint.folder.write("x.npy", &checkpoint.w.npy())?;
    run(&source, &format!("{}:from elsewhere", checkpoint.file), &[])?.succeeded();
    checkpoint.check_others("m.safetensors", "")?;
    assert_eq!(checkpoint.tensor("m.safetensors", "from elsewhere")?, y);
    assert_eq!(checkpoint.tensor("m.safetensors", "new")?, y);
    // A file that is not there yet has the tensor alone.
    run(&source, &format!("{}:w", checkpoint.folder.file("fresh.safetensors")), &[])?.succeeded();
    assert_eq!(checkpoint.tensor("fresh.safetensors", "w")?, y);
    Ok(())
}

/// The replacement may be longer, shorter, empty or of another type; every tensor stays at a multiple of its size,
/// which PyTorch needs to make a view of it.
#[test]
fn a_tensor_of_another_size_moves_the_others_in_whole_elements() -> Outcome {
    for (dtype, shape) in [
        (DType::F32, &[9, 3][..]),
        (DType::F16, &[1, 1]),
        (DType::Bf16, &[3, 1]),
        (DType::F32, &[0, 4]),
        (DType::F16, &[70_000, 33]),
    ] {
        for name in ["w", "other", "a.b:c \u{e9}", "new"] {
            let checkpoint = Checkpoint::new()?;
            let x = Tensor::random(dtype, shape, 4);
            let input = checkpoint.folder.write("x.npy", &x.npy())?;
            run(&input, &format!("{}:{name}", checkpoint.file), &[])?.succeeded();
            checkpoint.check_others("m.safetensors", name)?;
            let y = checkpoint.tensor("m.safetensors", name)?;
            assert_eq!((y.dtype, &y.shape), (dtype, &x.shape), "{name}");
            run(&input, &checkpoint.folder.file("y.npy"), &[])?.succeeded();
            assert!(
                Tensor::read_npy(&checkpoint.folder.read("y.npy")?, &y)? == y,
                "{name} {dtype} {shape:?}"
            );
            crate::support::assert_aligned(&checkpoint.folder.read("m.safetensors")?)?;
        }
    }
    Ok(())
}

#[test]
fn files_without_a_name_are_overwritten_only_by_force() -> Outcome {
    let (folder, x) = (Folder::new()?, Tensor::random(DType::F32, &[6, 8], 1));
    let input = folder.write("x.npy", &x.npy())?;
    for name in ["y.npy", "y.safetensors"] {
        let output = folder.write(name, OLD)?;
        run(&input, &output, &[])?.refused(1, "is there already; --force overwrites it");
        assert_eq!(folder.read(name)?, OLD);
        run(&input, &output, &["--force"])?.succeeded();
        assert_ne!(folder.read(name)?, OLD);
    }
    assert_eq!(Tensor::read_safetensors(&folder.read("y.safetensors")?, "y")?.shape, [6, 8]);
    // The input is such a file, too.
    run(&input, &input, &[])?.refused(1, "x.npy: is there already");
    assert_eq!(folder.read("x.npy")?, x.npy());
    run(&input, &input, &["--force"])?.succeeded();
    assert_ne!(folder.read("x.npy")?, x.npy());
    assert_eq!(folder.names()?, ["x.npy", "y.npy", "y.safetensors"]);
    Ok(())
}

#[test]
fn the_file_of_the_gradients_is_overwritten_only_by_force() -> Outcome {
    let (folder, x) = (Folder::new()?, Tensor::random(DType::F32, &[6, 8], 1));
    let input = folder.write("x.npy", &x.npy())?;
    let gradients = folder.write("g.safetensors", OLD)?;
    let output = folder.file("dx.npy");
    let more = ["--dy", &input, "--gradients", &gradients];
    run(&input, &output, &more)?.refused(1, "g.safetensors: is there already; --force overwrites it");
    assert_eq!(folder.names()?, ["g.safetensors", "x.npy"]);
    assert_eq!(folder.read("g.safetensors")?, OLD);
    run(&input, &output, &[&more[..], &["--force"]].concat())?.succeeded();
    assert_eq!(Tensor::read_safetensors(&folder.read("g.safetensors")?, "dalpha")?.shape, [1]);
    Ok(())
}

/// A file that no tensor can be added to is left alone, with `--force` as without.
#[test]
fn a_named_tensor_goes_into_no_other_kind_of_file() -> Outcome {
    let (folder, x) = (Folder::new()?, Tensor::random(DType::F32, &[6, 8], 1));
    let input = folder.write("x.npy", &x.npy())?;
    let output = folder.write("old.safetensors", OLD)?;
    for more in [&[][..], &["--force"]] {
        run(&input, &format!("{output}:w"), more)?.refused(1, "old.safetensors: ");
        assert_eq!(folder.read("old.safetensors")?, OLD);
    }
    let fresh = folder.file("fresh.safetensors");
    run(&input, &format!("{fresh}:__metadata__"), &[])?.refused(2, "__metadata__");
    run(&input, &format!("{fresh}:"), &[])?.refused(2, "no name after the colon");
    assert_eq!(folder.names()?, ["old.safetensors", "x.npy"]);
    Ok(())
}

/// An order and values of the metadata that a map would lose.
#[test]
fn metadata_stays_as_it_was_written() -> Outcome {
    let folder = Folder::new()?;
    let metadata_text = r#"{"z":"1","a":"\u00e9 \"q\"","m":"","b":"2","k":"3"}"#;
    let json = format!(
        r#"{{"w":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"__metadata__":{metadata_text}}}"#
    );
    let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0; 8]].concat();
    let file = folder.write("m.safetensors", &bytes)?;
    run(&format!("{file}:w"), &format!("{file}:v"), &[])?.succeeded();
    assert_eq!(metadata(&folder.read("m.safetensors")?)?, metadata_text);
    Ok(())
}

/// The tensors beside it are copied in blocks: 64 MiB of them pass through a process with 48 MiB of data.
#[test]
#[cfg(target_os = "linux")]
fn tensors_larger_than_memory_stay() -> Outcome {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    let folder = Folder::new()?;
    let json = r#"{"w":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},
        "big":{"dtype":"F16","shape":[33554432],"data_offsets":[32,67108896]}}"#;
    let path = folder.file("m.safetensors");
    let mut file = fs::File::create(&path)?;
    file.write_all(&[&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat())?;
    file.set_len(8 + json.len() as u64 + 67_108_896)?;
    file.seek(SeekFrom::End(-4))?;
    file.write_all(b"last")?;
    let script = "ulimit -d 49152 && exec \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_dyt"), "run", "rms_norm", "--device", "cpu"]);
    shell.args(["--input", &format!("{path}:w"), "--output", &format!("{path}:y"), "--memory", "1M"]);
    shell.env_remove("DYT_BACKEND").env_remove("DYT_CPU_LEVEL").env("RAYON_NUM_THREADS", "1");
    Ran::from(shell.output()?).succeeded();
    let mut end = Vec::new();
    let mut file = fs::File::open(&path)?;
    file.seek(SeekFrom::End(-4))?;
    file.read_to_end(&mut end)?;
    assert_eq!(end, b"last");
    Ok(())
}
