use super::{LmError, NextTokenLoss, TokenWindows};
use burn::tensor::Device;

/// Windows of a batch.
const BATCH: usize = 8;

/// Perplexity of a model on windows: the exponential of the mean cross-entropy of the `seq_len - 1` positions
/// that each window predicts. `progress` gets how many batches are done, of how many, and may stop with an
/// error ([`LmError::Interrupted`], say).
///
/// # Errors
///
/// When there is nothing to predict in the windows, the model fails, or `progress` says to stop.
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
