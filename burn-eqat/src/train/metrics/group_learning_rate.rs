use super::mean_metric;
use burn::module::ParamId;
use burn::tensor::TensorReadError;
use burn::train::metric::state::NumericMetricState;
use burn::train::metric::{Metric, MetricMetadata, MetricName, SerializedEntry};
use std::sync::Arc;

/// The learning rate of one of Block-AP's parameter groups. Burn's own metric shows only the base rate.
///
/// ```
/// use burn::train::{LearnerModel, SupervisedTraining};
/// use burn_eqat::train::metrics::GroupLearningRateMetric;
///
/// fn with_rates<M: LearnerModel>(training: SupervisedTraining<M>) -> SupervisedTraining<M> {
///     training
///         .metric_train_numeric(GroupLearningRateMetric::quantizer())
///         .metric_train_numeric(GroupLearningRateMetric::weights())
/// }
/// ```
#[derive(Clone)]
pub struct GroupLearningRateMetric {
    name: MetricName,
    /// A path that the group matches.
    path: &'static str,
    state: NumericMetricState,
}

impl GroupLearningRateMetric {
    /// The rate of weights and norms.
    pub fn weights() -> Self {
        Self::new("Learning Rate (weights)", "weight")
    }

    /// The rate of step sizes and zero points.
    pub fn quantizer() -> Self {
        Self::new("Learning Rate (quantizer)", "weight.fake_quant.scales")
    }

    fn new(name: &str, path: &'static str) -> Self {
        Self {
            name: Arc::new(name.to_string()),
            path,
            state: NumericMetricState::new(),
        }
    }
}

mean_metric!(GroupLearningRateMetric, precision = 2);

impl Metric for GroupLearningRateMetric {
    type Input = ();

    fn update(
        &mut self,
        _item: &(),
        metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if let Some(rates) = &metadata.lr {
            let rate = rates.lr_from_param(ParamId::new(), Some(self.path));
            self.state.update(rate, 1);
        }
        Ok(self.state.compute_update(self.format()))
    }

    mean_metric!(@methods);
}
