//! The entry of GPTQ checkpoints in `config.json` and `quantize_config.json`.

use super::dynamic::{group_size, read_rules, read_scheme, write_rules};
use super::layout::module_of;
use super::quantization::{Overrides, Quantization};
use super::schemes::PackedSchemes;
use super::stored::Format;
use serde_json::{Value, json};

/// Reads the entry. The error says what is wrong with it.
pub(super) fn read_gptq(entry: &Value) -> Result<Quantization, String> {
    let said = |name| entry.get(name).filter(|value: &&Value| !value.is_null());
    let scheme = read_scheme(entry, None)?;
    if let Some(pack) = said("pack_dtype").filter(|pack| *pack != "int32") {
        return Err(format!("pack_dtype is {pack}, expected \"int32\""));
    }
    let format = said("checkpoint_format").or_else(|| said("format"));
    let format = match format.map(|format| format.as_str().unwrap_or("")) {
        None | Some("gptq") => Format::GptqV1,
        Some("gptq_v2") => Format::GptqV2,
        Some(other) => {
            return Err(format!(
                "checkpoint_format is {other:?}, expected \"gptq\" or \"gptq_v2\""
            ));
        }
    };
    let rules = match said("dynamic") {
        Some(rules) => read_rules(rules, scheme)?,
        None => Vec::new(),
    };
    Ok(Quantization {
        format,
        scheme,
        overrides: Overrides::Rules(rules),
    })
}

/// The entry for readers of GPTQ checkpoints, version 2.
pub(super) fn gptq_entry(schemes: &PackedSchemes) -> Value {
    let scheme = schemes.scheme;
    let mut entry = json!({
        "quant_method": "gptq",
        "checkpoint_format": "gptq_v2",
        "format": "gptq_v2",
        "bits": scheme.bits.get(),
        "group_size": group_size(scheme),
        "desc_act": false,
        "sym": scheme.symmetric,
        "lm_head": false,
        "pack_dtype": "int32",
        "meta": {"quantizer": [concat!("burn-eqat:", env!("CARGO_PKG_VERSION"))]},
    });
    if !schemes.overrides.is_empty() {
        let overrides = schemes.overrides.iter();
        let modules = overrides.map(|(path, scheme)| (module_of(path), *scheme));
        entry["dynamic"] = write_rules(modules);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gptq_entries() {
        let read = |entry: Value| {
            let found = read_gptq(&entry).unwrap();
            (found.scheme.to_string(), found.format)
        };
        let entry = json!({"bits": 4, "group_size": 128, "sym": false});
        assert_eq!(read(entry), ("w4g128".to_string(), Format::GptqV1));
        let entry = json!({"bits": 3, "group_size": -1, "checkpoint_format": "gptq_v2"});
        assert_eq!(read(entry), ("w3g-1-sym".to_string(), Format::GptqV2));
        for (field, value) in [
            ("desc_act", json!(true)),
            ("bits", json!(5)),
            ("bits", json!("4")),
            ("group_size", json!(0)),
            ("pack_dtype", json!("int16")),
            ("checkpoint_format", json!("marlin")),
            ("sym", json!(1)),
            ("dynamic", json!("x")),
        ] {
            let mut entry = json!({"bits": 4, "group_size": 128});
            entry[field] = value;
            let error = read_gptq(&entry).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
