use super::assign::{Candidate, Choice, assign};
use super::errors::rise;
use super::sensitivity::sensitivity;
use crate::module::{dense_matrices, selected_under};
use crate::train::{Blockwise, TrainError, TrainEvent, catch_ops, nothing_selected, with_block};
use crate::{Bits, QuantizeError, Scheme, Schemes, Weights};
use burn::config::Config;
use burn::data::dataloader::DataLoader;
use std::sync::Arc;

/// Which weights get more bits than the others, so that all together take no more than a budget.
///
/// The gradients of the model's own loss on some batches say how much it depends on each weight: to the second order, an error `e` in a
/// number makes it rise by its curvature times `e^2 / 2`, and the curvature is about the mean square of the gradient. So it is known
/// what each weight costs in 2, 3, 4 and 8 bits before anything is trained. Bits go where they save most.
///
/// ```
/// # use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
/// # use burn::data::dataset::InMemDataset;
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// use burn_eqat::train::BitsBudgetConfig;
/// use burn_eqat::{Quantize, Weights};
///
/// # #[derive(Module, Debug)]
/// # struct Model { first: Linear, second: Linear }
/// # impl Blockwise for Model {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { vec!["first".into(), "second".into()] }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, block: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
/// #         Ok([&self.first, &self.second][block].forward(x))
/// #     }
/// #     fn output_loss(&self, y: Tensor<2>, _: &(), x: Tensor<2>) -> Result<Tensor<1>, ModelError> {
/// #         Ok((y - x).square().mean())
/// #     }
/// # }
/// # struct Rows;
/// # impl Batcher<[f32; 32], Tensor<2>> for Rows {
/// #     fn batch(&self, rows: Vec<[f32; 32]>, device: &Device) -> Tensor<2> {
/// #         let rows: Vec<Tensor<2>> = rows.iter().map(|row| Tensor::from_data([*row], device)).collect();
/// #         Tensor::cat(rows, 0)
/// #     }
/// # }
/// # let linear = || LinearConfig::new(32, 32).init(&Device::flex());
/// # let model = Model { first: linear(), second: linear() };
/// # let rows: Vec<[f32; 32]> = (0..4).map(|row| std::array::from_fn(|i| (row * i) as f32)).collect();
/// # let train = DataLoaderBuilder::new(Rows).batch_size(2).build(InMemDataset::new(rows));
/// // `model` implements `Blockwise` with an `output_loss`, and `train` is a loader of its batches.
/// let (weights, scheme) = (Weights::linears(), "w2g32".parse()?);
/// let config = BitsBudgetConfig::new(3.6);
/// let schemes = config.schemes(&model, &weights, scheme, train, &mut |_| Ok(()))?;
/// // For `EfficientQatConfig::with_overrides`, or any other way to quantize.
/// let packed = model.quantize_rtn(&weights, schemes)?;
/// assert!(packed.size_report().bits_per_weight() <= 3.6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Config, Debug)]
pub struct BitsBudgetConfig {
    /// Bits per weight of all quantized weights together, with their step sizes and zero points
    /// ([`Scheme::bits_per_weight`]).
    pub bits_per_weight: f64,
    /// Batches that the gradients are taken of.
    #[config(default = 32)]
    pub batches: usize,
}

impl BitsBudgetConfig {
    /// The scheme of each selected weight in the blocks of a full-precision model: `scheme`, or the same with more bits.
    ///
    /// The data is read once, as far as it is needed. Blocks in files are in memory one at a time. The callback `on_event` hears of each batch,
    /// and may stop with an error.
    ///
    /// # Errors
    ///
    /// When the budget is less than `scheme` takes, nothing is selected or does not fit the scheme, there is no data, the model's own
    /// code fails, or it has no [`output_loss`](Blockwise::output_loss).
    pub fn schemes<M: Blockwise>(
        &self,
        model: &M,
        weights: &Weights,
        scheme: Scheme,
        data: Arc<dyn DataLoader<M::Batch>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<Schemes, TrainError> {
        catch_ops(|| {
            let model = model.valid();
            let schemes = Schemes::new(scheme);
            let first = with_block(&model, 0)?;
            let device = first.devices().into_iter().next();
            let device = device.ok_or(TrainError::NoBlocks)?.inner();
            let squares = sensitivity(
                &model,
                weights,
                &schemes,
                &*data,
                self.batches,
                &device,
                on_event,
            )?;
            let candidates = candidates(scheme);
            let (mut paths, mut choices, mut numbers) = (Vec::new(), Vec::new(), 0.0);
            for (index, block) in model.blocks().iter().enumerate() {
                let loaded = with_block(&model, index)?;
                let dense = dense_matrices(&loaded);
                for selected in selected_under(&loaded, weights, &schemes, Some(block))? {
                    let weight = &dense[&selected.path];
                    let Some(squares) = squares.get(&selected.path) else {
                        return Err(TrainError::NoData);
                    };
                    let [d_input, d_output] = weight.dims();
                    let count = (d_input * d_output) as f64;
                    let mut options = Vec::new();
                    for scheme in &candidates {
                        let bits = scheme.bits_per_weight(d_input) * count;
                        let error = rise(weight, squares, scheme);
                        let error = error.map_err(|error| QuantizeError::Scheme {
                            path: selected.path.clone(),
                            error,
                        })?;
                        options.push(Candidate { bits, error });
                    }
                    paths.push(selected.path);
                    choices.push(Choice { options });
                    numbers += count;
                }
            }
            if choices.is_empty() {
                return Err(nothing_selected(&model, weights, &schemes));
            }
            let least: f64 = choices.iter().map(|choice| choice.options[0].bits).sum();
            let budget = self.bits_per_weight * numbers;
            // Sums of the same bits in another order.
            if least > budget * (1.0 + 1e-9) {
                let least = least / numbers;
                return Err(TrainError::Setting(format!(
                    "the budget is {} bits per weight, but {scheme} alone takes {least:.3} with its step sizes and zero points",
                    self.bits_per_weight
                )));
            }
            let chosen = assign(&choices, budget);
            let mut schemes = schemes;
            for (path, index) in paths.iter().zip(chosen) {
                if index > 0 {
                    schemes = schemes.with_path(path, candidates[index]);
                }
            }
            Ok(schemes)
        })
    }
}

/// A scheme, and the same with more bits.
fn candidates(scheme: Scheme) -> Vec<Scheme> {
    let more = Bits::ALL.into_iter().filter(|bits| *bits >= scheme.bits);
    more.map(|bits| Scheme { bits, ..scheme }).collect()
}
