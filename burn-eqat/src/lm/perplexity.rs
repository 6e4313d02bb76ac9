use super::{LmError, NextTokenLoss, TokenWindows};
use burn::tensor::Device;

/// Windows of a batch.
const BATCH: usize = 8;

/// Perplexity of a model on windows: the exponential of the mean cross-entropy of the `seq_len - 1` predicted
/// positions of each window. The callback `progress` gets the number of batches done and in all, and may stop with
/// an error, such as [`LmError::Interrupted`].
///
/// # Errors
///
/// When the windows are too short for a prediction, the model fails, or `progress` returns an error.
pub fn perplexity<M: NextTokenLoss>(
    model: &M,
    windows: &TokenWindows,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
) -> Result<f64, LmError> {
    let seq_len = windows.seq_len();
    if windows.is_empty() {
        return Err(LmError::TooFewWindows {
            found: 0,
            seq_len,
            expected: 1,
        });
    }
    if seq_len < 2 {
        return Err(LmError::ShortWindows { seq_len });
    }
    let batches = windows.batches(BATCH, device);
    let at_a_time = model.batches_at_a_time([BATCH, seq_len]).max(1);
    let (mut sum, mut done) = (0.0, 0);
    for run in batches.chunks(at_a_time) {
        let losses = model.losses(run).map_err(LmError::model)?;
        if losses.len() != run.len() {
            let message = format!("{} losses of {} batches", losses.len(), run.len());
            return Err(LmError::Model(message.into()));
        }
        for (batch, loss) in run.iter().zip(losses) {
            let [rows, _] = batch.tokens.dims();
            sum += loss.into_scalar::<f64>() * rows as f64;
            done += 1;
            progress(done, batches.len())?;
        }
    }
    Ok((sum / windows.len() as f64).exp())
}
