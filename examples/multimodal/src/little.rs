//! The two little models of this package, and what they are measured with.

use crate::data::{Dialogues, World, loader};
use crate::error::Error;
use crate::evaluate::{Exam, Sampling};
use crate::load::LoadedMultimodal;
use crate::model::Multimodal;
use crate::quantize::{QuantizeSettings, loaders, quantize};
use crate::table::Row;
use burn::tensor::Device;
use burn_eqat::train::TrainError;
use burn_eqat::{Observer, Quantize, Stage};
use std::path::{Path, PathBuf};

/// Seed of the samples that no model learns from.
pub const UNSEEN: u64 = 1000;
/// Seed of the samples that E2E-QP is validated with.
pub const VALID: u64 = 1001;
/// Seed of the samples of both phases; the models have learned from others.
pub const CALIBRATION: u64 = 1002;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Questions of each kind.
    pub per_kind: usize,
    /// How the sampled answers are picked.
    pub sampling: Sampling,
    /// How much both phases learn from.
    pub sizes: Sizes,
}

/// Conversations of both phases.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// For Block-AP.
    pub block_ap: usize,
    /// For E2E-QP.
    pub e2e_qp: usize,
    /// To validate E2E-QP with.
    pub valid: usize,
    /// Of a step of Block-AP, and of one of E2E-QP.
    pub batches: [usize; 2],
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            per_kind: 250,
            sampling: Sampling {
                temperature: 0.7,
                seed: 7,
            },
            sizes: Sizes {
                block_ap: 512,
                e2e_qp: 2048,
                valid: 64,
                batches: [8, 16],
            },
        }
    }
}

/// The directory of a world's model in this package.
pub fn bundled(world: World) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("assets")
        .join(world.name())
}

/// A little model with what it is measured and calibrated with.
pub struct Little {
    /// What it answers questions about.
    pub world: World,
    /// The model.
    pub loaded: LoadedMultimodal,
    exam: Exam,
    measure: Measure,
    device: Device,
}

impl Little {
    /// Opens a model's directory.
    ///
    /// # Errors
    ///
    /// When it is not that of a model of this world.
    pub fn open(
        world: World,
        dir: &Path,
        measure: Measure,
        device: &Device,
    ) -> Result<Self, Error> {
        let loaded = LoadedMultimodal::open(dir, device)?;
        let exam = Exam::new(
            world,
            (UNSEEN, measure.per_kind),
            &loaded.conversations()?,
            &loaded.processor()?,
            loaded.limits(24),
        )?;
        Ok(Self {
            world,
            loaded,
            exam,
            measure,
            device: device.clone(),
        })
    }

    /// The number of questions.
    pub fn questions(&self) -> usize {
        self.exam.questions()
    }

    /// Conversations of a seed, as many as are asked for.
    ///
    /// # Errors
    ///
    /// When the model's files do not fit together.
    pub fn dialogues(&self, seed: u64) -> Result<Dialogues, Error> {
        Ok(Dialogues {
            world: self.world,
            seed,
            count: 0,
            conversations: self.loaded.conversations()?,
            processor: self.loaded.processor()?,
        })
    }

    /// A model in a row of the table.
    ///
    /// # Errors
    ///
    /// When the model cannot run.
    pub fn row(
        &self,
        model: &Multimodal,
        (scheme, stage): (&str, &str),
        seconds: f64,
    ) -> Result<Row, Error> {
        let marks = |sampling| self.exam.marks(model, sampling, &self.device);
        let size = model.size_report();
        Ok(Row {
            scheme: scheme.to_string(),
            stage: stage.to_string(),
            bits_per_weight: if size.packed_weights > 0 {
                size.bits_per_weight()
            } else {
                // In files.
                8.0 * self.loaded.dtype().size() as f64
            },
            loss: self.loss(model)?,
            greedy: marks(Sampling::GREEDY)?,
            sampled: marks(self.measure.sampling)?,
            seconds,
        })
    }

    /// Mean cross-entropy of the tokens of answers about unseen samples, in nats.
    fn loss(&self, model: &Multimodal) -> Result<f64, Error> {
        let unseen = self.dialogues(UNSEEN)?.first(self.measure.per_kind);
        let (mut sum, mut tokens) = (0.0, 0);
        for batch in loader(unseen, 32, &self.device).iter() {
            let batch = batch?;
            sum += model.loss(&batch)?.into_scalar::<f64>() * batch.answers() as f64;
            tokens += batch.answers();
        }
        Ok(sum / tokens.max(1) as f64)
    }

    /// Takes the model to few bits, and measures it after each stage but the first, full precision. `say` gets what is
    /// going on.
    ///
    /// # Errors
    ///
    /// When training fails.
    pub fn quantize(
        &self,
        settings: &QuantizeSettings,
        say: &mut dyn FnMut(&Row),
    ) -> Result<(Multimodal, Vec<Row>), Error> {
        let train = self.dialogues(CALIBRATION)?;
        let valid = self.dialogues(VALID)?;
        let sizes = &self.measure.sizes;
        let data = loaders(
            [train.first(sizes.block_ap), valid.first(0)],
            [train.first(sizes.e2e_qp), valid.first(sizes.valid)],
            sizes.batches,
            &self.device,
        );
        let mut rows = Measured {
            little: self,
            scheme: settings.scheme.to_string(),
            rows: Vec::new(),
            say,
        };
        let model = self.loaded.model.clone();
        let packed = quantize(model, settings, data, &mut rows)?;
        Ok((packed, rows.rows))
    }
}

/// Measures each stage.
struct Measured<'a> {
    little: &'a Little,
    scheme: String,
    rows: Vec<Row>,
    say: &'a mut dyn FnMut(&Row),
}

impl Observer<Multimodal> for Measured<'_> {
    fn stage(&mut self, stage: &Stage<'_, Multimodal>) -> Result<(), TrainError> {
        if stage.size_report.packed_weights > 0 {
            let name = stage.name.to_string();
            let row = self
                .little
                .row(stage.model, (&self.scheme, &name), stage.seconds);
            let row = row.map_err(|error| TrainError::Callback(error.into()))?;
            (self.say)(&row);
            self.rows.push(row);
        }
        Ok(())
    }
}
