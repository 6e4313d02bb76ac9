//! Step-size adapters: several sets of step sizes on one packed model.

mod files;
mod llama;
mod small;
