//! Several texts in a window.

use super::{Example, Examples};
use std::collections::BTreeMap;

impl Examples {
    /// Texts joined to windows of at most `seq_len` tokens, so that nearly nothing is padded. No text is cut; one that is longer
    /// is a window of its own.
    ///
    /// A text in a window sees those before it. That is what most trainers' packing does, and what pretraining does; pad the texts
    /// instead if none may know of another.
    ///
    /// ```
    /// use burn_eqat::lm::{Example, Examples};
    ///
    /// let texts = [vec![1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]];
    /// let examples: Examples = texts.into_iter().filter_map(|text| Example::new(text, vec![1])).collect();
    /// let packed = examples.packed(6);
    /// let lengths: Vec<usize> = packed.iter().map(|window| window.tokens().len()).collect();
    /// assert_eq!(lengths, [6, 3]);
    /// assert_eq!(packed.answers(), examples.answers());
    /// ```
    pub fn packed(&self, seq_len: usize) -> Self {
        // The longest first, each into the fullest window that has room: close to the fewest windows.
        let mut order: Vec<&Example> = self.iter().collect();
        order.sort_by_key(|example| std::cmp::Reverse(example.tokens.len()));
        let mut windows: Vec<Example> = Vec::new();
        // Windows by the room that is left in them.
        let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for example in order {
            let len = example.tokens.len();
            let room = open.range(len..).next().map(|(room, _)| *room);
            let (window, room) = match room {
                Some(room) => {
                    let there = open.get_mut(&room).expect("it was just found");
                    let window = there.pop().expect("none is kept without a window");
                    if there.is_empty() {
                        open.remove(&room);
                    }
                    windows[window].join(example);
                    (window, room - len)
                }
                None => {
                    windows.push(example.clone());
                    (windows.len() - 1, seq_len.saturating_sub(len))
                }
            };
            open.entry(room).or_default().push(window);
        }
        Self::new(windows)
    }
}

impl Example {
    /// Puts another text behind this one.
    fn join(&mut self, other: &Example) {
        let first = self.tokens.len();
        self.tokens.extend_from_slice(&other.tokens);
        let answers = other.answers.iter().map(|at| first + at);
        self.answers.extend(answers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_nearly_full_and_lose_nothing() {
        let items = (0..200).map(|i| {
            let len = 3 + i * 37 % 50;
            let tokens = (0..len).map(|at| (1000 * i + at) as i32).collect();
            Example::new(tokens, vec![1, len - 1]).unwrap()
        });
        let examples: Examples = items.collect();
        let tokens = |examples: &Examples| {
            let mut all: Vec<i32> = examples.iter().flat_map(|e| e.tokens.clone()).collect();
            all.sort_unstable();
            all
        };
        let learned = |examples: &Examples| {
            let of = |e: &Example| e.answers.iter().map(|at| e.tokens[*at]).collect::<Vec<_>>();
            let mut all: Vec<i32> = examples.iter().flat_map(of).collect();
            all.sort_unstable();
            all
        };
        let packed = examples.packed(64);
        assert_eq!(tokens(&packed), tokens(&examples));
        assert_eq!(learned(&packed), learned(&examples));
        assert!(packed.iter().all(|window| window.tokens.len() <= 64));
        let least = tokens(&examples).len().div_ceil(64);
        assert!(packed.len() <= least + 2, "{} of {least}", packed.len());
    }

    #[test]
    fn a_long_text_is_a_window_of_its_own() {
        let of = |len: usize| Example::new(vec![1; len], vec![1]).unwrap();
        let packed = Examples::new(vec![of(2), of(9), of(2)]).packed(4);
        let lengths: Vec<usize> = packed.iter().map(|window| window.tokens.len()).collect();
        assert_eq!(lengths, [9, 4]);
        assert_eq!(packed.items[1].answers, [1, 3]);
    }
}
