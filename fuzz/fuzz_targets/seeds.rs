//! Writes a valid file of each kind into the corpora.

use burn_eqat_fuzz::pickle::write_state_dict;
use burn_eqat_fuzz::{CONFIG, open, tensors, weights};
use std::fs;
use std::path::Path;

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
    fs::create_dir_all("corpus/pickle").unwrap();
    let pickled = Path::new("corpus/pickle/dense");
    write_state_dict(pickled, &tensors());
    open(&[
        ("config.json", config.as_bytes()),
        ("pytorch_model.bin", &fs::read(pickled).unwrap()),
    ]);
}
