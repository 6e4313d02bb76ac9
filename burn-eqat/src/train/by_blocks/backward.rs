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
    let (hidden, context) = model.embed(batch.clone()).map_err(TrainError::Model)?;
    // What comes before the blocks trains where gradients go into it. Its graph is not kept: it is run again at the end.
    let embed_trains = is_tracked(&hidden) || is_tracked(&context);
    let (hidden, context) = (without_gradients(hidden), without_gradients(context));
    let (mut inputs, last) = boundaries(&model.valid(), hidden, &context)?;
    let mut pieces = Pieces {
        context,
        embed_trains,
        params: GradientsAccumulator::new(),
        context_grads: FlowGrads::default(),
    };

    let mut loss = None;
    let mut grads = pieces.run(model, last, true, |hidden, context| {
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
    // The list of inputs gets shorter as it goes: each is freed with its block.
    while let Some(input) = inputs.pop()
        && !grads.is_empty()
    {
        let index = inputs.len();
        let hands_on = embed_trains || index > 0;
        let loaded = in_training(model, index)?;
        grads = pieces.run(&loaded, input, hands_on, |hidden, context| {
            let output = loaded.run_block(index, hidden, context);
            let slope = grads.slope(output.map_err(TrainError::Model)?);
            slope.map_err(|error| error.of(&format!("block {index}")))
        })?;
    }
    if embed_trains {
        pieces.embed(model, batch, &grads)?;
    }
    let loss = loss.expect("the output's loss was the first piece");
    Ok((loss, pieces.params.grads()))
}

/// What goes into each block, and what the last one makes.
fn boundaries<M: Blockwise>(
    plain: &M,
    mut hidden: M::Hidden,
    context: &M::Context,
) -> Result<(Vec<M::Hidden>, M::Hidden), TrainError> {
    let blocks = plain.blocks().len();
    let mut inputs = Vec::with_capacity(blocks);
    for index in 0..blocks {
        inputs.push(hidden.clone());
        let output = with_block(plain, index)?.run_block(index, hidden, context);
        hidden = output.map_err(TrainError::Model)?;
    }
    Ok((inputs, hidden))
}

/// A model with a block in memory, where gradients are recorded.
fn in_training<M: Blockwise>(model: &M, index: usize) -> Result<M, TrainError> {
    if model.is_loaded(index) {
        return Ok(model.clone());
    }
    // A block comes from its file as one where none are.
    let loaded = with_block(&model.valid(), index)?;
    Ok(loaded.train_scales_only().train())
}

/// The backward pass, a piece of the model at a time.
struct Pieces<M: Blockwise> {
    context: M::Context,
    embed_trains: bool,
    /// Gradients of parameters so far.
    params: GradientsAccumulator<M>,
    /// Gradients of the context so far, to which every piece adds.
    context_grads: FlowGrads,
}

impl<M: Blockwise> Pieces<M> {
    /// Runs a piece of a model where gradients are recorded and goes back through it; returns the gradients of its input, none unless
    /// they are handed on. `body` gives a tensor `[1]` to begin with, or none where no gradient comes in.
    fn run(
        &mut self,
        model: &M,
        input: M::Hidden,
        hands_on: bool,
        body: impl FnOnce(M::Hidden, &M::Context) -> Result<Option<Tensor<1>>, TrainError>,
    ) -> Result<FlowGrads, TrainError> {
        let (input, leaves) = leaves_if(hands_on, input);
        let (context, context_leaves) = leaves_if(self.embed_trains, self.context.clone());
        let slope = body(input, &context)?;
        let Some(slope) = slope.filter(Tensor::is_tracked) else {
            return Ok(FlowGrads::default());
        };
        let mut grads = slope.backward();
        self.context_grads.add(context_leaves.gradients(&mut grads));
        let input_grads = leaves.gradients(&mut grads);
        let params = GradientsParams::from_grads(grads, model);
        self.params.accumulate(model, params);
        Ok(input_grads)
    }

    /// Goes back through what comes before the first block.
    fn embed(&mut self, model: &M, batch: M::Batch, grads: &FlowGrads) -> Result<(), TrainError> {
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
        if let Some(slope) = slopes.into_iter().reduce(|sum, slope| sum + slope) {
            let params = GradientsParams::from_grads(slope.backward(), model);
            self.params.accumulate(model, params);
        }
        Ok(())
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
