use burn::tensor::{Tensor, TensorReadError};
use burn::train::metric::state::NumericMetricState;
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry, format_float,
};
use std::sync::Arc;

/// Perplexity from the loss of a step: the exponential of the mean cross-entropy per token.
///
/// Burn's own metric computes the cross-entropy again from all logits, although the training step has done so already.
///
/// ```
/// use burn::train::{LearnerModel, SupervisedTraining, TrainStep};
/// use burn_eqat::train::QatOutput;
/// use burn_eqat::train::metrics::TokenPerplexityMetric;
///
/// fn with_perplexity<M>(training: SupervisedTraining<M>) -> SupervisedTraining<M>
/// where
///     M: LearnerModel + TrainStep<Output = QatOutput>,
/// {
///     training.metric_train_numeric(TokenPerplexityMetric::default())
/// }
/// ```
#[derive(Clone)]
pub struct TokenPerplexityMetric {
    name: MetricName,
    /// Mean cross-entropy; the exponential is taken when it is shown.
    nll: NumericMetricState,
}

/// Input of [`TokenPerplexityMetric`].
pub struct NllInput {
    /// Mean cross-entropy of the step, `[1]`.
    pub loss: Tensor<1>,
    /// The number of tokens in the mean. A step of 0 tokens does not count.
    pub tokens: usize,
}

impl Default for TokenPerplexityMetric {
    fn default() -> Self {
        Self {
            name: Arc::new("Perplexity".to_string()),
            nll: NumericMetricState::new(),
        }
    }
}

impl TokenPerplexityMetric {
    /// Turns the mean cross-entropy of an entry into a perplexity.
    fn exp(entry: NumericEntry) -> NumericEntry {
        match entry {
            NumericEntry::Value(value) => NumericEntry::Value(value.exp()),
            NumericEntry::Final(value) => NumericEntry::Final(value.exp()),
            NumericEntry::Aggregated {
                aggregated_value,
                count,
            } => NumericEntry::Aggregated {
                aggregated_value: aggregated_value.exp(),
                count,
            },
        }
    }

    fn entry(&self, logged: NumericEntry) -> SerializedEntry {
        let shown = |entry| format_float(Self::exp(entry).current(), 3);
        let epoch = shown(self.nll.running_value());
        let batch = shown(self.nll.current_value());
        SerializedEntry::new(
            format!("epoch {epoch} - batch {batch}"),
            Self::exp(logged).serialize(),
        )
    }
}

impl Metric for TokenPerplexityMetric {
    type Input = NllInput;

    fn update(
        &mut self,
        item: &Self::Input,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if item.tokens > 0 {
            let loss = item.loss.clone().try_into_scalar::<f64>()?;
            self.nll.update(loss, item.tokens);
        }
        Ok(self.entry(self.nll.current_value()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry(self.nll.final_value()))
    }

    fn clear(&mut self) {
        self.nll.reset();
    }

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: false,
        }
        .into()
    }
}

impl Numeric for TokenPerplexityMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(Self::exp(self.nll.current_value()))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(Self::exp(self.nll.running_value()))
    }

    fn final_value(&self) -> NumericEntry {
        Self::exp(self.nll.final_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::data::dataloader::Progress;
    use burn::tensor::Device;

    #[test]
    fn is_the_exponential_of_the_mean_over_tokens() {
        let metadata = MetricMetadata {
            progress: Progress::new(1, 1, None),
            iteration: None,
            lr: None,
        };
        let mut metric = TokenPerplexityMetric::default();
        for (loss, tokens) in [(1.0, 30), (3.0, 10), (100.0, 0)] {
            let loss = Tensor::from_data([loss], &Device::flex());
            metric
                .update(&NllInput { loss, tokens }, &metadata)
                .unwrap();
        }
        assert!((metric.final_value().current() - 1.5f64.exp()).abs() < 1e-9);
        assert!((metric.value().unwrap().current() - 3.0f64.exp()).abs() < 1e-9);
        assert_eq!(
            metric.compute().unwrap().formatted,
            "epoch 4.482 - batch 20.086"
        );
    }
}
