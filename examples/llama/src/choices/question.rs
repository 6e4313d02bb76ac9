/// What stands between a context and its continuation.
pub(super) const GAP: &str = " ";

/// A question with several choices, one of which is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The choices, each a text and what may follow it.
    pub choices: Vec<Choice>,
    /// The index of the right one.
    pub gold: usize,
    /// Whether choices are also compared by their log-likelihood per character (`acc_norm`). Not where the choices
    /// are about as long as each other by design.
    pub normalized: bool,
}

/// A choice: its log-likelihood is that of the continuation after the context and a space.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What is given.
    pub context: String,
    /// What is scored.
    pub continuation: String,
}

impl Question {
    /// The right choice as a text: an example of the task.
    pub fn answered(&self) -> String {
        let Choice {
            context,
            continuation,
        } = &self.choices[self.gold];
        format!("{context}{GAP}{continuation}")
    }
}
