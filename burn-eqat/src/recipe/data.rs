use burn::data::dataloader::DataLoader;
use std::sync::Arc;

/// A loader of batches.
type Loader<B> = Arc<dyn DataLoader<B>>;

/// The training and validation data of each phase.
///
/// Can be made from `(train, valid)` if both phases use the same data. A validation loader without batches turns
/// validation off. Loaders of phases that do not run are not read.
///
/// ```
/// use burn_eqat::PhaseLoaders;
/// # use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
/// # use burn::data::dataset::InMemDataset;
/// # use burn::tensor::{Device, Tensor};
/// # struct Rows;
/// # impl Batcher<[f32; 2], Tensor<2>> for Rows {
/// #     fn batch(&self, rows: Vec<[f32; 2]>, device: &Device) -> Tensor<2> {
/// #         Tensor::cat(rows.iter().map(|row| Tensor::from_data([*row], device)).collect(), 0)
/// #     }
/// # }
/// # let loader = |batch_size, rows: usize| {
/// #     let rows = (0..rows).map(|row| [row as f32, 1.0]).collect();
/// #     DataLoaderBuilder::new(Rows).batch_size(batch_size).build(InMemDataset::new(rows))
/// # };
///
/// // `loader` makes a data loader with a batch size and a number of samples.
/// let data = PhaseLoaders {
///     block_ap: (loader(2, 64), loader(2, 8)),
///     e2e_qp: (loader(16, 64), loader(16, 8)),
/// };
/// assert_eq!(data.e2e_qp.0.iter().count(), 4);
/// ```
#[derive(Clone)]
pub struct PhaseLoaders<B> {
    /// Training and validation data of Block-AP, each read once. What blocks make of it is kept where
    /// [`CacheConfig`](crate::train::CacheConfig) says.
    pub block_ap: (Loader<B>, Loader<B>),
    /// Training and validation data of E2E-QP. The training data is read once more than there are epochs.
    pub e2e_qp: (Loader<B>, Loader<B>),
}

impl<B> From<(Loader<B>, Loader<B>)> for PhaseLoaders<B> {
    fn from((train, valid): (Loader<B>, Loader<B>)) -> Self {
        Self {
            block_ap: (train.clone(), valid.clone()),
            e2e_qp: (train, valid),
        }
    }
}
