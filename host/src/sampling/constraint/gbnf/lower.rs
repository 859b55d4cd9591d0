//! Rules to Lark: names are looked up, and the grammar becomes one lexeme, or one for each character.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use super::{Node, Refusal, Rule, Set};

/// The text of all rules in Lark.
pub(super) fn lark(rules: &[Rule]) -> Result<String, Refusal> {
    let numbers = numbers(rules)?;
    let Some(&root) = numbers.get("root") else {
        return Err(Refusal::new("there is no rule `root`, with which a grammar begins"));
    };
    let used = Used::of(rules, &numbers, root)?;
    // A lexeme is written in capitals, and made of lexemes alone.
    let letter = if used.leads_back { 'r' } else { 'R' };
    let mut text = format!("start: {letter}{root}\n");
    for &number in &used.order {
        let _ = write!(text, "{letter}{number}: ");
        write_node(&rules[number].body, letter, &numbers, &mut text);
        text.push('\n');
    }
    Ok(text)
}

fn numbers(rules: &[Rule]) -> Result<HashMap<&str, usize>, Refusal> {
    let mut numbers = HashMap::new();
    for (number, rule) in rules.iter().enumerate() {
        if numbers.insert(rule.name.as_str(), number).is_some() {
            return Err(Refusal::new(format!("the rule `{}` is written twice", rule.name)));
        }
    }
    Ok(numbers)
}

/// The rules that the root leads to.
struct Used {
    /// Each before those that it leads to.
    order: Vec<usize>,
    /// One leads back to itself.
    leads_back: bool,
}

impl Used {
    fn of(rules: &[Rule], numbers: &HashMap<&str, usize>, root: usize) -> Result<Self, Refusal> {
        let mut used = Used { order: Vec::new(), leads_back: false };
        let mut seen = HashSet::from([root]);
        // Those below `open` are looked at; a path is kept as a list, for a stack may be too short for it.
        let mut path: Vec<(usize, Vec<usize>)> = vec![(root, named(&rules[root], numbers)?)];
        let mut open = HashSet::from([root]);
        while let Some((number, next)) = path.last_mut() {
            let number = *number;
            match next.pop() {
                Some(next) if open.contains(&next) => used.leads_back = true,
                Some(next) if seen.insert(next) => {
                    open.insert(next);
                    path.push((next, named(&rules[next], numbers)?));
                }
                Some(_) => {}
                None => {
                    open.remove(&number);
                    used.order.push(number);
                    path.pop();
                }
            }
        }
        used.order.reverse();
        Ok(used)
    }
}

/// The rules that a rule names.
fn named(rule: &Rule, numbers: &HashMap<&str, usize>) -> Result<Vec<usize>, Refusal> {
    let (mut found, mut left) = (Vec::new(), vec![&rule.body]);
    while let Some(node) = left.pop() {
        match node {
            Node::One(_) => {}
            Node::Rule(name, line) => found.push(
                *numbers
                    .get(name.as_str())
                    .ok_or_else(|| Refusal::new(format!("line {line}: there is no rule `{name}`")))?,
            ),
            Node::Sequence(nodes) | Node::Choice(nodes) => left.extend(nodes),
            Node::Repeat(node, ..) => left.push(node),
        }
    }
    Ok(found)
}

fn write_node(node: &Node, letter: char, numbers: &HashMap<&str, usize>, text: &mut String) {
    match node {
        Node::One(set) => write_set(set, text),
        Node::Rule(name, _) => {
            let _ = write!(text, "{letter}{}", numbers[name.as_str()]);
        }
        Node::Sequence(nodes) if nodes.is_empty() => text.push_str("\"\""),
        Node::Sequence(nodes) => write_all(nodes, " ", letter, numbers, text),
        Node::Choice(nodes) => write_all(nodes, " | ", letter, numbers, text),
        Node::Repeat(node, least, most) => {
            text.push('(');
            write_node(node, letter, numbers, text);
            let most = most.map(|most| most.to_string()).unwrap_or_default();
            let _ = write!(text, "){{{least},{most}}}");
        }
    }
}

fn write_all(nodes: &[Node], between: &str, letter: char, numbers: &HashMap<&str, usize>, text: &mut String) {
    text.push('(');
    for (index, node) in nodes.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { between });
        write_node(node, letter, numbers, text);
    }
    text.push(')');
}

fn write_set(set: &Set, text: &mut String) {
    if set.ranges.is_empty() {
        return text.push_str("/(?s:.)/");
    }
    text.push_str(if set.negated { "/[^" } else { "/[" });
    for (first, last) in &set.ranges {
        let _ = write!(text, "\\x{{{:X}}}-\\x{{{:X}}}", u32::from(*first), u32::from(*last));
    }
    text.push_str("]/");
}
