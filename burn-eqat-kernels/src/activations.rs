//! The precision of activations in inference.

use std::cell::Cell;

/// The precision of the activations in a matmul with a packed weight, when nothing is differentiated.
///
/// ```
/// use burn_eqat_kernels::Activations;
///
/// let inside = Activations::Int8.scope(|| {
///     // Run a packed model here.
///     Activations::current()
/// });
/// assert_eq!(inside, Activations::Int8);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Unchanged, with sums in f32.
    #[default]
    Exact,
    /// Quantized to 8 bits when the layer runs: symmetric, with a scale for every 64 activations (32 with
    /// 4-bit weights). This is faster where the CPU has integer dot products, with an error of about 0.5 % of a
    /// product's size. Flex uses it on x86-64 with AVX2 or AVX-512, for 2-, 3- and 4-bit weights whose
    /// groups are whole blocks of words (16, 32 and 8 codes). Everything else stays exact.
    Int8,
}

thread_local! {
    static CURRENT: Cell<Activations> = const { Cell::new(Activations::Exact) };
}

impl Activations {
    /// Runs `body` with this setting on this thread, for every model that `body` runs.
    pub fn scope<R>(self, body: impl FnOnce() -> R) -> R {
        struct Restore(Activations);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        body()
    }

    /// The setting of the innermost [`scope`](Self::scope) around the caller.
    pub fn current() -> Self {
        CURRENT.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_nest_and_end_even_in_a_panic() {
        let inner = Activations::Int8.scope(|| {
            Activations::Exact.scope(|| assert_eq!(Activations::current(), Activations::Exact));
            Activations::current()
        });
        assert_eq!(inner, Activations::Int8);
        let panicked = std::panic::catch_unwind(|| Activations::Int8.scope(|| panic!("a test")));
        assert!(panicked.is_err());
        assert_eq!(Activations::current(), Activations::Exact);
    }
}
