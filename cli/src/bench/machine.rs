//! What the numbers were measured on, and when.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, as far as it can be read without asking another program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's name for itself.
    pub(crate) processor: String,
    /// Such as `x86_64`.
    pub(crate) architecture: String,
    /// Such as `linux`.
    pub(crate) os: String,
    /// Threads that run side by side.
    pub(crate) threads: usize,
    /// Bytes of the largest cache, where the system tells it.
    pub(crate) last_level_cache: Option<u64>,
}

/// The most of the largest cache that counts, as in the library: a larger one belongs to the many cores of a socket.
/// Taken for its size, too, where the system does not tell it.
const MOST_CACHE: u64 = 32 << 20;

impl Machine {
    /// This machine.
    pub(crate) fn read() -> Self {
        let (architecture, os) = (std::env::consts::ARCH.to_owned(), std::env::consts::OS.to_owned());
        let processor = processor_name().unwrap_or_else(|| format!("unknown {architecture} processor"));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { processor, architecture, os, threads, last_level_cache: largest_cache() }
    }

    /// Bytes from which tensors do not fit the caches.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.last_level_cache.map_or(MOST_CACHE, |bytes| bytes.min(MOST_CACHE))
    }
}

fn processor_name() -> Option<String> {
    let of_windows = || std::env::var("PROCESSOR_IDENTIFIER").ok();
    fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| parse_cpuinfo(&text)).or_else(of_windows)
}

/// The name, and behind it family and model, which tell the generation where the name does not.
fn parse_cpuinfo(text: &str) -> Option<String> {
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let numbers = field("cpu family").zip(field("model"));
    match (field("model name"), numbers) {
        (Some(name), Some((family, model))) => Some(format!("{name} (family {family}, model {model})")),
        (Some(name), None) => Some(name),
        (None, _) => field("CPU part").map(|part| format!("AArch64 part {part}")),
    }
}

/// The largest of the first processor's caches.
fn largest_cache() -> Option<u64> {
    let entries = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let sizes = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("size")).ok());
    sizes.filter_map(|size| parse_size(&size)).max()
}

/// Bytes of `32768K` or `32M`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The time in UTC, such as `2026-11-24T17:55:00Z`.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format_utc(seconds)
}

/// From seconds since 1970; days become years, months and days by 400-year cycles that begin on the first of March.
fn format_utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(format_utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(format_utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(format_utc(1_795_542_905), "2026-11-24T17:55:05Z");
        assert_eq!(format_utc(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn processors() {
        let x86 = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\n";
        assert_eq!(parse_cpuinfo(x86).as_deref(), Some("AMD EPYC 9R14 (family 25, model 17)"));
        assert_eq!(parse_cpuinfo("CPU part\t: 0xd0c\n").as_deref(), Some("AArch64 part 0xd0c"));
        assert_eq!(parse_cpuinfo(""), None);
        assert!(!Machine::read().processor.is_empty());
    }

    #[test]
    fn cache_sizes() {
        assert_eq!(parse_size("32768K\n"), Some(32 << 20));
        assert_eq!(parse_size("96M"), Some(96 << 20));
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("large"), None);
    }
}
