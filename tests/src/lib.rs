//! Reads the data of tests: fixtures of this repository, and values and models outside it.

#[cfg(all(doctest, feature = "flex"))]
mod book;
pub mod pickle;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Fixtures of this repository.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The folder with real models and texts: `EQAT_DATA`, or `shared/data` beside the repository. If there is none,
/// prints a note on standard error and returns `None`.
pub fn data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("EQAT_DATA").map_or_else(beside, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no data at {}", dir.display());
    None
}

/// The folder with the reference's values, beside [`data`].
pub fn golden() -> Option<PathBuf> {
    Some(data()?.parent()?.join("golden"))
}

/// Seeds Flex's random numbers, and reserves them for this test while the result is held. All tests of a process
/// share one generator.
pub fn seeded(seed: u64) -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    // A test that failed while it held them leaves nothing half done.
    let guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    Device::flex().seed(seed);
    guard
}

/// A loader of given batches, which stay on their device.
pub fn batches<T: Clone + Send + Sync + 'static>(batches: Vec<T>) -> Arc<dyn DataLoader<T>> {
    struct Batches<T>(Vec<T>);
    struct Batch<'a, T>(&'a [T], usize);
    impl<T: Clone> Iterator for Batch<'_, T> {
        type Item = Result<T, DatasetError>;

        fn next(&mut self) -> Option<Self::Item> {
            self.1 += 1;
            self.0.get(self.1 - 1).cloned().map(Ok)
        }
    }
    impl<T: Clone> DataLoaderIterator<T> for Batch<'_, T> {
        fn progress(&self) -> Progress {
            Progress::new(self.1, self.0.len(), None)
        }
    }
    impl<T: Clone + Send + Sync + 'static> DataLoader<T> for Batches<T> {
        fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<T> + 'a> {
            Box::new(Batch(&self.0, 0))
        }
        fn num_items(&self) -> usize {
            self.0.len()
        }
        fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<T>> {
            Arc::new(Batches(self.0.clone()))
        }
        fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<T>> {
            Arc::new(Batches(self.0[start..end].to_vec()))
        }
    }
    Arc::new(Batches(batches))
}

/// Every tensor of a safetensors file.
pub struct Values(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Values {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        Values(
            file.tensors()
                .into_iter()
                .map(|(name, view)| (name, (view.shape().to_vec(), numbers(&view))))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> &(Vec<usize>, Vec<f64>) {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// The tensor names that begin with a prefix.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        names.sort();
        names
    }

    /// The numbers of a tensor, row by row.
    pub fn numbers(&self, name: &str) -> &[f64] {
        &self.get(name).1
    }

    /// A float tensor.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = self.get(name);
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        Tensor::from_data(TensorData::new(values, shape.clone()), (device, DType::F32))
    }

    /// An integer tensor.
    pub fn ints<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        let (shape, values) = self.get(name);
        let values: Vec<i32> = values.iter().map(|v| *v as i32).collect();
        Tensor::from_data(TensorData::new(values, shape.clone()), (device, DType::I32))
    }

    /// Integers as unsigned words with the same bits.
    pub fn words(&self, name: &str) -> Vec<u32> {
        self.numbers(name)
            .iter()
            .map(|v| *v as i32 as u32)
            .collect()
    }

    /// Step sizes or zero points, `[out * groups, 1]` in the file and `[groups, out]` here.
    pub fn per_group(&self, name: &str, out: usize, device: &Device) -> Tensor<2> {
        let flat: Tensor<2> = self.tensor(name, device);
        let groups = flat.dims()[0] / out;
        flat.reshape([out, groups]).transpose()
    }
}

fn numbers(view: &safetensors::tensor::TensorView<'_>) -> Vec<f64> {
    let bytes = view.data();
    macro_rules! read {
        ($type:ty, $size:literal) => {
            bytes
                .chunks_exact($size)
                .map(|c| <$type>::from_le_bytes(c.try_into().unwrap()))
        };
    }
    match view.dtype() {
        Dtype::F64 => read!(f64, 8).collect(),
        Dtype::F32 => read!(f32, 4).map(f64::from).collect(),
        Dtype::I32 => read!(i32, 4).map(f64::from).collect(),
        Dtype::F16 => read!(half::f16, 2).map(f64::from).collect(),
        Dtype::BF16 => read!(half::bf16, 2).map(f64::from).collect(),
        other => panic!("no reader for {other:?}"),
    }
}

/// The values of a tensor, row by row.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Asserts that no value differs by more than `tolerance` times the largest expected one.
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs();
        assert!(
            error <= tolerance * scale,
            "{what} [{i}]: {a} is not {e} (largest {scale})"
        );
    }
}

/// Asserts that the norm of the difference is at most `tolerance` times the norm of the expected values.
pub fn assert_near(what: &str, actual: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = actual
        .iter()
        .zip(expected)
        .map(|(a, e)| square(a - e))
        .sum();
    let norm: f64 = expected.iter().map(|e| square(*e)).sum();
    let error = (difference / norm).sqrt();
    assert!(
        error <= tolerance,
        "{what}: off by {error} of the norm, expected {tolerance}"
    );
}
