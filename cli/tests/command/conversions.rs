//! Files in another order, byte order or type than the command computes in: read, converted with a note, or refused.

use dyt::DType;

use crate::support::{Folder, Outcome, Ran, Tensor, dyt, npy_header, safetensors};

/// An `.npy` file with this descr, order and shape, and these elements.
fn npy(descr: &str, fortran: bool, shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let sizes = shape.iter().map(|size| format!("{size},")).collect::<String>();
    let dict = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({sizes}), }}");
    [npy_header(&dict, 1), elements.to_vec()].concat()
}

/// The elements in the order in which the first index runs fastest, found element by element from the indices.
fn fortran(tensor: &Tensor) -> Vec<u8> {
    let (shape, size) = (&tensor.shape, tensor.dtype.size());
    let bytes = tensor.bytes();
    let mut reordered = Vec::new();
    for at in 0..tensor.values.len() {
        let (mut rest, mut index) = (at, Vec::new());
        for size in shape {
            index.push(rest % size);
            rest /= size;
        }
        let place = index.iter().zip(shape).fold(0, |place, (index, size)| place * size + index);
        reordered.extend(&bytes[place * size..][..size]);
    }
    reordered
}

fn swapped(tensor: &Tensor) -> Vec<u8> {
    tensor.bytes().chunks(tensor.dtype.size()).flat_map(|element| element.iter().rev().copied()).collect()
}

fn doubles(tensor: &Tensor) -> Vec<u8> {
    tensor.wide().iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// y of a file with these bytes as its input.
fn y_of(folder: &Folder, name: &str, bytes: &[u8], more: &[&str]) -> Outcome<(Ran, Vec<u8>)> {
    let (input, output) = (folder.write(name, bytes)?, folder.file("y.npy"));
    let arguments = ["run", "layer_norm", "--force", "--input", &input, "--output", &output];
    let ran = dyt(&[&arguments[..], more].concat())?;
    let written = if ran.code == Some(0) { folder.read("y.npy")? } else { Vec::new() };
    Ok((ran, written))
}

/// The file gives the y of `x` stored as usual, with one line of note that has `part`; in silence if that is empty.
fn reads_as(name: &str, bytes: &[u8], x: &Tensor, part: &str) -> Outcome {
    let folder = Folder::new()?;
    let (_, expected) = y_of(&folder, "usual.npy", &x.npy(), &[])?;
    for more in [&[][..], &["--block-rows", "1"], &["--block-rows", "3"]] {
        let (ran, y) = y_of(&folder, name, bytes, more)?;
        match part {
            "" => _ = ran.succeeded(),
            part => ran.noted(part),
        }
        assert!(y == expected, "{name} {part} {more:?}");
    }
    Ok(())
}

#[test]
fn an_order_that_makes_no_difference_is_read_in_silence() -> Outcome {
    for shape in [&[12][..], &[1, 12], &[12, 1], &[1, 1], &[1, 7, 1], &[0, 5]] {
        let x = Tensor::random(DType::F32, shape, 1);
        reads_as("x.npy", &npy("<f4", true, shape, &x.bytes()), &x, "")?;
    }
    Ok(())
}

#[test]
fn fortran_order_is_converted_with_a_note() -> Outcome {
    for (dtype, descr) in [(DType::F32, "<f4"), (DType::F16, "<f2"), (DType::Bf16, "|V2")] {
        for shape in [&[7, 5][..], &[2, 3, 4], &[1, 3, 1, 5], &[2, 1, 3, 2, 2]] {
            let x = Tensor::random(dtype, shape, 2);
            let bytes = npy(descr, true, shape, &fortran(&x));
            reads_as("x.npy", &bytes, &x, "Fortran order")?;
        }
    }
    Ok(())
}

#[test]
fn big_endian_arrays_are_converted_with_a_note() -> Outcome {
    for (dtype, descr) in [(DType::F32, ">f4"), (DType::F16, ">f2")] {
        let x = Tensor::random(dtype, &[9, 5], 3);
        reads_as("x.npy", &npy(descr, false, &[9, 5], &swapped(&x)), &x, "big-endian")?;
    }
    Ok(())
}

#[test]
fn f64_becomes_f32_with_a_note() -> Outcome {
    let x = Tensor::random(DType::F32, &[9, 5], 4);
    reads_as("x.npy", &npy("<f8", false, &[9, 5], &doubles(&x)), &x, "f64 is rounded to f32")?;
    let swapped: Vec<u8> = doubles(&x).chunks(8).flat_map(|value| value.iter().rev().copied()).collect();
    reads_as("x.npy", &npy(">f8", false, &[9, 5], &swapped), &x, "f64 is rounded to f32")?;
    let json = r#"{"x":{"dtype":"F64","shape":[9,5],"data_offsets":[0,360]}}"#;
    let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &doubles(&x)].concat();
    reads_as("x.safetensors", &bytes, &x, "f64 is rounded to f32")?;
    // Halves way between two values of f32 go to the even one.
    let tie = 1.0 + f64::from(f32::EPSILON) * 1.5;
    let bytes = npy("<f8", false, &[1, 2], &[tie.to_le_bytes(), 1.0_f64.to_le_bytes()].concat());
    let rounded =
        Tensor { dtype: DType::F32, shape: vec![1, 2], values: vec![1.0 + 2.0 * f32::EPSILON, 1.0] };
    reads_as("x.npy", &bytes, &rounded, "f64 is rounded to f32")
}

#[test]
fn all_at_once_and_in_dy_and_parameters() -> Outcome {
    let folder = Folder::new()?;
    let (x, dy) = (Tensor::random(DType::F32, &[6, 4], 5), Tensor::random(DType::F32, &[6, 4], 6));
    let gamma = Tensor::random(DType::F32, &[2, 2], 7);
    let run = |x: &[u8], dy: &[u8], gamma: &[u8]| -> Outcome<(Ran, Vec<u8>)> {
        let [x, dy, gamma] = [("x.npy", x), ("dy.npy", dy), ("gamma.npy", gamma)]
            .map(|(name, bytes)| folder.write(name, bytes));
        let (x, dy, gamma, output) = (x?, dy?, gamma?, folder.file("dx.npy"));
        let files = ["--input", &x, "--dy", &dy, "--gamma", &gamma, "--output", &output];
        let ran = dyt(&[&["run", "dyt", "--alpha", "0.5", "--force"], &files[..]].concat())?;
        Ok((ran, folder.read("dx.npy")?))
    };
    let (plain, expected) = run(&x.npy(), &dy.npy(), &gamma.npy())?;
    let expected_gradients = plain.succeeded().stdout;
    let big_fortran = |tensor: &Tensor| {
        let elements: Vec<u8> = fortran(tensor).chunks(4).flat_map(|b| [b[3], b[2], b[1], b[0]]).collect();
        npy(">f4", true, &tensor.shape, &elements)
    };
    let doubles = npy("<f8", false, &dy.shape, &doubles(&dy));
    let (ran, dx) = run(&big_fortran(&x), &doubles, &big_fortran(&gamma))?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let notes: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(notes.len(), 3, "{ran:?}");
    for (note, file) in notes.iter().zip(["x.npy", "dy.npy", "gamma.npy"]) {
        assert!(note.starts_with("dyt: note: ") && note.contains(file), "{ran:?}");
    }
    assert!(notes[0].contains("big-endian") && notes[0].contains("Fortran order"), "{ran:?}");
    assert!(dx == expected);
    assert_eq!(ran.stdout, expected_gradients);
    Ok(())
}

/// Fortran order is the one conversion that takes the whole tensor; the error names a limit that is enough.
#[test]
fn fortran_order_has_the_limit_of_memory() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F16, &[100, 64], 8);
    let bytes = npy("<f2", true, &[100, 64], &fortran(&x));
    let (ran, _) = y_of(&folder, "x.npy", &bytes, &["--memory", "12K"])?;
    let needed: u64 = ran
        .stderr
        .split_once(" takes ")
        .and_then(|(_, rest)| rest.split(' ').next())
        .unwrap_or("")
        .parse()?;
    assert!(needed > 12_800, "{ran:?}");
    ran.refused(1, "x.npy: in Fortran order; converting it takes");
    let (ran, _) = y_of(&folder, "x.npy", &bytes, &["--memory", &(needed - 1).to_string()])?;
    ran.refused(1, &format!("takes {needed} bytes of memory, and --memory allows {}", needed - 1));
    let (ran, y) = y_of(&folder, "x.npy", &bytes, &["--memory", &needed.to_string()])?;
    ran.noted("Fortran order");
    assert!(y == y_of(&folder, "usual.npy", &x.npy(), &[])?.1);
    // What is converted element by element takes no more than a block.
    let (ran, _) = y_of(&folder, "x.npy", &npy(">f2", false, &[100, 64], &swapped(&x)), &["--memory", "1K"])?;
    ran.noted("big-endian");
    Ok(())
}

#[test]
fn headers_of_python_2_are_read() -> Outcome {
    let x = Tensor::random(DType::F32, &[4, 8], 9);
    for shape in ["(4L, 8L)", "(4L, 8)", "(4L, 8L,)"] {
        let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        reads_as("x.npy", &[npy_header(&dict, 1), x.bytes()].concat(), &x, "")?;
    }
    Ok(())
}

#[test]
fn types_by_name_are_told_for_what_they_are() -> Outcome {
    let folder = Folder::new()?;
    for (descr, part) in [
        ("bfloat16", "'bfloat16' is the name of a type and no type string of NumPy; bf16 is read as |V2"),
        ("<i4", "dtype \"<i4\"; f32, f16, bf16 and f64 are read"),
    ] {
        let (ran, _) = y_of(&folder, "x.npy", &npy(descr, false, &[2, 2], &[0; 8]), &[])?;
        ran.refused(1, part);
    }
    Ok(())
}

/// `open` of a pipe waits for somebody to write: it must not come so far.
#[test]
#[cfg(unix)]
fn a_named_pipe_is_refused_at_once() -> Outcome {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let folder = Folder::new()?;
    let x = folder.write("x.safetensors", &safetensors(&[("x", &Tensor::random(DType::F32, &[2, 2], 1))]))?;
    let pipe = folder.file("pipe.npy");
    let named = folder.file("pipe.safetensors");
    assert!(Command::new("mkfifo").args([&pipe, &named]).status()?.success());
    let named = format!("{named}:w");
    let output = folder.file("y.npy");
    for files in [
        ["--input", &pipe, "--output", &output],
        ["--input", &named, "--output", &output],
        ["--input", &x, "--output", &pipe],
        ["--input", &x, "--output", &named],
    ] {
        let mut command = crate::support::command();
        command.args(["run", "rms_norm", "--device", "cpu"]).args(files);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > Duration::from_secs(30) {
                child.kill()?;
                return Err(format!("{files:?} waits").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ran::from(child.wait_with_output()?).refused(1, "not a regular file");
    }
    Ok(())
}
