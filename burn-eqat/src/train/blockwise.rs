use super::{Flow, Hidden};
use crate::Weights;
use burn::module::Module;
use burn::tensor::Tensor;

/// What a model's own code fails with: any error, a string among them.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// A model that can be run block by block: all that Block-AP asks of one, and with [`output_loss`](Self::output_loss) what E2E-QP
/// [by blocks](super::E2eQp::run_by_blocks) does.
///
/// A block is a part of the model at a path, such as `layers.3`. Blocks may be of different types, since the model runs
/// them itself. Together they do what the model does between its embedding and its output.
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
/// What a block needs from earlier blocks flows through [`Hidden`](Self::Hidden). In a model whose decoder attends to the
/// encoder's output the hidden state is a pair `(memory, x)`: encoder blocks change the first part, decoder blocks read the
/// first and change the second. So a decoder block trains on the output of the *quantized* encoder, and is compared with what
/// the original makes of the *original* encoder's output. Its
/// [`reconstruction_error`](Self::reconstruction_error) compares the second part only: the first is not its work.
pub trait Blockwise: Module {
    /// What a data loader gives for a step.
    type Batch: Clone;
    /// What flows from block to block.
    type Hidden: Hidden;
    /// What every block needs besides, the same for all of them: a mask, positions; `()` for nothing.
    type Context: Flow;

    /// The paths of the blocks in the model, in the order in which data goes through them:
    /// `["encoder.0", "encoder.1", "head"]`.
    ///
    /// A path is that of the block's parameters without their last parts: the weight of a block `encoder.0` that is an
    /// `nn::Linear` is `encoder.0.weight`. No block may be a part of another.
    fn blocks(&self) -> Vec<String>;

    /// What goes into the first block, and what every block needs besides.
    ///
    /// # Errors
    ///
    /// Any error ends the phase and comes out of it as [`TrainError::Model`](super::TrainError::Model).
    fn embed(&self, batch: Self::Batch) -> Result<(Self::Hidden, Self::Context), ModelError>;

    /// Runs block `index` of the model on what the block before it made.
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

    /// The reconstruction error of block `index`, `[1]`: how far its output is from that of the original. By default this is
    /// the mean squared error of all of the hidden state. A block that makes only a part of it, such as a decoder block beside
    /// the encoder's output, compares that part.
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

    /// Whether block `index` is in memory. Models whose blocks stay in files until
    /// [`load_block`](Self::load_block) say when it is not.
    fn is_loaded(&self, _index: usize) -> bool {
        true
    }

    /// Brings block `index` to memory before it is run or trained, for models whose blocks stay in files. It does nothing
    /// where the block is in memory already.
    ///
    /// # Errors
    ///
    /// As [`embed`](Self::embed).
    fn load_block(&mut self, _index: usize) -> Result<(), ModelError> {
        Ok(())
    }
}

impl Weights {
    /// Every matrix inside of a model's blocks: not its embeddings, and not its head unless that is a block.
    pub fn in_blocks<M: Blockwise>(model: &M) -> Self {
        Self::under(model.blocks())
    }
}
