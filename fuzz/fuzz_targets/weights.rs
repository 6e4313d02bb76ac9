//! The safetensors file, of dense or packed weights, with and without a word of the scheme.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let config = burn_eqat_fuzz::CONFIG;
    let gptq = r#""quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 16}"#;
    for config in [format!("{config}}}"), format!("{config}, {gptq}}}")] {
        burn_eqat_fuzz::open(&[
            ("config.json", config.as_bytes()),
            ("model.safetensors", data),
        ]);
    }
});
