//! Regular expressions as llguidance is to have them, and what is wrong with those that it cannot have.

use llguidance::derivre::RegexBuilder;
use llguidance::regex_to_lark;

use super::{Refusal, refusal};

/// Whether a schema's pattern can be followed. It may match anywhere in a text, by JSON Schema's rules.
///
/// # Errors
/// What cannot be.
pub(super) fn check(pattern: &str) -> Result<(), Refusal> {
    refuse_lone_backslash(pattern)?;
    let built = RegexBuilder::new().mk_regex_for_serach(&regex_to_lark(pattern, "dw"));
    built.map(|_| ()).map_err(|error| Refusal::new(refusal::of_regex(&error)))
}

/// Where all of a text must match, `^` before and `$` after the expression say nothing, and llguidance knows neither.
pub(super) fn unanchored(regex: &str) -> Result<&str, Refusal> {
    refuse_lone_backslash(regex)?;
    let rest = regex.strip_prefix('^').unwrap_or(regex);
    let rest = match rest.strip_suffix('$') {
        Some(before) if backslashes_at_end(before).is_multiple_of(2) => before,
        _ => rest,
    };
    if rest.is_empty() {
        return Err(Refusal::new("the expression matches only the empty text"));
    }
    Ok(rest)
}

/// The expression that matches one of these texts.
pub(super) fn choice(texts: &[String]) -> String {
    let escaped = |text: &String| {
        // By number: `\<` would be the beginning of a word, and `/` the end of the expression in Lark.
        let escape = |c: char| match c {
            _ if c.is_ascii_punctuation() || c.is_control() => format!("\\x{{{:x}}}", u32::from(c)),
            _ => c.to_string(),
        };
        text.chars().map(escape).collect::<String>()
    };
    texts.iter().map(escaped).collect::<Vec<_>>().join("|")
}

fn refuse_lone_backslash(regex: &str) -> Result<(), Refusal> {
    if backslashes_at_end(regex).is_multiple_of(2) {
        return Ok(());
    }
    Err(Refusal::new("a backslash ends the expression, with nothing behind it to escape"))
}

fn backslashes_at_end(text: &str) -> usize {
    text.bytes().rev().take_while(|&byte| byte == b'\\').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_at_the_ends_are_taken_off() {
        for (regex, expected) in [
            ("^ab$", Some("ab")),
            ("ab", Some("ab")),
            (r"a\$", Some(r"a\$")),
            (r"a\\$", Some(r"a\\")),
            ("^a|b$", Some("a|b")),
            ("^$", None),
            ("", None),
            (r"ab\", None),
            (r"ab\\", Some(r"ab\\")),
        ] {
            assert_eq!(unanchored(regex).ok(), expected, "{regex}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_told() {
        for (pattern, words) in [
            ("^(?=a)b", Some("look-around")),
            (r"(a)\1", Some("backreferences")),
            ("a(", Some("unclosed group")),
            ("a\\", Some("backslash")),
            (r"^\d{3}$|x", None),
        ] {
            let told = check(pattern).err().map(|refusal| refusal.message);
            assert!(told.is_some() == words.is_some(), "{pattern}: {told:?}");
            assert!(told.unwrap_or_default().contains(words.unwrap_or_default()), "{pattern}");
        }
    }
}
