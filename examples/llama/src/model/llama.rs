use super::block::{norm, normed};
use super::{DecoderBlock, LlamaError, Rope};
use crate::LlamaConfig;
use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm};
use burn::tensor::{Device, Int, Tensor};
use burn_eqat::kernels::transformer::multiplies_bf16;
use burn_eqat::lm::{BlockFiles, KvCache, PackedTable, head_logits};
use burn_eqat::{ComputeType, Scheme, SchemeError, Weights};

/// The decoder: everything below the output layer.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Embeddings of the tokens.
    pub embed_tokens: Embedding,
    /// The blocks; none where one is in [`Llama::files`].
    pub layers: Vec<Option<DecoderBlock>>,
    /// The norm after the last block.
    pub norm: RmsNorm,
}

/// A Llama.
#[derive(Module, Debug)]
pub struct Llama {
    /// The decoder.
    pub model: Decoder,
    /// The output layer; absent if it is the embedding, transposed.
    pub lm_head: Option<Linear>,
    /// Rotary positions, shared by the blocks.
    pub rope: Rope,
    /// The files of the blocks that are not in memory.
    #[module(skip)]
    pub files: Option<BlockFiles<DecoderBlock>>,
    /// The type of activations and products; weights may be in others.
    #[module(skip)]
    compute: ComputeType,
    /// The output layer, and the embedding if they are one, in place of the dense ones.
    #[module(skip)]
    table: Option<PackedTable>,
}

impl LlamaConfig {
    /// A Llama with random weights (lazily: loading weights into it allocates none of them).
    pub fn init(&self, device: &Device) -> Llama {
        let blocks = 0..self.num_hidden_layers;
        let blocks = blocks.map(|block| Some(DecoderBlock::new(self, block, device)));
        self.init_around(blocks.collect(), device)
    }

    /// [`init`](Self::init) without its blocks, which are to be read from [files](Llama::files).
    pub fn init_shell(&self, device: &Device) -> Llama {
        self.init_around(vec![None; self.num_hidden_layers], device)
    }

    fn init_around(&self, layers: Vec<Option<DecoderBlock>>, device: &Device) -> Llama {
        let init = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        Llama {
            model: Decoder {
                embed_tokens: EmbeddingConfig::new(self.vocab_size, self.hidden_size)
                    .with_initializer(init.clone())
                    .init(device),
                layers,
                norm: norm(self, device),
            },
            lm_head: (!self.tie_word_embeddings).then(|| {
                LinearConfig::new(self.hidden_size, self.vocab_size)
                    .with_bias(false)
                    .with_initializer(init.clone())
                    .init(device)
            }),
            rope: Rope::new(self),
            files: None,
            compute: ComputeType::F32,
            table: None,
        }
    }
}

impl Llama {
    /// The weights to quantize: every linear layer of the blocks, but not the embeddings or the output
    /// layer.
    pub fn quantized_weights() -> Weights {
        Weights::matching(r"layers\.\d+\..*_proj\.weight$").expect("a valid pattern")
    }

    /// The same model, whose activations and products are in this type. Norms, softmax, logits and losses stay in f32.
    pub fn with_compute_type(self, compute: ComputeType) -> Self {
        Self { compute, ..self }
    }

    /// The type of activations and products.
    pub fn compute_type(&self) -> ComputeType {
        self.compute
    }

    /// The same model for inference, whose output layer is rounded to a scheme, and so is the embedding if they are one. The dense ones
    /// are dropped: zeros are in their place, and such a model is not to be trained or saved.
    ///
    /// # Errors
    ///
    /// When the group size does not divide the hidden size.
    pub fn with_packed_head(mut self, scheme: &Scheme) -> Result<Self, SchemeError> {
        self.table = Some(PackedTable::new(self.head_weight(), scheme)?);
        let device = self.model.embed_tokens.weight.val().device();
        // Lazily: nothing is allocated.
        match &mut self.lm_head {
            Some(head) => {
                let [hidden, vocab] = head.weight.lazy_shape().dims();
                *head = LinearConfig::new(hidden, vocab)
                    .with_bias(false)
                    .with_initializer(Initializer::Zeros)
                    .init(&device);
            }
            None => {
                let embedding = &mut self.model.embed_tokens;
                let [vocab, hidden] = embedding.weight.lazy_shape().dims();
                *embedding = EmbeddingConfig::new(vocab, hidden)
                    .with_initializer(Initializer::Zeros)
                    .init(&device);
            }
        }
        Ok(self)
    }

    /// The same model for inference, whose packed layers that read the same input run as one: queries, keys and values, and the gate and
    /// the values of the feed-forward. The layers themselves are dropped: zeros are in their place, and such a model is not to be
    /// trained or saved. Layers of several schemes, dense ones, and blocks in files stay as they are.
    pub fn with_merged_projections(mut self) -> Self {
        self.model
            .layers
            .iter_mut()
            .flatten()
            .for_each(DecoderBlock::merge);
        self
    }

    /// The number of blocks, in memory or in files.
    pub(crate) fn blocks(&self) -> usize {
        self.model.layers.len()
    }

    /// Whether blocks are in files.
    pub(crate) fn streams(&self) -> bool {
        self.model.layers.iter().any(Option::is_none)
    }

    /// Runs `body` on a block. If the block is in a file, it is read first.
    ///
    /// # Errors
    ///
    /// When there is no such block, or its file has changed since it was checked.
    pub(crate) fn with_block<R>(
        &self,
        index: usize,
        body: impl FnOnce(&DecoderBlock) -> R,
    ) -> Result<R, LlamaError> {
        match self.model.layers.get(index) {
            Some(Some(block)) => Ok(body(block)),
            _ => Ok(body(&self.file_block(index)?)),
        }
    }

    /// Reads a block into memory, if it is in a file.
    ///
    /// # Errors
    ///
    /// When there is no such block, or its file has changed since it was checked.
    pub(crate) fn read_block(&mut self, index: usize) -> Result<(), LlamaError> {
        if !matches!(self.model.layers.get(index), Some(Some(_))) {
            self.model.layers[index] = Some(self.file_block(index)?);
        }
        Ok(())
    }

    /// A block from its file.
    fn file_block(&self, index: usize) -> Result<DecoderBlock, LlamaError> {
        let blocks = self.blocks();
        match &self.files {
            Some(files) if index < blocks => Ok(files.read(index)?),
            _ => Err(LlamaError::NoBlock { index, blocks }),
        }
    }

    /// Embeddings of tokens `[batch, seq]`: `[batch, seq, hidden]`, in the [compute type](Self::compute_type), which all
    /// blocks follow.
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.compute.cast(match (&self.table, &self.lm_head) {
            (Some(table), None) => table.embed(tokens).unwrap_or_else(|error| error.raise()),
            _ => self.model.embed_tokens.forward(tokens),
        })
    }

    /// Logits of the next token from the output of the last block: `[batch, seq, vocab]`, in f32.
    pub fn head(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = self.last_norm(hidden);
        match &self.table {
            Some(table) => table.logits(hidden).unwrap_or_else(|error| error.raise()),
            None => head_logits(hidden, self.head_weight()),
        }
    }

    /// The input of the output layer from the output of the last block, `[batch, seq, hidden]`, in f32; on a CPU that multiplies in
    /// bf16 with sums in f32, in the [compute type](Self::compute_type).
    pub(super) fn last_norm(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = normed(&self.model.norm, ComputeType::F32.cast(hidden));
        if multiplies_bf16(&hidden.device()) {
            self.compute.cast(hidden)
        } else {
            hidden
        }
    }

    /// The weight of the output layer, `[hidden, vocab]`.
    pub(super) fn head_weight(&self) -> Tensor<2> {
        match (&self.table, &self.lm_head) {
            (Some(table), _) => table.dequantize().unwrap_or_else(|error| error.raise()),
            (None, Some(head)) => head.weight.val(),
            (None, None) => self.model.embed_tokens.weight.val().transpose(),
        }
    }

    /// Whether the output layer is trained.
    pub(super) fn head_trains(&self) -> bool {
        match (&self.table, &self.lm_head) {
            (Some(_), _) => false,
            (None, Some(head)) => head.weight.is_require_grad(),
            (None, None) => self.model.embed_tokens.weight.is_require_grad(),
        }
    }

    /// Output of the last block, `[batch, seq, hidden]`.
    pub(super) fn decode(&self, tokens: Tensor<2, Int>) -> Result<Tensor<3>, LlamaError> {
        self.decode_embedded(self.embed(tokens))
    }

    /// Output of the last block from the input of the first, which need not be embeddings of tokens:
    /// `[batch, seq, hidden]` to the same.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn decode_embedded(&self, mut hidden: Tensor<3>) -> Result<Tensor<3>, LlamaError> {
        for index in 0..self.blocks() {
            hidden = self.with_block(index, |block| block.forward(hidden, &self.rope, None))?;
        }
        Ok(hidden)
    }

    /// Logits of the next token at each position: `[batch, seq]` to `[batch, seq, vocab]`.
    ///
    /// # Errors
    ///
    /// When a block is in a file that has changed since it was checked.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Result<Tensor<3>, LlamaError> {
        Ok(self.head(self.decode(tokens)?))
    }

    /// An empty cache for [`forward_cached`](Self::forward_cached), with one entry per block.
    pub fn new_cache(&self) -> Vec<KvCache> {
        vec![KvCache::default(); self.blocks()]
    }

    /// Logits after the last of the new tokens `[batch, new]`: `[batch, vocab]`. The cache has the earlier
    /// positions, and the new ones are added to it.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and when the cache has another number of entries than the model has blocks.
    pub fn forward_cached(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut [KvCache],
    ) -> Result<Tensor<2>, LlamaError> {
        self.forward_embedded_cached(self.embed(tokens), cache)
    }

    /// As [`forward_cached`](Self::forward_cached), from the input of the first block, which need not be embeddings of
    /// tokens: `[batch, new, hidden]` to `[batch, vocab]`.
    ///
    /// # Errors
    ///
    /// As [`forward_cached`](Self::forward_cached).
    pub fn forward_embedded_cached(
        &self,
        mut hidden: Tensor<3>,
        cache: &mut [KvCache],
    ) -> Result<Tensor<2>, LlamaError> {
        let (found, expected) = (cache.len(), self.blocks());
        if found != expected {
            return Err(LlamaError::Cache { found, expected });
        }
        for (index, cache) in cache.iter_mut().enumerate() {
            hidden = self.with_block(index, |block| {
                block.forward(hidden, &self.rope, Some(cache))
            })?;
        }
        let [batch, seq, width] = hidden.dims();
        let last = hidden.slice_dim(1, seq - 1..seq).reshape([batch, 1, width]);
        let logits = self.head(last);
        let [_, _, vocab] = logits.dims();
        Ok(logits.reshape([batch, vocab]))
    }
}
