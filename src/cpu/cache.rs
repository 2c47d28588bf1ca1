//! The size of the last-level cache, as far as a call counts on it: outputs that do not fit there go past it.

use std::sync::OnceLock;

/// Where the size cannot be read.
const USUAL: usize = 16 << 20;

/// The most that counts. A larger cache belongs to the many cores of a socket: where 260 MiB are reported, a copy and
/// the read of what it wrote take less time together if the copy goes past the cache, from about 12 MiB on.
const MOST: usize = 32 << 20;

/// Bytes of the largest cache that the processor reports, up to [`MOST`].
pub(crate) fn last_level() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| read().filter(|bytes| *bytes > 0).map_or(USUAL, |bytes| bytes.min(MOST)))
}

#[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(miri)))]
fn read() -> Option<usize> {
    let caches = raw_cpuid::CpuId::new().get_cache_parameters()?;
    let bytes = |c: raw_cpuid::CacheParameter| {
        c.associativity() * c.physical_line_partitions() * c.coherency_line_size() * c.sets()
    };
    caches.map(bytes).max()
}

#[cfg(not(all(any(target_arch = "x86", target_arch = "x86_64"), not(miri))))]
const fn read() -> Option<usize> {
    None
}
