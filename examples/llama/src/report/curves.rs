use burn_eqat::train::{DataSplit, Epoch, Phase, TrainEvent};

/// The losses of a run, as the events of its phases tell them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curves {
    /// Of each block that Block-AP trained; x is the part of its epochs that is done.
    pub blocks: Vec<Curve>,
    /// Of E2E-QP; x is the number of training batches.
    pub e2e: Curve,
    /// Blocks of the model.
    count: usize,
}

/// Losses in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    /// The block; 0 in E2E-QP.
    pub block: usize,
    /// Of each training batch.
    pub train: Vec<(f64, f64)>,
    /// Of each epoch's validation.
    pub valid: Vec<(f64, f64)>,
}

impl Curves {
    /// Takes an event.
    pub fn event(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::PhaseStart {
                phase: Phase::BlockAp,
                blocks,
                ..
            } => self.count = *blocks,
            TrainEvent::Batch {
                epoch,
                split: DataSplit::Train,
                done,
                total,
                loss,
                ..
            } => {
                let loss = loss.clone().into_scalar();
                let part = *done as f64 / (*total).max(1) as f64;
                let x = match epoch.phase {
                    Phase::BlockAp => self.in_block(epoch, part),
                    Phase::E2eAp | Phase::E2eQp => self.e2e.train.len() as f64 + 1.0,
                };
                self.curve(epoch).train.push((x, loss));
            }
            TrainEvent::SplitEnd {
                epoch,
                split: DataSplit::Valid,
                loss,
            } => {
                let x = match epoch.phase {
                    Phase::BlockAp => self.in_block(epoch, 1.0),
                    Phase::E2eAp | Phase::E2eQp => self.e2e.train.len() as f64,
                };
                self.curve(epoch).valid.push((x, *loss));
            }
            _ => {}
        }
    }

    /// The part of a block's epochs that is done, with that part of one of them.
    fn in_block(&self, epoch: &Epoch, part: f64) -> f64 {
        let epochs = (epoch.epochs / self.count.max(1)).max(1);
        let over = (epoch.number - 1) % epochs;
        (over as f64 + part) / epochs as f64
    }

    fn curve(&mut self, epoch: &Epoch) -> &mut Curve {
        let Some(block) = epoch.block else {
            return &mut self.e2e;
        };
        if self.blocks.last().is_none_or(|last| last.block != block) {
            self.blocks.push(Curve {
                block,
                ..Curve::default()
            });
        }
        self.blocks.last_mut().expect("pushed above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};
    use burn_eqat::Bits;
    use burn_eqat::train::LearningRates;

    #[test]
    fn events_become_curves() {
        let mut curves = Curves::default();
        curves.event(&TrainEvent::PhaseStart {
            phase: Phase::BlockAp,
            blocks: 2,
            epochs: 4,
            rates: LearningRates::small(Bits::Two),
        });
        let batch = |epoch, done, loss: f32| TrainEvent::Batch {
            epoch,
            split: DataSplit::Train,
            done,
            total: 2,
            loss: Tensor::from_floats([loss], &Device::flex()),
            rates: None,
        };
        let valid = |epoch, loss| TrainEvent::SplitEnd {
            epoch,
            split: DataSplit::Valid,
            loss,
        };
        for number in 1..=4 {
            let epoch = Epoch {
                phase: Phase::BlockAp,
                block: Some((number - 1) / 2),
                number,
                epochs: 4,
            };
            curves.event(&batch(epoch, 1, number as f32));
            curves.event(&batch(epoch, 2, 0.5));
            curves.event(&valid(epoch, 0.25));
        }
        let end = Epoch {
            phase: Phase::E2eQp,
            block: None,
            number: 1,
            epochs: 1,
        };
        curves.event(&batch(end, 8, 3.0));
        curves.event(&batch(end, 16, 2.0));
        curves.event(&valid(end, 2.5));
        assert_eq!(curves.blocks.len(), 2);
        let second = &curves.blocks[1];
        assert_eq!(second.block, 1);
        assert_eq!(
            second.train,
            [(0.25, 3.0), (0.5, 0.5), (0.75, 4.0), (1.0, 0.5)]
        );
        assert_eq!(second.valid, [(0.5, 0.25), (1.0, 0.25)]);
        assert_eq!(curves.e2e.train, [(1.0, 3.0), (2.0, 2.0)]);
        assert_eq!(curves.e2e.valid, [(2.0, 2.5)]);
    }
}
