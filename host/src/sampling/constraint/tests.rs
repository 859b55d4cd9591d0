use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::test_random::Random;

/// The end token of every vocabulary here, and another.
const ENDS: [u32; 2] = [0, 1];

#[test]
fn a_mask_leaves_what_is_allowed() {
    let allowed = Allowed { words: vec![u32::MAX, 0, 0b101] };
    let logits: Vec<f32> = (0..70).map(|i| i as f32).collect();
    let mut masked = vec![9.0];
    allowed.apply(&logits, &mut masked);
    assert_eq!(masked.len(), logits.len());
    for (token, (before, after)) in logits.iter().zip(&masked).enumerate() {
        let expected = if allowed.has(token as u32) { *before } else { f32::NEG_INFINITY };
        assert_eq!(*after, expected, "token {token}");
        assert_eq!(allowed.has(token as u32), token < 32 || token == 64 || token == 66, "token {token}");
    }
}

/// Two end tokens, every byte, and pieces of these texts cut at random, characters through their middle too.
fn vocabulary(texts: &[&str], random: &mut Random) -> Vec<Vec<u8>> {
    let mut tokens = vec![Vec::new(), Vec::new()];
    tokens.extend((0..=255).map(|byte| vec![byte]));
    for _ in 0..200 {
        let text = texts[random.below(texts.len())].as_bytes();
        let start = random.below(text.len());
        let piece = text[start..text.len().min(start + 2 + random.below(6))].to_vec();
        if !tokens.contains(&piece) {
            tokens.push(piece);
        }
    }
    tokens
}

/// Follows grammars where a stack is large enough.
fn with_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(test).unwrap().join().unwrap();
}

/// Grammars with all of their texts.
fn finite_languages() -> [(Grammar, &'static [&'static str]); 7] {
    [
        (
            Grammar::Regex("^(ab|abc|b{1,3}c?)x?$".to_owned()),
            &[
                "ab", "abx", "abc", "abcx", "b", "bx", "bc", "bcx", "bb", "bbx", "bbc", "bbcx", "bbb",
                "bbbx", "bbbc", "bbbcx",
            ],
        ),
        (
            Grammar::Choice(vec![
                "yes".into(),
                "yes!".into(),
                "ñandú (bird)".into(),
                "日本".into(),
                "a/b|c".into(),
                "<b>\n".into(),
            ]),
            &["yes", "yes!", "ñandú (bird)", "日本", "a/b|c", "<b>\n"],
        ),
        (
            Grammar::JsonSchema(json!({"enum": ["a", "ab\"", "é", 1, 12, true, null]})),
            &[r#""a""#, r#""ab\"""#, r#""é""#, "1", "12", "true", "null"],
        ),
        (
            Grammar::JsonSchema(json!({"type": "integer", "minimum": 8, "maximum": 12})),
            &["8", "9", "10", "11", "12"],
        ),
        (
            Grammar::Lark("start: \"x\" n \"y\"?\nn: \"1\" | \"(\" \"2\" \")\"".to_owned()),
            &["x1", "x1y", "x(2)", "x(2)y"],
        ),
        // The longest lexeme is not the right one: `a+` takes what `\"ab\"` needs.
        (
            Grammar::Gbnf("root ::= [a]{1,3} \"ab\" | \"é\" tail?\ntail ::= \"!\" | \"!?\"".to_owned()),
            &["aab", "aaab", "aaaab", "é", "é!", "é!?"],
        ),
        (
            Grammar::Gbnf(
                "root ::= \"a\"? | \"(\" inner \")\"\ninner ::= \"b\" | \"b\" inner2\ninner2 ::= \"c\""
                    .to_owned(),
            ),
            &["", "a", "(b)", "(bc)"],
        ),
    ]
}

/// Every text of a finite language under random vocabularies: what is allowed at each of its beginnings is what leads on
/// to a text of the language, by plain comparison; an end is allowed where the text is one.
#[test]
fn finite_languages_are_what_they_are_under_any_split() {
    with_stack(|| {
        let mut random = Random(1);
        for (grammar, language) in finite_languages() {
            for _ in 0..4 {
                let tokens = vocabulary(
                    &language.iter().copied().filter(|text| !text.is_empty()).collect::<Vec<_>>(),
                    &mut random,
                );
                let grammars = Grammars::new(tokens.clone(), &ENDS).unwrap();
                let mut seen = HashSet::new();
                check_finite(
                    &grammars.constraint(&grammar).unwrap(),
                    &tokens,
                    language,
                    &mut seen,
                    Vec::new(),
                );
                assert!(
                    language.iter().all(|text| seen.contains(text.as_bytes())),
                    "{seen:?} of {language:?}"
                );
            }
        }
    });
}

fn check_finite(
    constraint: &Constraint,
    tokens: &[Vec<u8>],
    language: &[&str],
    seen: &mut HashSet<Vec<u8>>,
    text: Vec<u8>,
) {
    let leads = |text: &[u8]| {
        language.iter().any(|whole| whole.len() > text.len() && whole.as_bytes().starts_with(text))
    };
    let is_whole = |text: &[u8]| language.iter().any(|whole| whole.as_bytes() == text);
    let mut here = Constraint { matcher: constraint.matcher.deep_clone() };
    let allowed = here.allowed().unwrap();
    for (token, bytes) in tokens.iter().enumerate() {
        let next = [text.as_slice(), bytes].concat();
        let is_text = !bytes.is_empty() && (leads(&next) || is_whole(&next));
        let expected = is_text || (is_whole(&text) && ENDS.contains(&(token as u32)));
        let shown = String::from_utf8_lossy(&text);
        assert_eq!(allowed.has(token as u32), expected, "{bytes:?} behind {shown:?} of {language:?}");
        if is_text && seen.insert(next.clone()) {
            let mut there = Constraint { matcher: constraint.matcher.deep_clone() };
            let place = there.commit(token as u32).unwrap();
            assert_eq!(place == Place::Within, leads(&next), "{next:?} of {language:?}");
            if leads(&next) {
                check_finite(&there, tokens, language, seen, next);
            }
        }
    }
    seen.insert(text);
}

/// Endless languages: a token is allowed exactly where its bytes are, one after another, and so on random ways.
#[test]
fn a_token_is_allowed_where_its_bytes_are() {
    let person = json!({"type": "object", "properties": {"name": {"type": "string"}, "größe": {"type": "number"},
        "tags": {"type": "array", "items": {"enum": ["a", "日本"]}}}, "required": ["name"]});
    let tree = json!({"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {"v": {"type": "integer"},
        "l": {"$ref": "#/$defs/t"}}, "required": ["v"], "additionalProperties": false}}});
    let gbnf = "root ::= item (\", \" item)*\nitem ::= [^,()]+ | \"(\" root \")\"";
    let texts = [
        r#"{"name": "日本 née", "größe": 1.5e3, "tags": ["a", "日本"]}"#,
        r#"{"v": 1, "l": {"v": -20}}"#,
        "ab, (cé, d), (e)",
    ];
    with_stack(move || {
        let mut random = Random(7);
        for grammar in [
            Grammar::JsonObject,
            Grammar::JsonSchema(person),
            Grammar::JsonSchema(tree),
            Grammar::Regex(r"(\w+@[a-zé]{2,})(, \w+)*".to_owned()),
            Grammar::Gbnf(gbnf.to_owned()),
        ] {
            let tokens = vocabulary(&texts, &mut random);
            let grammars = Grammars::new(tokens.clone(), &ENDS).unwrap();
            for _ in 0..3 {
                follow_at_random(&grammars.constraint(&grammar).unwrap(), &tokens, &mut random);
            }
        }
    });
}

fn follow_at_random(beginning: &Constraint, tokens: &[Vec<u8>], random: &mut Random) {
    let mut constraint = Constraint { matcher: beginning.matcher.deep_clone() };
    for step in 0..25 {
        let allowed = constraint.allowed().unwrap();
        let ways: Vec<u32> = (2..tokens.len() as u32).filter(|&token| allowed.has(token)).collect();
        for (token, bytes) in tokens.iter().enumerate().skip(2 + 256) {
            let mut slow = Constraint { matcher: constraint.matcher.deep_clone() };
            let by_bytes = bytes.iter().all(|&byte| {
                let byte = u32::from(byte) + 2;
                slow.allowed().is_ok_and(|allowed| allowed.has(byte)) && slow.commit(byte).is_ok()
            });
            assert_eq!(
                allowed.has(token as u32),
                by_bytes,
                "{:?} at step {step}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(allowed.has(ENDS[0]), constraint.may_end().unwrap());
        assert_eq!(allowed.has(ENDS[0]), allowed.has(ENDS[1]));
        if ways.is_empty() || constraint.commit(ways[random.below(ways.len())]).unwrap() == Place::Complete {
            return;
        }
    }
}

#[test]
fn tokens_without_text_are_never_allowed() {
    let tokens =
        vec![Vec::new(), Vec::new(), b"a".to_vec(), b"\xFF".to_vec(), b"\xFF[2]".to_vec(), vec![b'a'; 2000]];
    let grammars = Grammars::new(tokens, &[1]).unwrap();
    let mut constraint = grammars.constraint(&Grammar::Regex("(?s:.)+".to_owned())).unwrap();
    let allowed = constraint.allowed().unwrap();
    assert_eq!((0..6).filter(|&token| allowed.has(token)).collect::<Vec<_>>(), [2]);
    constraint.commit(2).unwrap();
    assert!(constraint.allowed().unwrap().has(1) && !constraint.allowed().unwrap().has(0));
}

/// The order of a schema's properties is that of the answer's: two schemas that differ in it are two.
#[test]
fn the_cache_tells_orders_of_properties_apart() {
    let tokens = vocabulary(&["{\"a\":1}"], &mut Random(3));
    let grammars = Grammars::new(tokens, &ENDS).unwrap();
    let first_name = |schema: &str| {
        let mut constraint =
            grammars.constraint(&Grammar::JsonSchema(serde_json::from_str(schema).unwrap())).unwrap();
        for byte in *b"{\"" {
            constraint.commit(u32::from(byte) + 2).unwrap();
        }
        let allowed = constraint.allowed().unwrap();
        ['a', 'b'].into_iter().find(|name| allowed.has(*name as u32 + 2))
    };
    let schema = |one: &str, other: &str| {
        format!(
            "{{\"type\":\"object\",\"required\":[\"a\",\"b\"],\"properties\":{{\"{one}\":{{}},\"{other}\":{{}}}}}}"
        )
    };
    for _ in 0..2 {
        assert_eq!(first_name(&schema("a", "b")), Some('a'));
        assert_eq!(first_name(&schema("b", "a")), Some('b'));
    }
}
