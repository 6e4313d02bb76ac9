//! One binary for all of them: each test binary links all of Burn.

mod any_model;
mod by_block;
mod by_blocks;
mod cache;
mod compute_type;
mod devices;
mod encoder_decoder;
mod evaluation;
mod families;
mod files;
mod foreign;
mod hostile;
mod in_files;
mod lm;
mod phases;
mod published;
mod pytorch;
mod recipe;
mod reference_quantizer;
mod reference_training;
mod refused_ops;
mod repacked;
mod run_dir;
mod select;
mod single_file;
