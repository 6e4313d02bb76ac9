use burn::config::Config;
use burn::tensor::DType;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where Block-AP keeps its activations: the hidden states of all batches at the door of a block, and what the original block
/// makes of its own. Also where a [teacher](crate::train::Teacher::keep) keeps its own: once where they are on their way, and in a file until the last
/// end-to-end phase ends. By default all of them are in memory.
///
/// Training and validation data are placed one after the other, each as a whole: in memory where it fits in what is left of
/// the budget, else on disk.
///
/// ```
/// use burn_eqat::train::{CacheConfig, CacheDType};
///
/// let config = CacheConfig::new()
///     .with_memory(Some(16_000_000_000))
///     .with_dtype(CacheDType::F32)
///     .with_dir(Some("/var/tmp".into()));
/// assert_eq!(config.memory, Some(16_000_000_000));
/// // By default, everything is in memory.
/// assert_eq!(CacheConfig::new().memory, None);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct CacheConfig {
    /// Bytes of activations that may be in memory; `None` for as many as there are. Hidden states are counted twice, since
    /// after the first block inputs and targets differ, and contexts once. What is counted is what goes into the first block:
    /// a split that fits then stays in memory, though a later block makes more of it.
    #[config(default = "None")]
    pub memory: Option<u64>,
    /// How the numbers of hidden states are kept on disk. In memory nothing is rounded. Contexts, integers and bools are kept as
    /// they are.
    #[config(default = "CacheDType::Bf16")]
    pub dtype: CacheDType,
    /// Directory of the files on disk, also of what a [teacher keeps](crate::train::Teacher::keep); the system's temporary directory where it
    /// is left out. They are deleted when the phase ends, on error too. Those of a process that was killed are deleted by the next that keeps
    /// activations in the directory.
    #[config(default = "None")]
    pub dir: Option<PathBuf>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Floats on disk. Tensors in a smaller type keep theirs.
///
/// ```
/// use burn_eqat::train::CacheDType;
///
/// assert_eq!("f32".parse(), Ok(CacheDType::F32));
/// assert_eq!(CacheDType::default().name(), "bf16");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheDType {
    /// 16 bits, 8 of them exponent: half the room and half the reading.
    #[default]
    Bf16,
    /// 32 bits: training from disk does what training from memory does, to the bit.
    F32,
}

impl CacheDType {
    /// Both types.
    pub const ALL: [CacheDType; 2] = [CacheDType::Bf16, CacheDType::F32];

    /// The name as it is written: `bf16` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            CacheDType::Bf16 => "bf16",
            CacheDType::F32 => "f32",
        }
    }

    pub(super) fn dtype(self) -> DType {
        match self {
            CacheDType::Bf16 => DType::BF16,
            CacheDType::F32 => DType::F32,
        }
    }
}

impl fmt::Display for CacheDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no type of cached floats.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown cache type {0:?}: expected bf16 or f32")]
pub struct CacheDTypeError(String);

impl FromStr for CacheDType {
    type Err = CacheDTypeError;

    fn from_str(text: &str) -> Result<Self, CacheDTypeError> {
        let dtype = CacheDType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text);
        dtype.ok_or_else(|| CacheDTypeError(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_they_are_written() {
        for dtype in CacheDType::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            let json = serde_json::to_string(&dtype).unwrap();
            assert_eq!(json, format!("\"{dtype}\""));
        }
        let error = "f16".parse::<CacheDType>().unwrap_err().to_string();
        assert_eq!(error, "unknown cache type \"f16\": expected bf16 or f32");
    }
}
