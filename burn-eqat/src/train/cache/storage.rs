//! The room that all caches of a phase have.

use super::CacheConfig;
use super::CacheDType;
use super::directory::Directory;
use crate::train::TrainError;
use std::path::PathBuf;
use std::sync::Arc;

/// What is left of the budget, and where the rest goes.
pub(in crate::train) struct Storage {
    config: CacheConfig,
    /// Bytes that may still be in memory; `None` for as many as there are.
    left: Option<u64>,
    directory: Option<Arc<Directory>>,
}

impl Storage {
    pub fn new(config: &CacheConfig) -> Self {
        Self {
            config: config.clone(),
            left: config.memory,
            directory: None,
        }
    }

    pub fn dtype(&self) -> CacheDType {
        self.config.dtype
    }

    /// Whether so many bytes more fit in memory; if so, they are taken.
    pub fn take(&mut self, bytes: u64) -> bool {
        let Some(left) = self.left else { return true };
        match left.checked_sub(bytes) {
            Some(rest) => {
                self.left = Some(rest);
                true
            }
            None => false,
        }
    }

    /// Gives bytes back that were taken.
    pub fn give_back(&mut self, bytes: u64) {
        self.left = self.left.map(|left| left.saturating_add(bytes));
    }

    /// Where the directory on disk is, or would be.
    pub fn path(&self) -> PathBuf {
        self.config.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// The directory on disk, opened when it is first needed.
    pub(super) fn directory(&mut self) -> Result<Arc<Directory>, TrainError> {
        if let Some(directory) = &self.directory {
            return Ok(directory.clone());
        }
        let directory = Arc::new(Directory::open(self.path())?);
        self.directory = Some(directory.clone());
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_used_up_and_given_back() {
        let mut all = Storage::new(&CacheConfig::new());
        assert!(all.take(u64::MAX) && all.take(u64::MAX));
        let mut some = Storage::new(&CacheConfig::new().with_memory(Some(10)));
        assert!(some.take(6) && !some.take(5) && some.take(4) && !some.take(1));
        some.give_back(6);
        assert!(some.take(6) && some.take(0));
    }
}
