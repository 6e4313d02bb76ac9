//! The phases of a run, moment by moment.

use super::PlanInputs;
use super::activations::{Compute, Tape};
use super::caches::{ACTIVATIONS, Caches, EVALUATED, EVALUATED_AT_ONCE, States};
use super::memory::{Moment, Place, Term, bytes};
use super::shape::{BlockShape, ModelShape, product, sum};
use crate::quantize::E2eQpSettings;
use burn_eqat::Method;
use serde::Serialize;

/// What the process takes before there is a model: the program, its threads, tokens, and the allocator's pages.
const PROCESS: u64 = 60_000_000;

/// Copies of the largest parameter that an optimizer step makes for the moment: see `docs/memory.md`.
const OPTIMIZER: u64 = 4;

/// What is there only while step sizes train.
const TRAINING: [&str; 2] = ["moments of the step sizes", "gradients of the step sizes"];

/// What the saved model is called.
pub(super) const PACKED_MODEL: &str = "packed model";

/// What is kept of finished blocks.
const FINISHED: &str = "finished blocks in the run directory";

/// Pages of files that are mapped to be read.
const FILES: &str = "files as they are read";

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
        if self.inputs.packed {
            phases.push(self.packed());
        } else {
            phases.extend(self.bits());
            phases.push(self.by_block("full-precision", false));
            phases.push(self.by_block("rtn", true));
            if method >= Method::BlockAp {
                phases.push(self.block_ap());
            }
        }
        if method >= Method::EfficientQat {
            phases.extend(self.lessons());
            phases.extend(self.e2e_ap());
            let tunes = |phase: E2eQpSettings| phase.e2e_epochs > 0;
            if self.inputs.settings.e2e_qp.is_none_or(tunes) {
                phases.push(self.e2e_qp());
            }
        }
        phases.push(self.save());
        phases
    }

    /// What every phase has: the process, and what is outside the blocks.
    pub(super) fn base(&self) -> [Term; 2] {
        let model = self.model;
        let shell = self.shell();
        [
            Term::host("process", PROCESS),
            Term::device(
                "embedding, output layer and last norm",
                shell.saturating_add(4 * model.hidden as u64),
            ),
        ]
    }

    /// The most that a moment has of a block.
    pub(super) fn block(&self, measure: impl Fn(&BlockShape) -> u64) -> u64 {
        self.model.largest(measure)
    }

    pub(super) fn forward(&self, compute: Compute) -> u64 {
        let model = self.model;
        // The fused ops have copies in f32 of what they get and make.
        let wide = |values: usize| match compute.float {
            4 => 0,
            _ => compute.each_token_in_f32(values),
        };
        let (attended, activated) = if compute.fused {
            (
                wide(2 * model.queries + 2 * model.keys),
                wide(3 * model.inner),
            )
        } else {
            let tile = product([compute.windows, model.heads, compute.seq_len, 64]);
            ((3 * compute.float).saturating_mul(tile), 0)
        };
        let attention = compute.each_token(3 * model.hidden + 2 * model.queries + 2 * model.keys);
        let fed = compute.each_token(2 * model.hidden + 3 * model.inner);
        let fed = fed.saturating_add(activated);
        fed.max(attention.saturating_add(attended))
    }

    /// Reading a block: as it is in its file, and the largest of its weights in f32 besides.
    pub(super) fn reading(&self) -> Term {
        let bytes = |block: &BlockShape| {
            block
                .largest()
                .saturating_mul(self.inputs.file.size() as u64)
        };
        Term::host("a weight as it is read", self.block(bytes))
    }

    pub(super) fn dense_block(&self) -> Term {
        let bytes = |block: &BlockShape| 4 * (block.weights() + block.plain());
        Term::device("weights of a block", self.block(bytes))
    }

    /// Windows of an evaluation by block, a batch of which goes through a block at a time.
    fn evaluating(&self, streams: bool) -> Vec<Term> {
        let compute = self.inputs.on(EVALUATED_AT_ONCE.min(self.inputs.eval));
        let hidden = match streams {
            true => States::evaluated(self.inputs).memory,
            false => 0,
        };
        vec![
            Term::device(EVALUATED, hidden),
            Term::device("activations of a forward pass", self.forward(compute)),
            Term::device("losses of the output layer", self.head(compute, false)),
        ]
    }

    /// The hidden states that an evaluation has on disk.
    fn evaluated_on_disk(&self, streams: bool) -> Term {
        let disk = match streams {
            true => States::evaluated(self.inputs).disk,
            false => 0,
        };
        Term::disk(EVALUATED, disk)
    }

    /// The loss of the output layer, by chunks of positions, in f32; with gradients those of all positions are collected. Of a
    /// weight in 16 bits some columns are in f32 at a time, for more positions.
    pub(super) fn head(&self, compute: Compute, gradients: bool) -> u64 {
        const LOGITS: usize = 1 << 20;
        const CAST_ROWS: usize = 256;
        const CAST: u64 = 1 << 23;
        let model = self.model;
        let cast = self.inputs.shell_float() < 4;
        let least = if cast { CAST_ROWS } else { 16 };
        let positions = product([compute.windows, compute.seq_len]).max(16);
        let rows = (LOGITS / model.vocab.max(1)).max(least) as u64;
        let logits = rows
            .min(positions)
            .saturating_mul(product([model.vocab, 3, 4]));
        let weight = product([model.vocab, model.hidden]);
        let tile = if cast { 4 * weight.min(CAST) } else { 0 };
        let copies = if gradients { 5 } else { 2 };
        let wide = compute.each_token_in_f32(copies * model.hidden);
        // What the last norm makes, and its gradient.
        let half = match (compute.float, gradients) {
            (4, _) => 0,
            (_, true) => compute.each_token(2 * model.hidden),
            (_, false) => compute.each_token(model.hidden),
        };
        sum([logits, tile, wide, half])
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
        // Beside what each phase has of them in the type of the file.
        let wide = !inputs.packed && inputs.compute().size() == 4;
        let tables = match wide {
            true => (4 - inputs.shell_float().min(4)).saturating_mul(model.embedding),
            false => 0,
        };
        let terms = [
            Term::device("all blocks", blocks),
            Term::device("keys and values of earlier positions", cache),
            Term::device("logits", logits),
            Term::device("embedding and output layer in f32", tables),
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
            moments.push(self.loading(self.shell(), 0));
            let file = self.inputs.file.size() as u64;
            let block = self.block(|block| file.saturating_mul(block.weights()));
            terms.extend([self.dense_block(), self.reading(), Term::host(FILES, block)]);
        }
        terms.extend(self.evaluating(!stays));
        moments.push(Moment::new("evaluation", terms));
        let rounded = match packs && self.inputs.run_dir {
            true => self.model.packed_blocks(),
            false => 0,
        };
        PhasePlan {
            name,
            moments,
            disk: vec![
                self.evaluated_on_disk(!stays),
                Term::disk("rounded blocks in the run directory", rounded),
            ],
            steps: 0,
        }
    }

    /// A packed model is loaded: a block at a time, or all of it.
    fn packed(&self) -> PhasePlan {
        let (inputs, model) = (self.inputs, self.model);
        let moment = match inputs.offloads() {
            true => self.loading(self.shell(), 0),
            false => {
                let files = model.packed_file(inputs.file.size());
                self.loading(inputs.file_bytes.unwrap_or(files), model.packed_blocks())
            }
        };
        PhasePlan {
            name: "packed",
            moments: vec![moment],
            disk: Vec::new(),
            steps: 0,
        }
    }

    /// A matrix outside the blocks is read, turned round and moved to the device; files that are read count as memory.
    fn loading(&self, files: u64, blocks: u64) -> Moment {
        let loading = [
            Term::host("a matrix as it is read", 2 * self.matrix()),
            Term::host(FILES, files),
            Term::device("packed blocks", blocks),
        ];
        Moment::new("loading", self.base().into_iter().chain(loading))
    }

    /// Bytes of the embedding and the output layer, in files and in memory.
    fn shell(&self) -> u64 {
        let float = self.inputs.shell_float();
        self.model.embedding.saturating_mul(float)
    }

    /// Bytes of the embedding, or of the output layer.
    fn matrix(&self) -> u64 {
        self.inputs.shell_float() * self.model.hidden as u64 * self.model.vocab as u64
    }

    /// The packed blocks in the run directory, if there are any.
    pub(super) fn finished(&self, there: bool) -> Term {
        let bytes = match there {
            true => self.model.packed_blocks(),
            false => 0,
        };
        Term::disk(FINISHED, bytes)
    }

    fn block_ap(&self) -> PhasePlan {
        let (inputs, model) = (self.inputs, self.model);
        let caches = Caches::new(inputs);
        let blocks = inputs.config.num_hidden_layers;
        let (batch, epochs, samples, ahead) = match inputs.settings.block_ap {
            Some(phase) => (
                phase.batch_size,
                phase.epochs,
                phase.train_size,
                phase.lookahead.min(blocks.saturating_sub(1)) as u64,
            ),
            None => (1, 0, 0, 0),
        };
        // Windows of a step; there may be fewer in all.
        let compute = inputs.on(batch.min(samples));
        let float = inputs.compute().size() as u64;
        // What each device has is in one memory, or that of another comes to the first.
        let copies = inputs.copies();
        let gradients = copies.max((inputs.devices as u64).clamp(1, 2));
        let quantizer = |copies: u64| copies.saturating_mul(2 * 4 * self.block(BlockShape::steps));
        let plain = |copies: u64| {
            copies.saturating_mul(4 * self.block(|block| block.weights() + block.plain()))
        };
        let finished = match inputs.run_dir {
            true => 0,
            false => model.packed_blocks(),
        };
        // Read for its turn where finished blocks are in files.
        let packed_block = match inputs.run_dir {
            true => Term::device("a packed block", self.block(BlockShape::packed)),
            false => Term::device("a packed block", 0),
        };
        let mut common = self.base().to_vec();
        common.extend(caches.terms());
        common.extend([
            Term::device("finished blocks", finished),
            // Its target; its input is what the first norm keeps.
            Term::device("a target", compute.each_token(model.hidden)).times(copies),
            Term::device("original blocks ahead", self.dense_block().bytes)
                .times(copies.saturating_mul(ahead)),
        ]);
        let tried = match inputs.settings.block_ap {
            Some(phase) if phase.probe_rates => self.dense_block().bytes,
            _ => 0,
        };
        let trained = [
            Term::device("the block as it was, while rates are tried", tried),
            // Where several devices have one memory, they have one block, or the one before the last step beside it.
            self.dense_block().times(copies.min(2)),
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
                    )
                    // Those of the blocks ahead have no fake-quantized weights, so this is a little more than there is.
                    .times(copies.saturating_mul(1 + ahead)),
                    Term::device("a fake-quantized weight in f32", cast).times(copies),
                ]),
            ),
            Moment::new(
                "gradients of the weights",
                training(&[
                    Term::device("gradients", plain(gradients)),
                    Term::device(
                        "gradients of step sizes and zero points",
                        quantizer(gradients),
                    ),
                    Term::device("gradient of a fake-quantized weight", float * largest)
                        .times(copies),
                    Term::device("that gradient in f32", cast).times(copies),
                ]),
            ),
            Moment::new("evaluation", {
                let mut terms = self.base().to_vec();
                terms.push(Term::device("finished blocks", finished));
                terms.push(packed_block);
                terms.extend(self.evaluating(inputs.run_dir));
                terms
            }),
            Moment::new(
                "optimizer step",
                training(&[
                    Term::device("gradients", plain(1)),
                    Term::device("gradients of step sizes and zero points", quantizer(1)),
                    Term::device("temporaries of the optimizer", OPTIMIZER * 4 * largest),
                ]),
            ),
        ];
        let steps = samples
            .div_ceil(batch.max(1))
            .div_ceil(inputs.devices.max(1));
        // The one comes after the other.
        let evaluated = self.evaluated_on_disk(inputs.run_dir);
        let activations = match evaluated.bytes > caches.disk {
            true => evaluated,
            false => Term::disk(ACTIVATIONS, caches.disk),
        };
        PhasePlan {
            name: "block-ap",
            moments,
            disk: vec![activations, self.finished(inputs.keeps_blocks())],
            steps: product([model.blocks.len(), epochs, steps]),
        }
    }

    /// E2E-AP, where it runs: every weight with its gradient and moments, beside the packed model and the original.
    fn e2e_ap(&self) -> Option<PhasePlan> {
        let (inputs, model) = (self.inputs, self.model);
        let phase = inputs.settings.e2e_qp.filter(|_| !inputs.packed)?;
        let epochs = phase.e2e_ap?.epochs;
        let compute = inputs.on(phase.e2e_batch.min(phase.e2e_size));
        let dense_of = |block: &BlockShape| 4 * (block.weights() + block.plain());
        let dense = sum(model.blocks.iter().map(dense_of));
        let batches = phase.e2e_size.div_ceil(phase.e2e_batch.max(1));
        let per_epoch = batches.div_ceil(phase.grad_accum.max(1));
        let steps = product([per_epoch, epochs]);
        if inputs.offloads() {
            return Some(PhasePlan {
                name: "e2e-ap",
                moments: self.e2e_ap_in_files(compute),
                disk: vec![
                    self.finished(inputs.has_stored_blocks()),
                    // With both moments, in 16 bits; each written beside the one before it.
                    Term::disk(
                        "blocks in training",
                        sum([dense, 4 * 2 * model.steps()]).saturating_mul(2 * 2),
                    ),
                    Term::disk("packed blocks of the phase", model.packed_blocks()),
                    self.kept_lessons(),
                ],
                steps,
            });
        }
        let tape = |block: &BlockShape| Tape::new(model, block, compute, true);
        let kept = if phase.recompute {
            let hidden = compute.each_token(model.hidden);
            product([model.blocks.len() + 1]).saturating_mul(hidden)
        } else {
            sum(model.blocks.iter().map(|block| tape(block).kept()))
        };
        let terms = [
            Term::device("packed blocks", model.packed_blocks()),
            Term::device("the original that is learned from", dense),
            Term::device(
                "weights with gradients and moments",
                dense.saturating_mul(4),
            ),
            Term::device(
                "step sizes and zero points, with gradients and moments",
                model.steps().saturating_mul(4 * 2 * 4),
            ),
            Term::device("activations that are kept", kept),
            Term::device(
                "activations of a block and gradients on their way",
                self.block(|block| tape(block).peak()),
            ),
            Term::device(
                "losses and gradients of the output layer",
                self.head(compute, true),
            ),
        ];
        Some(PhasePlan {
            name: "e2e-ap",
            moments: vec![Moment::new(
                "forward and backward pass",
                self.base().into_iter().chain(terms),
            )],
            disk: vec![
                self.finished(inputs.has_stored_blocks()),
                self.kept_lessons(),
            ],
            steps,
        })
    }

    /// The moments of E2E-AP where one block at a time is in memory.
    fn e2e_ap_in_files(&self, compute: Compute) -> Vec<Moment> {
        let (inputs, model) = (self.inputs, self.model);
        let numbers =
            |block: &BlockShape| 4 * (block.weights() + block.plain() + 2 * block.steps());
        let block = self.block(numbers);
        let hidden = compute.each_token(model.hidden);
        let kept = product([model.blocks.len() + 1]).saturating_mul(hidden);
        let tape = |block: &BlockShape| Tape::new(model, block, compute, true);
        let mut common = self.base().to_vec();
        common.push(Term::device("what goes into each block", kept));
        let with = |terms: &[Term]| common.iter().chain(terms).copied().collect::<Vec<_>>();
        let taught = inputs.settings.e2e_qp.and_then(|phase| phase.distillation);
        let mut head = vec![Term::device(
            "losses and gradients of the output layer",
            self.head(compute, true),
        )];
        if taught.is_some() {
            head.extend([
                Term::device("a block of the original", self.dense_block().bytes),
                Term::device("the original's forward pass", self.forward(compute)),
            ]);
        }
        let largest = self.block(BlockShape::largest);
        vec![
            Moment::new("loss of the output layer", with(&head)),
            Moment::new(
                "backward pass of a block",
                with(&[
                    Term::device("weights, step sizes and zero points of a block", block),
                    Term::device("their gradients", block),
                    Term::device(
                        "activations of a block and gradients on their way",
                        self.block(|block| tape(block).peak()),
                    ),
                ]),
            ),
            Moment::new(
                "optimizer step of a block",
                with(&[
                    Term::device("a block with gradients and moments", 4 * block),
                    Term::device("temporaries of the optimizer", OPTIMIZER * 4 * largest),
                    // The file, the optimizer's record and what is written are there beside the moments themselves.
                    Term::host("the moments, to and from their file", 4 * block),
                ]),
            ),
            Moment::new("evaluation", {
                let mut terms = self.base().to_vec();
                terms.extend(self.evaluating(true));
                terms
            }),
        ]
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
        let copies = inputs.copies();
        let devices = inputs.devices.max(1);
        // Gradients of a batch on each device, or those that come from another; and those that were added up before.
        let gradients = match devices {
            1 => 1,
            _ => copies.max(2),
        } + u64::from(accumulation > 1);
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
        let taught = inputs.settings.e2e_qp.and_then(|phase| phase.distillation);
        let taught = taught.is_some() && !inputs.packed;
        if taught {
            let dense = |block: &BlockShape| 4 * (block.weights() + block.plain());
            let original = match inputs.offloads() {
                true => self.block(dense),
                false => sum(model.blocks.iter().map(dense)),
            };
            common.push(Term::device("the original that is learned from", original));
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
        }
        .times(copies);
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
                    )
                    .times(copies),
                    Term::device(
                        "the original's forward pass",
                        if taught { self.forward(compute) } else { 0 },
                    )
                    .times(copies),
                ]),
            ),
            Moment::new(
                "backward pass of a block",
                with(&[
                    kept,
                    Term::device("activations of a block and gradients on their way", pass)
                        .times(copies),
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
        let per_epoch = batches.div_ceil(accumulation.max(1).saturating_mul(devices));
        PhasePlan {
            name: "e2e-qp",
            moments,
            disk: vec![
                self.evaluated_on_disk(inputs.offloads()),
                self.finished(inputs.has_stored_blocks()),
                Term::disk("state in the run directory", saved),
                self.kept_lessons(),
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
        // Round to nearest and Block-AP leave their blocks in files; E2E-QP has them in memory, unless they take turns.
        let trained = inputs.settings.e2e_qp.is_some();
        let in_files = inputs.offloads() || (inputs.keeps_blocks() && !trained);
        let loaded = if in_files {
            self.block(BlockShape::packed)
        } else {
            model.packed_blocks()
        };
        let mut terms = self.base().to_vec();
        terms.extend([
            Term::device("packed blocks", loaded),
            Term::host("a tensor as it is written", self.matrix()),
            Term::host("a file as it is gathered", written.min(GATHERED)),
        ]);
        PhasePlan {
            name: "save",
            moments: vec![Moment::new("writing", terms)],
            disk: vec![
                self.finished(inputs.has_stored_blocks()),
                Term::disk(PACKED_MODEL, written),
            ],
            steps: 0,
        }
    }
}
