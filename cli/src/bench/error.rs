//! Why there is no benchmark.

/// Reasons beside those of the library and of files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The system did not give the threads.
    #[error("no pool of {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the pool said.
        source: rayon::ThreadPoolBuildError,
    },
    /// The conformance cases failed.
    #[error("not measured, because the check failed: {devices} (`dyt check` tells more)")]
    CheckFailed {
        /// The names of the devices.
        devices: String,
    },
}
