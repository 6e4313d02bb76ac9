//! Models that are no Llama, made of plain `nn::Linear`: attached, trained by both strategies of
//! Burn's `SupervisedTraining`, packed, saved and loaded.

use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::store::ModuleRecord;
use burn::tensor::activation::{gelu, relu, softmax};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn::train::logger::InMemoryMetricLogger;
use burn::train::{InferenceStep, LearnerModel, SupervisedTraining, TrainOutput, TrainStep};
use burn_eqat::files::{Checkpoint, Format, StagedDir, save_model};
use burn_eqat::train::metrics::{
    GroupLearningRateMetric, ReconstructionLossMetric, TokenPerplexityMetric,
};
use burn_eqat::train::{BlockAp, BlockApConfig, Blockwise, E2eQpConfig, ModelError, QatOutput};
use burn_eqat::{FakeQuant, Packed, Quantize, Scheme, Weights};
use burn_eqat_tests::seeded;
use std::sync::Arc;

/// Inputs `[batch, seq, width]` and what a model should make of them.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) input: Tensor<3>,
    pub(crate) target: Tensor<3>,
}

/// Three layers with names of their own: the blocks are no list.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    pub(crate) first: Linear,
    pub(crate) middle: Linear,
    pub(crate) last: Linear,
}

impl Mlp {
    pub(crate) fn new(device: &Device) -> Self {
        let linear = |d_input, d_output| LinearConfig::new(d_input, d_output).init(device);
        Self {
            first: linear(24, 48),
            middle: linear(48, 48),
            last: linear(48, 20),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = relu(self.first.forward(x));
        self.last.forward(relu(self.middle.forward(x)))
    }
}

impl Blockwise for Mlp {
    type Batch = Batch;
    type Hidden = Tensor<3>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        ["first", "middle", "last"].map(String::from).to_vec()
    }
    fn embed(&self, batch: Batch) -> Result<(Tensor<3>, ()), ModelError> {
        Ok((batch.input, ()))
    }
    fn run_block(&self, index: usize, x: Tensor<3>, _: &()) -> Result<Tensor<3>, ModelError> {
        let y = [&self.first, &self.middle, &self.last][index].forward(x);
        Ok(if index < 2 { relu(y) } else { y })
    }
    fn output_loss(&self, y: Tensor<3>, _: &(), batch: Batch) -> Result<Tensor<1>, ModelError> {
        Ok(error(&y, batch.target))
    }
    fn batch_to_device(batch: Batch, device: &Device) -> Result<Batch, ModelError> {
        Ok(Batch {
            input: batch.input.to_device(device),
            target: batch.target.to_device(device),
        })
    }
}

/// One head of attention and a feed-forward.
#[derive(Module, Debug)]
struct EncoderBlock {
    norm_attention: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    norm_feed: LayerNorm,
    up: Linear,
    down: Linear,
}

impl EncoderBlock {
    fn new(width: usize, device: &Device) -> Self {
        let linear = |d_input, d_output| LinearConfig::new(d_input, d_output).init(device);
        Self {
            norm_attention: LayerNormConfig::new(width).init(device),
            query: linear(width, width),
            key: linear(width, width),
            value: linear(width, width),
            norm_feed: LayerNormConfig::new(width).init(device),
            up: linear(width, 2 * width),
            down: linear(2 * width, width),
        }
    }

    /// `mask [1, seq, seq]` is added to the scores.
    fn forward(&self, x: Tensor<3>, mask: Tensor<3>) -> Tensor<3> {
        let h = self.norm_attention.forward(x.clone());
        let (q, k) = (self.query.forward(h.clone()), self.key.forward(h.clone()));
        let scores = q.matmul(k.transpose()) + mask;
        let x = x + softmax(scores, 2).matmul(self.value.forward(h));
        let h = self.norm_feed.forward(x.clone());
        x + self.down.forward(gelu(self.up.forward(h)))
    }
}

#[derive(Module, Debug)]
pub(crate) struct Encoder {
    blocks: Vec<EncoderBlock>,
    head: Linear,
}

impl Encoder {
    pub fn new(device: &Device) -> Self {
        Self {
            blocks: (0..2).map(|_| EncoderBlock::new(24, device)).collect(),
            head: LinearConfig::new(24, 20).init(device),
        }
    }

    fn mask(x: &Tensor<3>) -> Tensor<3> {
        let [_, seq, _] = x.dims();
        Tensor::<3>::zeros([1, seq, seq], &x.device())
    }

    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mask = Self::mask(&x);
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(x, mask.clone()));
        self.head.forward(x)
    }
}

impl Blockwise for Encoder {
    type Batch = Batch;
    type Hidden = Tensor<3>;
    type Context = Tensor<3>;

    fn blocks(&self) -> Vec<String> {
        let blocks = 0..self.blocks.len();
        blocks.map(|index| format!("blocks.{index}")).collect()
    }
    fn embed(&self, batch: Batch) -> Result<(Tensor<3>, Tensor<3>), ModelError> {
        let mask = Self::mask(&batch.input);
        Ok((batch.input, mask))
    }
    fn run_block(
        &self,
        index: usize,
        x: Tensor<3>,
        mask: &Tensor<3>,
    ) -> Result<Tensor<3>, ModelError> {
        Ok(self.blocks[index].forward(x, mask.clone()))
    }
}

macro_rules! learns_by_mean_squared_error {
    ($model:ty) => {
        impl TrainStep for $model {
            type Input = Batch;
            type Output = QatOutput;

            fn step(&self, batch: Batch) -> TrainOutput<QatOutput> {
                let loss = error(&self.forward(batch.input), batch.target);
                TrainOutput::new(self, loss.backward(), QatOutput::new(loss))
            }
        }

        impl InferenceStep for $model {
            type Input = Batch;
            type Output = QatOutput;

            fn step(&self, batch: Batch) -> QatOutput {
                QatOutput::new(error(&self.forward(batch.input), batch.target))
            }
        }
    };
}
learns_by_mean_squared_error!(Mlp);
learns_by_mean_squared_error!(Encoder);

pub(crate) fn error(output: &Tensor<3>, target: Tensor<3>) -> Tensor<1> {
    (output.clone() - target).square().mean()
}

pub(crate) type Sample = (Vec<f32>, Vec<f32>);
const SEQ: usize = 5;

struct Samples;
impl Batcher<Sample, Batch> for Samples {
    fn batch(&self, items: Vec<Sample>, device: &Device) -> Batch {
        let stack = |parts: Vec<Vec<f32>>| -> Tensor<3> {
            let (batch, flat) = (parts.len(), parts.concat());
            let width = flat.len() / batch / SEQ;
            Tensor::from_data(TensorData::new(flat, [batch, SEQ, width]), device)
        };
        let (inputs, targets) = items.into_iter().unzip();
        Batch {
            input: stack(inputs),
            target: stack(targets),
        }
    }
}

/// Random inputs, with the full-precision model's outputs as targets.
pub(crate) fn samples(
    count: usize,
    teacher: &dyn Fn(Tensor<3>) -> Tensor<3>,
    device: &Device,
) -> Vec<Sample> {
    (0..count)
        .map(|_| {
            let x = Tensor::<3>::random([1, SEQ, 24], Distribution::Normal(0.0, 1.0), device);
            let numbers = |t: Tensor<3>| t.into_data().iter::<f32>().collect();
            (numbers(x.clone()), numbers(teacher(x)))
        })
        .collect()
}

pub(crate) fn loader(samples: &[Sample], batch: usize) -> Arc<dyn DataLoader<Batch>> {
    builder(batch).build(InMemDataset::new(samples.to_vec()))
}

/// A loader that shuffles anew for each epoch.
pub(crate) fn shuffled(samples: &[Sample], batch: usize, seed: u64) -> Arc<dyn DataLoader<Batch>> {
    let builder = builder(batch).shuffle(seed);
    builder.build(InMemDataset::new(samples.to_vec()))
}

fn builder(batch: usize) -> DataLoaderBuilder<Sample, Batch> {
    DataLoaderBuilder::new(Samples)
        .batch_size(batch)
        .set_device(Device::flex())
}

pub(crate) fn training<M>(train: &[Sample], valid: &[Sample]) -> SupervisedTraining<M>
where
    M: LearnerModel + TrainStep<Input = Batch> + InferenceStep<Input = Batch>,
{
    SupervisedTraining::new(std::env::temp_dir(), loader(train, 8), loader(valid, 8))
        .with_metric_logger(InMemoryMetricLogger::default())
        .with_application_logger(None)
}

fn count<R: burn::module::Reparameterization>(linears: &[&Linear]) -> usize {
    let attached = linears
        .iter()
        .filter(|l| l.weight.reparameterization::<R>().is_some());
    attached.count()
}

/// The whole way of a model; `linears` gives its layers that are quantized.
fn goes_all_the_way<M>(
    new: fn(&Device) -> M,
    forward: fn(&M, Tensor<3>) -> Tensor<3>,
    weights: Weights,
    linears: fn(&M) -> Vec<&Linear>,
) where
    M: LearnerModel
        + Blockwise<Batch = Batch>
        + TrainStep<Input = Batch, Output = QatOutput>
        + InferenceStep<Input = Batch, Output = QatOutput>,
{
    let device = Device::flex();
    let random = seeded(11);
    let teacher = new(&device);
    let teach = |x| forward(&teacher, x);
    let (train, valid) = (samples(96, &teach, &device), samples(32, &teach, &device));
    drop(random);
    let inputs = loader(&valid, 32).iter().next().unwrap().unwrap();
    let loss = |model: &M| -> f64 {
        let output = forward(model, inputs.input.clone());
        error(&output, inputs.target.clone()).into_scalar()
    };
    let scheme: Scheme = "w2g12".parse().unwrap();
    let all = linears(&teacher).len();

    let attached = teacher.clone().attach_fake_quant(&weights, scheme).unwrap();
    assert_eq!(count::<FakeQuant>(&linears(&attached)), all);
    let rtn = teacher.clone().quantize_rtn(&weights, scheme).unwrap();
    assert_eq!(count::<Packed>(&linears(&rtn)), all);
    let packed = attached.clone().pack().unwrap();
    assert!((loss(&attached) - loss(&packed)).abs() < 1e-6);

    // Block-AP.
    let block_ap: BlockAp = BlockApConfig::new(scheme, weights.clone())
        .with_quant_learning_rate(Some(5e-3.into()))
        .with_weight_learning_rate(Some(5e-3.into()))
        .with_epochs(4)
        .with_early_stopping(Some(2))
        .init();
    let training_with = training::<M>(&train, &valid)
        .num_epochs(block_ap.num_epochs(&teacher))
        .metric_train_numeric(ReconstructionLossMetric::default())
        .metric_valid_numeric(ReconstructionLossMetric::default())
        .metric_train_numeric(GroupLearningRateMetric::quantizer())
        .metric_train_numeric(GroupLearningRateMetric::weights());
    let packed = block_ap.launch(training_with, teacher.clone()).unwrap();
    assert_eq!(count::<Packed>(&linears(&packed)), all);
    let (before, after) = (loss(&rtn), loss(&packed));
    assert!(after < 0.7 * before, "Block-AP: {before} to {after}");

    // E2E-QP: step sizes move, nothing else does.
    let e2e = E2eQpConfig::new()
        .with_learning_rate(Some(2e-3.into()))
        .with_epochs(6)
        .with_grad_accumulation(2)
        .with_early_stopping(Some(2))
        .init();
    let training_with =
        training::<M>(&train, &valid).metric_train_numeric(TokenPerplexityMetric::default());
    let tuned = e2e.launch(training_with, packed.clone()).unwrap();
    assert!(loss(&tuned) < after, "E2E-QP: {after} to {}", loss(&tuned));
    for (old, new) in linears(&packed).iter().zip(linears(&tuned)) {
        let codes = |l: &Linear| {
            let packed = l.weight.reparameterization::<Packed>().unwrap();
            packed.codes.val().into_data()
        };
        codes(old).assert_eq(&codes(new), true);
        let bias = |l: &Linear| l.bias.as_ref().unwrap().val().into_data();
        bias(old).assert_eq(&bias(new), true);
        assert_ne!(old.weight.base().into_data(), new.weight.base().into_data());
    }

    // Saved and loaded: a Burn record, and a checkpoint directory.
    let expected = forward(&tuned, inputs.input.clone()).into_data();
    let bytes = tuned.clone().into_record().into_bytes().unwrap();
    let skeleton = new(&device).attach_packed(&weights, scheme).unwrap();
    let loaded = skeleton.load_record(ModuleRecord::from_bytes(bytes).unwrap());
    forward(&loaded, inputs.input.clone())
        .into_data()
        .assert_eq(&expected, true);

    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let staged = StagedDir::begin(&target, false).unwrap();
    let config = serde_json::json!({"model_type": "test"});
    let dtype = burn::tensor::DType::F32;
    save_model(&tuned, &config, dtype, &staged).unwrap();
    staged.commit().unwrap();
    let checkpoint = Checkpoint::open(&target).unwrap();
    let found = checkpoint.scheme(&new(&device)).unwrap();
    assert_eq!(found, Some((scheme, Format::BurnEqat)));
    let loaded = checkpoint.load(new(&device), |_| false).unwrap();
    forward(&loaded, inputs.input.clone())
        .into_data()
        .assert_eq(&expected, true);

    // Unpacked again, it is a dense model of the same values.
    let dense = tuned.unpack();
    assert_eq!(count::<Packed>(&linears(&dense)), 0);
    let output = forward(&dense, inputs.input.clone());
    output.into_data().assert_eq(&expected, true);
}

#[test]
fn an_mlp() {
    goes_all_the_way(Mlp::new, Mlp::forward, Weights::linears(), |mlp| {
        vec![&mlp.first, &mlp.middle, &mlp.last]
    });
}

#[test]
fn a_small_transformer() {
    goes_all_the_way(
        Encoder::new,
        Encoder::forward,
        Weights::matching(r"^blocks\..*\.weight$").unwrap(),
        |encoder| {
            let layers = encoder.blocks.iter();
            layers
                .flat_map(|b| [&b.query, &b.key, &b.value, &b.up, &b.down])
                .collect()
        },
    );
}

/// Symmetric, one group per column and odd widths: attach, pack and unpack agree.
#[test]
fn every_scheme_packs_what_it_trains() {
    let device = Device::flex();
    let _random = seeded(5);
    let model = Mlp::new(&device);
    let x = Tensor::<3>::random([2, 3, 24], Distribution::Default, &device);
    for scheme in [
        "w2g3",
        "w3g4",
        "w3g-1",
        "w4g24",
        "w8g8",
        "w2g12-sym",
        "w4g-1-sym",
    ] {
        let scheme: Scheme = scheme.parse().unwrap();
        let weights = Weights::linears();
        let fake = model.clone().attach_fake_quant(&weights, scheme).unwrap();
        let expected = fake.forward(x.clone()).into_data();
        let packed = fake.pack().unwrap();
        let actual = packed.forward(x.clone()).into_data();
        let tolerance = burn::tensor::Tolerance::<f32>::rel_abs(1e-5, 1e-5);
        actual.assert_approx_eq::<f32>(&expected, tolerance);
        // Packing what is packed changes nothing.
        let again = packed.clone().pack().unwrap();
        again
            .forward(x.clone())
            .into_data()
            .assert_eq(&actual, true);
    }
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let device = Device::flex();
    let model = Mlp::new(&device);
    let weights = Weights::linears();
    let message = |model: &Mlp, weights: &Weights, scheme: &str| {
        let scheme: Scheme = scheme.parse().unwrap();
        model
            .clone()
            .attach_fake_quant(weights, scheme)
            .unwrap_err()
            .to_string()
    };
    let error = message(&model, &weights, "w2g32");
    assert_eq!(
        error,
        "first.weight: groups of 32 do not divide the 24 input rows"
    );
    let nothing = Weights::matching("no such layer").unwrap();
    assert!(message(&model, &nothing, "w2g8").starts_with("no weight to quantize"));
    let biases = Weights::matching("bias").unwrap();
    assert!(message(&model, &biases, "w2g8").starts_with("no weight to quantize"));
    let packed = model
        .clone()
        .quantize_rtn(&weights, "w2g8".parse::<Scheme>().unwrap())
        .unwrap();
    assert_eq!(
        message(&packed, &weights, "w2g8"),
        "first.weight: already quantized"
    );

    let mut broken = model;
    broken.middle.weight = broken.middle.weight.map(|w| w.full_like(f32::NAN));
    let error = broken
        .quantize_rtn(&weights, "w2g8".parse::<Scheme>().unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "middle.weight: has values that are not finite"
    );
}
