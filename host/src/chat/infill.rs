//! How models are asked for what stands between two texts: by control tokens before the first, before the second and
//! where the answer begins, whose texts differ from family to family.

/// The control tokens of a family.
#[derive(Debug, PartialEq, Eq)]
pub struct Infill {
    prefix: &'static str,
    suffix: &'static str,
    /// Empty where the answer begins right behind the first text, which then stands last.
    middle: &'static str,
}

/// Qwen2.5-Coder and CodeGemma; StarCoder and Granite; SantaCoder; DeepSeek-Coder; Code Llama; GLM-4; Codestral.
const FAMILIES: [Infill; 7] = [
    family("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    family("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    family("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    family("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    family("▁<PRE>", "▁<SUF>", "▁<MID>"),
    family("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    family("[PREFIX]", "[SUFFIX]", ""),
];

const fn family(prefix: &'static str, suffix: &'static str, middle: &'static str) -> Infill {
    Infill { prefix, suffix, middle }
}

impl Infill {
    /// The family all of whose tokens are among these control tokens.
    pub fn of<'a>(control: impl Iterator<Item = &'a str> + Clone) -> Option<&'static Infill> {
        let has = |token: &str| token.is_empty() || control.clone().any(|text| text == token);
        FAMILIES.iter().find(|family| has(family.prefix) && has(family.suffix) && has(family.middle))
    }

    /// The prompt whose answer stands between these two.
    pub fn prompt(&self, before: &str, after: &str) -> String {
        let Infill { prefix, suffix, middle } = self;
        if middle.is_empty() {
            format!("{suffix}{after}{prefix}{before}")
        } else {
            format!("{prefix}{before}{suffix}{after}{middle}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_its_tokens() {
        let of = |control: &[&'static str]| Infill::of(control.iter().copied());
        let coder = of(&["<|im_end|>", "<|fim_middle|>", "<|fim_prefix|>", "<|fim_suffix|>"]).unwrap();
        assert_eq!(coder.prompt("a", "b"), "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>");
        let codestral = of(&["[SUFFIX]", "[PREFIX]"]).unwrap();
        assert_eq!(codestral.prompt("a", "b"), "[SUFFIX]b[PREFIX]a");
        assert_eq!(of(&["<|fim_prefix|>", "<fim_suffix>", "<|fim_middle|>"]), None);
        assert_eq!(of(&[]), None);
    }
}
