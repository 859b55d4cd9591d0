//! Text to rules, as llama.cpp's parser (`src/llama-grammar.cpp`) reads them. Which rules there are is looked at later.

use super::{Node, Refusal, Rule, Set};

/// How deeply parentheses may be nested.
const MAX_DEPTH: usize = 100;

/// How often something may be repeated by count, as in llama.cpp.
const MAX_REPEAT: u32 = 2_000;

/// All rules of a grammar, in their order.
pub(super) fn rules(text: &str) -> Result<Vec<Rule>, Refusal> {
    let mut parser = Parser { rest: text, text, depth: 0 };
    let mut rules = Vec::new();
    parser.skip(true);
    while !parser.rest.is_empty() {
        rules.push(parser.rule()?);
        parser.skip(true);
    }
    Ok(rules)
}

struct Parser<'a> {
    rest: &'a str,
    text: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rule(&mut self) -> Result<Rule, Refusal> {
        let name = self.name().ok_or_else(|| self.unexpected("the name of a rule"))?.to_owned();
        self.skip(false);
        if !self.take("::=") {
            return Err(self.unexpected("`::=`"));
        }
        self.skip(true);
        let body = self.choice()?;
        if self.rest.is_empty() || self.rest.starts_with(['\n', '\r']) {
            return Ok(Rule { name, body });
        }
        Err(self.unexpected("the end of the line"))
    }

    fn choice(&mut self) -> Result<Node, Refusal> {
        let mut options = vec![self.sequence()?];
        while self.take("|") {
            self.skip(true);
            options.push(self.sequence()?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Choice(options) })
    }

    fn sequence(&mut self) -> Result<Node, Refusal> {
        let mut parts: Vec<Node> = Vec::new();
        loop {
            if let Some((least, most)) = self.repetition()? {
                let Some(last) = parts.pop() else { return Err(self.unexpected("something to be repeated")) };
                parts.push(Node::Repeat(Box::new(last), least, most));
            } else if let Some(part) = self.part()? {
                parts.push(part);
            } else {
                return Ok(Node::Sequence(parts));
            }
            self.skip(self.depth > 0);
        }
    }

    fn part(&mut self) -> Result<Option<Node>, Refusal> {
        if self.take("\"") {
            return self.literal().map(Some);
        }
        if self.take("[") {
            return self.class().map(Some);
        }
        if self.take(".") {
            return Ok(Some(Node::One(Set { negated: true, ranges: Vec::new() })));
        }
        if self.take("(") {
            return self.group().map(Some);
        }
        if self.rest.starts_with('<') || self.rest.starts_with("!<") {
            let message = format!("line {} names a token (`<…>`): only text can be asked for", self.line());
            return Err(Refusal::new(message));
        }
        let line = self.line();
        Ok(self.name().map(|name| Node::Rule(name.to_owned(), line)))
    }

    fn group(&mut self) -> Result<Node, Refusal> {
        if self.depth == MAX_DEPTH {
            return Err(Refusal::new(format!(
                "line {} nests more than {MAX_DEPTH} parentheses",
                self.line()
            )));
        }
        self.depth += 1;
        self.skip(true);
        let inner = self.choice()?;
        self.depth -= 1;
        if self.take(")") { Ok(inner) } else { Err(self.unexpected("`)`")) }
    }

    fn literal(&mut self) -> Result<Node, Refusal> {
        let mut characters = Vec::new();
        while !self.take("\"") {
            let c = self.character("a closing `\"`")?;
            characters.push(Node::One(Set { negated: false, ranges: vec![(c, c)] }));
        }
        Ok(Node::Sequence(characters))
    }

    fn class(&mut self) -> Result<Node, Refusal> {
        let negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.take("]") {
            let first = self.character("a closing `]`")?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let last = if is_range && self.take("-") { self.character("a closing `]`")? } else { first };
            if last < first {
                return Err(Refusal::new(format!(
                    "line {} has a range that ends before it begins",
                    self.line()
                )));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() && !negated {
            return Err(Refusal::new(format!(
                "line {} has an empty class, which nothing matches",
                self.line()
            )));
        }
        Ok(Node::One(Set { negated, ranges }))
    }

    fn character(&mut self, expected: &str) -> Result<char, Refusal> {
        let Some(c) = self.next() else { return Err(self.unexpected(expected)) };
        if c != '\\' {
            return Ok(c);
        }
        match self.next() {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some(same @ ('\\' | '"' | '[' | ']')) => Ok(same),
            Some('x') => self.hexadecimal(2),
            Some('u') => self.hexadecimal(4),
            Some('U') => self.hexadecimal(8),
            _ => Err(Refusal::new(format!("line {} has an escape that GBNF does not know", self.line()))),
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char, Refusal> {
        let found = self.rest.get(..digits).and_then(|text| {
            let code =
                text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())??;
            char::from_u32(code)
        });
        let c = found.ok_or_else(|| {
            Refusal::new(format!(
                "line {}: {digits} hexadecimal digits of a character were expected",
                self.line()
            ))
        })?;
        self.rest = &self.rest[digits..];
        Ok(c)
    }

    /// `*`, `+`, `?`, `{2}`, `{2,}` or `{2,3}`.
    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, Refusal> {
        for (sign, least, most) in [("*", 0, None), ("+", 1, None), ("?", 0, Some(1))] {
            if self.take(sign) {
                return Ok(Some((least, most)));
            }
        }
        if !self.take("{") {
            return Ok(None);
        }
        self.skip(self.depth > 0);
        let least = self.number()?;
        self.skip(self.depth > 0);
        let most = if self.take(",") {
            self.skip(self.depth > 0);
            if self.rest.starts_with('}') { None } else { Some(self.number()?) }
        } else {
            Some(least)
        };
        self.skip(self.depth > 0);
        if !self.take("}") {
            return Err(self.unexpected("`}`"));
        }
        if most.is_some_and(|most| most < least) {
            return Err(Refusal::new(format!("line {} repeats up to less than at least", self.line())));
        }
        Ok(Some((least, most)))
    }

    fn number(&mut self) -> Result<u32, Refusal> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().ok().filter(|&number| number <= MAX_REPEAT);
        let number = number.ok_or_else(|| self.unexpected(&format!("a number up to {MAX_REPEAT}")))?;
        self.rest = &self.rest[end..];
        Ok(number)
    }

    fn name(&mut self) -> Option<&'a str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then_some(name)
    }

    /// Passes over spaces and comments, and over ends of lines where they end nothing.
    fn skip(&mut self, lines: bool) {
        loop {
            self.rest = self
                .rest
                .trim_start_matches(|c| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')));
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = &self.rest[self.rest.find(['\n', '\r']).unwrap_or(self.rest.len())..];
        }
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn line(&self) -> usize {
        let passed = self.text.len() - self.rest.len();
        self.text[..passed].matches('\n').count() + 1
    }

    fn unexpected(&self, expected: &str) -> Refusal {
        let found = match self.rest.lines().next().unwrap_or_default() {
            "" if self.rest.is_empty() => "the end of the grammar".to_owned(),
            "" => "the end of the line".to_owned(),
            line => format!("`{}`", line.chars().take(20).collect::<String>()),
        };
        Refusal::new(format!("line {}: {expected} was expected; found {found}", self.line()))
    }
}
