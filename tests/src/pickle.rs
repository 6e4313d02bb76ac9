//! Files in the format of `torch.save`, with dictionaries of f32 tensors.

use std::fs;
use std::path::Path;

/// A tensor to write: name, shape, values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Writes a state dictionary: a zip archive of a pickle and the bytes of each tensor.
pub fn write_state_dict(path: &Path, tensors: &[Named]) {
    let mut pickle = Pickle::default();
    let mut entries = vec![("version".to_string(), b"3\n".to_vec())];
    for (at, (name, shape, values)) in tensors.iter().enumerate() {
        pickle.tensor(name, at, shape, values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        entries.push((format!("data/{at}"), bytes.collect()));
    }
    entries.insert(0, ("data.pkl".to_string(), pickle.finish()));
    fs::write(path, zip(&entries)).unwrap();
}

#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.0.push(b'J');
        self.0.extend((number as i32).to_le_bytes());
    }

    /// A tuple of numbers.
    fn numbers(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        for number in numbers {
            self.number(*number);
        }
        self.0.push(b't');
    }

    /// `name: torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`
    fn tensor(&mut self, name: &str, storage: usize, shape: &[usize], len: usize) {
        self.text(name);
        self.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.0.extend(b"ctorch\nFloatStorage\n");
        self.text(&storage.to_string());
        self.text("cpu");
        self.number(len);
        self.0.extend(b"tQ");
        self.number(0);
        self.numbers(shape);
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product());
        self.numbers(&strides.collect::<Vec<_>>());
        self.0.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }

    fn finish(self) -> Vec<u8> {
        let mut pickle = b"\x80\x02}(".to_vec();
        pickle.extend(self.0);
        pickle.extend(b"u.");
        pickle
    }
}

/// A zip archive of stored entries in a folder `archive`.
fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let name = format!("archive/{name}");
        let offset = file.len() as u32;
        // Version, flags, method, time, date; checksum and sizes; length of the name and of extras.
        let mut header = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        header.extend(crc32(data).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&header);
        file.extend(name.as_bytes());
        file.extend(data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&header);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    };
    !data.iter().fold(!0, step)
}
