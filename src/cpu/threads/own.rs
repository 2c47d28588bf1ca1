//! The library's own pool: one for the process, made by the first large call from outside of any pool.

use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

/// How long threads that the system refused are not asked for again.
const PATIENCE: Duration = Duration::from_millis(100);

/// The pool of one process. It is never dropped: its threads live as long as the process.
pub(super) struct Own {
    process: u32,
    /// None where the calling thread is all that is wanted.
    pool: Option<ThreadPool>,
    started: AtomicUsize,
    missing: Mutex<Missing>,
}

/// Threads that the system has refused so far. The pool counts them as busy.
struct Missing {
    threads: Vec<ThreadBuilder>,
    refused: Option<Instant>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("process", &self.process).field("started", &self.started).finish()
    }
}

impl Own {
    /// The pool of this process, with the threads that the system grants by now. None while another thread makes it.
    ///
    /// There is no lock that a fork could leave locked: a pool of another process is left alone, and a new one made.
    pub(super) fn of(process: u32) -> Option<&'static Self> {
        static OWN: AtomicPtr<Own> = AtomicPtr::new(core::ptr::null_mut());
        static MAKER: AtomicU32 = AtomicU32::new(0);
        // SAFETY: it is null or a box that is never dropped.
        let own = unsafe { OWN.load(Ordering::Acquire).as_ref() };
        if let Some(own) = own.filter(|own| own.process == process) {
            own.start_missing();
            return Some(own);
        }
        let maker = MAKER.load(Ordering::Relaxed);
        let taken = maker == process
            || MAKER.compare_exchange(maker, process, Ordering::Relaxed, Ordering::Relaxed).is_err();
        if taken {
            return None;
        }
        let own: &'static Self = Box::leak(Box::new(Self::new(process, wanted())));
        OWN.store(core::ptr::from_ref(own).cast_mut(), Ordering::Release);
        own.start_missing();
        Some(own)
    }

    /// A pool that with the calling thread is to have so many threads. None has been started yet.
    fn new(process: u32, threads: usize) -> Self {
        let mut missing = Vec::new();
        let builder = ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(|i| format!("dyt-{i}"));
        let later = |thread| {
            missing.push(thread);
            Ok(())
        };
        let pool = if threads > 1 { builder.spawn_handler(later).build().ok() } else { None };
        let missing = Missing { threads: missing, refused: None };
        Self { process, pool, started: AtomicUsize::new(0), missing: Mutex::new(missing) }
    }

    /// Threads that a call has, with the calling one.
    pub(super) fn threads(&self) -> usize {
        1 + self.started.load(Ordering::Relaxed)
    }

    pub(super) fn spawn(&self, ticket: impl FnOnce() + Send + 'static) {
        if let Some(pool) = &self.pool {
            pool.spawn(ticket);
        }
    }

    /// Asks the system for the threads that are missing, until it refuses one. Rayon gives up a pool for one refused
    /// thread, and cannot add to it; so its threads are handed to us, and each is started when that is possible.
    fn start_missing(&self) {
        let Some(pool) = &self.pool else { return };
        if self.started.load(Ordering::Relaxed) == pool.current_num_threads() {
            return;
        }
        // Who finds it locked has the threads that another call is starting.
        let Ok(mut missing) = self.missing.try_lock() else { return };
        if missing.refused.is_some_and(|refused| refused.elapsed() < PATIENCE) {
            return;
        }
        while let Some(thread) = missing.threads.pop() {
            if let Some(thread) = start(thread) {
                missing.threads.push(thread);
                missing.refused = Some(Instant::now());
                return;
            }
            self.started.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts a thread of a pool, or gives it back if the system refuses it.
fn start(thread: ThreadBuilder) -> Option<ThreadBuilder> {
    let mut builder = std::thread::Builder::new();
    if let Some(name) = thread.name() {
        builder = builder.name(name.to_owned());
    }
    // The system's refusal drops the closure, and must not drop the thread with it.
    let slot = Arc::new(Mutex::new(Some(thread)));
    let take = |slot: &Mutex<Option<ThreadBuilder>>| slot.lock().ok().and_then(|mut slot| slot.take());
    let of_thread = Arc::clone(&slot);
    let run = move || {
        if let Some(thread) = take(&of_thread) {
            thread.run();
        }
    };
    if builder.spawn(run).is_ok() { None } else { take(&slot) }
}

/// Threads of a call from outside of any pool, with the calling one: as rayon's own pool has them.
fn wanted() -> usize {
    let variable = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    match variable {
        Some(threads @ 1..) => threads,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    }
}
