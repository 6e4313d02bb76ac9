use super::{Flow, Hidden, Lesson};
use crate::{StoredBlock, Weights};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The error of a model's own code: any error, or a string.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// A model that can run block by block. Block-AP needs nothing else of it; E2E-QP
/// [by blocks](super::E2eQp::run_by_blocks) also needs [`output_loss`](Self::output_loss).
///
/// A block is a part of the model at a path, such as `layers.3`. Blocks may have different types, since the model runs
/// them itself. Together they compute everything between the model's embedding and its output.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::Linear;
/// use burn::tensor::{Tensor, activation::relu};
/// use burn_eqat::train::{Blockwise, ModelError};
///
/// #[derive(Module, Debug)]
/// struct Mlp {
///     layers: Vec<Linear>,
/// }
///
/// impl Blockwise for Mlp {
///     type Batch = Tensor<2>;
///     type Hidden = Tensor<2>;
///     type Context = ();
///
///     fn blocks(&self) -> Vec<String> {
///         (0..self.layers.len()).map(|index| format!("layers.{index}")).collect()
///     }
///     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> {
///         Ok((batch, ()))
///     }
///     fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
///         Ok(relu(self.layers[index].forward(x)))
///     }
/// }
/// ```
///
/// # Encoders and decoders
///
/// Blocks get the outputs of earlier blocks through [`Hidden`](Self::Hidden). In a model whose decoder attends to the
/// encoder's output, the hidden state is a pair `(memory, x)`: encoder blocks change the first part; decoder blocks
/// read the first and change the second. So a decoder block is trained on the output of the *quantized* encoder. Its
/// target is the original block's output for the *original* encoder's output. Its
/// [`reconstruction_error`](Self::reconstruction_error) compares only the second part, since it does not compute the
/// first.
pub trait Blockwise: Module {
    /// A batch of a data loader.
    type Batch: Clone + Send + 'static;
    /// The hidden state, which goes from block to block.
    type Hidden: Hidden;
    /// Further inputs, the same for all blocks, such as a mask or positions; `()` for none.
    type Context: Flow;

    /// The paths of the blocks in the model, in the order in which data goes through them:
    /// `["encoder.0", "encoder.1", "head"]`.
    ///
    /// The paths of a block's parameters begin with the path of the block: if block `encoder.0` is an `nn::Linear`, its
    /// weight is `encoder.0.weight`. No block may be a part of another.
    fn blocks(&self) -> Vec<String>;

    /// The input of the first block, and the context of every block. Its float type is the one that blocks of
    /// [`QuantLinear`](crate::QuantLinear)s compute in ([`ComputeType`](crate::ComputeType)).
    ///
    /// # Errors
    ///
    /// Any error ends the phase, which returns it as [`TrainError::Model`](super::TrainError::Model).
    fn embed(&self, batch: Self::Batch) -> Result<(Self::Hidden, Self::Context), ModelError>;

    /// Runs block `index` of the model on the output of the block before it.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed).
    fn run_block(
        &self,
        index: usize,
        hidden: Self::Hidden,
        context: &Self::Context,
    ) -> Result<Self::Hidden, ModelError>;

    /// The reconstruction error of block `index`, `[1]`: the difference between its output and the original's. By
    /// default it is the mean squared error of the whole hidden state. A block that changes only a part of the hidden
    /// state, such as a decoder block, should compare only that part.
    fn reconstruction_error(
        &self,
        _index: usize,
        output: Self::Hidden,
        target: Self::Hidden,
    ) -> Tensor<1> {
        output.mse(target)
    }

    /// The loss of a batch, `[1]`, from what the last block made of it: what the model's `TrainStep` does behind its blocks. It is
    /// asked for where E2E-QP goes by blocks ([`E2eQp::run_by_blocks`](super::E2eQp::run_by_blocks)), and nowhere else.
    ///
    /// ```
    /// # use burn::{module::Module, nn::Linear, tensor::Tensor};
    /// # use burn_eqat::train::{Blockwise, ModelError};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { layers: Vec<Linear>, head: Linear }
    /// # impl Blockwise for Mlp {
    /// #     type Batch = (Tensor<2>, Tensor<2>);
    /// #     type Hidden = Tensor<2>;
    /// #     type Context = ();
    /// #     fn blocks(&self) -> Vec<String> { Vec::new() }
    /// #     fn embed(&self, batch: Self::Batch) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch.0, ())) }
    /// #     fn run_block(&self, _: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(x) }
    /// fn output_loss(&self, hidden: Tensor<2>, _: &(), batch: Self::Batch) -> Result<Tensor<1>, ModelError> {
    ///     let (_input, target) = batch;
    ///     Ok((self.head.forward(hidden) - target).square().mean())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// By default, that there is none. Others as [`embed`](Self::embed).
    fn output_loss(
        &self,
        _hidden: Self::Hidden,
        _context: &Self::Context,
        _batch: Self::Batch,
    ) -> Result<Tensor<1>, ModelError> {
        let model = core::any::type_name::<Self>();
        let message = format!(
            "{model} has no loss behind its blocks: implement Blockwise::output_loss, which E2E-QP by blocks needs"
        );
        Err(message.into())
    }

    /// Whether the model has a [`distillation_loss`](Self::distillation_loss).
    fn distills(&self) -> bool {
        false
    }

    /// The loss of a batch, `[1]`, from what the last block made of it and what the last block of the original did: how far the
    /// model's predictions are from the original's, mixed with its own loss as the lesson says
    /// ([`distillation_loss`](super::distillation_loss) of logits; a language model has `lm::frozen_head_distillation`).
    ///
    /// It is asked for where a [`Student`](super::Student) is trained, and nowhere else.
    ///
    /// # Errors
    ///
    /// By default, that there is none. Others as [`embed`](Self::embed).
    fn distillation_loss(
        &self,
        _hidden: Self::Hidden,
        _context: &Self::Context,
        _batch: Self::Batch,
        _lesson: Lesson<'_, Self>,
    ) -> Result<Tensor<1>, ModelError> {
        let model = core::any::type_name::<Self>();
        let message = format!(
            "{model} has no loss to learn from its original: implement Blockwise::distillation_loss"
        );
        Err(message.into())
    }

    /// Whether samples are rows: whether the first dimension of every tensor of the hidden state counts the samples of a batch, and no
    /// block makes anything of one that depends on another. So what the original makes of a sample can be
    /// [kept](super::Teacher::keep), and found in another batch. A tensor of the context whose first dimension is as large is taken to have a
    /// row for each sample, too. Samples that are padded to the longest of their batch are found only in batches of that length. By default
    /// not.
    fn rows_are_samples(&self) -> bool {
        false
    }

    /// A batch on another device, each of its tensors. It is asked for where E2E-QP trains on several devices
    /// ([`E2eQp::with_devices`](super::E2eQp::with_devices)), and nowhere else.
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_eqat::train::ModelError;
    /// # type Batch = (Tensor<2>, Tensor<2>);
    /// fn batch_to_device((input, target): Batch, device: &Device) -> Result<Batch, ModelError> {
    ///     Ok((input.to_device(device), target.to_device(device)))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// By default, that there is no way. Others as [`embed`](Self::embed).
    fn batch_to_device(_batch: Self::Batch, _device: &Device) -> Result<Self::Batch, ModelError> {
        let model = core::any::type_name::<Self>();
        let message = format!(
            "{model} has no way to bring a batch to another device: implement Blockwise::batch_to_device, which E2E-QP on \
             several devices needs"
        );
        Err(message.into())
    }

    /// Whether block `index` is in memory. Implement it for models whose blocks stay in files until
    /// [`load_block`](Self::load_block).
    fn is_loaded(&self, _index: usize) -> bool {
        true
    }

    /// The whole model with every block, for models whose blocks stay in files. Only the paths and shapes of its parameters are
    /// read, so blocks in files need no data: a new Burn module allocates none.
    ///
    /// With it, weights in no block, schemes that do not fit and overrides that match nothing are found before training. By
    /// default there is none, and some of these errors are found when a block is read, or at the end.
    fn outline(&self) -> Option<Self> {
        None
    }

    /// Loads block `index` into memory before it is run or trained, for models whose blocks stay in files. Does nothing
    /// if the block is in memory already.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed).
    fn load_block(&mut self, _index: usize) -> Result<(), ModelError> {
        Ok(())
    }

    /// Puts a block of the same shape without data in the place of block `index`, which is in memory, if the model can make one:
    /// Block-AP trains a copy of the block, and needs the original's numbers no more. By default they stay in memory.
    fn outline_block(&mut self, _index: usize) {}

    /// Drops block `index` from memory, once it is finished: from here on [`load_block`](Self::load_block) is to read it from
    /// `block`, into one of the right shape. Returns whether it does so; by default not, and finished blocks stay in memory.
    ///
    /// It is asked for where a phase has a run directory. A model that does it also runs with blocks in files: its `TrainStep`
    /// and `InferenceStep`, and whatever an [`Observer`](crate::Observer) asks of it, read a block when they need it.
    /// [`lm::BlockFiles`](crate::lm::BlockFiles) does most of that.
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_eqat::StoredBlock;
    /// use burn_eqat::train::{Blockwise, ModelError};
    /// # use burn::tensor::Tensor;
    ///
    /// #[derive(Module, Debug)]
    /// struct Mlp {
    ///     layers: Vec<Linear>,
    ///     #[module(skip)]
    ///     stored: Vec<Option<StoredBlock>>,
    ///     #[module(skip)]
    ///     loaded: Vec<bool>,
    /// }
    ///
    /// impl Blockwise for Mlp {
    /// #     type Batch = Tensor<2>;
    /// #     type Hidden = Tensor<2>;
    /// #     type Context = ();
    /// #     fn blocks(&self) -> Vec<String> { vec!["layers.0".to_string()] }
    /// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
    /// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
    ///     // ...
    ///     fn is_loaded(&self, index: usize) -> bool {
    ///         self.loaded[index]
    ///     }
    ///     fn store_block(&mut self, index: usize, block: StoredBlock) -> bool {
    ///         // A new module allocates nothing.
    ///         self.layers[index] = LinearConfig::new(8, 8).init(&Device::flex());
    ///         (self.stored[index], self.loaded[index]) = (Some(block), false);
    ///         true
    ///     }
    ///     fn stored_block(&self, index: usize) -> Option<StoredBlock> {
    ///         self.stored[index].clone()
    ///     }
    ///     fn load_block(&mut self, index: usize) -> Result<(), ModelError> {
    ///         if let (false, Some(block)) = (self.loaded[index], &self.stored[index]) {
    ///             self.layers[index] = block.read(self.layers[index].clone())?;
    ///             self.loaded[index] = true;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # let model = Mlp { layers: vec![LinearConfig::new(8, 8).init(&Device::flex())], stored: vec![None], loaded: vec![true] };
    /// # assert!(model.is_loaded(0));
    /// ```
    fn store_block(&mut self, _index: usize, _block: StoredBlock) -> bool {
        false
    }

    /// What [`store_block`](Self::store_block) was given last for block `index`.
    fn stored_block(&self, _index: usize) -> Option<StoredBlock> {
        None
    }
}

impl Weights {
    /// Every matrix in a model's blocks: not its embeddings, and not its head unless the head is a block.
    ///
    /// ```
    /// use burn_eqat::{Quantize, Scheme, Weights};
    /// # use burn::module::Module;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_eqat::train::{Blockwise, ModelError};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { layers: Vec<Linear> }
    /// # impl Blockwise for Mlp {
    /// #     type Batch = Tensor<2>;
    /// #     type Hidden = Tensor<2>;
    /// #     type Context = ();
    /// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
    /// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
    /// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
    /// # }
    /// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
    ///
    /// // `model` implements `Blockwise`.
    /// let scheme: Scheme = "w4g8".parse()?;
    /// let packed = model.clone().quantize_rtn(&Weights::in_blocks(&model), scheme)?;
    /// assert_eq!(packed.layer_sizes().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_blocks<M: Blockwise>(model: &M) -> Self {
        Self::under(model.blocks())
    }
}
