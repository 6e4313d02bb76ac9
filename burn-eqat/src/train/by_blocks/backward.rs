use super::flow_grads::{FlowGrads, Leaves, OtherShapes, is_tracked, without_gradients};
use crate::Quantize;
use crate::train::{Blockwise, Flow, ModelError, TrainError, with_block};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

/// The loss of a batch, `[1]`, and the gradients of all parameters that train, as a backward pass through the whole model
/// would have them, to rounding. Activations of one block are in memory at a time, beside what goes into each.
///
/// The blocks are run without recording first, and what goes into each of them is kept. Then, from the last to the first, each
/// is run again where gradients are recorded, and gradients go through it to the one before. So it costs another forward pass.
///
/// Blocks in files are loaded one at a time. Of these only step sizes of packed weights train.
///
/// `model` is one where gradients are recorded. Its blocks have to do the same when they are run again, and what they do
/// without recording: a model that draws random numbers (dropout) is not for this. [`embed`](Blockwise::embed) and
/// [`output_loss`](Blockwise::output_loss) get the batch where it is, as the model's `TrainStep` does.
/// [`E2eQp::run_by_blocks`](crate::train::E2eQp::run_by_blocks) trains with it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::backward_by_blocks;
/// use burn_eqat::{Quantize, Scheme, Weights};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
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
/// #     fn output_loss(&self, y: Tensor<2>, _: &(), x: Tensor<2>) -> Result<Tensor<1>, ModelError> { Ok((y - x).square().mean()) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise` with an `output_loss`.
/// let scheme: Scheme = "w4g8".parse()?;
/// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
/// let training = packed.train_scales_only().train();
/// let batch = Tensor::<2>::ones([4, 8], &Device::flex().autodiff());
/// let (loss, grads) = backward_by_blocks(&training, batch)?;
/// assert!(loss.into_scalar::<f32>() > 0.0);
/// // Of the step sizes of both layers.
/// assert_eq!(grads.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the model's own code fails, or has no `output_loss`.
pub fn backward_by_blocks<M: Blockwise>(
    model: &M,
    batch: M::Batch,
) -> Result<(Tensor<1>, GradientsParams), TrainError> {
    let mut blocks = InPlace {
        model,
        plain: model.valid(),
        grads: GradientsAccumulator::new(),
    };
    let loss = go_back(model, batch, &mut blocks)?;
    Ok((loss, blocks.grads.grads()))
}

/// Where a backward pass gets the blocks of a model from, and what becomes of their gradients.
pub(in crate::train) trait Blocks<M: Blockwise> {
    /// The model with block `index` in memory, where no gradients are recorded.
    fn plain(&mut self, index: usize) -> Result<M, TrainError>;

    /// The model with block `index` in memory, where gradients are recorded.
    fn training(&mut self, index: usize) -> Result<M, TrainError>;

    /// Whether to go back from this loss.
    fn begins(&mut self, _loss: &Tensor<1>) -> bool {
        true
    }

    /// Takes the gradients of the parameters of block `index`, or of what is outside of the blocks, with the model that they were
    /// recorded in. Returns whether to go on.
    fn take(
        &mut self,
        index: Option<usize>,
        model: M,
        grads: GradientsParams,
    ) -> Result<bool, TrainError>;
}

/// The blocks as they are in a model, or in its files. Gradients are added up.
struct InPlace<'a, M: Blockwise> {
    model: &'a M,
    plain: M,
    grads: GradientsAccumulator<M>,
}

impl<M: Blockwise> Blocks<M> for InPlace<'_, M> {
    fn plain(&mut self, index: usize) -> Result<M, TrainError> {
        with_block(&self.plain, index)
    }

    fn training(&mut self, index: usize) -> Result<M, TrainError> {
        if self.model.is_loaded(index) {
            return Ok(self.model.clone());
        }
        // A block comes from its file as one where none are recorded.
        let loaded = with_block(&self.plain, index)?;
        Ok(loaded.train_scales_only().train())
    }

    fn take(
        &mut self,
        _index: Option<usize>,
        model: M,
        grads: GradientsParams,
    ) -> Result<bool, TrainError> {
        self.grads.accumulate(&model, grads);
        Ok(true)
    }
}

/// The loss of a batch, `[1]`, as [`backward_by_blocks`] has it, with blocks from somewhere and their gradients to there. `model` has
/// what is outside of them.
pub(in crate::train) fn go_back<M: Blockwise>(
    model: &M,
    batch: M::Batch,
    blocks: &mut impl Blocks<M>,
) -> Result<Tensor<1>, TrainError> {
    let (hidden, context) = model.embed(batch.clone()).map_err(TrainError::Model)?;
    // What comes before the blocks trains where gradients go into it. Its graph is not kept: it is run again at the end.
    let embed_trains = is_tracked(&hidden) || is_tracked(&context);
    let (hidden, context) = (without_gradients(hidden), without_gradients(context));
    let (mut inputs, last) = boundaries(model.blocks().len(), hidden, &context, blocks)?;
    let mut pieces = Pieces {
        context,
        embed_trains,
        context_grads: FlowGrads::default(),
    };

    let mut loss = None;
    let (mut grads, params) = pieces.run(model, last, true, |hidden, context| {
        let output = model.output_loss(hidden, context, batch.clone());
        let output = output.map_err(TrainError::Model)?;
        if !output.is_tracked() {
            return Err(model_error(
                "the loss does not depend on what the last block made",
            ));
        }
        loss = Some(output.clone().inner());
        Ok(Some(output))
    })?;
    let loss = loss.expect("the output's loss was the first piece");
    if !blocks.begins(&loss) || !blocks.take(None, model.clone(), params)? {
        return Ok(loss);
    }
    // The list of inputs gets shorter as it goes: each is freed with its block.
    while let Some(input) = inputs.pop()
        && !grads.is_empty()
    {
        let index = inputs.len();
        let hands_on = embed_trains || index > 0;
        let loaded = blocks.training(index)?;
        let (input_grads, params) = pieces.run(&loaded, input, hands_on, |hidden, context| {
            let output = loaded.run_block(index, hidden, context);
            let slope = grads.slope(output.map_err(TrainError::Model)?);
            slope.map_err(|error| error.of(&format!("block {index}")))
        })?;
        grads = input_grads;
        if !blocks.take(Some(index), loaded, params)? {
            return Ok(loss);
        }
    }
    if embed_trains && let Some(params) = pieces.embed(model, batch, &grads)? {
        blocks.take(None, model.clone(), params)?;
    }
    Ok(loss)
}

/// What goes into each block, and what the last one makes.
fn boundaries<M: Blockwise>(
    count: usize,
    mut hidden: M::Hidden,
    context: &M::Context,
    blocks: &mut impl Blocks<M>,
) -> Result<(Vec<M::Hidden>, M::Hidden), TrainError> {
    let mut inputs = Vec::with_capacity(count);
    for index in 0..count {
        inputs.push(hidden.clone());
        let output = blocks.plain(index)?.run_block(index, hidden, context);
        hidden = output.map_err(TrainError::Model)?;
    }
    Ok((inputs, hidden))
}

/// The backward pass, a piece of the model at a time.
struct Pieces<M: Blockwise> {
    context: M::Context,
    embed_trains: bool,
    /// Gradients of the context so far, to which every piece adds.
    context_grads: FlowGrads,
}

impl<M: Blockwise> Pieces<M> {
    /// Runs a piece of a model where gradients are recorded and goes back through it; returns the gradients of its input, none unless
    /// they are handed on, and those of its parameters. `body` gives a tensor `[1]` to begin with, or none where no gradient comes in.
    fn run(
        &mut self,
        model: &M,
        input: M::Hidden,
        hands_on: bool,
        body: impl FnOnce(M::Hidden, &M::Context) -> Result<Option<Tensor<1>>, TrainError>,
    ) -> Result<(FlowGrads, GradientsParams), TrainError> {
        let (input, leaves) = leaves_if(hands_on, input);
        let (context, context_leaves) = leaves_if(self.embed_trains, self.context.clone());
        let slope = body(input, &context)?;
        let Some(slope) = slope.filter(Tensor::is_tracked) else {
            return Ok((FlowGrads::default(), GradientsParams::new()));
        };
        let mut grads = slope.backward();
        self.context_grads.add(context_leaves.gradients(&mut grads));
        let input_grads = leaves.gradients(&mut grads);
        let params = GradientsParams::from_grads(grads, model);
        Ok((input_grads, params))
    }

    /// Goes back through what comes before the first block; returns the gradients of its parameters, if any go there.
    fn embed(
        &mut self,
        model: &M,
        batch: M::Batch,
        grads: &FlowGrads,
    ) -> Result<Option<GradientsParams>, TrainError> {
        let (hidden, context) = model.embed(batch).map_err(TrainError::Model)?;
        let mut slopes = Vec::new();
        if !grads.is_empty() {
            let slope = grads.slope(hidden);
            slopes.extend(slope.map_err(|error| error.of("embed"))?);
        }
        if !self.context_grads.is_empty() {
            let slope = self.context_grads.slope(context);
            slopes.extend(slope.map_err(|error| error.of("embed"))?);
        }
        let slope = slopes.into_iter().reduce(|sum, slope| sum + slope);
        Ok(slope.map(|slope| GradientsParams::from_grads(slope.backward(), model)))
    }
}

/// A flow where gradients are recorded, as leaves where its own are asked for.
fn leaves_if<F: Flow>(wanted: bool, flow: F) -> (F, Leaves) {
    if wanted {
        Leaves::of(flow)
    } else {
        (flow.train(), Leaves::default())
    }
}

impl OtherShapes {
    /// The error, with the part of the model whose it is.
    fn of(self, part: &str) -> TrainError {
        let shapes = "made other shapes when it was run again for its gradients";
        model_error(&format!("{part} {shapes}"))
    }
}

fn model_error(message: &str) -> TrainError {
    TrainError::Model(ModelError::from(message))
}
