//! A file of records of one size, each with a checksum.

use super::directory::{Directory, io_error};
use crate::train::TrainError;
use std::fs::File;
use std::io;
use std::path::Path;
use tempfile::NamedTempFile;

/// Bytes before what a record holds: the checksum of all that follows, the number of the record, the pass that wrote it, the
/// length. Since the checksum covers number and pass, a record that was lost or never written is noticed, too.
pub(super) const HEADER: usize = 28;

/// A file of records, deleted when it is dropped. Reading and writing are at positions, and may be at the same time in two threads
/// as long as they are not at the same record.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: NamedTempFile,
    /// Bytes of a record with its header; a record may use less.
    size: u64,
    /// Records that there is room for.
    records: usize,
}

impl RecordFile {
    /// A file with room for records of that many bytes with their headers.
    pub fn create(directory: &Directory, size: usize, records: usize) -> Result<Self, TrainError> {
        let mut file = Self {
            file: directory.new_file()?,
            size: size as u64,
            records: 0,
        };
        file.set_records(records)?;
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes that a record may have, with its header.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Records that there is room for.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Makes room for so many records, or gives back what is more. The room is there when this returns: writing does not fail
    /// later for want of it, where the file system can promise that.
    pub fn set_records(&mut self, records: usize) -> Result<(), TrainError> {
        let (old, new) = (self.position(self.records), self.position(records));
        let file = self.file.as_file();
        let result = if new > old {
            allocate(file, old, new - old)
        } else {
            file.set_len(new)
        };
        result.map_err(io_error(self.path()))?;
        self.records = records;
        Ok(())
    }

    /// Writes a record: `bytes` begins with room for the header.
    pub fn write(&self, index: usize, pass: u64, mut bytes: Vec<u8>) -> Result<(), TrainError> {
        let length = (bytes.len() - HEADER) as u64;
        for (at, number) in [(4, index as u64), (12, pass), (20, length)] {
            bytes[at..at + 8].copy_from_slice(&number.to_ne_bytes());
        }
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_ne_bytes());
        write_at(self.file.as_file(), &bytes, self.position(index))
            .map_err(|error| self.error(index, error))
    }

    /// Reads a record that was written in a pass, header and all; what it holds is behind [`HEADER`].
    pub fn read(&self, index: usize, pass: u64) -> Result<Vec<u8>, TrainError> {
        let mut bytes = vec![0; self.size()];
        read_at(self.file.as_file(), &mut bytes, self.position(index)).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                let expected = self.position(self.records);
                let found = self.file.as_file().metadata().map_or(0, |file| file.len());
                let message = format!("the file has {found} bytes, expected {expected}");
                return self.error(index, message);
            }
            self.error(index, error)
        })?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(number)
        };
        let length = usize::try_from(number(20)).unwrap_or(usize::MAX);
        let room = self.size() - HEADER;
        if length > room {
            let message = format!("holds {length} bytes, expected {room} at most");
            return Err(self.error(index, message));
        }
        let place = (number(4), number(12));
        bytes.truncate(HEADER + length);
        let found = crc32fast::hash(&bytes[4..]).to_ne_bytes();
        if found != bytes[..4] {
            let [found, expected] = [&found[..], &bytes[..4]]
                .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            let message = format!("the checksum is {found:08x}, expected {expected:08x}");
            return Err(self.error(index, message));
        }
        if place != (index as u64, pass) {
            let (other, old) = place;
            let message = format!("holds record {other} of pass {old}, expected pass {pass}");
            return Err(self.error(index, message));
        }
        Ok(bytes)
    }

    /// An error at a record.
    pub fn error(&self, index: usize, message: impl ToString) -> TrainError {
        let (records, message) = (self.records, message.to_string());
        TrainError::Cache {
            path: self.path().to_path_buf(),
            message: format!("record {index} of {records}: {message}"),
        }
    }

    fn position(&self, index: usize) -> u64 {
        index as u64 * self.size
    }
}

/// Makes room in a file behind what is there.
#[cfg(target_os = "linux")]
fn allocate(file: &File, at: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), at, length) {
        // The file system cannot promise room: it is looked for as records come.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(at + length),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, at: u64, length: u64) -> io::Result<()> {
    file.set_len(at + length)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

/// One position for both threads, elsewhere: they take turns.
#[cfg(not(unix))]
static POSITION: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let _turn = POSITION
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let _turn = POSITION
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(records: usize) -> (tempfile::TempDir, RecordFile) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path().to_path_buf()).unwrap();
        let file = RecordFile::create(&directory, HEADER + 16, records).unwrap();
        (dir, file)
    }

    fn record(fill: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes.extend(std::iter::repeat_n(fill, length));
        bytes
    }

    fn message(result: Result<Vec<u8>, TrainError>) -> String {
        match result {
            Err(TrainError::Cache { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_are_overwritten_in_place() {
        let (dir, file) = file(3);
        for (index, length) in [16, 16, 5].into_iter().enumerate() {
            file.write(index, 0, record(index as u8, length)).unwrap();
        }
        file.write(1, 1, record(9, 16)).unwrap();
        assert_eq!(file.read(0, 0).unwrap()[HEADER..], [0; 16]);
        assert_eq!(file.read(1, 1).unwrap()[HEADER..], [9; 16]);
        assert_eq!(file.read(2, 0).unwrap()[HEADER..], [2; 5], "a smaller one");
        let length = fs::metadata(file.path()).unwrap().len();
        assert_eq!(length, 3 * (HEADER as u64 + 16));
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let (_dir, file) = file(2);
        file.write(0, 0, record(1, 16)).unwrap();
        file.write(1, 0, record(2, 16)).unwrap();
        let whole = fs::read(file.path()).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(file.path(), flipped).unwrap();
            let broken = at / file.size();
            let found = message(file.read(broken, 0));
            assert!(
                found.starts_with(&format!("record {broken} of 2: ")),
                "{found}"
            );
            file.read(1 - broken, 0).unwrap();
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let (_dir, file) = file(2);
        file.write(0, 0, record(1, 16)).unwrap();
        file.write(1, 0, record(2, 16)).unwrap();
        let handle = File::options().write(true).open(file.path()).unwrap();
        handle.set_len(60).unwrap();
        file.read(0, 0).unwrap();
        let found = message(file.read(1, 0));
        assert_eq!(found, "record 1 of 2: the file has 60 bytes, expected 88");
        // One that grew again by writing holds nothing where it was cut.
        handle.set_len(20).unwrap();
        file.write(1, 0, record(2, 16)).unwrap();
        file.read(1, 0).unwrap();
        let found = message(file.read(0, 0));
        assert!(
            found.starts_with("record 0 of 2: the checksum is "),
            "{found}"
        );
    }

    #[test]
    fn a_record_of_another_time_or_place_is_an_error() {
        let (_dir, file) = file(2);
        file.write(0, 3, record(1, 16)).unwrap();
        let found = message(file.read(0, 4));
        assert_eq!(
            found,
            "record 0 of 2: holds record 0 of pass 3, expected pass 4"
        );
        // Room that was never written.
        let found = message(file.read(1, 0));
        assert!(
            found.starts_with("record 1 of 2: the checksum is "),
            "{found}"
        );
        let whole = fs::read(file.path()).unwrap();
        let (first, _) = whole.split_at(file.size());
        fs::write(file.path(), [first, first].concat()).unwrap();
        let found = message(file.read(1, 3));
        assert_eq!(
            found,
            "record 1 of 2: holds record 0 of pass 3, expected pass 3"
        );
    }
}
