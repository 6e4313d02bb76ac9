//! One cache on disk.

use super::CacheDType;
use super::directory::Directory;
use super::parts::{FlowError, FlowParts};
use super::read_ahead::{ReadAhead, Record};
use super::record::encode;
use super::record_file::{HEADER, RecordFile};
use crate::train::{Flow, TrainError};
use std::sync::Arc;

/// Hidden states and contexts of all batches in a file. Its records are as large as the largest batch; a smaller one fits.
pub(super) struct DiskCache {
    directory: Arc<Directory>,
    file: Arc<RecordFile>,
    /// How often the records were written.
    pass: u64,
    records: usize,
    /// Bytes of the first record.
    first: usize,
}

impl DiskCache {
    /// An empty cache with room for records of the size of the first one.
    pub fn create(
        directory: &Arc<Directory>,
        first: usize,
        records: usize,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            directory: directory.clone(),
            file: Arc::new(RecordFile::create(directory, first, records)?),
            pass: 0,
            records: 0,
            first,
        })
    }

    pub fn records(&self) -> usize {
        self.records
    }

    /// Appends a record.
    pub fn push(&mut self, record: Vec<u8>) -> Result<(), TrainError> {
        let index = self.records;
        if record.len() > self.file.size() {
            self.file = self.larger(&self.file, record.len(), index, self.pass)?;
        }
        if index == self.file.records() {
            self.reserve(index + 1 + index / 2)?;
        }
        self.file.write(index, self.pass, record)?;
        self.records += 1;
        Ok(())
    }

    /// Gives back the room that was made for more records than came.
    pub fn shrink(&mut self) -> Result<(), TrainError> {
        match Arc::get_mut(&mut self.file) {
            Some(file) if file.records() > self.records => file.set_records(self.records),
            _ => Ok(()),
        }
    }

    fn reserve(&mut self, records: usize) -> Result<(), TrainError> {
        let more = records.saturating_sub(self.file.records());
        let bytes = self.file.size() as u64 * more as u64;
        self.directory.check_room(bytes)?;
        match Arc::get_mut(&mut self.file) {
            Some(file) => file.set_records(records),
            None => Err(self
                .file
                .error(records, "is being read, expected nobody there")),
        }
    }

    /// All records in their order.
    pub fn read(&self) -> Result<ReadAhead, TrainError> {
        ReadAhead::start(&self.file, self.records, self.pass)
    }

    /// Replaces each record with what `step` makes of it, in place. Where a record comes out in another size, the file is made
    /// anew. After an error the cache is of no use.
    pub fn advance(
        &mut self,
        mut step: impl FnMut(Record) -> Result<Vec<u8>, TrainError>,
    ) -> Result<(), TrainError> {
        let pass = self.pass + 1;
        let mut written = self.file.clone();
        for (index, record) in self.read()?.enumerate() {
            let record = step(record?)?;
            if index == 0 && record.len() != self.first {
                written = self.another(record.len())?;
                self.first = record.len();
            } else if record.len() > written.size() {
                written = self.larger(&written, record.len(), index, pass)?;
            }
            written.write(index, pass, record)?;
        }
        self.file = written;
        self.pass = pass;
        Ok(())
    }

    /// A file for records of another size.
    fn another(&self, size: usize) -> Result<Arc<RecordFile>, TrainError> {
        let records = self.file.records();
        self.directory.check_room(size as u64 * records as u64)?;
        let file = RecordFile::create(&self.directory, size, records)?;
        Ok(Arc::new(file))
    }

    /// A file for larger records that has the first ones of another already.
    fn larger(
        &self,
        file: &RecordFile,
        size: usize,
        records: usize,
        pass: u64,
    ) -> Result<Arc<RecordFile>, TrainError> {
        // Somewhat larger than needed: batches that grow one by one are not copied each time.
        let larger = self.another(size.max(file.size() + file.size() / 8))?;
        for index in 0..records {
            larger.write(index, pass, file.read(index, pass)?)?;
        }
        Ok(larger)
    }

    /// Hidden state and context as a record. Only the hidden state is rounded: a context may hold positions or masks.
    pub fn encode<H: Flow, C: Flow>(
        hidden: H,
        context: C,
        dtype: CacheDType,
    ) -> Result<Vec<u8>, FlowError> {
        let mut record = vec![0; HEADER];
        let mut parts = FlowParts::default();
        hidden.take_apart(&mut parts)?;
        encode(parts, Some(dtype), &mut record)?;
        let mut parts = FlowParts::default();
        context.take_apart(&mut parts)?;
        encode(parts, None, &mut record)?;
        Ok(record)
    }

    /// An error at a record that is to be written.
    pub fn error(&self, index: usize, error: FlowError) -> TrainError {
        self.file.error(index, error)
    }
}
