use burn::config::Config;
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use burn_eqat::{QuantLinear, QuantLinearConfig};

/// Configuration of an [`Attention`], initialised with the [init function](AttentionConfig::init).
#[derive(Config, Debug)]
pub struct AttentionConfig {
    /// Width of the hidden state.
    pub width: usize,
    /// Number of heads, a divisor of the width.
    pub heads: usize,
    /// Whether the projection of the keys has a bias. Those of Whisper have none: it would change nothing.
    #[config(default = true)]
    pub key_bias: bool,
}

/// Self-attention in which every position sees all others.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries.
    pub q_proj: QuantLinear,
    /// Keys.
    pub k_proj: QuantLinear,
    /// Values.
    pub v_proj: QuantLinear,
    /// Back to the hidden state.
    pub out_proj: QuantLinear,
    heads: usize,
}

impl AttentionConfig {
    /// A layer with random weights.
    pub fn init(&self, device: &Device) -> Attention {
        let linear = |bias| {
            QuantLinearConfig::new(self.width, self.width)
                .with_bias(bias)
                .init(device)
        };
        Attention {
            q_proj: linear(true),
            k_proj: linear(self.key_bias),
            v_proj: linear(true),
            out_proj: linear(true),
            heads: self.heads,
        }
    }
}

impl Attention {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, positions, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, positions, width] = x.dims();
        let head_dim = width / self.heads;
        let heads = |x: Tensor<3>| -> Tensor<4> {
            x.reshape([batch, positions, self.heads, head_dim])
                .swap_dims(1, 2)
        };
        let q = heads(self.q_proj.forward(x.clone())) / (head_dim as f64).sqrt();
        let k = heads(self.k_proj.forward(x.clone()));
        let v = heads(self.v_proj.forward(x));
        let seen = softmax(q.matmul(k.transpose()), 3).matmul(v);
        let seen = seen.swap_dims(1, 2).reshape([batch, positions, width]);
        self.out_proj.forward(seen)
    }
}
