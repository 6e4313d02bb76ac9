//! What differs between the settings that a run began with and those of now.

use serde_json::{Map, Value};

/// A setting that differs.
pub(super) struct Difference {
    /// Its name, with those of the maps that it is in: `block_ap.epochs`.
    pub name: String,
    pub begun: String,
    pub now: String,
}

/// The first difference between two values, in the order of names.
pub(super) fn difference(name: &str, begun: &Value, now: &Value) -> Option<Difference> {
    if begun == now || is_same_number(begun, now) {
        return None;
    }
    if let (Value::Object(begun), Value::Object(now)) = (begun, now) {
        return in_maps(name, begun, now);
    }
    Some(Difference {
        name: name.to_string(),
        begun: shown(begun),
        now: shown(now),
    })
}

/// Whether two numbers are the same but for what reading them as text may cost.
fn is_same_number(begun: &Value, now: &Value) -> bool {
    match (begun.as_f64(), now.as_f64()) {
        (Some(begun), Some(now)) => (begun - now).abs() <= 1e-14 * begun.abs(),
        _ => false,
    }
}

fn in_maps(name: &str, begun: &Map<String, Value>, now: &Map<String, Value>) -> Option<Difference> {
    let keys = begun.keys().chain(now.keys());
    let mut keys: Vec<&String> = keys.collect();
    keys.sort();
    keys.into_iter().find_map(|key| {
        let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
        difference(&format!("{name}.{key}"), &of(begun), &of(now))
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not given".to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
