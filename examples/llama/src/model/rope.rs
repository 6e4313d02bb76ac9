use crate::LlamaConfig;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, s};
use burn_eqat::kernels::transformer::rotary;
use std::sync::{Arc, Mutex, PoisonError};

/// Rotary position encoding, in the layout of Hugging Face checkpoints: the first half of a head is
/// rotated against its second half.
#[derive(Module, Debug)]
pub struct Rope {
    /// Angles by position, of each pair of a head.
    #[module(skip)]
    frequencies: Vec<f32>,
    #[module(skip)]
    positions: usize,
    #[module(skip)]
    tables: Tables,
}

/// Cosines and sines by position, `[positions, head_dim / 2]`, for the positions used so far, on each device that
/// used them. Clones share them.
#[derive(Clone, Debug, Default)]
struct Tables(Arc<Mutex<Vec<Table>>>);

/// The tables of a device.
#[derive(Clone, Debug)]
struct Table {
    device: Device,
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rope {
    /// The rotation of a model's heads.
    pub fn new(config: &LlamaConfig) -> Self {
        let half = config.head_dim() / 2;
        let rescaling = config.rescaling();
        let frequency = |pair| rescaling.apply(config.frequency(pair));
        Self {
            frequencies: (0..half).map(frequency).collect(),
            positions: config.positions(),
            tables: Tables::default(),
        }
    }

    /// Rotates heads `[batch, heads, seq, head_dim]` whose first position is `start`.
    pub fn apply(&self, x: Tensor<4>, start: usize) -> Tensor<4> {
        let [_, _, seq, _] = x.dims();
        let (cos, sin) = self.tables(start + seq, &x.device());
        let rows = |table: Tensor<2>| table.slice(s![start..start + seq, ..]);
        let (cos, sin) = (rows(cos), rows(sin));
        rotary(x, cos, sin).unwrap_or_else(|error| error.raise())
    }

    /// Tables of at least that many positions, on a device.
    fn tables(&self, positions: usize, device: &Device) -> (Tensor<2>, Tensor<2>) {
        let mut tables = (self.tables.0.lock()).unwrap_or_else(PoisonError::into_inner);
        let of_device = tables.iter().position(|table| table.device == *device);
        if let Some(Table { cos, sin, .. }) = of_device.map(|index| &tables[index])
            && cos.dims()[0] >= positions
        {
            return (cos.clone(), sin.clone());
        }
        // Twice as many as before, so that a growing text needs few new tables.
        let positions = (2 * positions).max(256).min(self.positions.max(positions));
        let table = |function: fn(f64) -> f64| {
            let mut values = Vec::with_capacity(positions * self.frequencies.len());
            for position in 0..positions {
                for frequency in &self.frequencies {
                    // The angle is made in f32, as in the implementations that trained the weights.
                    let angle = position as f32 * frequency;
                    values.push(function(f64::from(angle)) as f32);
                }
            }
            let data = TensorData::new(values, [positions, self.frequencies.len()]);
            Tensor::from_data(data, device)
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let new = Table {
            device: device.clone(),
            cos: cos.clone(),
            sin: sin.clone(),
        };
        match of_device {
            Some(index) => tables[index] = new,
            None => tables.push(new),
        }
        (cos, sin)
    }
}
