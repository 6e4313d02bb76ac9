use super::tensor_file::Located;
use std::collections::BTreeMap;

/// Other names of a checkpoint's tensors than those of the module's parameters.
///
/// Published checkpoints differ in details: tied tensors are stored under either name, a prefix of all names
/// is left out, and computed buffers are stored.
///
/// ```
/// use burn_eqat::files::Naming;
///
/// let naming = Naming::new()
///     .with_alias("model.embed_tokens.weight", "lm_head.weight")
///     .with_optional_prefix("model.", &["lm_head."])
///     .with_ignored("rotary_emb.inv_freq");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Naming {
    moved: Vec<(String, String)>,
    prefix: Option<(String, Vec<String>)>,
    aliases: Vec<(String, String)>,
    ignored: Vec<String>,
}

impl Naming {
    /// Only the names of the module.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names that begin with `other` begin with `prefix` instead: a part of the model that files have elsewhere. May be
    /// repeated; each moves what those before it have made. A name that is taken is not given twice.
    ///
    /// It comes before all else.
    pub fn with_moved_prefix(mut self, prefix: &str, other: &str) -> Self {
        self.moved.push((prefix.to_string(), other.to_string()));
        self
    }

    /// If no tensor name begins with `prefix`, adds it to every name, except those that begin with one of
    /// `outside`.
    pub fn with_optional_prefix(mut self, prefix: &str, outside: &[&str]) -> Self {
        let outside = outside.iter().map(|name| name.to_string()).collect();
        self.prefix = Some((prefix.to_string(), outside));
        self
    }

    /// If the tensor `name` is missing, uses `other`: both are the same tensor of the model.
    pub fn with_alias(mut self, name: &str, other: &str) -> Self {
        self.aliases.push((name.to_string(), other.to_string()));
        self
    }

    /// Ignores tensors whose name is `suffix`, or ends with a dot and `suffix`: buffers that the model
    /// computes.
    pub fn with_ignored(mut self, suffix: &str) -> Self {
        self.ignored.push(suffix.to_string());
        self
    }

    /// The tensors under the names of the module.
    pub(super) fn apply(&self, tensors: BTreeMap<String, Located>) -> BTreeMap<String, Located> {
        let tensors = self.move_prefixes(tensors);
        let ignored = |name: &str| {
            let mut suffixes = self.ignored.iter();
            suffixes.any(|suffix| match name.strip_suffix(suffix.as_str()) {
                Some(rest) => rest.is_empty() || rest.ends_with('.'),
                None => false,
            })
        };
        let kept = tensors.into_iter().filter(|(name, _)| !ignored(name));
        let mut tensors: BTreeMap<String, Located> = kept.collect();
        if let Some((prefix, outside)) = &self.prefix
            && !tensors.keys().any(|name| name.starts_with(prefix))
        {
            let inside = |name: &str| !outside.iter().any(|other| name.starts_with(other));
            let prefixed = tensors.into_iter().map(|(name, tensor)| {
                if inside(&name) {
                    (format!("{prefix}{name}"), tensor)
                } else {
                    (name, tensor)
                }
            });
            tensors = prefixed.collect();
        }
        for (name, other) in &self.aliases {
            if !tensors.contains_key(name)
                && let Some(tensor) = tensors.remove(other)
            {
                tensors.insert(name.clone(), tensor);
            }
        }
        tensors
    }

    fn move_prefixes(&self, mut tensors: BTreeMap<String, Located>) -> BTreeMap<String, Located> {
        for (prefix, other) in &self.moved {
            let names = tensors.keys().filter(|name| name.starts_with(other));
            for name in names.cloned().collect::<Vec<_>>() {
                let new = format!("{prefix}{}", &name[other.len()..]);
                if !tensors.contains_key(&new)
                    && let Some(tensor) = tensors.remove(&name)
                {
                    tensors.insert(new, tensor);
                }
            }
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Shape};

    fn named(naming: &Naming, names: &[&str]) -> Vec<(String, String)> {
        let located = |name: &&str| {
            let tensor = Located {
                file: "model.safetensors".into(),
                name: name.to_string(),
                shape: Shape::new([1]),
                dtype: DType::F32,
            };
            (name.to_string(), tensor)
        };
        let tensors = naming.apply(names.iter().map(located).collect());
        let pairs = tensors
            .into_iter()
            .map(|(name, tensor)| (name, tensor.name));
        pairs.collect()
    }

    #[test]
    fn tensors_get_the_names_of_the_module() {
        let naming = Naming::new()
            .with_alias("model.embed.weight", "lm_head.weight")
            .with_optional_prefix("model.", &["lm_head."])
            .with_ignored("inv_freq");
        let pair = |name: &str, file: &str| (name.to_string(), file.to_string());
        let names = ["layers.0.inv_freq", "layers.0.weight", "lm_head.weight"];
        let expected = [
            pair("model.embed.weight", "lm_head.weight"),
            pair("model.layers.0.weight", "layers.0.weight"),
        ];
        assert_eq!(named(&naming, &names), expected);
        // Correct names and similar names do not change.
        let names = ["lm_head.weight", "model.embed.weight", "my_inv_freq"];
        let same = names.map(|name| pair(name, name));
        assert_eq!(named(&naming, &names), same);
        assert_eq!(named(&Naming::new(), &names), same);
    }

    #[test]
    fn parts_are_moved() {
        let naming = Naming::new()
            .with_moved_prefix("decoder.model.", "model.decoder.")
            .with_moved_prefix("tower.", "model.tower.")
            .with_moved_prefix("tower.inner.norm.", "tower.norm.");
        let pair = |name: &str, file: &str| (name.to_string(), file.to_string());
        let names = [
            "head.weight",
            "model.decoder.norm.weight",
            "model.tower.norm.weight",
        ];
        let expected = [
            pair("decoder.model.norm.weight", "model.decoder.norm.weight"),
            pair("head.weight", "head.weight"),
            pair("tower.inner.norm.weight", "model.tower.norm.weight"),
        ];
        assert_eq!(named(&naming, &names), expected);
        // Both names at once: neither tensor is lost.
        let names = ["model.tower.a", "tower.a"];
        let expected = [
            pair("model.tower.a", "model.tower.a"),
            pair("tower.a", "tower.a"),
        ];
        assert_eq!(named(&naming, &names), expected);
    }
}
