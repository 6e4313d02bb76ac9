//! The activations that Block-AP keeps of all samples.

use super::PlanInputs;
use super::memory::Term;
use super::shape::product;
use burn_eqat::train::CacheDType;

/// What they are called.
pub(super) const ACTIVATIONS: &str = "activations of all samples";

/// Bytes of the head of a record, and of the shape in it.
const HEAD: usize = 64;

/// What goes through the blocks, and where it is: a split is in memory as a whole where it fits in what is left of the budget,
/// else in two files.
pub(super) struct Caches {
    pub memory: u64,
    pub disk: u64,
    /// Bytes of a record in a file; 0 where there is none.
    record: u64,
}

impl Caches {
    pub fn new(inputs: &PlanInputs) -> Self {
        let settings = &inputs.settings;
        let mut caches = Self {
            memory: 0,
            disk: 0,
            record: 0,
        };
        let Some(phase) = settings.block_ap else {
            return caches;
        };
        let on_disk = match settings.cache.dtype {
            CacheDType::Bf16 => 2,
            CacheDType::F32 => 4,
        };
        // Tensors in a smaller type keep theirs.
        let (in_memory, on_disk) = (
            inputs.compute().size(),
            on_disk.min(inputs.compute().size()),
        );
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
        /// Records of a file that are in memory: two that wait, one that is read and one that is decoded.
        const READ: u64 = 4;
        [
            Term::device(ACTIVATIONS, self.memory),
            Term::host(
                "activations that are read ahead",
                (2 * READ).saturating_mul(self.record),
            ),
        ]
    }
}
