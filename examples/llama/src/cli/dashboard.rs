use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::ParamId;
use burn::train::metric::{
    MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn::train::renderer::{MetricState, MetricsRenderer};
use burn_eqat::train::{DataSplit, Epoch, Phase, TrainEvent};
use std::sync::Arc;

/// What a dashboard counts training steps as that were left out.
const LEFT_OUT: &str = "steps left out";

/// Shows the training phases in a renderer of Burn: on a terminal its dashboard, with plots of losses and learning rates.
/// There is a renderer for each phase, from its first event to [`close`](Self::close).
pub(super) struct Dashboard {
    open: Open,
    shown: Option<Shown>,
}

/// Makes a renderer for a run of which that many epochs are over.
type Open = Box<dyn FnMut(usize) -> Box<dyn MetricsRenderer>>;

/// A phase on its renderer.
struct Shown {
    phase: Phase,
    renderer: Box<dyn MetricsRenderer>,
    /// Whether the renderer knows of the epochs.
    started: bool,
    metrics: Vec<Metric>,
}

/// A metric: what it is called and reads, and its mean in the split.
struct Metric {
    id: MetricId,
    reads: Reads,
    sum: f64,
    count: usize,
}

/// What a metric reads of a batch.
#[derive(Clone, Copy)]
enum Reads {
    Loss,
    /// The learning rate of the parameters whose paths are like this one.
    Rate(&'static str),
}

impl Dashboard {
    /// A dashboard on renderers that `open` makes, given the number of epochs that are over already.
    pub(super) fn new(open: impl FnMut(usize) -> Box<dyn MetricsRenderer> + 'static) -> Self {
        Self {
            open: Box::new(open),
            shown: None,
        }
    }

    /// Shows an event.
    pub(super) fn event(&mut self, event: &TrainEvent) {
        match event {
            // A renderer is opened with the first epoch, whose number is known then.
            TrainEvent::PhaseStart { phase, .. } => {
                if self
                    .shown
                    .as_ref()
                    .is_some_and(|shown| shown.phase != *phase)
                {
                    self.close();
                }
            }
            TrainEvent::SplitStart {
                epoch,
                split,
                total,
            } => self.at(epoch).start_split(*epoch, *split, *total),
            TrainEvent::Batch {
                epoch,
                split,
                done,
                loss,
                rates,
                ..
            } => {
                let shown = self.at(epoch);
                shown.batch(*split, loss.clone().into_scalar(), rates.as_deref());
                shown.renderer.update_split(*done);
            }
            TrainEvent::Skipped { epoch, .. } => {
                // It counts events by their names.
                let renderer = &mut self.at(epoch).renderer;
                renderer.log_event_training(LEFT_OUT.to_string());
            }
            TrainEvent::SplitEnd { epoch, .. } => self.at(epoch).renderer.end_split(),
            TrainEvent::EpochEnd { epoch } => {
                let number = epoch.number;
                self.at(epoch).renderer.update_epoch(number);
            }
            TrainEvent::Comparison { done, total } => {
                let shown = self.shown(Phase::E2eQp, 0);
                if *done <= 1 {
                    shown.renderer.start_split("valid", *total);
                }
                shown.renderer.update_split(*done);
                if done == total {
                    shown.renderer.end_split();
                }
            }
            TrainEvent::Resumed { .. }
            | TrainEvent::Rates { .. }
            | TrainEvent::Pass { .. }
            | TrainEvent::BlockEnd { .. } => {}
        }
    }

    /// Gives the terminal back.
    pub(super) fn close(&mut self) {
        if let Some(mut shown) = self.shown.take() {
            shown.renderer.end();
        }
    }

    fn at(&mut self, epoch: &Epoch) -> &mut Shown {
        self.shown(epoch.phase, epoch.number.saturating_sub(1))
    }

    fn shown(&mut self, phase: Phase, over: usize) -> &mut Shown {
        let open = &mut self.open;
        self.shown
            .get_or_insert_with(|| Shown::new(phase, open(over)))
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shown {
    fn new(phase: Phase, mut renderer: Box<dyn MetricsRenderer>) -> Self {
        let metrics: &[(&str, Reads)] = match phase {
            Phase::BlockAp | Phase::E2eAp => &[
                ("Loss", Reads::Loss),
                ("Learning Rate (weights)", Reads::Rate("weight")),
                (
                    "Learning Rate (quantizer)",
                    Reads::Rate("weight.fake_quant.scales"),
                ),
            ],
            Phase::E2eQp => &[
                ("Loss", Reads::Loss),
                ("Learning Rate", Reads::Rate("weight")),
            ],
        };
        let metrics = metrics.iter().map(|(name, reads)| {
            let name = Arc::new(name.to_string());
            let id = MetricId::new(name.clone());
            let attributes = NumericAttributes {
                unit: None,
                higher_is_better: false,
            };
            renderer.register_metric(MetricDefinition {
                metric_id: id.clone(),
                name,
                description: None,
                attributes: attributes.into(),
            });
            Metric {
                id,
                reads: *reads,
                sum: 0.0,
                count: 0,
            }
        });
        let metrics = metrics.collect();
        Self {
            phase,
            renderer,
            started: false,
            metrics,
        }
    }

    fn start_split(&mut self, epoch: Epoch, split: DataSplit, total: usize) {
        if !self.started {
            let label = self.phase.to_string();
            self.renderer
                .start(epoch.epochs, epoch.number, None, Some(&label));
            self.started = true;
        }
        for metric in &mut self.metrics {
            (metric.sum, metric.count) = (0.0, 0);
        }
        self.renderer.start_split(name(split), total);
    }

    fn batch(&mut self, split: DataSplit, loss: f64, rates: Option<&ModuleLearningRate>) {
        for metric in &mut self.metrics {
            let Some(value) = metric.reads.of(loss, rates) else {
                continue;
            };
            let state = metric.add(value);
            match split {
                DataSplit::Train => self.renderer.update_train(state),
                DataSplit::Valid => self.renderer.update_valid(state),
            }
        }
    }
}

impl Metric {
    fn add(&mut self, value: f64) -> MetricState {
        self.sum += value;
        self.count += 1;
        let mean = self.sum / self.count as f64;
        // As Burn's own metrics are written.
        let formatted = format!("epoch {mean:.4e} - batch {value:.4e}");
        let entry = SerializedEntry::new(formatted, value.to_string());
        let entry = MetricEntry::new(self.id.clone(), entry);
        MetricState::Numeric(entry, Some(NumericEntry::Value(value)))
    }
}

impl Reads {
    /// The value of a batch, if it has one.
    fn of(self, loss: f64, rates: Option<&ModuleLearningRate>) -> Option<f64> {
        match self {
            Reads::Loss => Some(loss),
            Reads::Rate(path) => Some(rates?.lr_from_param(ParamId::new(), Some(path))),
        }
    }
}

/// What Burn calls a split.
fn name(split: DataSplit) -> &'static str {
    match split {
        DataSplit::Train => "train",
        DataSplit::Valid => "valid",
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
    use burn::module::ParamGroup;
    use burn::tensor::{Device, Tensor};
    use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
    use burn::train::renderer::{
        EvaluationName, MetricsRendererEvaluation, MetricsRendererTraining,
    };
    use burn_eqat::train::LearningRates;
    use std::sync::Mutex;

    /// Writes down what it is told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Told {
        fn hear(&self, what: String) {
            self.0.lock().unwrap().push(what);
        }

        fn metric(&self, split: &str, state: MetricState) {
            let MetricState::Numeric(entry, Some(NumericEntry::Value(value))) = state else {
                panic!("{state:?}");
            };
            let mean = entry.serialized_entry.formatted;
            self.hear(format!("{split} {:?} {value:.3}: {mean}", entry.metric_id));
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl MetricsRendererTraining for Told {
        fn update_train(&mut self, state: MetricState) {
            self.metric("train", state);
        }
        fn update_valid(&mut self, state: MetricState) {
            self.metric("valid", state);
        }
    }

    impl MetricsRendererEvaluation for Told {
        fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
    }

    impl TrainingProgressLogger for Told {
        fn start(&mut self, epochs: usize, first: usize, _: Option<usize>, label: Option<&str>) {
            self.hear(format!("start {label:?} {first}/{epochs}"));
        }
        fn update_epoch(&mut self, epoch: usize) {
            self.hear(format!("epoch {epoch}"));
        }
        fn start_split(&mut self, split: &str, total: usize) {
            self.hear(format!("split {split} of {total}"));
        }
        fn update_split(&mut self, done: usize) {
            self.hear(format!("done {done}"));
        }
        fn end_split(&mut self) {
            self.hear("end of split".to_string());
        }
        fn end(&mut self) {
            self.hear("end".to_string());
        }
        fn log_event_training(&mut self, event: String) {
            self.hear(event);
        }
    }

    impl EvaluationProgressLogger for Told {
        fn start_global_progress(&mut self, _: usize) {}
        fn start_test(&mut self, _: &str, _: usize) {}
        fn update_test_progress(&mut self, _: usize) {}
        fn end_test(&mut self) {}
        fn end_global_progress(&mut self) {}
        fn log_event_evaluation(&mut self, _: String) {}
    }

    impl MetricsRenderer for Told {
        fn manual_close(&mut self) {}
        fn register_metric(&mut self, definition: MetricDefinition) {
            self.hear(format!("metric {}", definition.name));
        }
    }

    fn batch(epoch: Epoch, split: DataSplit, done: usize, loss: f32) -> TrainEvent {
        let mut rates =
            ModuleLrScheduler::new(0.25).with_group(ParamGroup::from_predicate("fake_quant"), 0.5);
        TrainEvent::Batch {
            epoch,
            split,
            done,
            total: 2,
            loss: Tensor::from_data([loss], &Device::flex()),
            rates: (split == DataSplit::Train).then(|| Box::new(rates.step())),
        }
    }

    fn dashboard() -> (Dashboard, Told) {
        let told = Told::default();
        let renderer = told.clone();
        let dashboard = Dashboard::new(move |over| {
            renderer.hear(format!("open after {over}"));
            Box::new(renderer.clone())
        });
        (dashboard, told)
    }

    #[test]
    fn a_renderer_hears_of_both_phases() {
        let (mut dashboard, told) = dashboard();
        let phase_start = |phase, epochs| TrainEvent::PhaseStart {
            phase,
            blocks: 2,
            epochs,
            rates: LearningRates::paper(burn_eqat::Bits::Two),
        };
        // A run that goes on with its second block.
        let epoch = Epoch {
            phase: Phase::BlockAp,
            block: Some(1),
            number: 3,
            epochs: 4,
        };
        let split = DataSplit::Train;
        dashboard.event(&phase_start(Phase::BlockAp, 4));
        dashboard.event(&TrainEvent::SplitStart {
            epoch,
            split,
            total: 2,
        });
        dashboard.event(&batch(epoch, split, 1, 1.0));
        let message = "a loss".to_string();
        dashboard.event(&TrainEvent::Skipped { epoch, message });
        dashboard.event(&batch(epoch, split, 2, 2.0));
        let loss = 1.5;
        dashboard.event(&TrainEvent::SplitEnd { epoch, split, loss });
        dashboard.event(&TrainEvent::EpochEnd { epoch });
        let heard = told.take();
        let metric = |split: &str, name: &str, value: f64, mean: &str| {
            let id = MetricId::new(Arc::new(name.to_string()));
            format!("{split} {id:?} {value:.3}: epoch {mean}")
        };
        let rates = |heard: &mut Vec<String>| {
            let (weights, quantizer) = ("Learning Rate (weights)", "Learning Rate (quantizer)");
            heard.push(metric(
                "train",
                weights,
                0.25,
                "2.5000e-1 - batch 2.5000e-1",
            ));
            heard.push(metric(
                "train",
                quantizer,
                0.5,
                "5.0000e-1 - batch 5.0000e-1",
            ));
        };
        let mut expected: Vec<String> = [
            "open after 2",
            "metric Loss",
            "metric Learning Rate (weights)",
            "metric Learning Rate (quantizer)",
            "start Some(\"Block-AP\") 3/4",
            "split train of 2",
        ]
        .map(String::from)
        .to_vec();
        expected.push(metric("train", "Loss", 1.0, "1.0000e0 - batch 1.0000e0"));
        rates(&mut expected);
        expected.extend(["done 1", LEFT_OUT].map(String::from));
        expected.push(metric("train", "Loss", 2.0, "1.5000e0 - batch 2.0000e0"));
        rates(&mut expected);
        expected.extend(["done 2", "end of split", "epoch 3"].map(String::from));
        assert_eq!(heard, expected);

        // Measured between the phases; the other phase has a renderer of its own.
        dashboard.close();
        for done in 1..=2 {
            dashboard.event(&TrainEvent::Comparison { done, total: 2 });
        }
        dashboard.event(&phase_start(Phase::E2eQp, 1));
        let epoch = Epoch {
            phase: Phase::E2eQp,
            block: None,
            number: 1,
            epochs: 1,
        };
        let split = DataSplit::Valid;
        dashboard.event(&TrainEvent::SplitStart {
            epoch,
            split,
            total: 2,
        });
        dashboard.event(&batch(epoch, split, 2, 0.0));
        drop(dashboard);
        let mut expected: Vec<String> = [
            "end",
            "open after 0",
            "metric Loss",
            "metric Learning Rate",
            "split valid of 2",
            "done 1",
            "done 2",
            "end of split",
            "start Some(\"E2E-QP\") 1/1",
            "split valid of 2",
        ]
        .map(String::from)
        .to_vec();
        // Nothing is learned in validation.
        expected.push(metric("valid", "Loss", 0.0, "0.0000e0 - batch 0.0000e0"));
        expected.extend(["done 2", "end"].map(String::from));
        assert_eq!(told.take(), expected);
    }
}
