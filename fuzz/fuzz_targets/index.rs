//! `model.safetensors.index.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let weights = burn_eqat_fuzz::weights(false);
    let config = format!("{}}}", burn_eqat_fuzz::CONFIG);
    burn_eqat_fuzz::open(&[
        ("config.json", config.as_bytes()),
        ("model.safetensors.index.json", data),
        ("a.safetensors", &weights),
    ]);
});
