use super::*;

fn told(grammar: &str) -> String {
    to_lark(grammar).unwrap_err().message
}

#[test]
fn without_a_way_back_a_grammar_is_one_lexeme() {
    let lark = to_lark("# a comment\nroot ::= word (\", \" word){0,2}\nword ::= [a-c]+ | \"é\"  # another\n")
        .unwrap();
    assert_eq!(
        lark,
        "start: R0\n\
         R0: (R1 (((/[\\x{2C}-\\x{2C}]/ /[\\x{20}-\\x{20}]/) R1)){0,2})\n\
         R1: (((/[\\x{61}-\\x{63}]/){1,}) | ((/[\\x{E9}-\\x{E9}]/)))\n"
    );
}

#[test]
fn with_one_it_has_a_lexeme_for_each_character() {
    let lark = to_lark("root ::= \"(\" root \")\" | .\nunused ::= [a]").unwrap();
    assert_eq!(lark, "start: r0\nr0: (((/[\\x{28}-\\x{28}]/) r0 (/[\\x{29}-\\x{29}]/)) | (/(?s:.)/))\n");
}

#[test]
fn lines_end_rules_but_not_groups_and_choices() {
    let one = to_lark("root ::= (\n  \"a\"\n  \"b\" # c\n) |\n  \"d\" \"e\"\n").unwrap();
    assert_eq!(one, to_lark("root ::= (\"a\" \"b\") | \"d\" \"e\"").unwrap());
    assert_eq!(
        to_lark("root ::= \"a\"\r\n\r\nb ::= \"b\"\r\n").unwrap(),
        to_lark("root ::=\n\"a\"").unwrap()
    );
    assert!(told("root ::= \"a\"\n\"b\"").starts_with("line 2: the name of a rule was expected"));
}

#[test]
fn escapes_classes_and_repetitions() {
    let of = |body: &str| parse::rules(&format!("root ::= {body}")).unwrap().remove(0).body;
    let set = |negated: bool, ranges: &[(char, char)]| Node::One(Set { negated, ranges: ranges.to_vec() });
    let one = |node: Node| Node::Sequence(vec![node]);
    assert_eq!(
        of(r#"[^\]\\\x41-\u005A\U0001F600-]"#),
        one(set(true, &[(']', ']'), ('\\', '\\'), ('A', 'Z'), ('😀', '😀'), ('-', '-')]))
    );
    assert_eq!(
        of(r#""\n\r\t\"""#),
        one(Node::Sequence(['\n', '\r', '\t', '"'].map(|c| set(false, &[(c, c)])).to_vec()))
    );
    for (body, least, most) in [
        (".*", 0, None),
        (".+", 1, None),
        (".?", 0, Some(1)),
        (".{3}", 3, Some(3)),
        (".{ 3, }", 3, None),
        (".{0,7}", 0, Some(7)),
    ] {
        assert_eq!(of(body), one(Node::Repeat(Box::new(set(true, &[])), least, most)), "{body}");
    }
    assert_eq!(of(""), Node::Sequence(Vec::new()));
}

#[test]
fn what_is_no_gbnf_is_told_with_its_line() {
    for (grammar, words) in [
        ("", "no rule `root`"),
        ("a ::= \"a\"", "no rule `root`"),
        ("root ::= \"a\"\nroot ::= \"b\"", "written twice"),
        ("root ::= \"a\"\n  x", "line 2"),
        ("\nroot ::= nowhere", "line 2: there is no rule `nowhere`"),
        ("root ::= \"a", "a closing `\"`"),
        ("root ::= [a", "a closing `]`"),
        ("root ::= []", "empty class"),
        ("root ::= [z-a]", "ends before it begins"),
        ("root ::= (\"a\"", "`)` was expected; found the end of the grammar"),
        ("root ::= *", "something to be repeated"),
        ("root ::= \"a\"{2001}", "a number up to 2000"),
        ("root ::= \"a\"{3,2}", "less than at least"),
        ("root ::= \"\\q\"", "escape"),
        ("root ::= \"\\xZZ\"", "2 hexadecimal digits"),
        ("root ::= <[1]>", "names a token"),
        ("root ::= !<eos>", "names a token"),
        ("root = \"a\"", "`::=` was expected; found `= \"a\"`"),
    ] {
        assert!(told(grammar).contains(words), "{grammar:?}: {}", told(grammar));
    }
    assert!(
        told(&format!("root ::= {}\"a\"{}", "(".repeat(101), ")".repeat(101))).contains("100 parentheses")
    );
}
