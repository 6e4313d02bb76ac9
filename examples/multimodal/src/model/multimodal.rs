use super::merge::merge;
use super::{MediaBatch, MultimodalError};
use crate::audio::AudioTower;
use crate::config::{ConfigError, MultimodalConfig, Tower};
use crate::encoder::Activation;
use crate::front::{Front, Media};
use crate::projector::{Projector, ProjectorConfig};
use crate::vision::VisionTower;
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use llama::model::Llama;

/// A decoder that sees or hears: the features of a tower, projected to its width, come in the places of some tokens.
///
/// Fields have the names of the tensors in LLaVA's files. There is one of the two towers.
#[derive(Module, Debug)]
pub struct Multimodal {
    /// The tower that sees.
    pub vision_tower: Option<VisionTower>,
    /// The tower that hears.
    pub audio_tower: Option<AudioTower>,
    /// From the tower's width to the decoder's.
    pub multi_modal_projector: Projector,
    /// The decoder.
    pub language_model: Llama,
    pub(super) media_token: usize,
    pub(super) with_tower: bool,
}

impl MultimodalConfig {
    /// A model with random weights (lazily: loading weights into it allocates none of them).
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn init(&self, device: &Device) -> Result<Multimodal, ConfigError> {
        self.init_around(self.text_config.init(device), device)
    }

    /// [`init`](Self::init) around a decoder.
    pub(crate) fn init_around(
        &self,
        language_model: Llama,
        device: &Device,
    ) -> Result<Multimodal, ConfigError> {
        self.check()?;
        let (vision, audio, width) = match self.tower()? {
            Tower::Vision(config) => {
                let tower = VisionTower::new(self, config, device)?;
                (Some(tower), None, config.hidden_size)
            }
            Tower::Audio(config) => {
                let tower = AudioTower::new(config, device)?;
                (None, Some(tower), config.d_model)
            }
        };
        let activation = Activation::named("projector_hidden_act", &self.projector_hidden_act)?;
        Ok(Multimodal {
            vision_tower: vision,
            audio_tower: audio,
            multi_modal_projector: ProjectorConfig::new(width, self.text_config.hidden_size)
                .with_bias(self.multimodal_projector_bias)
                .init(activation, device),
            language_model,
            media_token: self.media_token()? as usize,
            with_tower: false,
        })
    }
}

impl Multimodal {
    /// Whether both phases go through the blocks of the tower too, before those of the decoder. At first they do not, and the
    /// tower stays in full precision.
    pub fn with_tower_blocks(mut self, with_tower: bool) -> Self {
        self.with_tower = with_tower;
        self
    }

    /// The tower.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn front(&self) -> Result<&dyn Front, MultimodalError> {
        match (&self.vision_tower, &self.audio_tower) {
            (Some(tower), _) => Ok(tower),
            (None, Some(tower)) => Ok(tower),
            (None, None) => Err(MultimodalError::NoTower),
        }
    }

    /// Features of the tower's last hidden state, in the decoder's width: `[media, positions, width]` to
    /// `[media, features, hidden]`.
    pub(super) fn project(&self, front: &dyn Front, hidden: Tensor<3>) -> Tensor<3> {
        self.multi_modal_projector.forward(front.features(hidden))
    }

    /// Features of images or sounds, in the decoder's width: `[media, features, hidden]`.
    ///
    /// # Errors
    ///
    /// When the media are not of the kind or the shape that the tower takes.
    pub fn features(&self, media: Media) -> Result<Tensor<3>, MultimodalError> {
        let front = self.front()?;
        let mut hidden = front.embed(media)?;
        for index in 0..front.blocks().len() {
            hidden = front.run_block(index, hidden);
        }
        Ok(self.project(front, hidden))
    }

    /// Puts features in the places of their tokens: embeddings `[batch, seq, hidden]` to the input of the decoder's first
    /// block.
    pub(super) fn merged(
        &self,
        text: Tensor<3>,
        tokens: Tensor<2, Int>,
        features: Tensor<3>,
    ) -> Result<Tensor<3>, MultimodalError> {
        merge(text, tokens, features, self.media_token as u32)
    }

    /// The input of the decoder's first block, `[batch, seq, hidden]`, from tokens `[batch, seq]` and their media.
    ///
    /// # Errors
    ///
    /// As [`features`](Self::features), and when the tokens have another number of places than the media have features.
    pub fn embed(
        &self,
        media: Media,
        tokens: Tensor<2, Int>,
    ) -> Result<Tensor<3>, MultimodalError> {
        let text = self.language_model.embed(tokens.clone());
        self.merged(text, tokens, self.features(media)?)
    }

    /// Logits of the next token at each position: `[batch, seq]` to `[batch, seq, vocab]`.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed), and those of the decoder.
    pub fn forward(
        &self,
        media: Media,
        tokens: Tensor<2, Int>,
    ) -> Result<Tensor<3>, MultimodalError> {
        let hidden = self.embed(media, tokens)?;
        let hidden = self.language_model.decode_embedded(hidden)?;
        Ok(self.language_model.head(hidden))
    }

    /// Mean cross-entropy of the tokens of answers, in nats: `[1]`.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn loss(&self, batch: &MediaBatch) -> Result<Tensor<1>, MultimodalError> {
        let hidden = self.embed(batch.media.clone(), batch.tokens.clone())?;
        let hidden = self.language_model.decode_embedded(hidden)?;
        Ok(self.loss_behind(hidden, batch))
    }

    /// The [loss](Self::loss) from the output of the last block, `[batch, seq, hidden]`.
    pub(super) fn loss_behind(&self, hidden: Tensor<3>, batch: &MediaBatch) -> Tensor<1> {
        let logits = self.answer_logits(hidden, batch.positions.clone());
        let labels = batch.labels.clone().unsqueeze_dim(1);
        log_softmax(logits, 1).gather(1, labels).mean().neg()
    }

    /// Logits `[answers, vocab]` of the positions before tokens of answers. Only these go through the output layer.
    pub(super) fn answer_logits(&self, hidden: Tensor<3>, positions: Tensor<1, Int>) -> Tensor<2> {
        let ([windows, seq, width], [answers]) = (hidden.dims(), positions.dims());
        let rows = hidden.reshape([windows * seq, width]).select(0, positions);
        let logits = self.language_model.head(rows.reshape([1, answers, width]));
        logits.squeeze_dim(0)
    }
}
