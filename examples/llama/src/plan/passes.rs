//! What a run does beside its phases: bits by a budget, and what the original makes of the data of the end-to-end phases.

use super::activations::Tape;
use super::caches::{KEPT_LESSONS, States, on_disk};
use super::memory::{Moment, Term};
use super::phases::{PhasePlan, Phases};
use super::shape::{BlockShape, product, sum};
use crate::quantize::E2eQpSettings;
use burn_eqat::train::BitsBudgetConfig;

impl Phases<'_> {
    /// Gradients say how many bits each weight gets, where there is a budget: a window at a time, block by block.
    pub(super) fn bits(&self) -> Option<PhasePlan> {
        let (inputs, model) = (self.inputs, self.model);
        let budget = inputs.bits_budget.filter(|_| !inputs.packed)?;
        let compute = inputs.on(1);
        let windows = (inputs.settings.block_ap).map_or(0, |phase| phase.train_size);
        let weights = 4 * self.block(BlockShape::weights);
        let kept =
            product([model.blocks.len() + 1]).saturating_mul(compute.each_token(model.hidden));
        let tape = |block: &BlockShape| Tape::new(model, block, compute, false);
        let inputs_kept = Term::device("what goes into each block", kept);
        let terms = [
            inputs_kept,
            self.dense_block(),
            self.reading(),
            Term::device("gradients of a block", weights),
            Term::device("a squared gradient", 4 * self.block(BlockShape::largest)),
            Term::device(
                "activations of a block and gradients on their way",
                self.block(|block| tape(block).peak()),
            ),
        ];
        let head = [
            inputs_kept,
            Term::device(
                "losses and gradients of the output layer",
                self.head(compute, true),
            ),
        ];
        let with = |terms: &[Term]| {
            self.base()
                .into_iter()
                .chain(terms.iter().copied())
                .collect::<Vec<_>>()
        };
        Some(PhasePlan {
            name: "bits",
            moments: vec![
                Moment::new("loss of the output layer", with(&head)),
                Moment::new("gradients of a block", with(&terms)),
            ],
            disk: Vec::new(),
            steps: BitsBudgetConfig::new(budget).batches.min(windows) as u64,
        })
    }

    /// The original's last hidden states of all windows end to end, where they are kept.
    pub(super) fn lessons(&self) -> Option<PhasePlan> {
        let (inputs, model) = (self.inputs, self.model);
        let phase = inputs.settings.e2e_qp.filter(|_| inputs.keeps_lessons())?;
        let windows = self.taught_windows(phase);
        let batch = phase.e2e_batch.max(1);
        let states = States::new(inputs, windows, batch, inputs.settings.cache.memory);
        let compute = inputs.on(batch.min(windows));
        let dense = |block: &BlockShape| 4 * (block.weights() + block.plain());
        let (original, packed) = match inputs.offloads() {
            true => (self.dense_block().bytes, 0),
            false => (sum(model.blocks.iter().map(dense)), model.packed_blocks()),
        };
        let terms = [
            Term::device("hidden states of the original", states.memory),
            Term::device("the original that is learned from", original),
            Term::device("packed blocks", packed),
            Term::device("the original's forward pass", self.forward(compute)),
        ];
        let terms = self.base().into_iter().chain(terms);
        Some(PhasePlan {
            name: "lessons",
            moments: vec![Moment::new("forward pass of the original", terms)],
            disk: vec![
                Term::disk("hidden states of the original", states.disk),
                self.kept_lessons(),
                self.finished(inputs.has_stored_blocks()),
            ],
            steps: 0,
        })
    }

    /// Windows that it learns from the original on, and is validated on.
    fn taught_windows(&self, phase: E2eQpSettings) -> usize {
        phase.e2e_size.saturating_add(self.inputs.settings.val_size)
    }

    /// The file of these states.
    pub(super) fn kept_lessons(&self) -> Term {
        let inputs = self.inputs;
        let phase = inputs.settings.e2e_qp.filter(|_| inputs.keeps_lessons());
        let windows = phase.map_or(0, |phase| self.taught_windows(phase));
        let numbers = [windows, inputs.settings.seq_len, self.model.hidden];
        Term::disk(
            KEPT_LESSONS,
            product(numbers).saturating_mul(on_disk(inputs) as u64),
        )
    }
}
