//! Counting instructions.

/// The assembly of a kernel.
pub(super) struct Ptx {
    pub text: String,
    /// Bytes of shared memory.
    pub shared: usize,
}

impl Ptx {
    /// The assembly behind a line of what it does not say itself: `shared` bytes of shared memory, and the counts.
    pub fn with_facts(&self) -> String {
        let (shared, loads, matrix) = (self.shared, self.wide_loads(), self.matrix());
        let all = self.instructions().count();
        let facts =
            format!("// shared={shared} instructions={all} wide_loads={loads} matrix={matrix}\n");
        facts + &self.text
    }

    /// The instructions: neither labels nor directives.
    pub fn instructions(&self) -> impl Iterator<Item = &str> {
        // The operands of some are on lines of their own.
        self.text.split(['\n', ';']).filter_map(|line| {
            let line = line.trim();
            // A predicate comes before what it guards.
            let line = match line.strip_prefix('@') {
                Some(guarded) => guarded.split_once(char::is_whitespace)?.1.trim(),
                None => line,
            };
            let name = line.split_whitespace().next()?;
            let is_name =
                name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with(':');
            is_name.then_some(line)
        })
    }

    /// How many instructions begin with `name` and have `part` in their name.
    pub fn count(&self, name: &str, part: &str) -> usize {
        let named = |line: &&str| {
            let whole = line.split_whitespace().next().unwrap_or_default();
            whole.starts_with(name) && whole.contains(part)
        };
        self.instructions().filter(named).count()
    }

    /// Loads of 16 bytes from global memory.
    pub fn wide_loads(&self) -> usize {
        let wide = [
            "v4.b32", "v4.u32", "v4.f32", "v2.b64", "v2.u64", "v2.f64", "b128",
        ];
        let of = |part: &&str| self.count("ld.global", part);
        wide.iter().map(of).sum()
    }

    /// Multiplications of the matrix units.
    pub fn matrix(&self) -> usize {
        self.count("wmma.mma", "") + self.count("mma.sync", "")
    }

    /// Whether something is in local memory, where arrays go that are indexed by what is not known.
    pub fn has_local_memory(&self) -> bool {
        self.text.contains(".local")
    }
}
