//! What may be asked of a report: each parameter has a name, a type and a default.

use chrono::{DateTime, NaiveDate, Utc};
use service::time::Time;

/// The longest text that may be asked for.
const MOST_CHARS: usize = 1000;

/// A parameter's type; those that need it are Postgres's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Bigint,
    Number,
    Text,
    Boolean,
    Date,
    Time,
}

/// The types by their names, and what each is.
const KINDS: [(&str, Kind, &str); 7] = [
    ("integer", Kind::Integer, "a whole number of at most 2,147,483,647"),
    ("bigint", Kind::Bigint, "a whole number"),
    ("number", Kind::Number, "a number"),
    ("text", Kind::Text, "a text of at most 1,000 characters"),
    ("boolean", Kind::Boolean, "`true` or `false`"),
    ("date", Kind::Date, "a date like 2026-01-31, or an age like 7d"),
    ("time", Kind::Time, "a time like 2026-01-31T12:00:00Z, a date, or an age like 2h"),
];

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, as in an address.
    pub name: String,
    kind: Kind,
    /// What it is where nothing is asked for.
    pub default: String,
}

/// What a parameter is, to be bound.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "they are the types' names")]
pub enum Value {
    Integer(i32),
    Bigint(i64),
    Number(f64),
    Text(String),
    Boolean(bool),
    Date(NaiveDate),
    Time(DateTime<Utc>),
}

impl Parameter {
    /// Reads what stands behind `param`: `days: integer = 7`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(declared: &str) -> Result<Self, String> {
        let form = || format!("param {declared}: must be like `param days: integer = 7`");
        let (name, rest) = declared.split_once(':').ok_or_else(form)?;
        let (kind, default) = rest.split_once('=').ok_or_else(form)?;
        let (name, kind) = (name.trim(), kind.trim());
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(format!("param {name}: a name has ASCII letters, digits and `_`"));
        }
        let Some((_, kind, _)) = KINDS.iter().find(|(word, ..)| *word == kind) else {
            let words: Vec<String> = KINDS.iter().map(|(word, ..)| format!("`{word}`")).collect();
            return Err(format!("param {name}: `{kind}` is none of {}", words.join(", ")));
        };
        let parameter = Self { name: name.to_owned(), kind: *kind, default: default.trim().to_owned() };
        match parameter.value(&parameter.default, Utc::now()) {
            Ok(_) => Ok(parameter),
            Err(why) => Err(format!("param {why}")),
        }
    }

    /// Reads a value that is asked for; an age is one back from `now`.
    ///
    /// # Errors
    /// A sentence that says what it must be.
    pub fn value(&self, asked: &str, now: DateTime<Utc>) -> Result<Value, String> {
        let at = || asked.parse::<Time>().ok().map(|time| time.at(now));
        let value = match self.kind {
            Kind::Integer => asked.parse().ok().map(Value::Integer),
            Kind::Bigint => asked.parse().ok().map(Value::Bigint),
            Kind::Number => asked.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Number),
            // Postgres's texts have none of the other.
            Kind::Text => {
                (asked.chars().count() <= MOST_CHARS && !asked.contains('\0')).then(|| Value::Text(asked.to_owned()))
            }
            Kind::Boolean => asked.parse().ok().map(Value::Boolean),
            Kind::Date => at().map(|at| Value::Date(at.date_naive())),
            Kind::Time => at().map(Value::Time),
        };
        let what = KINDS.iter().find(|(_, kind, _)| *kind == self.kind).map_or("", |(.., what)| what);
        value.ok_or_else(|| format!("{}: must be {what}", self.name))
    }

    /// Returns whether it is `true` or `false`.
    #[must_use]
    pub fn is_boolean(&self) -> bool {
        self.kind == Kind::Boolean
    }

    /// Returns which keyboard a telephone shows for it.
    #[must_use]
    pub fn keyboard(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Integer | Kind::Bigint => Some("numeric"),
            Kind::Number => Some("decimal"),
            _ => None,
        }
    }
}

/// What is asked of a report.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What each parameter is, as it was written.
    pub texts: Vec<String>,
    /// The same, to be bound; or what is wrong with it.
    pub values: Result<Vec<Value>, String>,
}

impl Asked {
    /// Reads an address's query; what it leaves out, or leaves empty, is the default.
    #[must_use]
    pub fn of(parameters: &[Parameter], query: &[(String, String)], now: DateTime<Utc>) -> Self {
        let text = |parameter: &Parameter| {
            let asked = query.iter().rev().find(|(name, _)| *name == parameter.name).map(|(_, text)| text);
            match asked {
                Some(text) if parameter.kind == Kind::Text => text.clone(),
                Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
                _ => parameter.default.clone(),
            }
        };
        let texts: Vec<String> = parameters.iter().map(text).collect();
        let unknown = query.iter().find(|(name, _)| parameters.iter().all(|parameter| parameter.name != *name));
        let values = match unknown {
            Some((name, _)) => Err(format!("{name}: the report has no such parameter")),
            None => parameters.iter().zip(&texts).map(|(parameter, text)| parameter.value(text, now)).collect(),
        };
        Self { texts, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_in_the_parameters_order_and_the_rest_is_their_default() {
        let parameters = ["days: integer = 7", "who: text = all"].map(|p| Parameter::parse(p).expect(p));
        let asked = |query: &[(&str, &str)]| {
            let query: Vec<_> = query.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            Asked::of(&parameters, &query, Utc::now())
        };
        assert_eq!(asked(&[]).values, Ok(vec![Value::Integer(7), Value::Text("all".into())]));
        assert_eq!(
            asked(&[("who", " "), ("days", " 30")]).values,
            Ok(vec![Value::Integer(30), Value::Text(" ".into())])
        );
        assert_eq!(asked(&[("days", "")]).values, asked(&[]).values);
        let wrong = asked(&[("days", "x")]);
        assert!(wrong.values.is_err_and(|why| why.starts_with("days: must be")) && wrong.texts == ["x", "all"]);
        assert!(asked(&[("dyas", "3")]).values.is_err());
    }

    #[test]
    fn each_type_takes_its_values_and_no_others() {
        let now = DateTime::from_timestamp(10 * 86_400, 0).expect("a time");
        let of = |kind: &str, default: &str| Parameter::parse(&format!("p: {kind} = {default}"));
        let value = |kind: &str, text: &str| of(kind, text).and_then(|parameter| parameter.value(text, now));
        let date = NaiveDate::from_ymd_opt(1970, 1, 4).expect("a date");
        for (kind, text, expected) in [
            ("integer", "-7", Value::Integer(-7)),
            ("bigint", "3000000000", Value::Bigint(3_000_000_000)),
            ("number", "1.5", Value::Number(1.5)),
            ("text", "'; DROP TABLE t; --", Value::Text("'; DROP TABLE t; --".into())),
            ("text", "", Value::Text(String::new())),
            ("boolean", "true", Value::Boolean(true)),
            ("date", "1970-01-04", Value::Date(date)),
            ("date", "7d", Value::Date(date)),
            ("time", "2h", Value::Time(now - chrono::Duration::hours(2))),
        ] {
            assert_eq!(value(kind, text), Ok(expected), "{kind} {text}");
        }
        for (kind, text) in [
            ("integer", "3000000000"),
            ("integer", "7; DROP"),
            ("integer", ""),
            ("number", "NaN"),
            ("boolean", "yes"),
            ("date", "1970-02-30"),
            ("text", &"x".repeat(1001)),
        ] {
            assert!(value(kind, text).is_err_and(|why| why.starts_with("param p: must be")), "{kind} {text}");
        }
        for declared in ["p", "p: integer", "p = 7", "1p: text = x", "p q: text = x", "p: int = 7"] {
            assert!(Parameter::parse(declared).is_err(), "{declared}");
        }
    }
}
