use burn::data::dataloader::DataLoader;
use std::sync::Arc;

/// A loader of batches.
pub(super) type Loader<B> = Arc<dyn DataLoader<B>>;

/// The training and validation data of each phase.
///
/// Can be made from `(train, valid)` if both phases use the same data. A validation loader without batches turns
/// validation off. Loaders of phases that do not run are not read.
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
