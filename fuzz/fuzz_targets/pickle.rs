//! The weights as PyTorch pickles them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let config = format!("{}}}", burn_eqat_fuzz::CONFIG);
    burn_eqat_fuzz::open(&[
        ("config.json", config.as_bytes()),
        ("pytorch_model.bin", data),
    ]);
});
