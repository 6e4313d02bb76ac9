//! The file itself: metadata, a table of tensors, their data.

use crate::error::Error;
use burn_eqat::files::{FileError, StagedFile, check_room};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Tensor data begins at multiples of this many bytes.
const ALIGNMENT: usize = 32;

/// A value of the metadata.
#[derive(Clone, Debug)]
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Value::Text(text.to_string())
    }

    /// The format's number for the type.
    fn code(&self) -> u32 {
        match self {
            Value::U32(_) => 4,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::Text(_) => 8,
            Value::Texts(_) | Value::F32s(_) | Value::I32s(_) => 9,
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        fn array(out: &mut impl Write, code: u32, len: usize) -> std::io::Result<()> {
            out.write_all(&code.to_le_bytes())?;
            out.write_all(&(len as u64).to_le_bytes())
        }
        match self {
            Value::U32(value) => out.write_all(&value.to_le_bytes()),
            Value::F32(value) => out.write_all(&value.to_le_bytes()),
            Value::Bool(value) => out.write_all(&[u8::from(*value)]),
            Value::Text(value) => text(out, value),
            Value::Texts(values) => {
                array(out, 8, values.len())?;
                values.iter().try_for_each(|value| text(out, value))
            }
            Value::F32s(values) => {
                array(out, 6, values.len())?;
                values
                    .iter()
                    .try_for_each(|value| out.write_all(&value.to_le_bytes()))
            }
            Value::I32s(values) => {
                array(out, 5, values.len())?;
                values
                    .iter()
                    .try_for_each(|value| out.write_all(&value.to_le_bytes()))
            }
        }
    }
}

fn text(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

/// The storage type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q8_0,
    Q2_0,
}

impl Kind {
    /// The format's number for the type.
    fn code(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::F16 => 1,
            Kind::Q4_0 => 2,
            Kind::Q4_1 => 3,
            Kind::Q8_0 => 8,
            Kind::Q2_0 => 42,
        }
    }

    /// The numbers in a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Kind::F32 => (1, 4),
            Kind::F16 => (1, 2),
            Kind::Q4_0 => (32, 18),
            Kind::Q4_1 => (32, 20),
            Kind::Q8_0 => (32, 34),
            Kind::Q2_0 => (64, 18),
        }
    }
}

struct TensorEntry {
    name: String,
    /// The innermost first.
    dims: Vec<usize>,
    kind: Kind,
    bytes: Box<dyn Fn() -> Vec<u8>>,
}

impl TensorEntry {
    fn len(&self) -> usize {
        let (numbers, bytes) = self.kind.block();
        self.dims.iter().product::<usize>() / numbers * bytes
    }
}

/// A file to be written. The data of each tensor is made only when it is written.
#[derive(Default)]
pub(super) struct File {
    metadata: Vec<(String, Value)>,
    tensors: Vec<TensorEntry>,
}

impl File {
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.push((key.to_string(), value));
    }

    pub fn add(
        &mut self,
        name: &str,
        dims: Vec<usize>,
        kind: Kind,
        bytes: impl Fn() -> Vec<u8> + 'static,
    ) {
        self.tensors.push(TensorEntry {
            name: name.to_string(),
            dims,
            kind,
            bytes: Box::new(bytes),
        });
    }

    /// Bytes of the tensors' data.
    fn bytes(&self) -> usize {
        let padded = |tensor: &TensorEntry| tensor.len().next_multiple_of(ALIGNMENT);
        self.tensors.iter().map(padded).sum()
    }

    /// Writes a temporary file, and renames it.
    pub fn write(&self, target: &Path) -> Result<(), Error> {
        check_room(target, self.bytes() as u64)?;
        let mut staged = StagedFile::begin(target)?;
        self.write_to(&mut BufWriter::new(staged.file()))
            .map_err(|error| FileError::Io {
                path: target.to_path_buf(),
                error,
            })?;
        Ok(staged.commit()?)
    }

    fn write_to(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut head = Vec::new();
        head.write_all(b"GGUF")?;
        head.write_all(&3u32.to_le_bytes())?;
        head.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        head.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in &self.metadata {
            text(&mut head, key)?;
            head.write_all(&value.code().to_le_bytes())?;
            value.write(&mut head)?;
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            text(&mut head, &tensor.name)?;
            head.write_all(&(tensor.dims.len() as u32).to_le_bytes())?;
            for dim in &tensor.dims {
                head.write_all(&(*dim as u64).to_le_bytes())?;
            }
            head.write_all(&tensor.kind.code().to_le_bytes())?;
            head.write_all(&(offset as u64).to_le_bytes())?;
            offset += tensor.len().next_multiple_of(ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&head)?;
        for tensor in &self.tensors {
            let mut bytes = (tensor.bytes)();
            assert_eq!(bytes.len(), tensor.len(), "{}", tensor.name);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            out.write_all(&bytes)?;
        }
        out.flush()
    }
}
