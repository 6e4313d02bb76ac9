//! Tensors in one safetensors file, or several with an index.

use super::error::FileError;
use super::json::write_json;
use safetensors::tensor::View;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes tensors to a directory, in files of at most `limit` bytes of data (or of one tensor, if that is
/// larger).
pub(super) struct ShardWriter<'a, V> {
    dir: &'a Path,
    limit: u64,
    pending: Vec<(String, V)>,
    pending_bytes: usize,
    bytes: usize,
    /// The names of the tensors in each written file.
    written: Vec<Vec<String>>,
}

impl<'a, V: View> ShardWriter<'a, V> {
    pub fn new(dir: &'a Path, limit: u64) -> Self {
        ShardWriter {
            dir,
            limit,
            pending: Vec::new(),
            pending_bytes: 0,
            bytes: 0,
            written: Vec::new(),
        }
    }

    pub fn push(&mut self, name: String, view: V) -> Result<(), FileError> {
        let bytes = view.data_len();
        if !self.pending.is_empty() && (self.pending_bytes + bytes) as u64 > self.limit {
            self.flush()?;
        }
        self.pending_bytes += bytes;
        self.bytes += bytes;
        self.pending.push((name, view));
        Ok(())
    }

    /// Writes the rest, and renames the files to their final names.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.flush()?;
        let count = self.written.len();
        if count == 1 {
            return rename(&self.temporary(0), &self.dir.join("model.safetensors"));
        }
        let mut weight_map = Map::new();
        for (at, names) in self.written.iter().enumerate() {
            let file = format!("model-{:05}-of-{count:05}.safetensors", at + 1);
            rename(&self.temporary(at), &self.dir.join(&file))?;
            for name in names {
                weight_map.insert(name.clone(), Value::String(file.clone()));
            }
        }
        let index = json!({
            "metadata": {"total_size": self.bytes},
            "weight_map": weight_map,
        });
        let path = self.dir.join("model.safetensors.index.json");
        write_json(&path, &index)
    }

    fn flush(&mut self) -> Result<(), FileError> {
        let path = self.temporary(self.written.len());
        let views = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let names = views.iter().map(|(name, _)| name.clone()).collect();
        self.written.push(names);
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize_to_file(views, Some(metadata), &path)
            .map_err(|error| FileError::invalid(&path, error))?;
        // The writer makes the file private, like temporary files.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = fs::Permissions::from_mode(0o644);
            fs::set_permissions(&path, readable).map_err(FileError::io(&path))?;
        }
        Ok(())
    }

    /// The name of a file until the number of files is known.
    fn temporary(&self, at: usize) -> PathBuf {
        self.dir.join(format!("model-{:05}.safetensors", at + 1))
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::io(to))
}

#[cfg(test)]
mod tests {
    use super::super::directory::locate_all;
    use super::super::view::TensorView;
    use super::*;
    use burn::tensor::TensorData;

    /// Writes three tensors of 16 bytes to files of at most `limit` bytes.
    fn write(limit: u64) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let mut files = ShardWriter::new(dir.path(), limit);
        for name in ["a", "b", "c"] {
            let data = TensorData::new(vec![1.0f32; 4], [4]);
            files
                .push(name.to_string(), TensorView::new(data).unwrap())
                .unwrap();
        }
        files.finish().unwrap();
        let names = fs::read_dir(dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        (dir, names)
    }

    #[test]
    fn what_fits_is_one_file() {
        assert_eq!(write(48).1, ["model.safetensors"]);
    }

    #[test]
    fn what_does_not_is_several_with_an_index() {
        let (dir, names) = write(33);
        let expected = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ];
        assert_eq!(names, expected);
        assert_eq!(locate_all(dir.path()).unwrap().len(), 3);
        // A tensor larger than the limit gets its own file.
        assert_eq!(write(1).1.len(), 4);
    }
}
