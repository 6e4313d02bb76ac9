//! Operands that come from memory, and the speed of memory.

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use rayon::prelude::*;
use std::cell::Cell;
use std::hint::black_box;

/// Bytes that are read before the same ones are used again. They do not fit in caches.
const WORKING_SET: usize = 192 << 20;

/// Layers of one kind, taken in turn.
pub struct Copies<T> {
    layers: Vec<T>,
    next: Cell<usize>,
}

impl<T> Copies<T> {
    /// As many layers of `bytes` each as make a working set.
    pub fn new(bytes: usize, layer: impl FnMut() -> T) -> Self {
        let count = WORKING_SET.div_ceil(bytes);
        Copies {
            layers: std::iter::repeat_with(layer).take(count).collect(),
            next: Cell::new(0),
        }
    }

    /// The next layer.
    pub fn next(&self) -> &T {
        let at = self.next.get();
        self.next.set((at + 1) % self.layers.len());
        &self.layers[at]
    }

    /// Runs `body` on every layer.
    pub fn each(&self, body: impl Fn(&T)) {
        self.layers.iter().for_each(body);
    }
}

/// Measures reading `bytes` of memory with all threads together.
pub fn bench(group: &mut BenchmarkGroup<WallTime>, name: &str, bytes: usize) {
    let chunks = Copies::new(bytes, || vec![1u64; bytes / 8]);
    let part = (bytes / 8).div_ceil(rayon::current_num_threads());
    group.bench_function(name, |bench| {
        bench.iter(|| {
            let parts = black_box(chunks.next()).par_chunks(part);
            parts.map(|part| part.iter().sum::<u64>()).sum::<u64>()
        })
    });
}
