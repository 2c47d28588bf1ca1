//! The baselines: how fast this machine moves the same bytes without computing anything.
//!
//! A plain store reads the line that it is going to write. A streaming ("non-temporal") store does not, so that it is
//! the faster one where the output does not fit the caches, and the slower one where it does. Both are measured, and
//! the faster one is what an op is compared with. A device with a memory of its own copies there, by its own means.

use dyt::{Backend, Device, Pass};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::workload::HostBytes;

/// Bytes of a tensor below which the pool is left alone, as the library does: `ELEMENTS_FOR_THREADS` of its
/// src/cpu/plan.rs in the 16-bit types, the smallest ones.
const BYTES_FOR_THREADS: usize = 256 * 1024;
/// What one task's part begins at a multiple of: a page, and so a vector of any level.
const PART_STEP: usize = 4096;

/// A way of moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// One read, one write: the system's `memcpy`.
    Copy,
    /// One read, one write by streaming stores.
    NtCopy,
    /// Two reads and a sum of integers, one write.
    Triad,
    /// Two reads and a sum of integers, one write by streaming stores.
    NtTriad,
    /// One read, one write: [`Device::copy`] in the device's own memory.
    DeviceCopy,
}

impl Baseline {
    /// Those of a device.
    #[must_use]
    pub fn on(device: &Device) -> &'static [Self] {
        match device.backend() {
            Backend::Cpu => &[Self::Copy, Self::NtCopy, Self::Triad, Self::NtTriad],
            _ => &[Self::DeviceCopy],
        }
    }

    /// Whether `pass` is compared with it: it moves the same tensors, or is all that there is.
    #[must_use]
    pub const fn serves(self, pass: Pass) -> bool {
        match self {
            Self::Copy | Self::NtCopy => matches!(pass, Pass::Forward),
            Self::Triad | Self::NtTriad => matches!(pass, Pass::Backward),
            Self::DeviceCopy => true,
        }
    }

    /// Tensors that it moves, read and written.
    #[must_use]
    pub const fn tensors(self) -> usize {
        match self {
            Self::Copy | Self::NtCopy | Self::DeviceCopy => 2,
            Self::Triad | Self::NtTriad => 3,
        }
    }

    /// `copy`, `nt_copy`, `triad`, `nt_triad` or `device_copy`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::NtCopy => "nt_copy",
            Self::Triad => "triad",
            Self::NtTriad => "nt_triad",
            Self::DeviceCopy => "device_copy",
        }
    }

    /// Moves x, and dy where two are read, to the output, on the threads of the current rayon pool.
    pub(crate) fn run(self, host: &mut HostBytes<'_>) {
        let threads = rayon::current_num_threads();
        if threads < 2 || host.out.len() < BYTES_FOR_THREADS {
            self.part(host.x, host.dy, host.out);
            return;
        }
        let step = host.out.len().div_ceil(threads).next_multiple_of(PART_STEP);
        let reads = host.x.par_chunks(step).zip(host.dy.par_chunks(step));
        reads.zip(host.out.par_chunks_mut(step)).for_each(|((x, dy), out)| self.part(x, dy, out));
    }

    fn part(self, x: &[u8], dy: &[u8], out: &mut [u8]) {
        match self {
            Self::Copy | Self::DeviceCopy => out.copy_from_slice(x),
            Self::NtCopy => vector::copy(x, out),
            Self::Triad => vector::triad(x, dy, out, false),
            Self::NtTriad => vector::triad(x, dy, out, true),
        }
    }
}

/// On other architectures, and for what whole vectors leave over.
fn scalar_triad(x: &[u8], dy: &[u8], out: &mut [u8]) {
    for ((out, x), dy) in out.iter_mut().zip(x).zip(dy) {
        *out = x.wrapping_add(*dy);
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod vector {
    pub(super) fn copy(x: &[u8], out: &mut [u8]) {
        out.copy_from_slice(x);
    }

    pub(super) fn triad(x: &[u8], dy: &[u8], out: &mut [u8], _stream: bool) {
        super::scalar_triad(x, dy, out);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod vector {
    use core::arch::x86_64::{
        __m256i, __m512i, _mm_sfence, _mm256_add_epi8, _mm256_load_si256, _mm256_store_si256,
        _mm256_stream_si256, _mm512_add_epi8, _mm512_load_si512, _mm512_store_si512, _mm512_stream_si512,
    };

    use super::scalar_triad;

    /// Copies by streaming stores as far as the processor has them.
    pub(super) fn copy(x: &[u8], out: &mut [u8]) {
        let done = dispatch::<true>(x, None, out);
        out[done..].copy_from_slice(&x[done..]);
    }

    /// Adds x and dy, byte by byte.
    pub(super) fn triad(x: &[u8], dy: &[u8], out: &mut [u8], stream: bool) {
        let done =
            if stream { dispatch::<true>(x, Some(dy), out) } else { dispatch::<false>(x, Some(dy), out) };
        scalar_triad(&x[done..], &dy[done..], &mut out[done..]);
    }

    /// How many bytes from the beginning have been written: by the widest vectors that the processor has.
    fn dispatch<const STREAM: bool>(x: &[u8], dy: Option<&[u8]>, out: &mut [u8]) -> usize {
        if is_x86_feature_detected!("avx512bw") {
            // SAFETY: the feature has just been detected, and it includes AVX-512 F.
            unsafe { avx512::<STREAM>(x, dy, out) }
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature has just been detected.
            unsafe { avx2::<STREAM>(x, dy, out) }
        } else {
            0
        }
    }

    #[target_feature(enable = "avx512bw")]
    fn avx512<const STREAM: bool>(x: &[u8], dy: Option<&[u8]>, out: &mut [u8]) -> usize {
        // SAFETY: the instructions are those of this function's feature.
        unsafe { blocks::<__m512i, STREAM>(x, dy, out) }
    }

    #[target_feature(enable = "avx2")]
    fn avx2<const STREAM: bool>(x: &[u8], dy: Option<&[u8]>, out: &mut [u8]) -> usize {
        // SAFETY: the instructions are those of this function's feature.
        unsafe { blocks::<__m256i, STREAM>(x, dy, out) }
    }

    /// Writes `x`, or the sum of `x` and `dy`, to `out`, four vectors at a time and as far as whole blocks go.
    /// Returns how far; 0 where a slice is shorter or not aligned to `V`.
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    unsafe fn blocks<V: Vector, const STREAM: bool>(x: &[u8], dy: Option<&[u8]>, out: &mut [u8]) -> usize {
        let (size, len) = (size_of::<V>(), out.len());
        let fits = |s: &[u8]| s.len() >= len && s.as_ptr().addr().is_multiple_of(size);
        if !(fits(x) && dy.is_none_or(fits) && fits(out)) {
            return 0;
        }
        let whole = len / (4 * size) * (4 * size);
        for block in (0..whole).step_by(4 * size) {
            for at in [block, block + size, block + 2 * size, block + 3 * size] {
                // SAFETY: each slice has `whole` bytes and so a vector at `at`, a multiple of its size from an
                // aligned beginning; the instructions are there by the caller's promise.
                unsafe {
                    let mut v = V::load(x.as_ptr().add(at));
                    if let Some(dy) = dy {
                        v = v.add(V::load(dy.as_ptr().add(at)));
                    }
                    v.store::<STREAM>(out.as_mut_ptr().add(at));
                }
            }
        }
        if STREAM {
            // Streaming stores are not ordered with others: whoever reads the output next must find it written.
            // SAFETY: every x86-64 processor has it.
            unsafe { _mm_sfence() };
        }
        whole
    }

    /// A vector register of bytes.
    trait Vector: Copy {
        /// # Safety
        /// `p` is valid for reads of a vector and aligned to it, and the processor has the instructions.
        unsafe fn load(p: *const u8) -> Self;
        /// # Safety
        /// The processor has the instructions.
        unsafe fn add(self, other: Self) -> Self;
        /// # Safety
        /// `p` is valid for writes of a vector and aligned to it, and the processor has the instructions.
        unsafe fn store<const STREAM: bool>(self, p: *mut u8);
    }

    impl Vector for __m512i {
        #[inline(always)]
        unsafe fn load(p: *const u8) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm512_load_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm512_add_epi8(self, other) }
        }
        #[inline(always)]
        unsafe fn store<const STREAM: bool>(self, p: *mut u8) {
            let p = p.cast();
            // SAFETY: the caller's promise.
            unsafe { if STREAM { _mm512_stream_si512(p, self) } else { _mm512_store_si512(p, self) } }
        }
    }

    impl Vector for __m256i {
        #[inline(always)]
        unsafe fn load(p: *const u8) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm256_load_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm256_add_epi8(self, other) }
        }
        #[inline(always)]
        unsafe fn store<const STREAM: bool>(self, p: *mut u8) {
            let p = p.cast();
            // SAFETY: the caller's promise.
            unsafe { if STREAM { _mm256_stream_si256(p, self) } else { _mm256_store_si256(p, self) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages, so that the beginning is aligned to every vector.
    #[repr(C, align(4096))]
    #[derive(Clone)]
    struct Pages([u8; 80 * 4096]);

    fn pages(step: usize) -> Box<Pages> {
        let mut pages = Box::new(Pages([0; 80 * 4096]));
        for (index, byte) in pages.0.iter_mut().enumerate() {
            *byte = (index * step % 251) as u8;
        }
        pages
    }

    fn check(baseline: Baseline, from: usize, to: usize) {
        let (x, dy, mut out) = (pages(3), pages(7), pages(0));
        let mut host = HostBytes { x: &x.0[from..to], dy: &dy.0[from..to], out: &mut out.0[from..to] };
        baseline.run(&mut host);
        for at in 0..out.0.len() {
            let moved = match baseline {
                Baseline::Copy | Baseline::NtCopy | Baseline::DeviceCopy => x.0[at],
                Baseline::Triad | Baseline::NtTriad => x.0[at].wrapping_add(dy.0[at]),
            };
            let expected = if (from..to).contains(&at) { moved } else { 0 };
            assert_eq!(out.0[at], expected, "{} of {from}..{to} at {at}", baseline.name());
        }
    }

    #[test]
    fn every_byte_is_moved_and_no_other() -> Result<(), rayon::ThreadPoolBuildError> {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            for baseline in [Baseline::Copy, Baseline::NtCopy, Baseline::Triad, Baseline::NtTriad] {
                for (from, to) in
                    [(0, 0), (0, 1), (0, 4096), (64, 64 + 1000), (1, 5000), (0, 300_001), (3, 300_000)]
                {
                    pool.install(|| check(baseline, from, to));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn each_pass_has_a_plain_and_a_streaming_baseline() {
        let device = Device::cpu(dyt::Level::Portable).expect("every machine has it");
        let names = |pass| {
            let all = Baseline::on(&device).iter().filter(|baseline| baseline.serves(pass));
            all.map(|baseline| baseline.name()).collect::<Vec<_>>()
        };
        assert_eq!(names(Pass::Forward), ["copy", "nt_copy"]);
        assert_eq!(names(Pass::Backward), ["triad", "nt_triad"]);
        assert!(Pass::ALL.into_iter().all(|pass| Baseline::DeviceCopy.serves(pass)));
    }
}
