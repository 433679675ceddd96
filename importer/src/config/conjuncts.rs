//! A condition taken apart at its outermost ANDs, and what in it compares a field of `input` with constants.
//!
//! Only what is recognised to its last token counts as a comparison; everything else is left to Postgres.

use super::fragment::{INPUT, Token, spanned};
use std::{cmp::Ordering, ops::Range};

/// A part of a condition that every row must fulfil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conjunct {
    /// The text as it was written.
    pub sql: String,
    /// What it compares, where it does no more than that.
    pub comparison: Option<Comparison>,
}

/// A comparison of a field with constants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The field of `input`.
    pub field: String,
    /// What it is compared with.
    pub with: Compared,
}

/// What a field is compared with; the booleans say whether the comparison stands as it is, and not behind NOT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// By an operator that is true for these orderings.
    By(&'static [Ordering], Constant),
    /// `IN`
    Among(Vec<Constant>, bool),
    /// `BETWEEN`
    Between(Constant, Constant, bool),
    /// `IS NULL`
    Null(bool),
    /// `IS TRUE`, `IS FALSE`
    Truth(bool, bool),
    /// `IS NOT DISTINCT FROM`
    Same(Constant, bool),
    /// The field alone, which is a boolean.
    Itself(bool),
}

/// A constant as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constant {
    /// Digits, perhaps behind a minus.
    Number(String),
    /// What stands between quotes, which takes the type of what it is compared with.
    Text(String),
    /// The same of a type that is named.
    Typed(String, String),
    /// TRUE, FALSE
    Truth(bool),
}

/// Words that begin a query, or bind less than AND, or hold ANDs of their own.
const NOT_APART: [&str; 9] = ["or", "case", "select", "values", "table", "with", "union", "except", "intersect"];

/// Takes a condition apart. Nothing comes of what is no SQL.
#[must_use]
pub fn conjuncts(sql: &str) -> Vec<Conjunct> {
    let mut found = Vec::new();
    if let Ok(tokens) = spanned(sql) {
        take_apart(sql, &tokens, &mut found);
    }
    found
}

type Spanned = (Token, Range<usize>);

fn take_apart(sql: &str, tokens: &[Spanned], found: &mut Vec<Conjunct>) {
    let inside = without_parentheses(tokens);
    match parts(inside) {
        Some(parts) if parts.len() > 1 => parts.iter().for_each(|part| take_apart(sql, part, found)),
        _ => {
            let span = tokens.first().zip(tokens.last()).map_or(0..0, |((_, first), (_, last))| first.start..last.end);
            found.push(Conjunct { sql: sql[span].to_owned(), comparison: comparison(sql, inside) });
        }
    }
}

/// Takes off parentheses around the whole.
fn without_parentheses(mut tokens: &[Spanned]) -> &[Spanned] {
    while let [(Token::Sign('('), _), inside @ .., (Token::Sign(')'), _)] = tokens {
        let mut depth = 1;
        let is_open = inside.iter().all(|(token, _)| {
            depth += step(token);
            depth > 0
        });
        if !is_open || inside.is_empty() {
            break;
        }
        tokens = inside;
    }
    tokens
}

/// Returns what stands between the outermost ANDs; none where those are not all that holds the whole together.
fn parts(tokens: &[Spanned]) -> Option<Vec<&[Spanned]>> {
    let (mut parts, mut start, mut depth, mut n_between) = (Vec::new(), 0, 0, 0);
    for (index, (token, _)) in tokens.iter().enumerate() {
        depth += step(token);
        if depth > 0 {
            continue;
        }
        match token {
            Token::Sign(',') => return None,
            // Behind a point any word is a name.
            Token::Word(word) if !matches!(index.checked_sub(1).map(|i| &tokens[i].0), Some(Token::Sign('.'))) => {
                match word.as_str() {
                    "between" => n_between += 1,
                    "and" if n_between > 0 => n_between -= 1,
                    "and" => {
                        parts.push(&tokens[start..index]);
                        start = index + 1;
                    }
                    word if NOT_APART.contains(&word) => return None,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

fn step(token: &Token) -> i32 {
    match token {
        Token::Sign('(' | '[') => 1,
        Token::Sign(')' | ']') => -1,
        _ => 0,
    }
}

fn comparison(sql: &str, tokens: &[Spanned]) -> Option<Comparison> {
    let mut rest = Rest { sql, tokens };
    let is_plain = !rest.word("not");
    let Some(field) = rest.field() else {
        let constant = rest.constant()?;
        let holds = rest.operator()?;
        let found = Comparison { field: rest.field()?, with: Compared::By(mirrored(holds), constant) };
        return (is_plain && rest.tokens.is_empty()).then_some(found);
    };
    let with = match rest.tokens {
        [] => Compared::Itself(is_plain),
        _ if is_plain => rest.compared()?,
        _ => return None,
    };
    rest.tokens.is_empty().then_some(Comparison { field, with })
}

const EQUAL: &[Ordering] = &[Ordering::Equal];
const UNEQUAL: &[Ordering] = &[Ordering::Less, Ordering::Greater];
const LESS: &[Ordering] = &[Ordering::Less];
const AT_MOST: &[Ordering] = &[Ordering::Less, Ordering::Equal];
const GREATER: &[Ordering] = &[Ordering::Greater];
const AT_LEAST: &[Ordering] = &[Ordering::Greater, Ordering::Equal];

/// Returns for which orderings an operator holds whose sides are exchanged.
fn mirrored(holds: &'static [Ordering]) -> &'static [Ordering] {
    match holds {
        [Ordering::Less] => GREATER,
        [Ordering::Less, Ordering::Equal] => AT_LEAST,
        [Ordering::Greater] => LESS,
        [Ordering::Greater, Ordering::Equal] => AT_MOST,
        same => same,
    }
}

/// Types whose constants may be written with their name.
const TYPES: [&str; 5] = ["date", "timestamp", "timestamptz", "uuid", "text"];

/// What is left to be recognised.
struct Rest<'a> {
    sql: &'a str,
    tokens: &'a [Spanned],
}

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) {
        self.tokens = &self.tokens[n..];
    }

    fn sign(&mut self, sign: char) -> bool {
        let is_there = matches!(self.tokens, [(Token::Sign(found), _), ..] if *found == sign);
        self.take(usize::from(is_there));
        is_there
    }

    fn word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.tokens, [(Token::Word(found), _), ..] if found == word);
        self.take(usize::from(is_there));
        is_there
    }

    fn field(&mut self) -> Option<String> {
        let [(input, _), (Token::Sign('.'), _), (field, _), ..] = self.tokens else { return None };
        let (Token::Word(input) | Token::Quoted(input)) = input else { return None };
        let (Token::Word(field) | Token::Quoted(field)) = field else { return None };
        // Postgres cuts longer names.
        (input == INPUT && field.len() <= 63).then(|| self.take(3)).map(|()| field.clone())
    }

    fn operator(&mut self) -> Option<&'static [Ordering]> {
        let sign = |index: usize| match self.tokens.get(index) {
            Some((Token::Sign(sign), _)) => Some(*sign),
            _ => None,
        };
        let (n_signs, holds) = match (sign(0)?, sign(1)) {
            ('<', Some('>')) | ('!', Some('=')) => (2, UNEQUAL),
            ('<', Some('=')) => (2, AT_MOST),
            ('>', Some('=')) => (2, AT_LEAST),
            ('<', _) => (1, LESS),
            ('>', _) => (1, GREATER),
            ('=', _) => (1, EQUAL),
            _ => return None,
        };
        self.take(n_signs);
        Some(holds)
    }

    fn compared(&mut self) -> Option<Compared> {
        if self.word("is") {
            let is_plain = !self.word("not");
            return Some(if self.word("null") || self.word("unknown") {
                Compared::Null(is_plain)
            } else if self.word("true") {
                Compared::Truth(true, is_plain)
            } else if self.word("false") {
                Compared::Truth(false, is_plain)
            } else if self.word("distinct") && self.word("from") {
                Compared::Same(self.constant()?, !is_plain)
            } else {
                return None;
            });
        }
        if let Some(holds) = self.operator() {
            return Some(Compared::By(holds, self.constant()?));
        }
        let is_plain = !self.word("not");
        if self.word("between") {
            let from = self.constant()?;
            return self.word("and").then_some(Compared::Between(from, self.constant()?, is_plain));
        }
        if !self.word("in") || !self.sign('(') {
            return None;
        }
        let mut constants = vec![self.constant()?];
        while self.sign(',') {
            constants.push(self.constant()?);
        }
        self.sign(')').then_some(Compared::Among(constants, is_plain))
    }

    fn constant(&mut self) -> Option<Constant> {
        if self.word("true") {
            return Some(Constant::Truth(true));
        } else if self.word("false") {
            return Some(Constant::Truth(false));
        }
        let minus = if self.sign('-') { "-" } else { "" };
        if let [(Token::Word(name), _), (Token::Value, span), ..] = self.tokens
            && TYPES.contains(&name.as_str())
            && minus.is_empty()
        {
            let text = quoted(&self.sql[span.clone()])?;
            let typed = Constant::Typed(name.clone(), text);
            self.take(2);
            return Some(typed);
        }
        let [(Token::Value, span), ..] = self.tokens else { return None };
        let written = &self.sql[span.clone()];
        self.take(1);
        if written.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Constant::Number(format!("{minus}{written}")));
        }
        let text = quoted(written).filter(|_| minus.is_empty())?;
        match self.tokens {
            [(Token::Sign(':'), _), (Token::Sign(':'), _), (Token::Word(name), _), ..] => {
                let known = TYPES.contains(&name.as_str()).then(|| name.clone())?;
                self.take(3);
                Some(Constant::Typed(known, text))
            }
            _ => Some(Constant::Text(text)),
        }
    }
}

/// Returns what stands between plain quotes.
fn quoted(written: &str) -> Option<String> {
    let inside = written.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(inside.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        conjuncts(sql).into_iter().map(|conjunct| conjunct.sql).collect()
    }

    #[test]
    fn a_condition_comes_apart_at_its_outermost_ands_only() {
        for (sql, expected) in [
            ("a", vec!["a"]),
            ("a = 1 AND b OR c", vec!["a = 1 AND b OR c"]),
            ("a AND (b OR c) AND NOT d", vec!["a", "(b OR c)", "NOT d"]),
            ("(a AND (b AND ((c))))", vec!["a", "b", "((c))"]),
            ("a BETWEEN 1 AND 2 AND b", vec!["a BETWEEN 1 AND 2", "b"]),
            (
                "a NOT BETWEEN f(1 AND 2) AND 2 AND b BETWEEN 3 AND 4",
                vec!["a NOT BETWEEN f(1 AND 2) AND 2", "b BETWEEN 3 AND 4"],
            ),
            ("CASE WHEN a AND b THEN c END AND d", vec!["CASE WHEN a AND b THEN c END AND d"]),
            ("x AND (SELECT y FROM t WHERE a AND input.b = 1)", vec!["x", "(SELECT y FROM t WHERE a AND input.b = 1)"]),
            ("SELECT y FROM t WHERE a AND input.b = 1", vec!["SELECT y FROM t WHERE a AND input.b = 1"]),
            ("((VALUES (true)) UNION SELECT a AND b)", vec!["((VALUES (true)) UNION SELECT a AND b)"]),
            ("t.case AND t.or AND \"or\" = 1", vec!["t.case", "t.or", "\"or\" = 1"]),
            ("(a, b) = (c, d) AND e", vec!["(a, b) = (c, d)", "e"]),
            ("a IS DISTINCT FROM 1 AND b", vec!["a IS DISTINCT FROM 1", "b"]),
            ("(a AND b) IS TRUE", vec!["(a AND b) IS TRUE"]),
            ("a -- AND b\n AND 'c AND d' = e", vec!["a", "'c AND d' = e"]),
            ("'open", vec![]),
        ] {
            assert_eq!(texts(sql), expected, "{sql}");
        }
    }

    fn only(sql: &str) -> Option<Comparison> {
        let mut found = conjuncts(sql);
        assert_eq!(found.len(), 1, "{sql}");
        found.pop()?.comparison
    }

    #[test]
    fn comparisons_of_a_field_with_constants_are_recognised() {
        let number = |digits: &str| Constant::Number(digits.into());
        let text = |text: &str| Constant::Text(text.into());
        for (sql, field, with) in [
            ("input.a = 1", "a", Compared::By(EQUAL, number("1"))),
            ("Input . \"A b\" <> 'it''s'", "A b", Compared::By(UNEQUAL, text("it's"))),
            ("(input.a != -5)", "a", Compared::By(UNEQUAL, number("-5"))),
            ("input.a<-5", "a", Compared::By(LESS, number("-5"))),
            ("5 <= input.a", "a", Compared::By(AT_LEAST, number("5"))),
            ("'x' > input.a", "a", Compared::By(LESS, text("x"))),
            (
                "input.a >= date '2026-01-01'",
                "a",
                Compared::By(AT_LEAST, Constant::Typed("date".into(), "2026-01-01".into())),
            ),
            ("input.a = 'x'::text", "a", Compared::By(EQUAL, Constant::Typed("text".into(), "x".into()))),
            ("input.a IN ('x', 'y')", "a", Compared::Among(vec![text("x"), text("y")], true)),
            ("input.a NOT IN (1)", "a", Compared::Among(vec![number("1")], false)),
            ("input.a BETWEEN 1 AND 3", "a", Compared::Between(number("1"), number("3"), true)),
            ("input.a NOT BETWEEN 1 AND 3", "a", Compared::Between(number("1"), number("3"), false)),
            ("input.a IS NOT NULL", "a", Compared::Null(false)),
            ("input.a IS NOT TRUE", "a", Compared::Truth(true, false)),
            ("input.a IS NOT DISTINCT FROM 'x'", "a", Compared::Same(text("x"), true)),
            ("input.a IS DISTINCT FROM 'x'", "a", Compared::Same(text("x"), false)),
            ("NOT input.a", "a", Compared::Itself(false)),
            ("input.a = true", "a", Compared::By(EQUAL, Constant::Truth(true))),
        ] {
            assert_eq!(only(sql), Some(Comparison { field: field.into(), with }), "{sql}");
        }
    }

    #[test]
    fn what_is_more_than_a_comparison_is_none() {
        for sql in [
            "input.a = 1 OR input.b = 2",
            "input.a = 1 = true",
            "input.a = 1 + 1",
            "input.a + 1 = 1",
            "input.a = 1.5",
            "input.a = 1e5",
            "input.a = 5and true",
            "input.a = 'x' 'y'",
            "input.a = E'x'",
            "input.a = U&'x'",
            "input.a = B'1'",
            "input.a = $$x$$",
            "input.a = 'x' COLLATE \"C\"",
            "input.a = 'x'::varchar(1)",
            "input.a = 'x'::text::date",
            "input.a = NULL",
            "input.a IN ('x', NULL)",
            "input.a IN (SELECT 1)",
            "input.a IN ('x'",
            "input.a = ANY ('{1}')",
            "input.a = input.b",
            "input.a.b = 1",
            "(input).a = 1",
            "site.a = 1",
            "q BETWEEN 1 AND input.y = 5",
            "NOT input.a = 1",
            "NOT 1 = input.a",
            "input.a <=> 1",
            "input.a =- -1",
            "input.a OPERATOR(pg_catalog.=) 1",
            "input.a LIKE 'x'",
            "input.a[1] = 1",
            "lower(input.a) = 'x'",
            &format!("input.{} = 1", "a".repeat(64)),
        ] {
            assert!(conjuncts(sql).iter().all(|conjunct| conjunct.comparison.is_none()), "{sql}");
        }
    }
}
