//! Checks of numbers that several commands take.

use crate::error::Error;
use burn_eqat::train::Rate;

/// Fails for a number of things that is none at all, or absurd.
pub(super) fn check_counts(flags: &[(&str, Option<usize>)]) -> Result<(), Error> {
    // More than a billion is a typing error, and would overflow sums.
    let limit = 1 << 30;
    for (name, value) in flags {
        if let Some(value) = value.filter(|value| *value == 0 || *value > limit) {
            let message = format!("{name} is {value}, expected 1 to {limit}");
            return Err(Error::Setting(message));
        }
    }
    Ok(())
}

/// Fails for a learning rate that is negative or no number.
pub(super) fn check_rates(flags: &[(&str, Option<Rate>)]) -> Result<(), Error> {
    for (name, rate) in flags {
        if let Some(rate) = rate.filter(|rate| !(rate.number().is_finite() && rate.number() >= 0.0))
        {
            let message = format!("{name} is {rate}, expected a number that is not negative");
            return Err(Error::Setting(message));
        }
    }
    Ok(())
}

/// Fails for windows in which nothing is predicted.
pub(super) fn check_seq_len(seq_len: Option<usize>) -> Result<(), Error> {
    match seq_len {
        Some(seq_len @ 0..2) => {
            let message = format!("--seq-len is {seq_len}, expected 2 or more");
            Err(Error::Setting(message))
        }
        _ => Ok(()),
    }
}
