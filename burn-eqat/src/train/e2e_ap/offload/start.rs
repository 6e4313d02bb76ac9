//! A model whose blocks are in files, fake-quantized block by block.

use super::block_file::{BlockFile, remove_others};
use super::blocks::InFiles;
use super::skeleton::emptied;
use super::trainee::{STATE, State, Steps, Walked};
use crate::RunDir;
use crate::files::FileError;
use crate::module::{FakeQuantized, fake_quantized, is_under};
use crate::train::e2e_ap::E2eApConfig;
use crate::train::e2e_qp::{Schedule, most_bits};
use crate::train::param_rates::ParamRates;
use crate::train::trained::trains_in_block;
use crate::train::{Blockwise, Phase, TrainError, with_block};
use crate::{Quantize, SizeReport};
use burn::train::LearnerModel;
use serde_json::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// What trains, and how a batch gives a step.
pub(in crate::train::e2e_ap) struct Start<M> {
    pub trainee: Walked<M>,
    pub steps: Steps<M>,
    pub schedule: Schedule,
}

/// Puts each block of a packed model into the run directory, its weights near to those of the original; goes on where a run was left.
pub(in crate::train::e2e_ap) fn start<M: LearnerModel + Blockwise>(
    config: &E2eApConfig,
    packed: M,
    original: &M,
    run: &RunDir,
) -> Result<Start<M>, TrainError> {
    let packed = packed.valid();
    let state = match run.note(STATE) {
        None | Some(Value::Null) => None,
        Some(state) => {
            let state: Result<State, _> = serde_json::from_value(state);
            Some(state.map_err(|error| FileError::invalid(run.path(), error))?)
        }
    };
    let mut blocks = Blocks::default();
    let (mut digests, mut size) = (Vec::new(), SizeReport::of_part(&packed, &|_| true));
    for (index, path) in packed.blocks().iter().enumerate() {
        let loaded = with_block(&packed, index)?;
        let inside = |param: &str| is_under(param, path);
        digests.push(Value::from(run.digest(&loaded, &inside)?));
        size = size.and(SizeReport::of_part(&loaded, &inside));
        let near = loaded.fake_quantize_near(&with_block(original, index)?)?;
        blocks.add(run, index, path, near, state.is_some())?;
    }
    run.agree("e2e_ap_packed_model", digests.into())?;
    remove_others(run, &blocks.names())?;

    let bits = blocks.weights.iter();
    let bits = most_bits(bits.map(|weight| (weight.scheme.bits, weight.weights)));
    let bits = bits.ok_or(TrainError::NoFakeQuantizedWeights)?;
    let rates = config.rates(size.packed_weights + size.dense_params, bits);
    let schedule = Schedule::of(Phase::E2eAp, &config.as_e2e_qp(), rates, 1.0);
    let mut own = schedule.clone();
    if let Some(state) = &state {
        own.go_on_from(state.position.step);
    }
    let device = blocks.skeletons.iter().flat_map(|block| block.devices());
    let device = device.into_iter().next();
    let device = device.ok_or(TrainError::NoFakeQuantizedWeights)?;
    let kept = match &state {
        Some(_) => blocks.names(),
        None => Vec::new(),
    };
    let files = Rc::new(RefCell::new(InFiles {
        run: run.clone(),
        skeletons: blocks.skeletons,
        files: blocks.files,
        kept,
        weights: blocks
            .weights
            .into_iter()
            .map(|weight| weight.path)
            .collect(),
        schedule: own,
        highest: rates,
        params: blocks.params,
        max_norm: config.max_grad_norm,
        moments: config.moments,
        norm_before: (state.as_ref()).and_then(|state| state.norm.map(f64::from_bits)),
        wrong: None,
        steps: state.as_ref().map_or(0, |state| state.position.step),
        rates: 0.0.into(),
    }));
    Ok(Start {
        steps: Steps(files.clone()),
        trainee: Walked {
            shell: packed.clone().train().no_grad(),
            files,
            packed,
            rounds: config.round_scales,
            device: device.inner(),
            from: state.map(|state| state.position),
        },
        schedule,
    })
}

/// The blocks so far.
struct Blocks<M> {
    skeletons: Vec<M>,
    params: Vec<ParamRates>,
    files: Vec<BlockFile>,
    weights: Vec<FakeQuantized>,
}

impl<M> Default for Blocks<M> {
    fn default() -> Self {
        Self {
            skeletons: Vec::new(),
            params: Vec::new(),
            files: Vec::new(),
            weights: Vec::new(),
        }
    }
}

impl<M: Blockwise> Blocks<M> {
    /// Adds block `index`, which `near` has fake-quantized. Its file is there where the run goes on.
    fn add(
        &mut self,
        run: &RunDir,
        index: usize,
        path: &str,
        near: M,
        goes_on: bool,
    ) -> Result<(), TrainError> {
        let mut weights = fake_quantized(&near);
        weights.retain(|weight| is_under(&weight.path, path));
        let selected = |param: &str| weights.iter().any(|weight| weight.path == param);
        let trains = |param: &str| trains_in_block(param, path, &selected);
        // Of the start, also where the run goes on.
        self.params.push(ParamRates::of(&near, &trains));
        self.weights.extend(weights);
        self.files.push(match goes_on {
            false => BlockFile::begin(run, index, path, &near)?,
            true => {
                let role = BlockFile::role(index);
                let stored = run.stored(&role)?;
                let stored = stored.and_then(|stored| {
                    let name = stored.path.file_name()?;
                    Some(name.to_string_lossy().into_owned())
                });
                let gone = || {
                    let message =
                        format!("the file of {role} is gone: delete the run to begin again");
                    FileError::invalid(run.path(), message)
                };
                BlockFile::resume(index, path, stored.ok_or_else(gone)?)
            }
        });
        self.skeletons.push(emptied(near, path));
        Ok(())
    }

    /// The names of the files.
    fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }
}
