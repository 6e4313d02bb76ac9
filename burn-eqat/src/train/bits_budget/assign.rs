//! Which of its options each weight gets.

/// What a weight may be quantized to.
pub(super) struct Choice {
    /// Bits of the whole weight in memory, and what the loss rises by, from the fewest bits to the most.
    pub options: Vec<Candidate>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub bits: f64,
    pub error: f64,
}

/// The index of the option of each weight: of all that fit the budget together, about those with the least error. Every weight begins with its first
/// option; then, as long as one fits, the step is taken that saves the most error for its bits.
pub(super) fn assign(choices: &[Choice], budget: f64) -> Vec<usize> {
    let mut chosen = vec![0; choices.len()];
    let mut bits: f64 = choices.iter().map(|choice| choice.options[0].bits).sum();
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (index, choice) in choices.iter().enumerate() {
            let now = choice.options[chosen[index]];
            for (next, option) in choice.options.iter().enumerate().skip(chosen[index] + 1) {
                let (more, saved) = (option.bits - now.bits, now.error - option.error);
                let gain = saved / more;
                if bits + more <= budget && gain > best.map_or(0.0, |(gain, ..)| gain) {
                    best = Some((gain, index, next));
                }
            }
        }
        let Some((_, index, next)) = best else {
            return chosen;
        };
        let options = &choices[index].options;
        bits += options[next].bits - options[chosen[index]].bits;
        chosen[index] = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choice(options: &[(f64, f64)]) -> Choice {
        let options = options.iter();
        Choice {
            options: options
                .map(|&(bits, error)| Candidate { bits, error })
                .collect(),
        }
    }

    #[test]
    fn bits_go_where_they_save_most() {
        let choices = [
            choice(&[(2.0, 10.0), (3.0, 4.0), (4.0, 1.0)]),
            choice(&[(2.0, 1.0), (3.0, 0.4), (4.0, 0.1)]),
            // Three bits are hardly better here, four are.
            choice(&[(2.0, 10.0), (3.0, 9.9), (4.0, 0.0)]),
        ];
        assert_eq!(assign(&choices, 6.0), [0, 0, 0]);
        assert_eq!(assign(&choices, 7.5), [1, 0, 0]);
        assert_eq!(assign(&choices, 9.0), [1, 0, 2]);
        assert_eq!(assign(&choices, 12.0), [2, 2, 2]);
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_more_is_never_worse(
            errors in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64), 1..12),
            part in 0.0..1.0f64,
        ) {
            let choices: Vec<Choice> = errors
                .iter()
                .map(|&(a, b, c)| choice(&[(2.0, a + b + c), (3.0, a + b), (4.0, a)]))
                .collect();
            let count = choices.len() as f64;
            let of = |budget| {
                let chosen = assign(&choices, budget);
                let options = choices.iter().zip(&chosen);
                options
                    .map(|(choice, &index)| choice.options[index])
                    .fold((0.0, 0.0), |sum, option| (sum.0 + option.bits, sum.1 + option.error))
            };
            let budget = count * (2.0 + 2.0 * part);
            let (bits, error) = of(budget);
            prop_assert!(bits <= budget);
            let (_, least) = of(4.0 * count);
            let (_, most) = of(2.0 * count);
            prop_assert!(least <= error + 1e-9 && error <= most + 1e-9);
        }
    }
}
