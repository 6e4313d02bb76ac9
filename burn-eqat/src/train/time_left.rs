use core::fmt;
use std::time::Duration;

/// How long something still takes. It is written in the two largest units that say something: `42 s`, `2 min 10 s`,
/// `3 h 05 min`, `2 d 04 h`.
///
/// ```
/// use burn_eqat::train::TimeLeft;
/// use std::time::Duration;
///
/// assert_eq!(TimeLeft(Duration::from_secs(11_100)).to_string(), "3 h 05 min");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeLeft(pub Duration);

impl fmt::Display for TimeLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64().round() as u64;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {:02} s", seconds % 60),
            (0, ..) => write!(f, "{hours} h {:02} min", minutes % 60),
            _ => write!(f, "{days} d {:02} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_are_enough() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (130.0, "2 min 10 s"),
            (11_100.0, "3 h 05 min"),
            (187_300.0, "2 d 04 h"),
        ] {
            let left = TimeLeft(Duration::from_secs_f64(seconds));
            assert_eq!(left.to_string(), expected);
        }
    }
}
