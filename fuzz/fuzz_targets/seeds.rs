//! Writes a valid file of each kind into the corpora.

use burn_eqat_fuzz::{CONFIG, open, weights};
use std::fs;

fn main() {
    let config = format!("{CONFIG}}}");
    let entry = r#"{"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": false}"#;
    let packed = format!("{CONFIG}, \"quantization_config\": {entry}}}");
    open(&[
        ("config.json", config.as_bytes()),
        ("model.safetensors", &weights(false)),
    ]);
    open(&[
        ("config.json", packed.as_bytes()),
        ("model.safetensors", &weights(true)),
    ]);
    let index = r#"{"metadata": {}, "weight_map": {"model.norm.weight": "a.safetensors"}}"#;
    for (target, name, bytes) in [
        ("config", "dense", config.as_bytes()),
        ("quantization", "gptq", entry.as_bytes()),
        ("index", "one", index.as_bytes()),
        ("weights", "dense", &weights(false)),
        ("weights", "packed", &weights(true)),
    ] {
        let folder = format!("corpus/{target}");
        fs::create_dir_all(&folder).unwrap();
        fs::write(format!("{folder}/{name}"), bytes).unwrap();
    }
}
