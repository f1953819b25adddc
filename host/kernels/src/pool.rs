//! A fixed team of worker threads that runs short parallel regions.
//!
//! Decoding one token opens about two hundred regions of a few microseconds each, so workers spin for a moment before
//! they sleep and a region costs a handful of atomic operations. A worker that wakes too late misses the region: the
//! caller never waits for a thread that holds no task.
//!
//! Invariants: `run` returns after every task has finished; tasks never outlive the borrow of their closure; a region
//! opened while another is open (nested or from a second thread) runs on the calling thread alone.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins for the next region before it sleeps: longer than the serial stretches between two products
/// of a decoding step (a few microseconds), shorter than anything a person or another process would notice.
const SPIN: Duration = Duration::from_micros(50);
/// Spins between two looks at the clock.
const SPINS_PER_LOOK: u32 = 64;
/// Bit of `PoolState::gate` that says a region is open; the bits above count the workers inside it.
const OPEN: usize = 1;
/// One worker inside the region.
const INSIDE: usize = 2;

/// A region: the closure with its type erased, and where to claim tasks.
struct Job {
    call: unsafe fn(*const (), usize),
    data: *const (),
    tasks: usize,
    owner: Option<Thread>,
}

struct PoolState {
    /// Counts opened regions; workers spin on it.
    epoch: AtomicUsize,
    gate: AtomicUsize,
    next: AtomicUsize,
    stop: AtomicBool,
    job: UnsafeCell<Job>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is written only by the thread that holds `Pool::region` while the gate is shut and empty, and read only
// by workers that are counted inside the open gate; the closure behind `data` is `Sync` (bound of `Pool::run`).
unsafe impl Sync for PoolState {}
// SAFETY: as above; the raw pointers are only followed between `open` and `shut` of the region that set them.
unsafe impl Send for PoolState {}

/// A team of threads; the caller of [`Pool::run`] is one of them.
pub struct Pool {
    shared: Arc<PoolState>,
    workers: Vec<JoinHandle<()>>,
    region: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// Starts a team of `threads` threads (at least one), the calling thread included.
    ///
    /// A worker that the system refuses to start is left out; [`Pool::threads`] says how many there are.
    pub fn new(threads: usize) -> Pool {
        let count = threads.saturating_sub(1);
        let shared = Arc::new(PoolState {
            epoch: AtomicUsize::new(0),
            gate: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(Job {
                call: call_nothing,
                data: std::ptr::null(),
                tasks: 0,
                owner: None,
            }),
            panic: Mutex::new(None),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers = (0..count)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("dlm-compute-{index}"))
                    .spawn(move || work(&shared, index))
                    .ok()
            })
            .collect();
        Pool {
            shared,
            workers,
            region: Mutex::new(()),
        }
    }

    /// Returns the number of threads that work on a region, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` to `task(tasks - 1)`, each once, on any thread and in any order, and returns when all are done.
    ///
    /// **Panics:** with the payload of the first task that panicked, after the region is over.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let Ok(_region) = self.region.try_lock() else {
            (0..tasks).for_each(task);
            return;
        };
        self.open(&task, tasks);
        // The guard shuts the region even when a task of this thread panics: workers borrow from this stack frame.
        let guard = ShutOnDrop(self);
        claim(&self.shared.next, tasks, &task);
        drop(guard);
        let payload = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }

    /// Runs `body(index, chunk)` over `data` cut into chunks of `chunk` elements (the last may be shorter).
    pub fn run_chunks<T: Send, F: Fn(usize, &mut [T]) + Sync>(&self, data: &mut [T], chunk: usize, body: F) {
        let chunk = chunk.max(1);
        let len = data.len();
        let cells = Disjoint::new(data);
        self.run(len.div_ceil(chunk), |index| {
            let start = index * chunk;
            // SAFETY: chunks of different indices do not overlap and each index runs once.
            body(index, unsafe { cells.range(start, chunk.min(len - start)) });
        });
    }

    fn open<F: Fn(usize) + Sync>(&self, task: &F, tasks: usize) {
        /// Calls the closure that `data` points to.
        ///
        /// # Safety
        /// `data` points to a live `F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), index: usize) {
            // SAFETY: promised by the caller.
            unsafe { (*data.cast::<F>())(index) }
        }
        // SAFETY: the gate is shut and empty (the last region waited for that) and `region` is locked by this thread.
        unsafe {
            *self.shared.job.get() = Job {
                call: call::<F>,
                data: std::ptr::from_ref(task).cast(),
                tasks,
                owner: Some(std::thread::current()),
            };
        }
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared.gate.store(OPEN, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        // Wake no more sleepers than there are tasks for.
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked).take(tasks - 1) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    fn shut(&self) {
        let mut gate = self.shared.gate.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let mut spins = 0u32;
        while gate != 0 {
            if spins < 20_000 {
                std::hint::spin_loop();
                spins += 1;
            } else {
                // The last worker to leave unparks this thread; the timeout covers a stray token that was consumed.
                std::thread::park_timeout(Duration::from_millis(1));
            }
            gate = self.shared.gate.load(Ordering::Acquire);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its tasks, so joining only fails if the runtime itself is gone.
            let _ = worker.join();
        }
    }
}

struct ShutOnDrop<'a>(&'a Pool);

impl Drop for ShutOnDrop<'_> {
    fn drop(&mut self) {
        // Nobody may start another task of a region whose owner is unwinding.
        if std::thread::panicking() {
            self.0.shared.next.store(usize::MAX / 2, Ordering::Relaxed);
        }
        self.0.shut();
    }
}

/// The job of a pool that never ran anything.
///
/// # Safety
/// Always safe; the signature is that of a job.
unsafe fn call_nothing(_: *const (), _: usize) {}

fn claim<F: Fn(usize) + ?Sized>(next: &AtomicUsize, tasks: usize, task: &F) {
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= tasks {
            return;
        }
        task(index);
    }
}

fn work(shared: &PoolState, index: usize) {
    let mut seen = 0;
    loop {
        seen = wait_for_epoch(shared, index, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if enter(shared) {
            take_part(shared);
        }
    }
}

/// Counts this thread into the open region; `false` when the region is already over.
fn enter(shared: &PoolState) -> bool {
    let mut gate = shared.gate.load(Ordering::Acquire);
    while gate & OPEN != 0 {
        match shared
            .gate
            .compare_exchange_weak(gate, gate + INSIDE, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => return true,
            Err(found) => gate = found,
        }
    }
    false
}

fn take_part(shared: &PoolState) {
    // SAFETY: this thread is counted inside the gate, so the owner neither changes the job nor leaves its frame.
    let (call, data, tasks, owner) = unsafe {
        let job = &*shared.job.get();
        (job.call, job.data, job.tasks, job.owner.clone())
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `data` is the closure that the owner keeps alive until the gate is empty.
        claim(&shared.next, tasks, &|index| unsafe { call(data, index) });
    }));
    if let Err(payload) = outcome {
        shared.next.store(usize::MAX / 2, Ordering::Relaxed);
        *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
    }
    let before = shared.gate.fetch_sub(INSIDE, Ordering::AcqRel);
    if before == INSIDE
        && let Some(owner) = owner
    {
        owner.unpark();
    }
}

fn wait_for_epoch(shared: &PoolState, index: usize, seen: usize) -> usize {
    let start = Instant::now();
    loop {
        for _ in 0..SPINS_PER_LOOK {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            break;
        }
    }
    let parked = &shared.parked[index];
    loop {
        // The owner bumps the epoch before it looks at the flag, and this thread sets the flag before it looks at the
        // epoch: one of the two sees the other.
        parked.store(true, Ordering::SeqCst);
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            parked.store(false, Ordering::Relaxed);
            return epoch;
        }
        std::thread::park();
    }
}

/// A mutable slice from which tasks take ranges that do not overlap.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: handing out ranges is `unsafe` and its callers promise that they do not overlap, so this is a set of `&mut`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// Borrows `len` elements from `start` on.
    ///
    /// # Safety
    /// No other borrow of this object that is alive may overlap the range.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that ranges do not overlap")]
    pub(crate) unsafe fn range(&self, start: usize, len: usize) -> &mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "a task's range lies inside the slice"
        );
        // SAFETY: the range lies inside the slice and is not borrowed twice.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// Returns the address of element `at`, for strided tiles.
    pub(crate) fn pointer(&self, at: usize) -> *mut T {
        assert!(at <= self.len, "a task's tile starts inside the slice");
        // SAFETY: inside the slice or one past its end.
        unsafe { self.start.add(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_team() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 17, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_regions_after_another() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        for _ in 0..5000 {
            pool.run(4, |index| {
                total.fetch_add(index, Ordering::Relaxed);
            });
        }
        assert_eq!(total.load(Ordering::Relaxed), 5000 * 6);
    }

    #[test]
    fn nested_regions_run_on_the_calling_thread() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(3, |inner| {
                total.fetch_add(inner, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 12);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_team_survives() {
        let pool = Pool::new(2);
        for victim in 0..8 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, |index| assert!(index != victim, "task {index} fails"));
            }));
            assert!(outcome.is_err());
        }
        let mut data = vec![0usize; 100];
        pool.run_chunks(&mut data, 7, |chunk, slice| slice.fill(chunk));
        assert!(data.iter().enumerate().all(|(i, &chunk)| chunk == i / 7));
    }
}
