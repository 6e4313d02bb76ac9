//! `config.json`, and `generation_config.json` beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let weights = burn_eqat_fuzz::weights(false);
    burn_eqat_fuzz::open(&[
        ("config.json", data),
        ("generation_config.json", data),
        ("model.safetensors", &weights),
    ]);
});
