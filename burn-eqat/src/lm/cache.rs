use burn::tensor::Tensor;

/// Keys and values of the earlier positions of an attention layer, so that a new token computes only one
/// position.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::lm::KvCache;
///
/// let device = Device::flex();
/// let new = |positions| Tensor::<4>::ones([1, 2, positions, 16], &device);
/// let mut cache = KvCache::default();
/// // A prompt of five tokens, then one more.
/// cache.append(new(5), new(5));
/// let (keys, _values) = cache.append(new(1), new(1));
/// assert_eq!((keys.dims(), cache.len()), ([1, 2, 6, 16], 6));
/// ```
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    keys_values: Option<(Tensor<4>, Tensor<4>)>,
}

impl KvCache {
    /// Number of positions.
    pub fn len(&self) -> usize {
        self.keys_values
            .as_ref()
            .map_or(0, |(keys, _)| keys.dims()[2])
    }

    /// Whether there are no positions yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the keys and values of new positions, and returns those of all positions.
    ///
    /// # Shapes
    ///
    /// - `keys`, `values`: `[batch, kv_heads, new, head_dim]`
    /// - output: `[batch, kv_heads, len, head_dim]` each
    pub fn append(&mut self, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let all = match self.keys_values.take() {
            Some((old_keys, old_values)) => (
                Tensor::cat(vec![old_keys, keys], 2),
                Tensor::cat(vec![old_values, values], 2),
            ),
            None => (keys, values),
        };
        self.keys_values = Some(all.clone());
        all
    }
}
