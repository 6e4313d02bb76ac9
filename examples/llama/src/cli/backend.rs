//! Burn's backends by their names.

use super::device::DeviceError;
use burn::tensor::Device;

/// How the devices of a backend are told apart.
#[allow(dead_code)] // the features decide which of them there are
enum Select {
    /// There is one.
    One(fn() -> Device),
    /// By a number.
    Index(fn(usize) -> Device),
    /// By kind and number, as graphics interfaces do.
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    Kind(fn(burn::tensor::DeviceKind) -> Device),
}

/// A backend of Burn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backend {
    name: &'static str,
    /// `None` where it is not compiled in.
    select: Option<&'static Select>,
}

/// A backend, whose devices there are where its feature is on.
macro_rules! backend {
    ($name:literal, $select:expr) => {
        Backend {
            name: $name,
            #[cfg(feature = $name)]
            select: Some(&$select),
            #[cfg(not(feature = $name))]
            select: None,
        }
    };
}

/// All of them, the default first.
#[allow(deprecated)] // Burn's NdArray and LibTorch
const BACKENDS: [Backend; 9] = [
    // Burn's own CPU backend.
    backend!("flex", Select::One(Device::flex)),
    // CubeCL's CPU runtime.
    backend!("cpu", Select::One(Device::cpu)),
    backend!("wgpu", Select::Kind(Device::wgpu)),
    // Through SPIR-V.
    backend!("vulkan", Select::Kind(Device::vulkan)),
    backend!("metal", Select::Kind(Device::metal)),
    // NVIDIA.
    backend!("cuda", Select::Index(Device::cuda)),
    // AMD.
    backend!("rocm", Select::Index(Device::rocm)),
    // LibTorch's CPU.
    backend!("tch", Select::One(Device::libtorch)),
    backend!("ndarray", Select::One(Device::ndarray)),
];

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Backend {}

impl std::fmt::Debug for Select {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Select")
    }
}

impl Backend {
    /// The backend of that name, if it is compiled in.
    pub fn named(name: &str) -> Result<Self, DeviceError> {
        let found = BACKENDS.into_iter().find(|backend| backend.name == name);
        let found = found.ok_or_else(|| DeviceError::Unknown(name.to_string()))?;
        if found.select.is_none() {
            return Err(DeviceError::NotCompiledIn(name.to_string()));
        }
        Ok(found)
    }

    /// Flex if it is compiled in, else the first that is.
    pub fn first() -> Result<Self, DeviceError> {
        let mut there = BACKENDS
            .into_iter()
            .filter(|backend| backend.select.is_some());
        there
            .next()
            .ok_or_else(|| DeviceError::NotCompiledIn(BACKENDS[0].name.to_string()))
    }

    pub fn name(self) -> &'static str {
        self.name
    }

    /// The backends that are compiled in, as an error says what is expected.
    pub fn expected() -> String {
        let there = BACKENDS
            .into_iter()
            .filter(|backend| backend.select.is_some());
        let forms: Vec<String> = there.map(Self::forms).collect();
        match &forms[..] {
            [] => "a program that has a backend".to_string(),
            forms => format!("one of {}", forms.join("; ")),
        }
    }

    /// How its devices are written.
    pub fn forms(self) -> String {
        let name = self.name;
        match self.select {
            None | Some(Select::One(_)) => name.to_string(),
            Some(Select::Index(_)) => format!("{name} or {name}:NUMBER"),
            #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
            Some(Select::Kind(_)) => format!(
                "{name}, {name}:cpu, or {name}:discrete:NUMBER, integrated or virtual likewise"
            ),
        }
    }

    /// One of its devices, by what is behind its name; `None` where there is no such form.
    pub fn device(self, selector: Option<&str>) -> Option<Device> {
        match self.select? {
            Select::One(device) => matches!(selector, None | Some("0")).then(device),
            Select::Index(device) => selector.unwrap_or("0").parse().ok().map(device),
            #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
            Select::Kind(device) => kind(selector).map(device),
        }
    }
}

/// The kind of a device of a graphics interface.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
fn kind(selector: Option<&str>) -> Option<burn::tensor::DeviceKind> {
    use burn::tensor::DeviceKind;
    let Some(selector) = selector else {
        return Some(DeviceKind::DefaultDevice);
    };
    if selector == "cpu" {
        return Some(DeviceKind::Cpu);
    }
    let (kind, index) = selector.split_once(':')?;
    let index = index.parse().ok()?;
    match kind {
        "discrete" => Some(DeviceKind::DiscreteGpu(index)),
        "integrated" => Some(DeviceKind::IntegratedGpu(index)),
        "virtual" => Some(DeviceKind::VirtualGpu(index)),
        _ => None,
    }
}
