//! The numbers of a schema: which of them llguidance keeps exactly, and what steps cost it.

use serde_json::Number;

/// The largest step of `multipleOf`: an automaton has to know all remainders.
pub(super) const MAX_STEP: f64 = 9_999.0;

/// Whole numbers up to here are what they are as 64-bit floats, which is what llguidance reads.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether a number is one that llguidance reads as it is.
pub(super) fn is_exact(number: &Number) -> bool {
    // What is rounded on the way is rounded to no less than the bound.
    number.as_f64().is_some_and(|number| number.abs() < MAX_EXACT)
}

/// A number as it is written, without its point.
pub(super) fn digits(number: &Number) -> f64 {
    let text = number.as_f64().unwrap_or(f64::INFINITY).to_string();
    text.replace('.', "").parse().unwrap_or(f64::INFINITY)
}

/// Beyond [`MAX_STEP`] some number beyond it.
pub(super) fn least_common_multiple(a: f64, b: f64) -> f64 {
    if !(1.0..=MAX_STEP).contains(&a) || !(1.0..=MAX_STEP).contains(&b) {
        return f64::INFINITY;
    }
    let (mut x, mut y) = (a, b);
    while y > 0.0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_that_floats_round_are_told() {
        for (text, exact) in [
            ("0.1", true),
            ("-12", true),
            ("9007199254740991", true),
            ("9007199254740993", false),
            ("1e300", false),
        ] {
            assert_eq!(is_exact(&number(text)), exact, "{text}");
        }
    }

    #[test]
    fn steps_by_hand() {
        for (text, expected) in [("7", 7.0), ("0.25", 25.0), ("1e2", 100.0), ("1e-3", 1.0), ("12.5", 125.0)] {
            assert_eq!(digits(&number(text)), expected, "{text}");
        }
        assert_eq!(least_common_multiple(4.0, 6.0), 12.0);
        assert!(least_common_multiple(9973.0, 9967.0) > MAX_STEP);
        assert_eq!(least_common_multiple(f64::INFINITY, 2.0), f64::INFINITY);
        assert_eq!(json!(2.5).as_number().map(digits), Some(25.0));
    }
}
