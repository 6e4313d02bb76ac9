use super::backend::Backend;
use crate::error::Error;
use burn::tensor::Device;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
use std::panic;
use std::sync::{Arc, Mutex};

/// A device as people write it: a backend, `flex`, or one of its devices, `cuda:1`, `vulkan:integrated:0`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DeviceName {
    backend: Backend,
    /// What is behind the backend's name.
    selector: Option<String>,
}

/// Devices of one backend as people write them, `cuda:0,cuda:1`. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct DeviceNames(Vec<DeviceName>);

/// A text that names no devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeviceError {
    /// No backend at all.
    #[error("{0:?} is no device: expected {known}", known = Backend::expected())]
    Unknown(String),
    /// A backend that this program does not have.
    #[error(
        "{0} is not compiled in: expected {known}, or a program built with the cargo feature {0}",
        known = Backend::expected()
    )]
    NotCompiledIn(String),
    /// The backend has no such device.
    #[error("{name:?} is no device: expected {expected}")]
    Selector {
        /// What was given.
        name: String,
        /// How the backend's devices are written.
        expected: String,
    },
    /// Devices of several backends.
    #[error("{first} and {other} are devices of different backends, expected one backend")]
    Mixed {
        /// The first.
        first: String,
        /// One of another backend.
        other: String,
    },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let (backend, selector) = match name.split_once(':') {
            Some((backend, selector)) => (backend, Some(selector)),
            None => (name, None),
        };
        let name = Self {
            backend: Backend::named(backend)?,
            selector: selector.map(str::to_string),
        };
        // Its form is checked here; whether the machine has it is found when it is used.
        name.device()?;
        Ok(name)
    }
}

impl DeviceName {
    fn device(&self) -> Result<Device, DeviceError> {
        let device = self.backend.device(self.selector.as_deref());
        device.ok_or_else(|| DeviceError::Selector {
            name: self.to_string(),
            expected: self.backend.forms(),
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.name())?;
        match &self.selector {
            Some(selector) => write!(f, ":{selector}"),
            None => Ok(()),
        }
    }
}

impl FromStr for DeviceNames {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let names: Result<Vec<DeviceName>, _> = text.split(',').map(str::parse).collect();
        let names = names?;
        let first = &names[0];
        match names.iter().find(|name| name.backend != first.backend) {
            Some(other) => Err(DeviceError::Mixed {
                first: first.to_string(),
                other: other.to_string(),
            }),
            None => Ok(Self(names)),
        }
    }
}

impl TryFrom<String> for DeviceNames {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<DeviceNames> for String {
    fn from(names: DeviceNames) -> Self {
        names.to_string()
    }
}

impl fmt::Display for DeviceNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(DeviceName::to_string).collect();
        f.write_str(&names.join(","))
    }
}

/// `--device` of the commands that compute on one device.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub(super) struct DeviceArg {
    /// Where to compute: a backend, such as flex, or one of its devices, such as cuda:1. There are more when
    /// their cargo features are [default: flex, or the first there is]
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceNames>,
}

impl DeviceArg {
    /// The device.
    pub(super) fn device(&self) -> Result<Device, Error> {
        let devices = devices(self.device.as_ref())?;
        match <[Device; 1]>::try_from(devices) {
            Ok([device]) => Ok(device),
            Err(devices) => {
                let count = devices.len();
                let message = format!(
                    "--device names {count} devices, expected one: only quantize trains on several"
                );
                Err(Error::Setting(message))
            }
        }
    }
}

/// `--device` of quantize.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub(super) struct DevicesArg {
    /// Where to compute: a backend, such as flex, or one of its devices, such as cuda:1, or several to train
    /// on at the same time, such as cuda:0,cuda:1. There are more when their cargo features
    /// are [default: flex, or the first there is]
    #[arg(long, value_name = "NAME[,NAME]")]
    device: Option<DeviceNames>,
}

impl DevicesArg {
    /// The devices; the first is the main one.
    pub(super) fn devices(&self) -> Result<Vec<Device>, Error> {
        devices(self.device.as_ref())
    }

    /// Whether they have a memory of their own, besides the host's. A backend's default device is taken for one that has.
    pub(super) fn have_memory(&self) -> bool {
        let selected = self.device.as_ref().map(|names| &names.0[0].selector);
        let selected = selected.and_then(Option::as_deref).unwrap_or_default();
        has_memory(self.backend(), selected)
    }

    /// Whether the ops of a transformer are fused.
    pub(super) fn are_fused(&self) -> bool {
        self.backend() == "flex"
    }

    /// The name of their backend; empty where there is none.
    fn backend(&self) -> &'static str {
        let named = self.device.as_ref().map(|names| names.0[0].backend);
        let backend = named.or_else(|| Backend::first().ok());
        backend.map_or("", Backend::name)
    }

    /// How many were given, if any were.
    pub(super) fn count(&self) -> usize {
        self.device.as_ref().map_or(1, |names| names.0.len())
    }
}

/// Whether a device has a memory of its own: CPUs, GPUs in the same chip and all of Metal's share the host's.
fn has_memory(backend: &str, selector: &str) -> bool {
    !["flex", "cpu", "tch", "ndarray", "metal"].contains(&backend)
        && selector != "cpu"
        && !selector.starts_with("integrated")
}

/// The named devices; one of the first backend there is, where none are named.
fn devices(names: Option<&DeviceNames>) -> Result<Vec<Device>, Error> {
    let devices = match names {
        Some(DeviceNames(names)) => names.iter().map(DeviceName::device).collect(),
        None => Backend::first()
            .and_then(|backend| {
                DeviceName {
                    backend,
                    selector: None,
                }
                .device()
            })
            .map(|device| vec![device]),
    };
    let devices: Vec<Device> =
        devices.map_err(|error: DeviceError| Error::Setting(format!("--device: {error}")))?;
    for device in &devices {
        open(device).map_err(|why| {
            let name = names.map_or_else(|| format!("{device:?}"), DeviceNames::to_string);
            Error::Setting(format!("--device: cannot open {name}: {why}"))
        })?;
    }
    Ok(devices)
}

/// Opens a device. Burn panics where the machine has no such device or no driver for it, in a thread of its own and then in this
/// one: the first message says why.
fn open(device: &Device) -> Result<(), String> {
    let first = Arc::new(Mutex::new(None));
    let hook = panic::take_hook();
    let kept = first.clone();
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("no message").to_string();
        if let Ok(mut first) = kept.lock() {
            first.get_or_insert(message);
        }
    }));
    let opened = panic::catch_unwind(|| device.sync());
    panic::set_hook(hook);
    let first = first.lock().ok().and_then(|mut first| first.take());
    match opened {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(first.unwrap_or_else(|| "Burn cannot".into())),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<DeviceNames>().unwrap_err().to_string()
    }

    #[test]
    fn devices_read_as_they_are_written() {
        for (text, count) in [("flex", 1), ("flex:0", 1), ("flex,flex:0,flex", 3)] {
            let names: DeviceNames = text.parse().unwrap();
            assert_eq!(names.to_string(), text);
            let json = serde_json::to_string(&names).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<DeviceNames>(&json).unwrap(), names);
            let device = Some(names);
            let found = DevicesArg {
                device: device.clone(),
            }
            .devices()
            .unwrap();
            assert_eq!(found, vec![Device::flex(); count]);
            assert_eq!(DeviceArg { device }.device().is_ok(), count == 1);
        }
    }

    #[test]
    fn some_share_the_memory_of_the_host() {
        for (name, own) in [
            ("flex", false),
            ("metal", false),
            ("vulkan:cpu", false),
            ("wgpu:cpu", false),
            ("vulkan:integrated:0", false),
            ("vulkan:discrete:1", true),
            ("wgpu", true),
            ("cuda:1", true),
            ("rocm", true),
        ] {
            let (backend, selector) = name.split_once(':').unwrap_or((name, ""));
            assert_eq!(has_memory(backend, selector), own, "{name}");
        }
    }

    #[test]
    fn none_is_flex() {
        assert_eq!(DeviceArg { device: None }.device().unwrap(), Device::flex());
        let none = DevicesArg { device: None };
        assert_eq!(
            (none.devices().unwrap(), none.count()),
            (vec![Device::flex()], 1)
        );
    }

    #[test]
    fn what_is_no_device_is_named() {
        let start = |text: &str, expected: &str| {
            let found = error(text);
            assert!(found.starts_with(expected), "{text}: {found}");
        };
        start("gpu", "\"gpu\" is no device: expected one of flex");
        start("", "\"\" is no device: expected one of flex");
        start("flex,", "\"\" is no device: expected one of flex");
        start("flex:1", "\"flex:1\" is no device: expected flex");
        start("flex:a", "\"flex:a\" is no device: expected flex");
        #[cfg(not(feature = "cuda"))]
        start("cuda:0", "cuda is not compiled in: expected one of flex");
        let device = Some("flex,flex".parse().unwrap());
        let error = DeviceArg { device }.device().unwrap_err().to_string();
        assert!(
            error.starts_with("--device names 2 devices, expected one"),
            "{error}"
        );
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn backends_do_not_mix() {
        let found = error("flex,ndarray");
        assert_eq!(
            found,
            "flex and ndarray are devices of different backends, expected one backend"
        );
    }
}
