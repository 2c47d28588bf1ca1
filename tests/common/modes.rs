//! MXCSR, the register of the flags and modes of floating-point arithmetic on x86-64.

use core::arch::asm;

/// The register.
pub(crate) fn mxcsr() -> u32 {
    let mut register = 0_u32;
    // SAFETY: the instruction writes four bytes, and SSE is part of x86-64.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut register, options(nostack)) };
    register
}

/// Runs `work` with the register set to this, and restores it; what it was at the end of `work`.
pub(crate) fn with_mxcsr<T>(register: u32, work: impl FnOnce() -> T) -> (u32, T) {
    let before = mxcsr();
    set(register);
    let result = work();
    let after = mxcsr();
    set(before);
    (after, result)
}

fn set(register: u32) {
    // SAFETY: the tests change the flags and defined modes of what the register was.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const register, options(nostack)) };
}
