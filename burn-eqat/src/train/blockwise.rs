use super::{Flow, Hidden};
use burn::module::Module;

/// A model that can be taken block by block: all that Block-AP asks of one.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::Linear;
/// use burn::tensor::{Tensor, activation::relu};
/// use burn_eqat::train::Blockwise;
///
/// #[derive(Module, Debug)]
/// struct Mlp {
///     layers: Vec<Linear>,
/// }
///
/// impl Blockwise for Mlp {
///     type Batch = Tensor<2>;
///     type Block = Linear;
///     type Hidden = Tensor<2>;
///     type Context = ();
///
///     fn embed(&self, batch: Tensor<2>) -> (Tensor<2>, ()) {
///         (batch, ())
///     }
///     fn num_blocks(&self) -> usize {
///         self.layers.len()
///     }
///     fn block(&self, index: usize) -> Linear {
///         self.layers[index].clone()
///     }
///     fn set_block(&mut self, index: usize, block: Linear) {
///         self.layers[index] = block;
///     }
///     fn run_block(&self, _index: usize, block: &Linear, x: Tensor<2>, _: &()) -> Tensor<2> {
///         relu(block.forward(x))
///     }
/// }
/// ```
pub trait Blockwise: Module {
    /// What a data loader gives for a step.
    type Batch;
    /// A block.
    type Block: Module;
    /// What goes into a block and comes out of it.
    type Hidden: Hidden;
    /// What a block needs besides: a mask, positions, the output of an encoder; `()` for nothing.
    type Context: Flow;

    /// What goes into the first block, and what every block needs besides.
    fn embed(&self, batch: Self::Batch) -> (Self::Hidden, Self::Context);

    /// How many blocks there are.
    fn num_blocks(&self) -> usize;

    /// A block. Clones are cheap: they share their tensors.
    fn block(&self, index: usize) -> Self::Block;

    /// Where a block's parameters are in the model, `model.layers.3` say: what a parameter group is asked
    /// with. To be said by models whose blocks are made when [`block`](Self::block) is called (read from
    /// a file, say), as their parameters have other ids each time; without it, ids tell.
    fn block_path(&self, _index: usize) -> Option<String> {
        None
    }

    /// Puts a block in its place.
    fn set_block(&mut self, index: usize, block: Self::Block);

    /// Runs `block`, which takes the place of block `index`, on what came out of the block before.
    fn run_block(
        &self,
        index: usize,
        block: &Self::Block,
        hidden: Self::Hidden,
        context: &Self::Context,
    ) -> Self::Hidden;
}
