//! Splits work over threads.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Multiplications below which threads cost more than they gain.
const SERIAL: usize = 1 << 18;

/// The number of threads for a matmul of that many multiplications.
pub(super) fn threads(multiplications: usize) -> usize {
    if multiplications < SERIAL {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// Runs `task` for each number below `tasks`, on `threads` threads.
///
/// The caller works too, and takes every task that no other thread has begun, so that a thread that is slow to wake
/// does not delay a matmul of a tenth of a millisecond. It waits for the other threads' tasks without sleeping.
pub(super) fn each(tasks: usize, threads: usize, task: impl Fn(usize) + Send + Sync) {
    if threads == 1 || tasks <= 1 {
        return (0..tasks).for_each(task);
    }
    let task: &(dyn Fn(usize) + Sync) = &task;
    // SAFETY: helpers use the reference only for numbers that they took, and all numbers are done before this
    // function ends. A helper that comes later finds no number, and does not use the reference.
    let task: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
    let work = Arc::new(Work {
        task,
        tasks,
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        panicked: AtomicBool::new(false),
    });
    for _ in 1..threads.min(tasks) {
        let work = work.clone();
        rayon::spawn(move || work.run());
    }
    work.run();
    let mut waits = 0u32;
    while work.done.load(Ordering::Acquire) < tasks {
        waits += 1;
        if waits < 10_000 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    assert!(!work.panicked.load(Ordering::Acquire), "a task panicked");
}

/// Numbered tasks, taken one by one.
struct Work {
    task: &'static (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    panicked: AtomicBool,
}

impl Work {
    /// Does tasks until none is left.
    fn run(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= self.tasks {
                return;
            }
            // Count the task as done even if it panics; otherwise others would wait forever.
            let result = catch_unwind(AssertUnwindSafe(|| (self.task)(at)));
            if result.is_err() {
                self.panicked.store(true, Ordering::Release);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

/// Part `at` of `parts` of `len`, cut at multiples of `unit`.
pub(super) fn part(len: usize, unit: usize, parts: usize, at: usize) -> Range<usize> {
    let units = len.div_ceil(unit);
    let cut = |at: usize| (units * at / parts * unit).min(len);
    cut(at)..cut(at + 1)
}

/// A buffer that tasks share: a result where each task writes its own elements, or an operand.
#[derive(Clone, Copy)]
pub(super) struct Shared<T = f32>(*mut T);

// SAFETY: each task writes only its own elements.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(data: &mut [T]) -> Self {
        Shared(data.as_mut_ptr())
    }

    /// A buffer that tasks only read.
    pub fn reading(data: &[T]) -> Self {
        Shared(data.as_ptr().cast_mut())
    }

    /// The buffer from element `by` on.
    pub fn offset(self, by: usize) -> Self {
        Shared(self.at(by))
    }

    /// A pointer to element `at`, which is in bounds.
    #[inline(always)]
    pub fn at(self, at: usize) -> *mut T {
        self.0.wrapping_add(at)
    }

    /// A task's own elements.
    ///
    /// # Safety
    ///
    /// They are in bounds, nobody else uses them, and the buffer outlives the slice.
    pub unsafe fn part<'a>(self, part: Range<usize>) -> &'a mut [T] {
        // SAFETY: as of the caller.
        unsafe { std::slice::from_raw_parts_mut(self.at(part.start), part.len()) }
    }
}
