//! The table: printed row by row, and saved.

use crate::work::Work;
use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;

/// One measured op.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    op: String,
    /// `d_output x d_input`.
    shape: String,
    bits: u8,
    group_size: usize,
    /// Rows of the input; 0 if there is no input.
    m: usize,
    microseconds: f64,
    bytes: usize,
    bytes_per_second: f64,
    /// Part of the copy bandwidth.
    share_of_copy: f64,
    dense_microseconds: Option<f64>,
    /// The speed as a multiple of the dense matmul's.
    times_dense: Option<f64>,
    torch_microseconds: Option<f64>,
    gemlite_microseconds: Option<f64>,
}

impl Row {
    /// `dense` is the time of the dense counterpart, in seconds.
    pub fn new(op: &str, work: &Work, bytes: usize, seconds: f64, dense: Option<f64>) -> Self {
        Row {
            op: op.to_owned(),
            shape: format!("{}x{}", work.n, work.k),
            bits: work.bits.into(),
            group_size: work.k / work.groups,
            m: work.m,
            microseconds: seconds * 1e6,
            bytes,
            bytes_per_second: bytes as f64 / seconds,
            share_of_copy: f64::NAN,
            dense_microseconds: dense.map(|dense| dense * 1e6),
            times_dense: dense.map(|dense| dense / seconds),
            torch_microseconds: None,
            gemlite_microseconds: None,
        }
    }

    fn line(&self) -> String {
        let optional = |value: Option<f64>| value.map_or("".into(), |value| format!("{value:.1}"));
        format!(
            "| {} | {} | w{}g{} | {} | {:.1} | {:.0} | {:.0} % | {} | {} | {} | {} |",
            self.op,
            self.shape,
            self.bits,
            self.group_size,
            self.m,
            self.microseconds,
            self.bytes_per_second / 1e9,
            self.share_of_copy * 100.0,
            optional(self.dense_microseconds),
            self.times_dense.map_or("".into(), |t| format!("{t:.2}")),
            optional(self.torch_microseconds),
            optional(self.gemlite_microseconds),
        )
    }
}

/// A time from `torch_baseline.py`.
#[derive(Debug, Deserialize)]
struct Beside {
    /// `torch` or `gemlite`.
    library: String,
    shape: String,
    /// Of GemLite.
    bits: Option<u8>,
    m: usize,
    microseconds: f64,
}

#[cfg(feature = "cube")]
fn name(device: &Device) -> String {
    let identity = device.identity();
    identity.map_or_else(|| format!("{device:?}"), |identity| identity.name)
}

#[cfg(not(feature = "cube"))]
fn name(device: &Device) -> String {
    format!("{device:?}")
}

/// All rows of a run.
#[derive(Serialize)]
pub struct Report {
    device: String,
    activations: String,
    copy_bytes_per_second: f64,
    command: String,
    rows: Vec<Row>,
    #[serde(skip)]
    beside: Vec<Beside>,
}

impl Report {
    /// An empty report; `beside` is a file of `torch_baseline.py`.
    pub fn new(
        device: &Device,
        dtype: FloatDType,
        copy: f64,
        beside: Option<&Path>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let beside = match beside {
            Some(path) => {
                let explain = |why: String| format!("{}: {why}", path.display());
                let text = std::fs::read(path).map_err(|error| explain(error.to_string()))?;
                serde_json::from_slice(&text).map_err(|error| explain(error.to_string()))?
            }
            None => Vec::new(),
        };
        Ok(Report {
            device: name(device),
            activations: format!("{dtype:?}"),
            copy_bytes_per_second: copy,
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            rows: Vec::new(),
            beside,
        })
    }

    /// The device and settings, and the head of the table.
    pub fn heading(&self) -> String {
        format!(
            "{}, activations in {}; a copy moves {:.0} GB/s\n\n\
             | op | weight | scheme | M | us | GB/s | of copy | dense us | x dense | torch us | GemLite us |\n\
             |---|---|---|---|---|---|---|---|---|---|---|",
            self.device,
            self.activations,
            self.copy_bytes_per_second / 1e9
        )
    }

    /// Adds a row and prints it.
    pub fn add(&mut self, mut row: Row) {
        row.share_of_copy = row.bytes_per_second / self.copy_bytes_per_second;
        let time = |library: &str, bits: Option<u8>| {
            let found = self.beside.iter().find(|other| {
                other.library == library
                    && other.shape == row.shape
                    && other.m == row.m
                    && other.bits == bits
            });
            found.map(|other| other.microseconds)
        };
        if row.op == "quant_linear" {
            row.torch_microseconds = time("torch", None);
            row.gemlite_microseconds = time("gemlite", Some(row.bits));
        }
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// Writes `path` with `.json` and `.md` added.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut table = self.heading();
        for row in &self.rows {
            write!(table, "\n{}", row.line()).expect("a string takes everything");
        }
        table.push('\n');
        let with = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            name
        };
        std::fs::write(with(".md"), table)?;
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(with(".json"), json + "\n")
    }
}
