//! SQL that a configuration brings: taken apart just far enough that a fragment stays where it is put.
//!
//! What a fragment means is Postgres's to say. Here it is made sure that it is one expression, or one join, whose
//! quotes, comments and parentheses close, so that it cannot become another part of the statement it stands in.

use std::{collections::BTreeSet, ops::Range};

/// The name by which fragments call the rows of an object.
pub const INPUT: &str = "input";

/// A piece of SQL that may stand in a statement of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The text as it was written.
    pub sql: String,
    /// Fields of `input` that it names.
    pub fields: BTreeSet<String>,
}

/// Why a piece of SQL cannot stand in a statement of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// A quote or comment without an end.
    #[error("has a quote or a comment that does not end")]
    Open,
    /// A parenthesis or bracket without its other half.
    #[error("has a parenthesis without its other half")]
    Unbalanced,
    /// It would end the statement.
    #[error("has a semicolon")]
    Semicolon,
    /// Nobody would give it a value.
    #[error("has a parameter ($1)")]
    Parameter,
    /// Two expressions where one is expected.
    #[error("has a comma outside parentheses: it must be one expression")]
    Comma,
    /// A join that makes rows without a row of the object.
    #[error("has a RIGHT or FULL join: each row must come of a row of the object")]
    OuterJoin,
    /// Something else than joins.
    #[error("must begin with JOIN, INNER, LEFT, CROSS or NATURAL")]
    NoJoin,
    /// A character that SQL does not have.
    #[error("has a NUL character")]
    Nul,
}

impl Fragment {
    /// Reads an expression, or a type's name.
    ///
    /// # Errors
    /// [`FragmentError`].
    pub fn expression(sql: &str) -> Result<Self, FragmentError> {
        let tokens = tokens(sql)?;
        let mut depth = Depth::default();
        for token in &tokens {
            depth.take(token)?;
            if depth.0.is_empty() && *token == Token::Sign(',') {
                return Err(FragmentError::Comma);
            }
        }
        depth.end(Self::of(sql, &tokens)?)
    }

    /// Reads the joins behind `input`.
    ///
    /// # Errors
    /// [`FragmentError`].
    pub fn join(sql: &str) -> Result<Self, FragmentError> {
        let tokens = tokens(sql)?;
        let mut depth = Depth::default();
        for (index, token) in tokens.iter().enumerate() {
            depth.take(token)?;
            if !depth.0.is_empty() {
                continue;
            }
            let is = |token: Option<&Token>, words: &[&str]| matches!(token, Some(Token::Word(word)) if words.contains(&word.as_str()));
            match token {
                Token::Sign(',') => return Err(FragmentError::Comma),
                // Functions are called so, too.
                word if is(Some(word), &["right", "full"]) && is(tokens.get(index + 1), &["join", "outer"]) => {
                    return Err(FragmentError::OuterJoin);
                }
                _ => {}
            }
        }
        match tokens.first() {
            // Else an alias might come first, with names for what is ours.
            Some(Token::Word(word)) if ["join", "inner", "left", "cross", "natural"].contains(&word.as_str()) => {}
            Some(_) => return Err(FragmentError::NoJoin),
            None => return Err(FragmentError::Empty),
        }
        depth.end(Self::of(sql, &tokens)?)
    }

    /// Returns whether all joins are LEFT ones, which leave out no row.
    #[must_use]
    pub fn has_only_left_joins(sql: &str) -> bool {
        let words = words(sql);
        let is_left = |index: usize| {
            let before = |n: usize| index.checked_sub(n).map(|index| words[index].as_str());
            before(1) == Some("left") || before(1) == Some("outer") && before(2) == Some("left")
        };
        words.iter().enumerate().all(|(index, word)| word != "join" || is_left(index))
    }

    /// Returns whether an expression asks tables.
    #[must_use]
    pub fn has_query(sql: &str) -> bool {
        words(sql).iter().any(|word| word == "select" || word == "table")
    }

    /// Returns the names that stand before a parenthesis: of functions, and keywords.
    #[must_use]
    pub fn called(sql: &str) -> Vec<String> {
        let tokens = tokens(sql).unwrap_or_default();
        let called = tokens.windows(2).filter_map(|pair| match pair {
            [Token::Word(name) | Token::Quoted(name), Token::Sign('(')] => Some(name.clone()),
            _ => None,
        });
        called.collect()
    }

    /// Returns an expression with the fields of `input` as columns of `relation`; none where it names `input` otherwise.
    #[must_use]
    pub fn of_columns(sql: &str, relation: &str) -> Option<String> {
        let tokens = spanned(sql).ok()?;
        let is_point = |token: Option<&(Token, _)>| matches!(token, Some((Token::Sign('.'), _)));
        let (mut written, mut from) = (String::new(), 0);
        for (index, (token, span)) in tokens.iter().enumerate() {
            let is_behind_point = index > 0 && is_point(tokens.get(index - 1));
            if is_behind_point || !matches!(token, Token::Word(name) | Token::Quoted(name) if name == INPUT) {
                continue;
            }
            if !is_point(tokens.get(index + 1)) {
                return None;
            }
            written.push_str(&sql[from..span.start]);
            written.push_str(relation);
            from = span.end;
        }
        Some(written + &sql[from..])
    }

    fn of(sql: &str, tokens: &[Token]) -> Result<Self, FragmentError> {
        if tokens.is_empty() {
            return Err(FragmentError::Empty);
        }
        let is_input = |token: &Token| matches!(token, Token::Word(name) | Token::Quoted(name) if name == INPUT);
        let field = |token: Option<&Token>| match token {
            Some(Token::Word(field) | Token::Quoted(field)) => Some(field.clone()),
            _ => None,
        };
        let fields = (0..tokens.len()).filter_map(|start| match &tokens[start..] {
            [input, Token::Sign('.'), rest @ ..] if is_input(input) => field(rest.first()),
            [Token::Sign('('), input, Token::Sign(')'), Token::Sign('.'), rest @ ..] if is_input(input) => {
                field(rest.first())
            }
            _ => None,
        });
        Ok(Self { sql: sql.to_owned(), fields: fields.collect() })
    }
}

/// Parentheses and brackets that are open.
#[derive(Default)]
struct Depth(Vec<char>);

impl Depth {
    fn take(&mut self, token: &Token) -> Result<(), FragmentError> {
        match token {
            Token::Sign('(') => self.0.push(')'),
            Token::Sign('[') => self.0.push(']'),
            Token::Sign(closing @ (')' | ']')) if self.0.pop() != Some(*closing) => {
                return Err(FragmentError::Unbalanced);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&self, fragment: Fragment) -> Result<Fragment, FragmentError> {
        if self.0.is_empty() { Ok(fragment) } else { Err(FragmentError::Unbalanced) }
    }
}

/// What SQL is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A word with its ASCII letters in lower case, as Postgres folds it: a name or a keyword.
    Word(String),
    /// A name in quotes.
    Quoted(String),
    /// A text, or a number.
    Value,
    /// Any other character.
    Sign(char),
}

/// Takes SQL apart ([PostgreSQL, Lexical Structure](https://www.postgresql.org/docs/current/sql-syntax-lexical.html)).
fn tokens(sql: &str) -> Result<Vec<Token>, FragmentError> {
    Ok(spanned(sql)?.into_iter().map(|(token, _)| token).collect())
}

/// Takes SQL apart, with where each token stands.
///
/// # Errors
/// [`FragmentError`].
pub fn spanned(sql: &str) -> Result<Vec<(Token, Range<usize>)>, FragmentError> {
    let mut spanned = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let mut token = None;
        let n_bytes = match first {
            '\0' => return Err(FragmentError::Nul),
            ';' => return Err(FragmentError::Semicolon),
            c if is_space(c) => 1,
            '-' if rest.starts_with("--") => line_comment(rest),
            '/' if rest.starts_with("/*") => comment(rest)?,
            '\'' => {
                token = Some(Token::Value);
                quoted(rest, '\'', false)?
            }
            '"' => {
                let n_bytes = quoted(rest, '"', false)?;
                token = Some(Token::Quoted(rest[1..n_bytes - 1].replace("\"\"", "\"")));
                n_bytes
            }
            '$' => {
                token = Some(Token::Value);
                dollars(rest)?
            }
            'e' | 'E' if rest[1..].starts_with('\'') => {
                token = Some(Token::Value);
                1 + escaped(&rest[1..])?
            }
            c if is_word(c) => {
                let n_bytes = rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len());
                let is_number = c.is_ascii_digit();
                token = Some(if is_number { Token::Value } else { Token::Word(rest[..n_bytes].to_ascii_lowercase()) });
                n_bytes
            }
            c => {
                token = Some(Token::Sign(c));
                c.len_utf8()
            }
        };
        let start = sql.len() - rest.len();
        spanned.extend(token.map(|token| (token, start..start + n_bytes)));
        rest = &rest[n_bytes..];
    }
    Ok(spanned)
}

/// Others of Unicode are part of names.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

fn line_comment(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// Returns the length of a text with backslashes, which goes on behind spaces and comments where another one begins: with
/// a new line between them Postgres makes one of both, and without one it takes neither.
fn escaped(text: &str) -> Result<usize, FragmentError> {
    let mut n_bytes = quoted(text, '\'', true)?;
    let mut next = n_bytes;
    loop {
        let rest = &text[next..];
        next += match rest.chars().next() {
            Some(c) if is_space(c) => 1,
            Some('-') if rest.starts_with("--") => line_comment(rest),
            Some('\'') => {
                n_bytes = next + quoted(rest, '\'', true)?;
                n_bytes - next
            }
            _ => return Ok(n_bytes),
        };
    }
}

/// Returns the length of a text in quotes, which stand doubled in it.
fn quoted(text: &str, quote: char, backslashes: bool) -> Result<usize, FragmentError> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((index, c)) = chars.next() {
        if c == '\0' {
            return Err(FragmentError::Nul);
        } else if c == '\\' && backslashes {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Ok(index + 1);
        }
    }
    Err(FragmentError::Open)
}

/// Returns the length of a comment, which may hold others.
fn comment(text: &str) -> Result<usize, FragmentError> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        let next = rest.find("/*").into_iter().chain(rest.find("*/")).min().ok_or(FragmentError::Open)?;
        depth += if rest[next..].starts_with("/*") { 1 } else { -1 };
        at += next + 2;
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// Returns the length of a text in dollar quotes.
fn dollars(text: &str) -> Result<usize, FragmentError> {
    let tag = text[1..].find('$').map(|end| &text[..end + 2]);
    let is_tag = |tag: &&str| {
        let name = &tag[1..tag.len() - 1];
        name.chars().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let tag = tag.filter(is_tag).ok_or(FragmentError::Parameter)?;
    let end = text[tag.len()..].find(tag).ok_or(FragmentError::Open)?;
    Ok(end + 2 * tag.len())
}

/// Returns the words of a fragment that are not quoted.
fn words(sql: &str) -> Vec<String> {
    let words = tokens(sql).unwrap_or_default().into_iter().filter_map(|token| match token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_input_become_columns() {
        for (sql, expected) in [
            ("length(input.a) < Input . \"B\"", Some("length(\"t\".a) < \"t\" . \"B\"")),
            ("\"input\".a = 'input.a' -- input.a", Some("\"t\".a = 'input.a' -- input.a")),
            ("a.input = 1 AND b", Some("a.input = 1 AND b")),
            ("input IS NOT NULL", None),
            ("(input).a = 1", None),
        ] {
            assert_eq!(Fragment::of_columns(sql, "\"t\"").as_deref(), expected, "{sql}");
        }
    }

    #[test]
    fn joins_that_leave_out_rows_and_queries_are_seen() {
        for (sql, expected) in [
            ("LEFT JOIN a ON true left outer join b USING (x)", true),
            ("LEFT JOIN a ON true JOIN b ON true", false),
            ("CROSS JOIN a", false),
            ("LEFT JOIN (SELECT 1 FROM x JOIN y ON true) a ON true", false),
            ("LEFT JOIN \"join\" ON true", true),
        ] {
            assert_eq!(Fragment::has_only_left_joins(sql), expected, "{sql}");
        }
        assert_eq!(Fragment::called("f (x) AND s.\"G\"(1) AND h.i > 'j(1)'"), ["f", "G"]);
        assert!(Fragment::has_query("x IN (SELECT 1)") && !Fragment::has_query("'select' = input.\"select\""));
    }

    #[test]
    fn what_would_leave_its_place_is_refused() {
        for (sql, error) in [
            ("", FragmentError::Empty),
            ("-- nothing", FragmentError::Empty),
            ("1), (2", FragmentError::Unbalanced),
            ("(1]", FragmentError::Unbalanced),
            ("(1", FragmentError::Unbalanced),
            ("1, 2", FragmentError::Comma),
            ("1; DROP TABLE t", FragmentError::Semicolon),
            ("$1", FragmentError::Parameter),
            ("'a", FragmentError::Open),
            ("E'\\'", FragmentError::Open),
            ("\"a", FragmentError::Open),
            ("$a$ x $b$", FragmentError::Open),
            ("1 /* /* */", FragmentError::Open),
            ("a\0", FragmentError::Nul),
            ("1 -- \r) + (2", FragmentError::Unbalanced),
            ("E'a'\n'\\'' ) + (1", FragmentError::Unbalanced),
            ("E'a' -- b\n  '\\'' ) + (1", FragmentError::Unbalanced),
            ("\u{a0}E'\\' ) + (1", FragmentError::Unbalanced),
        ] {
            assert_eq!(Fragment::expression(sql), Err(error), "{sql}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_taken() {
        for sql in [
            "'it''s; (' || input.a",
            "E'\\';('",
            "$$ ; ) $$",
            "$tag$ $$ ) $tag$",
            "f(1, ARRAY[2, 3])",
            "a /* ; /* ( */ ) */ -- ;",
            "\"odd;(\"",
            "a$1",
            "'\\'",
        ] {
            assert!(Fragment::expression(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn fields_of_the_input_are_found_as_postgres_would_name_them() {
        let sql = "input.A + INPUT . \"B\"\"b\" + input /* x */ .c + site.d + 'input.e' -- input.f\n + (Input).G + \"input\".\u{c4}B";
        let found = Fragment::expression(sql).expect("an expression");
        assert_eq!(found.fields.into_iter().collect::<Vec<_>>(), ["B\"b", "a", "c", "g", "\u{c4}b"]);
    }

    #[test]
    fn a_join_makes_no_rows_of_its_own() {
        for sql in
            ["RIGHT JOIN t ON true", "NATURAL full OUTER join t", "LEFT JOIN t ON true RIGHT /**/ JOIN u ON true"]
        {
            assert_eq!(Fragment::join(sql), Err(FragmentError::OuterJoin), "{sql}");
        }
        for sql in [
            "LEFT JOIN t ON t.a = right(input.a, 3)",
            "CROSS JOIN LATERAL f(input.a, 1) \"right\"",
            "JOIN full_t ON true",
        ] {
            assert!(Fragment::join(sql).is_ok(), "{sql}");
        }
        assert_eq!(Fragment::join("JOIN t ON true, u"), Err(FragmentError::Comma));
        assert_eq!(Fragment::join("(x, penstock_row) CROSS JOIN t"), Err(FragmentError::NoJoin));
        assert_eq!(Fragment::join(" -- nothing"), Err(FragmentError::Empty));
    }
}
