use super::metrics::{NllInput, ReconstructionInput};
use burn::tensor::{ExecutionError, Int, Tensor};
use burn::train::ItemLazy;
use burn::train::metric::{Adaptor, LossInput};
use burn::train::{
    ClassificationOutput, MultiLabelClassificationOutput, RegressionOutput, SequenceOutput,
};

/// The output of a training or validation step of both phases, for metrics.
///
/// Both phases can train a model whose `TrainStep` and `InferenceStep` return this type, or one of Burn's outputs
/// (`ClassificationOutput`, `RegressionOutput`, `SequenceOutput`). For other output types, implement [`StepLoss`], and
/// `From<Reconstruction>` for `BlockAp::launch`.
///
/// ```
/// use burn::tensor::Tensor;
/// use burn::train::{InferenceStep, TrainOutput, TrainStep};
/// use burn_eqat::train::QatOutput;
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// # #[derive(Module, Debug)]
/// # struct Mlp { head: Linear }
/// # impl Mlp {
/// #     fn loss(&self, (x, target): (Tensor<2>, Tensor<2>)) -> Tensor<1> { (self.head.forward(x) - target).square().mean() }
/// # }
///
/// impl TrainStep for Mlp {
///     type Input = (Tensor<2>, Tensor<2>);
///     type Output = QatOutput;
///     fn step(&self, batch: Self::Input) -> TrainOutput<QatOutput> {
///         let loss = self.loss(batch);
///         TrainOutput::new(self, loss.backward(), QatOutput::new(loss))
///     }
/// }
/// impl InferenceStep for Mlp {
///     type Input = (Tensor<2>, Tensor<2>);
///     type Output = QatOutput;
///     fn step(&self, batch: Self::Input) -> QatOutput {
///         QatOutput::new(self.loss(batch))
///     }
/// }
/// # let device = Device::flex().autodiff();
/// # let model = Mlp { head: LinearConfig::new(2, 2).init(&device) };
/// # let batch = (Tensor::ones([1, 2], &device), Tensor::ones([1, 2], &device));
/// # assert_eq!(TrainStep::step(&model, batch).item.tokens, 0);
/// ```
#[derive(Clone, Debug)]
pub struct QatOutput {
    /// The loss, `[1]`: mean cross-entropy in nats, or a block's reconstruction error.
    pub loss: Tensor<1>,
    /// The number of tokens in the mean cross-entropy; 0 for other losses.
    pub tokens: usize,
    /// Whether the loss is a block's reconstruction error.
    pub reconstruction: bool,
}

/// A step of Block-AP: the mean squared error between a quantized block and its original, `[1]`.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// The error.
    pub loss: Tensor<1>,
}

impl QatOutput {
    /// Mean cross-entropy of that many tokens.
    pub fn next_token(loss: Tensor<1>, tokens: usize) -> Self {
        Self {
            loss,
            tokens,
            reconstruction: false,
        }
    }

    /// Any other loss.
    pub fn new(loss: Tensor<1>) -> Self {
        Self::next_token(loss, 0)
    }
}

impl From<Reconstruction> for QatOutput {
    fn from(step: Reconstruction) -> Self {
        Self {
            loss: step.loss,
            tokens: 0,
            reconstruction: true,
        }
    }
}

/// The loss of a step's output, for E2E-QP.
///
/// ```
/// use burn::tensor::Tensor;
/// # use burn::{tensor::ExecutionError, train::ItemLazy};
/// use burn_eqat::train::{Reconstruction, StepLoss};
///
/// /// The output of a model's steps.
/// struct Output {
///     loss: Tensor<1>,
///     accuracy: Option<f64>,
/// }
/// # impl ItemLazy for Output {
/// #     fn sync(self) -> Result<Self, ExecutionError> { Ok(self) }
/// # }
/// impl StepLoss for Output {
///     fn loss(&self) -> Tensor<1> {
///         self.loss.clone()
///     }
/// }
/// impl From<Reconstruction> for Output {
///     fn from(step: Reconstruction) -> Self {
///         Self { loss: step.loss, accuracy: None }
///     }
/// }
/// # let loss = Tensor::<1>::from_data([2.0], &burn::tensor::Device::flex());
/// # let output = Output::from(Reconstruction { loss });
/// # assert!(output.accuracy.is_none() && output.loss().into_scalar::<f32>() == 2.0);
/// ```
pub trait StepLoss {
    /// The loss, `[1]`.
    fn loss(&self) -> Tensor<1>;
}

impl StepLoss for QatOutput {
    fn loss(&self) -> Tensor<1> {
        self.loss.clone()
    }
}

/// Makes one of Burn's outputs usable in steps of both phases.
macro_rules! burn_output {
    ($output:ident { $($field:ident: $empty:expr),* $(,)? }) => {
        impl StepLoss for $output {
            fn loss(&self) -> Tensor<1> {
                self.loss.clone()
            }
        }

        /// A step of Block-AP has a loss and no predictions: they are empty, and only metrics of the loss mean anything.
        impl From<Reconstruction> for $output {
            fn from(step: Reconstruction) -> Self {
                let device = step.loss.device();
                Self {
                    loss: step.loss,
                    $($field: ($empty)(&device)),*
                }
            }
        }
    };
}
burn_output!(ClassificationOutput {
    output: |device| Tensor::zeros([0, 1], device),
    targets: |device| Tensor::<1, Int>::zeros([0], device),
});
burn_output!(MultiLabelClassificationOutput {
    output: |device| Tensor::zeros([0, 1], device),
    targets: |device| Tensor::<2, Int>::zeros([0, 1], device),
});
burn_output!(RegressionOutput {
    output: |device| Tensor::zeros([0, 1], device),
    targets: |device| Tensor::zeros([0, 1], device),
});
burn_output!(SequenceOutput {
    logits: |device| Tensor::zeros([0, 1, 1], device),
    predictions: |_| None,
    targets: |device| Tensor::<2, Int>::zeros([0, 1], device),
});

impl ItemLazy for QatOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
            ..self
        })
    }
}

impl Adaptor<LossInput> for QatOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

impl Adaptor<NllInput> for QatOutput {
    fn adapt(&self) -> NllInput {
        NllInput {
            loss: self.loss.clone(),
            tokens: self.tokens,
        }
    }
}

impl Adaptor<ReconstructionInput> for QatOutput {
    fn adapt(&self) -> ReconstructionInput {
        ReconstructionInput {
            loss: self.reconstruction.then(|| self.loss.clone()),
        }
    }
}
