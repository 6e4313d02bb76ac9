//! Timing on a device that runs asynchronously to the host.

use burn::tensor::{Device, Tensor};
use std::time::Instant;

/// Bytes of operands that a measurement reads before it uses the same ones again, so that operands come from
/// memory, not from a cache.
pub const WORKING_SET: usize = 256 << 20;

/// The number of copies of operands of `bytes` that make a working set.
pub fn copies(bytes: usize) -> usize {
    WORKING_SET.div_ceil(bytes.max(1)).clamp(1, 64)
}

/// Median seconds of one call of `run`, which gets the number of the call.
///
/// Calls are issued in batches without waiting, as in a model; only the end of each batch is waited for.
pub fn median(device: &Device, budget: f64, mut run: impl FnMut(usize)) -> f64 {
    let wait = || device.sync().expect("the device runs");
    // Counted over all batches, so that each continues after the last one.
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
