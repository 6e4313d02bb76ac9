use super::{Calibration, TokenBatch};
use crate::PhaseLoaders;
use burn::tensor::Device;

/// Windows of a step in each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSizes {
    /// In Block-AP.
    pub block_ap: usize,
    /// In E2E-QP.
    pub e2e_qp: usize,
}

impl Calibration {
    /// The windows in batches, as [`EfficientQat::run`](crate::EfficientQat::run) takes them: Block-AP trains on them in their
    /// order, E2E-QP in another order each epoch, which the seed decides.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use burn_eqat::lm::{BatchSizes, Calibration, CalibrationSizes, TokenWindows};
    ///
    /// let windows = TokenWindows::new((0..4000).map(|i| i * i % 50).collect(), 8);
    /// let sizes = CalibrationSizes { train: 256, valid: 32, e2e: 128 };
    /// let data = Calibration::split(&windows, sizes, 42)?;
    /// let batch = BatchSizes { block_ap: 4, e2e_qp: 16 };
    /// let loaders = data.phase_loaders(batch, 42, &Device::flex());
    /// let (train, valid) = &loaders.block_ap;
    /// assert_eq!((train.iter().count(), valid.iter().count()), (64, 8));
    /// // ... recipe.run(model, loaders, &mut observer)? ...
    /// # Ok::<_, burn_eqat::lm::LmError>(())
    /// ```
    pub fn phase_loaders(
        &self,
        batch: BatchSizes,
        seed: u64,
        device: &Device,
    ) -> PhaseLoaders<TokenBatch> {
        PhaseLoaders {
            block_ap: (
                self.train.loader(batch.block_ap, None, device),
                self.valid.loader(batch.block_ap, None, device),
            ),
            e2e_qp: (
                self.e2e.loader(batch.e2e_qp, Some(seed), device),
                self.valid.loader(batch.e2e_qp, None, device),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::TokenWindows;
    use burn::data::dataloader::DataLoader;

    /// The first token of each window, and how many windows each batch has.
    fn read(loader: &dyn DataLoader<TokenBatch>) -> (Vec<i32>, Vec<usize>) {
        let (mut firsts, mut sizes) = (Vec::new(), Vec::new());
        for batch in loader.iter() {
            let tokens = batch.unwrap().tokens;
            sizes.push(tokens.dims()[0]);
            firsts.extend(tokens.slice_dim(1, 0..1).into_data().iter::<i32>());
        }
        (firsts, sizes)
    }

    #[test]
    fn each_phase_gets_its_own_windows() {
        let windows =
            |from: i32, count: i32| TokenWindows::new((from..from + 2 * count).collect(), 2);
        let data = Calibration {
            train: windows(0, 6),
            valid: windows(100, 3),
            e2e: windows(200, 8),
            eval: windows(300, 2),
            available: 19,
        };
        let batch = BatchSizes {
            block_ap: 2,
            e2e_qp: 4,
        };
        let loaders = data.phase_loaders(batch, 5, &Device::flex());
        let (train, valid) = loaders.block_ap;
        assert_eq!(read(&*train), (vec![0, 2, 4, 6, 8, 10], vec![2, 2, 2]));
        assert_eq!(read(&*valid), (vec![100, 102, 104], vec![2, 1]));
        let (train, valid) = loaders.e2e_qp;
        assert_eq!(read(&*valid), (vec![100, 102, 104], vec![3]));
        let ((first, sizes), (second, _)) = (read(&*train), read(&*train));
        assert_eq!(sizes, [4, 4]);
        assert_ne!(first, second, "another order each epoch");
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, [200, 202, 204, 206, 208, 210, 212, 214]);
        }
    }
}
