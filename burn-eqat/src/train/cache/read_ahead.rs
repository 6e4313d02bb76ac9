//! Records of a file in their order, read and decoded by a thread of their own.

use super::directory::io_error;
use super::parts::{FlowError, FlowParts};
use super::record::decode;
use super::record_file::{HEADER, RecordFile};
use crate::train::{Flow, TrainError};
use burn::tensor::Device;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Records that wait to be taken.
const AHEAD: usize = 2;

/// A record that was read and checked.
pub(super) struct Record {
    file: Arc<RecordFile>,
    index: usize,
    hidden: FlowParts,
    context: FlowParts,
}

impl Record {
    fn read(file: &Arc<RecordFile>, index: usize, pass: u64) -> Result<Self, TrainError> {
        let bytes = file.read(index, pass)?;
        let mut rest = &bytes[HEADER..];
        let mut parts = || decode(&mut rest).map_err(|error| file.error(index, error));
        Ok(Self {
            file: file.clone(),
            index,
            hidden: parts()?,
            context: parts()?,
        })
    }

    /// The hidden state, on a device.
    pub fn hidden<T: Flow>(&mut self, device: &Device) -> Result<T, TrainError> {
        let parts = std::mem::take(&mut self.hidden);
        put_together(parts, device).map_err(|error| self.error(error))
    }

    /// What the blocks need besides, on a device.
    pub fn context<T: Flow>(&mut self, device: &Device) -> Result<T, TrainError> {
        let parts = std::mem::take(&mut self.context);
        put_together(parts, device).map_err(|error| self.error(error))
    }

    /// An error at this record.
    pub fn error(&self, error: FlowError) -> TrainError {
        self.file.error(self.index, error)
    }
}

fn put_together<T: Flow>(mut parts: FlowParts, device: &Device) -> Result<T, FlowError> {
    let value = T::put_together(&mut parts, device)?;
    parts.finish()?;
    Ok(value)
}

/// Records in their order; a thread reads, checks and decodes those to come.
pub(super) struct ReadAhead {
    file: Arc<RecordFile>,
    /// Records in all, and the next of them.
    records: usize,
    next: usize,
    /// `None` once the thread is to end.
    receiver: Option<Receiver<Result<Record, TrainError>>>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Begins to read what was written in a pass.
    pub fn start(file: &Arc<RecordFile>, records: usize, pass: u64) -> Result<Self, TrainError> {
        let (sender, receiver) = sync_channel(AHEAD);
        let source = file.clone();
        let thread = Builder::new()
            .name("burn-eqat-cache".to_string())
            .spawn(move || {
                for index in 0..records {
                    let record = Record::read(&source, index, pass);
                    let failed = record.is_err();
                    // Whoever wanted the records may have gone.
                    if sender.send(record).is_err() || failed {
                        break;
                    }
                }
            })
            .map_err(io_error(file.path()))?;
        Ok(Self {
            file: file.clone(),
            records,
            next: 0,
            receiver: Some(receiver),
            thread: Some(thread),
        })
    }
}

impl Iterator for ReadAhead {
    type Item = Result<Record, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.records {
            return None;
        }
        let index = self.next;
        let record = self.receiver.as_ref()?.recv().unwrap_or_else(|_| {
            let message = "the thread that reads it has ended";
            Err(self.file.error(index, message))
        });
        self.next = match record {
            Ok(_) => index + 1,
            Err(_) => self.records,
        };
        Some(record)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // The thread holds the file, which is to be gone when the last of its owners is.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
