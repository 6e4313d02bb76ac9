//! The activations that Block-AP keeps of all samples, and the hidden states of windows that are evaluated by block.

use super::PlanInputs;
use super::memory::Term;
use super::shape::product;
use burn_eqat::train::CacheDType;

/// What they are called.
pub(super) const ACTIVATIONS: &str = "activations of all samples";

/// What the original made of the data end to end.
pub(super) const KEPT_LESSONS: &str = "what the original made of the data";

/// What the others are called.
pub(super) const EVALUATED: &str = "hidden states of an evaluation";

/// Windows of a batch that is evaluated.
pub(super) const EVALUATED_AT_ONCE: usize = 8;

/// Bytes of the head of a record, and of the shape in it.
const HEAD: usize = 64;

/// Records of a file that are in memory: two that wait, one that is read and one that is decoded.
const READ: u64 = 4;

/// Bytes of a number of an activation on disk. Tensors in a smaller type keep theirs.
pub(super) fn on_disk(inputs: &PlanInputs) -> usize {
    let asked = match inputs.settings.cache.dtype {
        CacheDType::Bf16 => 2,
        CacheDType::F32 => 4,
    };
    asked.min(inputs.compute().size())
}

/// What goes through the blocks, and where it is: a split is in memory as a whole where it fits in what is left of the budget,
/// else in two files.
pub(super) struct Caches {
    pub memory: u64,
    pub disk: u64,
    /// Bytes of a record in a file; 0 where there is none.
    record: u64,
    /// Devices that the samples are dealt to, and how many of them share a memory.
    devices: u64,
    copies: u64,
}

impl Caches {
    pub fn new(inputs: &PlanInputs) -> Self {
        let settings = &inputs.settings;
        let mut caches = Self {
            memory: 0,
            disk: 0,
            record: 0,
            devices: inputs.devices.max(1) as u64,
            copies: inputs.copies(),
        };
        let Some(phase) = settings.block_ap else {
            return caches;
        };
        let (in_memory, on_disk) = (inputs.compute().size(), on_disk(inputs));
        let values = [settings.seq_len, inputs.config.hidden_size];
        let mut left = settings.cache.memory;
        for samples in [phase.train_size, settings.val_size] {
            let bytes = product([2, samples, values[0], values[1], in_memory]);
            match left.map(|left| left.checked_sub(bytes)) {
                None => caches.memory = caches.memory.saturating_add(bytes),
                Some(Some(rest)) => {
                    left = Some(rest);
                    caches.memory = caches.memory.saturating_add(bytes);
                }
                Some(None) => {
                    let batches = samples.div_ceil(phase.batch_size);
                    let record = product([phase.batch_size, values[0], values[1], on_disk])
                        .saturating_add(HEAD as u64);
                    caches.record = record;
                    let records = product([2, batches]).saturating_mul(record);
                    caches.disk = caches.disk.saturating_add(records);
                }
            }
        }
        caches
    }

    /// What is in memory: the caches, or what is read ahead of them.
    pub fn terms(&self) -> [Term; 2] {
        [
            Term::device(ACTIVATIONS, self.memory.div_ceil(self.devices)).times(self.copies),
            Term::host(
                "activations that are read ahead",
                (2 * READ * self.devices).saturating_mul(self.record),
            ),
        ]
    }
}

/// Hidden states of windows that all go through a block before the next: in memory as a whole where they fit in a budget, else in a file.
pub(super) struct States {
    pub memory: u64,
    pub disk: u64,
}

impl States {
    /// Of so many windows in such batches. Without a budget all are in memory.
    pub fn new(inputs: &PlanInputs, windows: usize, batch: usize, budget: Option<u64>) -> Self {
        // On disk nothing is rounded.
        let float = inputs.compute().size();
        let (seq_len, hidden) = (inputs.settings.seq_len, inputs.config.hidden_size);
        let of = |windows: usize| product([windows, seq_len, hidden, float]);
        let all = of(windows);
        if budget.is_none_or(|budget| all <= budget) {
            return Self {
                memory: all,
                disk: 0,
            };
        }
        let record = of(batch).saturating_add(HEAD as u64);
        Self {
            // Records that are read ahead, and those that are written.
            memory: record.saturating_mul(READ).min(all),
            disk: product([windows.div_ceil(batch)]).saturating_mul(record),
        }
    }

    /// Of an evaluation by block.
    pub fn evaluated(inputs: &PlanInputs) -> Self {
        /// Bytes that are in memory at most: it has a budget of its own.
        const MOST: u64 = 1 << 28;
        let budget = inputs.settings.cache.memory;
        let budget = budget.map_or(MOST, |memory| memory.min(MOST));
        Self::new(inputs, inputs.eval, EVALUATED_AT_ONCE, Some(budget))
    }
}
