//! Checksums: against a bit that flips or a file that is cut short, not against an enemy.

use crate::files::FileError;
use crc32fast::Hasher;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The checksum of a file, as text.
pub(super) fn of_file(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(FileError::io(path))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(FileError::io(path))? {
            0 => return Ok(text(hasher)),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The checksum of bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    text(hasher)
}

/// A checksum as text.
pub(super) fn text(hasher: Hasher) -> String {
    format!("{:08x}", hasher.finalize())
}
