//! Which pool a call uses, and with how many threads.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use super::job::Job;
use super::own::Own;

/// Tickets of one calling thread that may wait in queues, for each thread of its team. A pool that is busy with other
/// work takes none, and without a limit they would pile up.
const WAITING_A_THREAD: usize = 2;

/// The process that opened the first device. A forked child has another number, and no thread of any pool that its parent
/// had.
static FIRST_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Notes the process. A device is opened before any call, and so before a fork that a call has to know of.
pub(crate) fn device_opened() {
    // Another value means that a device has been opened before.
    let _ = FIRST_PROCESS.compare_exchange(0, process_id(), Ordering::Relaxed, Ordering::Relaxed);
}

/// The number of this process; 0 where there are none.
fn process_id() -> u32 {
    if cfg!(target_family = "wasm") { 0 } else { std::process::id() }
}

/// The threads of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Team {
    pool: Pool,
    threads: usize,
    /// The process that it was made in.
    process: u32,
}

/// Where the other threads come from.
#[derive(Clone, Copy, Debug)]
enum Pool {
    /// The rayon pool that the calling thread belongs to.
    Callers,
    /// The library's.
    Own(&'static Own),
    /// There are none.
    Nowhere,
}

impl Team {
    /// The calling thread.
    pub(crate) const ALONE: Self = Self { pool: Pool::Nowhere, threads: 1, process: 0 };

    /// The threads that there are, `limit` at most. No pool is touched for a limit of 1.
    pub(crate) fn at_most(limit: usize) -> Self {
        if limit <= 1 {
            return Self::ALONE;
        }
        let process = process_id();
        // In a forked child rayon takes a thread for one of a pool whose other threads are gone.
        let forked = process != FIRST_PROCESS.load(Ordering::Relaxed);
        if !forked && rayon::current_thread_index().is_some() {
            return Self { pool: Pool::Callers, threads: rayon::current_num_threads().min(limit), process };
        }
        match Own::of(process) {
            Some(own) => Self { pool: Pool::Own(own), threads: own.threads().min(limit), process },
            None => Self::ALONE,
        }
    }

    pub(crate) const fn threads(self) -> usize {
        self.threads
    }

    /// Runs `task` for every index below `tasks`, side by side.
    ///
    /// The calling thread takes tasks like the others, and then waits for those that others still run. It runs nothing
    /// else meanwhile: another task of the caller's may need a lock that this thread holds.
    pub(crate) fn for_each(self, tasks: usize, task: impl Fn(usize) + Sync) {
        if self.threads < 2 || tasks < 2 {
            return (0..tasks).for_each(task);
        }
        // SAFETY: `finish` is called before `task` goes.
        let job = unsafe { Job::new(tasks, &task) };
        self.send_tickets(&job);
        job.finish();
    }

    /// Offers the job to the other threads. A ticket that is taken late finds no task left.
    fn send_tickets(self, job: &Arc<Job>) {
        let Some(token) = token(self.process) else { return };
        let waiting = Arc::strong_count(&token) - 2;
        let room = (self.threads * WAITING_A_THREAD).saturating_sub(waiting);
        for _ in 0..(self.threads - 1).min(job.tasks() - 1).min(room) {
            let (job, token) = (Arc::clone(job), Arc::clone(&token));
            let ticket = move || {
                job.help();
                drop(token);
            };
            match self.pool {
                Pool::Callers => rayon::spawn(ticket),
                Pool::Own(own) => own.spawn(ticket),
                Pool::Nowhere => {}
            }
        }
    }
}

/// Its owners are this thread, the caller of this function, and each ticket of the thread that waits in a queue. None while
/// the thread ends.
fn token(process: u32) -> Option<Arc<()>> {
    thread_local! {
        static TOKEN: RefCell<(u32, Arc<()>)> = RefCell::new((0, Arc::new(())));
    }
    let of_this_process = |token: &RefCell<(u32, Arc<()>)>| {
        let mut token = token.borrow_mut();
        // Tickets that a parent process sent are taken by nobody here.
        if token.0 != process {
            *token = (process, Arc::new(()));
        }
        Arc::clone(&token.1)
    };
    TOKEN.try_with(of_this_process).ok()
}
