//! Every kernel is valid WGSL, and nothing in `shaders/` is without use. Needs neither an adapter nor a driver.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ::wgpu::naga;
use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

use super::super::compose::Kernel;

/// What naga, the compiler of wgpu, says against a kernel, behind the place in `shaders/` that it means.
fn mistake(kernel: Kernel, parser: &mut wgsl::Frontend, validator: &mut Validator) -> Option<String> {
    let source = kernel.source();
    let (location, message) = match parser.parse(&source) {
        Err(error) => (error.location(&source), error.emit_to_string(&source)),
        Ok(module) => match validator.validate(&module) {
            Err(error) => (error.location(&source), error.emit_to_string(&source)),
            Ok(_) => return None,
        },
    };
    let place = location.map_or_else(String::new, |location| {
        let (file, line) = kernel.origin(location.line_number as usize);
        format!("shaders/{file}:{line}: ")
    });
    Some(format!("{place}{kernel:?}: {message}"))
}

#[test]
fn every_kernel_is_valid() {
    let mut parser = wgsl::Frontend::new();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
    // One mistake of a piece is one of many kernels: the first says enough.
    let mistake = Kernel::all().into_iter().find_map(|kernel| mistake(kernel, &mut parser, &mut validator));
    assert!(mistake.is_none(), "{}", mistake.unwrap_or_default());
}

/// WebGPU's default limit.
#[test]
fn no_kernel_has_more_than_eight_storage_buffers() {
    for kernel in Kernel::all() {
        assert!(kernel.declared().len() <= 8, "{kernel:?}");
    }
}

#[test]
fn a_line_of_a_kernel_is_traced_to_its_piece() {
    for kernel in Kernel::all() {
        let source = kernel.source();
        let pieces: Vec<_> = kernel.pieces();
        let mut found = 0;
        for (i, line) in source.lines().enumerate() {
            let (file, number) = kernel.origin(i + 1);
            if let Some((_, text)) = pieces.iter().find(|(name, _)| *name == file) {
                assert_eq!(text.lines().nth(number - 1), Some(line), "{kernel:?}: {file}:{number}");
                found += 1;
            }
        }
        let expected: usize = pieces.iter().map(|(_, text)| text.lines().count()).sum();
        assert_eq!(found, expected, "{kernel:?}");
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The name that a line defines: a function, a constant, a variable of the module, a type or a field of one.
fn defined(line: &str) -> Option<&str> {
    let mut name = words(line);
    let first = name.next()?;
    let field = line.starts_with("    ") && line.trim_start().starts_with(&format!("{first}: "));
    match first {
        "fn" | "const" | "struct" | "alias" => name.next(),
        "var" if !line.starts_with(' ') => name.nth(1),
        _ => (field && line.ends_with(',')).then_some(first),
    }
}

#[test]
fn every_file_and_every_name_is_of_use_to_a_kernel() -> std::io::Result<()> {
    let mut unused = BTreeSet::new();
    let mut used = BTreeSet::new();
    for kernel in Kernel::all() {
        let source = kernel.source();
        let mut counts = BTreeMap::<_, usize>::new();
        source.lines().flat_map(words).for_each(|word| *counts.entry(word).or_default() += 1);
        for (file, text) in kernel.pieces() {
            used.insert((file.to_owned(), String::new()));
            for name in text.lines().filter_map(defined) {
                let place = (file.to_owned(), name.to_owned());
                // Beside its definition; `main` is called from outside.
                let list = if counts[name] > 1 || name == "main" { &mut used } else { &mut unused };
                list.insert(place);
            }
        }
    }
    assert!(used.contains(&("lib/params.wgsl".to_owned(), "largest_rstd".to_owned())));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for below in ["", "lib/"] {
        for entry in folder.join(below).read_dir()? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".wgsl") {
                unused.insert((format!("{below}{name}"), String::new()));
            }
        }
    }
    let unused: Vec<_> = unused.difference(&used).collect();
    assert!(unused.is_empty(), "{unused:?}");
    Ok(())
}
