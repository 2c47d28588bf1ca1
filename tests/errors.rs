//! What a problem, a device and a name can be refused for, and how each error reads. Errors of calls are in
//! `arguments.rs` and `aliasing.rs`.

mod common;

use dyt::{
    Argument, Backend, Backward, DType, Device, Error, Level, Op, Pass, Problem, ProblemBuilder, Refusal,
    Result, Std,
};

fn refused(problem: ProblemBuilder) -> Error {
    problem.build().expect_err("the problem is wrong")
}

#[test]
fn zero_cols() {
    for op in Op::ALL {
        assert_eq!(refused(Problem::new(op, 3, 0)), Error::ZeroCols);
        assert_eq!(refused(Problem::new(op, 0, 0).row_stride(0)), Error::ZeroCols);
    }
}

#[test]
fn zero_inner() {
    assert_eq!(refused(Problem::new(Op::Dyt, 3, 4).inner(0)), Error::ZeroInner);
}

#[test]
fn zero_rows_are_no_error() -> Result<()> {
    for problem in common::problems(0, 5) {
        assert_eq!(problem.build()?.span(), 0);
    }
    Ok(())
}

#[test]
fn stride_too_small() -> Result<()> {
    let stride = |row_stride| Problem::new(Op::RmsNorm, 3, 4).inner(5).row_stride(row_stride);
    assert_eq!(
        refused(stride(19)),
        Error::StrideTooSmall { argument: Argument::X, row_stride: 19, minimum: 20 }
    );
    assert_eq!(
        refused(stride(0)),
        Error::StrideTooSmall { argument: Argument::X, row_stride: 0, minimum: 20 }
    );
    assert_eq!(stride(20).build()?.row_stride(), 20);
    Ok(())
}

#[test]
fn size_overflow() {
    let half = usize::MAX / 2 + 1;
    for (rows, cols, inner, row_stride) in [
        (1, half, 2, 0),
        (1, half, 2, 7),
        (half, 2, 1, 0),
        (half, 1, 1, 0),
        (2, 1, 1, half),
        (1, usize::MAX, 1, 0),
        (usize::MAX, 1, 1, 0),
        (usize::MAX, usize::MAX, usize::MAX, usize::MAX),
        (1, 1, usize::MAX, 0),
        (0, half, 1, 0),
        (1 << (usize::BITS - 4), 1, 1, 0),
    ] {
        let mut problem = Problem::new(Op::Derf, rows, cols).inner(inner);
        if row_stride != 0 {
            problem = problem.row_stride(row_stride);
        }
        assert_eq!(refused(problem), Error::SizeOverflow { rows, cols, inner, row_stride });
    }
}

#[test]
fn what_is_accepted_overflows_nothing_later() {
    for shift in 0..usize::BITS {
        let large = 1_usize << shift;
        for (rows, cols, inner) in
            [(large, 3, 1), (1, large, 1), (3, large, 1), (1, 3, large), (3, 1, large), (0, large, 1)]
        {
            for problem in Op::ALL.map(|op| Problem::new(op, rows, cols).inner(inner).build()) {
                let Ok(problem) = problem else { continue };
                let tensor =
                    problem.span().max(problem.statistics()).checked_mul(4).expect("it fits an address");
                assert!(tensor <= isize::MAX as usize);
                for device in common::devices() {
                    assert!(device.workspace_bytes(&problem, Pass::Backward) <= isize::MAX as usize);
                    assert_eq!(device.workspace_bytes(&problem, Pass::Forward), 0);
                }
            }
        }
    }
}

#[test]
fn invalid_gamma_offset() -> Result<()> {
    for op in Op::ALL {
        for wrong in [f32::INFINITY, f32::NEG_INFINITY] {
            let error = refused(Problem::new(op, 2, 3).gamma_offset(wrong));
            assert_eq!(error, Error::InvalidGammaOffset { gamma_offset: wrong });
        }
        let error = refused(Problem::new(op, 2, 3).gamma_offset(f32::NAN));
        assert!(matches!(error, Error::InvalidGammaOffset { gamma_offset } if gamma_offset.is_nan()));
        assert_eq!(Problem::new(op, 2, 3).build()?.gamma_offset(), 0.0);
        for right in [0.0, -1.0, 1.0, f32::MAX] {
            assert_eq!(Problem::new(op, 2, 3).gamma_offset(right).build()?.gamma_offset(), right);
        }
    }
    Ok(())
}

#[test]
fn invalid_eps() -> Result<()> {
    for op in Op::ALL {
        for wrong in [-1e-5, -f32::MIN_POSITIVE, f32::NEG_INFINITY, f32::INFINITY] {
            assert_eq!(refused(Problem::new(op, 2, 3).eps(wrong)), Error::InvalidEps { eps: wrong });
        }
        let error = refused(Problem::new(op, 2, 3).eps(f32::NAN));
        assert!(matches!(error, Error::InvalidEps { eps } if eps.is_nan()), "{error:?}");
        for right in [0.0, -0.0, 1e-45, f32::MAX] {
            assert_eq!(Problem::new(op, 2, 3).eps(right).build()?.eps(), right);
        }
    }
    Ok(())
}

#[test]
fn unbiased_std() -> Result<()> {
    let unbiased = |op, cols| Problem::new(op, 2, cols).std(Std::Unbiased);
    assert_eq!(refused(unbiased(Op::LayerNorm, 1)), Error::UnbiasedSingleColumn);
    assert_eq!(refused(unbiased(Op::LayerNorm, 1).inner(8)), Error::UnbiasedSingleColumn);
    unbiased(Op::LayerNorm, 2).build()?;
    for op in [Op::Dyt, Op::Derf, Op::RmsNorm] {
        assert_eq!(refused(unbiased(op, 4)), Error::UnbiasedNotLayerNorm { op });
    }
    Ok(())
}

#[test]
fn param_dtype() -> Result<()> {
    for dtype in DType::ALL {
        for param_dtype in DType::ALL {
            let problem = Problem::new(Op::Dyt, 2, 3).dtype(dtype).param_dtype(param_dtype);
            if param_dtype == dtype || param_dtype == DType::F32 {
                assert_eq!(problem.build()?.param_dtype(), param_dtype);
            } else {
                assert_eq!(refused(problem), Error::ParamDtype { dtype, param_dtype });
            }
        }
    }
    Ok(())
}

#[test]
fn unknown_backend() {
    for name in [
        "",
        "gpu",
        "CPU",
        "cpu ",
        "auto:1",
        "cuda:",
        "cuda:-1",
        "cuda:x",
        "cuda:4294967296",
        "wgpu:",
        ":",
        "cuda:1:2",
    ] {
        let error = Device::open(name).expect_err("the name is wrong");
        assert_eq!(error, Error::UnknownBackend { name: name.to_owned() });
    }
}

#[test]
fn unknown_level() {
    for name in ["", "sse2", "AVX2", "avx2 ", "avx512:1"] {
        let unknown = Error::UnknownLevel { name: name.to_owned() };
        assert_eq!(Level::from_name(name), Err(unknown.clone()));
        assert_eq!(Device::open(&format!("cpu:{name}")).expect_err("the name is wrong"), unknown);
    }
}

#[test]
fn backend_unavailable() {
    for (backend, feature, built, names) in [
        (Backend::Cuda, "cuda", cfg!(feature = "cuda"), ["cuda", "cuda:0", "cuda:7"]),
        (Backend::Wgpu, "wgpu", cfg!(feature = "wgpu"), ["wgpu", "wgpu:llvmpipe", "wgpu:a:b"]),
    ] {
        let reason = Refusal::FeatureDisabled { feature };
        for name in names {
            if built {
                // What the machine lacks, if it lacks anything; `dyt-simt` tests each refusal of CUDA on a driver of
                // its own, and `tests/wgpu` those of wgpu.
                let outcome = Device::open(name).map(|device| device.backend());
                let refused =
                    matches!(&outcome, Err(Error::BackendUnavailable { backend: of, .. }) if *of == backend);
                assert!(refused || outcome == Ok(backend), "{outcome:?}");
                continue;
            }
            let error = Device::open(name).expect_err("there are no such kernels yet");
            assert_eq!(error, Error::BackendUnavailable { backend, reason: reason.clone() });
        }
    }
}

/// What this processor has of the levels of its architecture, without a question to the library.
fn has(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match level {
            Level::Portable => true,
            Level::Avx2 => avx2,
            Level::Avx512 => avx2 && avx512,
            Level::Neon => false,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        level == Level::Portable || (level == Level::Neon && cfg!(target_arch = "aarch64"))
    }
}

#[test]
fn level_unavailable() {
    let actual = std::env::consts::ARCH;
    for level in Level::ALL {
        let opened = Device::cpu(level).map(|device| device.level());
        let needed = match level {
            Level::Portable => actual,
            Level::Avx2 | Level::Avx512 => "x86_64",
            Level::Neon => "aarch64",
        };
        if has(level) {
            assert_eq!(opened, Ok(Some(level)));
            assert_eq!(level.check(), Ok(()));
            continue;
        }
        let error = opened.expect_err("the processor lacks it");
        assert_eq!(level.check(), Err(error.clone()));
        assert_eq!(Device::open(&format!("cpu:{level}")).expect_err("the same"), error);
        let Error::LevelUnavailable { level: refused, reason } = error else { unreachable!("{error:?}") };
        assert_eq!(refused, level);
        if needed == actual {
            assert!(
                matches!(reason, Refusal::MissingInstructions { needed } if !needed.is_empty()),
                "{reason:?}"
            );
        } else {
            assert_eq!(reason, Refusal::OtherArchitecture { needed, actual });
        }
    }
}

#[test]
fn out_of_memory() -> Result<()> {
    let most = isize::MAX as usize;
    for device in common::devices() {
        for (dtype, len, bytes) in [
            (DType::F32, usize::MAX, usize::MAX),
            (DType::F32, usize::MAX / 4, usize::MAX / 4 * 4),
            (DType::Bf16, most / 2 + 1, most / 2 * 2 + 2),
            (DType::F16, most / 2 - 64, most / 2 * 2 - 128),
        ] {
            let error = device.zeros(dtype, len).expect_err("nobody has so much memory");
            assert_eq!(error, Error::OutOfMemory { bytes });
        }
        let problem = Problem::new(Op::Dyt, 1, most / 16).build()?;
        let (dy, x, alpha, mut dx) = ([0.0_f32; 1], [0.0_f32; 1], 1.0_f32, [7.0_f32; 1]);
        let arguments = Backward::of(&x).dy(&dy).alpha(&alpha).dx(&mut dx);
        let error = device.backward(&problem, arguments).expect_err("dy has one element");
        // The arguments are looked at before a workspace is asked for that nobody has.
        let expected = problem.span();
        assert_eq!(error, Error::WrongLength { argument: Argument::Dy, expected, actual: 1 });
        assert_eq!(dx, [7.0]);
    }
    Ok(())
}

#[test]
fn download_compares_dtype_and_length() -> Result<()> {
    let argument = Argument::Y;
    for device in common::devices() {
        let buffer = device.upload(&[1.0_f32, 2.0, 3.0])?;
        let mut short = [5.0_f32; 2];
        let error = device.read(&buffer, &mut short).expect_err("too short");
        assert_eq!(error, Error::WrongLength { argument, expected: 3, actual: 2 });
        assert_eq!(short, [5.0; 2]);
        let mut narrow = [half::f16::ONE; 3];
        let error = device.read(&buffer, &mut narrow).expect_err("too narrow");
        assert_eq!(error, Error::WrongDtype { argument, expected: DType::F32, actual: DType::F16 });
        assert_eq!(narrow, [half::f16::ONE; 3]);
    }
    Ok(())
}

#[test]
fn errors_read_as_sentences() {
    let (x, gamma, op) = (Argument::X, Argument::Gamma, Op::RmsNorm);
    let cuda = |reason| Error::BackendUnavailable { backend: Backend::Cuda, reason };
    let level = |reason| Error::LevelUnavailable { level: Level::Avx512, reason };
    for (error, text) in [
        (Error::ZeroCols, "cols is 0, and a row needs at least one element"),
        (Error::ZeroInner, "inner is 0; it is 1 for channels-last data"),
        (
            Error::StrideTooSmall { argument: x, row_stride: 3, minimum: 4 },
            "row_stride of x is 3 elements, and a row takes 4",
        ),
        (Error::ZeroHeads, "heads is 0; it is 1 where a token is one row"),
        (
            Error::HeadsChannelsFirst { heads: 2, inner: 3 },
            "2 heads beside inner 3; channels-first data has no heads",
        ),
        (
            Error::HeadsOverlap { argument: Argument::Y, head_stride: 3, cols: 4 },
            "head_stride of y is 3 elements, and a head takes 4",
        ),
        (
            Error::ParamRows { param_rows: 4, rows: 6 },
            "param_rows is 4, and does not divide 6, the rows with all heads",
        ),
        (
            Error::InPlaceStrides { output: Argument::Dx, input: Argument::Dy },
            "dx cannot take the place of dy, which has other strides",
        ),
        (
            Error::SizeOverflow { rows: 1, cols: 2, inner: 3, row_stride: 4 },
            "rows 1 × row_stride 4 (cols 2 × inner 3) overflows the address space",
        ),
        (Error::InvalidEps { eps: f32::NAN }, "eps is NaN; it must be finite and at least 0"),
        (Error::InvalidGammaOffset { gamma_offset: f32::INFINITY }, "gamma_offset is inf; it must be finite"),
        (Error::UnbiasedSingleColumn, "the unbiased standard deviation needs at least 2 columns"),
        (Error::UnbiasedNotLayerNorm { op }, "Std::Unbiased is a form of LayerNorm, and the op is rms_norm"),
        (
            Error::ParamDtype { dtype: DType::F16, param_dtype: DType::Bf16 },
            "parameters of dtype bf16 beside data of dtype f16; allowed are f16 and f32",
        ),
        (Error::WrongLength { argument: x, expected: 6, actual: 5 }, "x has 5 elements, expected 6"),
        (
            Error::WrongDtype { argument: gamma, expected: DType::F32, actual: DType::Bf16 },
            "gamma has dtype bf16, expected f32; for a problem, `param_dtype` sets it",
        ),
        (
            Error::WrongDtype { argument: x, expected: DType::F32, actual: DType::Bf16 },
            "x has dtype bf16, expected f32; for a problem, `dtype` sets it",
        ),
        (
            Error::WrongDtype { argument: Argument::Mean, expected: DType::F32, actual: DType::Bf16 },
            "mean has dtype bf16, expected f32",
        ),
        (Error::MissingArgument { op: Op::Derf, argument: Argument::Shift }, "derf needs shift"),
        (Error::UnexpectedArgument { op, argument: Argument::Mean }, "rms_norm has no argument mean"),
        (Error::MissingGamma, "dgamma is asked for, and gamma is not given"),
        (
            Error::Aliasing { output: Argument::Dx, other: x },
            "dx shares memory with x; dx may take the place of dy or dsum, exactly",
        ),
        (
            Error::Aliasing { output: Argument::Dgamma, other: Argument::Dbeta },
            "dgamma shares memory with dbeta; it has to be apart",
        ),
        (
            Error::MissingPartner { argument: Argument::Residual, needed: Argument::Sum },
            "residual is given, and sum is not",
        ),
        (
            Error::NotSupported { backend: Backend::Wgpu, what: "dsum" },
            "the wgpu kernels of this version of dyt do not take dsum",
        ),
        (Error::WorkspaceTooSmall { needed: 12, actual: 8 }, "the workspace has 8 bytes, and 12 are needed"),
        (Error::Misaligned { argument: x, alignment: 4 }, "x is not aligned to 4 bytes"),
        (Error::OutOfMemory { bytes: 9 }, "9 bytes of memory could not be had"),
        (
            Error::UnknownBackend { name: "gpu".to_owned() },
            "unknown backend \"gpu\"; known are auto, cpu, cpu:LEVEL, cuda, cuda:N, wgpu, wgpu:NAME",
        ),
        (
            Error::UnknownLevel { name: "sse".to_owned() },
            "unknown CPU level \"sse\"; known are portable, avx2, avx512, neon",
        ),
        (
            cuda(Refusal::FeatureDisabled { feature: "cuda" }),
            "backend cuda is not available: built without the cargo feature `cuda`",
        ),
        (
            cuda(Refusal::NotImplemented),
            "backend cuda is not available: this version of dyt does not run it on this architecture",
        ),
        (
            level(Refusal::OtherArchitecture { needed: "x86_64", actual: "aarch64" }),
            "CPU level avx512 is not available: it belongs to x86_64, and this program runs on aarch64",
        ),
        (
            level(Refusal::MissingInstructions { needed: "AVX2" }),
            "CPU level avx512 is not available: the processor or the operating system lacks some of AVX2",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
