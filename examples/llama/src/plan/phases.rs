//! The phases of a run, moment by moment.

use super::PlanInputs;
use super::activations::{Compute, Tape};
use super::caches::{ACTIVATIONS, Caches};
use super::memory::{Moment, Place, Term, bytes};
use super::shape::{BlockShape, ModelShape, product, sum};
use burn_eqat::Method;
use serde::Serialize;

/// What the process takes before there is a model: the program, its threads, tokens, and the allocator's pages.
const PROCESS: u64 = 60_000_000;

/// Copies of the largest parameter that an optimizer step makes for the moment: see `docs/memory.md`.
const OPTIMIZER: u64 = 4;

/// What is there only while step sizes train.
const TRAINING: [&str; 2] = ["moments of the step sizes", "gradients of the step sizes"];

/// Hidden state values that the evaluation of a model by block has in memory.
const EVALUATED: u64 = 1 << 26;

/// Bytes of a file that are in memory before it is written; a larger model is written to several.
const GATHERED: u64 = 1_000_000_000;

/// A phase of a run: what it takes, and its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhasePlan {
    /// What it is called.
    pub name: &'static str,
    /// The moments at which it takes the most of something.
    pub moments: Vec<Moment>,
    /// What it has on disk.
    pub disk: Vec<Term>,
    /// Optimizer steps.
    pub steps: u64,
}

impl PhasePlan {
    /// The most bytes at a place.
    pub fn bytes(&self, place: Place) -> u64 {
        match place {
            Place::Disk => bytes(&self.disk, place),
            _ => self.most(|moment| moment.bytes(place)),
        }
    }

    /// The most bytes of device and host together.
    pub fn memory(&self) -> u64 {
        self.most(Moment::all)
    }

    fn most(&self, of: impl Fn(&Moment) -> u64) -> u64 {
        self.moments.iter().map(of).max().unwrap_or_default()
    }
}

/// The phases of a run and the sizes that they share.
pub(super) struct Phases<'a> {
    pub inputs: &'a PlanInputs,
    pub model: &'a ModelShape,
}

impl Phases<'_> {
    pub fn all(&self) -> Vec<PhasePlan> {
        let method = self.inputs.settings.method;
        let mut phases = Vec::new();
        if self.inputs.writes_calibration {
            phases.push(self.calibration());
        }
        if !self.inputs.packed {
            phases.push(self.by_block("full-precision", false));
            phases.push(self.by_block("rtn", true));
            if method >= Method::BlockAp {
                phases.push(self.block_ap());
            }
        }
        if method >= Method::EfficientQat {
            phases.push(self.e2e_qp());
        }
        phases.push(self.save());
        phases
    }

    /// What every phase has: the process, and what is outside the blocks.
    fn base(&self) -> [Term; 2] {
        let model = self.model;
        let shell = model.embedding.saturating_mul(self.inputs.shell_float());
        [
            Term::host("process", PROCESS),
            Term::device(
                "embedding, output layer and last norm",
                shell.saturating_add(4 * model.hidden as u64),
            ),
        ]
    }

    /// The most that a moment has of a block.
    fn block(&self, measure: impl Fn(&BlockShape) -> u64) -> u64 {
        self.model.largest(measure)
    }

    fn forward(&self, compute: Compute) -> u64 {
        let model = self.model;
        let attended = if compute.fused {
            0
        } else {
            let tile = product([compute.windows, model.heads, compute.seq_len, 64]);
            (3 * compute.float).saturating_mul(tile)
        };
        let attention = compute.each_token(3 * model.hidden + 2 * model.queries + 2 * model.keys);
        let fed = compute.each_token(2 * model.hidden + 3 * model.inner);
        fed.max(attention.saturating_add(attended))
    }

    /// Reading a block: as it is in its file, and the largest of its weights in f32 besides.
    fn reading(&self) -> Term {
        let bytes = |block: &BlockShape| {
            block
                .largest()
                .saturating_mul(self.inputs.file.size() as u64)
        };
        Term::host("a weight as it is read", self.block(bytes))
    }

    fn dense_block(&self) -> Term {
        let bytes = |block: &BlockShape| 4 * (block.weights() + block.plain());
        Term::device("weights of a block", self.block(bytes))
    }

    /// Windows of an evaluation by block, a batch of which goes through a block at a time.
    fn evaluating(&self, streams: bool) -> Vec<Term> {
        let float = self.inputs.compute().size() as u64;
        let compute = self.inputs.on(8);
        let hidden = if streams { EVALUATED * float } else { 0 };
        vec![
            Term::device("hidden states of windows", hidden),
            Term::device("activations of a forward pass", self.forward(compute)),
            Term::device("losses of the output layer", self.head(compute, false)),
        ]
    }

    /// The loss of the output layer, by chunks of positions; with gradients those of all positions are collected.
    fn head(&self, compute: Compute, gradients: bool) -> u64 {
        const LOGITS: usize = 1 << 20;
        let model = self.model;
        let rows = (LOGITS / model.vocab.max(1)).max(16);
        let logits = product([rows, model.vocab, 3, 4]);
        let copies = if gradients { 5 } else { 2 };
        logits.saturating_add(compute.each_token(copies * model.hidden))
    }

    /// The model writes text.
    fn calibration(&self) -> PhasePlan {
        /// Windows that are written at a time.
        const WINDOWS: usize = 64;
        let (inputs, model) = (self.inputs, self.model);
        let blocks = match inputs.packed {
            true => model.packed_blocks(),
            false => sum(model
                .blocks
                .iter()
                .map(|block| 4 * (block.weights() + block.plain()))),
        };
        let keys = product([2, model.blocks.len(), model.keys]);
        let cache = inputs.on(WINDOWS).each_token(1).saturating_mul(keys);
        let logits = product([3 * WINDOWS, model.vocab, 4]);
        let terms = [
            Term::device("all blocks", blocks),
            Term::device("keys and values of earlier positions", cache),
            Term::device("logits", logits),
        ];
        let terms = self.base().into_iter().chain(terms);
        PhasePlan {
            name: "calibration",
            moments: vec![Moment::new("writing text", terms)],
            disk: Vec::new(),
            steps: 0,
        }
    }

    fn by_block(&self, name: &'static str, packs: bool) -> PhasePlan {
        let mut moments = Vec::new();
        // With a run directory a finished block does not stay.
        let stays = packs && !self.inputs.run_dir;
        let packed = if stays { self.model.packed_blocks() } else { 0 };
        let packed = Term::device("packed blocks", packed);
        if packs {
            // Quantized values of a weight, and codes as integers, before they are packed.
            let codes = 4 * 4 * self.block(BlockShape::largest);
            let codes = Term::device("a weight as it is packed", codes);
            let terms = [self.dense_block(), self.reading(), codes, packed];
            moments.push(Moment::new("packing", self.base().into_iter().chain(terms)));
        }
        let mut terms = self.base().to_vec();
        terms.push(packed);
        if !packs {
            // A matrix outside the blocks is read, turned round and moved to the device; files that are read count as memory.
            let matrix = 4 * self.model.hidden as u64 * self.model.vocab as u64;
            let files = self.model.embedding * self.inputs.file.size() as u64;
            let loading = [
                Term::host("a matrix as it is read", 2 * matrix),
                Term::host("files as they are read", files),
            ];
            moments.push(Moment::new(
                "loading",
                self.base().into_iter().chain(loading),
            ));
            terms.extend([self.dense_block(), self.reading()]);
        }
        terms.extend(self.evaluating(!stays));
        moments.push(Moment::new("evaluation", terms));
        PhasePlan {
            name,
            moments,
            disk: Vec::new(),
            steps: 0,
        }
    }

    fn block_ap(&self) -> PhasePlan {
        let (inputs, model) = (self.inputs, self.model);
        let caches = Caches::new(inputs);
        let (batch, epochs, samples) = match inputs.settings.block_ap {
            Some(phase) => (phase.batch_size, phase.epochs, phase.train_size),
            None => (1, 0, 0),
        };
        // Windows of a step; there may be fewer in all.
        let compute = inputs.on(batch.min(samples));
        let float = inputs.compute().size() as u64;
        let quantizer = |copies: u64| copies.saturating_mul(2 * 4 * self.block(BlockShape::steps));
        let plain = |copies: u64| {
            copies.saturating_mul(4 * self.block(|block| block.weights() + block.plain()))
        };
        let finished = match inputs.run_dir {
            true => 0,
            false => model.packed_blocks(),
        };
        let mut common = self.base().to_vec();
        common.extend(caches.terms());
        common.extend([
            Term::device("finished blocks", finished),
            // Its target; its input is what the first norm keeps.
            Term::device("a target", compute.each_token(model.hidden)),
        ]);
        let trained = [
            self.dense_block(),
            Term::device("moments of the weights", plain(2)),
            Term::device("step sizes and zero points, with moments", quantizer(3)),
        ];
        let with = |terms: &[Term]| common.iter().chain(terms).copied().collect::<Vec<_>>();
        let training = |more: &[Term]| with(&[&trained, more].concat());
        let tape =
            |of: fn(&Tape) -> u64| self.block(|block| of(&Tape::new(model, block, compute, true)));
        let largest = self.block(BlockShape::largest);
        let cast = if float == 4 { 0 } else { 4 * largest };
        let moments = vec![
            Moment::new(
                "original block on its inputs",
                with(&[
                    self.dense_block(),
                    self.reading(),
                    Term::device("activations of a forward pass", self.forward(compute)),
                ]),
            ),
            Moment::new(
                "forward and backward pass",
                training(&[
                    Term::device(
                        "activations, fake-quantized weights and gradients on their way",
                        tape(Tape::peak),
                    ),
                    Term::device("a fake-quantized weight in f32", cast),
                ]),
            ),
            Moment::new(
                "gradients of the weights",
                training(&[
                    Term::device("gradients", plain(1)),
                    Term::device("gradients of step sizes and zero points", quantizer(1)),
                    Term::device("gradient of a fake-quantized weight", float * largest),
                    Term::device("that gradient in f32", cast),
                ]),
            ),
            Moment::new(
                "optimizer step",
                training(&[
                    Term::device("gradients", plain(1)),
                    Term::device("gradients of step sizes and zero points", quantizer(1)),
                    Term::device("temporaries of the optimizer", OPTIMIZER * 4 * largest),
                ]),
            ),
        ];
        let batches = samples.div_ceil(batch.max(1));
        let kept = if inputs.run_dir {
            model.packed_blocks()
        } else {
            0
        };
        PhasePlan {
            name: "block-ap",
            moments,
            disk: vec![
                Term::disk(ACTIVATIONS, caches.disk),
                Term::disk("finished blocks in the run directory", kept),
            ],
            steps: product([model.blocks.len(), epochs, batches]),
        }
    }

    fn e2e_qp(&self) -> PhasePlan {
        let (inputs, model) = (self.inputs, self.model);
        let (batch, epochs, samples, accumulation, recompute) = match inputs.settings.e2e_qp {
            Some(phase) => (
                phase.e2e_batch,
                phase.e2e_epochs,
                phase.e2e_size,
                phase.grad_accum,
                phase.recompute || phase.offload,
            ),
            None => (1, 0, 0, 1, false),
        };
        let compute = inputs.on(batch.min(samples));
        // Gradients of a batch, and those that were added up before.
        let gradients = if accumulation > 1 { 2 } else { 1 };
        let of_steps = |copies: u64| copies.saturating_mul(4 * model.steps());
        let integers = sum(model.blocks.iter().map(BlockShape::packed_integers));
        let norms = sum(model.blocks.iter().map(|block| 4 * block.plain()));
        let state = |place: fn(&'static str, u64) -> Term| {
            [
                place("step sizes", of_steps(1)),
                place("step sizes before the phase", of_steps(1)),
                place(TRAINING[0], of_steps(2)),
                // They are on the device until the step is taken.
                Term::device(TRAINING[1], of_steps(gradients)),
            ]
        };
        let mut common = self.base().to_vec();
        common.push(Term::device("norms", norms));
        if inputs.offloads() {
            common.extend(state(Term::host));
            // One that computes, and one that is read.
            let block = 2 * self.block(|block| block.packed().saturating_add(8 * block.steps()));
            common.push(Term::device("a packed block and its gradients", block));
        } else {
            common.extend(state(Term::device));
            common.push(Term::device("codes and zero points", integers));
        }
        let tape = |block: &BlockShape| Tape::new(model, block, compute, false);
        let blocks = model.blocks.len();
        let hidden = compute.each_token(model.hidden);
        let kept = if recompute {
            product([blocks + 1]).saturating_mul(hidden)
        } else {
            sum(model.blocks.iter().map(|block| tape(block).kept()))
        };
        let kept = match recompute {
            true => Term::device("what goes into each block", kept),
            false => Term::device("activations of all blocks", kept),
        };
        let pass = self.block(|block| {
            let tape = tape(block);
            match recompute {
                true => tape.peak(),
                // Its own activations are among those of all blocks.
                false => tape.peak().saturating_sub(tape.kept()),
            }
        });
        let with = |terms: &[Term]| common.iter().chain(terms).copied().collect::<Vec<_>>();
        let moments = vec![
            Moment::new(
                "loss of the output layer",
                with(&[
                    kept,
                    Term::device(
                        "losses and gradients of the output layer",
                        self.head(compute, true),
                    ),
                ]),
            ),
            Moment::new(
                "backward pass of a block",
                with(&[
                    kept,
                    Term::device("activations of a block and gradients on their way", pass),
                ]),
            ),
            Moment::new("evaluation", {
                // The optimizer is gone by then.
                let mut terms = common.clone();
                terms.retain(|term| !TRAINING.contains(&term.what));
                terms.extend(self.evaluating(inputs.offloads()));
                terms
            }),
        ];
        // Written beside the one before it.
        let saved = if inputs.run_dir { 2 * of_steps(4) } else { 0 };
        let batches = samples.div_ceil(batch.max(1));
        let per_epoch = batches.div_ceil(accumulation.max(1));
        PhasePlan {
            name: "e2e-qp",
            moments,
            disk: vec![
                Term::disk(
                    "finished blocks in the run directory",
                    if inputs.run_dir {
                        model.packed_blocks()
                    } else {
                        0
                    },
                ),
                Term::disk("state in the run directory", saved),
            ],
            steps: product([per_epoch, epochs]),
        }
    }

    fn save(&self) -> PhasePlan {
        let (inputs, model) = (self.inputs, self.model);
        let written = if inputs.output {
            model.packed_file(inputs.file.size())
        } else {
            0
        };
        let kept = match (inputs.run_dir, inputs.packed) {
            (true, false) => model.packed_blocks(),
            _ => 0,
        };
        let loaded = if kept > 0 {
            self.block(BlockShape::packed)
        } else {
            model.packed_blocks()
        };
        let mut terms = self.base().to_vec();
        terms.extend([
            Term::device("packed blocks", loaded),
            Term::host("a tensor as it is written", 2 * 4 * self.model.embedding),
            Term::host("a file as it is gathered", written.min(GATHERED)),
        ]);
        PhasePlan {
            name: "save",
            moments: vec![Moment::new("writing", terms)],
            disk: vec![
                Term::disk("finished blocks in the run directory", kept),
                Term::disk("packed model", written),
            ],
            steps: 0,
        }
    }
}
