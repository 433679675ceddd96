//! The glob language of `match` and `skip`.
//!
//! `*` matches within a path segment, `**` across segments, `?` one character of a segment,
//! `{name}` at least one character of a segment and captures it; `**/` at the start of a segment
//! also matches nothing. A backslash takes the next character as it is. Everything else stands for itself.

use regex::Regex;
use std::collections::{HashMap, VecDeque};

/// Values of a pattern's captures, by name; `None` is NULL.
pub type Captures = Vec<(String, Option<String>)>;

/// Hive and Spark write this for a NULL partition value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    /// Names of the captures, in their order.
    pub names: Vec<String>,
    /// For each capture, whether it directly follows `=`, as in Hive's `dt={dt}`.
    hive_style: Vec<bool>,
    steps: Vec<Step>,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern {pattern:?}: {problem}")]
pub struct PatternError {
    /// The pattern as written.
    pub pattern: String,
    /// A sentence fragment for people.
    pub problem: String,
}

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(char),
    AnyInSegment,
    ManyInSegment,
    ManyAcross,
    /// `**/` at the start of a segment: any number of whole segments.
    Directories,
    Capture(String),
}

impl Pattern {
    /// Compiles a `match` pattern, which is tried against `s3://bucket/key` or a local file's absolute path.
    ///
    /// # Errors
    /// [`PatternError`] when it is malformed or could never match an address.
    pub fn for_addresses(text: &str) -> Result<Self, PatternError> {
        // A local file's address is its path alone.
        let path = text.strip_prefix("file://").unwrap_or(text);
        let anchored = path.starts_with("s3://") || path.starts_with('/') || path.starts_with('*');
        if !anchored {
            return Err(PatternError {
                pattern: text.into(),
                problem: "it must start with s3://, with / or file:/// for local files, or with **".into(),
            });
        }
        Self::compile(path, text)
    }

    /// Compiles a `skip` pattern, which is tried against the key.
    ///
    /// # Errors
    /// [`PatternError`] when it is malformed or has captures.
    pub fn for_keys(text: &str) -> Result<Self, PatternError> {
        let pattern = Self::compile(text, text)?;
        if pattern.names.is_empty() {
            return Ok(pattern);
        }
        Err(PatternError { pattern: text.into(), problem: "a skip pattern captures nothing; use * or \\{".into() })
    }

    /// Returns whether the whole text matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Returns the captured values when the whole text matches.
    ///
    /// The value after `=` is percent-decoded once, as Hive and Spark encode it.
    #[must_use]
    pub fn captures(&self, text: &str) -> Option<Captures> {
        let found = self.regex.captures(text)?;
        let value = |(index, name): (usize, &String)| {
            let raw = found.get(index + 1).map_or("", |group| group.as_str());
            (name.clone(), capture_value(raw, self.hive_style[index]))
        };
        Some(self.names.iter().enumerate().map(value).collect())
    }

    /// Returns a text both patterns match, if there is one.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<String> {
        intersection(&self.steps, &other.steps)
    }

    fn compile(glob: &str, shown: &str) -> Result<Self, PatternError> {
        let problem = |problem: String| PatternError { pattern: shown.into(), problem };
        let tokens = tokens(glob).map_err(problem)?;
        let mut names: Vec<String> = Vec::new();
        let mut hive_style = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            let Token::Capture(name) = token else { continue };
            if names.contains(name) {
                return Err(problem(format!("{{{name}}} appears twice")));
            }
            names.push(name.clone());
            hive_style.push(index > 0 && tokens[index - 1] == Token::Literal('='));
        }
        let regex = Regex::new(&regex_text(&tokens)).map_err(|_| problem("it is too long".into()))?;
        Ok(Self { regex, names, hive_style, steps: steps(&tokens) })
    }
}

fn capture_value(raw: &str, hive_style: bool) -> Option<String> {
    if raw == HIVE_NULL {
        return None;
    }
    if !hive_style {
        return Some(raw.to_owned());
    }
    // What is no text after decoding was no encoding, but happened to contain a %.
    match percent_encoding::percent_decode_str(raw).decode_utf8() {
        Ok(text) if !text.contains('\0') => Some(text.into_owned()),
        _ => Some(raw.to_owned()),
    }
}

fn tokens(glob: &str) -> Result<Vec<Token>, String> {
    if glob.is_empty() {
        return Err("it is empty".into());
    }
    let mut tokens = Vec::new();
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        let token = match c {
            '\\' => Token::Literal(rest.next().ok_or("a backslash ends it")?),
            '?' => Token::AnyInSegment,
            '*' => {
                let mut n_stars = 1;
                while rest.next_if_eq(&'*').is_some() {
                    n_stars += 1;
                }
                let segment_starts = matches!(tokens.last(), None | Some(Token::Literal('/') | Token::Directories));
                match n_stars {
                    1 => Token::ManyInSegment,
                    _ if segment_starts && rest.next_if_eq(&'/').is_some() => Token::Directories,
                    _ => Token::ManyAcross,
                }
            }
            '{' => Token::Capture(capture_name(&mut rest)?),
            '}' => return Err("} without {; write \\} for the character".into()),
            other => Token::Literal(other),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn capture_name(rest: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut name = String::new();
    for c in rest {
        match c {
            '}' if name.is_empty() => return Err("{} has no name".into()),
            '}' => return Ok(name),
            '{' | '*' | '?' | '/' | '\\' | '\0' => {
                return Err(format!("{c:?} inside {{}}; write \\{{ for the character"));
            }
            other => name.push(other),
        }
    }
    Err("{ without }; write \\{ for the character".into())
}

fn regex_text(tokens: &[Token]) -> String {
    let mut text = String::from("(?s)^");
    for token in tokens {
        match token {
            Token::Literal(c) => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            Token::AnyInSegment => text.push_str("[^/]"),
            Token::ManyInSegment => text.push_str("[^/]*"),
            Token::ManyAcross => text.push_str(".*"),
            Token::Directories => text.push_str("(?:.*/)?"),
            Token::Capture(_) => text.push_str("([^/]+)"),
        }
    }
    text.push('$');
    text
}

/// A set of characters, as far as patterns can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Only(char),
    NoSlash,
    Any,
}

impl Class {
    /// Returns a character in both sets.
    fn common(self, other: Self) -> Option<char> {
        match (self, other) {
            (Class::Only(a), Class::Only(b)) => (a == b).then_some(a),
            (Class::Only(c), Class::NoSlash) | (Class::NoSlash, Class::Only(c)) => (c != '/').then_some(c),
            (Class::Only(c), Class::Any) | (Class::Any, Class::Only(c)) => Some(c),
            (Class::NoSlash | Class::Any, Class::NoSlash | Class::Any) => Some('x'),
        }
    }
}

/// The pattern as the states of a small automaton, to find what two patterns have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    One(Class),
    Many(Class),
    /// The next this many steps may be left out.
    Optional(usize),
}

fn steps(tokens: &[Token]) -> Vec<Step> {
    let mut steps = Vec::new();
    for token in tokens {
        match token {
            Token::Literal(c) => steps.push(Step::One(Class::Only(*c))),
            Token::AnyInSegment => steps.push(Step::One(Class::NoSlash)),
            Token::ManyInSegment => steps.push(Step::Many(Class::NoSlash)),
            Token::ManyAcross => steps.push(Step::Many(Class::Any)),
            Token::Directories => {
                steps.extend([Step::Optional(2), Step::Many(Class::Any), Step::One(Class::Only('/'))]);
            }
            Token::Capture(_) => steps.extend([Step::One(Class::NoSlash), Step::Many(Class::NoSlash)]),
        }
    }
    steps
}

/// Searches both automata side by side for a text that takes each to its end; breadth first, so a short one.
fn intersection(a: &[Step], b: &[Step]) -> Option<String> {
    type State = (usize, usize);
    let mut came_from: HashMap<State, (State, Option<char>)> = HashMap::new();
    let mut queue = VecDeque::from([(0, 0)]);
    while let Some(state @ (i, j)) = queue.pop_front() {
        if state == (a.len(), b.len()) {
            let mut text = Vec::new();
            let mut at = state;
            while at != (0, 0) {
                let (before, c) = came_from[&at];
                text.extend(c);
                at = before;
            }
            return Some(text.into_iter().rev().collect());
        }
        let mut next: Vec<(State, Option<char>)> = Vec::new();
        next.extend(free_moves(a, i).map(|i| ((i, j), None)));
        next.extend(free_moves(b, j).map(|j| ((i, j), None)));
        if let (Some((class_a, after_a)), Some((class_b, after_b))) = (reading_move(a, i), reading_move(b, j))
            && let Some(c) = class_a.common(class_b)
        {
            next.push(((after_a, after_b), Some(c)));
        }
        for (to, c) in next {
            if to != (0, 0) && !came_from.contains_key(&to) {
                came_from.insert(to, (state, c));
                queue.push_back(to);
            }
        }
    }
    None
}

/// States reachable without reading a character.
fn free_moves(steps: &[Step], at: usize) -> impl Iterator<Item = usize> {
    let moves = match steps.get(at) {
        Some(Step::Many(_)) => [Some(at + 1), None],
        Some(Step::Optional(n_steps)) => [Some(at + 1), Some(at + 1 + n_steps)],
        Some(Step::One(_)) | None => [None, None],
    };
    moves.into_iter().flatten()
}

/// The characters that can be read in a state, and the state after that.
fn reading_move(steps: &[Step], at: usize) -> Option<(Class, usize)> {
    match steps.get(at)? {
        Step::One(class) => Some((*class, at + 1)),
        Step::Many(class) => Some((*class, at)),
        Step::Optional(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> Pattern {
        Pattern::compile(text, text).expect("a good pattern")
    }

    #[test]
    fn wildcards_respect_segments() {
        for (pattern, matching, other) in [
            ("a/*.csv", &["a/x.csv", "a/.csv"][..], &["a/b/x.csv", "a/x.csv.gz", "b/x.csv"][..]),
            ("a/**", &["a/", "a/x", "a/b/c"], &["a", "b/x"]),
            ("**/x", &["x", "a/x", "a/b/x"], &["ax", "a/bx"]),
            ("a/**/x", &["a/x", "a/b/x", "a/b/c/x"], &["ax", "a/bx"]),
            ("a**z", &["az", "a/b/z"], &["a", "z"]),
            ("a?c", &["abc", "a\nc", "a€c"], &["a/c", "ac"]),
            ("**/", &["a/", "a/b/"], &["a", "a/b"]),
            ("**", &["", "a", "a/b", "a\nb"], &[]),
            ("a.b+(c)", &["a.b+(c)"], &["axb+(c)", "a.bb(c)"]),
            (r"\*\{x\}\?", &["*{x}?"], &["a{x}?"]),
        ] {
            for text in matching {
                assert!(key(pattern).is_match(text), "{pattern} should match {text:?}");
            }
            for text in other {
                assert!(!key(pattern).is_match(text), "{pattern} should not match {text:?}");
            }
        }
    }

    fn captured(pattern: &str, text: &str) -> Option<Vec<Option<String>>> {
        Some(key(pattern).captures(text)?.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn captures_take_part_of_one_segment() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(captured("{a}/{b}-{c}.csv", "x/y-z.csv"), Some(vec![some("x"), some("y"), some("z")]));
        assert_eq!(captured("dt={dt}/**", "dt=/x"), None);
        assert_eq!(captured("dt={dt}/**", "dt=1/2/3"), Some(vec![some("1")]));
        assert_eq!(key("{a}/{b}").names, ["a", "b"]);
    }

    #[test]
    fn hive_style_captures_are_decoded_once_and_others_not_at_all() {
        let some = |text: &str| Some(vec![Some(text.to_owned())]);
        assert_eq!(captured("h={h}/x", "h=10%3A00/x"), some("10:00"));
        assert_eq!(captured("h={h}/x", "h=%253A/x"), some("%3A"));
        assert_eq!(captured("h={h}/x", "h=a+b/x"), some("a+b"));
        assert_eq!(captured("h={h}/x", "h=%FF/x"), some("%FF"));
        assert_eq!(captured("h={h}/x", "h=%00/x"), some("%00"));
        assert_eq!(captured("h-{h}/x", "h-10%3A00/x"), some("10%3A00"));
    }

    #[test]
    fn hive_default_partition_is_null() {
        assert_eq!(captured("dt={dt}/x", "dt=__HIVE_DEFAULT_PARTITION__/x"), Some(vec![None]));
        assert_eq!(captured("{dt}/x", "__HIVE_DEFAULT_PARTITION__/x"), Some(vec![None]));
    }

    #[test]
    fn malformed_patterns_say_what_is_wrong() {
        for (pattern, problem) in [
            ("", "it must start with s3://, with / or file:/// for local files, or with **"),
            ("bucket/key", "it must start with s3://, with / or file:/// for local files, or with **"),
            ("s3://b/{", "{ without }; write \\{ for the character"),
            ("s3://b/{}", "{} has no name"),
            ("s3://b/}", "} without {; write \\} for the character"),
            ("s3://b/{a/b}", "'/' inside {}; write \\{ for the character"),
            ("s3://b/{a}/{a}", "{a} appears twice"),
            ("s3://b/\\", "a backslash ends it"),
        ] {
            let error = Pattern::for_addresses(pattern).expect_err(pattern);
            assert_eq!(error.problem, problem, "{pattern}");
        }
        assert!(Pattern::for_keys("{a}").is_err());
        assert!(Pattern::for_keys("").is_err());
    }

    #[test]
    fn disjoint_patterns_have_nothing_in_common() {
        for (a, b) in [("a/**", "b/**"), ("*.csv", "*.json"), ("a/*", "a/b/*"), ("{x}", "**/"), ("??", "{a}-{b}")] {
            assert_eq!(key(a).intersection(&key(b)), None, "{a} {b}");
        }
    }

    #[test]
    fn what_two_patterns_have_in_common_is_found() {
        for (a, b, example) in [
            ("a/**", "**/b", "a/b"),
            ("*.csv", "x*", "x.csv"),
            ("a/**/z", "a/z", "a/z"),
            ("**", "**", ""),
            ("{x}y", "a{z}", "ay"),
        ] {
            assert_eq!(key(a).intersection(&key(b)).as_deref(), Some(example), "{a} {b}");
        }
    }

    fn some_pattern() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec!["a", "b", "/", "*", "**", "**/", "?"]);
        proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_compiles_or_is_refused(text in any::<String>()) {
            let _ = Pattern::for_keys(&text);
            let _ = Pattern::for_addresses(&text);
        }

        #[test]
        fn an_example_matches_both_patterns(a in some_pattern(), b in some_pattern()) {
            let (a, b) = (key(&a), key(&b));
            if let Some(example) = a.intersection(&b) {
                prop_assert!(a.is_match(&example) && b.is_match(&example), "{example:?}");
            }
        }

        #[test]
        fn a_text_both_patterns_match_is_never_missed(a in some_pattern(), b in some_pattern(), text in "[ab/]{0,6}") {
            let (a, b) = (key(&a), key(&b));
            if a.is_match(&text) && b.is_match(&text) {
                prop_assert!(a.intersection(&b).is_some());
            }
        }
    }
}
