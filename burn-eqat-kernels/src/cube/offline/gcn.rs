//! Counting AMD's instructions.

/// The assembly of a kernel.
pub(super) struct Gcn {
    pub text: String,
}

impl Gcn {
    /// How many lines begin with one of these names.
    fn count(&self, names: &[&str]) -> usize {
        let named = |line: &&str| names.iter().any(|name| line.trim_start().starts_with(name));
        self.text.lines().filter(named).count()
    }

    /// Loads of 16 bytes from global memory.
    pub fn wide_loads(&self) -> usize {
        self.count(&[
            "global_load_b128",
            "global_load_dwordx4",
            "buffer_load_b128",
            "buffer_load_dwordx4",
        ])
    }

    /// Multiplications of the matrix units.
    pub fn matrix(&self) -> usize {
        self.count(&["v_wmma_", "v_mfma_"])
    }

    /// Whether units of a plane read what others have.
    pub fn shuffles(&self) -> bool {
        let moves = ["ds_bpermute", "ds_swizzle", "v_permlane", "v_readlane"];
        let in_line = [
            "quad_perm:",
            "row_shl:",
            "row_shr:",
            "row_xmask:",
            "row_ror:",
            "row_share:",
            "row_half_mirror",
            "row_mirror",
            "dpp8:",
        ];
        self.count(&moves) > 0 || in_line.iter().any(|part| self.text.contains(part))
    }

    /// A number of the kernel's description.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    fn number(&self, key: &str) -> usize {
        let line = (self.text.lines()).find_map(|line| {
            line.trim()
                .trim_start_matches("- ")
                .strip_prefix(key)?
                .strip_prefix(':')
        });
        let number = line.unwrap_or_else(|| panic!("the kernel's description has no {key}"));
        number.trim().parse().unwrap()
    }

    /// Bytes of memory that each unit has for itself, where arrays go that are indexed by what is not known, and registers that do not
    /// fit.
    pub fn private_memory(&self) -> usize {
        self.number(".private_segment_fixed_size")
    }
}
