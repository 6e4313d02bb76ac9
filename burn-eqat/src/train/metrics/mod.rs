//! Burn metrics of the two phases.

mod group_learning_rate;
mod perplexity;
mod reconstruction;

pub use group_learning_rate::GroupLearningRateMetric;
pub use perplexity::{NllInput, TokenPerplexityMetric};
pub use reconstruction::{ReconstructionInput, ReconstructionLossMetric};

/// Implements a numeric metric as a mean, except for its `update`.
macro_rules! mean_metric {
    (@methods) => {
        fn compute(
            &mut self,
        ) -> Result<burn::train::metric::SerializedEntry, burn::tensor::TensorReadError> {
            Ok(self.state.compute_final(self.format()))
        }

        fn clear(&mut self) {
            self.state.reset();
        }

        fn name(&self) -> burn::train::metric::MetricName {
            self.name.clone()
        }

        fn attributes(&self) -> burn::train::metric::MetricAttributes {
            burn::train::metric::NumericAttributes {
                unit: None,
                higher_is_better: false,
            }
            .into()
        }
    };
    ($metric:ty, precision = $precision:expr) => {
        impl burn::train::metric::Numeric for $metric {
            fn value(&self) -> Option<burn::train::metric::NumericEntry> {
                Some(self.state.current_value())
            }

            fn running_value(&self) -> Option<burn::train::metric::NumericEntry> {
                Some(self.state.running_value())
            }

            fn final_value(&self) -> burn::train::metric::NumericEntry {
                self.state.final_value()
            }
        }

        impl $metric {
            fn format(&self) -> burn::train::metric::state::FormatOptions {
                burn::train::metric::state::FormatOptions::new(self.name.clone())
                    .precision($precision)
            }
        }
    };
}
use mean_metric;
