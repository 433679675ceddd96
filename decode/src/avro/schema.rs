//! An Avro schema, brought to what decoding needs.
//!
//! Names are taken as they come: files of other writers hold fields that the letter of the
//! specification would not allow, and a column may well have such a name.

use crate::encode::write_string;
use serde_json::Value as Json;
use std::collections::HashMap;

/// A type of the schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// The members' names are JSON strings.
    Record(Vec<(Vec<u8>, Type)>),
    /// A type that has a name: index into [`Schema::named`].
    Named(usize),
    /// An unscaled decimal: in this many bytes, or in `bytes`.
    Decimal(Option<usize>, i8),
    /// A decimal that brings its scale along.
    BigDecimal,
    /// A UUID's bytes: fixed, or in `bytes`.
    Uuid(bool),
    Date,
    TimeMillis,
    TimeMicros,
    /// In units of which this many make a second; whether it is an instant.
    Timestamp(i64, bool),
    /// Months, days and milliseconds.
    Duration,
}

/// The schema of a file of records.
#[derive(Debug, PartialEq)]
pub struct Schema {
    /// Records, enums and fixed types, which may refer to each other.
    pub named: Vec<Type>,
    /// The top-level record's fields.
    pub fields: Vec<(String, Type)>,
}

/// Why a schema cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum SchemaError {
    /// It is not a schema.
    Broken(String),
    /// It is, but not of records.
    NoRecord,
    /// A type's full name has this many bytes.
    LongName(usize),
}

/// A longer full name is refused. Names inherit their namespace, which would multiply one that is as long as the schema.
pub const MAX_NAME_BYTES: usize = 1024;

type Result<T> = std::result::Result<T, SchemaError>;

impl Schema {
    /// Reads a schema from its JSON text.
    pub fn parse(text: &[u8]) -> Result<Self> {
        // The JSON parser bounds the nesting, and with it every recursion here.
        let json: Json = serde_json::from_slice(text).map_err(|error| broken(format!("schema: {error}")))?;
        let mut parser = Parser { named: Vec::new(), names: HashMap::new() };
        let root = parser.parse(&json, "")?;
        let mut schema = Self { named: parser.named, fields: Vec::new() };
        let Type::Record(members) = schema.resolve(&root).clone() else { return Err(SchemaError::NoRecord) };
        for (name, member) in members {
            let name = serde_json::from_slice(&name).map_err(|error| broken(format!("field name: {error}")))?;
            schema.fields.push((name, member));
        }
        Ok(schema)
    }

    /// Returns the type that a name stands for, or the type itself.
    pub fn resolve<'s>(&'s self, of: &'s Type) -> &'s Type {
        match of {
            Type::Named(index) => &self.named[*index],
            other => other,
        }
    }

    /// Returns whether values are lists or structures, in any branch of a union.
    pub fn is_nested(&self, of: &Type) -> bool {
        match self.resolve(of) {
            Type::Array(_) | Type::Map(_) | Type::Record(_) => true,
            Type::Union(branches) => branches.iter().any(|branch| self.is_nested(branch)),
            _ => false,
        }
    }
}

struct Parser {
    named: Vec<Type>,
    names: HashMap<String, usize>,
}

impl Parser {
    fn parse(&mut self, json: &Json, namespace: &str) -> Result<Type> {
        match json {
            Json::String(name) => self.by_name(name, namespace),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| match branch {
                    Json::Array(_) => Err(broken("a union directly in a union")),
                    branch => self.parse(branch, namespace),
                });
                Ok(Type::Union(branches.collect::<Result<_>>()?))
            }
            Json::Object(_) => self.complex(json, namespace),
            _ => Err(broken("schema: neither a name nor an object nor a union")),
        }
    }

    fn by_name(&self, name: &str, namespace: &str) -> Result<Type> {
        if let Some(primitive) = primitive(name) {
            return Ok(primitive);
        }
        let index = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        index.map(|&index| Type::Named(index)).ok_or_else(|| broken(format!("unknown type {name}")))
    }

    fn complex(&mut self, json: &Json, namespace: &str) -> Result<Type> {
        let kind = match &json["type"] {
            Json::String(kind) => kind.as_str(),
            inner => return self.parse(inner, namespace),
        };
        let logical = json["logicalType"].as_str().unwrap_or_default();
        match kind {
            "array" => Ok(Type::Array(Box::new(self.parse(&json["items"], namespace)?))),
            "map" => Ok(Type::Map(Box::new(self.parse(&json["values"], namespace)?))),
            "record" | "error" => {
                let (index, namespace) = self.declare(json, namespace)?;
                let fields = json["fields"].as_array().ok_or_else(|| broken("a record without fields"))?;
                let members = fields.iter().map(|field| {
                    let name = field["name"].as_str().ok_or_else(|| broken("a field without a name"))?;
                    let mut json_name = Vec::new();
                    write_string(name, &mut json_name);
                    Ok((json_name, self.parse(&field["type"], &namespace)?))
                });
                let members = members.collect::<Result<_>>()?;
                self.named[index] = Type::Record(members);
                Ok(Type::Named(index))
            }
            "enum" => {
                let (index, _) = self.declare(json, namespace)?;
                let symbols = json["symbols"].as_array().ok_or_else(|| broken("an enum without symbols"))?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                let symbols = symbols.collect::<Option<_>>().ok_or_else(|| broken("an enum symbol is no string"))?;
                self.named[index] = Type::Enum(symbols);
                Ok(Type::Named(index))
            }
            "fixed" => {
                let (index, _) = self.declare(json, namespace)?;
                let size = json["size"].as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| broken("a fixed type without a size"))?;
                self.named[index] = match (logical, size, scale(json)) {
                    ("decimal", _, Some(scale)) => Type::Decimal(Some(size), scale),
                    ("duration", 12, _) => Type::Duration,
                    ("uuid", 16, _) => Type::Uuid(true),
                    _ => Type::Fixed(size),
                };
                Ok(Type::Named(index))
            }
            other => Ok(with_logical(self.by_name(other, namespace)?, logical, json)),
        }
    }

    /// Makes a name known, so that its own definition may refer to it; returns its index and namespace.
    fn declare(&mut self, json: &Json, namespace: &str) -> Result<(usize, String)> {
        let name = json["name"].as_str().ok_or_else(|| broken("a named type without a name"))?;
        let full = full_name(name, json["namespace"].as_str().unwrap_or(namespace));
        if full.len() > MAX_NAME_BYTES {
            return Err(SchemaError::LongName(full.len()));
        }
        let namespace = full.rsplit_once('.').map_or(String::new(), |(namespace, _)| namespace.to_owned());
        let index = self.named.len();
        if self.names.insert(full, index).is_some() {
            return Err(broken(format!("type {name} is defined twice")));
        }
        // Until its definition is read: what refers to it resolves it later.
        self.named.push(Type::Null);
        Ok((index, namespace))
    }
}

fn primitive(name: &str) -> Option<Type> {
    let found = match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    };
    Some(found)
}

/// Returns what a logical type makes of a type; one that does not fit, or is not known, is ignored.
fn with_logical(plain: Type, logical: &str, json: &Json) -> Type {
    match (plain, logical, scale(json)) {
        (Type::Bytes, "decimal", Some(scale)) => Type::Decimal(None, scale),
        (Type::Bytes, "big-decimal", _) => Type::BigDecimal,
        (Type::Bytes, "uuid", _) => Type::Uuid(false),
        (Type::Int, "date", _) => Type::Date,
        (Type::Int, "time-millis", _) => Type::TimeMillis,
        (Type::Long, "time-micros", _) => Type::TimeMicros,
        (Type::Long, "timestamp-millis", _) => Type::Timestamp(1_000, true),
        (Type::Long, "timestamp-micros", _) => Type::Timestamp(1_000_000, true),
        (Type::Long, "timestamp-nanos", _) => Type::Timestamp(1_000_000_000, true),
        (Type::Long, "local-timestamp-millis", _) => Type::Timestamp(1_000, false),
        (Type::Long, "local-timestamp-micros", _) => Type::Timestamp(1_000_000, false),
        (Type::Long, "local-timestamp-nanos", _) => Type::Timestamp(1_000_000_000, false),
        // A UUID in a string is text that the column reads.
        (plain, _, _) => plain,
    }
}

/// Returns a decimal's scale, 0 where it is not given.
fn scale(json: &Json) -> Option<i8> {
    match &json["scale"] {
        Json::Null => Some(0),
        scale => scale.as_i64().and_then(|scale| i8::try_from(scale).ok()).filter(|scale| *scale >= 0),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn broken(problem: impl Into<String>) -> SchemaError {
    SchemaError::Broken(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_their_namespace() {
        let schema = parse(
            r#"{"type":"record","name":"r","namespace":"a.b","fields":[
                {"name":"e","type":{"type":"enum","name":"e","symbols":["X"]}},
                {"name":"again","type":"e"},
                {"name":"full","type":["null","a.b.e"]},
                {"name":"self","type":["null","r"]},
                {"name":"wrapped","type":{"type":{"type":"string"}}},
                {"name":"odd name","type":{"type":"int","logicalType":"nonsense"}}]}"#,
        );
        let schema = schema.expect("a schema");
        let types: Vec<_> = schema.fields.iter().map(|(name, field)| (name.as_str(), field.clone())).collect();
        assert_eq!(
            types,
            [
                ("e", Type::Named(1)),
                ("again", Type::Named(1)),
                ("full", Type::Union(vec![Type::Null, Type::Named(1)])),
                ("self", Type::Union(vec![Type::Null, Type::Named(0)])),
                ("wrapped", Type::String),
                ("odd name", Type::Int),
            ]
        );
        assert!(schema.is_nested(&schema.fields[3].1) && !schema.is_nested(&schema.fields[2].1));
    }

    #[test]
    fn what_is_no_schema_of_records_is_refused() {
        assert_eq!(parse(r#""string""#), Err(SchemaError::NoRecord));
        for text in [
            "",
            "7",
            r#"{"type":"record","name":"r"}"#,
            r#"{"type":"record","fields":[]}"#,
            r#"{"type":"unheard-of"}"#,
            r#"{"type":"record","name":"r","fields":[{"name":"a","type":"x"}]}"#,
            r#"{"type":"fixed","name":"f","size":-1}"#,
            r#"[["null"]]"#,
        ] {
            assert!(matches!(parse(text), Err(SchemaError::Broken(_))), "{text}");
        }
    }

    #[test]
    fn a_namespace_is_not_multiplied_by_the_types_in_it() {
        let schema = |length: usize| {
            let namespace = "n".repeat(length);
            let inner = r#"{"name":"f","type":{"type":"fixed","name":"t","size":1}}"#;
            parse(&format!(r#"{{"type":"record","name":"r","namespace":"{namespace}","fields":[{inner}]}}"#))
        };
        schema(MAX_NAME_BYTES - 2).expect("a schema");
        assert_eq!(schema(MAX_NAME_BYTES - 1), Err(SchemaError::LongName(MAX_NAME_BYTES + 1)));
    }

    fn parse(text: &str) -> Result<Schema> {
        Schema::parse(text.as_bytes())
    }
}
