/// Early stopping of both phases: keeps the best validated state, and decides when to stop.
pub(super) struct BestSoFar<T> {
    patience: usize,
    best: Option<(f64, T)>,
    /// Epochs since the best one.
    worse: usize,
}

impl<T> BestSoFar<T> {
    /// Stops after `patience` epochs without a better loss.
    pub fn new(patience: usize) -> Self {
        Self {
            patience,
            best: None,
            worse: 0,
        }
    }

    /// Goes on with the best of before, and the epochs since.
    pub fn resume(patience: usize, loss: f64, value: T, worse: usize) -> Self {
        Self {
            patience,
            best: Some((loss, value)),
            worse,
        }
    }

    /// The best of all so far, and its loss.
    pub fn best(&self) -> Option<(f64, &T)> {
        self.best.as_ref().map(|(loss, value)| (*loss, value))
    }

    /// Epochs since the best one.
    pub fn worse(&self) -> usize {
        self.worse
    }

    /// Takes the result of an epoch; true when it is time to stop.
    pub fn offer(&mut self, loss: f64, value: T) -> bool {
        if self.best.as_ref().is_none_or(|(least, _)| loss < *least) {
            self.best = Some((loss, value));
            self.worse = 0;
            return false;
        }
        self.worse += 1;
        self.worse >= self.patience
    }

    /// The best state; `None` if nothing was validated.
    pub fn into_best(self) -> Option<T> {
        self.best.map(|(_, value)| value)
    }
}
