//! Trains a little model from scratch, in full precision and plain Burn.

use crate::config::{AudioConfig, MultimodalConfig, VisionConfig};
use crate::conversation::Conversations;
use crate::data::{Dialogues, World, loader, vocabulary};
use crate::error::Error;
use crate::model::{MediaBatch, Multimodal};
use crate::processor::Processor;
use crate::vision::ImageProcessor;
use crate::{audio::SoundProcessor, data};
use burn::config::Config;
use burn::module::{Module, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{DType, Device};
use burn_eqat::files::{StagedDir, export_dense};
use burn_eqat::train::{CosineSchedule, clip_grad_norm};
use llama::chat::ChatTemplate;
use llama::{LlamaConfig, TokenIds};
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

/// Settings to train a little model.
#[derive(Config, Debug)]
pub struct LearnConfig {
    /// Samples of a step.
    #[config(default = 32)]
    pub batch_size: usize,
    /// Steps, each on new samples.
    #[config(default = 3000)]
    pub steps: usize,
    /// Highest learning rate, after 5 % of warm-up. It falls to a fiftieth along a cosine.
    #[config(default = 1.5e-3)]
    pub learning_rate: f64,
    /// Weight decay of the matrices.
    #[config(default = 0.05)]
    pub weight_decay: f32,
    /// Seed of the weights and of the samples.
    #[config(default = 1)]
    pub seed: u64,
}

/// The template of conversations: LLaVA's, but each answer has an end.
const TEMPLATE: &str = "{% for message in messages %}{{ message['role'].upper() + ': ' }}\
    {% for part in message['content'] %}\
    {{ part['text'] if part['type'] == 'text' else '<media>\\n' }}\
    {% endfor %}{{ '</s>' if message['role'] == 'assistant' else ' ' }}{% endfor %}\
    {% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// The shape of a world's little model, for a vocabulary of that many words.
pub fn little_config(world: World, vocab_size: usize) -> MultimodalConfig {
    let (hidden, inner, layers) = match world {
        World::Shapes => (128, 384, 4),
        World::Tones => (128, 256, 3),
    };
    let text_config = LlamaConfig {
        model_type: "llama".into(),
        vocab_size,
        hidden_size: hidden,
        intermediate_size: inner,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        num_key_value_heads: Some(2),
        head_dim: None,
        hidden_act: "silu".into(),
        max_position_embeddings: 256,
        rms_norm_eps: 1e-5,
        rope_theta: 10000.0,
        rope_scaling: None,
        rope_parameters: None,
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        sliding_window: None,
        use_sliding_window: None,
        max_window_layers: None,
        layer_types: None,
        bos_token_id: Some(data::BOS),
        eos_token_id: Some(TokenIds::One(data::EOS)),
    };
    let sees = world == World::Shapes;
    MultimodalConfig {
        model_type: if sees { "llava" } else { "multimodal_audio" }.into(),
        text_config,
        vision_config: sees.then(|| VisionConfig {
            hidden_size: 128,
            intermediate_size: 256,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            image_size: data::PICTURE,
            patch_size: 8,
            num_channels: 3,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }),
        audio_config: (!sees).then(|| AudioConfig {
            num_mel_bins: 40,
            d_model: 64,
            encoder_layers: 2,
            encoder_attention_heads: 4,
            encoder_ffn_dim: 128,
            max_source_positions: data::SAMPLES / HOP / 2,
            activation_function: "gelu".into(),
        }),
        image_token_index: sees.then_some(data::MEDIA),
        audio_token_index: (!sees).then_some(data::MEDIA),
        vision_feature_layer: -1,
        vision_feature_select_strategy: "default".into(),
        projector_hidden_act: "gelu".into(),
        multimodal_projector_bias: true,
    }
}

/// Samples from frame to frame of a sound.
const HOP: usize = 80;

/// How a world's inputs are prepared.
pub fn little_processor(world: World) -> Processor {
    match world {
        World::Shapes => Processor::Image(ImageProcessor::square(data::PICTURE)),
        World::Tones => Processor::Sound(SoundProcessor {
            feature_size: 40,
            hop_length: HOP,
            n_fft: 256,
            n_samples: data::SAMPLES,
            sampling_rate: data::RATE,
        }),
    }
}

/// A model under training and what belongs to it.
pub struct Pupil {
    /// What it learns.
    pub world: World,
    /// Its shape.
    pub config: MultimodalConfig,
    /// How its inputs are prepared.
    pub processor: Processor,
    /// Its words.
    pub tokenizer: Tokenizer,
}

impl Pupil {
    /// A model for a world, before it has learned anything.
    ///
    /// # Errors
    ///
    /// When its tokenizer cannot be made.
    pub fn new(world: World) -> Result<Self, Error> {
        let tokenizer = vocabulary(&world.words())?;
        let config = little_config(world, tokenizer.get_vocab_size(true));
        Ok(Self {
            world,
            config,
            processor: little_processor(world),
            tokenizer,
        })
    }

    /// Writes everything but the weights to a directory.
    fn save_files(&self, dir: &Path) -> Result<(), Error> {
        let processor = match &self.processor {
            Processor::Image(image) => serde_json::to_value(image),
            Processor::Sound(sound) => serde_json::to_value(sound),
        };
        let processor = processor.expect("numbers and names");
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|error| Error::input(&path, error))
        };
        write("preprocessor_config.json", format!("{processor:#}\n"))?;
        write("chat_template.jinja", TEMPLATE.to_string())?;
        let path = dir.join("tokenizer.json");
        let saved = self.tokenizer.save(&path, false);
        saved.map_err(|error| Error::input(&path, error))
    }

    /// Conversations of samples, in the model's tokens.
    ///
    /// # Errors
    ///
    /// When the parts of the model do not fit together.
    pub fn dialogues(&self, seed: u64, count: usize) -> Result<Dialogues, Error> {
        let wrong = || Error::config("config.json".as_ref());
        Ok(Dialogues {
            world: self.world,
            seed,
            count,
            conversations: Conversations {
                tokenizer: self.tokenizer.clone(),
                template: ChatTemplate::new(TEMPLATE, "", ""),
                kind: self.processor.kind(),
                media_token: self.config.media_token().map_err(wrong())?,
                features: self.config.features().map_err(wrong())?,
                bos: self.config.text_config.bos_token_id,
                eos: self.config.text_config.eos_token(),
            },
            processor: self.processor.clone(),
        })
    }

    /// Saves a trained model with its files, in bf16.
    ///
    /// # Errors
    ///
    /// When a file cannot be written. The target is unchanged then.
    pub fn save(&self, model: &Multimodal, target: &Path, force: bool) -> Result<(), Error> {
        let staged = StagedDir::begin(target, force)?;
        let mut config: Value = serde_json::to_value(&self.config).expect("numbers and names");
        config["torch_dtype"] = json!("bfloat16");
        export_dense(model, &config, DType::BF16, &staged)?;
        self.save_files(staged.path())?;
        Ok(staged.commit()?)
    }
}

/// Trains a model. `progress` gets the number of each step and its loss.
///
/// # Errors
///
/// When a sample cannot be made, or `progress` returns an error.
pub fn learn(
    pupil: &Pupil,
    config: &LearnConfig,
    device: &Device,
    progress: &mut dyn FnMut(usize, f64) -> Result<(), Error>,
) -> Result<Multimodal, Error> {
    let device = device.clone().autodiff();
    device.seed(config.seed);
    let new = pupil.config.init(&device);
    let mut model = new.map_err(Error::config("config.json".as_ref()))?;
    let samples = config.steps * config.batch_size;
    let dialogues = pupil.dialogues(config.seed, samples)?;
    let batches = loader(dialogues, config.batch_size, &device);
    let adamw = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_epsilon(1e-8)
        .with_weight_decay(config.weight_decay);
    let no_decay = adamw.clone().with_weight_decay(0.0);
    let norms = ParamGroup::from_predicate("norm");
    let mut optim = adamw.init().with_group(norms, no_decay.build(), None);
    let (steps, rate) = (config.steps, config.learning_rate);
    let schedule = CosineSchedule::new(rate, 0.02, (steps / 20).max(1), steps);
    for (step, batch) in batches.iter().enumerate() {
        let batch: MediaBatch = batch?;
        let loss = model.loss(&batch)?;
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let (grads, _) = clip_grad_norm(&model, grads, 1.0);
        model = optim.step(schedule.at(step), model, grads);
        progress(step + 1, loss.into_scalar())?;
    }
    Ok(model.valid())
}
