//! Two buffers of each thread, for tiles that fit a core's cache. They are neither allocated nor cleared for each.

use std::cell::RefCell;

thread_local! {
    static BUFFERS: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Lends this thread's buffers, with that many numbers in each, which are what the last borrower left.
///
/// # Panics
///
/// Panics if they are lent already.
pub(super) fn with_buffers(len: usize, body: impl FnOnce(&mut [f32], &mut [f32])) {
    BUFFERS.with_borrow_mut(|buffers| {
        for buffer in buffers.iter_mut().filter(|buffer| buffer.len() < len) {
            buffer.resize(len, 0.0);
        }
        let [first, second] = buffers;
        body(&mut first[..len], &mut second[..len]);
    });
}
