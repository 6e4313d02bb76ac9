use super::mean_metric;
use burn::tensor::{Tensor, TensorReadError};
use burn::train::metric::state::NumericMetricState;
use burn::train::metric::{Metric, MetricMetadata, MetricName, SerializedEntry};
use std::sync::Arc;

/// The reconstruction error of a block in Block-AP: the mean squared error against its original.
///
/// ```
/// use burn::train::{LearnerModel, SupervisedTraining, TrainStep};
/// use burn_eqat::train::QatOutput;
/// use burn_eqat::train::metrics::ReconstructionLossMetric;
///
/// fn with_error<M>(training: SupervisedTraining<M>) -> SupervisedTraining<M>
/// where
///     M: LearnerModel + TrainStep<Output = QatOutput>,
/// {
///     training.metric_train_numeric(ReconstructionLossMetric::default())
/// }
/// ```
#[derive(Clone)]
pub struct ReconstructionLossMetric {
    name: MetricName,
    state: NumericMetricState,
}

/// Input of [`ReconstructionLossMetric`]; `None` for steps of other phases.
pub struct ReconstructionInput {
    /// The error, `[1]`.
    pub loss: Option<Tensor<1>>,
}

impl Default for ReconstructionLossMetric {
    fn default() -> Self {
        Self {
            name: Arc::new("Reconstruction Loss".to_string()),
            state: NumericMetricState::new(),
        }
    }
}

mean_metric!(ReconstructionLossMetric, precision = 6);

impl Metric for ReconstructionLossMetric {
    type Input = ReconstructionInput;

    fn update(
        &mut self,
        item: &Self::Input,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if let Some(loss) = &item.loss {
            self.state.update(loss.clone().try_into_scalar::<f64>()?, 1);
        }
        Ok(self.state.compute_update(self.format()))
    }

    mean_metric!(@methods);
}
