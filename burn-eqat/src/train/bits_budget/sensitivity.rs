//! How much the loss of a model depends on each weight.

use crate::module::selected_under;
use crate::train::by_blocks::{Blocks, go_back};
use crate::train::event::OnEvent;
use crate::train::launch::data_error;
use crate::train::matrix_grads::for_each_matrix_grad;
use crate::train::trained::train_only;
use crate::train::{Blockwise, Pass, TrainError, TrainEvent, with_block};
use crate::{Schemes, Weights};
use burn::data::dataloader::DataLoader;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use std::collections::HashMap;

/// The squares of the gradients of a weight's numbers, summed over its columns and over its rows.
pub(super) struct Squares {
    /// `[d_input]`.
    pub rows: Tensor<1>,
    /// `[d_output]`.
    pub columns: Tensor<1>,
}

/// Of the selected weights in the blocks of a model, by path: the sum over some batches of the squares of the gradients of the loss, which is about the
/// diagonal of its curvature (Fisher's matrix). One block with its gradients is in memory at a time, where blocks are in files.
pub(super) fn sensitivity<M: Blockwise>(
    model: &M,
    weights: &Weights,
    schemes: &Schemes,
    data: &dyn DataLoader<M::Batch>,
    batches: usize,
    device: &Device,
    on_event: OnEvent<'_>,
) -> Result<HashMap<String, Squares>, TrainError> {
    let shell = model.clone().train().no_grad();
    let mut found = Found {
        model,
        paths: model.blocks(),
        weights,
        schemes,
        squares: HashMap::new(),
    };
    let data = data.to_device(&device.clone().autodiff());
    let mut iterator = data.iter();
    for done in 1..=batches {
        let Some(batch) = iterator.next() else {
            break;
        };
        go_back(&shell, batch.map_err(data_error)?, &mut found)?;
        on_event(TrainEvent::Pass {
            pass: Pass::Sensitivity,
            block: None,
            done,
            total: batches,
        })?;
    }
    Ok(found.squares)
}

struct Found<'a, M> {
    model: &'a M,
    paths: Vec<String>,
    weights: &'a Weights,
    schemes: &'a Schemes,
    squares: HashMap<String, Squares>,
}

impl<M: Blockwise> Blocks<M> for Found<'_, M> {
    fn plain(&mut self, index: usize) -> Result<M, TrainError> {
        with_block(self.model, index)
    }

    fn training(&mut self, index: usize) -> Result<M, TrainError> {
        let block = with_block(self.model, index)?;
        let path = Some(self.paths[index].as_str());
        let selected = selected_under(&block, self.weights, self.schemes, path)?;
        Ok(train_only(block.train(), &|path| {
            selected.iter().any(|weight| weight.path == path)
        }))
    }

    fn take(
        &mut self,
        _index: Option<usize>,
        model: M,
        grads: GradientsParams,
    ) -> Result<bool, TrainError> {
        for_each_matrix_grad(&model, grads, &mut |path, grad| {
            let [rows, columns] = grad.dims();
            let square = grad.square();
            let of_rows = square.clone().sum_dim(1).reshape([rows]);
            let of_columns = square.sum_dim(0).reshape([columns]);
            let sums = match self.squares.remove(&path) {
                Some(sums) => Squares {
                    rows: sums.rows + of_rows,
                    columns: sums.columns + of_columns,
                },
                None => Squares {
                    rows: of_rows,
                    columns: of_columns,
                },
            };
            self.squares.insert(path, sums);
        });
        Ok(true)
    }
}
