//! The `quantization_config` entry of `config.json`.

use super::gptq::read_gptq;
use super::quantization::{Overrides, Quantization};
use super::schemes::PackedSchemes;
use super::stored::Format;
use crate::Scheme;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of this project's packed format in `quant_method`.
const QUANT_METHOD: &str = "burn-eqat";

/// Reads the entry. The error says what is wrong with it.
pub(super) fn read_entry(entry: &Value) -> Result<Quantization, String> {
    match entry.get("quant_method").and_then(Value::as_str) {
        Some(QUANT_METHOD) => read_own(entry),
        Some("gptq") => read_gptq(entry),
        _ => {
            let found = entry.get("quant_method").unwrap_or(&Value::Null);
            Err(format!(
                "quant_method is {found}, expected {QUANT_METHOD:?} or \"gptq\""
            ))
        }
    }
}

fn read_own(entry: &Value) -> Result<Quantization, String> {
    let read = |value: &Value| {
        let text = value.as_str().unwrap_or("");
        text.parse::<Scheme>().map_err(|error| error.to_string())
    };
    let scheme = entry.get("scheme").unwrap_or(&Value::Null);
    let scheme = read(scheme).map_err(|error| format!("scheme: {error}"))?;
    let overrides = match entry.get("overrides") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(overrides)) => overrides
            .iter()
            .map(|(path, scheme)| {
                let scheme = read(scheme).map_err(|error| format!("overrides.{path}: {error}"))?;
                Ok((path.clone(), scheme))
            })
            .collect::<Result<_, String>>()?,
        Some(other) => return Err(format!("overrides is {other}, expected an object")),
    };
    Ok(Quantization {
        format: Format::BurnEqat,
        scheme,
        overrides: Overrides::Paths(overrides),
    })
}

/// This project's entry.
pub(super) fn own_entry(schemes: &PackedSchemes) -> Value {
    let mut entry = json!({
        "quant_method": QUANT_METHOD,
        "scheme": schemes.scheme,
        "bits": schemes.scheme.bits.get(),
        "sym": schemes.scheme.symmetric,
    });
    if !schemes.overrides.is_empty() {
        entry["overrides"] = json!(schemes.overrides);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let schemes = PackedSchemes {
            scheme: "w2g64".parse().unwrap(),
            overrides: BTreeMap::from([("a.weight".to_string(), "w4g-1-sym".parse().unwrap())]),
        };
        let entry = own_entry(&schemes);
        assert_eq!(entry["overrides"], json!({"a.weight": "w4g-1-sym"}));
        let found = read_entry(&entry).unwrap();
        let of = |path: &str| found.of(path).unwrap().scheme.to_string();
        assert_eq!(
            (of("a.weight"), of("b.weight")),
            ("w4g-1-sym".into(), "w2g64".into())
        );
    }

    #[test]
    fn entries_that_make_no_sense_are_refused() {
        for (field, value) in [
            ("quant_method", json!("awq")),
            ("scheme", json!(3)),
            ("scheme", json!("w9g16")),
            ("overrides", json!([])),
            ("overrides", json!({"a.weight": "int4"})),
        ] {
            let mut entry = json!({"quant_method": QUANT_METHOD, "scheme": "w2g64"});
            entry[field] = value;
            let error = read_entry(&entry).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
