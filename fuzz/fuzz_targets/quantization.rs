//! The entry `quantization_config`, and `quantize_config.json` in its place, before packed weights.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let weights = burn_eqat_fuzz::weights(true);
    let config = burn_eqat_fuzz::CONFIG;
    let entry = String::from_utf8_lossy(data);
    let whole = format!("{config}, \"quantization_config\": {entry}}}");
    burn_eqat_fuzz::open(&[
        ("config.json", whole.as_bytes()),
        ("model.safetensors", &weights),
    ]);
    let bare = format!("{config}}}");
    burn_eqat_fuzz::open(&[
        ("config.json", bare.as_bytes()),
        ("quantize_config.json", data),
        ("model.safetensors", &weights),
    ]);
});
