//! The modes of a thread's floating-point arithmetic: rounding, flushing of subnormal numbers, traps.

/// The modes of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes(register::Value);

impl Modes {
    pub(super) fn of_this_thread() -> Self {
        Self(register::get() & register::MODES)
    }

    /// Runs `work` with these modes, and restores those of the thread.
    pub(super) fn during(self, work: impl FnOnce()) {
        let before = register::get();
        let modes = Self(before & register::MODES);
        if modes == self {
            return work();
        }
        register::set(before & !register::MODES | self.0);
        work();
        register::set(before);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod register {
    use core::arch::asm;

    /// MXCSR.
    pub(super) type Value = u32;
    /// All but the flags of what has happened.
    pub(super) const MODES: Value = !0x3f;

    pub(super) fn get() -> Value {
        let mut value = 0;
        // SAFETY: it writes the register to `value` alone.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }

    /// The work between two calls is in functions that are not inlined here, and so no arithmetic is moved across.
    pub(super) fn set(value: Value) {
        // SAFETY: the value is one that a thread of this process has.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    use core::arch::asm;

    /// FPCR. The flags of what has happened are in another register.
    pub(super) type Value = u64;
    pub(super) const MODES: Value = !0;

    pub(super) fn get() -> Value {
        let value;
        // SAFETY: it reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub(super) fn set(value: Value) {
        // SAFETY: the value is one that a thread of this process has.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

/// Modes that cannot be read are the same on all threads.
#[cfg(any(not(any(target_arch = "x86_64", target_arch = "aarch64")), miri))]
mod register {
    pub(super) type Value = u32;
    pub(super) const MODES: Value = !0;

    pub(super) const fn get() -> Value {
        0
    }

    pub(super) const fn set(_value: Value) {}
}
