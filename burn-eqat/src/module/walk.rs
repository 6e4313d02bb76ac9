/// The container type under which Burn's visitors see what is attached to a parameter.
pub(crate) const ATTACHMENT: &str = "Reparameterization";

/// The position of a visitor in a module.
///
/// Burn gives a visitor a parameter without its attachment, and then the parameters of the attachment at
/// nested paths.
#[derive(Default)]
pub(super) struct Walk {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Walk {
    /// Call this in `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.into());
        self.containers.push(container.into());
    }

    /// Call this in `exit_module`.
    pub fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// The path of the parameter that is visited.
    pub fn path(&self) -> String {
        self.names.join(".")
    }

    /// The last part of the path.
    pub fn field(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// The struct that declares the parameter that is visited.
    pub fn owner(&self) -> &str {
        let mut structs = self.containers.iter().rev();
        structs
            .find(|container| container.starts_with("Struct:"))
            .map_or("", String::as_str)
    }

    /// The path and the name of the attachment that the visitor is in.
    pub fn attachment(&self) -> Option<(String, &str)> {
        let level = self.containers.iter().position(|c| c == ATTACHMENT)?;
        Some((self.names[..level].join("."), &self.names[level]))
    }

    /// Whether the visitor is in an attachment.
    pub fn is_attached(&self) -> bool {
        self.containers.iter().any(|c| c == ATTACHMENT)
    }
}
