use crate::LlamaConfig;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, s};

/// Rotary position encoding, in the layout of Hugging Face checkpoints: the first half of a head is
/// rotated against its second half.
#[derive(Module, Debug)]
pub struct Rope {
    /// Cosines by position, `[max_positions, head_dim / 2]`.
    cos: Tensor<2>,
    /// Sines by position, of the same shape.
    sin: Tensor<2>,
}

impl Rope {
    /// Tables for every position that the model was made for.
    pub fn new(config: &LlamaConfig, device: &Device) -> Self {
        let (positions, half) = (config.positions(), config.head_dim() / 2);
        let rescaling = config.rescaling();
        let table = |function: fn(f64) -> f64| {
            let mut values = Vec::with_capacity(positions * half);
            for position in 0..positions {
                for i in 0..half {
                    // The angle is made in f32, as in the implementations that trained the weights.
                    let power = (2 * i) as f32 / (2 * half) as f32;
                    let frequency = 1.0 / (config.rope_theta() as f32).powf(power);
                    let frequency = rescaling.apply(frequency);
                    let angle = position as f32 * frequency;
                    values.push(function(f64::from(angle)) as f32);
                }
            }
            Tensor::from_data(TensorData::new(values, [positions, half]), device)
        };
        Self {
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }

    /// The longest position there is a table for.
    pub fn max_positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Rotates heads `[batch, heads, seq, head_dim]` whose first position is `start`.
    pub fn apply(&self, x: Tensor<4>, start: usize) -> Tensor<4> {
        let [_, _, seq, dim] = x.dims();
        let rows = |table: &Tensor<2>| -> Tensor<4> {
            let rows = table.clone().slice(s![start..start + seq, ..]);
            rows.cast(x.dtype()).unsqueeze()
        };
        let (cos, sin) = (rows(&self.cos), rows(&self.sin));
        let first = x.clone().slice_dim(3, 0..dim / 2);
        let second = x.slice_dim(3, dim / 2..dim);
        Tensor::cat(
            vec![
                first.clone() * cos.clone() - second.clone() * sin.clone(),
                second * cos + first * sin,
            ],
            3,
        )
    }
}
