//! Timing on a device that runs behind the host.

use burn::tensor::{Device, Tensor};
use std::time::Instant;

/// Bytes of operands that a measurement goes through before it meets the same ones again, so that what
/// is measured comes from memory and not from a cache.
pub const WORKING_SET: usize = 256 << 20;

/// How many copies of operands of so many bytes make a working set.
pub fn copies(bytes: usize) -> usize {
    WORKING_SET.div_ceil(bytes.max(1)).clamp(1, 64)
}

/// Median seconds of one call of `run`, which is given the number of the call.
///
/// Calls are issued in batches without waiting, as a model does; each batch is waited for.
pub fn median(device: &Device, budget: f64, mut run: impl FnMut(usize)) -> f64 {
    let wait = || device.sync().expect("the device runs");
    // Counted over all batches, so that each goes on where the last one stopped.
    let mut calls = 0..;
    let mut run = || run(calls.next().expect("there is no last number"));
    // Compiles, tunes and warms up.
    (0..3).for_each(|_| run());
    wait();
    let start = Instant::now();
    run();
    wait();
    let once = start.elapsed().as_secs_f64();
    let batch = ((budget / 12.0 / once) as usize).clamp(1, 200);
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let start = Instant::now();
            (0..batch).for_each(|_| run());
            wait();
            start.elapsed().as_secs_f64() / batch as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Bytes per second that an elementwise op of Burn reads and writes, together.
pub fn copy_bandwidth(device: &Device, bytes: usize, budget: f64) -> f64 {
    let x = Tensor::<1>::ones([bytes / 4], device);
    let seconds = median(device, budget, |_| drop(x.clone().neg()));
    2.0 * bytes as f64 / seconds
}
