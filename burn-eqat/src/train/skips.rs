use super::TrainError;

/// Steps that are left out because a loss or a gradient is not finite: a few are harmless, as where half precision overflows.
pub(super) struct Skips {
    /// How many in a row are left out at most.
    most: usize,
    in_a_row: usize,
}

impl Skips {
    pub fn new(most: usize) -> Self {
        Self { most, in_a_row: 0 }
    }

    /// A step was taken.
    pub fn taken(&mut self) {
        self.in_a_row = 0;
    }

    /// Leaves out a step that failed so; there may be no more than some in a row. Returns what was wrong.
    pub fn skip(&mut self, error: TrainError) -> Result<String, TrainError> {
        self.in_a_row += 1;
        if self.in_a_row > self.most {
            return Err(error);
        }
        Ok(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_in_a_row_are_left_out() {
        let mut skips = Skips::new(2);
        let skip = |skips: &mut Skips| skips.skip(TrainError::NoData);
        assert!(skip(&mut skips).is_ok() && skip(&mut skips).is_ok());
        skips.taken();
        assert!(skip(&mut skips).is_ok() && skip(&mut skips).is_ok());
        assert!(skip(&mut skips).is_err());
        assert!(Skips::new(0).skip(TrainError::NoData).is_err());
    }
}
