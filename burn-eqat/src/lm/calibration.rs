use super::{LmError, TokenWindows, read_tokens, save_tokens};
use crate::files::FileError;
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The token windows of a quantization run.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Training windows of Block-AP.
    pub train: TokenWindows,
    /// Validation windows of Block-AP and E2E-QP.
    pub valid: TokenWindows,
    /// E2E-QP trains on these.
    pub e2e: TokenWindows,
    /// Windows to measure perplexity on.
    pub eval: TokenWindows,
    /// The number of available windows.
    pub available: usize,
}

/// The number of windows of each kind.
///
/// ```
/// use burn_eqat::lm::CalibrationSizes;
///
/// let sizes = CalibrationSizes { train: 4096, valid: 64, e2e: 4096 };
/// assert_eq!(sizes.to_string(), "4096 for Block-AP, 64 for validation, 4096 for E2E-QP");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationSizes {
    /// Training windows of Block-AP.
    pub train: usize,
    /// Validation windows.
    pub valid: usize,
    /// Training windows of E2E-QP.
    pub e2e: usize,
}

impl fmt::Display for CalibrationSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { train, valid, e2e } = self;
        write!(
            f,
            "{train} for Block-AP, {valid} for validation, {e2e} for E2E-QP"
        )
    }
}

impl Calibration {
    /// Splits windows at random: evaluation first (a tenth, at most 128), then validation (at most a
    /// tenth), then Block-AP. E2E-QP gets the rest and, if that is not enough, also Block-AP's windows. If
    /// there are fewer windows than requested, each kind gets fewer; [`used`](Self::used) gives the
    /// numbers.
    ///
    /// ```
    /// use burn_eqat::lm::{Calibration, CalibrationSizes, TokenWindows};
    ///
    /// let windows = TokenWindows::new((0..4000).map(|i| i * i % 50).collect(), 8);
    /// let sizes = CalibrationSizes { train: 256, valid: 32, e2e: 128 };
    /// let data = Calibration::split(&windows, sizes, 42)?;
    /// assert_eq!((data.used(), data.eval.len()), (sizes, 50));
    /// # Ok::<(), burn_eqat::lm::LmError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no window for evaluation, or training windows are requested and there are none.
    pub fn split(
        windows: &TokenWindows,
        sizes: CalibrationSizes,
        seed: u64,
    ) -> Result<Self, LmError> {
        let available = windows.len();
        let mut order: Vec<usize> = (0..available).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        let eval = available.div_ceil(10).min(128);
        let valid = sizes.valid.min(available / 10);
        let train = sizes.train.min(available.saturating_sub(eval + valid));
        let trains = sizes.train > 0;
        if eval == 0 || (trains && train == 0) {
            return Err(LmError::TooFewWindows {
                found: available,
                seq_len: windows.seq_len(),
                expected: 1 + usize::from(trains),
            });
        }
        let (eval, rest) = order.split_at(eval);
        let (valid, rest) = rest.split_at(valid);
        let (train, fresh) = rest.split_at(train);
        // Windows that Block-AP has not seen first.
        let mut e2e = [fresh, train].concat();
        e2e.truncate(sizes.e2e);
        Ok(Self {
            train: windows.select(train),
            valid: windows.select(valid),
            e2e: windows.select(&e2e),
            eval: windows.select(eval),
            available,
        })
    }

    /// Reads the tensors `calib`, `val`, `e2e` and `eval` of a safetensors file, each i32
    /// `[samples, seq_len]`. Takes the requested number of windows from the start of the first three. A tensor
    /// of which no window is requested may be missing.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, too short, or of another shape or type, or a token is not in the vocabulary.
    pub fn from_tokens(
        path: &Path,
        sizes: CalibrationSizes,
        vocab_size: usize,
    ) -> Result<Self, LmError> {
        let eval = read_tokens(path, "eval", vocab_size)?;
        let mut available = eval.len();
        let mut read = |tensor: &str, wanted: usize| {
            if wanted == 0 {
                return Ok(TokenWindows::new(Vec::new(), eval.seq_len()));
            }
            let windows = read_tokens(path, tensor, vocab_size)?;
            let found = windows.len();
            if wanted > found {
                let message = format!("has {found} windows, expected {wanted} or more");
                return Err(FileError::tensor(path, tensor, message).into());
            }
            available += found;
            Ok::<_, LmError>(windows.range(0..wanted))
        };
        let (train, valid, e2e) = (
            read("calib", sizes.train)?,
            read("val", sizes.valid)?,
            read("e2e", sizes.e2e)?,
        );
        Ok(Self {
            train,
            valid,
            e2e,
            eval,
            available,
        })
    }

    /// Writes the windows to a safetensors file as [`from_tokens`](Self::from_tokens) reads them.
    ///
    /// ```
    /// use burn_eqat::lm::{Calibration, CalibrationSizes, TokenWindows};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("windows.safetensors");
    /// let windows = TokenWindows::new((0..4000).map(|i| i * i % 50).collect(), 8);
    /// let sizes = CalibrationSizes { train: 256, valid: 32, e2e: 128 };
    /// let data = Calibration::split(&windows, sizes, 42)?;
    /// data.save(&path)?;
    /// // With a vocabulary of 50 tokens.
    /// let again = Calibration::from_tokens(&path, sizes, 50)?;
    /// assert_eq!((again.train, again.eval), (data.train, data.eval));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let kinds = [
            ("calib", &self.train),
            ("val", &self.valid),
            ("e2e", &self.e2e),
            ("eval", &self.eval),
        ];
        let kinds = kinds.into_iter().filter(|(_, windows)| !windows.is_empty());
        save_tokens(path, &kinds.collect::<Vec<_>>())
    }

    /// How many windows each kind has.
    pub fn used(&self) -> CalibrationSizes {
        CalibrationSizes {
            train: self.train.len(),
            valid: self.valid.len(),
            e2e: self.e2e.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn windows(count: i32) -> TokenWindows {
        TokenWindows::new((0..count * 2).collect(), 2)
    }

    const SIZES: CalibrationSizes = CalibrationSizes {
        train: 30,
        valid: 8,
        e2e: 50,
    };

    #[test]
    fn no_window_is_measured_and_trained_on() {
        let data = Calibration::split(&windows(100), SIZES, 3).unwrap();
        assert_eq!((data.available, data.used()), (100, SIZES));
        assert_eq!(data.eval.len(), 10);
        let set = |windows: &TokenWindows| windows.iter().map(|w| w[0]).collect::<BTreeSet<_>>();
        let (train, e2e) = (set(&data.train), set(&data.e2e));
        assert_eq!((train.len(), e2e.len()), (30, 50));
        for held_out in [set(&data.valid), set(&data.eval)] {
            assert!(held_out.is_disjoint(&train) && held_out.is_disjoint(&e2e));
        }
        // 52 are left for it.
        assert!(train.is_disjoint(&e2e));
        let again = Calibration::split(&windows(100), SIZES, 3).unwrap();
        assert_eq!(again.train, data.train);
    }

    #[test]
    fn few_windows_are_split_as_far_as_they_go() {
        let data = Calibration::split(&windows(21), SIZES, 3).unwrap();
        assert_eq!(data.available, 21);
        let used = data.used();
        assert_eq!((used.train, used.valid, used.e2e), (16, 2, 16));
        assert_eq!(data.eval.len(), 3);
    }

    #[test]
    fn saved_windows_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("windows.safetensors");
        let mut data = Calibration::split(&windows(60), SIZES, 3).unwrap();
        data.valid = TokenWindows::new(Vec::new(), 2);
        data.save(&path).unwrap();
        let read = Calibration::from_tokens(&path, data.used(), 120).unwrap();
        assert_eq!((&read.train, &read.valid), (&data.train, &data.valid));
        assert_eq!((&read.e2e, &read.eval), (&data.e2e, &data.eval));
    }

    #[test]
    fn too_few_windows_are_refused() {
        let error = Calibration::split(&windows(1), SIZES, 3).unwrap_err();
        assert_eq!(
            error.to_string(),
            "holds 1 windows of 2 tokens, expected 2 or more"
        );
        // One will do where nothing is trained.
        let none = CalibrationSizes {
            train: 0,
            valid: 0,
            e2e: 0,
        };
        assert_eq!(
            Calibration::split(&windows(1), none, 3).unwrap().eval.len(),
            1
        );
        assert!(Calibration::split(&windows(0), none, 3).is_err());
    }
}
