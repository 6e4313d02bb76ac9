//! The `dynamic` entry of GPTQ checkpoints: schemes of some modules, by patterns of their paths.

use crate::pattern::Pattern;
use crate::{GroupSize, Scheme};
use burn_eqat_kernels::Bits;
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;

/// A pattern, and the scheme of the modules that it matches.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The pattern as in the file, with its sign.
    text: String,
    pattern: Pattern,
    /// `None` for modules that are not quantized.
    scheme: Option<Scheme>,
}

/// The rules of an entry, on top of the scheme of the other modules.
pub(super) fn read_rules(entry: &Value, base: Scheme) -> Result<Vec<Rule>, String> {
    let Value::Object(fields) = entry else {
        return Err(format!("dynamic is {entry}, expected an object"));
    };
    fields
        .iter()
        .map(|(text, change)| {
            let within = |message: String| format!("dynamic.{text}: {message}");
            let (negative, pattern) = match (text.strip_prefix("-:"), text.strip_prefix("+:")) {
                (Some(pattern), _) => (true, pattern),
                (None, Some(pattern)) => (false, pattern),
                (None, None) => (false, text.as_str()),
            };
            // Python's `re.match` matches from the beginning.
            let pattern = Pattern::new(&format!("^(?:{pattern})"))
                .map_err(|error| within(error.to_string()))?;
            let scheme = if negative {
                None
            } else {
                Some(read_scheme(change, Some(base)).map_err(within)?)
            };
            Ok(Rule {
                text: text.clone(),
                pattern,
                scheme,
            })
        })
        .collect()
}

/// The scheme of a weight by the rules; `base` if none matches.
///
/// Rules of a file may contradict each other for a weight. The first rule should win, but JSON does not
/// guarantee an order, so this is an error.
pub(super) fn scheme_by_rules(
    rules: &[Rule],
    module: &str,
    base: Scheme,
) -> Result<Scheme, String> {
    let mut matching = rules.iter().filter(|rule| rule.pattern.matches(module));
    let Some(first) = matching.next() else {
        return Ok(base);
    };
    if let Some(other) = matching.find(|other| other.scheme != first.scheme) {
        return Err(format!(
            "dynamic: {:?} and {:?} say different things of {module}",
            first.text, other.text
        ));
    }
    let dense = || {
        format!(
            "dynamic: {:?} says that {module} is not quantized",
            first.text
        )
    };
    first.scheme.ok_or_else(dense)
}

/// The rules for the schemes of these modules, in GPTQModel's form.
pub(super) fn write_rules<'a>(modules: impl Iterator<Item = (&'a str, Scheme)>) -> Value {
    let rules = modules.map(|(module, scheme)| {
        let fields = json!({
            "bits": scheme.bits.get(),
            "group_size": group_size(scheme),
            "sym": scheme.symmetric,
        });
        (format!("+:{}", Pattern::exactly(module).as_str()), fields)
    });
    Value::Object(rules.collect::<Map<String, Value>>())
}

/// A group size as GPTQ checkpoints write it.
pub(super) fn group_size(scheme: Scheme) -> i64 {
    match scheme.group {
        GroupSize::Rows(rows) => rows.get() as i64,
        GroupSize::Column => -1,
    }
}

/// The scheme from `bits`, `group_size` and `sym`; missing values are taken from `base`.
pub(super) fn read_scheme(entry: &Value, base: Option<Scheme>) -> Result<Scheme, String> {
    let said = |name: &str| entry.get(name).filter(|value| !value.is_null());
    let bits = match (said("bits"), base) {
        (None, Some(base)) => base.bits,
        (bits, _) => bits
            .and_then(Value::as_u64)
            .and_then(|bits| Bits::try_from(usize::try_from(bits).ok()?).ok())
            .ok_or_else(|| {
                let found = bits.unwrap_or(&Value::Null);
                format!("bits is {found}, expected 2, 3, 4 or 8")
            })?,
    };
    let group = match (said("group_size"), base) {
        (None, Some(base)) => base.group,
        (group, _) => match group.and_then(Value::as_i64) {
            Some(-1) => GroupSize::Column,
            Some(rows) if (1..=1 << 30).contains(&rows) => {
                GroupSize::Rows(NonZeroUsize::new(rows as usize).expect("it is 1 or more"))
            }
            _ => {
                let found = group.unwrap_or(&Value::Null);
                return Err(format!("group_size is {found}, expected -1 or more than 0"));
            }
        },
    };
    if flag(entry, "desc_act", false)? {
        return Err(
            "desc_act is true, so groups are not in the order of the rows; expected false"
                .to_string(),
        );
    }
    let symmetric = flag(entry, "sym", base.is_none_or(|base| base.symmetric))?;
    Ok(Scheme {
        bits,
        group,
        symmetric,
    })
}

fn flag(entry: &Value, name: &str, default: bool) -> Result<bool, String> {
    match entry.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(format!("{name} is {other}, expected true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Scheme {
        text.parse().unwrap()
    }

    fn of(entry: Value, module: &str) -> Result<String, String> {
        let base = scheme("w2g64");
        let rules = read_rules(&entry, base)?;
        Ok(scheme_by_rules(&rules, module, base)?.to_string())
    }

    #[test]
    fn what_is_written_matches_one_module_only() {
        let modules = [("layers.1.down-proj", scheme("w4g-1-sym"))];
        let entry = write_rules(modules.into_iter());
        let key = r"+:^layers\.1\.down\-proj$";
        let fields = json!({"bits": 4, "group_size": -1, "sym": true});
        assert_eq!(entry, json!({ key: fields }));
        let found = |module: &str| of(entry.clone(), module).unwrap();
        assert_eq!(found("layers.1.down-proj"), "w4g-1-sym");
        assert_eq!(found("layers.11.down-proj"), "w2g64");
        assert_eq!(found("layers.1.down-proj.0"), "w2g64");
    }

    #[test]
    fn rules_of_others_are_read_as_python_reads_them() {
        // A sign may be missing, and patterns match from the beginning.
        let entry = json!({r".*\.1\..*": {"bits": 8, "group_size": 32}});
        assert_eq!(of(entry.clone(), "model.layers.1.up").unwrap(), "w8g32");
        assert_eq!(of(entry, "model.layers.2.up").unwrap(), "w2g64");
        let entry = json!({"up": {"bits": 8}, "+:layers.2": {"sym": true}});
        assert_eq!(of(entry.clone(), "layers.1.up").unwrap(), "w2g64");
        assert_eq!(of(entry, "layers.2.up").unwrap(), "w2g64-sym");
    }

    #[test]
    fn rules_that_cannot_be_followed_are_refused() {
        for (entry, expected) in [
            (json!([]), "expected an object"),
            (json!({"(": {}}), "dynamic.("),
            (json!({"+:up": {"bits": 5}}), "bits is 5"),
            (json!({"+:up": {"desc_act": true}}), "desc_act is true"),
            (json!({"-:up": {}}), "up is not quantized"),
            (
                json!({"u": {"bits": 4}, "up": {"bits": 8}}),
                "different things of up",
            ),
        ] {
            let error = of(entry, "up").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
