//! Typed reads out of a JSON object, whose errors name the key's whole path, the value and what was wanted.
//!
//! null and absent are the same to all of them, as to Go.

use super::{find, quote};
use crate::error::{CniError, ErrorCode};
use serde_json::{Map, Value};

/// A value that cannot be used, and where it stands: `runtimeConfig.portMappings[0].hostPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadValue {
    key: String,
    value: String,
    wanted: String,
}

impl BadValue {
    pub(crate) fn new(key: &str, value: &Value, wanted: impl Into<String>) -> Self {
        let value = match value {
            Value::String(text) => quote(text),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string(),
        };
        BadValue {
            key: key.to_owned(),
            value,
            wanted: wanted.into(),
        }
    }

    /// A key that must be there and is not.
    pub(crate) fn missing(key: &str, wanted: impl Into<String>) -> Self {
        BadValue {
            key: key.to_owned(),
            value: "nothing".to_owned(),
            wanted: wanted.into(),
        }
    }

    /// The same, seen from the object that holds the one in which it was found.
    pub(crate) fn within(self, parent: &str) -> Self {
        let joint = if self.key.is_empty() || self.key.starts_with('[') {
            ""
        } else {
            "."
        };
        BadValue {
            key: format!("{parent}{joint}{}", self.key),
            ..self
        }
    }

    /// The same, seen from the list that holds it at `index`.
    pub(crate) fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    /// msg holds key and value, details what to write instead.
    pub(crate) fn into_error(self, code: ErrorCode) -> CniError {
        CniError::new(code, format!("bad value of {}: {}", self.key, self.value))
            .with_details(format!("wanted {}", self.wanted))
    }
}

fn present<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    find(map, key).filter(|value| !value.is_null())
}

/// A string; an empty one is absent too, as Go's `omitempty` has it.
pub(crate) fn string<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a str>, BadValue> {
    match present(map, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(BadValue::new(key, other, "a string")),
    }
}

/// An object.
pub(crate) fn object<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, BadValue> {
    match present(map, key) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(BadValue::new(key, other, "an object")),
    }
}

/// A list; absent is empty.
pub(crate) fn list<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], BadValue> {
    match present(map, key) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(BadValue::new(key, other, "a list")),
    }
}

/// A list of strings; absent is empty.
pub(crate) fn strings(map: &Map<String, Value>, key: &str) -> Result<Vec<String>, BadValue> {
    let items = list(map, key)?.iter().enumerate();
    items
        .map(|(index, item)| {
            text(item)
                .map(str::to_owned)
                .map_err(|bad| bad.at(index).within(key))
        })
        .collect()
}

/// The text of one list item; the caller adds where it stands.
pub(crate) fn text(item: &Value) -> Result<&str, BadValue> {
    item.as_str()
        .ok_or_else(|| BadValue::new("", item, "a string"))
}

/// A whole number that fits `N`; `wanted` words the range.
pub(crate) fn number<N: TryFrom<u64>>(
    map: &Map<String, Value>,
    key: &str,
    wanted: &str,
) -> Result<Option<N>, BadValue> {
    let Some(value) = present(map, key) else {
        return Ok(None);
    };
    let number = value.as_u64().and_then(|number| N::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| BadValue::new(key, value, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_error_names_the_whole_path_the_value_and_what_was_wanted() {
        let bad = BadValue::new("hostPort", &json!(70000), "a port")
            .at(0)
            .within("portMappings")
            .within("runtimeConfig");
        let error = bad.into_error(ErrorCode::InvalidConfig);
        assert_eq!(
            error.msg,
            "bad value of runtimeConfig.portMappings[0].hostPort: 70000"
        );
        assert_eq!(error.details.as_deref(), Some("wanted a port"));
    }

    #[test]
    fn g8_null_is_absent_to_every_reader() {
        let value = json!({ "k": null });
        let map = value.as_object().expect("an object");
        assert_eq!(string(map, "k"), Ok(None));
        assert_eq!(object(map, "k"), Ok(None));
        assert_eq!(list(map, "k"), Ok(&[][..]));
        assert_eq!(strings(map, "k"), Ok(vec![]));
        assert_eq!(number::<u16>(map, "k", "a port"), Ok(None));
    }

    #[test]
    fn values_of_another_type_are_refused() {
        let value = json!({ "k": true, "f": 1.0, "n": -1, "big": 65536, "s": ["a", 1] });
        let map = value.as_object().expect("an object");
        assert!(string(map, "k").is_err() && object(map, "k").is_err() && list(map, "k").is_err());
        for key in ["k", "f", "n", "big"] {
            assert!(number::<u16>(map, key, "a port").is_err(), "{key}");
        }
        let bad = strings(map, "s")
            .expect_err("1 is no string")
            .into_error(ErrorCode::Decode);
        assert_eq!(bad.msg, "bad value of s[1]: 1");
    }
}
