//! The bits of `flags`, of which `shaders/lib/params.wgsl` has the twins.

use super::{Arguments, Dsum, Operands};
use crate::{Argument, DType, Problem, Quant, Std};

const UNBIASED: u32 = 1;
const GAMMA: u32 = 2;
const BETA: u32 = 4;
const MEAN: u32 = 8;
const RSTD: u32 = 16;
pub(super) const DX: u32 = 32;
pub(super) const DGAMMA: u32 = 64;
pub(super) const DBETA: u32 = 128;
pub(super) const DALPHA: u32 = 256;
pub(super) const DSHIFT: u32 = 512;
pub(super) const ACCUMULATE: u32 = 1024;
pub(super) const ACCUMULATE_SCALARS: u32 = 131_072;
const PARAMETERS_F32: u32 = 2048;
const RESIDUAL: u32 = 4096;
const SUM_HOLDS_ADDEND: u32 = 8192;
const Y_HOLDS_RESIDUAL: u32 = 16_384;
const HAS_DSUM: u32 = 32_768;
const DX_HOLDS_DSUM: u32 = 65_536;
const QUANT_F8E4M3: u32 = 262_144;
const QUANT_F8E5M2: u32 = 524_288;
const QUANT_BY_ROW: u32 = 1_048_576;

/// Those of a forward.
pub(super) fn forward(problem: &Problem, at: &Arguments) -> u32 {
    common(problem, at) | present(at, &[(Argument::Beta, BETA)]) | residual(at) | quant(problem, at)
}

fn quant(problem: &Problem, at: &Arguments) -> u32 {
    let of_type = match problem.quant() {
        None | Some(Quant::I8) => 0,
        Some(Quant::F8E4M3) => QUANT_F8E4M3,
        Some(Quant::F8E5M2) => QUANT_F8E5M2,
    };
    of_type | present(at, &[(Argument::Scales, QUANT_BY_ROW)])
}

fn residual(at: &Arguments) -> u32 {
    let Some(Operands { addend, residual }) = at.operands else { return 0 };
    let held = |operand: Option<Argument>, bit| if operand.is_none() { bit } else { 0 };
    RESIDUAL | held(addend, SUM_HOLDS_ADDEND) | held(residual, Y_HOLDS_RESIDUAL)
}

/// Those of a backward.
pub(super) fn backward(problem: &Problem, at: &Arguments) -> u32 {
    common(problem, at) | gradients(at) | dsum(at)
}

fn dsum(at: &Arguments) -> u32 {
    match at.dsum {
        None => 0,
        Some(Dsum::Apart) => HAS_DSUM,
        Some(Dsum::InDx) => HAS_DSUM | DX_HOLDS_DSUM,
    }
}

/// Which gradients are asked for.
pub(super) fn gradients(at: &Arguments) -> u32 {
    let gradients = [
        (Argument::Dx, DX),
        (Argument::Dgamma, DGAMMA),
        (Argument::Dbeta, DBETA),
        (Argument::Dalpha, DALPHA),
        (Argument::Dshift, DSHIFT),
    ];
    present(at, &gradients)
}

fn common(problem: &Problem, at: &Arguments) -> u32 {
    let mut flags = present(at, &[(Argument::Gamma, GAMMA), (Argument::Mean, MEAN), (Argument::Rstd, RSTD)]);
    flags |= match problem.std() {
        Std::Biased => 0,
        Std::Unbiased => UNBIASED,
    };
    flags |= match problem.param_dtype() {
        DType::F32 => PARAMETERS_F32,
        // Then they are stored as x is.
        DType::F16 | DType::Bf16 | DType::Quant(_) => 0,
    };
    flags
}

fn present(at: &Arguments, flags: &[(Argument, u32)]) -> u32 {
    flags.iter().filter(|(argument, _)| at.has(*argument)).map(|(_, bit)| bit).sum()
}
