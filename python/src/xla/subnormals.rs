//! XLA's threads flush subnormal numbers to zero; the bounds of docs/numerics.md hold where they are kept.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use core::arch::asm;

/// Keeps subnormals until it is dropped, on this thread and on those that it starts meanwhile: the kernels' own.
#[derive(Debug)]
pub(super) struct Kept {
    before: Control,
}

impl Kept {
    pub(super) fn new() -> Self {
        let before = read();
        write(before & !FLUSH);
        Self { before }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        write(self.before);
    }
}

#[cfg(target_arch = "x86_64")]
type Control = u32;
/// FTZ and DAZ of MXCSR.
#[cfg(target_arch = "x86_64")]
const FLUSH: Control = 1 << 15 | 1 << 6;

#[cfg(target_arch = "x86_64")]
fn read() -> Control {
    let mut control = 0;
    // SAFETY: the instruction writes 4 bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags)) };
    control
}

#[cfg(target_arch = "x86_64")]
fn write(control: Control) {
    // SAFETY: the value was read from the register, but for bits that make it more like Rust's own.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
type Control = u64;
/// FZ and FZ16 of FPCR.
#[cfg(target_arch = "aarch64")]
const FLUSH: Control = 1 << 24 | 1 << 19;

#[cfg(target_arch = "aarch64")]
fn read() -> Control {
    let control;
    // SAFETY: the register can be read by every program.
    unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nostack, nomem, preserves_flags)) };
    control
}

#[cfg(target_arch = "aarch64")]
fn write(control: Control) {
    // SAFETY: as on x86-64.
    unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
}

// The others have no such mode, or no XLA.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Control = u32;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FLUSH: Control = 0;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const fn read() -> Control {
    0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const fn write(_control: Control) {}
