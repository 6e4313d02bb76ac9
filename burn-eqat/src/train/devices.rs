//! The devices that a phase works on at the same time.

use super::{Flow, FlowMapper, TrainError};
use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};
use serde_json::Value;

/// Devices in their order. The first is the main one, where the model, the optimizer and validation are.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceList(Vec<Device>);

impl DeviceList {
    pub fn new(devices: Vec<Device>) -> Self {
        Self(devices.into_iter().map(Device::inner).collect())
    }

    /// How many work at the same time.
    pub fn len(&self) -> usize {
        self.0.len().max(1)
    }

    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// The devices, once the model is on the first; the model's own where none were given.
    pub fn of_model<M: Module>(&self, model: &M) -> Result<Vec<Device>, TrainError> {
        let own = model.devices().into_iter().next().map(Device::inner);
        if let Some(own) = &own {
            self.check_main(own)?;
        }
        Ok(match self.0.is_empty() {
            true => own.into_iter().collect(),
            false => self.0.clone(),
        })
    }

    /// Fails where a model on a device is not on the first.
    pub fn check_main(&self, own: &Device) -> Result<(), TrainError> {
        match self.0.first() {
            Some(first) if first != own => Err(TrainError::Setting(format!(
                "the model is on {own:?}, expected it on {first:?}, the first of the devices to train on"
            ))),
            _ => Ok(()),
        }
    }

    /// Says in settings of a run how many there are, since that decides on the batches of a step.
    pub fn add_to(&self, settings: &mut Value) {
        if let (true, Value::Object(settings)) = (self.are_several(), settings) {
            settings.insert("devices".to_string(), self.len().into());
        }
    }
}

/// The same values on another device.
pub(super) fn flow_to_device<F: Flow>(flow: F, device: &Device) -> F {
    struct To<'a>(&'a Device);
    impl FlowMapper for To<'_> {
        fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            tensor.to_device(self.0)
        }
        fn map_int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
            tensor.to_device(self.0)
        }
        fn map_bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
            tensor.to_device(self.0)
        }
    }
    flow.map_tensors(&mut To(device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use serde_json::json;

    #[test]
    fn none_is_the_devices_of_the_model() {
        let device = Device::flex();
        let model = LinearConfig::new(2, 1).init(&device);
        let none = DeviceList::default();
        assert_eq!((none.len(), none.are_several()), (1, false));
        assert_eq!(none.of_model(&model).unwrap(), vec![device.clone()]);
        let two = DeviceList::new(vec![device.clone().autodiff(), device.clone()]);
        assert_eq!((two.len(), two.are_several()), (2, true));
        let found = two.of_model(&model).unwrap();
        assert!(found.iter().all(|found| !found.is_autodiff()));
        assert_eq!(found, [device.clone(), device]);
    }

    #[test]
    fn only_several_are_in_settings() {
        for (count, expected) in [(0, json!({})), (1, json!({})), (3, json!({"devices": 3}))] {
            let mut settings = json!({});
            DeviceList::new(vec![Device::flex(); count]).add_to(&mut settings);
            assert_eq!(settings, expected);
        }
    }
}
