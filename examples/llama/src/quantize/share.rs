//! The settings of each of several devices.

use super::QuantizeSettings;
use crate::error::Error;

impl QuantizeSettings {
    /// The settings for each of that many devices, which together take the same windows in each step as these settings say.
    ///
    /// # Errors
    ///
    /// When the windows of a step do not divide.
    pub fn share(&self, devices: usize) -> Result<Self, Error> {
        let mut share = self.clone();
        if devices <= 1 {
            return Ok(share);
        }
        if let Some(phase) = &mut share.block_ap {
            if !phase.batch_size.is_multiple_of(devices) {
                let batch = phase.batch_size;
                return Err(Error::Setting(format!(
                    "--batch-size is {batch}, expected a multiple of the {devices} devices"
                )));
            }
            phase.batch_size /= devices;
        }
        if let Some(phase) = &mut share.e2e_qp {
            // Whole batches where it can be, since their size is what was said to fit on a device.
            if phase.grad_accum.is_multiple_of(devices) {
                phase.grad_accum /= devices;
            } else if phase.e2e_batch.is_multiple_of(devices) {
                phase.e2e_batch /= devices;
            } else {
                let (batch, accum) = (phase.e2e_batch, phase.grad_accum);
                return Err(Error::Setting(format!(
                    "--e2e-batch is {batch} and --grad-accum {accum}, expected one of them to be a multiple of the {devices} \
                     devices"
                )));
            }
        }
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(batch_size: usize, e2e_batch: usize, grad_accum: usize) -> QuantizeSettings {
        serde_json::from_value(serde_json::json!({
            "scheme": "w2g64", "method": "efficientqat", "seq_len": 8, "val_size": 0, "rates": {}, "seed": 0,
            "train_size": 8, "batch_size": batch_size, "epochs": 1,
            "e2e_size": 8, "e2e_batch": e2e_batch, "e2e_epochs": 1, "grad_accum": grad_accum,
        }))
        .unwrap()
    }

    #[test]
    fn a_step_stays_as_large() {
        assert_eq!(settings(3, 3, 1).share(1).unwrap(), settings(3, 3, 1));
        assert_eq!(settings(4, 2, 16).share(2).unwrap(), settings(2, 2, 8));
        assert_eq!(settings(6, 12, 2).share(3).unwrap(), settings(2, 4, 2));
    }

    #[test]
    fn what_does_not_divide_is_named() {
        let error = |settings: QuantizeSettings| settings.share(2).unwrap_err().to_string();
        assert_eq!(
            error(settings(3, 2, 2)),
            "--batch-size is 3, expected a multiple of the 2 devices"
        );
        assert_eq!(
            error(settings(2, 5, 3)),
            "--e2e-batch is 5 and --grad-accum 3, expected one of them to be a multiple of the 2 devices"
        );
    }
}
